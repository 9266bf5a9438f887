#include "broker/id_table.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "tests/lib/countdown.h"

#define N 1000

static struct id_table t;
static struct id_node nodes[N];

TestSuite(id_table, .timeout = 20);

/* Those whose number is no multiple of three go again. */
static void fill_and_thin_out(void)
{
	for (uint64_t i = 0; i < N; i++)
		id_table_add(&t, &nodes[i], i + 1);
	for (uint64_t i = 0; i < N; i++)
		if ((i + 1) % 3)
			id_table_remove(&t, &nodes[i]);
}

static void check_and_empty(void)
{
	cr_assert_null(id_table_find(&t, 0));
	cr_assert_null(id_table_find(&t, N + 1));
	for (uint64_t i = 0; i < N; i++)
		cr_assert_eq(id_table_find(&t, i + 1), (i + 1) % 3 ? NULL : &nodes[i]);
	for (uint64_t i = 0; i < N; i++)
		if ((i + 1) % 3 == 0)
			id_table_remove(&t, &nodes[i]);
	id_table_deinit(&t);
}

Test(id_table, what_is_there_is_found_and_nothing_else)
{
	cr_assert_null(id_table_find(&t, 1));
	fill_and_thin_out();
	check_and_empty();
}

Test(id_table, without_memory_it_works_all_the_same)
{
	for (unsigned nth = 1; nth < 8; nth++) {
		countdown_arm(COUNTDOWN_MALLOC, nth, ENOMEM);
		fill_and_thin_out();
		cr_assert(countdown_off());
		check_and_empty();
	}
}

Test(id_table, few_share_a_bucket)
{
	size_t longest = 0;

	for (uint64_t i = 0; i < N; i++)
		id_table_add(&t, &nodes[i], i + 1);
	for (size_t i = 0; i < t.n_buckets; i++) {
		size_t length = 0;

		for (const struct id_node *n = t.buckets[i]; n; n = n->next)
			length++;
		longest = length > longest ? length : longest;
	}
	cr_assert_leq(longest, 2);
	for (uint64_t i = 0; i < N; i++)
		id_table_remove(&t, &nodes[i]);
	id_table_deinit(&t);
}
