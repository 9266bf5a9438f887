/* Subscriptions and what is sent of them, through sockets so small that hardly a frame goes whole.
 */
#include "broker/subscription.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "broker/conn.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/stream.h"
#include "proto/base/fd.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/reader.h"

#define LOG	 RING_LOWEST
#define STALL_MS ((uint32_t)place_patience_ms(100)) /* longer than it takes to fill a log */

static struct core *core;
static struct reader_client reader;
static struct port *port;
static int child[2] = { -1, -1 };
static uint64_t written[3]; /* by stream */

static void init(void)
{
	core = core_open();
	reader_open(&reader, core);
}

static void fini(void)
{
	reader_close(&reader);
	fd_close_many(child, 2);
	core_close(core);
}

TestSuite(conn_send, .timeout = 60, .init = init, .fini = fini);

static void open_port(unsigned n_outputs)
{
	port = core_port(core, reader.conn,
			 &(struct core_port){ .n_outputs = n_outputs, .log_size = LOG }, child);
}

static struct subscription *subscribe(enum cursor_overflow overflow, struct credit credit,
				      uint32_t stall_ms)
{
	struct subscription_options o = { .overflow = overflow,
					  .credit = credit,
					  .stall_ms = stall_ms };
	struct subscription *s = NULL;
	const char *reason = NULL;

	cr_assert_eq(subscription_new(&s, reader.conn, port, &o, &reason), 0, "%s", reason);
	reader.subscriptions[s->id].may_gap = overflow == CURSOR_MAY_DROP || stall_ms;
	return s;
}

static struct subscription *subscribe_plain(enum cursor_overflow overflow)
{
	return subscribe(overflow, (struct credit){ 0 }, 0);
}

/* The child writes; what the pipe does not take is not written. Returns how much it took. */
static size_t child_write(uint32_t stream, size_t size)
{
	static uint8_t bytes[KIB(64)];
	ssize_t n;

	size = MIN(size, sizeof(bytes));
	pattern_fill(bytes, size, written[stream]);
	n = write(child[stream - 1], bytes, size);
	written[stream] += n > 0 ? (uint64_t)n : 0;
	return n > 0 ? (size_t)n : 0;
}

/* All of it, with as many turns as that takes. */
static void child_writes(uint32_t stream, size_t size)
{
	while (size) {
		size -= child_write(stream, size);
		core_turns(core, 2);
	}
	core_turns(core, 3);
}

static void child_exits(void)
{
	fd_close_many(child, 2);
	core_port_exit(core, port, 0);
}

static struct reader_stream *told(const struct subscription *s, uint32_t stream)
{
	return &reader.subscriptions[s->id].streams[stream];
}

/* --- whole streams --------------------------------------------------------------------------- */

Test(conn_send, what_arrives_is_the_stream_then_its_end_then_closed)
{
	struct reader_subscription *r;

	open_port(1);
	r = &reader.subscriptions[subscribe_plain(CURSOR_MAY_BLOCK)->id];
	while (written[1] < 10 * LOG) {
		child_write(1, 5000);
		reader_drain(&reader, core);
	}
	child_exits();
	reader_drain(&reader, core);
	cr_assert_eq(r->streams[1].data, written[1]);
	cr_assert(r->streams[1].has_ended && r->is_closed);
	cr_assert_eq(r->cause, REDD__V1__CLOSED__CAUSE__PORT_CLOSED);
	cr_assert(list_is_empty(&reader.conn->subscriptions));
	cr_assert_eq(buf_size(&reader.in), 0, "half a frame is left");
}

Test(conn_send, a_reader_that_stays_away_holds_the_pipe_and_loses_nothing)
{
	struct subscription *s;
	uint64_t before;

	open_port(1);
	s = subscribe_plain(CURSOR_MAY_BLOCK);
	for (int i = 0; i < 200; i++) {
		child_write(1, KIB(64));
		core_turns(core, 2);
	}
	cr_assert(port_stream(port, 1)->out.is_held);
	cr_assert(s->is_blocking);
	before = written[1];
	cr_assert_eq(child_write(1, 1), 0, "the pipe is full");
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->data, before);
	cr_assert(!port_stream(port, 1)->out.is_held);
	cr_assert(!s->is_blocking);
}

Test(conn_send, one_who_may_drop_gets_one_gap_in_its_place)
{
	struct subscription *s;

	open_port(1);
	s = subscribe_plain(CURSOR_MAY_DROP);
	child_writes(1, 20 * LOG);
	cr_assert(!port_stream(port, 1)->out.is_held);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->n_gaps, 1, "%u gaps", told(s, 1)->n_gaps);
	cr_assert_eq(told(s, 1)->last_cause, REDD__V1__GAP__CAUSE__SLOW);
	cr_assert_eq(told(s, 1)->next, written[1]);
	cr_assert_geq(told(s, 1)->data, LOG);
}

Test(conn_send, one_who_is_to_be_cancelled_is_closed_as_too_slow)
{
	struct reader_subscription *r;

	open_port(1);
	r = &reader.subscriptions[subscribe_plain(CURSOR_MAY_CANCEL)->id];
	child_writes(1, 20 * LOG);
	reader_drain(&reader, core);
	cr_assert(r->is_closed);
	cr_assert_eq(r->cause, REDD__V1__CLOSED__CAUSE__TOO_SLOW);
	cr_assert(!r->streams[1].has_ended);
	cr_assert(list_is_empty(&port->subscriptions));
	cr_assert_eq(port->state, PORT_RUNNING);
}

/* --- records --------------------------------------------------------------------------------- */

static struct subscription *subscribe_packets(uint32_t maximum)
{
	struct subscription_options o = { .overflow = CURSOR_MAY_BLOCK,
					  .has_framing = true,
					  .framing = { FRAMING_PACKETS, maximum, 2 } };
	struct subscription *s = NULL;
	const char *reason = NULL;

	cr_assert_eq(subscription_new(&s, reader.conn, port, &o, &reason), 0, "%s", reason);
	return s;
}

static void child_writes_header(uint32_t stream, size_t length)
{
	const uint8_t header[2] = { (uint8_t)(length >> 8), (uint8_t)length };

	while (write(child[stream - 1], header, 2) != 2) { /* the pipe is full */
		reader_take(&reader, 1000);
		core_turns(core, 2);
	}
	written[stream] += 2;
	core_turns(core, 2);
}

Test(conn_send, S35_packets_pass_whole_through_a_socket_that_takes_hardly_a_frame)
{
	const uint64_t seed = 20260722;
	struct random r = { seed };
	struct subscription *s;
	unsigned n = 0;

	open_port(1);
	s = subscribe_packets(65535);
	while (written[1] < 12 * LOG) {
		size_t size = random_below(&r, random_chance(&r, 4) ? 40000 : 50);

		child_writes_header(1, size);
		for (n++; size;) {
			size -= child_write(1, size);
			core_turns(core, 2);
			reader_take(&reader, 1 + random_below(&r, 5000));
		}
	}
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->n_records, n, "seed %lu", seed);
	cr_assert_eq(told(s, 1)->next, written[1]);
	cr_assert_eq(told(s, 1)->data, written[1] - 2 * n);
}

Test(conn_send, S40_all_in_front_of_what_is_no_packet_comes_before_the_end)
{
	struct reader_subscription *r;
	uint64_t id;

	open_port(1);
	for (int i = 0; i < 40; i++) {
		child_writes_header(1, 1000);
		child_writes(1, 1000);
	}
	child_writes_header(1, 1001);
	id = subscribe_packets(1000)->id;
	r = &reader.subscriptions[id];
	core_turns(core, 3);
	cr_assert(reader.conn->is_choked, "frames in front of the end were to be undone");
	reader_drain(&reader, core);
	cr_assert(r->is_closed);
	cr_assert_eq(r->cause, REDD__V1__CLOSED__CAUSE__BAD_RECORD);
	cr_assert_eq(r->streams[1].n_records, 40);
	cr_assert_eq(r->streams[1].next, 40 * 1002);
	cr_assert(list_is_empty(&port->subscriptions));
	cr_assert_eq(port->state, PORT_RUNNING);
}

/* --- frames that are cut --------------------------------------------------------------------- */

/* The first frame is larger than the socket: it is cut in the bytes that lie in the log. */
static struct subscription *choke(enum cursor_overflow overflow)
{
	struct subscription *s;

	open_port(1);
	child_writes(1, KIB(48));
	s = subscribe_plain(overflow);
	core_turns(core, 3);
	cr_assert(reader.conn->is_choked, "the socket took everything");
	cr_assert_gt(reader.conn->leftover.left, 0, "no frame was cut in its data");
	cr_assert_eq(reader.conn->leftover.ring, port_stream(port, 1)->out.ring);
	return s;
}

Test(conn_send, the_rest_of_a_cut_frame_stays_in_the_log_without_a_copy)
{
	struct subscription *s;

	s = choke(CURSOR_MAY_DROP);
	cr_assert_eq(buf_size(&reader.conn->leftover.copy), 0);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->data, written[1]);
	cr_assert_eq(told(s, 1)->n_gaps, 0);
}

Test(conn_send, it_is_rescued_when_the_log_overwrites_it)
{
	struct subscription *s;
	size_t left;

	s = choke(CURSOR_MAY_DROP);
	left = reader.conn->leftover.left;
	child_writes(1, 3 * LOG);
	cr_assert_eq(reader.conn->leftover.left, 0);
	cr_assert_null(reader.conn->leftover.ring);
	cr_assert_eq(buf_size(&reader.conn->leftover.copy), left);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->n_gaps, 1);
	cr_assert_eq(told(s, 1)->next, written[1]);
}

Test(conn_send, it_is_rescued_when_the_port_is_forgotten)
{
	uint64_t id;

	id = choke(CURSOR_MAY_DROP)->id;
	child_exits();
	core_until(core, port->state == PORT_ENDED);
	port_forget(port);
	cr_assert_null(reader.conn->leftover.ring);
	reader_drain(&reader, core);
	cr_assert(reader.subscriptions[id].is_closed);
	cr_assert_eq(reader.subscriptions[id].cause, REDD__V1__CLOSED__CAUSE__FORGOTTEN);
	cr_assert_eq(buf_size(&reader.in), 0, "the frame was not finished");
}

Test(conn_send, without_memory_for_the_rescue_the_connection_ends_and_nobody_else_notices)
{
	struct reader_client other = { 0 };

	choke(CURSOR_MAY_DROP);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	child_writes(1, 3 * LOG);
	cr_assert(countdown_off());
	while (reader_take(&reader, KIB(64)))
		;
	core_until(core, core->b.n_conns == 0);
	while (reader_take(&reader, KIB(64)))
		;
	cr_assert(reader.is_over);
	reader_open(&other, core);
	child_writes(1, 100);
	cr_assert_eq(port->state, PORT_RUNNING);
	reader_close(&other);
}

Test(conn_send, a_connection_that_goes_with_a_cut_frame_lets_go_of_the_log)
{
	choke(CURSOR_MAY_DROP);
	conn_close(reader.conn);
	child_writes(1, 3 * LOG);
	cr_assert_eq(port->state, PORT_RUNNING);
}

Test(conn_send, what_the_socket_did_not_take_is_not_told_and_not_paid_for)
{
	const uint64_t credit = MIB(1);
	struct subscription *s;

	open_port(2);
	s = subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, credit }, 0);
	for (int i = 0; i < 20; i++) {
		child_write(1, 3000);
		child_write(2, 3000);
		core_turns(core, 2);
	}
	cr_assert(reader.conn->is_choked);
	cr_assert_lt(s->readers[0].cursor.offset, written[1], "everything was taken");
	/* Frames that went, the cut one with them, are all that was paid for. */
	while (s->credit.left != credit - reader.subscriptions[s->id].cost)
		if (!reader_take(&reader, 64)) {
			core_turn(core);
			cr_assert_lt(reader.n_bytes, 200000, "credit is lost");
		}
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->data, written[1]);
	cr_assert_eq(told(s, 2)->data, written[2]);
	cr_assert_eq(s->credit.left, credit - reader.subscriptions[s->id].cost);
}

/* --- the two lanes --------------------------------------------------------------------------- */

Test(conn_send, an_answer_overtakes_all_but_the_frame_that_was_begun)
{
	uint64_t before;
	struct subscription *s;

	open_port(1);
	s = subscribe_plain(CURSOR_MAY_BLOCK);
	for (int i = 0; i < 40; i++) {
		child_write(1, KIB(64));
		core_turns(core, 2);
	}
	before = s->readers[0].cursor.offset; /* with the frame that was cut */
	reply_done(reader.conn, 77);
	while (!reader.n_answers) {
		reader_take(&reader, 100);
		core_turn(core);
	}
	cr_assert_eq(told(s, 1)->next, before);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->data, written[1]);
}

Test(conn_send, the_exit_is_told_ahead_of_output_that_is_on_its_way)
{
	struct reader_subscription *r;

	open_port(1);
	r = &reader.subscriptions[subscribe_plain(CURSOR_MAY_BLOCK)->id];
	for (int i = 0; i < 40; i++) {
		child_write(1, KIB(64));
		core_turns(core, 2);
	}
	child_exits();
	while (!r->has_exited) {
		reader_take(&reader, 100);
		core_turn(core);
	}
	cr_assert_lt(r->streams[1].data, written[1]);
	reader_drain(&reader, core);
	cr_assert_eq(r->streams[1].data, written[1]);
	cr_assert(r->is_closed);
}

Test(conn_send, a_client_that_is_being_left_gets_its_cut_frame_and_bye_and_no_more)
{
	struct subscription *s;
	uint64_t sent;

	s = choke(CURSOR_MAY_BLOCK);
	sent = s->readers[0].cursor.offset;
	conn_leave(reader.conn, REPLY_UNAVAILABLE, "closing time");
	reader_drain(&reader, core);
	cr_assert(reader.is_over);
	cr_assert_eq(reader.subscriptions[1].streams[1].data, sent);
	cr_assert_eq(buf_size(&reader.in), 0);
}

/* --- credit ---------------------------------------------------------------------------------- */

Test(conn_send, credit_is_spent_to_the_last_byte_and_waited_for)
{
	struct subscription *s;

	open_port(1);
	s = subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, EVENT_CREDIT }, 0);
	child_writes(1, 1000);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->data, 0, "credit for an event without data");
	subscription_give_credit(s, 1);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->data, 1);
	cr_assert_eq(s->credit.left, 0);
	subscription_give_credit(s, EVENT_CREDIT + 999);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->data, 1000);
	child_exits();
	reader_drain(&reader, core);
	cr_assert(!told(s, 1)->has_ended, "an end costs its 64");
	subscription_give_credit(s, EVENT_CREDIT);
	reader_drain(&reader, core);
	cr_assert(reader.subscriptions[1].is_closed, "Closed costs nothing");
}

/* --- stalls ---------------------------------------------------------------------------------- */

Test(conn_send, one_who_makes_no_progress_for_its_stall_time_is_moved_to_drop)
{
	struct subscription *s;

	open_port(1);
	s = subscribe(CURSOR_MAY_BLOCK, (struct credit){ 0 }, STALL_MS);
	for (int i = 0; i < 40; i++) {
		child_write(1, KIB(64));
		core_turns(core, 2);
	}
	cr_assert(s->is_blocking);
	core_until(core, s->overflow == CURSOR_MAY_DROP);
	cr_assert(!s->is_blocking);
	child_writes(1, 3 * LOG);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 1)->last_cause, REDD__V1__GAP__CAUSE__STALLED);
	cr_assert_eq(told(s, 1)->next, written[1]);
}

/* Progress on one stream must not hide that the other one is still held back. */
Test(conn_send, a_stall_is_not_forgotten_for_another_streams_progress)
{
	struct subscription *s;

	open_port(2);
	s = subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, STALL_MS);
	for (int i = 0; i < 40; i++) {
		child_write(1, KIB(64));
		core_turns(core, 2);
	}
	child_write(2, 100);
	core_turns(core, 2);
	cr_assert(port_stream(port, 1)->out.is_held);
	s->turn = 1;
	subscription_give_credit(s, EVENT_CREDIT + 100);
	core_turns(core, 2);
	reader_drain(&reader, core);
	cr_assert_eq(told(s, 2)->data, 100, "the test's credit went elsewhere");
	cr_assert(port_stream(port, 1)->out.is_held);
	core_until(core, s->overflow == CURSOR_MAY_DROP);
	cr_assert(!port_stream(port, 1)->out.is_held);
}

Test(conn_send, one_who_has_read_everything_is_not_stalled_for_another)
{
	struct subscription *slow, *quick;

	open_port(1);
	slow = subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, 0);
	quick = subscribe(CURSOR_MAY_BLOCK, (struct credit){ 0 }, STALL_MS);
	for (int i = 0; i < 40; i++) {
		child_write(1, KIB(64));
		core_turns(core, 2);
	}
	cr_assert(port_stream(port, 1)->out.is_held);
	reader_drain(&reader, core);
	cr_assert_eq(told(quick, 1)->next, stream_total(port_stream(port, 1)));
	cr_assert(!alarm_is_set(&quick->stall), "it holds nobody back");
	cr_assert(!quick->is_blocking);
	cr_assert(slow->is_blocking);
}

Test(conn_send, one_who_comes_to_a_held_stream_and_holds_it_too_is_stalled_too)
{
	struct subscription *first, *second;

	open_port(1);
	first = subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, 0);
	for (int i = 0; i < 40; i++) {
		child_write(1, KIB(64));
		core_turns(core, 2);
	}
	second = subscribe(CURSOR_MAY_BLOCK, (struct credit){ true, 0 }, STALL_MS);
	core_turn(core);
	subscription_free(first);
	cr_assert(port_stream(port, 1)->out.is_held);
	core_until(core, second->overflow == CURSOR_MAY_DROP);
	cr_assert(!port_stream(port, 1)->out.is_held);
}

/* --- asking for what is not there ------------------------------------------------------------ */

static int refused(const struct subscription_options *o)
{
	struct subscription *s = NULL;
	const char *reason = NULL;
	int r = subscription_new(&s, reader.conn, port, o, &reason);

	cr_assert_gt(r, 0);
	cr_assert_not_null(reason);
	cr_assert_null(s);
	cr_assert(list_is_empty(&port->subscriptions));
	return r;
}

Test(conn_send, wrong_streams_and_offsets_are_refused_with_a_reason)
{
	struct subscription_options o = { .overflow = CURSOR_MAY_DROP };

	open_port(2);
	child_writes(1, 100);
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
	cr_assert_eq(reader.conn->n_subscriptions, 0);
}

Test(conn_send, without_memory_there_is_no_subscription)
{
	struct subscription_options o = { .overflow = CURSOR_MAY_DROP };
	struct subscription *s = NULL;
	const char *reason = NULL;

	open_port(1);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(subscription_new(&s, reader.conn, port, &o, &reason), -ENOMEM);
	cr_assert(countdown_off());
	cr_assert(list_is_empty(&port->subscriptions));
}

/* --- any order of things --------------------------------------------------------------------- */

static void random_subscription(struct random *r)
{
	enum cursor_overflow overflow =
		(enum cursor_overflow)(CURSOR_MAY_BLOCK + random_below(r, 3));
	struct credit credit = { random_chance(r, 2), random_below(r, 5000) };

	if (reader.conn->n_subscriptions < 5 &&
	    reader.conn->last_subscription + 1 < READER_SUBSCRIPTIONS) {
		struct subscription *s = subscribe(overflow, credit, 0);

		/* It began at the beginning, which may have been dropped by then. */
		reader.subscriptions[s->id].may_gap = true;
	}
}

static void give_credit(struct random *r)
{
	struct subscription *s;

	list_for_each (s, &reader.conn->subscriptions, conn_link)
		if (random_chance(r, 2))
			subscription_give_credit(s, random_below(r, 3000));
}

static void random_step(struct random *r)
{
	switch (random_below(r, 12)) {
	case 0:
		random_subscription(r);
		break;
	case 1:
	case 2:
		give_credit(r);
		break;
	case 3:
	case 4:
	case 5:
		child_write(1 + (uint32_t)random_below(r, 2), 1 + random_below(r, KIB(32)));
		break;
	case 6:
		reply_done(reader.conn, 5);
		break;
	case 7:
		core_turn(core);
		break;
	default:
		reader_take(&reader, 1 + random_below(r, random_chance(r, 3) ? 20 : 4000));
		core_turn(core);
		break;
	}
}

/* Everybody gets credit and is read until the end. */
static void finish(void)
{
	struct subscription *s;

	child_exits();
	for (int i = 0; !list_is_empty(&reader.conn->subscriptions); i++) {
		cr_assert_lt(i, 10000, "wedged");
		list_for_each (s, &reader.conn->subscriptions, conn_link)
			if (s->state == SUBSCRIPTION_OPEN)
				subscription_give_credit(s, 100000);
		reader_drain(&reader, core);
	}
	reader_drain(&reader, core);
}

static void check_end(uint64_t seed, uint64_t n_subscriptions)
{
	for (uint64_t id = 1; id <= n_subscriptions; id++) {
		const struct reader_subscription *s = &reader.subscriptions[id];

		cr_assert(s->is_closed, "seed %lu: subscription %lu is not closed", seed, id);
		if (s->cause == REDD__V1__CLOSED__CAUSE__TOO_SLOW)
			continue;
		for (uint32_t i = 1; i <= 2; i++) {
			cr_assert(s->streams[i].has_ended, "seed %lu", seed);
			cr_assert_eq(s->streams[i].data + s->streams[i].gaps, written[i],
				     "seed %lu: subscription %lu stream %u", seed, id, i);
		}
	}
	cr_assert_eq(buf_size(&reader.in), 0, "seed %lu", seed);
}

Test(conn_send, P1_random_writes_reads_and_credit_lose_and_double_nothing)
{
	for (uint64_t seed = 1; seed <= place_rounds(60); seed++) {
		struct random r = { seed };

		memset(written, 0, sizeof(written));
		open_port(2);
		for (int step = 0; step < 1500; step++)
			random_step(&r);
		finish();
		check_end(seed, reader.conn->last_subscription);
		reader_close(&reader);
		conn_close(reader.conn);
		reader_open(&reader, core);
		core_turn(core);
		port_forget(port);
	}
}
