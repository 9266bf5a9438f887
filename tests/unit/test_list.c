#include "proto/base/list.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct item {
	char name;
	struct list link;
};

TestSuite(list, .timeout = 10);

static struct item a = { 'a', LIST_INIT(a.link) }, b = { 'b', LIST_INIT(b.link) },
		   c = { 'c', LIST_INIT(c.link) };

/* The names forward, then backward: both directions must agree. */
static const char *names(struct list *head)
{
	static char text[64];
	size_t n = 0;
	struct item *it;

	list_for_each (it, head, link)
		text[n++] = it->name;
	text[n++] = ' ';
	for (struct list *l = head->prev; l != head; l = l->prev)
		text[n++] = list_entry(l, struct item, link)->name;
	text[n] = '\0';
	return text;
}

Test(list, keeps_the_order_of_append_and_prepend)
{
	struct list head = LIST_INIT(head);

	cr_assert(list_is_empty(&head));
	cr_assert_null(list_first(&head, struct item, link));
	list_append(&head, &b.link);
	list_append(&head, &c.link);
	list_prepend(&head, &a.link);
	cr_assert_str_eq(names(&head), "abc cba");
	cr_assert_eq(list_first(&head, struct item, link), &a);
	cr_assert_not(list_is_empty(&head));
}

Test(list, a_link_may_be_removed_twice_and_used_again)
{
	struct list head = LIST_INIT(head);

	list_append(&head, &a.link);
	list_append(&head, &b.link);
	cr_assert(list_is_linked(&a.link));
	list_remove(&a.link);
	list_remove(&a.link);
	cr_assert_not(list_is_linked(&a.link));
	cr_assert_str_eq(names(&head), "b b");
	list_append(&head, &a.link);
	cr_assert_str_eq(names(&head), "ba ab");
}

Test(list, splice_moves_all_to_the_end)
{
	struct list to = LIST_INIT(to), from = LIST_INIT(from);

	list_splice(&to, &from);
	cr_assert_str_eq(names(&to), " ");
	list_append(&from, &b.link);
	list_append(&from, &c.link);
	list_splice(&to, &from);
	cr_assert_str_eq(names(&to), "bc cb");
	cr_assert(list_is_empty(&from));
	list_append(&from, &a.link);
	list_splice(&to, &from);
	cr_assert_str_eq(names(&to), "bca acb");
}

Test(list, the_current_element_may_go_in_a_safe_walk)
{
	struct list head = LIST_INIT(head);
	struct item *it, *next;
	int n = 0;

	list_append(&head, &a.link);
	list_append(&head, &b.link);
	list_append(&head, &c.link);
	list_for_each_safe (it, next, &head, link) {
		list_remove(&it->link);
		memset(it, 0x5a, sizeof(*it));
		n++;
	}
	cr_assert_eq(n, 3);
	cr_assert(list_is_empty(&head));
}
