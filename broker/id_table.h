/* Finds things by a number that is theirs alone: a hash table through its elements.
 *
 *	struct id_node *n = id_table_find(&t, id);
 *	struct thing *thing = n ? container_of(n, struct thing, node) : NULL;
 *
 * The numbers are ours, counted up, so that their low bits are spread as they are.
 */
#ifndef REDD_ID_TABLE_H
#define REDD_ID_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct id_node {
	struct id_node *next;
	uint64_t id;
};

/* Zeroed it is empty. */
struct id_table {
	struct id_node **buckets; /* NULL: there is one, `only` */
	struct id_node *only;
	size_t n, n_buckets;
};

/* Never fails: without memory to grow it is only slower. */
void id_table_add(struct id_table *t, struct id_node *n, uint64_t id);

/* It is in the table. */
void id_table_remove(struct id_table *t, struct id_node *n);

/* NULL: there is none. */
struct id_node *id_table_find(const struct id_table *t, uint64_t id);

/* It must be empty. */
void id_table_deinit(struct id_table *t);

#endif
