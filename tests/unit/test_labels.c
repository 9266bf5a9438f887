#include "broker/labels.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/countdown.h"

TestSuite(labels, .timeout = 10);

#define LABEL(k, v)                            \
	{                                      \
		k, sizeof(k) - 1, v, strlen(v) \
	}
#define ANY(k)                            \
	{                                 \
		k, sizeof(k) - 1, NULL, 0 \
	}

static struct labels *make(const struct label *pairs, size_t n)
{
	struct labels *l = NULL;
	const char *reason;

	cr_assert_eq(labels_new(pairs, n, &l, &reason), 0);
	return l;
}

static bool match(const struct labels *l, const struct label *pairs, size_t n)
{
	_cleanup_(labels_unrefp) struct labels *selector = NULL;
	const char *reason;

	cr_assert_eq(labels_new_selector(pairs, n, &selector, &reason), 0);
	return labels_match(l, selector);
}

static void assert_bad(const struct label *pairs, size_t n, const char *text)
{
	struct labels *l = NULL;
	const char *reason = NULL;

	cr_assert_eq(labels_new(pairs, n, &l, &reason), LABELS_E_BAD);
	cr_assert_null(l);
	cr_assert_not_null(strstr(reason, text), "%s", reason);
}

Test(labels, are_kept_by_key_whatever_their_order)
{
	const struct label pairs[] = { LABEL("z", "26"), LABEL("a", "1"), LABEL("m", "") };
	_cleanup_(labels_unrefp) struct labels *l = make(pairs, 3);
	const char *key, *value;

	cr_assert_eq(labels_count(l), 3);
	labels_at(l, 0, &key, &value);
	cr_assert_str_eq(key, "a");
	cr_assert_str_eq(value, "1");
	cr_assert_str_eq(labels_get(l, "z"), "26");
	cr_assert_str_eq(labels_get(l, "m"), "");
	cr_assert_null(labels_get(l, "x"));
}

Test(labels, none_is_the_empty_set)
{
	const struct label any[] = { ANY("a") };

	cr_assert_null(make(NULL, 0));
	cr_assert_eq(labels_count(NULL), 0);
	cr_assert_null(labels_get(NULL, "a"));
	cr_assert(labels_match(NULL, NULL));
	cr_assert_not(match(NULL, any, 1));
	cr_assert_null(labels_ref(NULL));
	cr_assert_null(labels_unref(NULL));
}

Test(labels, a_selector_needs_all_of_its_pairs)
{
	const struct label pairs[] = { LABEL("app", "web"), LABEL("tier", "1") };
	const struct label both[] = { LABEL("tier", "1"), LABEL("app", "web") };
	const struct label any[] = { ANY("app") }, other[] = { LABEL("app", "db") };
	const struct label more[] = { ANY("app"), ANY("nothing") };
	const struct label empty[] = { LABEL("app", "") };
	_cleanup_(labels_unrefp) struct labels *l = make(pairs, 2);

	cr_assert(labels_match(l, NULL));
	cr_assert(match(l, both, 2));
	cr_assert(match(l, both, 1));
	cr_assert(match(l, any, 1));
	cr_assert_not(match(l, other, 1));
	cr_assert_not(match(l, more, 2));
	cr_assert_not(match(l, empty, 1), "an empty value is a value");
}

Test(labels, live_until_the_last_reference_goes)
{
	const struct label pairs[] = { LABEL("a", "b") };
	struct labels *l = make(pairs, 1);
	struct labels *second = labels_ref(l);

	cr_assert_null(labels_unref(l));
	cr_assert_str_eq(labels_get(second, "a"), "b");
	labels_unref(second);
}

Test(labels, bad_ones_are_refused_with_the_reason)
{
	const struct label same[] = { LABEL("b", "1"), LABEL("a", "1"), LABEL("b", "2") };
	const struct label no_key[] = { LABEL("", "x") };
	const struct label bad_key[] = { LABEL("a b", "x") };
	const struct label nul_key[] = { { "a\0b", 3, "x", 1 } };
	const struct label control[] = { LABEL("a", "x\ny") };
	const struct label nul[] = { { "a", 1, "x\0y", 3 } };
	const struct label latin[] = { LABEL("a", "\xe9t\xe9") };
	struct label many[LABELS_MAX + 1];
	char keys[LABELS_MAX + 1][8], text[LABEL_VALUE_MAX + 1];
	struct label big[] = { { "a", 1, text, sizeof(text) } };
	struct label big_key[] = { { text, LABEL_KEY_MAX + 1, "", 0 } };

	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i <= LABELS_MAX; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		many[i] = (struct label){ keys[i], strlen(keys[i]), "v", 1 };
	}
	assert_bad(same, 3, "same key");
	assert_bad(no_key, 1, "empty");
	assert_bad(bad_key, 1, "only letters");
	assert_bad(nul_key, 1, "only letters");
	assert_bad(control, 1, "control");
	assert_bad(nul, 1, "control");
	assert_bad(latin, 1, "UTF-8");
	assert_bad(many, LABELS_MAX + 1, "32");
	assert_bad(big, 1, "255");
	assert_bad(big_key, 1, "63");
	big[0].value_size = LABEL_VALUE_MAX;
	big_key[0].key_size = LABEL_KEY_MAX;
	labels_unref(make(big, 1));
	labels_unref(make(big_key, 1));
	labels_unref(make(many, LABELS_MAX));
}

Test(labels, want_of_memory_is_told)
{
	const struct label pairs[] = { LABEL("a", "b") };
	struct labels *l;
	const char *reason;

	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(labels_new(pairs, 1, &l, &reason), -ENOMEM);
	cr_assert(countdown_off());
}
