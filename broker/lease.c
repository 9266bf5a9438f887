#include "broker/lease.h"

#include <stddef.h>

#include "proto/limits.h"

void lease_init(struct lease *l)
{
	*l = (struct lease){ 0 };
	list_init(&l->claims);
}

void lease_claim_init(struct lease_claim *c, const void *who, uint64_t id)
{
	*c = (struct lease_claim){ .who = who, .id = id };
	list_init(&c->link);
}

bool lease_admits(const struct lease *l, const void *who)
{
	return !l->holder || l->holder == who;
}

int lease_take(struct lease *l, const void *who, uint64_t id)
{
	if (!lease_admits(l, who))
		return LEASE_E_HELD;
	if (!l->holder)
		lease_seize(l, who, id);
	return 0;
}

void lease_seize(struct lease *l, const void *who, uint64_t id)
{
	l->holder = who;
	l->id = id;
}

int lease_wait(struct lease *l, struct lease_claim *c)
{
	if (lease_find_who(l, c->who))
		return LEASE_E_TWICE;
	if (l->n_claims == LEASE_CLAIMS_MAX)
		return LEASE_E_FULL;
	c->lease = l;
	list_append(&l->claims, &c->link);
	l->n_claims++;
	return 0;
}

void lease_unwait(struct lease_claim *c)
{
	if (!c->lease)
		return;
	list_remove(&c->link);
	c->lease->n_claims--;
	c->lease = NULL;
}

struct lease_claim *lease_find(const struct lease *l, uint64_t id)
{
	struct lease_claim *c;

	list_for_each (c, &l->claims, link)
		if (c->id == id)
			return c;
	return NULL;
}

struct lease_claim *lease_find_who(const struct lease *l, const void *who)
{
	struct lease_claim *c;

	list_for_each (c, &l->claims, link)
		if (c->who == who)
			return c;
	return NULL;
}

struct lease_claim *lease_pass(struct lease *l, struct lease_claim *to)
{
	struct lease_claim *next = to ? to : list_first(&l->claims, struct lease_claim, link);

	lease_seize(l, NULL, 0);
	if (!next)
		return NULL;
	lease_unwait(next);
	lease_seize(l, next->who, next->id);
	return next;
}
