/* Doubly linked list through a member of its elements. A link or a head is initialised with
 * list_init(); a link that is on no list points at itself, so list_remove() may be called twice.
 * The list owns nothing.
 */
#ifndef REDD_BASE_LIST_H
#define REDD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/cleanup.h"

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(name)          \
	{                        \
		&(name), &(name) \
	}

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

/* True when the link is on some list. */
static inline bool list_is_linked(const struct list *l)
{
	return l->next != l;
}

static inline void list_append(struct list *head, struct list *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static inline void list_prepend(struct list *head, struct list *link)
{
	list_append(head->next, link);
}

static inline void list_remove(struct list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

/* Moves all of `from` to the end of `to`; `from` is empty then. */
static inline void list_splice(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(link, type, member) container_of(link, type, member)

/* First element, or NULL. */
#define list_first(head, type, member) \
	(list_is_empty(head) ? NULL : list_entry((head)->next, type, member))

#define list_for_each(it, head, member)                                                     \
	for (it = list_entry((head)->next, __typeof__(*it), member); &it->member != (head); \
	     it = list_entry(it->member.next, __typeof__(*it), member))

/* The current element may be removed or freed in the body; others may not. */
#define list_for_each_safe(it, tmp, head, member)                       \
	for (it = list_entry((head)->next, __typeof__(*it), member),    \
	    tmp = list_entry(it->member.next, __typeof__(*it), member); \
	     &it->member != (head);                                     \
	     it = tmp, tmp = list_entry(it->member.next, __typeof__(*it), member))

#endif
