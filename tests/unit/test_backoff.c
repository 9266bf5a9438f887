#include <criterion/criterion.h>

#include "helper/backoff.h"

Test(backoff, a_program_that_died_is_started_again_at_once, .timeout = 5)
{
	struct backoff b = { 0 };
	bool is_news;

	for (int64_t now = 100000; now < 200000; now += RESTART_WINDOW_MS / 4) {
		cr_assert_eq(backoff_died(&b, now, &is_news), now);
		cr_assert_not(is_news);
	}
}

Test(backoff, one_that_dies_too_often_waits_and_is_told_once, .timeout = 5)
{
	struct backoff b = { 0 };
	int64_t now = 5000;
	bool is_news;

	for (unsigned i = 1; i < RESTART_DEATHS_MAX; i++, now += 10) {
		cr_assert_eq(backoff_died(&b, now, &is_news), now);
		cr_assert_not(is_news);
	}
	cr_assert_eq(backoff_died(&b, now, &is_news), now + BACKOFF_RETRY_MS);
	cr_assert(is_news && b.is_degraded);
	now += BACKOFF_RETRY_MS;
	cr_assert_eq(backoff_died(&b, now, &is_news), now + BACKOFF_RETRY_MS);
	cr_assert_not(is_news);
}

Test(backoff, it_ends_when_deaths_are_rare_again, .timeout = 5)
{
	struct backoff b = { 0 };
	bool is_news;

	for (unsigned i = 0; i < RESTART_DEATHS_MAX; i++)
		backoff_died(&b, 1000, &is_news);
	cr_assert(b.is_degraded);
	cr_assert_eq(backoff_died(&b, 1000 + RESTART_WINDOW_MS, &is_news),
		     1000 + RESTART_WINDOW_MS);
	cr_assert(is_news && !b.is_degraded);
}
