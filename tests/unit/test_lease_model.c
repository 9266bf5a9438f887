/* Leases against a plain queue: one holder, those who wait in the order in which they came. */
#include "broker/lease.h"

#include <criterion/criterion.h>

#include "proto/limits.h"
#include "tests/lib/random.h"

#define SESSIONS 6

TestSuite(lease_model, .timeout = 30);

struct model {
	int holder; /* session, or -1 */
	int queue[SESSIONS];
	unsigned n;
};

static char sessions[SESSIONS]; /* only their addresses count */
static struct lease_claim claims[SESSIONS];

static int place_of(const struct model *m, int who)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->queue[i] == who)
			return (int)i;
	return -1;
}

static void leave(struct model *m, int who)
{
	int at = place_of(m, who);

	if (at < 0)
		return;
	m->n--;
	for (unsigned i = (unsigned)at; i < m->n; i++)
		m->queue[i] = m->queue[i + 1];
}

static void do_wait(struct lease *l, struct model *m, int who, uint64_t id)
{
	if (place_of(m, who) >= 0) {
		struct lease_claim second;

		lease_claim_init(&second, &sessions[who], id);
		cr_assert_eq(lease_wait(l, &second), LEASE_E_TWICE);
		return;
	}
	lease_claim_init(&claims[who], &sessions[who], id);
	cr_assert_eq(lease_wait(l, &claims[who]), 0);
	m->queue[m->n++] = who;
}

static void do_pass(struct lease *l, struct model *m, int to)
{
	struct lease_claim *chosen = place_of(m, to) >= 0 ? &claims[to] : NULL;
	int next = chosen ? to : m->n ? m->queue[0] : -1;
	struct lease_claim *got = lease_pass(l, chosen);

	cr_assert_eq(got, next < 0 ? NULL : &claims[next]);
	m->holder = next;
	leave(m, next);
}

static void step(struct random *r, struct lease *l, struct model *m, uint64_t id)
{
	int who = (int)random_below(r, SESSIONS);

	switch (random_below(r, 5)) {
	case 0:
		cr_assert_eq(lease_take(l, &sessions[who], id),
			     m->holder >= 0 && m->holder != who ? LEASE_E_HELD : 0);
		m->holder = m->holder < 0 ? who : m->holder;
		break;
	case 1:
		lease_seize(l, &sessions[who], id);
		m->holder = who;
		break;
	case 2:
		lease_unwait(&claims[who]);
		leave(m, who);
		break;
	case 3:
		do_pass(l, m, who);
		break;
	default:
		do_wait(l, m, who, id);
	}
}

static void compare(const struct lease *l, const struct model *m)
{
	struct lease_claim *c;
	unsigned i = 0;

	cr_assert_eq(l->holder, m->holder < 0 ? NULL : &sessions[m->holder]);
	cr_assert_eq(l->n_claims, m->n);
	list_for_each (c, &l->claims, link) {
		cr_assert_eq(c->who, &sessions[m->queue[i++]]);
		cr_assert_eq(lease_find(l, c->id), c);
	}
	cr_assert_eq(i, m->n);
	for (int who = 0; who < SESSIONS; who++) {
		cr_assert_eq(lease_admits(l, &sessions[who]), m->holder < 0 || m->holder == who);
		cr_assert_eq(lease_find_who(l, &sessions[who]) != NULL, place_of(m, who) >= 0);
	}
}

Test(lease_model, one_holds_and_the_others_wait_in_turn)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct random r = { seed };
		struct model m = { .holder = -1 };
		struct lease l;

		lease_init(&l);
		for (int i = 0; i < SESSIONS; i++)
			lease_claim_init(&claims[i], &sessions[i], 0);
		for (uint64_t i = 1; i <= 2000; i++) {
			step(&r, &l, &m, i);
			compare(&l, &m);
		}
	}
}

Test(lease_model, P15_no_more_wait_than_the_bound)
{
	static struct lease_claim many[LEASE_CLAIMS_MAX + 1];
	static char who[LEASE_CLAIMS_MAX + 1];
	struct lease l;

	lease_init(&l);
	for (unsigned i = 0; i <= LEASE_CLAIMS_MAX; i++) {
		lease_claim_init(&many[i], &who[i], i + 1);
		cr_assert_eq(lease_wait(&l, &many[i]), i < LEASE_CLAIMS_MAX ? 0 : LEASE_E_FULL);
	}
	lease_unwait(&many[LEASE_CLAIMS_MAX]); /* harmless: it never waited */
	cr_assert_eq(l.n_claims, LEASE_CLAIMS_MAX);
	lease_unwait(&many[3]);
	cr_assert_eq(lease_wait(&l, &many[LEASE_CLAIMS_MAX]), 0);
}

Test(lease_model, who_has_it_keeps_it_under_the_id_that_it_had)
{
	struct lease l;

	lease_init(&l);
	cr_assert_eq(lease_take(&l, &sessions[0], 1), 0);
	cr_assert_eq(lease_take(&l, &sessions[0], 2), 0);
	cr_assert_eq(l.id, 1);
	cr_assert_eq(lease_take(&l, &sessions[1], 3), LEASE_E_HELD);
}
