/* A pairing heap: each node is before all of its children, and who is taken out leaves them melded
 * in pairs. No recursion, as one that was built in order is as deep as it has nodes.
 */
#include "broker/slowest.h"

/* Both are without siblings, or NULL. */
static struct slowest_node *meld(struct slowest_node *a, struct slowest_node *b)
{
	struct slowest_node *first = a, *second = b;

	if (!a || !b)
		return a ? a : b;
	if (b->at < a->at) {
		first = b;
		second = a;
	}
	second->prev = first;
	second->next = first->child;
	if (second->next)
		second->next->prev = second;
	first->child = second;
	return first;
}

static struct slowest_node *alone(struct slowest_node *n)
{
	if (n)
		n->prev = n->next = NULL;
	return n;
}

/* Pairs from the left, then all of those from the right. */
static struct slowest_node *meld_all(struct slowest_node *n)
{
	struct slowest_node *pairs = NULL, *first = NULL;

	while (n) {
		struct slowest_node *a = n, *b = n->next;

		n = b ? b->next : NULL;
		a = meld(alone(a), alone(b));
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct slowest_node *next = pairs->next;

		first = meld(first, alone(pairs));
		pairs = next;
	}
	return first;
}

void slowest_add(struct slowest *s, struct slowest_node *n, uint64_t at)
{
	*n = (struct slowest_node){ .at = at };
	s->first = meld(s->first, n);
}

void slowest_remove(struct slowest *s, struct slowest_node *n)
{
	struct slowest_node *children = n->child;

	if (s->first == n) {
		s->first = NULL;
	} else if (!n->prev) {
		return;
	} else {
		if (n->prev->child == n)
			n->prev->child = n->next;
		else
			n->prev->next = n->next;
		if (n->next)
			n->next->prev = n->prev;
	}
	*n = (struct slowest_node){ .at = n->at };
	s->first = meld(s->first, meld_all(children));
}

void slowest_move(struct slowest *s, struct slowest_node *n, uint64_t at)
{
	slowest_remove(s, n);
	slowest_add(s, n, at);
}
