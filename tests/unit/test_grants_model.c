/* The set of grants of a port, against a list that is kept the simplest way. */
#include "broker/grants.h"

#include <criterion/criterion.h>

#include "tests/lib/random.h"

TestSuite(grants_model, .timeout = 30);

struct model {
	struct grant list[GRANTS_MAX];
	unsigned n;
};

static bool is_live(const struct grant *g, uint64_t now)
{
	return !g->until_ms || g->until_ms > now;
}

static bool is_his(const struct grant *g, const struct grantee *who)
{
	if (g->to == GRANT_TO_UID)
		return g->number == who->uid;
	return g->to == GRANT_TO_EVERYONE || g->number == who->gid || g->number == who->groups[0] ||
	       g->number == who->groups[1];
}

static uint64_t manage_end(const struct model *m, const struct grantee *who)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < m->n; i++) {
		const struct grant *g = &m->list[i];

		if (is_his(g, who) && g->rights & RIGHT_MANAGE && !g->until_ms)
			return 0;
		if (is_his(g, who) && g->rights & RIGHT_MANAGE && g->until_ms > end)
			end = g->until_ms;
	}
	return end;
}

static void compare(const struct grants *g, const struct model *m, uint64_t now)
{
	const gid_t groups[] = { 5, 6 };

	for (uid_t uid = 0; uid < 4; uid++) {
		const struct grantee who = { uid, uid + 1, groups, 2 };
		unsigned rights = 0;
		uint64_t end = manage_end(m, &who);
		stream_set read = 0, write = 0;

		for (unsigned i = 0; i < m->n; i++) {
			if (!is_live(&m->list[i], now) || !is_his(&m->list[i], &who))
				continue;
			rights |= m->list[i].rights;
			read |= m->list[i].rights & RIGHT_READ ? m->list[i].streams : 0;
			write |= m->list[i].rights & RIGHT_WRITE ? m->list[i].streams : 0;
		}
		cr_assert_eq(grants_rights(g, &who, now), rights);
		cr_assert_eq(grants_end_of(g, &who, RIGHT_MANAGE), end);
		cr_assert_eq(grants_streams(g, &who, RIGHT_READ, now), read);
		cr_assert_eq(grants_streams(g, &who, RIGHT_WRITE, now), write);
	}
}

static struct grant any(struct random *r, uint64_t id, uint64_t now)
{
	return (struct grant){
		.id = id,
		.until_ms = random_chance(r, 2) ? 0 : now + random_below(r, 20),
		.number = (uint32_t)random_below(r, 8),
		.to = (uint16_t)random_below(r, 3),
		.rights = (uint8_t)random_below(r, RIGHTS_ALL + 1),
		.streams = random_chance(r, 3) ? STREAMS_ALL : (stream_set)random_next(r),
	};
}

static void model_drop(struct model *m, unsigned i)
{
	for (m->n--; i < m->n; i++)
		m->list[i] = m->list[i + 1];
}

static void step(struct random *r, struct grants *g, struct model *m, uint64_t *id, uint64_t now)
{
	struct grant one = any(r, ++*id, now);
	unsigned i;

	switch (random_below(r, 3)) {
	case 0:
		i = (unsigned)random_below(r, m->n + 1u);
		cr_assert_eq(grants_remove(g, i < m->n ? m->list[i].id : *id + 1), i < m->n);
		if (i < m->n)
			model_drop(m, i);
		break;
	default:
		cr_assert_eq(grants_add(g, &one), m->n == GRANTS_MAX ? GRANTS_E_FULL : 0);
		if (m->n < GRANTS_MAX)
			m->list[m->n++] = one;
	}
	cr_assert_eq(g->n, m->n);
}

Test(grants_model, P14_gives_what_a_plain_list_gives)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct random r = { seed };
		struct grants *g = grants_new();
		struct model m = { .n = 0 };
		uint64_t id = 0, next;

		for (uint64_t now = 100; now < 600; now++) {
			step(&r, g, &m, &id, now);
			compare(g, &m, now);
			next = 0;
			for (unsigned i = 0; i < m.n; i++) {
				cr_assert_not_null(grants_find(g, m.list[i].id));
				if (m.list[i].until_ms && (!next || m.list[i].until_ms < next))
					next = m.list[i].until_ms;
			}
			cr_assert_eq(grants_next_end(g), next);
		}
		grants_unref(g);
	}
}

Test(grants_model, P14_without_a_set_nobody_has_anything)
{
	const struct grantee root = { .uid = 0, .gid = 0 };

	cr_assert_eq(grants_rights(NULL, &root, 0), 0);
	cr_assert_eq(grants_streams(NULL, &root, RIGHT_READ, 0), 0);
	cr_assert_null(grants_find(NULL, 1));
	cr_assert_null(grants_ref(NULL));
	cr_assert_null(grants_unref(NULL));
}

Test(grants_model, who_shares_a_set_sees_what_is_taken_out)
{
	const struct grantee who = { .uid = 7 };
	const struct grant g = { .id = 1, .to = GRANT_TO_UID, .number = 7, .rights = RIGHT_SEE };
	struct grants *port = grants_new(), *event = grants_ref(port);

	cr_assert_eq(grants_add(port, &g), 0);
	cr_assert_eq(grants_rights(event, &who, 0), RIGHT_SEE);
	cr_assert(grants_remove(port, 1));
	cr_assert_eq(grants_rights(event, &who, 0), 0);
	grants_unref(port);
	cr_assert_eq(event->n, 0); /* still there */
	grants_unref(event);
}
