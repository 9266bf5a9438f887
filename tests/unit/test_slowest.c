#include "broker/slowest.h"

#include <criterion/criterion.h>
#include <stdbool.h>

#include "tests/lib/random.h"

#define N     300
#define STEPS 60000

TestSuite(slowest, .timeout = 20);

static struct slowest all;
static struct slowest_node nodes[N];
static bool is_in[N];

static uint64_t lowest(void)
{
	uint64_t at = UINT64_MAX;

	for (int i = 0; i < N; i++)
		if (is_in[i] && nodes[i].at < at)
			at = nodes[i].at;
	return at;
}

static void check(void)
{
	struct slowest_node *first = slowest_first(&all);

	cr_assert_eq(first ? first->at : UINT64_MAX, lowest());
	cr_assert(!first || is_in[first - nodes], "one that was taken out");
}

Test(slowest, nobody_is_the_slowest_of_none)
{
	cr_assert_null(slowest_first(&all));
	slowest_remove(&all, &nodes[0]);
	slowest_add(&all, &nodes[0], 7);
	cr_assert_eq(slowest_first(&all), &nodes[0]);
	slowest_remove(&all, &nodes[0]);
	slowest_remove(&all, &nodes[0]);
	cr_assert_null(slowest_first(&all));
}

Test(slowest, the_first_is_the_furthest_behind_whoever_comes_goes_or_moves)
{
	struct random r = { 1 };

	for (int step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)random_below(&r, N), what = (unsigned)random_below(&r, 4);

		if (!is_in[i])
			slowest_add(&all, &nodes[i], random_below(&r, 1000));
		else if (what)
			slowest_move(&all, &nodes[i], nodes[i].at + random_below(&r, 100));
		else
			slowest_remove(&all, &nodes[i]);
		is_in[i] = !is_in[i] || what;
		check();
	}
}

Test(slowest, all_go_in_the_order_of_their_places)
{
	for (unsigned i = 0; i < N; i++)
		slowest_add(&all, &nodes[i], i * 7 % N);
	for (unsigned i = 0; i < N; i++) {
		struct slowest_node *first = slowest_first(&all);

		cr_assert_eq(first->at, i);
		slowest_remove(&all, first);
	}
	cr_assert_null(slowest_first(&all));
}
