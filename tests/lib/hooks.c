/* Part of every suite: stretches the time limits of its tests where everything is slow
 * (REDD_TEST_SLOW=N), so that a test states the limit of a plain run and nothing else. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/internal/ordered-set.h>
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
