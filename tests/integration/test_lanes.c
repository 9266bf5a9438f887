/* Two lanes (P8), frame by frame as they come over the socket: answers, exits and life events go
 * ahead of a flood of output, no end overtakes its own bytes, and nothing that was overtaken is
 * lost.
 *
 * A flood is a child that writes without end to a peer that does not read, until the broker says
 * that the child is held back: then the socket is full, and so is the log. "Ahead" is counted in
 * bytes, not in time: what lay in the socket already may come first, and not much more.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/ask.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define WAIT	    30000
#define FOR_EVER    "99999999999999"
#define IN_SOCKET   524288u  /* what the socket of a client that never read may hold, and a frame */
#define IN_GROWN    6291456u /* of one that keeps up, on both sides */
#define STREAMS_MAX 8

static struct peer peer;

/* What came on the bulk lane so far, and how it was to be. */
static struct tally {
	uint64_t bytes; /* of output, all streams */
	uint64_t next[STREAMS_MAX];
	bool ended[STREAMS_MAX];
	uint64_t total[STREAMS_MAX];
	unsigned n_exited, n_closed;
	uint64_t bytes_at_exit;
} tally;

static void set_up(void)
{
	scene_begin();
	ask_greet(&peer, scene.service.socket);
}

static void tear_down(void)
{
	peer_close(&peer);
	scene_end();
}

TestSuite(lanes, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- reading --------------------------------------------------------------------------------- */

static void tally_output(const Redd__V1__Output *o)
{
	cr_assert_lt(o->stream, STREAMS_MAX);
	cr_assert_not(tally.ended[o->stream], "output behind its end");
	cr_assert_eq(o->offset, tally.next[o->stream], "offset %" PRIu64 " instead of %" PRIu64,
		     o->offset, tally.next[o->stream]);
	cr_assert_eq(o->consumed, o->data.len);
	cr_assert_gt(o->data.len, 0);
	cr_assert_not(o->has_record, "raw streams have no records");
	tally.next[o->stream] += o->data.len;
	tally.bytes += o->data.len;
}

static void tally_end(const Redd__V1__StreamEnd *e)
{
	cr_assert_lt(e->stream, STREAMS_MAX);
	cr_assert_eq(e->total, tally.next[e->stream]);
	cr_assert_not(tally.ended[e->stream]);
	tally.ended[e->stream] = true;
	tally.total[e->stream] = e->total;
}

/* Notes an event of the one subscription that there is. */
static void tally_event(const Redd__V1__Message *m)
{
	cr_assert_eq(tally.n_closed, 0, "something came behind Closed");
	switch ((int)m->body_case) {
	case REDD__V1__MESSAGE__BODY_OUTPUT:
		tally_output(m->output);
		break;
	case REDD__V1__MESSAGE__BODY_STREAM_END:
		tally_end(m->stream_end);
		break;
	case REDD__V1__MESSAGE__BODY_EXITED:
		tally.n_exited++;
		tally.bytes_at_exit = tally.bytes;
		break;
	case REDD__V1__MESSAGE__BODY_CLOSED:
		tally.n_closed++;
		break;
	default:
		cr_assert_fail("an event of an unexpected kind: %d", (int)m->body_case);
	}
}

static Redd__V1__Message *receive(void)
{
	Redd__V1__Message *m;
	int r = peer_recv(&peer, WAIT, &m);

	cr_assert_eq(r, 0, "receive: %d", r);
	return m;
}

/* Reads, noting events, until the answer to `id`. */
static Redd__V1__Message *read_answer(uint64_t id)
{
	for (;;) {
		Redd__V1__Message *m = receive();

		if (m->reply_to == id)
			return m;
		tally_event(m);
	}
}

static void read_to_closed(void)
{
	while (!tally.n_closed)
		tally_event(receive());
}

/* --- a flood --------------------------------------------------------------------------------- */

/* Spawns as the peer; returns the port's id. The answer is read, nothing else. */
static uint64_t spawn(const char *prog, const char *more)
{
	uint64_t id = ask_send(&peer, "spawn { program: \"%s\" %s }", place_prog(prog), more);
	Redd__V1__Message *m = receive();

	cr_assert_eq(m->reply_to, id, "the answer comes first");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	return m->started->port;
}

/* The flood runs, its log is full, and the peer has read none of it. */
static struct redd_port *flood_begin(void)
{
	uint64_t id = spawn("pattern", "args: \"" FOR_EVER "\" "
				       "subscribe { overflow: OVERFLOW_BLOCK }");
	struct redd_port *port;

	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_wait_held(port, 1);
	return port;
}

static void flood_end(struct redd_port *port)
{
	read_to_closed();
	cr_assert_eq(tally.n_exited, 1);
	cr_assert(tally.ended[1] && tally.ended[2]);
	scene_forget(port);
}

/* --- order ----------------------------------------------------------------------------------- */

Test(lanes, P8_a_short_life_comes_in_its_order)
{
	uint64_t port = spawn("say", "args: \"x\" args: \"1\" args: \"2\" subscribe { }");

	read_to_closed();
	cr_expect_eq(tally.n_exited, 1);
	cr_expect(tally.ended[1] && tally.ended[2]);
	cr_expect_eq(tally.total[1], 2);
	cr_expect_eq(tally.total[2], 2);
	cr_expect_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	ask(&peer, "forget { port { id: %" PRIu64 " } }", port);
}

Test(lanes, P8_nothing_follows_closed)
{
	uint64_t port = spawn("say", "args: \"x\" subscribe { }"), id;

	read_to_closed();
	id = ask_send(&peer, "ping { }");
	cr_assert_eq(receive()->reply_to, id, "a Pong is all that comes");
	id = ask_send(&peer, "unsubscribe { subscription: 1 }");
	cr_assert(ask_is_error(read_answer(id), REDD__V1__CODE__NOT_FOUND), "it is gone");
	ask(&peer, "forget { port { id: %" PRIu64 " } }", port);
}

Test(lanes, P8_an_unsubscribe_is_answered_before_its_closed)
{
	struct redd_port *port = flood_begin();
	uint64_t id = ask_send(&peer, "unsubscribe { subscription: 1 }");
	Redd__V1__Message *m = read_answer(id);

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DONE, "%s", ask_text(m));
	cr_expect_eq(tally.n_closed, 0);
	read_to_closed();
	cr_expect_lt(tally.bytes, IN_SOCKET);
	scene_kill(port);
}

/* --- ahead of a flood ------------------------------------------------------------------------ */

Test(lanes, P8_a_kill_is_not_delayed_by_a_flood_that_nobody_reads)
{
	struct redd_port *port = flood_begin();
	struct redd_waited waited;
	uint64_t id = ask_send(&peer, "signal { port { id: %" PRIu64 " } signal: 9 }",
			       redd_port_id(port));
	Redd__V1__Message *m;

	/* It is dead before the peer has read a byte. */
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, place_patience_ms(WAIT), &waited), 0);
	cr_assert_eq(waited.exit.signal, SIGKILL);
	m = read_answer(id);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "%s", ask_text(m));
	cr_expect_lt(tally.bytes, IN_SOCKET, "%" PRIu64 " bytes came before the answer",
		     tally.bytes);
	flood_end(port);
	cr_expect_lt(tally.bytes_at_exit, IN_SOCKET, "the exit came at %" PRIu64,
		     tally.bytes_at_exit);
	cr_expect_gt(tally.bytes, tally.bytes_at_exit + 200000, "what it overtook came after it");
}

Test(lanes, P8_answers_of_every_kind_overtake_a_flood)
{
	struct redd_port *port = flood_begin();
	uint64_t last = 0;

	for (int i = 0; i < 100; i++) {
		ask_send(&peer, "ping { data: \"%d\" }", i);
		last = ask_send(&peer, "inspect { port { id: %" PRIu64 " } }", redd_port_id(port));
	}
	for (uint64_t id = last - 199; id <= last; id++) {
		uint64_t before = tally.bytes;

		cr_assert_eq(read_answer(id)->reply_to, id);
		cr_expect_lt(tally.bytes - before, IN_SOCKET + 65536u);
	}
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	flood_end(port);
}

Test(lanes, P8_a_refusal_overtakes_a_flood)
{
	struct redd_port *port = flood_begin();
	Redd__V1__Message *m = read_answer(
		ask_send(&peer, "forget { port { id: %" PRIu64 " } }", redd_port_id(port)));

	cr_expect(ask_is_error(m, REDD__V1__CODE__FAILED_PRECONDITION), "%s", ask_text(m));
	cr_expect_lt(tally.bytes, IN_SOCKET);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	flood_end(port);
}

Test(lanes, P8_a_spawn_is_answered_and_its_exit_told_through_a_flood)
{
	struct redd_port *port = flood_begin();
	uint64_t id = ask_send(&peer, "spawn { program: \"%s\" args: \"5\" }", place_prog("exit"));
	Redd__V1__Message *m = read_answer(id);

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	m = read_answer(ask_send(&peer, "wait { port { spawn: %" PRIu64 " } until: CLOSED }", id));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	cr_expect_eq(m->waited->exit->code, 5);
	m = read_answer(ask_send(&peer, "forget { port { spawn: %" PRIu64 " } }", id));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_DONE, "%s", ask_text(m));
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	flood_end(port);
}

Test(lanes, P8_life_events_overtake_a_flood)
{
	Redd__V1__Message *m = ask(&peer, "watch { }");
	struct redd_port *port, *other;
	unsigned n_life = 0;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WATCHING);
	port = flood_begin();
	other = scene_shell("exit 1", NULL);
	cr_assert_eq(redd_wait(other, REDD_UNTIL_CLOSED, -1, &(struct redd_waited){ 0 }), 0);
	/* Of the flood: started; of the other one: started, exited, closed. */
	while (n_life < 4) {
		m = receive();
		if (m->body_case == REDD__V1__MESSAGE__BODY_LIFE)
			n_life++;
		else
			tally_event(m);
	}
	cr_expect_lt(tally.bytes, IN_SOCKET);
	peer_close(&peer);
	scene_forget(other);
	scene_forget(port); /* its owner went: it was killed */
}

/* --- while a flood is read ------------------------------------------------------------------- */

Test(lanes, P8_answers_come_through_a_flood_that_is_read)
{
	uint64_t id = spawn("pattern", "args: \"" FOR_EVER "\" "
				       "subscribe { overflow: OVERFLOW_BLOCK }");
	struct redd_port *port;

	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	while (tally.bytes < 2 * IN_GROWN / place_rounds(2))
		tally_event(receive());
	for (unsigned i = 0; i < place_rounds(50); i++) {
		uint64_t before = tally.bytes;

		read_answer(ask_send(&peer, "ping { }"));
		cr_expect_lt(tally.bytes - before, IN_GROWN, "%" PRIu64 " bytes before a Pong",
			     tally.bytes - before);
	}
	read_answer(ask_send(&peer, "signal { port { id: %" PRIu64 " } signal: 9 }", id));
	flood_end(port);
}

/* One connection, one that floods and one that answers: each gets its share. */
Test(lanes, P8_a_flooding_subscription_leaves_its_neighbour_a_share)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_spawn_options o = { .argv = argv, .descriptors = &in, .n_descriptors = 1 };
	struct redd_port *flood, *echo;
	struct collect c;
	char line[] = "x";

	scene.c.drop_data = true;
	scene.c.watch.credit_mode = REDD_CREDIT_NONE;
	flood = scene_prog(&scene.c, "pattern", FOR_EVER, NULL);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, IN_GROWN, WAIT), 0);
	collect_init(&c);
	echo = scene_spawn(&o, &c);
	for (unsigned i = 1; i <= 20; i++) {
		uint64_t before = collect_stream(&scene.c, 1)->next;

		cr_assert_eq(redd_write(echo, line, 1, NULL, NULL), 0);
		cr_assert_eq(collect_wait_bytes(&c, scene.r, 1, i, WAIT), 0);
		cr_expect_lt(collect_stream(&scene.c, 1)->next - before, 4 * IN_GROWN);
	}
	cr_assert_eq(redd_close(echo, 0, NULL), 0);
	cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
	cr_expect_str_eq(c.wrong, "");
	collect_deinit(&c);
	cr_assert_eq(redd_signal(flood, SIGKILL, REDD_LEADER, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	scene_forget(echo);
	scene_forget(flood);
}

/* --- lossless -------------------------------------------------------------------------------- */

Test(lanes, P8_many_half_sent_frames_lose_and_double_nothing)
{
	/* The reader takes an odd number of bytes at a time, so frames are cut at every place; its
	 * log is overwritten behind it, so what was cut must be copied out in time. */
	struct redd_port *ports[4];
	struct collect c[4];
	const char *const argv[] = { place_prog("pattern"), "2000000", "10007", NULL };
	struct redd_spawn_options o = { .argv = argv, .log_size = 65536 };

	for (int i = 0; i < 4; i++) {
		collect_init(&c[i]);
		c[i].patterned = c[i].drop_data = true;
		c[i].watch.overflow = i % 2 ? REDD_DROP : REDD_BLOCK;
		c[i].watch.credit_mode = REDD_CREDIT_NONE;
		ports[i] = scene_spawn(&o, &c[i]);
	}
	for (int i = 0; i < 4; i++) {
		const struct collect_stream *s;

		cr_assert_eq(collect_wait(&c[i], scene.r, WAIT), 0);
		s = collect_stream(&c[i], 1); /* there is none before its first event */
		cr_expect_str_eq(c[i].wrong, "", "%d: %s", i, c[i].wrong);
		cr_expect_eq(s->end.total, 2000000);
		cr_expect(i % 2 || s->end.seen == 2000000);
		collect_deinit(&c[i]);
		scene_forget(ports[i]);
	}
}

Test(lanes, P8_a_frame_cut_by_a_full_socket_outlives_its_place_in_the_log)
{
	/* The peer stops in the middle of a frame; the log moves on over those bytes (DROP). */
	uint64_t id = spawn("pattern", "args: \"8000000\" log_size: 65536 checksum: true "
				       "subscribe { overflow: OVERFLOW_DROP }");
	struct redd_port *port;
	struct redd_waited waited;
	uint64_t gaps = 0;

	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	while (!tally.n_closed) {
		Redd__V1__Message *m = receive();

		if (m->body_case == REDD__V1__MESSAGE__BODY_OUTPUT)
			cr_assert_eq(pattern_match(m->output->data.data, m->output->data.len,
						   m->output->offset),
				     m->output->data.len);
		if (m->body_case == REDD__V1__MESSAGE__BODY_GAP) {
			cr_assert_eq(m->gap->offset, tally.next[1]);
			gaps += m->gap->end - m->gap->offset;
			tally.next[1] = m->gap->end;
			continue;
		}
		tally_event(m);
	}
	cr_expect_eq(tally.total[1], 8000000);
	cr_expect_eq(tally.bytes + gaps, 8000000);
	cr_expect_gt(gaps, 0);
	scene_forget(port);
}
