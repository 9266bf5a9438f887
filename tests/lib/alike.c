#include "tests/lib/alike.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char *key(unsigned i)
{
	static char keys[LABELS_MAX][LABEL_KEY_MAX + 1];

	snprintf(keys[i], sizeof(keys[i]), "%060u", i);
	return keys[i];
}

static const char *value(unsigned i, const char *last)
{
	return i == LABELS_MAX - 1 ? last : "same";
}

struct labels *alike_labels(const char *last)
{
	struct label all[LABELS_MAX];
	struct labels *labels;
	const char *reason;

	for (unsigned i = 0; i < LABELS_MAX; i++)
		all[i] = (struct label){ key(i), strlen(key(i)), value(i, last),
					 strlen(value(i, last)) };
	cr_assert_eq(labels_new(all, LABELS_MAX, &labels, &reason), 0);
	return labels;
}

void alike_selector(struct alike_selector *ret, const char *last)
{
	for (unsigned i = 0; i < LABELS_MAX; i++) {
		redd__v1__label__init(&ret->pairs[i]);
		ret->pairs[i].key = (char *)key(i);
		ret->pairs[i].value = (char *)value(i, last);
		ret->pointers[i] = &ret->pairs[i];
	}
}
