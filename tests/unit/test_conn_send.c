/* Subscriptions and what is sent of them, through sockets so small that hardly a frame goes whole.
 */
#include "broker/subscription.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/conn.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/stream.h"
#include "proto/base/fd.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"
#include "tests/lib/flow.h"
#include "tests/lib/random.h"
#include "tests/lib/reader.h"

TestSuite(conn_send, .timeout = 60, .init = flow_begin, .fini = flow_end);

/* --- whole streams --------------------------------------------------------------------------- */

Test(conn_send, what_arrives_is_the_stream_then_its_end_then_closed)
{
	struct reader_subscription *r;

	flow_open_port(1);
	r = &flow.reader.subscriptions[flow_subscribe_plain(CURSOR_MAY_BLOCK)->id];
	while (flow.written[1] < 10 * FLOW_LOG) {
		flow_write(1, 5000);
		reader_drain(&flow.reader, flow.core);
	}
	flow_exit();
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(r->streams[1].data, flow.written[1]);
	cr_assert(r->streams[1].has_ended && r->is_closed);
	cr_assert_eq(r->cause, REDD__V1__CLOSED__CAUSE__PORT_CLOSED);
	cr_assert(list_is_empty(&flow.reader.conn->subscriptions));
	cr_assert_eq(buf_size(&flow.reader.in), 0, "half a frame is left");
}

Test(conn_send, a_reader_that_stays_away_holds_the_pipe_and_loses_nothing)
{
	struct subscription *s;
	uint64_t before;

	flow_open_port(1);
	s = flow_subscribe_plain(CURSOR_MAY_BLOCK);
	for (int i = 0; i < 200; i++) {
		flow_write(1, KIB(64));
		core_turns(flow.core, 2);
	}
	cr_assert(port_stream(flow.port, 1)->out.is_held);
	cr_assert(s->is_blocking);
	before = flow.written[1];
	cr_assert_eq(flow_write(1, 1), 0, "the pipe is full");
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->data, before);
	cr_assert(!port_stream(flow.port, 1)->out.is_held);
	cr_assert(!s->is_blocking);
}

Test(conn_send, one_who_may_drop_gets_one_gap_in_its_place)
{
	struct subscription *s;

	flow_open_port(1);
	s = flow_subscribe_plain(CURSOR_MAY_DROP);
	flow_write_all(1, 20 * FLOW_LOG);
	cr_assert(!port_stream(flow.port, 1)->out.is_held);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->n_gaps, 1, "%u gaps", flow_told(s, 1)->n_gaps);
	cr_assert_eq(flow_told(s, 1)->last_cause, REDD__V1__GAP__CAUSE__SLOW);
	cr_assert_eq(flow_told(s, 1)->next, flow.written[1]);
	cr_assert_geq(flow_told(s, 1)->data, FLOW_LOG);
}

Test(conn_send, one_who_is_to_be_cancelled_is_closed_as_too_slow)
{
	struct reader_subscription *r;

	flow_open_port(1);
	r = &flow.reader.subscriptions[flow_subscribe_plain(CURSOR_MAY_CANCEL)->id];
	flow_write_all(1, 20 * FLOW_LOG);
	reader_drain(&flow.reader, flow.core);
	cr_assert(r->is_closed);
	cr_assert_eq(r->cause, REDD__V1__CLOSED__CAUSE__TOO_SLOW);
	cr_assert(!r->streams[1].has_ended);
	cr_assert(list_is_empty(&flow.port->subscriptions));
	cr_assert_eq(flow.port->state, PORT_RUNNING);
}

/* --- records --------------------------------------------------------------------------------- */

static struct subscription *subscribe_packets(uint32_t maximum)
{
	struct subscription_options o = { .overflow = CURSOR_MAY_BLOCK,
					  .has_framing = true,
					  .framing = { FRAMING_PACKETS, maximum, 2 } };
	struct subscription *s = NULL;
	const char *reason = NULL;

	cr_assert_eq(subscription_new(&s, flow.reader.conn, flow.port, &o, &reason), 0, "%s",
		     reason);
	return s;
}

static void child_writes_header(uint32_t stream, size_t length)
{
	const uint8_t header[2] = { (uint8_t)(length >> 8), (uint8_t)length };

	while (write(flow.child[stream - 1], header, 2) != 2) { /* the pipe is full */
		reader_take(&flow.reader, 1000);
		core_turns(flow.core, 2);
	}
	flow.written[stream] += 2;
	core_turns(flow.core, 2);
}

Test(conn_send, P1_S35_packets_pass_whole_through_a_socket_that_takes_hardly_a_frame)
{
	const uint64_t seed = 20260722;
	struct random r = { seed };
	struct subscription *s;
	unsigned n = 0;

	flow_open_port(1);
	s = subscribe_packets(65535);
	while (flow.written[1] < 12 * FLOW_LOG) {
		size_t size = random_below(&r, random_chance(&r, 4) ? 40000 : 50);

		child_writes_header(1, size);
		for (n++; size;) {
			size -= flow_write(1, size);
			core_turns(flow.core, 2);
			reader_take(&flow.reader, 1 + random_below(&r, 5000));
		}
	}
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->n_records, n, "seed %lu", seed);
	cr_assert_eq(flow_told(s, 1)->next, flow.written[1]);
	cr_assert_eq(flow_told(s, 1)->data, flow.written[1] - 2 * n);
}

Test(conn_send, P1_S40_all_in_front_of_what_is_no_packet_comes_before_the_end)
{
	struct reader_subscription *r;
	uint64_t id;

	flow_open_port(1);
	for (int i = 0; i < 40; i++) {
		child_writes_header(1, 1000);
		flow_write_all(1, 1000);
	}
	child_writes_header(1, 1001);
	id = subscribe_packets(1000)->id;
	r = &flow.reader.subscriptions[id];
	core_turns(flow.core, 3);
	cr_assert(flow.reader.conn->is_choked, "frames in front of the end were to be undone");
	reader_drain(&flow.reader, flow.core);
	cr_assert(r->is_closed);
	cr_assert_eq(r->cause, REDD__V1__CLOSED__CAUSE__BAD_RECORD);
	cr_assert_eq(r->streams[1].n_records, 40);
	cr_assert_eq(r->streams[1].next, 40 * 1002);
	cr_assert(list_is_empty(&flow.port->subscriptions));
	cr_assert_eq(flow.port->state, PORT_RUNNING);
}

/* --- frames that are cut --------------------------------------------------------------------- */

/* The first frame is larger than the socket: it is cut in the bytes that lie in the log. */
static struct subscription *choke(enum cursor_overflow overflow)
{
	struct subscription *s;

	flow_open_port(1);
	flow_write_all(1, KIB(48));
	s = flow_subscribe_plain(overflow);
	core_turns(flow.core, 3);
	cr_assert(flow.reader.conn->is_choked, "the socket took everything");
	cr_assert_gt(flow.reader.conn->leftover.left, 0, "no frame was cut in its data");
	cr_assert_eq(flow.reader.conn->leftover.ring, port_stream(flow.port, 1)->out.ring);
	return s;
}

Test(conn_send, the_rest_of_a_cut_frame_stays_in_the_log_without_a_copy)
{
	struct subscription *s;

	s = choke(CURSOR_MAY_DROP);
	cr_assert_eq(buf_size(&flow.reader.conn->leftover.copy), 0);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->data, flow.written[1]);
	cr_assert_eq(flow_told(s, 1)->n_gaps, 0);
}

Test(conn_send, it_is_rescued_when_the_log_overwrites_it)
{
	struct subscription *s;
	size_t left;

	s = choke(CURSOR_MAY_DROP);
	left = flow.reader.conn->leftover.left;
	flow_write_all(1, 3 * FLOW_LOG);
	cr_assert_eq(flow.reader.conn->leftover.left, 0);
	cr_assert_null(flow.reader.conn->leftover.ring);
	cr_assert_eq(buf_size(&flow.reader.conn->leftover.copy), left);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->n_gaps, 1);
	cr_assert_eq(flow_told(s, 1)->next, flow.written[1]);
}

Test(conn_send, it_is_rescued_when_the_port_is_forgotten)
{
	uint64_t id;

	id = choke(CURSOR_MAY_DROP)->id;
	flow_exit();
	core_until(flow.core, flow.port->state == PORT_ENDED);
	port_forget(flow.port);
	cr_assert_null(flow.reader.conn->leftover.ring);
	reader_drain(&flow.reader, flow.core);
	cr_assert(flow.reader.subscriptions[id].is_closed);
	cr_assert_eq(flow.reader.subscriptions[id].cause, REDD__V1__CLOSED__CAUSE__FORGOTTEN);
	cr_assert_eq(buf_size(&flow.reader.in), 0, "the frame was not finished");
}

Test(conn_send, without_memory_for_the_rescue_the_connection_ends_and_nobody_else_notices)
{
	struct reader_client other = { 0 };

	choke(CURSOR_MAY_DROP);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	flow_write_all(1, 3 * FLOW_LOG);
	cr_assert(countdown_off());
	while (reader_take(&flow.reader, KIB(64)))
		;
	core_until(flow.core, flow.core->b.n_conns == 0);
	while (reader_take(&flow.reader, KIB(64)))
		;
	cr_assert(flow.reader.is_over);
	reader_open(&other, flow.core);
	flow_write_all(1, 100);
	cr_assert_eq(flow.port->state, PORT_RUNNING);
	reader_close(&other);
}

Test(conn_send, a_connection_that_goes_with_a_cut_frame_lets_go_of_the_log)
{
	choke(CURSOR_MAY_DROP);
	conn_close(flow.reader.conn);
	flow_write_all(1, 3 * FLOW_LOG);
	cr_assert_eq(flow.port->state, PORT_RUNNING);
}

Test(conn_send, what_the_socket_did_not_take_is_not_told_and_not_paid_for)
{
	const uint64_t credit = MIB(1);
	struct subscription *s;

	flow_open_port(2);
	s = flow_subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, credit }, 0);
	for (int i = 0; i < 20; i++) {
		flow_write(1, 3000);
		flow_write(2, 3000);
		core_turns(flow.core, 2);
	}
	cr_assert(flow.reader.conn->is_choked);
	cr_assert_lt(s->readers[0].cursor.offset, flow.written[1], "everything was taken");
	/* Frames that went, the cut one with them, are all that was paid for. */
	while (s->credit.left != credit - flow.reader.subscriptions[s->id].cost)
		if (!reader_take(&flow.reader, 64)) {
			core_turn(flow.core);
			cr_assert_lt(flow.reader.n_bytes, 200000, "credit is lost");
		}
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->data, flow.written[1]);
	cr_assert_eq(flow_told(s, 2)->data, flow.written[2]);
	cr_assert_eq(s->credit.left, credit - flow.reader.subscriptions[s->id].cost);
}

/* What lies in the log of one would keep the connection busy for long. */
static void expect_turns_with(int size)
{
	const struct core_port large = { .n_outputs = 2, .log_size = MIB(1) };
	struct subscription_options o = { .overflow = CURSOR_MAY_BLOCK, .n_streams = 1 };
	struct subscription *much = NULL, *little = NULL;
	const char *reason = NULL;

	cr_assert_eq(setsockopt(flow.reader.conn->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)),
		     0);
	flow.port = core_port(flow.core, flow.reader.conn, &large, flow.child);
	flow_write_all(1, MIB(1));
	o.streams[0] = 1;
	cr_assert_eq(subscription_new(&much, flow.reader.conn, flow.port, &o, &reason), 0);
	o.streams[0] = 2;
	cr_assert_eq(subscription_new(&little, flow.reader.conn, flow.port, &o, &reason), 0);
	core_turns(flow.core, 3);
	cr_assert(flow.reader.conn->is_choked);
	flow_write_all(2, 100);
	while (!flow_told(little, 2)->data) {
		reader_take(&flow.reader, 1000);
		core_turn(flow.core);
	}
	cr_expect_lt(flow_told(much, 1)->data, MIB(1) / 2);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(much, 1)->data, MIB(1));
}

Test(conn_send, P8_one_that_has_much_to_tell_does_not_keep_another_waiting)
{
	expect_turns_with(CONN_SNDBUF);
}

Test(conn_send, P8_nor_where_the_socket_takes_less_than_a_frame)
{
	expect_turns_with(1);
}

/* --- the two lanes --------------------------------------------------------------------------- */

Test(conn_send, an_answer_overtakes_all_but_the_frame_that_was_begun)
{
	uint64_t before;
	struct subscription *s;

	flow_open_port(1);
	s = flow_subscribe_plain(CURSOR_MAY_BLOCK);
	flow_fill(1);
	before = s->readers[0].cursor.offset; /* with the frame that was cut */
	reply_done(flow.reader.conn, 77);
	while (!flow.reader.n_answers) {
		reader_take(&flow.reader, 100);
		core_turn(flow.core);
	}
	cr_assert_eq(flow_told(s, 1)->next, before);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(flow_told(s, 1)->data, flow.written[1]);
}

Test(conn_send, the_exit_is_told_ahead_of_output_that_is_on_its_way)
{
	struct reader_subscription *r;

	flow_open_port(1);
	r = &flow.reader.subscriptions[flow_subscribe_plain(CURSOR_MAY_BLOCK)->id];
	flow_fill(1);
	flow_exit();
	while (!r->has_exited) {
		reader_take(&flow.reader, 100);
		core_turn(flow.core);
	}
	cr_assert_lt(r->streams[1].data, flow.written[1]);
	reader_drain(&flow.reader, flow.core);
	cr_assert_eq(r->streams[1].data, flow.written[1]);
	cr_assert(r->is_closed);
}

/* With so much on the control lane no Exited is put together, and what the socket takes at once
 * would carry a Closed behind it. */
Test(conn_send, P4_closed_waits_for_an_exit_that_has_no_room_on_its_lane_yet)
{
	const struct conn *c = flow.reader.conn;
	struct reader_subscription *r;
	int size = MIB(1);

	cr_assert_eq(setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	flow_open_port(1);
	r = &flow.reader.subscriptions[flow_subscribe_plain(CURSOR_MAY_BLOCK)->id];
	fd_close_many(flow.child, 2);
	core_until(flow.core, port_outputs_are_over(flow.port));
	reader_drain(&flow.reader, flow.core);
	cr_assert(r->streams[1].has_ended);
	while (buf_size(&c->control) < KIB(96))
		reply_error(flow.reader.conn, 77, REPLY_UNAVAILABLE, 0, "%0200d", 0);
	core_port_exit(flow.core, flow.port, 0);
	reader_drain(&flow.reader, flow.core);
	cr_assert(r->has_exited);
	cr_assert(r->is_closed);
}

Test(conn_send, a_client_that_is_being_left_gets_its_cut_frame_and_bye_and_no_more)
{
	struct subscription *s;
	uint64_t sent;

	s = choke(CURSOR_MAY_BLOCK);
	sent = s->readers[0].cursor.offset;
	conn_leave(flow.reader.conn, REPLY_UNAVAILABLE, "closing time");
	reader_drain(&flow.reader, flow.core);
	cr_assert(flow.reader.is_over);
	cr_assert_eq(flow.reader.subscriptions[1].streams[1].data, sent);
	cr_assert_eq(buf_size(&flow.reader.in), 0);
}

/* --- asking for what is not there ------------------------------------------------------------ */

static int refused(const struct subscription_options *o)
{
	struct subscription *s = NULL;
	const char *reason = NULL;
	int r = subscription_new(&s, flow.reader.conn, flow.port, o, &reason);

	cr_assert_gt(r, 0);
	cr_assert_not_null(reason);
	cr_assert_null(s);
	cr_assert(list_is_empty(&flow.port->subscriptions));
	return r;
}

Test(conn_send, wrong_streams_and_offsets_are_refused_with_a_reason)
{
	struct subscription_options o = { .overflow = CURSOR_MAY_DROP };

	flow_open_port(2);
	flow_write_all(1, 100);
	o.n_streams = 1;
	o.streams[0] = 7;
	cr_assert_eq(refused(&o), SUBSCRIPTION_E_STREAM);
	o.streams[0] = 0;
	cr_assert_eq(refused(&o), SUBSCRIPTION_E_STREAM);
	o.n_streams = 2;
	o.streams[0] = o.streams[1] = 1;
	cr_assert_eq(refused(&o), SUBSCRIPTION_E_STREAM);
	o.n_streams = 1;
	o.from = CURSOR_FROM_OFFSET;
	o.n_offsets = 1;
	o.offset_streams[0] = 1;
	o.offsets[0] = 101;
	cr_assert_eq(refused(&o), SUBSCRIPTION_E_OFFSET);
	cr_assert_eq(flow.reader.conn->n_subscriptions, 0);
}

Test(conn_send, without_memory_there_is_no_subscription)
{
	struct subscription_options o = { .overflow = CURSOR_MAY_DROP };
	struct subscription *s = NULL;
	const char *reason = NULL;

	flow_open_port(1);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(subscription_new(&s, flow.reader.conn, flow.port, &o, &reason), -ENOMEM);
	cr_assert(countdown_off());
	cr_assert(list_is_empty(&flow.port->subscriptions));
}
