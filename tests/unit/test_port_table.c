#include "broker/port_table.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/port.h"
#include "tests/lib/countdown.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

static struct port_table *table;
static const struct principal alice = { .listener = 0, .uid = 1000 };
static const struct principal bob = { .listener = 0, .uid = 1001 };
static const struct principal alice_elsewhere = { .listener = 1, .uid = 1000 };

static void init(void)
{
	table = calloc(1, sizeof(*table));
	cr_assert_eq(port_table_init(table), 0);
}

static void fini(void)
{
	struct port *p;

	while ((p = port_table_after(table, 0))) {
		port_table_remove(table, p);
		free(p);
	}
	port_table_deinit(table);
	free(table);
}

TestSuite(port_table, .timeout = 30, .init = init, .fini = fini);

/* NULL when the table is full. */
static struct port *add(const struct principal *owner, const char *name, const char *token)
{
	uint64_t id = port_table_next_id(table);
	struct port *p;

	if (!id)
		return NULL;
	p = calloc(1, sizeof(*p));
	p->id = id;
	p->owner = *owner;
	snprintf(p->options.name, sizeof(p->options.name), "%s", name);
	p->options.token_size = strlen(token);
	memcpy(p->options.token, token, strlen(token));
	list_init(&p->name_link);
	list_init(&p->token_link);
	port_table_add(table, p);
	return p;
}

static void drop(struct port *p)
{
	port_table_remove(table, p);
	free(p);
}

static struct port *named(const struct principal *owner, const char *name)
{
	return port_table_by_name(table, owner, name, strlen(name));
}

static struct port *tokened(const struct principal *owner, const char *token)
{
	return port_table_by_token(table, owner, token, strlen(token));
}

/* --- ids ------------------------------------------------------------------------------------- */

Test(port_table, S67_ids_rise_and_are_never_used_again)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < 3 * PORTS_MAX; i++) {
		struct port *p = add(&alice, "", "");

		cr_assert_gt(p->id, last);
		last = p->id;
		cr_assert_eq(port_table_by_id(table, p->id), p);
		drop(p);
		cr_assert_null(port_table_by_id(table, last));
	}
}

Test(port_table, an_id_whose_place_is_taken_is_left_out)
{
	struct port *old = add(&alice, "", "");
	uint64_t last = old->id;

	for (unsigned i = 0; i < PORTS_MAX + 10; i++) {
		struct port *p = add(&alice, "", "");

		cr_assert_gt(p->id, last);
		cr_assert_neq(p->id % PORTS_MAX, old->id % PORTS_MAX);
		last = p->id;
		drop(p);
	}
	cr_assert_eq(port_table_by_id(table, old->id), old);
	cr_assert_null(port_table_by_id(table, old->id + PORTS_MAX), "its place, not its id");
}

Test(port_table, a_full_one_says_so_and_goes_on_when_a_port_has_gone)
{
	struct port *p, *middle;
	uint64_t last;

	for (unsigned i = 0; i < PORTS_MAX; i++)
		cr_assert_not_null(add(&alice, "", ""));
	cr_assert_eq(table->n, PORTS_MAX);
	cr_assert_null(add(&alice, "", ""));
	cr_assert_null(add(&alice, "", ""));
	last = table->last_id;
	middle = port_table_by_id(table, PORTS_MAX / 2);
	cr_assert_not_null(middle);
	drop(middle);
	p = add(&alice, "", "");
	cr_assert_not_null(p);
	cr_assert_gt(p->id, last);
	cr_assert_null(add(&alice, "", ""));
}

Test(port_table, id_0_is_nobody)
{
	cr_assert_null(port_table_by_id(table, 0));
	add(&alice, "", "");
	cr_assert_null(port_table_by_id(table, 0));
	cr_assert_null(port_table_by_id(table, UINT64_MAX));
}

/* --- names and tokens ------------------------------------------------------------------------ */

Test(port_table, names_and_tokens_are_their_owners_own)
{
	struct port *a = add(&alice, "web", "t1"), *b = add(&bob, "web", "t1");

	cr_assert_eq(named(&alice, "web"), a);
	cr_assert_eq(named(&bob, "web"), b);
	cr_assert_null(named(&alice_elsewhere, "web"), "another listener is another principal");
	cr_assert_eq(tokened(&alice, "t1"), a);
	cr_assert_eq(tokened(&bob, "t1"), b);
	cr_assert_null(tokened(&alice_elsewhere, "t1"));
}

Test(port_table, a_name_is_matched_whole)
{
	struct port *p = add(&alice, "web", "abc");

	cr_assert_null(named(&alice, "we"));
	cr_assert_null(named(&alice, "webs"));
	cr_assert_null(named(&alice, ""));
	cr_assert_null(named(&alice, "abc"), "a token is no name");
	cr_assert_null(tokened(&alice, "web"));
	cr_assert_null(port_table_by_name(table, &alice, "web\0", 4));
	cr_assert_null(tokened(&alice, "ab"));
	cr_assert_eq(named(&alice, "web"), p);
}

Test(port_table, a_token_may_hold_any_bytes)
{
	struct port *p = add(&alice, "", "xxxx");

	port_table_remove(table, p);
	memcpy(p->options.token, "a\0b\xff", 4);
	port_table_add(table, p);
	cr_assert_eq(port_table_by_token(table, &alice, "a\0b\xff", 4), p);
	cr_assert_null(port_table_by_token(table, &alice, "a\0c\xff", 4));
}

Test(port_table, what_has_gone_is_not_found_and_its_name_is_free)
{
	struct port *p = add(&alice, "web", "t"), *next;

	drop(p);
	cr_assert_null(named(&alice, "web"));
	cr_assert_null(tokened(&alice, "t"));
	next = add(&alice, "web", "t");
	cr_assert_eq(named(&alice, "web"), next);
	cr_assert_eq(table->n, 1);
	port_table_remove(table, next);
	port_table_remove(table, next);
	cr_assert_eq(table->n, 0, "removed once, counted once");
	free(next);
}

/* --- order ----------------------------------------------------------------------------------- */

Test(port_table, iteration_follows_the_ids_over_holes_of_any_size)
{
	uint64_t kept[5], ids[5];
	size_t n = 0, seen = 0;
	struct port *p;

	for (unsigned i = 0; i < 4 * PORTS_MAX + 3; i++) {
		p = add(&alice, "", "");
		if (n < 4 ? i == n * (PORTS_MAX + 77) : i == 4 * PORTS_MAX + 2)
			kept[n++] = p->id;
		else
			drop(p);
	}
	cr_assert_eq(n, 5);
	port_table_for_each(p, table) ids[seen++] = p->id;
	cr_assert_eq(seen, n);
	cr_assert_arr_eq(ids, kept, sizeof(ids));
	cr_assert_eq(port_table_after(table, kept[1])->id, kept[2]);
	cr_assert_eq(port_table_after(table, kept[1] - 1)->id, kept[1]);
	cr_assert_null(port_table_after(table, kept[4]));
	cr_assert_null(port_table_after(table, UINT64_MAX));
}

Test(port_table, ports_may_go_while_they_are_gone_through)
{
	struct port *p;
	unsigned seen = 0;
	uint64_t last = 0;

	for (int i = 0; i < 100; i++)
		add(&alice, "", "");
	port_table_for_each(p, table)
	{
		struct port *next = port_table_by_id(table, p->id + 1);

		cr_assert_gt(p->id, last);
		last = p->id;
		seen++;
		if (next)
			drop(next); /* every other one is not seen any more */
	}
	cr_assert_eq(seen, 50);
	cr_assert_eq(table->n, 50);
}

/* --- against a model ------------------------------------------------------------------------- */

#define KEPT 64

static struct port *kept[KEPT]; /* in the order of their ids, NULL where one has gone */

static struct port *model_after(uint64_t id)
{
	struct port *best = NULL;

	for (int i = 0; i < KEPT; i++)
		if (kept[i] && kept[i]->id > id && (!best || kept[i]->id < best->id))
			best = kept[i];
	return best;
}

static void check_lookups(struct random *r, uint64_t newest)
{
	const struct principal *who = random_chance(r, 2) ? &alice : &bob;
	uint64_t id = random_below(r, newest + 2);
	struct port *found = NULL;
	char name[8];

	cr_assert_eq(port_table_after(table, id), model_after(id), "after %lu", id);
	snprintf(name, sizeof(name), "n%u", (unsigned)random_below(r, 40));
	for (int i = 0; i < KEPT; i++)
		if (kept[i] && principal_is_same(&kept[i]->owner, who) &&
		    !strcmp(kept[i]->options.name, name))
			found = kept[i];
	cr_assert_eq(named(who, name), found, "%s", name);
}

/* Long-lived ports beside many that come and go, so that the ids run far ahead of some. */
Test(port_table, random_lives_equal_the_model)
{
	uint64_t seed = 42, newest = 0;
	struct random r = { seed };

	for (unsigned step = 0; step < place_rounds(3000); step++) {
		int i = (int)random_below(&r, KEPT);
		const struct principal *who = random_chance(&r, 2) ? &alice : &bob;
		char name[8] = "", token[8];

		if (kept[i] && random_chance(&r, 2)) {
			drop(kept[i]);
			kept[i] = NULL;
		}
		for (uint64_t n = random_chance(&r, 100) ? random_below(&r, PORTS_MAX) : 0; n; n--)
			drop(add(&bob, "", ""));
		if (!kept[i]) {
			snprintf(name, sizeof(name), "n%u", (unsigned)random_below(&r, 40));
			snprintf(token, sizeof(token), "%u", step);
			if (named(who, name))
				*name = '\0';
			kept[i] = add(who, name, token);
			cr_assert_gt(kept[i]->id, newest);
			newest = kept[i]->id;
			cr_assert_eq(tokened(who, token), kept[i]);
		}
		check_lookups(&r, newest);
	}
}

Test(port_table, without_memory_there_is_none)
{
	struct port_table *t = calloc(1, sizeof(*t));

	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(port_table_init(t), -ENOMEM);
	cr_assert(countdown_off());
	port_table_deinit(t);
	free(t);
}
