/* An immutable set of labels in one allocation: the pairs, sorted by key, then their texts.
 *
 * Sorted, so that matching is one walk over both sets and the order in which a client sent them
 * does not matter. Everything is checked before anything is allocated.
 */
#include "broker/labels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/names.h"
#include "proto/base/err.h"
#include "proto/limits.h"

struct pair {
	const char *key;
	const char *value; /* NULL in a selector: any */
};

struct labels {
	unsigned int n_refs;
	size_t n_pairs;
	struct pair pairs[]; /* by key; the texts follow */
};

static const char *check_pairs(const struct label *pairs, size_t n, size_t *ret_bytes)
{
	size_t i, bytes = 0;

	if (n > LABELS_MAX)
		return "more than 32 labels";
	for (i = 0; i < n; i++) {
		const char *wrong = names_check_label_key(pairs[i].key, pairs[i].key_size);

		if (!wrong && pairs[i].value)
			wrong = names_check_label_value(pairs[i].value, pairs[i].value_size);
		if (wrong)
			return wrong;
		bytes += pairs[i].key_size + pairs[i].value_size + 2;
	}
	*ret_bytes = bytes;
	return NULL;
}
_Static_assert(LABELS_MAX == 32, "the sentence above says 32");

static const char *copy_text(char **text, const void *from, size_t size)
{
	char *start = *text;

	if (size)
		memcpy(start, from, size);
	start[size] = '\0';
	*text = start + size + 1;
	return start;
}

static int compare_pairs(const void *a, const void *b)
{
	return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

static bool has_double_key(const struct labels *l)
{
	size_t i;

	for (i = 1; i < l->n_pairs; i++)
		if (!strcmp(l->pairs[i - 1].key, l->pairs[i].key))
			return true;
	return false;
}

static struct labels *copy_pairs(const struct label *pairs, size_t n, size_t bytes, bool selector)
{
	struct labels *l = malloc(sizeof(*l) + n * sizeof(l->pairs[0]) + bytes);
	char *text;
	size_t i;

	if (!l)
		return NULL;
	l->n_refs = 1;
	l->n_pairs = n;
	text = (char *)&l->pairs[n];
	for (i = 0; i < n; i++) {
		l->pairs[i].key = copy_text(&text, pairs[i].key, pairs[i].key_size);
		l->pairs[i].value = NULL;
		if (pairs[i].value || !selector)
			l->pairs[i].value = copy_text(&text, pairs[i].value,
						      pairs[i].value ? pairs[i].value_size : 0);
	}
	qsort(l->pairs, n, sizeof(l->pairs[0]), compare_pairs);
	return l;
}

static int make(const struct label *pairs, size_t n, bool selector, struct labels **ret,
		const char **ret_reason)
{
	_cleanup_(labels_unrefp) struct labels *l = NULL;
	size_t bytes = 0;
	const char *wrong = check_pairs(pairs, n, &bytes);

	if (!wrong && n) {
		l = copy_pairs(pairs, n, bytes, selector);
		if (!l)
			return err_begin(-ENOMEM);
		if (has_double_key(l))
			wrong = "two labels have the same key";
	}
	if (wrong) {
		*ret_reason = wrong;
		return LABELS_E_BAD;
	}
	*ret = TAKE(l);
	return 0;
}

int labels_new(const struct label *pairs, size_t n, struct labels **ret, const char **ret_reason)
{
	return make(pairs, n, false, ret, ret_reason);
}

int labels_new_selector(const struct label *pairs, size_t n, struct labels **ret,
			const char **ret_reason)
{
	return make(pairs, n, true, ret, ret_reason);
}

struct labels *labels_ref(struct labels *l)
{
	if (l)
		l->n_refs++;
	return l;
}

struct labels *labels_unref(struct labels *l)
{
	if (l && --l->n_refs == 0)
		free(l);
	return NULL;
}

size_t labels_count(const struct labels *l)
{
	return l ? l->n_pairs : 0;
}

void labels_at(const struct labels *l, size_t i, const char **ret_key, const char **ret_value)
{
	*ret_key = l->pairs[i].key;
	*ret_value = l->pairs[i].value;
}

static const struct pair *find(const struct labels *l, const char *key)
{
	struct pair wanted = { .key = key };

	if (!l)
		return NULL;
	return bsearch(&wanted, l->pairs, l->n_pairs, sizeof(l->pairs[0]), compare_pairs);
}

const char *labels_get(const struct labels *l, const char *key)
{
	const struct pair *p = find(l, key);

	return p ? p->value : NULL;
}

bool labels_match(const struct labels *l, const struct labels *selector)
{
	size_t i;

	for (i = 0; i < labels_count(selector); i++) {
		const struct pair *wanted = &selector->pairs[i];
		const struct pair *there = find(l, wanted->key);

		if (!there)
			return false;
		if (wanted->value && (!there->value || strcmp(there->value, wanted->value)))
			return false;
	}
	return true;
}
