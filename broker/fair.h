/* Who is next, when many want to be served: deficit round robin on two levels, users and below them
 * what belongs to each (connections, streams, lines of spawns). Pure: it knows of costs, not of
 * what they are spent on.
 *
 *	fair_add(&q, group, item);
 *	item = fair_next(&q);	taken out of the queue
 *	...			served, at a cost that shows only then
 *	fair_charge(&q, cost);
 *
 * Each node has credit, at most a quantum. What it costs is taken from it, below 0 too. With credit
 * it is served before those without: so who asks for little is never behind those who ask for much.
 * Who has none waits in a ring, and gets another quantum when its place comes round. Who stayed
 * away for a round has its quantum again; who leaves in debt finds it when he is back.
 *
 * Promise: as long as there is work some item is next; and while a node waits, any other of its
 * ring is served for two quanta at most, and what the last of those services cost above that.
 */
#ifndef REDD_FAIR_H
#define REDD_FAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/list.h"

/* Zeroed and fair_node_init()ed: never served. */
struct fair_node {
	struct list link;
	int64_t credit;
	uint64_t round; /* of the ring that it belongs to */
};

struct fair_ring {
	struct list fresh; /* have credit */
	struct list stale; /* have none, or waited for it */
	uint64_t round;
	int64_t quantum;
};

struct fair_queue;

struct fair_group {
	struct fair_node node; /* on its queue while it has items that wait */
	struct fair_ring items;
	struct fair_queue *queue; /* the one it was on last; NULL: none yet */
};

struct fair_item {
	struct fair_node node;
	struct fair_group *group; /* while it waits */
};

struct fair_queue {
	struct fair_ring groups;
	struct fair_item *served;	 /* what fair_next() gave; NULL: gone since */
	struct fair_group *served_group; /* the same */
};

void fair_queue_init(struct fair_queue *q, int64_t quantum);

void fair_group_init(struct fair_group *g);

/* Before its memory goes; its items must not wait. */
void fair_group_leave(struct fair_group *g);

void fair_item_init(struct fair_item *i);

static inline bool fair_item_waits(const struct fair_item *i)
{
	return list_is_linked(&i->node.link);
}

bool fair_is_empty(const struct fair_queue *q);

/* Does nothing when it waits already. A group is for one queue. */
void fair_add(struct fair_queue *q, struct fair_group *g, struct fair_item *i);

/* Takes it out of its queue; harmless when it is on none. */
void fair_remove(struct fair_item *i);

/* The next one; it stays where it is. NULL: nobody waits. */
struct fair_item *fair_first(struct fair_queue *q);

/* What it costs, while it waits. */
void fair_spend(struct fair_item *i, int64_t cost);

/* The next one, taken out of the queue, and what that has cost: it, and its group even when it is
 * gone itself. */
struct fair_item *fair_next(struct fair_queue *q);
void fair_charge(struct fair_queue *q, int64_t cost);

/* The item that fair_next() gave is about to go. */
void fair_queue_forget(struct fair_queue *q, const struct fair_item *i);

#endif
