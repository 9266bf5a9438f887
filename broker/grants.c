#include "broker/grants.h"

#include <stdlib.h>
#include <string.h>

struct grants *grants_new(void)
{
	struct grants *g = calloc(1, sizeof(*g));

	if (g)
		g->n_refs = 1;
	return g;
}

struct grants *grants_ref(struct grants *g)
{
	if (g)
		g->n_refs++;
	return g;
}

struct grants *grants_unref(struct grants *g)
{
	if (g && --g->n_refs == 0)
		free(g);
	return NULL;
}

int grants_add(struct grants *g, const struct grant *grant)
{
	if (g->n == GRANTS_MAX)
		return GRANTS_E_FULL;
	g->list[g->n++] = *grant;
	return 0;
}

static void remove_at(struct grants *g, unsigned i)
{
	g->n--;
	memmove(&g->list[i], &g->list[i + 1], (g->n - i) * sizeof(g->list[0]));
}

bool grants_remove(struct grants *g, uint64_t id)
{
	for (unsigned i = 0; i < g->n; i++)
		if (g->list[i].id == id) {
			remove_at(g, i);
			return true;
		}
	return false;
}

static bool is_over(const struct grant *grant, uint64_t now_ms)
{
	return grant->until_ms && grant->until_ms <= now_ms;
}

uint64_t grants_next_end(const struct grants *g)
{
	uint64_t next = 0;

	for (unsigned i = 0; i < g->n; i++)
		if (g->list[i].until_ms && (!next || g->list[i].until_ms < next))
			next = g->list[i].until_ms;
	return next;
}

const struct grant *grants_find(const struct grants *g, uint64_t id)
{
	for (unsigned i = 0; g && i < g->n; i++)
		if (g->list[i].id == id)
			return &g->list[i];
	return NULL;
}

static bool is_in_group(const struct grantee *who, gid_t gid)
{
	for (unsigned i = 0; i < who->n_groups; i++)
		if (who->groups[i] == gid)
			return true;
	return who->gid == gid;
}

bool grant_is_for(const struct grant *grant, const struct grantee *who)
{
	switch ((enum grant_to)grant->to) {
	case GRANT_TO_UID:
		return who->uid == grant->number;
	case GRANT_TO_GID:
		return is_in_group(who, grant->number);
	case GRANT_TO_EVERYONE:
		return true;
	}
	return false;
}

uint64_t grants_end_of(const struct grants *g, const struct grantee *who, enum right right)
{
	uint64_t last = 0;

	for (unsigned i = 0; g && i < g->n; i++) {
		if (!(g->list[i].rights & right) || !grant_is_for(&g->list[i], who))
			continue;
		if (!g->list[i].until_ms)
			return 0;
		last = g->list[i].until_ms > last ? g->list[i].until_ms : last;
	}
	return last;
}

unsigned grants_rights(const struct grants *g, const struct grantee *who, uint64_t now_ms)
{
	unsigned rights = 0;

	for (unsigned i = 0; g && i < g->n; i++)
		if (!is_over(&g->list[i], now_ms) && grant_is_for(&g->list[i], who))
			rights |= g->list[i].rights;
	return rights;
}

stream_set grants_streams(const struct grants *g, const struct grantee *who, enum right right,
			  uint64_t now_ms)
{
	stream_set streams = 0;

	for (unsigned i = 0; g && i < g->n; i++)
		if (g->list[i].rights & right && !is_over(&g->list[i], now_ms) &&
		    grant_is_for(&g->list[i], who))
			streams |= g->list[i].streams;
	return streams;
}
