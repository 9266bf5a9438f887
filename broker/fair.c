/* A round of a ring is one pass over those that ran out of credit. Nodes remember the round that
 * they were last in; the ring's goes on when the first of its stale nodes belongs to the next one.
 * So it stands still while nobody is short of credit, and nothing has to be visited to give back
 * what time has healed.
 *
 * Costs are told after the fact, hence debts. They are bounded (DEBT_QUANTA), so that finding the
 * next one stays cheap, and one odd cost does not lock anybody out.
 */
#include "broker/fair.h"

#include <stddef.h>

#include "proto/base/cleanup.h"

#define DEBT_QUANTA 8

static void node_init(struct fair_node *n)
{
	*n = (struct fair_node){ 0 };
	list_init(&n->link);
}

static void ring_init(struct fair_ring *r, int64_t quantum)
{
	list_init(&r->fresh);
	list_init(&r->stale);
	r->round = 1;
	r->quantum = quantum;
}

/* Behind all others, with another quantum to be spent when its place has come round. */
static void ring_age(struct fair_ring *r, struct fair_node *n)
{
	list_remove(&n->link);
	list_append(&r->stale, &n->link);
	n->credit += r->quantum;
	n->round = r->round + 1;
}

static void ring_enter(struct fair_ring *r, struct fair_node *n)
{
	uint64_t missed = n->round < r->round ? r->round - n->round : 0;

	if (missed) {
		n->credit += (int64_t)MIN(missed, DEBT_QUANTA + 1) * r->quantum;
		n->credit = MIN(n->credit, r->quantum);
		n->round = r->round;
	}
	if (n->credit > 0)
		list_append(&r->fresh, &n->link);
	else
		ring_age(r, n);
}

/* Stays where it is. NULL: the ring is empty. */
static struct fair_node *ring_first(struct fair_ring *r)
{
	struct fair_node *n;

	while ((n = list_first(&r->fresh, struct fair_node, link))) {
		if (n->credit > 0)
			return n;
		ring_age(r, n);
	}
	while ((n = list_first(&r->stale, struct fair_node, link))) {
		r->round = MAX(r->round, n->round);
		if (n->credit > 0)
			return n;
		ring_age(r, n);
	}
	return NULL;
}

static bool ring_is_empty(const struct fair_ring *r)
{
	return list_is_empty(&r->fresh) && list_is_empty(&r->stale);
}

static void node_charge(struct fair_node *n, int64_t cost, int64_t quantum)
{
	n->credit = MAX(n->credit - MIN(cost, 2 * DEBT_QUANTA * quantum), -DEBT_QUANTA * quantum);
}

/* --- outside --------------------------------------------------------------------------------- */

void fair_queue_init(struct fair_queue *q, int64_t quantum)
{
	*q = (struct fair_queue){ 0 };
	ring_init(&q->groups, quantum);
}

bool fair_is_empty(const struct fair_queue *q)
{
	return ring_is_empty(&q->groups);
}

void fair_group_init(struct fair_group *g)
{
	*g = (struct fair_group){ 0 };
	node_init(&g->node);
	ring_init(&g->items, 0);
}

void fair_group_leave(struct fair_group *g)
{
	list_remove(&g->node.link);
	if (g->queue && g->queue->served_group == g)
		g->queue->served_group = NULL;
}

void fair_item_init(struct fair_item *i)
{
	*i = (struct fair_item){ 0 };
	node_init(&i->node);
}

void fair_add(struct fair_queue *q, struct fair_group *g, struct fair_item *i)
{
	if (fair_item_waits(i))
		return;
	g->queue = q;
	g->items.quantum = q->groups.quantum;
	i->group = g;
	ring_enter(&g->items, &i->node);
	if (!list_is_linked(&g->node.link))
		ring_enter(&q->groups, &g->node);
}

void fair_remove(struct fair_item *i)
{
	struct fair_group *g = TAKE(i->group);

	list_remove(&i->node.link); /* from whatever list it is on */
	if (g && ring_is_empty(&g->items))
		list_remove(&g->node.link);
}

void fair_queue_forget(struct fair_queue *q, const struct fair_item *i)
{
	if (q->served == i)
		q->served = NULL;
}

struct fair_item *fair_first(struct fair_queue *q)
{
	struct fair_node *n = ring_first(&q->groups);

	if (!n)
		return NULL;
	n = ring_first(&container_of(n, struct fair_group, node)->items);
	return container_of(n, struct fair_item, node);
}

struct fair_item *fair_next(struct fair_queue *q)
{
	struct fair_item *i = fair_first(q);

	q->served = NULL;
	q->served_group = i ? i->group : NULL;
	if (!i)
		return NULL;
	fair_remove(i);
	q->served = i;
	return i;
}

static void group_charge(struct fair_group *g, int64_t cost)
{
	node_charge(&g->node, cost, g->items.quantum);
}

void fair_charge(struct fair_queue *q, int64_t cost)
{
	struct fair_item *i = TAKE(q->served);
	struct fair_group *g = TAKE(q->served_group);

	if (i)
		node_charge(&i->node, cost, q->groups.quantum);
	if (g)
		group_charge(g, cost);
}

void fair_spend(struct fair_item *i, int64_t cost)
{
	node_charge(&i->node, cost, i->group->items.quantum);
	group_charge(i->group, cost);
}
