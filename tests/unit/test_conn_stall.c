/* Subscriptions that are not sent everything at once: credit, and who is found to hold the child
 * back for longer than it may. */
#include "broker/subscription.h"

#include <criterion/criterion.h>

#include "broker/conn.h"
#include "broker/port.h"
#include "broker/stream.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/core.h"
#include "tests/lib/flow.h"
#include "tests/lib/places.h"
#include "tests/lib/reader.h"

#define STALL_MS ((uint32_t)place_span_ms(100)) /* longer than it takes to fill a log */

TestSuite(conn_stall, .timeout = 60, .init = flow_begin, .fini = flow_end);

/* --- credit ---------------------------------------------------------------------------------- */

Test(conn_stall, credit_is_spent_to_the_last_byte_and_waited_for)
{
	struct subscription *s;

	flow_open_port(1);
	s = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, EVENT_CREDIT }, 0);
	flow_write_all(1, 1000);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->data, 0, "credit for an event without data");
	subscription_give_credit(s, 1);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->data, 1);
	cr_assert_eq(s->credit.left, 0);
	subscription_give_credit(s, EVENT_CREDIT + 999);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->data, 1000);
	flow_exit();
	reader_drain(&flow.reader, flow.core);
	cr_assert(!flow_told(s, 1)->has_ended, "an end costs its 64");
	subscription_give_credit(s, EVENT_CREDIT);
	reader_drain(&flow.reader, flow.core);
	cr_assert(flow.reader.subscriptions[1].is_closed, "Closed costs nothing");
}

/* --- stalls ---------------------------------------------------------------------------------- */

Test(conn_stall, one_who_makes_no_progress_for_its_stall_time_is_moved_to_drop)
{
	struct subscription *s;

	flow_open_port(1);
	s = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ 0 }, STALL_MS);
	flow_fill(1);
	cr_assert(s->is_blocking);
	core_until(flow.core, s->overflow == CURSOR_MAY_DROP);
	cr_assert(!s->is_blocking);
	flow_write_all(1, 3 * FLOW_LOG);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->last_cause, REDD__V1__GAP__CAUSE__STALLED);
	cr_assert_eq(flow_told(s, 1)->next, flow.written[1]);
}

/* Too little at a time for the child to go on, but never nothing for so long. */
Test(conn_stall, P7_a_little_progress_is_progress_while_the_child_is_still_held_back)
{
	struct subscription *s;
	struct stream *held;

	flow_open_port(1);
	s = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, STALL_MS);
	flow_fill(1);
	held = port_stream(flow.port, 1);
	for (int i = 0; i < 8; i++) {
		uint64_t until = uv_hrtime() + STALL_MS / 4 * 1000000ull;

		subscription_give_credit(s, EVENT_CREDIT + 10);
		core_until(flow.core, (reader_take(&flow.reader, 1000), uv_hrtime() >= until));
		cr_assert_eq(s->overflow, CURSOR_MAY_BLOCK, "moved after step %d", i);
		cr_assert(held->out.is_held, "the test's steps are too large");
	}
	cr_assert_eq(flow_told(s, 1)->data, 80);
	core_until(flow.core, s->overflow == CURSOR_MAY_DROP);
}

/* Progress on one stream must not hide that the other one is still held back. */
Test(conn_stall, a_stall_is_not_forgotten_for_another_streams_progress)
{
	struct subscription *s;

	flow_open_port(2);
	s = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, STALL_MS);
	flow_fill(1);
	flow_write(2, 100);
	core_turns(flow.core, 2);
	cr_assert(port_stream(flow.port, 1)->out.is_held);
	s->turn = 1;
	subscription_give_credit(s, EVENT_CREDIT + 100);
	core_turns(flow.core, 2);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 2)->data, 100, "the test's credit went elsewhere");
	cr_assert(port_stream(flow.port, 1)->out.is_held);
	core_until(flow.core, s->overflow == CURSOR_MAY_DROP);
	cr_assert(!port_stream(flow.port, 1)->out.is_held);
}

Test(conn_stall, one_who_has_read_everything_is_not_stalled_for_another)
{
	struct subscription *slow, *quick;

	flow_open_port(1);
	slow = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, 0);
	quick = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ 0 }, STALL_MS);
	flow_fill(1);
	cr_assert(port_stream(flow.port, 1)->out.is_held);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(quick, 1)->next, stream_total(port_stream(flow.port, 1)));
	cr_assert(!alarm_is_set(&quick->stall), "it holds nobody back");
	cr_assert(!quick->is_blocking);
	cr_assert(slow->is_blocking);
}

Test(conn_stall, one_who_comes_to_a_held_stream_and_holds_it_too_is_stalled_too)
{
	struct subscription *first, *second;

	flow_open_port(1);
	first = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, 0);
	flow_fill(1);
	second = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, STALL_MS);
	core_turn(flow.core);
	subscription_free(first);
	cr_assert(port_stream(flow.port, 1)->out.is_held);
	core_until(flow.core, second->overflow == CURSOR_MAY_DROP);
	cr_assert(!port_stream(flow.port, 1)->out.is_held);
}
