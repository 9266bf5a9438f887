/* Merges environments: an array of variables in the order in which their names came first, and an
 * open hash table (linear probing, at most half full) from name to place in the array. Variables
 * that were unset keep their place, so that indexes stay what they are; they are left out in the
 * end.
 *
 * Names come from clients: the hash has a random seed, so that nobody can prepare names that
 * collide.
 */
#include "broker/environment.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "broker/checksum.h"
#include "broker/names.h"
#include "proto/base/cleanup.h"
#include "proto/base/err.h"

#define ENTRIES_LOWEST 64u

struct environment_entry {
	const char *text; /* NAME=VALUE, the caller's memory; NULL: unset */
	size_t size;
	const char *name;
	size_t name_size;
	uint64_t hash;
};

void environment_init(struct environment *e)
{
	*e = (struct environment){ 0 };
	if (getrandom(&e->seed, sizeof(e->seed), GRND_NONBLOCK) != sizeof(e->seed))
		e->seed = (uint64_t)(uintptr_t)e; /* early at boot: better than a constant */
}

void environment_deinit(struct environment *e)
{
	free(e->entries);
	free(e->slots);
	*e = (struct environment){ 0 };
}

/* --- the table ------------------------------------------------------------------------------- */

/* The slot of the name, or the free one where it belongs. There is room. */
static uint32_t *find_slot(const struct environment *e, const char *name, size_t size,
			   uint64_t hash)
{
	size_t i = hash & (e->n_slots - 1);

	for (;; i = (i + 1) & (e->n_slots - 1)) {
		const struct environment_entry *entry;

		if (!e->slots[i])
			return &e->slots[i];
		entry = &e->entries[e->slots[i] - 1];
		if (entry->hash == hash && entry->name_size == size &&
		    !memcmp(entry->name, name, size))
			return &e->slots[i];
	}
}

static struct environment_entry *find(const struct environment *e, const char *name, size_t size)
{
	const uint32_t *slot;

	if (!e->n_slots)
		return NULL;
	slot = find_slot(e, name, size, checksum_hash(name, size, e->seed));
	return *slot ? &e->entries[*slot - 1] : NULL;
}

static int grow_slots(struct environment *e, size_t n_slots)
{
	uint32_t *slots = calloc(n_slots, sizeof(*slots));
	size_t i;

	if (!slots)
		return err_begin(-ENOMEM);
	free(e->slots);
	e->slots = slots;
	e->n_slots = n_slots;
	for (i = 0; i < e->n_entries; i++) {
		const struct environment_entry *entry = &e->entries[i];

		*find_slot(e, entry->name, entry->name_size, entry->hash) = (uint32_t)i + 1;
	}
	return 0;
}

/* Room for one more entry, in the array and in the table. */
static int make_room(struct environment *e)
{
	size_t capacity = MAX(2 * e->entries_capacity, (size_t)ENTRIES_LOWEST);
	struct environment_entry *entries;

	if (e->n_entries == UINT32_MAX / 4)
		return err_begin(-ENOMEM);
	if (e->n_entries == e->entries_capacity) {
		entries = realloc(e->entries, capacity * sizeof(*entries));
		if (!entries)
			return err_begin(-ENOMEM);
		e->entries = entries;
		e->entries_capacity = capacity;
	}
	if (e->n_slots < 2 * e->entries_capacity)
		return grow_slots(e, 2 * e->entries_capacity);
	return 0;
}

/* --- steps ----------------------------------------------------------------------------------- */

static int refuse(const char *reason, const char **ret_reason)
{
	if (ret_reason)
		*ret_reason = reason;
	return ENVIRONMENT_E_BAD;
}

int environment_add(struct environment *e, const void *text, size_t size, const char **ret_reason)
{
	const char *wrong = names_check_variable(text, size);
	struct environment_entry entry = { .text = text, .size = size, .name = text };
	uint32_t *slot;
	int r;

	if (wrong)
		return refuse(wrong, ret_reason);
	r = make_room(e);
	if (r)
		return err_pass(r);
	entry.name_size = (size_t)((const char *)memchr(text, '=', size) - entry.name);
	entry.hash = checksum_hash(entry.name, entry.name_size, e->seed);
	slot = find_slot(e, entry.name, entry.name_size, entry.hash);
	if (!*slot)
		*slot = (uint32_t)++e->n_entries;
	e->entries[*slot - 1] = entry;
	return 0;
}

int environment_unset(struct environment *e, const void *name, size_t size, const char **ret_reason)
{
	const char *wrong = names_check_variable_name(name, size);
	struct environment_entry *entry;

	if (wrong)
		return refuse(wrong, ret_reason);
	entry = find(e, name, size);
	if (entry)
		entry->text = NULL;
	return 0;
}

const void *environment_get(const struct environment *e, const char *name, size_t *ret_size)
{
	const struct environment_entry *entry = find(e, name, strlen(name));

	if (!entry || !entry->text)
		return NULL;
	*ret_size = entry->size - entry->name_size - 1;
	return entry->text + entry->name_size + 1;
}

size_t environment_count(const struct environment *e)
{
	size_t i, n = 0;

	for (i = 0; i < e->n_entries; i++)
		n += e->entries[i].text != NULL;
	return n;
}

int environment_write(const struct environment *e, struct string_block *out)
{
	size_t i, bytes = 0;
	int r;

	for (i = 0; i < e->n_entries; i++)
		if (e->entries[i].text)
			bytes += e->entries[i].size + 1;
	r = string_block_reserve(out, bytes);
	for (i = 0; !r && i < e->n_entries; i++)
		if (e->entries[i].text)
			r = string_block_add(out, e->entries[i].text, e->entries[i].size);
	return err_pass(r);
}
