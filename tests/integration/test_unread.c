/* Clients that do not read: what they are sent piles up nowhere (P7). The broker's memory stays
 * within what the quota says, neighbours do not notice, and only who has the right to block holds
 * a child back, and only its own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define READERS_MAX 300
#define NOTICED_MS  250 /* a neighbour's usual round trip takes less than one */

static struct service service;
static struct neighbour neighbour;
static struct peer peer;
static struct peer readers[READERS_MAX];

static void set_up_with(const char *const *args)
{
	const struct service_options o = { .args = args };

	cr_assert_eq(service_start(&service, &o), 0);
	ask_greet(&peer, service.socket);
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
}

static void set_up(void)
{
	set_up_with(NULL);
}

static void tear_down(void)
{
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
	cr_expect_lt(neighbour.middle_ms, place_patience_ms(NOTICED_MS), "%.0f ms",
		     neighbour.middle_ms);
	peer_close(&peer);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(unread, .init = set_up, .fini = tear_down, .timeout = 90);

static long broker_bytes(void)
{
	struct census census;

	cr_assert_eq(census_take(service.pid, &census), 0);
	return census.broker_rss;
}

/* Sanitizers and valgrind keep what was freed, so that nothing can be said of memory there. */
static void expect_growth(long before, long most)
{
	long grown = broker_bytes() - before;

	if (place_patience_ms(1) == 1 && !place_valgrind())
		cr_expect_lt(grown, most, "grown by %ld KiB, more than %ld", grown >> 10,
			     most >> 10);
}

static const Redd__V1__PortInfo *inspect(uint64_t port)
{
	Redd__V1__Message *m =
		ask(&peer, "inspect { port { id: %llu } }", (unsigned long long)port);

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
	return m->port_info;
}

static const Redd__V1__StreamInfo *output_info(const Redd__V1__PortInfo *info)
{
	for (size_t i = 0; i < info->n_streams; i++)
		if (info->streams[i]->stream == 1)
			return info->streams[i];
	cr_assert_fail("no stream 1");
	return NULL;
}

/* Until the port's output has so many bytes. */
static void wait_total(uint64_t port, uint64_t bytes)
{
	while (output_info(inspect(port))->total < bytes)
		neighbour_wait(&neighbour, 1);
}

/* --- subscriptions --------------------------------------------------------------------------- */

Test(unread, P7_hundreds_of_readers_that_never_read_cost_a_frame_each)
{
	unsigned n = place_rounds(READERS_MAX);
	uint64_t port = ask_spawn(&peer, "zeros", "args: \"1000000000000\"");
	long before = broker_bytes();

	for (unsigned i = 0; i < n; i++) {
		ask_greet(&readers[i], service.socket);
		ask_send(&readers[i], "subscribe { port { id: %llu } overflow: OVERFLOW_DROP }",
			 (unsigned long long)port);
	}
	wait_total(port, output_info(inspect(port))->total + place_rounds(256) * MIB(1));
	expect_growth(before, (long)n * (long)KIB(96) + (long)MIB(8));
	for (unsigned i = 0; i < n; i++)
		peer_close(&readers[i]);
	ask_end(&peer, port);
}

Test(unread, P7_a_blocking_reader_holds_back_its_own_child_only)
{
	uint64_t mine = ask_spawn(&peer, "zeros", "args: \"100000000\"");
	struct peer owner;
	uint64_t held;
	const Redd__V1__PortInfo *info;

	ask_greet(&owner, service.socket);
	held = ask_spawn(&owner, "zeros",
			 "args: \"100000000\" descriptors { fd: 2 kind: KIND_NULL } subscribe { }");
	do
		info = inspect(held);
	while (!output_info(info)->held);
	cr_expect_lt(output_info(info)->total, 20000000);
	cr_expect_eq(info->n_subscriptions, 1);
	cr_expect(info->subscriptions[0]->blocking);
	wait_total(mine, 100000000);
	neighbour_wait(&neighbour, 20);
	cr_expect(output_info(inspect(held))->held);
	peer_close(&owner); /* and with it the child */
	ask_end(&peer, mine);
	ask_end(&peer, held);
}

/* Whom it was held for has gone, and so it ends; a file as a process. */
Test(unread, P7_what_is_held_for_a_reader_ends_with_its_session)
{
	static const char *const opens[] = {
		"spawn { program: \"/bin/cat\" args: \"/dev/zero\" hold_unread: true }",
		("spawn { program: \"/bin/cat\" args: \"/dev/zero\" hold_unread: true "
		 "orphan: ORPHAN_KEEP_FOR orphan_ms: 50 }"),
		"open { file { path: \"/dev/zero\" read: true write: true } hold_unread: true }",
	};
	uint64_t ports[3];
	struct peer owner;

	ask_greet(&owner, service.socket);
	for (int i = 0; i < 3; i++) {
		Redd__V1__Message *m = ask(&owner, "%s", opens[i]);

		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
		ports[i] = m->started->port;
		while (!output_info(inspect(ports[i]))->held)
			;
	}
	peer_close(&owner);
	for (int i = 0; i < 3; i++) {
		Redd__V1__Message *m = ask(&peer, "wait { port { id: %llu } until: CLOSED }",
					   (unsigned long long)ports[i]);

		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
		ask(&peer, "forget { port { id: %llu } }", (unsigned long long)ports[i]);
	}
}

/* A piece each time that half of its stall time is over: the socket takes more after three or so,
 * which is later. */
Test(unread, P7_a_slow_reader_of_a_socket_makes_progress)
{
	int stall_ms = place_span_ms(1500);
	uint64_t port = ask_spawn(&peer, "zeros", "args: \"100000000\"");
	const Redd__V1__PortInfo *info;
	static char piece[KIB(64)];
	struct peer slow;

	ask_greet(&slow, service.socket);
	ask_send(&slow,
		 "subscribe { port { id: %llu } streams: 1 overflow: OVERFLOW_BLOCK stall_ms: %d }",
		 (unsigned long long)port, stall_ms);
	do
		info = inspect(port);
	while (!output_info(info)->held);
	for (int i = 0; i < 5; i++) {
		poll(NULL, 0, stall_ms / 2);
		cr_assert_gt(read(slow.fd, piece, sizeof(piece)), 0);
		info = inspect(port);
		cr_assert_eq(info->n_subscriptions, 1);
		cr_expect_not(info->subscriptions[0]->stalled, "after %d pieces", i);
	}
	wait_total(port, 100000000); /* as it is moved when it stops */
	cr_expect(inspect(port)->subscriptions[0]->stalled);
	peer_close(&slow);
	ask_end(&peer, port);
}

Test(unread, P7_a_reader_without_credit_holds_up_no_other_of_its_connection)
{
	uint64_t port = ask_spawn(&peer, "zeros", "args: \"3000000\"");
	struct peer p;
	Redd__V1__Message *m;
	uint64_t starved, total = 0;

	ask_greet(&p, service.socket);
	m = ask(&p, "subscribe { port { id: %llu } streams: 1 credit: 0 overflow: OVERFLOW_DROP }",
		(unsigned long long)port);
	starved = m->subscribed->subscription;
	ask_send(&p, "subscribe { port { id: %llu } streams: 1 overflow: OVERFLOW_DROP }",
		 (unsigned long long)port);
	while (!total && (m = ask_event(&p, REDD__V1__MESSAGE__BODY_STREAM_END)))
		total = m->stream_end->subscription != starved ? m->stream_end->total : 0;
	cr_expect_eq(total, 3000000);
	peer_close(&p);
	ask_end(&peer, port);
}

/* --- answers --------------------------------------------------------------------------------- */

/* Sends whole frames until the broker has not taken one for a while. Returns how many went. */
static unsigned long send_until_stuck(struct peer *p, const struct buf *frame, unsigned long most)
{
	struct pollfd fd = { p->fd, POLLOUT, 0 };
	unsigned long n = 0;

	while (n < most && poll(&fd, 1, place_patience_ms(500)) == 1) {
		cr_assert_eq(peer_send(p, buf_head(frame), buf_size(frame)), 0);
		n++;
	}
	return n;
}

Test(unread, P7_a_client_that_never_reads_its_answers_is_not_read_any_more)
{
	long before = broker_bytes();
	unsigned long sent, most = place_rounds(2000000);
	struct buf frame;
	struct peer p;

	ask_greet(&p, service.socket);
	buf_init(&frame, KIB(64));
	ask_pack(&frame, 5, "ping { data: \"0123456789abcdef0123456789abcdef\" }");
	sent = send_until_stuck(&p, &frame, most);
	if (most == 2000000)
		cr_expect_lt(sent, most, "it takes requests for ever");
	expect_growth(before, (long)MIB(6));
	neighbour_wait(&neighbour, 20);
	/* None is lost: once it reads, all are answered. */
	for (unsigned long i = 0; i < sent; i++)
		cr_assert_eq(ask_answer(&p, 5)->body_case, REDD__V1__MESSAGE__BODY_PONG);
	cr_assert_eq(ask(&p, "stats { }")->body_case, REDD__V1__MESSAGE__BODY_STATISTICS);
	buf_deinit(&frame);
	peer_close(&p);
}

Test(unread, P15_more_waiting_requests_than_a_connection_may_have_are_refused)
{
	uint64_t port = ask_spawn(&peer, "hang", "");
	Redd__V1__Message *m;
	unsigned refused = 0;
	struct peer p;

	ask_greet(&p, service.socket);
	for (unsigned i = 0; i < CONN_PENDING_MAX + 5; i++)
		ask_send(&p, "wait { port { id: %llu } }", (unsigned long long)port);
	m = ask(&p, "write { port { id: %llu } data: \"x\" }", (unsigned long long)port);
	cr_expect(ask_is_error(m, REDD__V1__CODE__FAILED_PRECONDITION), "%s", ask_text(m));
	m = ask(&p, "spawn { program: \"/bin/true\" }");
	cr_expect(ask_is_error(m, REDD__V1__CODE__RESOURCE_EXHAUSTED), "%s", ask_text(m));
	cr_assert_eq(ask(&p, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	ask_send(&peer, "signal { port { id: %llu } signal: 9 }", (unsigned long long)port);
	for (unsigned i = 0; i < CONN_PENDING_MAX; i++) {
		cr_assert_eq(peer_recv(&p, 10000, &m), 0);
		refused += m->body_case == REDD__V1__MESSAGE__BODY_ERROR;
	}
	cr_expect_eq(refused, 0); /* the five were told before the Pong */
	peer_close(&p);
	ask_end(&peer, port);
}

/* --- requests that are not finished ---------------------------------------------------------- */

static void set_up_small(void)
{
	static const char *const args[] = { "--input-bytes-per-uid", "4000000", NULL };

	set_up_with(args);
}

TestSuite(unread_small, .init = set_up_small, .fini = tear_down, .timeout = 90);

/* Announces a large frame and sends all but its end. */
static int half_frame(struct peer *p, const void *data, size_t size)
{
	int r = peer_send_prefix(p, FRAME_MAX_DEFAULT);

	return r ? r : peer_send(p, data, size);
}

Test(unread_small, P7_half_frames_are_held_within_the_quota)
{
	enum { N = 40 };
	static uint8_t data[900000];
	long before = broker_bytes();
	unsigned refused = 0;

	memset(data, 0x0a, sizeof(data));
	for (unsigned i = 0; i < N; i++) {
		ask_greet(&readers[i], service.socket);
		half_frame(&readers[i], data, sizeof(data)); /* -EPIPE: it has said Bye */
	}
	neighbour_wait(&neighbour, 5);
	/* The first ones were held, so the last ones are waited for. */
	for (unsigned i = N; i-- > 0;) {
		Redd__V1__Message *m;

		if (peer_recv(&readers[i], refused < N - 8 ? 2000 : 0, &m))
			continue;
		cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_BYE, "%s", ask_text(m));
		cr_expect_eq(m->bye->error->code, REDD__V1__CODE__RESOURCE_EXHAUSTED, "%s",
			     ask_text(m));
		refused++;
	}
	cr_expect_geq(refused, N - 8, "only %u were refused", refused);
	expect_growth(before, (long)MIB(16));
	for (unsigned i = 0; i < N; i++)
		peer_close(&readers[i]);
}

/* The memory for what a frame is unpacked to goes with it. */
Test(unread, P7_what_a_frame_took_is_given_back_behind_it)
{
	unsigned n = place_rounds(60);
	long before = broker_bytes();
	struct buf frame;

	buf_init(&frame, MIB(2));
	ask_pack(&frame, 9, "spawn { program: \"/no/such\" umask: 4096 args*100000: \"word\" }");
	for (unsigned i = 0; i < n; i++) {
		ask_greet(&readers[i], service.socket);
		cr_assert_eq(peer_send(&readers[i], buf_head(&frame), buf_size(&frame)), 0);
		cr_assert(
			ask_is_error(ask_answer(&readers[i], 9), REDD__V1__CODE__INVALID_ARGUMENT));
	}
	expect_growth(before, (long)n * (long)KIB(160) + (long)MIB(24));
	for (unsigned i = 0; i < n; i++)
		peer_close(&readers[i]);
	buf_deinit(&frame);
}

Test(unread_small, P7_answers_that_nobody_reads_are_held_within_the_quota)
{
	enum { N = 24 };
	long before = broker_bytes();
	struct buf frame;

	if (place_valgrind())
		cr_skip_test("hundreds of thousands of answers take minutes under valgrind");
	buf_init(&frame, MIB(1));
	for (int i = 0; i < 400; i++)
		ask_pack(&frame, 5, "stats { }");
	for (unsigned i = 0; i < N; i++) {
		ask_greet(&readers[i], service.socket);
		send_until_stuck(&readers[i], &frame, 100);
	}
	expect_growth(before, (long)MIB(16));
	for (unsigned i = 0; i < N; i++)
		peer_close(&readers[i]);
	buf_deinit(&frame);
}
