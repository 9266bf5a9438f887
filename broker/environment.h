/* Merges a child's environment: a base, less what is unset, plus what is set.
 *
 *	environment_init(&e);
 *	for each of the base: environment_add(&e, "NAME=VALUE", size, ...);
 *	for each unset:       environment_unset(&e, "NAME", size, ...);
 *	for each set:         environment_add(&e, "NAME=VALUE", size, ...);
 *	environment_write(&e, &block);
 *
 * A variable stands where its name came first; the last value wins. Texts are not copied: they must
 * stay until environment_write() is through. Each step takes constant time.
 */
#ifndef REDD_ENVIRONMENT_H
#define REDD_ENVIRONMENT_H

#include <stddef.h>
#include <stdint.h>

#include "broker/string_block.h"

struct environment_entry;

struct environment {
	struct environment_entry *entries; /* in order of first appearance */
	size_t n_entries;
	size_t entries_capacity;
	uint32_t *slots; /* index of an entry + 1; 0: free */
	size_t n_slots;	 /* a power of two, or 0 */
	uint64_t seed;	 /* so that nobody can choose names that collide */
};

#define ENVIRONMENT_E_BAD 1 /* *ret_reason says what is wrong with it */

void environment_init(struct environment *e);
void environment_deinit(struct environment *e);

/* Adds or replaces. 0; ENVIRONMENT_E_BAD (not NAME=VALUE, or a NUL) with *ret_reason (may be NULL)
 * a static sentence; -ENOMEM. */
int environment_add(struct environment *e, const void *text, size_t size, const char **ret_reason);

/* Takes a name out; one that is not there is harmless. 0, ENVIRONMENT_E_BAD. */
int environment_unset(struct environment *e, const void *name, size_t size,
		      const char **ret_reason);

/* The value of name, *ret_size bytes (no NUL behind it), or NULL. Name is a C string. */
const void *environment_get(const struct environment *e, const char *name, size_t *ret_size);

/* Number of variables. */
size_t environment_count(const struct environment *e);

/* Appends all variables to *out. 0 or -ENOMEM. */
int environment_write(const struct environment *e, struct string_block *out);

#endif
