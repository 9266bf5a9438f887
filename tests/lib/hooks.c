/* Part of every suite. Stretches the time limits of its tests where everything is slow
 * (REDD_TEST_SLOW=N), so that a test states the limit of a plain run and nothing else; and makes
 * what goes wrong in a teardown a failure, which criterion alone only prints.
 */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/internal/ordered-set.h>
#include <criterion/stats.h>
#include <stdio.h>
#include <stdlib.h>

static void suite_stretch(struct criterion_suite_set *suite, double factor)
{
	if (suite->suite.data)
		suite->suite.data->timeout *= factor;
	FOREACH_SET(struct criterion_test * test, suite->tests)
	test->data->timeout *= factor;
}

ReportHook(PRE_ALL)(struct criterion_test_set *all)
{
	const char *slow = getenv("REDD_TEST_SLOW");
	double factor = slow ? atof(slow) : 1;

	if (factor <= 1)
		return;
	FOREACH_SET(struct criterion_suite_set * suite, all->suites)
	suite_stretch(suite, factor);
}

/* Tests that passed, and tests that passed and came through their teardown. */
static size_t n_passed, n_torn_down;

ReportHook(POST_TEST)(struct criterion_test_stats *test)
{
	if (test->test_status == CR_STATUS_PASSED)
		n_passed++;
}

ReportHook(POST_FINI)(struct criterion_test_stats *test)
{
	if (test->test_status != CR_STATUS_PASSED)
		return;
	if (test->failed_asserts == 0) {
		n_torn_down++;
		return;
	}
	fprintf(stderr, "[FAIL] %s::%s: in its teardown\n", test->test->category, test->test->name);
}

/* Before the sums are printed. */
ReportHook(POST_ALL)(struct criterion_global_stats *all)
{
	size_t bad = n_passed - n_torn_down;

	all->tests_passed -= bad;
	all->tests_failed += bad;
}
