#include "broker/environment.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/cleanup.h"
#include "tests/lib/countdown.h"
#include "tests/lib/random.h"

static struct environment env;
static struct string_block block;

static void init(void)
{
	environment_init(&env);
	string_block_init(&block);
}

static void fini(void)
{
	environment_deinit(&env);
	string_block_deinit(&block);
}

TestSuite(environment, .timeout = 20, .init = init, .fini = fini);

static void add(const char *text)
{
	cr_assert_eq(environment_add(&env, text, strlen(text), NULL), 0);
}

static void unset(const char *name)
{
	cr_assert_eq(environment_unset(&env, name, strlen(name), NULL), 0);
}

/* The block with '|' behind each string. */
static const char *written(void)
{
	static char text[1000];
	const char *at = NULL;

	text[0] = '\0';
	cr_assert_eq(environment_write(&env, &block), 0);
	cr_assert_eq(block.count, environment_count(&env));
	while ((at = string_block_next(&block, at)))
		strcat(strcat(text, at), "|");
	return text;
}

Test(environment, empty_is_nothing)
{
	size_t size;

	unset("A");
	cr_assert_null(environment_get(&env, "PATH", &size));
	cr_assert_str_eq(written(), "");
}

Test(environment, the_last_value_wins_at_the_first_place)
{
	add("A=1");
	add("B=2");
	add("C=3");
	add("B=20=x");
	add("D=");
	cr_assert_str_eq(written(), "A=1|B=20=x|C=3|D=|");
}

Test(environment, what_is_unset_is_gone_unless_it_is_set_again)
{
	add("A=1");
	add("B=2");
	add("C=3");
	unset("A");
	unset("B");
	unset("NEVER");
	add("B=4");
	cr_assert_str_eq(written(), "B=4|C=3|");
	cr_assert_eq(environment_count(&env), 2);
}

Test(environment, S14_values_are_found_by_name)
{
	size_t size = 0;
	const char *value;

	add("PATHS=x");
	add("PATH=/bin:/usr/bin");
	add("EMPTY=");
	value = environment_get(&env, "PATH", &size);
	cr_assert(size == 13 && !memcmp(value, "/bin:/usr/bin", 13));
	cr_assert_not_null(environment_get(&env, "EMPTY", &size));
	cr_assert_eq(size, 0);
	cr_assert_null(environment_get(&env, "PAT", &size));
	unset("PATH");
	cr_assert_null(environment_get(&env, "PATH", &size));
}

Test(environment, S15_what_is_no_variable_is_refused_with_the_reason)
{
	static const struct {
		const char *text;
		size_t size;
		const char *reason;
	} bad[] = {
		{ "", 0, "NAME=VALUE" },       { "NAME", 4, "NAME=VALUE" },
		{ "=value", 6, "no name" },    { "NAME=va\0lue", 11, "NUL" },
		{ "NA\0ME=value", 11, "NUL" },
	};
	const char *reason = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cr_assert_eq(environment_add(&env, bad[i].text, bad[i].size, &reason),
			     ENVIRONMENT_E_BAD);
		cr_assert_not_null(strstr(reason, bad[i].reason), "%s", reason);
	}
	cr_assert_eq(environment_unset(&env, "", 0, &reason), ENVIRONMENT_E_BAD);
	cr_assert_eq(environment_unset(&env, "A=B", 3, &reason), ENVIRONMENT_E_BAD);
	cr_assert_eq(environment_unset(&env, "A\0B", 3, NULL), ENVIRONMENT_E_BAD);
	cr_assert_str_eq(written(), "");
}

Test(environment, S16_twenty_thousand_variables_take_milliseconds)
{
	const char *slow = getenv("REDD_TEST_SLOW");
	double most = 0.05 * (slow ? atof(slow) : 1);
	enum { N = 20000 };
	char(*texts)[32] = malloc(N * sizeof(*texts));
	clock_t start;

	for (int i = 0; i < N; i++)
		snprintf(texts[i], sizeof(texts[i]), "VARIABLE_%d=%d", i % (N / 2), i);
	start = clock();
	for (int i = 0; i < N; i++)
		add(texts[i]);
	cr_assert_eq(environment_write(&env, &block), 0);
	cr_assert_lt((double)(clock() - start) / CLOCKS_PER_SEC, most);
	cr_assert_eq(block.count, N / 2);
	cr_assert_str_eq(string_block_next(&block, NULL), "VARIABLE_0=10000");
	free(texts);
}

/* Against a plain array that is searched from the front. */
Test(environment, agrees_with_a_plain_list)
{
	const uint64_t seed = 12;
	struct random r = { seed };
	static char texts[600][32];
	const char *plain[40] = { 0 }; /* by number of the name */
	int order[40], n_order = 0;

	for (int i = 0; i < 600; i++) {
		int name = (int)random_below(&r, 40), k;

		snprintf(texts[i], sizeof(texts[i]), "%s%d=%d", name % 2 ? "A" : "B_", name, i);
		if (random_chance(&r, 3)) {
			*strchr(texts[i], '=') = '\0';
			unset(texts[i]);
			plain[name] = NULL;
			continue;
		}
		add(texts[i]);
		plain[name] = texts[i];
		for (k = 0; k < n_order && order[k] != name; k++)
			;
		if (k == n_order)
			order[n_order++] = name;
	}
	cr_assert_eq(environment_write(&env, &block), 0);
	for (int k = 0; k < n_order; k++) {
		static const char *at;

		if (!plain[order[k]])
			continue;
		at = string_block_next(&block, at);
		cr_assert_str_eq(at, plain[order[k]], "seed %lu", seed);
	}
}

Test(environment, want_of_memory_loses_nothing_that_was_taken)
{
	static char texts[500][32];
	unsigned int failed = 0;

	for (int i = 0; i < 500; i++) {
		snprintf(texts[i], sizeof(texts[i]), "V%d=%d", i, i);
		for (unsigned int n = 1;; n++) {
			int r;

			countdown_arm(COUNTDOWN_MALLOC, n, ENOMEM);
			r = environment_add(&env, texts[i], strlen(texts[i]), NULL);
			if (!countdown_off()) {
				cr_assert_eq(r, 0);
				break;
			}
			cr_assert_eq(r, -ENOMEM);
			failed++;
		}
	}
	cr_assert_gt(failed, 4);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(environment_write(&env, &block), -ENOMEM);
	cr_assert(countdown_off());
	cr_assert_eq(environment_write(&env, &block), 0);
	cr_assert_eq(block.count, 500);
}
