/* Where two things meet in the broker: what closes while it is being cancelled, what is held back
 * by one reader and watched by another, what ends while it is still being started. Each test stands
 * for a defect that was found by reading.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/ask.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define ID(n)	(unsigned long long)(n)
#define WAIT_MS 20000

static struct service service;
static struct peer peer;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	ask_greet(&peer, service.socket);
}

static void tear_down(void)
{
	peer_close(&peer);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(review, .init = set_up, .fini = tear_down, .timeout = 60);

/* Several requests in one packet, numbered by the peer; the first one's id. */
static uint64_t send_together(const char *const *requests, size_t n)
{
	uint64_t first = peer.last_id + 1;
	struct buf out;

	buf_init(&out, 1u << 20);
	for (size_t i = 0; i < n; i++)
		ask_pack(&out, ++peer.last_id, requests[i]);
	cr_assert_eq(peer_send(&peer, buf_head(&out), buf_size(&out)), 0);
	buf_deinit(&out);
	return first;
}

static void expect_done(const Redd__V1__Message *m)
{
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DONE, "%s", ask_text(m));
}

static void forget(uint64_t port)
{
	ask(&peer, "wait { port { id: %llu } until: CLOSED }", ID(port));
	expect_done(ask(&peer, "forget { port { id: %llu } }", ID(port)));
}

/* --- inputs ---------------------------------------------------------------------------------- */

Test(review, P7_S42_a_write_that_nobody_reads_stops_nobody)
{
	uint64_t port = ask_spawn(&peer, "hang", "descriptors { fd: 0 kind: KIND_PIPE }");

	ask_send(&peer, "write { port { id: %llu } data: \"x\"*300000 }", ID(port));
	cr_assert_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	ask_end(&peer, port);
}

Test(review, P7_a_terminal_that_nobody_reads_stops_nobody)
{
	uint64_t port = ask_spawn(&peer, "hang", "terminal { }");

	for (int i = 0; i < 8; i++)
		ask_send(&peer, "write { port { id: %llu } data: \"xxxxxxxxxxxxxxx\\n\"*4000 }",
			 ID(port));
	cr_assert_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	ask_end(&peer, port);
}

Test(review, P9_a_close_that_has_begun_is_not_cancelled)
{
	uint64_t port = ask_spawn(&peer, "sink", "descriptors { fd: 0 kind: KIND_PIPE }"), first;
	char close[64], cancel[64];
	const char *const both[] = { close, cancel };
	bool is_closed = false;

	snprintf(close, sizeof(close), "close { port { id: %llu } }", ID(port));
	snprintf(cancel, sizeof(cancel), "cancel { request: %llu }", ID(peer.last_id + 1));
	first = send_together(both, 2);
	for (int i = 0; i < 2; i++) {
		Redd__V1__Message *m;

		do
			cr_assert_eq(peer_recv(&peer, WAIT_MS, &m), 0);
		while (!m->reply_to);
		if (m->reply_to == first) {
			cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_CLOSE_DONE, "%s",
				     ask_text(m));
			is_closed = true;
		} else {
			cr_expect(ask_is_error(m, is_closed ? REDD__V1__CODE__NOT_FOUND
							    : REDD__V1__CODE__FAILED_PRECONDITION),
				  "%s", ask_text(m));
		}
	}
	forget(port);
}

Test(review, P9_a_cancelled_write_with_a_close_writes_nothing)
{
	uint64_t port =
		ask_spawn(&peer, "sink", "args: \"1\" descriptors { fd: 0 kind: KIND_PIPE }");
	uint64_t full = ask_send(&peer, "write { port { id: %llu } data: \"x\"*300000 }", ID(port));
	uint64_t last =
		ask_send(&peer, "write { port { id: %llu } data: \"end\" close: true }", ID(port));
	Redd__V1__Message *m;

	(void)full;
	expect_done(ask(&peer, "cancel { request: %llu }", ID(last)));
	m = ask(&peer, "inspect { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
	cr_expect_eq(m->port_info->streams[0]->total + m->port_info->streams[0]->queued, 300000);
	/* And the input is open again. */
	m = ask(&peer, "write { port { id: %llu } data: \"y\" offset: 300001 }", ID(port));
	cr_expect(ask_is_error(m, REDD__V1__CODE__OUT_OF_RANGE), "%s", ask_text(m));
	ask_end(&peer, port);
}

/* --- outputs --------------------------------------------------------------------------------- */

Test(review, P7_an_unread_output_goes_on_when_a_reader_of_what_is_new_comes)
{
	uint64_t port =
		ask_spawn(&peer, "zeros", "args: \"1000000\" log_size: 65536 hold_unread: true");
	Redd__V1__Message *m;

	do
		m = ask(&peer, "inspect { port { id: %llu } }", ID(port));
	while (!m->port_info->streams[0]->held);
	m = ask(&peer,
		"subscribe { port { id: %llu } start { from: NOW } overflow: OVERFLOW_DROP }",
		ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	m = ask(&peer, "wait { port { id: %llu } until: CLOSED timeout_ms: 10000 }", ID(port));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	ask_end(&peer, port);
}

Test(review, P3_a_socket_ends_at_end_of_file_although_its_input_was_not_read)
{
	uint64_t port = ask_spawn(&peer, "zeros",
				  "args: \"100000\" args: \"65536\" args: \"wait\" "
				  "descriptors { fd: 0 kind: KIND_SOCKET } "
				  "descriptors { fd: 1 kind: KIND_SAME same_as: 0 }");
	Redd__V1__Message *m =
		ask(&peer, "write { port { id: %llu } data: \"0123456789\" }", ID(port));

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WRITTEN, "%s", ask_text(m));
	m = ask(&peer, "wait { port { id: %llu } until: CLOSED timeout_ms: 10000 }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	for (size_t i = 0; i < m->waited->n_streams; i++) {
		const Redd__V1__StreamInfo *s = m->waited->streams[i];

		if (s->direction != REDD__V1__DIRECTION__DIRECTION_OUTPUT || s->stream != 0)
			continue;
		cr_expect_eq(s->total, 100000);
		cr_expect_eq(s->cause, REDD__V1__STREAM_END__CAUSE__END_OF_FILE);
	}
	ask_end(&peer, port);
}

Test(review, P5_closed_names_who_held_the_last_stream)
{
	uint64_t port =
		ask_spawn(&peer, "holder", "args: \"0\" args: \"-\" drain_ms: 50 subscribe { }");
	Redd__V1__Message *m = ask_event(&peer, REDD__V1__MESSAGE__BODY_CLOSED);

	cr_assert_not_null(m);
	cr_expect_eq(m->closed->n_holders, 1);
	ask_end(&peer, port);
}

/* A service with room for one log, which is taken. */
struct narrow {
	struct service service;
	struct peer peer;
	uint64_t first; /* the port that has it */
};

static void narrow_begin(struct narrow *n)
{
	static const char *const little[] = { "--log-bytes-per-uid", "65536", NULL };

	cr_assert_eq(service_start(&n->service, &(struct service_options){ .args = little }), 0);
	ask_greet(&n->peer, n->service.socket);
	n->first = ask_spawn(&n->peer, "hang", "log_size: 65536 subscribe { }");
	cr_assert_not_null(ask_event(&n->peer, REDD__V1__MESSAGE__BODY_OUTPUT));
}

static void narrow_end(struct narrow *n)
{
	ask_end(&n->peer, n->first);
	peer_close(&n->peer);
	cr_assert_eq(service_finish(&n->service), 0);
}

Test(review, P1_an_output_without_room_for_its_log_is_told_byte_by_byte)
{
	struct narrow n;
	Redd__V1__Message *m;

	narrow_begin(&n);
	/* It is told that nobody reads, by SIGPIPE, instead of being left to wait. */
	ask_spawn(&n.peer, "zeros",
		  "args: \"1000000\" log_size: 65536 retention_ms: 0 subscribe { }");
	m = ask_event(&n.peer, REDD__V1__MESSAGE__BODY_GAP);
	cr_assert_not_null(m);
	cr_expect_eq(m->gap->cause, REDD__V1__GAP__CAUSE__ABANDONED);
	cr_expect_gt(m->gap->end, 4095);
	cr_assert_not_null(ask_event(&n.peer, REDD__V1__MESSAGE__BODY_EXITED));
	narrow_end(&n);
}

Test(review, P1_what_could_not_be_kept_is_a_gap_of_its_size)
{
	struct narrow n;
	Redd__V1__Message *m;

	narrow_begin(&n);
	ask_spawn(&n.peer, "zeros",
		  "args: \"1000\" log_size: 65536 retention_ms: 0 subscribe { streams: 1 }");
	m = ask_event(&n.peer, REDD__V1__MESSAGE__BODY_GAP);
	cr_assert_not_null(m);
	cr_expect_eq(m->gap->offset, 0);
	cr_expect_eq(m->gap->end, 1000);
	m = ask_event(&n.peer, REDD__V1__MESSAGE__BODY_STREAM_END);
	cr_assert_not_null(m);
	cr_expect_eq(m->stream_end->total, 1000);
	narrow_end(&n);
}

/* The subscription of that id in what Inspect says of the port. */
static const Redd__V1__SubscriptionInfo *inspect(uint64_t port, uint64_t subscription)
{
	Redd__V1__Message *m = ask(&peer, "inspect { port { id: %llu } }", ID(port));

	for (size_t i = 0; i < m->port_info->n_subscriptions; i++)
		if (m->port_info->subscriptions[i]->subscription == subscription)
			return m->port_info->subscriptions[i];
	cr_assert(false, "subscription %llu has gone", ID(subscription));
	return NULL;
}

Test(review, P7_who_has_caught_up_is_not_stalled_by_who_has_not)
{
	uint64_t port = ask_spawn(&peer, "zeros",
				  "args: \"1000000\" log_size: 65536 subscribe { credit: 0 "
				  "overflow: OVERFLOW_BLOCK }");
	Redd__V1__Message *m =
		ask(&peer, "subscribe { port { id: %llu } overflow: OVERFLOW_BLOCK stall_ms: 100 }",
		    ID(port));
	uint64_t quick = m->subscribed->subscription;
	const Redd__V1__SubscriptionInfo *info;

	ask(&peer, "wait { port { id: %llu } timeout_ms: 500 }", ID(port));
	info = inspect(port, quick);
	cr_expect_eq(info->overflow, REDD__V1__OVERFLOW__OVERFLOW_BLOCK);
	cr_expect_not(info->blocking);
	expect_done(ask(&peer, "unsubscribe { subscription: 1 }"));
	ask_end(&peer, port);
}

Test(review, P7_who_asks_for_no_more_holds_nobody_back)
{
	uint64_t port = ask_spawn(&peer, "zeros",
				  "args: \"1000000\" log_size: 65536 subscribe { credit: 0 "
				  "overflow: OVERFLOW_BLOCK }");
	Redd__V1__Message *m;

	do
		m = ask(&peer, "inspect { port { id: %llu } }", ID(port));
	while (!m->port_info->streams[0]->held);
	expect_done(ask(&peer, "unsubscribe { subscription: 1 }"));
	m = ask(&peer, "wait { port { id: %llu } until: CLOSED timeout_ms: 10000 }", ID(port));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	ask_end(&peer, port);
}

Test(review, an_offset_that_a_spawn_cannot_have_is_out_of_range)
{
	Redd__V1__Message *m = ask(&peer,
				   "spawn { program: \"%s\" subscribe { start { from: OFFSET "
				   "offsets { stream: 1 offset: 5 } } } }",
				   place_prog("exit"));

	cr_expect(ask_is_error(m, REDD__V1__CODE__OUT_OF_RANGE), "%s", ask_text(m));
}

/* --- time limits ----------------------------------------------------------------------------- */

Test(review, the_grace_is_that_of_the_tree_not_of_the_leader)
{
	Redd__V1__Message *m =
		ask(&peer,
		    "spawn { shell: \"%s 15 & wait\" timeout_ms: 200 timeout_grace_ms: 300 "
		    "drain_ms: 4294967295 }",
		    place_prog("hang"));
	uint64_t port = m->started->port;

	m = ask(&peer, "wait { port { id: %llu } until: CLOSED timeout_ms: 10000 }", ID(port));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	ask_end(&peer, port);
}

Test(review, a_time_limit_signals_once)
{
	Redd__V1__Message *m =
		ask(&peer, "spawn { shell: \"trap 'echo signalled' TERM; while :; do sleep 0.1; "
			   "done\" timeout_ms: 300 timeout_grace_ms: 1000 }");
	uint64_t port = m->started->port;

	m = ask(&peer, "wait { port { id: %llu } until: CLOSED }", ID(port));
	for (size_t i = 0; i < m->waited->n_streams; i++)
		if (m->waited->streams[i]->stream == 1)
			cr_expect_eq(m->waited->streams[i]->total, strlen("signalled\n"));
	ask_end(&peer, port);
}

/* --- connections ----------------------------------------------------------------------------- */

Test(review, P15_a_connection_too_many_is_told_why)
{
	static const char *const few[] = { "--connections-per-uid", "2", NULL };
	struct service small;
	struct peer peers[3];
	Redd__V1__Message *m;

	cr_assert_eq(service_start(&small, &(struct service_options){ .args = few }), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(peer_open(&peers[i], small.socket), 0);
	cr_assert_eq(peer_hello(&peers[0]), 0);
	cr_assert_eq(peer_hello(&peers[1]), 0);
	cr_assert_eq(peer_recv(&peers[2], WAIT_MS, &m), 0);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_BYE);
	cr_expect_eq(m->bye->error->code, REDD__V1__CODE__RESOURCE_EXHAUSTED, "%s", ask_text(m));
	for (int i = 0; i < 3; i++)
		peer_close(&peers[i]);
	cr_assert_eq(service_finish(&small), 0);
}

Test(review, a_client_that_says_no_more_still_gets_its_answers)
{
	uint64_t port = ask_spawn(&peer, "hang", "retention_ms: 0"), waits;
	Redd__V1__Message *m;

	waits = ask_send(&peer, "wait { port { id: %llu } timeout_ms: 200 }", ID(port));
	cr_assert_eq(shutdown(peer.fd, SHUT_WR), 0);
	m = ask_answer(&peer, waits);
	cr_expect(ask_is_error(m, REDD__V1__CODE__DEADLINE_EXCEEDED), "%s", ask_text(m));
}

Test(review, an_idle_service_ends_when_its_last_port_is_forgotten)
{
	static const char *const soon[] = { "--idle-exit", "1", NULL };
	struct service idle;
	struct peer other;

	cr_assert_eq(service_start(&idle, &(struct service_options){ .args = soon }), 0);
	ask_greet(&other, idle.socket);
	ask_spawn(&other, "exit", "retention_ms: 1500 orphan: ORPHAN_KEEP");
	peer_close(&other);
	cr_assert_eq(service_ended(&idle), 0);
}

/* --- shutting down --------------------------------------------------------------------------- */

Test(review, P3_a_shutdown_ends_what_still_flows_and_says_so)
{
	struct service doomed;
	struct peer other;
	Redd__V1__Message *m;
	unsigned n_ends = 0;

	cr_assert_eq(service_start(&doomed, NULL), 0);
	ask_greet(&other, doomed.socket);
	ask_spawn(&other, "holder", "args: \"0\" args: \"-\" drain_ms: 4294967295 subscribe { }");
	cr_assert_not_null(ask_event(&other, REDD__V1__MESSAGE__BODY_EXITED));
	ask_send(&other, "shutdown { drain_ms: 100 }");
	while (peer_recv(&other, WAIT_MS, &m) == 0 && m->body_case != REDD__V1__MESSAGE__BODY_BYE)
		n_ends += m->body_case == REDD__V1__MESSAGE__BODY_STREAM_END;
	cr_expect_eq(n_ends, 2);
	peer_close(&other);
	cr_assert_eq(service_ended(&doomed), 0);
}

Test(review, P11_a_shutdown_leaves_nothing_of_what_is_being_started)
{
	struct service doomed;
	struct buf out;

	buf_init(&out, 1u << 20);
	cr_assert_eq(service_start(&doomed, NULL), 0);
	ask_pack(&out, 1, "hello { }");
	for (uint64_t i = 0; i < place_rounds(100); i++) {
		char text[4200];

		snprintf(text, sizeof(text), "spawn { program: \"%s\" orphan: ORPHAN_KEEP }",
			 place_prog("hang"));
		ask_pack(&out, 2 + i, text);
	}
	ask_pack(&out, 1000, "shutdown { drain_ms: 0 }");
	peer_close(&peer);
	cr_assert_eq(peer_open(&peer, doomed.socket), 0);
	cr_assert_eq(peer_send(&peer, buf_head(&out), buf_size(&out)), 0);
	buf_deinit(&out);
	cr_assert_eq(service_ended(&doomed), 0);
}
