/* A set of labels: key=value pairs that a port was given, or a selector that picks ports by them.
 * Immutable and reference-counted, so ports, events and watches share one. NULL is the empty set
 * everywhere.
 */
#ifndef REDD_LABELS_H
#define REDD_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/cleanup.h"

struct labels;

/* One pair as it came; a selector's value may be NULL: any. */
struct label {
	const void *key;
	size_t key_size;
	const void *value;
	size_t value_size;
};

#define LABELS_E_BAD 1 /* *ret_reason tells what is wrong */

/* Checks and copies. Keys 1 to LABEL_KEY_MAX of [A-Za-z0-9._/-], values up to LABEL_VALUE_MAX bytes
 * of UTF-8 without control characters, no key twice, at most LABELS_MAX pairs. 0; LABELS_E_BAD with
 * *ret_reason a static sentence; -ENOMEM. *ret has one reference, and is NULL when n is 0. A label
 * of labels_new() without value has the empty value. */
int labels_new(const struct label *pairs, size_t n, struct labels **ret, const char **ret_reason);

/* As labels_new(), but a pair without value matches any value. */
int labels_new_selector(const struct label *pairs, size_t n, struct labels **ret,
			const char **ret_reason);

struct labels *labels_ref(struct labels *l);
struct labels *labels_unref(struct labels *l); /* always NULL */
static inline __attribute__((unused)) void labels_unrefp(struct labels **l)
{
	*l = labels_unref(*l);
}

size_t labels_count(const struct labels *l);

/* Pair i, in the order of keys, NUL-terminated; valid as long as the set. value is NULL in a
 * selector for "any". */
void labels_at(const struct labels *l, size_t i, const char **ret_key, const char **ret_value);

/* The value of key, or NULL. */
const char *labels_get(const struct labels *l, const char *key);

/* Every pair of the selector is in the set. */
bool labels_match(const struct labels *l, const struct labels *selector);

#endif
