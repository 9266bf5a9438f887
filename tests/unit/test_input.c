#include "broker/input.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/countdown.h"

static struct input in;

static void init(void)
{
	input_init(&in, 100, 50, 1000);
}

static void fini(void)
{
	input_deinit(&in, NULL, NULL);
}

TestSuite(input, .timeout = 20, .init = init, .fini = fini);

static const char bytes[5000];

static int push(size_t size, unsigned int flags, struct input_item **ret)
{
	return input_push(&in, bytes, size, flags, NULL, ret);
}

/* The next done one's offset, or -1. */
static int64_t next_done(void)
{
	_cleanup_(input_item_freep) struct input_item *item = input_next_done(&in);

	return item ? (int64_t)item->offset : -1;
}

static int64_t next_displaced(void)
{
	_cleanup_(input_item_freep) struct input_item *item = input_next_displaced(&in);

	return item ? (int64_t)item->offset : -1;
}

Test(input, is_free_and_empty_at_first)
{
	struct iovec iov[4];

	cr_assert_not(input_is_busy(&in));
	cr_assert_not(input_is_closed(&in));
	cr_assert_eq(input_iov(&in, iov, 4), 0);
	cr_assert_null(input_next_done(&in));
	cr_assert_null(input_next_displaced(&in));
	cr_assert_not(input_close_is_due(&in));
	cr_assert_eq(input_window(&in), 1000);
}

Test(input, S43_busy_at_the_high_mark_and_free_below_the_low_one)
{
	cr_assert_eq(push(99, 0, NULL), 0);
	cr_assert_not(input_is_busy(&in));
	cr_assert_eq(push(1, 0, NULL), 0);
	cr_assert(input_is_busy(&in));
	input_wrote(&in, 50);
	cr_assert(input_is_busy(&in), "at the low mark, not below it");
	input_wrote(&in, 1);
	cr_assert_not(input_is_busy(&in));
	cr_assert_eq(push(50, 0, NULL), 0);
	cr_assert_not(input_is_busy(&in), "between the marks it stays what it was");
}

Test(input, S43_a_low_mark_above_the_high_one_is_lowered_to_it)
{
	input_deinit(&in, NULL, NULL);
	input_init(&in, 10, 20, 1000);
	cr_assert_eq(push(10, 0, NULL), 0);
	cr_assert(input_is_busy(&in));
	input_wrote(&in, 1);
	cr_assert_not(input_is_busy(&in));
}

Test(input, S43_with_the_marks_off_it_is_never_busy)
{
	input_deinit(&in, NULL, NULL);
	input_init(&in, INPUT_MARKS_OFF, 1, 1000);
	cr_assert_eq(push(999, INPUT_NO_WAIT, NULL), 0);
	cr_assert_not(input_is_busy(&in));
	cr_assert_eq(push(1, INPUT_NO_WAIT, NULL), 0);
	cr_assert_eq(push(1, INPUT_NO_WAIT, NULL), INPUT_E_FULL, "the bound stays");
	cr_assert_not(input_is_busy(&in));
}

Test(input, S46_it_tells_how_many_writes_wait_and_a_close_is_none)
{
	struct input_item *item;

	cr_assert_eq(input_waiting(&in), 0);
	cr_assert_eq(push(10, 0, NULL), 0);
	cr_assert_eq(push(10, 0, NULL), 0);
	cr_assert_eq(input_waiting(&in), 2);
	cr_assert_eq(input_push_close(&in, NULL, NULL), 0);
	cr_assert_eq(input_waiting(&in), 2);
	input_wrote(&in, 15);
	cr_assert_eq(next_done(), 0);
	cr_assert_eq(input_waiting(&in), 1, "the one that has begun");
	input_wrote(&in, 5);
	cr_assert_eq(next_done(), 10);
	cr_assert_eq(input_waiting(&in), 0);
	item = input_take_close(&in);
	input_item_free(item);
	cr_assert_eq(input_waiting(&in), 0);
}

Test(input, S45_no_wait_is_refused_while_busy_and_force_is_not)
{
	cr_assert_eq(push(100, INPUT_NO_WAIT, NULL), 0);
	cr_assert_eq(push(1, INPUT_NO_WAIT, NULL), INPUT_E_BUSY);
	cr_assert_eq(push(1, 0, NULL), 0);
	cr_assert_eq(push(1, INPUT_NO_WAIT | INPUT_FORCE, NULL), 0);
	cr_assert_eq(input_queued(&in), 102);
}

Test(input, P15_past_the_bound_nothing_is_taken)
{
	cr_assert_eq(push(999, 0, NULL), 0);
	cr_assert_eq(push(2, INPUT_FORCE, NULL), INPUT_E_FULL);
	cr_assert_eq(push(1, 0, NULL), 0);
	cr_assert_eq(push(1, 0, NULL), INPUT_E_FULL);
	cr_assert_eq(push(0, 0, NULL), 0);
	cr_assert_eq(input_queued(&in), 1000);
	cr_assert_eq(push(SIZE_MAX, 0, NULL), INPUT_E_FULL);
}

Test(input, an_empty_queue_takes_one_write_of_any_size)
{
	cr_assert_eq(push(5000, 0, NULL), 0);
	cr_assert_eq(push(1, 0, NULL), INPUT_E_FULL);
	input_wrote(&in, 4999);
	cr_assert_eq(push(999, 0, NULL), 0);
	cr_assert_eq(push(1, 0, NULL), INPUT_E_FULL);
}

Test(input, P15_writes_without_data_are_bounded_too)
{
	unsigned int n = 0;

	cr_assert_eq(push(1, 0, NULL), 0);
	while (push(0, 0, NULL) == 0)
		n++;
	cr_assert_gt(n, 1000);
	cr_assert_lt(n, 10000);
}

Test(input, P9_each_write_tells_where_it_entered_and_they_never_mix)
{
	struct iovec iov[3];

	input_push(&in, "abc", 3, 0, NULL, NULL);
	input_push(&in, "", 0, 0, NULL, NULL);
	input_push(&in, "defg", 4, 0, NULL, NULL);
	input_push(&in, "hi", 2, 0, NULL, NULL);
	input_push(&in, "j", 1, 0, NULL, NULL);
	cr_assert_eq(input_iov(&in, iov, 3), 3);
	cr_assert(iov[0].iov_len == 3 && !memcmp(iov[0].iov_base, "abc", 3));
	cr_assert(iov[1].iov_len == 4 && !memcmp(iov[1].iov_base, "defg", 4));
	cr_assert(iov[2].iov_len == 2 && !memcmp(iov[2].iov_base, "hi", 2));
	input_wrote(&in, 5);
	cr_assert_eq(next_done(), 0);
	cr_assert_eq(next_done(), 3, "the one without data");
	cr_assert_eq(next_done(), -1);
	cr_assert_eq(input_iov(&in, iov, 3), 3);
	cr_assert(iov[0].iov_len == 2 && !memcmp(iov[0].iov_base, "fg", 2));
	input_wrote(&in, 5);
	cr_assert_eq(next_done(), 3);
	cr_assert_eq(next_done(), 7);
	cr_assert_eq(next_done(), 9);
	cr_assert_eq(input_offset(&in), 10);
}

Test(input, S68_offsets_are_exact_beyond_4_gib)
{
	struct input_item *item;

	in.written = (uint64_t)UINT32_MAX - 9;
	cr_assert_eq(push(20, 0, NULL), 0);
	cr_assert_eq(input_check_offset(&in, (uint64_t)UINT32_MAX + 11, 1), INPUT_OFFSET_NEXT);
	cr_assert_eq(push(20, INPUT_PINNED, &item), 0);
	input_wrote(&in, 40);
	cr_assert_eq(next_done(), (int64_t)UINT32_MAX - 9);
	cr_assert_eq(next_done(), (int64_t)UINT32_MAX + 11);
	cr_assert_eq(input_offset(&in), (uint64_t)UINT32_MAX + 31);
	cr_assert_eq(input_check_offset(&in, UINT32_MAX, 31), INPUT_OFFSET_WRITTEN);
}

Test(input, a_write_without_data_is_done_in_its_turn)
{
	push(0, 0, NULL);
	cr_assert_eq(next_done(), 0);
	push(1, 0, NULL);
	push(0, 0, NULL);
	cr_assert_eq(next_done(), -1);
	input_wrote(&in, 1);
	cr_assert_eq(next_done(), 0);
	cr_assert_eq(next_done(), 1);
}

/* --- close ----------------------------------------------------------------------------------- */

Test(input, P9_a_close_waits_for_all_before_it_and_nothing_follows)
{
	struct input_item *close;
	struct iovec iov[4];

	push(10, 0, NULL);
	cr_assert_eq(input_push_close(&in, &in, NULL), 0);
	cr_assert_eq(input_push_close(&in, NULL, NULL), INPUT_E_CLOSED);
	cr_assert_eq(push(1, 0, NULL), INPUT_E_CLOSED);
	cr_assert(input_is_closed(&in));
	cr_assert_not(input_close_is_due(&in));
	cr_assert_null(input_take_close(&in));
	cr_assert_eq(input_iov(&in, iov, 4), 1);
	input_wrote(&in, 10);
	cr_assert_not(input_close_is_due(&in), "the write before it must be answered first");
	cr_assert_eq(next_done(), 0);
	cr_assert_eq(next_done(), -1);
	cr_assert(input_close_is_due(&in));
	cr_assert_eq(input_iov(&in, iov, 4), 0);
	close = input_take_close(&in);
	cr_assert_eq(close->cookie, &in);
	cr_assert_eq(close->offset, 10);
	input_item_free(close);
	cr_assert_not(input_close_is_due(&in));
	cr_assert_eq(push(1, 0, NULL), INPUT_E_CLOSED);
	cr_assert_eq(input_push_close(&in, NULL, NULL), INPUT_E_CLOSED);
}

Test(input, a_queued_close_can_be_cancelled)
{
	struct input_item *close;

	push(10, 0, NULL);
	cr_assert_eq(input_push_close(&in, NULL, &close), 0);
	cr_assert_eq(input_cancel(&in, close), 0);
	input_item_free(close);
	cr_assert_eq(push(10, 0, NULL), 0);
}

/* --- offsets --------------------------------------------------------------------------------- */

Test(input, a_stated_offset_is_recognised)
{
	push(10, 0, NULL);
	push(20, 0, NULL);
	input_wrote(&in, 15);
	cr_assert_eq(input_check_offset(&in, 30, 5), INPUT_OFFSET_NEXT);
	cr_assert_eq(input_check_offset(&in, 0, 10), INPUT_OFFSET_WRITTEN);
	cr_assert_eq(input_check_offset(&in, 5, 10), INPUT_OFFSET_WRITTEN);
	cr_assert_eq(input_check_offset(&in, 10, 20), INPUT_OFFSET_PENDING);
	cr_assert_eq(input_check_offset(&in, 0, 30), INPUT_OFFSET_PENDING);
	cr_assert_eq(input_check_offset(&in, 15, 1), INPUT_OFFSET_PENDING);
	cr_assert_eq(input_check_offset(&in, 10, 21), INPUT_OFFSET_NEXT, "its rest");
	cr_assert_eq(input_check_offset(&in, 0, 31), INPUT_OFFSET_NEXT, "its rest");
	cr_assert_eq(input_check_offset(&in, 31, 1), INPUT_OFFSET_WRONG);
	cr_assert_eq(input_check_offset(&in, 31, 0), INPUT_OFFSET_WRONG);
	cr_assert_eq(input_check_offset(&in, UINT64_MAX, 2), INPUT_OFFSET_WRONG);
	cr_assert_eq(input_check_offset(&in, 15, 0), INPUT_OFFSET_WRITTEN);
	cr_assert_eq(input_check_offset(&in, 30, 0), INPUT_OFFSET_PENDING);
}

Test(input, P9_a_repeat_is_done_with_the_bytes_it_repeats)
{
	struct input_item *done;

	push(10, 0, NULL);
	push(20, 0, NULL);
	cr_assert_eq(input_push_echo(&in, 0, 10, &in, NULL), 0);
	input_wrote(&in, 9);
	cr_assert_eq(next_done(), -1);
	input_wrote(&in, 1);
	cr_assert_eq(next_done(), 0);
	done = input_next_done(&in);
	cr_assert_eq(done->cookie, &in);
	input_item_free(done);
	cr_assert_eq(input_queued(&in), 20);
}

Test(input, P9_later_writes_move_up_when_one_is_cancelled)
{
	struct input_item *first, *second, *third;

	push(10, 0, &first);
	push(20, 0, &second);
	push(30, 0, &third);
	input_wrote(&in, 1);
	cr_assert_eq(input_cancel(&in, first), INPUT_E_STARTED);
	cr_assert_eq(input_cancel(&in, second), 0);
	input_item_free(second);
	cr_assert_eq(third->offset, 10);
	cr_assert_eq(input_queued(&in), 39);
	input_wrote(&in, 39);
	cr_assert_eq(next_done(), 0);
	cr_assert_eq(next_done(), 10);
	cr_assert_eq(next_displaced(), -1);
}

Test(input, P9_a_promised_offset_is_refused_rather_than_changed)
{
	struct input_item *second, *last;

	push(10, 0, NULL);
	push(20, 0, &second);
	push(30, INPUT_PINNED, NULL);
	push(5, 0, &last);
	push(7, INPUT_PINNED, NULL);
	cr_assert_eq(input_cancel(&in, second), 0);
	input_item_free(second);
	cr_assert_eq(next_displaced(), 30);
	cr_assert_eq(next_displaced(), 65);
	cr_assert_eq(next_displaced(), -1);
	cr_assert_eq(last->offset, 10);
	cr_assert_eq(input_queued(&in), 15);
	cr_assert_eq(input_accepted(&in), 15);
}

Test(input, P9_repeats_of_what_was_cancelled_are_displaced)
{
	struct input_item *first;

	push(10, 0, &first);
	push(10, 0, NULL);
	cr_assert_eq(input_push_echo(&in, 0, 10, NULL, NULL), 0);
	cr_assert_eq(input_push_echo(&in, 10, 10, NULL, NULL), 0);
	cr_assert_eq(input_cancel(&in, first), 0);
	input_item_free(first);
	cr_assert_eq(next_displaced(), 10);
	cr_assert_eq(next_displaced(), 20);
	cr_assert_eq(next_displaced(), -1);
}

Test(input, cancelling_frees_a_busy_input)
{
	struct input_item *item;

	push(10, 0, NULL);
	push(200, 0, &item);
	cr_assert(input_is_busy(&in));
	cr_assert_eq(input_cancel(&in, item), 0);
	input_item_free(item);
	cr_assert_not(input_is_busy(&in));
}

/* --- end ------------------------------------------------------------------------------------- */

static void count_drop(struct input_item *item, void *userdata)
{
	unsigned int *n = userdata;

	cr_assert_not_null(item);
	++*n;
}

Test(input, whatever_is_left_in_the_end_is_dropped_once)
{
	struct input_item *first;
	unsigned int n = 0;

	push(10, 0, &first);
	push(10, INPUT_PINNED, NULL);
	push(10, 0, NULL);
	input_push_close(&in, NULL, NULL);
	input_cancel(&in, first);
	input_item_free(first);
	input_deinit(&in, count_drop, &n);
	cr_assert_eq(n, 3);
	input_deinit(&in, count_drop, &n);
	cr_assert_eq(n, 3);
}

Test(input, want_of_memory_takes_nothing)
{
	push(10, 0, NULL);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(push(1, 0, NULL), -ENOMEM);
	cr_assert(countdown_off());
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(input_push_close(&in, NULL, NULL), -ENOMEM);
	cr_assert(countdown_off());
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(input_push_echo(&in, 0, 10, NULL, NULL), -ENOMEM);
	cr_assert(countdown_off());
	cr_assert_eq(input_queued(&in), 10);
	cr_assert_not(input_is_closed(&in));
}

Test(input, a_small_write_costs_one_allocation)
{
	countdown_arm(COUNTDOWN_MALLOC, 2, ENOMEM);
	cr_assert_eq(push(10, 0, NULL), 0);
	cr_assert_not(countdown_off(), "there was no second one");
}

/* --- more than one writer -------------------------------------------------------------------- */

Test(input, P9_a_full_queue_takes_a_little_of_a_writer_that_has_nothing_there)
{
	static uint8_t flood[KIB(64)];
	struct input_item *item;
	struct input queue;
	char a, b;

	input_init(&queue, 1, 1, sizeof(flood));
	cr_assert_eq(input_push(&queue, flood, sizeof(flood), 0, NULL, &item), 0);
	item->writer = &a;
	cr_assert_eq(input_push(&queue, "x", 1, 0, NULL, NULL), INPUT_E_FULL);
	cr_assert(input_has_of(&queue, &a));
	cr_assert_not(input_has_of(&queue, &b));
	cr_assert_eq(input_push(&queue, flood, INPUT_GUEST_SIZE + 1, INPUT_GUEST, NULL, NULL),
		     INPUT_E_FULL);
	cr_assert_eq(input_push(&queue, "x", 1, INPUT_GUEST, NULL, &item), 0);
	item->writer = &b;
	cr_assert(input_has_of(&queue, &b));
	cr_assert_eq(item->offset, sizeof(flood), "in its turn, behind what was there");
	/* Of any number of writers: a bounded amount, which is free again when it is written. */
	for (unsigned i = 1; i < INPUT_GUESTS_MAX; i++)
		cr_assert_eq(input_push(&queue, flood, INPUT_GUEST_SIZE, INPUT_GUEST, NULL, NULL),
			     0);
	cr_assert_eq(input_push(&queue, "x", 1, INPUT_GUEST, NULL, NULL), INPUT_E_FULL);
	cr_assert_eq(input_cancel(&queue, item), 0);
	input_item_free(item);
	cr_assert_eq(input_push(&queue, "x", 1, INPUT_GUEST, NULL, NULL), 0);
	cr_assert_leq(input_queued(&queue), sizeof(flood) + INPUT_GUESTS_MAX * INPUT_GUEST_SIZE);
	input_deinit(&queue, NULL, NULL);
	cr_assert_eq(queue.n_guests, 0);
}
