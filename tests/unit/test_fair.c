/* Deficit round robin: what it promises in small examples, and under random load. */
#include "broker/fair.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "tests/lib/random.h"

#define QUANTUM 100
#define ITEMS	12u
#define GROUPS	3u

static struct fair_queue queue;
static struct fair_group groups[GROUPS];
static struct fair_item items[ITEMS];

static void init(void)
{
	fair_queue_init(&queue, QUANTUM);
	for (unsigned i = 0; i < GROUPS; i++)
		fair_group_init(&groups[i]);
	for (unsigned i = 0; i < ITEMS; i++)
		fair_item_init(&items[i]);
}

TestSuite(fair, .timeout = 60, .init = init);

/* The number of the one that is served, at that cost; -1: nobody. */
static int serve(int64_t cost)
{
	struct fair_item *i = fair_next(&queue);

	fair_charge(&queue, cost);
	return i ? (int)(i - items) : -1;
}

static void add(unsigned group, unsigned item)
{
	fair_add(&queue, &groups[group], &items[item]);
}

Test(fair, an_empty_queue_has_nobody)
{
	cr_expect(fair_is_empty(&queue));
	cr_expect_eq(serve(10), -1);
	cr_expect_null(fair_first(&queue));
}

Test(fair, who_has_credit_is_served_in_the_order_of_coming)
{
	for (unsigned i = 0; i < 3; i++)
		add(0, i);
	add(0, 1); /* waits already */
	for (int i = 0; i < 3; i++)
		cr_expect_eq(serve(10), i);
	cr_expect(fair_is_empty(&queue));
}

Test(fair, who_asks_for_little_comes_before_who_asks_for_much)
{
	add(0, 0);
	cr_assert_eq(serve(QUANTUM * 2), 0);
	add(0, 0);
	add(0, 1);
	cr_expect_eq(serve(10), 1);
	add(0, 1);
	cr_expect_eq(serve(10), 1);
	cr_expect_eq(serve(10), 0);
}

Test(fair, who_leaves_in_debt_finds_it_when_he_is_back)
{
	add(0, 0);
	cr_assert_eq(serve(QUANTUM * 3), 0); /* leaves: nothing waits */
	add(0, 1);
	add(0, 0);
	for (int i = 0; i < 8; i++) {
		cr_expect_eq(serve(QUANTUM / 10), 1);
		add(0, 1);
	}
}

Test(fair, the_only_one_is_served_whatever_it_owes)
{
	for (int i = 0; i < 100; i++) {
		add(0, 0);
		cr_assert_eq(serve(QUANTUM * 50), 0);
	}
}

Test(fair, two_users_share_evenly_whatever_the_number_of_their_connections)
{
	unsigned served[GROUPS] = { 0 };

	for (unsigned i = 0; i < 10; i++)
		add(0, i);
	add(1, 10);
	for (int i = 0; i < 1000; i++) {
		int who = serve(QUANTUM / 3);

		served[who == 10]++;
		add(who == 10, (unsigned)who);
	}
	cr_expect_geq(served[1], 450);
	cr_expect_leq(served[1], 550);
}

Test(fair, what_is_removed_is_not_served)
{
	for (unsigned i = 0; i < 3; i++)
		add(i % 2, i);
	fair_remove(&items[0]);
	fair_remove(&items[0]);
	fair_remove(&items[2]);
	cr_expect_eq(serve(10), 1);
	cr_expect(fair_is_empty(&queue));
}

Test(fair, one_that_goes_while_it_is_served_leaves_the_cost_to_its_user)
{
	struct fair_item *i;

	add(0, 0);
	i = fair_next(&queue);
	fair_queue_forget(&queue, i);
	memset(i, 0xee, sizeof(*i)); /* freed */
	fair_charge(&queue, QUANTUM * 2);
	add(0, 1);
	add(1, 2);
	cr_expect_eq(serve(10), 2, "its user goes on with a clean slate");
}

Test(fair, a_user_that_goes_while_it_is_served_is_not_touched)
{
	struct fair_item *i;

	add(0, 0);
	i = fair_next(&queue);
	fair_queue_forget(&queue, i);
	fair_group_leave(&groups[0]);
	memset(&groups[0], 0xee, sizeof(groups[0]));
	fair_charge(&queue, QUANTUM);
	cr_expect(fair_is_empty(&queue));
}

/* --- random load ------------------------------------------------------------------------------ */

static struct {
	struct random random;
	int64_t cost[ITEMS]; /* of one service, each item's own */
	bool greedy[ITEMS];  /* always wants more; the others come and go */
	int64_t got[ITEMS];
	int64_t waited[ITEMS][ITEMS]; /* what j got while i waited */
	uint64_t seed;
} m;

#define check(condition, ...) cr_assert(condition, "seed %lu: " #condition, m.seed)

static unsigned group_of(unsigned item)
{
	return item % GROUPS;
}

static void model_add(unsigned i)
{
	if (fair_item_waits(&items[i]))
		return;
	memset(m.waited[i], 0, sizeof(m.waited[i]));
	add(group_of(i), i);
}

/* While one waits no other of its user gets more than two quanta and what one service costs. */
static void model_serve(void)
{
	struct fair_item *item = fair_next(&queue);
	unsigned i = item ? (unsigned)(item - items) : 0;

	if (!item)
		return;
	fair_charge(&queue, m.cost[i]);
	m.got[i] += m.cost[i];
	for (unsigned k = 0; k < ITEMS; k++) {
		if (k == i || !fair_item_waits(&items[k]) || group_of(k) != group_of(i))
			continue;
		m.waited[k][i] += m.cost[i];
		/* Its own debt may keep it waiting for as many rounds as it is deep. */
		check(m.waited[k][i] <= (2 + m.cost[k] / QUANTUM + 1) * QUANTUM + 2 * m.cost[i]);
	}
	if (m.greedy[i])
		model_add(i);
}

static void model_run(uint64_t seed)
{
	init();
	memset(&m, 0, sizeof(m));
	m.seed = m.random.state = seed;
	for (unsigned i = 0; i < ITEMS; i++) {
		m.cost[i] = 1 + (int64_t)random_below(&m.random, QUANTUM * 4);
		m.greedy[i] = random_chance(&m.random, 2);
		if (m.greedy[i])
			model_add(i);
	}
	for (int step = 0; step < 20000; step++) {
		if (random_chance(&m.random, 3))
			model_add((unsigned)random_below(&m.random, ITEMS));
		model_serve();
	}
}

/* Greedy ones of a user have got the same, but for one service and two quanta. */
static void model_check_shares(void)
{
	for (unsigned i = 0; i < ITEMS; i++)
		for (unsigned k = 0; k < ITEMS; k++) {
			int64_t more = m.got[i] - m.got[k];

			if (m.greedy[i] && m.greedy[k] && group_of(i) == group_of(k))
				check(more <= 3 * QUANTUM + m.cost[i] + m.cost[k]);
		}
}

Test(fair, P7_under_random_load_nobody_starves_and_shares_are_even)
{
	for (uint64_t seed = 1; seed <= 100; seed++) {
		model_run(seed);
		model_check_shares();
	}
}
