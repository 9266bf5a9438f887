/* Twice as many buckets whenever there are as many elements as buckets; it does not shrink. */
#include "broker/id_table.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/base/cleanup.h"

#define FEWEST 16u /* buckets, once there are any */

static struct id_node **bucket_of(struct id_table *t, uint64_t id)
{
	return t->buckets ? &t->buckets[id & (t->n_buckets - 1)] : &t->only;
}

static void put(struct id_table *t, struct id_node *n)
{
	struct id_node **bucket = bucket_of(t, n->id);

	n->next = *bucket;
	*bucket = n;
}

static void put_all(struct id_table *t, struct id_node *n)
{
	while (n) {
		struct id_node *next = n->next;

		put(t, n);
		n = next;
	}
}

static void grow(struct id_table *t)
{
	struct id_table larger = { .n = t->n, .n_buckets = t->buckets ? 2 * t->n_buckets : FEWEST };

	larger.buckets = calloc(larger.n_buckets, sizeof(*larger.buckets));
	if (!larger.buckets)
		return;
	put_all(&larger, t->only);
	for (size_t i = 0; i < t->n_buckets; i++)
		put_all(&larger, t->buckets[i]);
	free(t->buckets);
	*t = larger;
}

void id_table_add(struct id_table *t, struct id_node *n, uint64_t id)
{
	if (t->n == t->n_buckets)
		grow(t);
	t->n++;
	n->id = id;
	put(t, n);
}

void id_table_remove(struct id_table *t, struct id_node *n)
{
	struct id_node **at = bucket_of(t, n->id);

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	t->n--;
}

struct id_node *id_table_find(const struct id_table *t, uint64_t id)
{
	struct id_node *n = *bucket_of((struct id_table *)t, id);

	while (n && n->id != id)
		n = n->next;
	return n;
}

void id_table_deinit(struct id_table *t)
{
	assert(!t->n);
	free(TAKE(t->buckets));
	t->n_buckets = 0;
}
