/* Which of many that only go on is furthest behind: a heap of the places where each was last seen.
 * Pure, and through the nodes: nothing is allocated, and a node is on one heap at most.
 *
 * Who moves need not say so at once, as a place that is too old only makes its owner be looked at:
 *
 *	while ((n = slowest_first(&all)) && where_is(n) != n->at)
 *		slowest_move(&all, n, where_is(n));
 *
 * Adding and looking take one step; moving and removing about log2(n), over all of them together.
 */
#ifndef REDD_SLOWEST_H
#define REDD_SLOWEST_H

#include <stddef.h>
#include <stdint.h>

struct slowest_node {
	struct slowest_node *child, *next, *prev; /* prev: of the first child its parent */
	uint64_t at;
};

/* Zeroed they are empty, and on no heap. */
struct slowest {
	struct slowest_node *first;
};

/* Not while it is on one. */
void slowest_add(struct slowest *s, struct slowest_node *n, uint64_t at);

/* Harmless when it is on none. */
void slowest_remove(struct slowest *s, struct slowest_node *n);

/* It is on the heap, and was seen at another place. */
void slowest_move(struct slowest *s, struct slowest_node *n, uint64_t at);

/* NULL: there is none. */
static inline struct slowest_node *slowest_first(const struct slowest *s)
{
	return s->first;
}

#endif
