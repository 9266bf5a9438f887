/* Quotas: what goes past one is refused with RESOURCE_EXHAUSTED and its reason, nothing else
 * changes, and what was charged comes back (P7, P15). Each test starts a service with the one
 * setting that it is about. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/measure.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define EXHAUSTED  REDD__V1__CODE__RESOURCE_EXHAUSTED
#define STARTED	   REDD__V1__MESSAGE__BODY_STARTED
#define BYE	   REDD__V1__MESSAGE__BODY_BYE
#define OPEN_FILES 450u
#define MANY	   400

static struct service service;
static struct peer peer;

static void begin(const char *setting, const char *value)
{
	const char *const args[] = { setting, value, NULL };
	const struct service_options o = { .args = args };

	cr_assert_eq(service_start(&service, &o), 0);
	ask_greet(&peer, service.socket);
}

static void tear_down(void)
{
	peer_close(&peer);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(limits, .fini = tear_down, .timeout = 90);

static void expect_refusal(const Redd__V1__Message *m, const char *word)
{
	cr_expect(ask_is_error(m, EXHAUSTED), "%s", ask_text(m));
	cr_expect(m->error && strstr(m->error->message, word), "no '%s' in: %s", word, ask_text(m));
}

Test(limits, P15_ports)
{
	uint64_t ports[3];
	Redd__V1__Message *m;

	begin("--ports-per-uid", "3");
	for (int i = 0; i < 3; i++)
		ports[i] = ask_spawn(&peer, "hang", "");
	m = ask(&peer, "spawn { program: \"%s\" }", place_prog("hang"));
	expect_refusal(m, "ports");
	m = ask(&peer, "list { }");
	cr_expect_eq(m->ports->n_ports, 3);
	ask_end(&peer, ports[1]);
	ports[1] = ask_spawn(&peer, "hang", "");
	/* A spawn that fails gives its place back. */
	ask_end(&peer, ports[2]);
	for (int i = 0; i < 5; i++) {
		m = ask(&peer, "spawn { program: \"/no/such\" }");
		cr_expect(ask_is_error(m, REDD__V1__CODE__NOT_FOUND), "%s", ask_text(m));
	}
	ports[2] = ask_spawn(&peer, "hang", "");
	for (int i = 0; i < 3; i++)
		ask_end(&peer, ports[i]);
}

/* One that has ended makes room by itself: its status was kept as long as there was room. */
Test(limits, P15_ports_that_have_ended_make_room)
{
	uint64_t oldest, newest = 0;
	Redd__V1__Message *m;

	begin("--ports-per-uid", "2");
	oldest = ask_spawn(&peer, "exit", "");
	for (int i = 0; i < 4; i++) {
		m = ask(&peer, "wait { port { id: %llu } until: CLOSED }",
			(unsigned long long)(newest ? newest : oldest));
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
		newest = ask_spawn(&peer, "exit", "");
	}
	m = ask(&peer, "inspect { port { id: %llu } }", (unsigned long long)oldest);
	cr_expect(ask_is_error(m, REDD__V1__CODE__NOT_FOUND), "%s", ask_text(m));
	m = ask(&peer, "list { }");
	cr_assert_leq(m->ports->n_ports, 2);
	for (int i = 0; i < 2; i++) {
		m = ask(&peer, "list { limit: 1 }");
		if (m->ports->n_ports)
			ask_end(&peer, m->ports->ports[0]->port);
	}
}

Test(limits, P15_connections)
{
	enum { MOST = 5 };
	struct peer peers[MOST + 1];
	Redd__V1__Message *m;

	begin("--connections-per-uid", "5");
	for (int i = 0; i < MOST - 1; i++) {
		ask_greet(&peers[i], service.socket);
	}
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(peer_open(&peers[MOST], service.socket), 0);
		m = ask_event(&peers[MOST], BYE);
		cr_assert(m && m->bye->error->code == EXHAUSTED, "%s", ask_text(m));
		cr_expect_null(ask_check_error(m->bye->error), "%s", ask_text(m));
		cr_expect_eq(peer_expect_end(&peers[MOST], 10000), 0);
		peer_close(&peers[MOST]);
	}
	for (int i = 0; i < MOST - 1; i++) {
		cr_expect_eq(ask(&peers[i], "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
		peer_close(&peers[i]);
	}
}

Test(limits, P15_subscriptions)
{
	uint64_t port;
	Redd__V1__Message *m;

	begin("--subscriptions-per-uid", "4");
	port = ask_spawn(&peer, "hang", "subscribe { }");
	for (int i = 0; i < 3; i++)
		cr_assert_eq(ask(&peer, "subscribe { port { id: %llu } }", (unsigned long long)port)
				     ->body_case,
			     REDD__V1__MESSAGE__BODY_SUBSCRIBED);
	m = ask(&peer, "subscribe { port { id: %llu } }", (unsigned long long)port);
	expect_refusal(m, "subscriptions");
	m = ask(&peer, "spawn { program: \"%s\" subscribe { } }", place_prog("hang"));
	expect_refusal(m, "subscriptions");
	cr_expect_eq(ask(&peer, "list { }")->ports->n_ports, 1, "half a spawn is there");
	ask_send(&peer, "unsubscribe { subscription: 2 }");
	cr_assert_not_null(ask_event(&peer, REDD__V1__MESSAGE__BODY_CLOSED));
	cr_assert_eq(
		ask(&peer, "subscribe { port { id: %llu } }", (unsigned long long)port)->body_case,
		REDD__V1__MESSAGE__BODY_SUBSCRIBED);
	ask_end(&peer, port);
}

/* The client that waits as long as it was told to is served. */
Test(limits, P15_expects_that_wait_on_one_stream)
{
	enum { OTHERS = STREAM_EXPECTS / CONN_EXPECTS };
	struct peer others[OTHERS];
	Redd__V1__Message *m;
	unsigned long long port;

	begin("--ports-per-uid", "3");
	port = ask_spawn(&peer, "hang", "");
	for (int i = 0; i < OTHERS; i++) {
		ask_greet(&others[i], service.socket);
		for (unsigned n = 0; n < CONN_EXPECTS; n++)
			ask_send(&others[i],
				 "expect { port { id: %llu } patterns { text: \"x\" } }", port);
		m = ask(&others[i], "ping { }");
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PONG, "%s", ask_text(m));
	}
	m = ask(&peer, "expect { port { id: %llu } patterns { text: \"x\" } }", port);
	expect_refusal(m, "Expects");
	for (int i = 0; i < OTHERS; i++)
		peer_close(&others[i]);
	ask_end(&peer, port);
}

Test(limits, P15_spawns_a_second_say_when_to_try_again)
{
	static const char *const args[] = { "--spawns-per-second", "5", "--spawn-burst", "3",
					    NULL };
	const struct service_options o = { .args = args };
	Redd__V1__Message *m = NULL;
	unsigned started = 0;
	double until;

	cr_assert_eq(service_start(&service, &o), 0);
	ask_greet(&peer, service.socket);
	for (int i = 0; i < 20; i++) {
		m = ask(&peer, "spawn { program: \"%s\" retention_ms: 0 }", place_prog("exit"));
		started += m->body_case == STARTED;
		if (m->body_case != STARTED)
			break;
	}
	cr_expect_geq(started, 1);
	cr_expect_leq(started, place_patience_ms(1) > 1 ? 20 : 6);
	expect_refusal(m, "second");
	cr_assert(m->error->has_retry_after_ms && m->error->retry_after_ms > 0 &&
			  m->error->retry_after_ms <= 200,
		  "%s", ask_text(m));
	until = measure_now() + m->error->retry_after_ms / 1000.0;
	while (measure_now() < until)
		cr_assert_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	m = ask(&peer, "spawn { program: \"%s\" retention_ms: 0 }", place_prog("exit"));
	cr_expect_eq(m->body_case, STARTED, "%s", ask_text(m));
}

static uint64_t writer_make(void)
{
	return ask_spawn(&peer, "hang",
			 "descriptors { fd: 0 kind: KIND_PIPE } input_bound: 4000000");
}

/* Fills one queue after another with bytes that nobody reads. Returns how many writes were taken.
 */
static unsigned writes_taken(const uint64_t *ports, unsigned n, uint64_t *ret_refused)
{
	unsigned taken = 0;
	Redd__V1__Message *m = NULL;
	int r;

	*ret_refused = 0;
	for (unsigned i = 0; i < n && !*ret_refused; i++)
		for (int j = 0; j < 4 && !*ret_refused; j++) {
			uint64_t id =
				ask_send(&peer, "write { port { id: %llu } data: \"x\"*500000 }",
					 (unsigned long long)ports[i]);

			/* Answered only when refused: nobody reads. */
			ask_send(&peer, "ping { }");
			r = peer_recv(&peer, 10000, &m);
			cr_assert_eq(r, 0);
			if (m->reply_to == id)
				*ret_refused = id;
			else
				taken++;
		}
	if (*ret_refused) {
		expect_refusal(m, "input");
		cr_assert_eq(peer_recv(&peer, 10000, &m), 0); /* its Pong */
	}
	return taken;
}

Test(limits, P15_bytes_of_input)
{
	uint64_t ports[4], refused;
	unsigned taken;
	Redd__V1__Message *m;

	begin("--input-bytes-per-uid", "2000000");
	for (int i = 0; i < 4; i++)
		ports[i] = writer_make();
	taken = writes_taken(ports, 4, &refused);
	cr_expect_neq(refused, 0, "all %u writes were taken", taken);
	cr_expect_geq(taken, 2);
	cr_expect_leq(taken, 5);
	m = ask(&peer, "inspect { port { id: %llu } }", (unsigned long long)ports[3]);
	cr_expect_eq(m->port_info->streams[0]->queued, 0, "part of what was refused was taken");
	ask_end(&peer, ports[0]); /* gives back what it had */
	cr_expect_gt(writes_taken(&ports[3], 1, &refused), 0);
	for (int i = 1; i < 4; i++)
		ask_end(&peer, ports[i]);
}

/* Logs of ports that have ended make room; with none of those, an output ends with an error of its
 * own, which says why. */
Test(limits, P15_bytes_of_logs)
{
	Redd__V1__Message *m;
	uint64_t ports[3], full;

	begin("--log-bytes-per-uid", "262144");
	for (int i = 0; i < 3; i++) {
		ports[i] = ask_spawn(&peer, "pattern", "args: \"10\" log_size: 131072");
		m = ask(&peer, "wait { port { id: %llu } until: CLOSED }",
			(unsigned long long)ports[i]);
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
		for (size_t j = 0; j < m->waited->n_streams; j++)
			if (m->waited->streams[j]->stream == 1)
				cr_expect_eq(m->waited->streams[j]->total, 10,
					     "port %d lost its output", i);
	}
	m = ask(&peer, "list { }");
	cr_expect_lt(m->ports->n_ports, 3, "nothing made room");
	for (size_t n = m->ports->n_ports; n > 0; n--) {
		m = ask(&peer, "list { limit: 1 }");
		ask_end(&peer, m->ports->ports[0]->port);
	}
	ports[0] = ask_spawn(&peer, "hang", "log_size: 131072 subscribe { }");
	cr_assert_not_null(ask_event(&peer, REDD__V1__MESSAGE__BODY_OUTPUT));
	ports[1] = ask_spawn(&peer, "hang", "log_size: 131072 subscribe { }");
	cr_assert_not_null(ask_event(&peer, REDD__V1__MESSAGE__BODY_OUTPUT));
	full = ask_spawn(&peer, "hang", "log_size: 131072 subscribe { streams: 1 }");
	m = ask_event(&peer, REDD__V1__MESSAGE__BODY_STREAM_END);
	cr_assert_not_null(m);
	cr_expect_eq(m->stream_end->port, full);
	cr_expect_eq(m->stream_end->cause, REDD__V1__STREAM_END__CAUSE__READ_ERROR);
	cr_expect_eq(m->stream_end->sys_errno, ENOBUFS);
	ask_end(&peer, ports[0]);
	ask_end(&peer, ports[1]);
	ask_end(&peer, full);
}

/* --- descriptors of clients ------------------------------------------------------------------ */

static void send_spawn_with(struct peer *p, const int *fds, size_t n)
{
	struct buf frame;
	char text[256];

	snprintf(text, sizeof(text),
		 "spawn { program: \"%s\" retention_ms: 0 descriptors*%zu { fd: # kind: "
		 "KIND_PASSED passed: # } }",
		 place_prog("exit"), n);
	buf_init(&frame, KIB(64));
	ask_pack(&frame, ++p->last_id, text);
	cr_assert_eq(peer_send_fds(p, buf_head(&frame), buf_size(&frame), fds, n), 0);
	buf_deinit(&frame);
}

/* They are in hand until the forker has them: one that stands still leaves them there. */
Test(limits, P15_S29_descriptors_that_wait_for_their_child)
{
	enum { N = 60 };
	struct peer second;
	Redd__V1__Message *m;
	int fds[N], pair[2];
	pid_t forker;

	begin("--descriptors-per-uid", "100");
	cr_assert_eq(pipe(pair), 0);
	for (int i = 0; i < N; i++)
		fds[i] = pair[1];
	forker = census_child(service.pid, "forker");
	cr_assert_eq(kill(forker, SIGSTOP), 0);
	send_spawn_with(&peer, fds, N);
	cr_assert_eq(ask_send_as(&peer, 9000, "ping { }"), 0);
	ask_answer(&peer, 9000);
	ask_greet(&second, service.socket);
	send_spawn_with(&second, fds, N);
	m = ask_event(&second, BYE);
	cr_assert_not_null(m);
	cr_expect_eq(m->bye->error->code, EXHAUSTED, "%s", ask_text(m));
	cr_expect_not_null(strstr(m->bye->error->message, "descriptors"), "%s", ask_text(m));
	peer_close(&second);
	cr_assert_eq(kill(forker, SIGCONT), 0);
	m = ask_answer(&peer, peer.last_id);
	cr_expect_eq(m->body_case, STARTED, "%s", ask_text(m));
	for (int i = 0; i < 3; i++) { /* and given back */
		send_spawn_with(&peer, fds, N);
		m = ask_answer(&peer, peer.last_id);
		cr_expect_eq(m->body_case, STARTED, "%s", ask_text(m));
	}
	close(pair[0]);
	close(pair[1]);
}

/* --- descriptors of the broker --------------------------------------------------------------- */

/* More clients than there are descriptors for: each gets a Welcome or is told why not, none is
 * closed without a word; and when some have gone, others are served. */
Test(limits, P15_at_the_limit_of_open_files_nobody_is_dropped_without_a_word)
{
	static struct peer peers[MANY];
	const struct service_options o = { .nofile = OPEN_FILES, .quiet = true };
	unsigned welcome = 0, refused = 0;
	Redd__V1__Message *m = NULL;

	cr_assert_eq(service_start(&service, &o), 0);
	ask_greet(&peer, service.socket);
	for (int i = 0; i < MANY; i++) {
		cr_assert_eq(peer_open(&peers[i], service.socket), 0, "client %d", i);
		ask_send_as(&peers[i], 1, "hello { version: 1 }"); /* or it has said Bye */
	}
	for (int i = 0; i < MANY; i++) {
		cr_assert_eq(peer_recv(&peers[i], 20000, &m), 0, "client %d: not a word", i);
		welcome += m->body_case == REDD__V1__MESSAGE__BODY_WELCOME;
		refused += m->body_case == BYE && !ask_check_error(m->bye->error) &&
			   m->bye->error->code == REDD__V1__CODE__UNAVAILABLE;
	}
	cr_expect_eq(welcome + refused, MANY);
	cr_expect_geq(welcome, MANY / 2);
	cr_expect_gt(refused, 0, "the limit was not reached");
	m = ask(&peer, "spawn { program: \"%s\" }", place_prog("exit"));
	expect_refusal(m, "descriptors");
	for (int i = 0; i < MANY; i++)
		peer_close(&peers[i]);
	cr_assert_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	cr_assert_eq(peer_open(&peers[0], service.socket), 0);
	cr_expect_eq(peer_hello(&peers[0]), 0);
	peer_close(&peers[0]);
}
