#include "broker/cursor.h"

#include <criterion/criterion.h>

#include "broker/ring_pool.h"

TestSuite(cursor, .timeout = 20);

static struct cursor_step next(struct cursor *c, struct cursor_view view)
{
	struct cursor_step step;

	cursor_next(c, &view, NULL, &step);
	return step;
}

static struct cursor cursor_at(uint64_t offset, enum cursor_overflow overflow, uint64_t tail)
{
	struct cursor c;

	cursor_init(&c, offset, overflow, tail);
	return c;
}

static void assert_gap(struct cursor_step s, uint64_t from, uint64_t to, enum cursor_gap cause)
{
	cr_assert_eq(s.what, CURSOR_GAP);
	cr_assert_eq(s.offset, from);
	cr_assert_eq(s.end, to);
	cr_assert_eq(s.cause, cause);
	cr_assert_eq(s.cost, EVENT_CREDIT);
}

Test(cursor, data_then_nothing_then_the_end_once)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_BLOCK, 0);
	struct cursor_view view = { .head = 10 };
	struct cursor_step s = next(&c, view);

	cr_assert_eq(s.what, CURSOR_DATA);
	cr_assert_eq(s.offset, 0);
	cr_assert_eq(s.size, 10);
	cr_assert_eq(s.cost, 10 + EVENT_CREDIT);
	cursor_sent(&c, &s, NULL);
	cr_assert_eq(next(&c, view).what, CURSOR_NOTHING);
	view.is_ended = true;
	s = next(&c, view);
	cr_assert_eq(s.what, CURSOR_END);
	cr_assert_eq(s.offset, 10, "the total");
	cursor_sent(&c, &s, NULL);
	cr_assert_eq(next(&c, view).what, CURSOR_NOTHING);
}

Test(cursor, one_event_carries_no_more_than_its_maximum)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_BLOCK, 0);

	cr_assert_eq(next(&c, (struct cursor_view){ .head = MIB(1) }).size, OUTPUT_MAX);
	cr_assert_eq(next(&c, (struct cursor_view){ .head = MIB(1), .data_max = 100 }).size, 100);
	cr_assert_eq(next(&c, (struct cursor_view){ .head = MIB(1), .data_max = MIB(1) }).size,
		     OUTPUT_MAX);
}

Test(cursor, less_than_was_offered_may_be_sent)
{
	struct credit credit = { true, 200 };
	struct cursor c = cursor_at(0, CURSOR_MAY_BLOCK, 0);
	struct cursor_step s = next(&c, (struct cursor_view){ .head = 100 });

	s.size = 30;
	cursor_sent(&c, &s, &credit);
	cr_assert_eq(c.offset, 30);
	cr_assert_eq(credit.left, 200 - 30 - EVENT_CREDIT);
}

Test(cursor, P1_a_start_before_the_log_is_a_gap_under_every_policy)
{
	for (int policy = CURSOR_MAY_BLOCK; policy <= CURSOR_MAY_CANCEL; policy++) {
		struct cursor c = cursor_at(5, (enum cursor_overflow)policy, 100);
		struct cursor_view view = { .tail = 100, .head = 150 };
		struct cursor_step s = next(&c, view);

		assert_gap(s, 5, 100, CURSOR_GAP_BEFORE_LOG);
		cursor_sent(&c, &s, NULL);
		cr_assert_eq(next(&c, view).what, CURSOR_DATA);
		cr_assert_eq(c.skipped, 95);
	}
}

Test(cursor, P1_what_was_overtaken_is_one_gap)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_DROP, 0);
	struct cursor_view view = { .tail = 40, .head = 50 };
	struct cursor_step s = next(&c, view);

	assert_gap(s, 0, 40, CURSOR_GAP_SLOW);
	view.tail = 45;
	assert_gap(next(&c, view), 0, 45, CURSOR_GAP_SLOW);
	cursor_sent(&c, &s, NULL);
	s = next(&c, view);
	assert_gap(s, 40, 45, CURSOR_GAP_SLOW);
	cursor_sent(&c, &s, NULL);
	cr_assert_eq(c.skipped, 45);
}

Test(cursor, a_subscription_that_may_be_cancelled_is_when_overtaken)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_CANCEL, 0);
	struct credit none = { .is_limited = true };
	struct cursor_view view = { .tail = 1, .head = 10 };
	struct cursor_step s;

	cursor_next(&c, &view, &none, &s);
	cr_assert_eq(s.what, CURSOR_CANCEL, "needs no credit");
}

Test(cursor, one_that_stalled_says_so_in_its_next_gap_only)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_BLOCK, 0);
	struct cursor_step s;

	cursor_stall(&c);
	cr_assert_eq(cursor_room(&c, 100, 10), UINT64_MAX);
	s = next(&c, (struct cursor_view){ .tail = 40, .head = 50 });
	assert_gap(s, 0, 40, CURSOR_GAP_STALLED);
	cursor_sent(&c, &s, NULL);
	assert_gap(next(&c, (struct cursor_view){ .tail = 60, .head = 70 }), 40, 60,
		   CURSOR_GAP_SLOW);
}

Test(cursor, P5_what_is_abandoned_in_the_pipe_is_a_gap_before_the_end)
{
	for (uint64_t left = 0; left <= 7; left += 7) {
		struct cursor c = cursor_at(0, CURSOR_MAY_DROP, 0);
		struct cursor_view view = { .head = 0, .is_ended = true, .is_abandoned = true };
		struct cursor_step s;

		view.abandoned = left;
		s = next(&c, view);
		assert_gap(s, 0, left, CURSOR_GAP_ABANDONED);
		cursor_sent(&c, &s, NULL);
		s = next(&c, view);
		cr_assert_eq(s.what, CURSOR_END);
		cr_assert_eq(s.offset, left, "what was in the pipe is a part of the stream");
	}
}

/* --- credit ---------------------------------------------------------------------------------- */

Test(cursor, P7_every_event_costs_its_data_and_a_fixed_part)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_BLOCK, 0);
	struct credit credit = { .is_limited = true, .left = EVENT_CREDIT };
	struct cursor_view view = { .head = 10 };
	struct cursor_step s;

	cursor_next(&c, &view, &credit, &s);
	cr_assert_eq(s.what, CURSOR_NO_CREDIT, "nothing but the fixed part");
	credit_add(&credit, 3);
	cursor_next(&c, &view, &credit, &s);
	cr_assert_eq(s.what, CURSOR_DATA);
	cr_assert_eq(s.size, 3);
	cursor_sent(&c, &s, &credit);
	cr_assert_eq(credit.left, 0);
	c.offset = 10;
	view.is_ended = true;
	cursor_next(&c, &view, &credit, &s);
	cr_assert_eq(s.what, CURSOR_NO_CREDIT);
	credit_add(&credit, EVENT_CREDIT);
	cursor_next(&c, &view, &credit, &s);
	cr_assert_eq(s.what, CURSOR_END);
}

Test(cursor, credit_saturates_and_none_is_no_limit)
{
	struct credit credit = { .is_limited = true, .left = UINT64_MAX - 1 };

	credit_add(&credit, 5);
	cr_assert_eq(credit.left, UINT64_MAX);
	credit.is_limited = false;
	credit.left = 0;
	cr_assert(credit_allows(&credit, UINT64_MAX));
	cr_assert(credit_allows(NULL, UINT64_MAX));
	credit_take(&credit, 100);
	cr_assert_eq(credit.left, 0);
	credit.is_limited = true;
	cr_assert_not(credit_allows(&credit, 0));
	credit.left = EVENT_CREDIT + 1;
	cr_assert(credit_allows(&credit, 1));
	cr_assert_not(credit_allows(&credit, 2));
	cr_assert_not(credit_allows(&credit, UINT64_MAX));
}

/* --- blocking -------------------------------------------------------------------------------- */

Test(cursor, only_a_blocking_one_that_is_a_full_log_behind_holds)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_BLOCK, 0);

	cr_assert_eq(cursor_room(&c, 0, 100), 100);
	cr_assert_eq(cursor_room(&c, 30, 100), 70);
	cr_assert_not(cursor_holds(&c, 99, 100));
	cr_assert(cursor_holds(&c, 100, 100));
	cr_assert(cursor_holds(&c, 1000, 100));
	c.overflow = CURSOR_MAY_DROP;
	cr_assert_not(cursor_holds(&c, 1000, 100));
	c.overflow = CURSOR_MAY_BLOCK;
	c.is_ended = true;
	cr_assert_not(cursor_holds(&c, 1000, 100));
}

Test(cursor, bytes_that_were_gone_before_it_came_hold_nothing)
{
	struct cursor c = cursor_at(0, CURSOR_MAY_BLOCK, 500);

	cr_assert_eq(cursor_room(&c, 550, 100), 50);
	cr_assert_eq(cursor_lag(&c, 550), 550);
	cr_assert_eq(cursor_lag(&c, 0), 0);
}

/* --- starting -------------------------------------------------------------------------------- */

static uint64_t start(const struct ring *r, enum cursor_from from, uint64_t value)
{
	uint64_t offset = UINT64_MAX;

	cr_assert_eq(cursor_find_start(r, from, value, &offset), 0);
	return offset;
}

Test(cursor, starts_where_it_was_asked_to)
{
	_cleanup_(ring_pool_freep) struct ring_pool *pool = NULL;
	_cleanup_(ring_freep) struct ring *r = NULL;
	uint64_t offset;

	cr_assert_eq(ring_pool_new(&pool), 0);
	cr_assert_eq(ring_new(pool, RING_LOWEST, false, &r), 0);
	ring_write(r, "one\ntwo\n", 8);
	cr_assert_eq(start(r, CURSOR_FROM_BEGINNING, 0), 0);
	cr_assert_eq(start(r, CURSOR_FROM_NOW, 0), 8);
	cr_assert_eq(start(r, CURSOR_FROM_OFFSET, 3), 3);
	cr_assert_eq(start(r, CURSOR_FROM_OFFSET, 8), 8);
	cr_assert_eq(cursor_find_start(r, CURSOR_FROM_OFFSET, 9, &offset), CURSOR_E_AHEAD);
	cr_assert_eq(start(r, CURSOR_FROM_LAST_BYTES, 3), 5);
	cr_assert_eq(start(r, CURSOR_FROM_LAST_BYTES, UINT64_MAX), 0);
	cr_assert_eq(start(r, CURSOR_FROM_LAST_LINES, 1), 4);
}

Test(cursor, starts_at_nothing_where_there_is_no_log_yet)
{
	uint64_t offset;

	for (int from = CURSOR_FROM_BEGINNING; from <= CURSOR_FROM_LAST_LINES; from++)
		cr_assert_eq(
			start(NULL, (enum cursor_from)from, from == CURSOR_FROM_OFFSET ? 0 : 7), 0);
	cr_assert_eq(cursor_find_start(NULL, CURSOR_FROM_OFFSET, 1, &offset), CURSOR_E_AHEAD);
}
