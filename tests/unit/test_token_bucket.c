#include "broker/token_bucket.h"

#include <criterion/criterion.h>

#include "tests/lib/random.h"

TestSuite(token_bucket, .timeout = 20);

static const struct token_bucket_rate rate = { .per_second = 10, .burst = 3 };

Test(token_bucket, gives_a_burst_and_then_says_how_long_to_wait)
{
	struct token_bucket b = { 0 };

	for (int i = 0; i < 3; i++) {
		cr_assert_eq(token_bucket_wait_ms(&b, rate, 1000), 0);
		token_bucket_take(&b, rate, 1000);
	}
	cr_assert_eq(token_bucket_wait_ms(&b, rate, 1000), 100);
	cr_assert_eq(token_bucket_wait_ms(&b, rate, 1099), 1);
	cr_assert_eq(token_bucket_wait_ms(&b, rate, 1100), 0);
	token_bucket_take(&b, rate, 1100);
	cr_assert_eq(token_bucket_wait_ms(&b, rate, 1100), 100);
}

Test(token_bucket, a_wait_is_never_told_too_short)
{
	const struct token_bucket_rate third = { .per_second = 3, .burst = 1 };
	struct token_bucket b = { 0 };

	token_bucket_take(&b, third, 0);
	cr_assert_eq(token_bucket_wait_ms(&b, third, 0), 334);
	cr_assert_eq(token_bucket_wait_ms(&b, third, 334), 0);
}

Test(token_bucket, without_a_rate_there_is_no_limit)
{
	const struct token_bucket_rate none = { 0, 0 };
	struct token_bucket b = { 0 };

	for (int i = 0; i < 1000; i++) {
		cr_assert_eq(token_bucket_wait_ms(&b, none, 0), 0);
		token_bucket_take(&b, none, 0);
	}
}

Test(token_bucket, a_burst_of_nothing_is_one)
{
	const struct token_bucket_rate one = { .per_second = 1, .burst = 0 };
	struct token_bucket b = { 0 };

	cr_assert_eq(token_bucket_wait_ms(&b, one, 0), 0);
	token_bucket_take(&b, one, 0);
	cr_assert_eq(token_bucket_wait_ms(&b, one, 0), 1000);
}

Test(token_bucket, a_clock_that_goes_back_or_far_ahead_does_no_harm)
{
	struct token_bucket b = { 0 };

	for (int i = 0; i < 3; i++)
		token_bucket_take(&b, rate, 5000);
	cr_assert_eq(token_bucket_wait_ms(&b, rate, 10), 100);
	cr_assert_eq(token_bucket_wait_ms(&b, rate, UINT64_MAX), 0);
	token_bucket_take(&b, rate, UINT64_MAX);
	token_bucket_take(&b, rate, 0);
	cr_assert_eq(b.at_ms, UINT64_MAX);
}

/* Asked at every odd moment, it gives what the rate says, no more and no less. */
Test(token_bucket, gives_exactly_its_rate_over_time)
{
	const uint64_t seed = 8;
	struct random r = { seed };

	for (int round = 0; round < 50; round++) {
		struct token_bucket_rate any = { 1 + (uint32_t)random_below(&r, 1000),
						 2 + (uint32_t)random_below(&r, 50) };
		struct token_bucket b = { 0 };
		uint64_t now = 0, taken = 0, most;

		while (now < 20000) {
			uint32_t wait = token_bucket_wait_ms(&b, any, now);

			if (wait) {
				now += random_chance(&r, 2) ? wait : 1;
				continue;
			}
			token_bucket_take(&b, any, now);
			taken++;
		}
		most = any.burst + now * any.per_second / 1000;
		cr_assert_leq(taken, most, "seed %lu round %d", seed, round);
		cr_assert_geq(taken + any.per_second / 1000 + 2, most, "seed %lu round %d: %lu",
			      seed, round, taken);
	}
}
