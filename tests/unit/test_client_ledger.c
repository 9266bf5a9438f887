/* Where writes went whose answer was lost: never a guess. */
#include "client/ledger.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/random.h"

TestSuite(client_ledger, .timeout = 20);

Test(client_ledger, a_port_of_ours_begins_at_zero_and_a_strangers_is_not_known)
{
	struct ledgers ours = { .fresh = true }, theirs = { 0 };
	uint64_t offset = 99;

	cr_assert(ledger_reckon(&ours, 0, 5, 0, &offset));
	cr_assert_eq(offset, 0);
	cr_assert(ledger_reckon(&ours, 0, 5, 0, &offset));
	cr_assert_eq(offset, 5);
	cr_assert_not(ledger_reckon(&theirs, 0, 5, 0, &offset));
	ledger_seen(&theirs, 0, 70);
	cr_assert(ledger_reckon(&theirs, 0, 5, 0, &offset));
	cr_assert_eq(offset, 70);
	cr_assert_not(ledger_reckon(&theirs, 3, 5, 0, &offset), "another input");
}

Test(client_ledger, past_the_window_one_may_have_been_refused)
{
	struct ledgers l = { .fresh = true };
	uint64_t offset;

	cr_assert(ledger_reckon(&l, 0, 500, 100, &offset), "an empty queue takes any");
	cr_assert_not(ledger_reckon(&l, 0, 1, 100, &offset));
	ledger_begin(&l);
	cr_assert(ledger_reckon(&l, 0, 99, 100, &offset));
	cr_assert(ledger_reckon(&l, 0, 1, 100, &offset));
	cr_assert_not(ledger_reckon(&l, 0, 1, 100, &offset));
}

/* A model of the input: our writes and others' in any order, answers in the order of the writes,
 * losses at any time. What is reckoned must be where it was, or nothing is. The one thing that
 * cannot be seen, a first foreign write behind the last answer, is left out of the model. */
Test(client_ledger, P9_what_is_reckoned_is_where_it_went)
{
	struct random random = { 20260 };

	for (int round = 0; round < 2000; round++) {
		struct ledgers l = { .fresh = random_chance(&random, 2) };
		uint64_t at[64], sizes[64], end = l.fresh ? 0 : random_below(&random, 1000);
		size_t n = 0, answered = 0;
		bool shared = false;

		while (n < 40) {
			if (n == answered && random_chance(&random, 20)) {
				end += 1 + random_below(&random, 9);
				shared = true;
				at[n] = end;
				sizes[n] = 1;
				ledger_written(&l, 0, end, 1); /* and ours is answered */
				end += sizes[n++];
				answered = n;
				continue;
			}
			at[n] = end;
			sizes[n] = 1 + random_below(&random, 50);
			end += sizes[n++];
			for (; answered < n && random_chance(&random, 2); answered++)
				ledger_written(&l, 0, at[answered], sizes[answered]);
		}
		ledger_begin(&l);
		for (size_t i = answered; i < n; i++) {
			uint64_t offset;

			if (ledger_reckon(&l, 0, sizes[i], 0, &offset))
				cr_assert_eq(offset, at[i], "round %d", round);
			else
				cr_assert(shared || (!l.fresh && !answered), "round %d", round);
		}
	}
}
