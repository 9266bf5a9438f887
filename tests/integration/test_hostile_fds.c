/* Descriptors that clients send and should not: each is closed, whoever sent it hears why, and
 * closing it costs nobody else any time, however long it takes (P7, P11, P15). */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/fdpass.h"
#include "tests/lib/ask.h"
#include "tests/lib/linger.h"
#include "tests/lib/measure.h"
#include "tests/lib/narrow.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define INVALID	  REDD__V1__CODE__INVALID_ARGUMENT
#define LINGER_S  8
#define PASSED(n) "descriptors*" #n " { fd: # kind: KIND_PASSED passed: # }"
#define TRUE	  "spawn { program: \"/bin/true\" retention_ms: 0 "

static struct service service;
static struct neighbour neighbour;
static struct narrow narrow;
static int sent[FDPASS_MAX]; /* the same pipe again and again */

static void set_up(void)
{
	int pipe_fds[2];

	narrow_start(&narrow, &service);
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
	cr_assert_eq(pipe(pipe_fds), 0);
	close(pipe_fds[0]);
	for (size_t i = 0; i < FDPASS_MAX; i++)
		sent[i] = pipe_fds[1];
}

static void tear_down(void)
{
	close(sent[0]);
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
	cr_assert_eq(service_finish(&service), 0);
	narrow_remove(&narrow);
}

TestSuite(hostile_fds, .init = set_up, .fini = tear_down, .timeout = 60);

static int send_with(struct peer *p, const char *text, const int *fds, size_t n)
{
	struct buf frame;
	int r;

	buf_init(&frame, 1 << 20);
	ask_pack(&frame, 77, text);
	r = peer_send_fds(p, buf_head(&frame), buf_size(&frame), fds, n);
	buf_deinit(&frame);
	return r;
}

static const struct {
	const char *request;
	size_t n;
	const char *word;
} surplus[] = {
	{ "ping { }", 1, "descriptors" },
	{ "ping { }", 64, "descriptors" },
	{ "ping { }", 65, "64" },
	{ "ping { }", FDPASS_MAX, "64" },
	{ "stats { }", 1, "descriptors" },
	{ "write { port { id: 1 } data: \"x\" }", 1, "descriptors" },
	{ "credit { subscription: 1 bytes: 1 }", 2, "descriptors" },
	{ "hello { version: 1 }", 1, "descriptors" },
	{ "", 1, "descriptors" },
	{ TRUE "}", 1, "descriptors" },
	{ TRUE PASSED(1) " }", 2, "descriptors" },
	{ TRUE PASSED(3) " }", 64, "descriptors" },
	{ "spawn { " PASSED(1) " }", 2, "descriptors" },
};

Test(hostile_fds, P15_descriptors_that_no_request_uses)
{
	for (size_t i = 0; i < sizeof(surplus) / sizeof(surplus[0]); i++) {
		Redd__V1__Message *m;
		struct peer p;

		ask_greet(&p, service.socket);
		cr_assert_eq(send_with(&p, surplus[i].request, sent, surplus[i].n), 0);
		m = ask_event(&p, REDD__V1__MESSAGE__BODY_BYE);
		cr_expect(m && m->bye->error->code == INVALID && !ask_check_error(m->bye->error),
			  "%s, %zu: %s", surplus[i].request, surplus[i].n, ask_text(m));
		cr_expect(m && strstr(m->bye->error->message, surplus[i].word), "%s, %zu: %s",
			  surplus[i].request, surplus[i].n, ask_text(m));
		cr_expect_eq(peer_expect_end(&p, 10000), 0);
		peer_close(&p);
	}
}

/* A list of descriptors in which each has its own number: the first one is 10 + n. */
static void spawn_text(char *text, size_t n)
{
	text += sprintf(text, TRUE);
	for (size_t i = 0; i < n; i++)
		text += sprintf(text, "descriptors { fd: %zu kind: KIND_PASSED passed: %zu } ",
				10 + i, i);
	strcpy(text, "}");
}

Test(hostile_fds, P15_fewer_than_a_spawn_names_is_an_error_and_what_came_is_closed)
{
	static char text[8192];
	struct peer p;

	ask_greet(&p, service.socket);
	spawn_text(text, 3);
	for (size_t n = 0; n < 3; n++) {
		Redd__V1__Message *m;

		cr_assert_eq(send_with(&p, text, sent, n), 0);
		m = ask_answer(&p, 77);
		cr_assert(ask_is_error(m, INVALID), "%zu: %s", n, ask_text(m));
		if (n > 0) { /* those few were used by nobody */
			cr_assert_eq(peer_expect_end(&p, 10000), 0);
			peer_close(&p);
			ask_greet(&p, service.socket);
		}
	}
	peer_close(&p);
}

Test(hostile_fds, P11_as_many_as_may_be_passed_are_used_and_closed)
{
	static char text[8192];
	Redd__V1__Message *m;
	struct peer p;

	ask_greet(&p, service.socket);
	spawn_text(text, 53);
	cr_assert_eq(send_with(&p, text, sent, 53), 0);
	m = ask_answer(&p, 77);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	peer_close(&p);
}

Test(hostile_fds, P7_with_half_a_frame_an_empty_one_and_garbage)
{
	static const struct {
		const char *bytes;
		size_t size;
	} starts[] = {
		{ "\x7f", 1 }, { "\0", 1 }, { "\xff\xff\xff\xff\xff\xff", 6 }, { "\x05hell", 5 }
	};

	for (unsigned i = 0; i < place_rounds(200); i++) {
		struct peer p;

		ask_greet(&p, service.socket);
		cr_assert_eq(peer_send_fds(&p, starts[i % 4].bytes, starts[i % 4].size, sent, 60),
			     0);
		if (i % 3 == 0)
			peer_send_fds(&p, "\x01", 1, sent, 60); /* the broker may have gone */
		peer_close(&p);
	}
	neighbour_wait(&neighbour, 3);
}

Test(hostile_fds, P14_a_listener_that_takes_none_says_so_and_gets_none)
{
	Redd__V1__Message *m;
	struct peer p;
	int r;

	cr_assert_eq(peer_open(&p, narrow.socket), 0);
	m = ask(&p, "hello { version: 1 }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WELCOME, "%s", ask_text(m));
	cr_assert_not(m->welcome->descriptors);
	r = send_with(&p, TRUE PASSED(1) " }", sent, 1);
	if (r == 0) { /* a kernel that cannot refuse them at the sender */
		m = ask_event(&p, REDD__V1__MESSAGE__BODY_BYE);
		cr_assert(m && !ask_check_error(m->bye->error), "%s", ask_text(m));
		cr_assert_eq(peer_expect_end(&p, 10000), 0);
	} else {
		cr_assert_eq(r, -EPERM, "%s", strerror(-r));
	}
	peer_close(&p);
}

/* --- closing that takes its time ------------------------------------------------------------- */

static void send_unused(struct peer *p, int fd)
{
	cr_assert_eq(send_with(p, "ping { }", &fd, 1), 0);
}

static void send_as_surplus(struct peer *p, int fd)
{
	int fds[FDPASS_MAX];

	memcpy(fds, sent, sizeof(fds));
	fds[FDPASS_MAX - 1] = fd;
	cr_assert_eq(send_with(p, "ping { }", fds, FDPASS_MAX), 0);
}

static void send_with_half_a_frame(struct peer *p, int fd)
{
	cr_assert_eq(peer_send_fds(p, "\x7f", 1, &fd, 1), 0);
}

/* Behind a frame that ends the connection: still in the socket when that is closed, for the kernel
 * ends each read at a message that has descriptors. */
static void send_behind_garbage(struct peer *p, int fd)
{
	static const uint8_t garbage[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct census census;

	cr_assert_eq(census_take(service.pid, &census), 0);
	cr_assert_eq(kill(census.broker, SIGSTOP), 0);
	cr_assert_eq(peer_send_fds(p, garbage, sizeof(garbage), sent, 1), 0);
	cr_assert_eq(peer_send_fds(p, "\x01", 1, &fd, 1), 0);
	cr_assert_eq(kill(census.broker, SIGCONT), 0);
}

static void send_to_a_spawn_that_fails(struct peer *p, int fd)
{
	cr_assert_eq(
		send_with(p,
			  "spawn { program: \"/no/such\" descriptors { fd: 9 kind: KIND_PASSED "
			  "passed: 0 } }",
			  &fd, 1),
		0);
}

static void send_to_a_spawn_that_is_refused(struct peer *p, int fd)
{
	cr_assert_eq(send_with(p,
			       "spawn { program: \"/bin/true\" umask: 4096 descriptors { fd: 9 "
			       "kind: KIND_PASSED passed: 0 } }",
			       &fd, 1),
		     0);
}

static void (*const ways[])(struct peer *p, int fd) = {
	send_unused,
	send_as_surplus,
	send_with_half_a_frame,
	send_behind_garbage,
	send_to_a_spawn_that_fails,
	send_to_a_spawn_that_is_refused,
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

Test(hostile_fds, P7_a_descriptor_whose_close_takes_long_stalls_nobody)
{
	int fds[WAYS][2];

	if (place_valgrind())
		cr_skip_test("under valgrind a close(2) that waits stops every thread");
	for (size_t i = 0; i < WAYS; i++) {
		struct peer p;

		cr_assert_eq(linger_make(LINGER_S, &fds[i][0], &fds[i][1]), 0);
		ask_greet(&p, service.socket);
		ways[i](&p, fds[i][0]);
		close(fds[i][0]);
		peer_close(&p);
	}
	neighbour_wait(&neighbour, 20);
	for (size_t i = 0; i < WAYS; i++)
		close(fds[i][1]); /* which ends the wait */
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
	cr_expect_lt(neighbour.worst_ms, LINGER_S * 1000 / 2, "%.0f ms", neighbour.worst_ms);
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
}

/* --- at the limit ---------------------------------------------------------------------------- */

/* The soft limit, which can be raised again. */
static rlim_t limit_set(pid_t broker, rlim_t soft)
{
	struct rlimit limit;
	rlim_t before;

	cr_assert_eq(prlimit(broker, RLIMIT_NOFILE, NULL, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = soft;
	cr_assert_eq(prlimit(broker, RLIMIT_NOFILE, &limit, NULL), 0, "%s", strerror(errno));
	return before;
}

/* All connections that the broker admits; then descriptors by the dozen, of which it can take only
 * some. */
Test(hostile_fds, P15_S29_what_does_not_fit_below_the_limit_of_open_files_is_refused)
{
	enum { PEERS = 4, ROOM = 100 };
	struct peer peers[PEERS];
	struct census census;
	int refused = 0;
	rlim_t before;

	for (int i = 0; i < PEERS; i++)
		ask_greet(&peers[i], service.socket);
	cr_assert_eq(census_take(service.pid, &census), 0);
	before = limit_set(census.broker, (rlim_t)census.broker_fds + ROOM);
	for (int i = 0; i < PEERS; i++)
		cr_assert_eq(peer_send_fds(&peers[i], "\x7f", 1, sent, 60), 0);
	for (int i = 0; i < PEERS; i++) {
		Redd__V1__Message *m = NULL;

		refused += peer_recv(&peers[i], 500, &m) == 0 &&
			   m->body_case == REDD__V1__MESSAGE__BODY_BYE &&
			   !ask_check_error(m->bye->error);
	}
	cr_expect_geq(refused, PEERS - ROOM / 60 - 1, "only %d were refused", refused);
	for (int i = 0; i < PEERS; i++)
		peer_close(&peers[i]);
	neighbour_wait(&neighbour, 3);
	limit_set(census.broker, before);
}
