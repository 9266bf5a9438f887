/* Doors (P14): what came through one can do what was said when it was made, and nothing more,
 * whoever holds it; bad knocks cost nobody but the maker; it ends in each of its ways and leaves
 * nothing. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/fdpass.h"
#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define NOT_FOUND REDD__V1__CODE__NOT_FOUND
#define DENIED	  REDD__V1__CODE__PERMISSION_DENIED
#define INVALID	  REDD__V1__CODE__INVALID_ARGUMENT
#define DONE	  REDD__V1__MESSAGE__BODY_DONE
#define STARTED	  REDD__V1__MESSAGE__BODY_STARTED
#define NOBODY	  65534
#define ID(id)	  ((unsigned long long)(id))

static struct service service;
static struct peer maker;
static uint64_t cat, hang;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	ask_greet(&maker, service.socket);
	cat = ask_spawn(&maker, "cat",
			"name: \"shared\" descriptors { fd: 0 kind: KIND_PIPE } "
			"labels { key: \"job\" value: \"17\" }");
	hang = ask_spawn(&maker, "hang", "name: \"private\"");
}

static void tear_down(void)
{
	ask_end(&maker, cat);
	ask_end(&maker, hang);
	peer_close(&maker);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(delegate, .init = set_up, .fini = tear_down, .timeout = 120);

/* The door, which is the caller's. */
static int mint(const char *what, uint64_t *ret_id)
{
	Redd__V1__Message *m = ask(&maker, "delegate { %s }", what);
	int door;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DELEGATED, "%s", ask_text(m));
	if (ret_id)
		*ret_id = m->delegated->delegation;
	door = peer_take_fd(&maker);
	cr_assert_geq(door, 0, "an answer without a door");
	return door;
}

static void enter(struct peer *p, int door)
{
	cr_assert_eq(peer_knock(p, door), 0);
	cr_assert_eq(peer_hello(p), 0);
}

/* The broker has closed its end. */
/* It is shut by who closes descriptors, which may be a moment after what it is shut for. */
static void wait_shut(int door)
{
	struct pollfd p = { door, POLLIN, 0 };

	cr_assert_eq(poll(&p, 1, place_patience_ms(10000)), 1);
	cr_expect(p.revents & POLLHUP);
}

static void expect_shut(int door)
{
	wait_shut(door);
	close(door);
}

Test(delegate, P14_it_can_do_what_was_said_and_nothing_more)
{
	int door = mint("ports { name: \"shared\" } rights { write: true }", NULL);
	Redd__V1__Message *m;
	struct peer p;

	enter(&p, door);
	m = ask(&p, "write { port { name: \"shared\" } data: \"x\" }");
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_WRITTEN, "%s", ask_text(m));
	m = ask(&p, "inspect { port { id: %llu } }", ID(cat));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
	cr_expect(ask_is_error(ask(&p, "subscribe { port { id: %llu } }", ID(cat)), DENIED));
	cr_expect(ask_is_error(ask(&p, "signal { port { id: %llu } signal: 9 }", ID(cat)), DENIED));
	cr_expect(ask_is_error(ask(&p, "inspect { port { id: %llu } }", ID(hang)), NOT_FOUND));
	cr_expect(ask_is_error(ask(&p, "inspect { port { name: \"private\" } }"), NOT_FOUND));
	m = ask(&p, "list { }");
	cr_assert_eq(m->ports->n_ports, 1);
	cr_expect_eq(m->ports->ports[0]->port, cat);
	cr_expect(ask_is_error(ask(&p, "spawn { program: \"/bin/true\" }"), DENIED));
	cr_expect(ask_is_error(ask(&p, "shutdown { }"), DENIED));
	cr_expect(ask_is_error(ask(&p,
				   "grant { port { id: %llu } to: GRANT_EVERYONE "
				   "rights { write: true } }",
				   ID(cat)),
			       DENIED));
	m = ask(&p, "delegate { ports { id: %llu } rights { write: true } }", ID(cat));
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	peer_close(&p);
	close(door);
}

Test(delegate, P14_a_selector_is_followed_and_watches_see_no_more)
{
	int door = mint("labels { key: \"job\" } rights { signal: true }", NULL);
	uint64_t later, not_it;
	Redd__V1__Message *m;
	struct peer p;

	enter(&p, door);
	m = ask(&p, "watch { }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WATCHING);
	not_it = ask_spawn(&maker, "hang", "");
	later = ask_spawn(&maker, "hang", "labels { key: \"job\" }");
	m = ask_event(&p, REDD__V1__MESSAGE__BODY_LIFE);
	cr_assert_not_null(m);
	cr_expect_eq(m->life->port, later);
	m = ask(&p, "signal { labels { key: \"job\" } signal: 0 }");
	cr_expect_eq(m->signalled->count, 2, "%s", ask_text(m));
	cr_expect_eq(ask(&p, "list { }")->ports->n_ports, 2);
	peer_close(&p);
	close(door);
	ask_end(&maker, later);
	ask_end(&maker, not_it);
}

Test(delegate, P14_what_it_spawns_is_as_narrow)
{
	int door = mint("spawn: true rights { read: true signal: true }", NULL);
	Redd__V1__Message *m;
	struct peer p;
	uint64_t theirs;

	enter(&p, door);
	m = ask(&p, "spawn { program: \"%s\" name: \"private\" token: \"t\" subscribe { } }",
		place_prog("hang"));
	cr_assert_eq(m->body_case, STARTED, "%s", ask_text(m)); /* its names are its own */
	theirs = m->started->port;
	cr_expect_neq(theirs, hang);
	cr_expect_eq(ask(&p, "list { }")->ports->n_ports, 1);
	m = ask(&p, "signal { port { name: \"private\" } signal: 0 }");
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "%s", ask_text(m));
	cr_expect(
		ask_is_error(ask(&p, "resize { port { id: %llu } size { } }", ID(theirs)), DENIED));
	m = ask(&p, "subscribe { port { id: %llu } overflow: OVERFLOW_BLOCK }", ID(theirs));
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	m = ask(&p, "spawn { program: \"/bin/true\" subscribe { overflow: OVERFLOW_BLOCK } }");
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	cr_expect(
		ask_is_error(ask(&p, "spawn { program: \"/bin/true\" uid: %d }", NOBODY), DENIED));
	/* It is its maker's as well. */
	m = ask(&maker, "inspect { port { id: %llu } }", ID(theirs));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
	peer_close(&p);
	close(door);
	ask_end(&maker, theirs);
}

Test(delegate, P15_what_makes_no_sense_is_refused)
{
	static const char *const wrong[] = {
		"",
		"ports { id: 1 }",
		"rights { read: true }",
		"ports { id: 1 } rights { }",
		"ports { id: 1 } labels { key: \"k\" } rights { read: true }",
		"labels { key: \"\" } rights { read: true }",
		"spawn: true rights { see: true } duration_ms: 18446744073709551615",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		Redd__V1__Message *m = ask(&maker, "delegate { %s }", wrong[i]);

		cr_expect(ask_is_error(m, INVALID), "%s: %s", wrong[i], ask_text(m));
	}
	cr_expect(ask_is_error(ask(&maker, "delegate { ports { id: 999 } rights { see: true } }"),
			       NOT_FOUND));
	cr_expect_eq(peer_take_fd(&maker), -1);
}

/* --- its end --------------------------------------------------------------------------------- */

Test(delegate, P14_revoked_it_ends_with_all_that_came_through_it)
{
	Redd__V1__Message *m;
	uint64_t id, wait;
	int door = mint("ports { name: \"shared\" } rights { read: true write: true }", &id);
	struct peer p, late;

	enter(&p, door);
	m = ask(&p, "subscribe { port { id: %llu } }", ID(cat));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	m = ask(&p, "lease { port { id: %llu } }", ID(cat));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_LEASED, "%s", ask_text(m));
	wait = ask_send(&p, "wait { port { id: %llu } }", ID(cat));
	ask(&p, "ping { }");
	cr_expect(ask_is_error(ask(&p, "revoke { delegation: %llu }", ID(id)), NOT_FOUND));
	cr_expect_eq(ask(&maker, "revoke { delegation: %llu }", ID(id))->body_case, DONE);
	cr_expect(ask_is_error(ask(&maker, "revoke { delegation: %llu }", ID(id)), NOT_FOUND));
	m = ask_answer(&p, wait);
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	m = ask_event(&p, REDD__V1__MESSAGE__BODY_BYE);
	cr_assert_not_null(m);
	cr_expect_eq(m->bye->error->code, DENIED);
	cr_expect_eq(peer_expect_end(&p, 10000), 0);
	m = ask(&maker, "write { port { id: %llu } data: \"x\" }", ID(cat));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_WRITTEN, "%s", ask_text(m));
	wait_shut(door);
	cr_expect_lt(peer_knock(&late, door), 0, "the door is still open");
	peer_close(&late);
	peer_close(&p);
	close(door);
}

Test(delegate, P14_it_ends_by_time_and_with_its_makers_session)
{
	struct peer other;
	Redd__V1__Message *m;
	int timed = mint("ports { name: \"shared\" } rights { read: true } duration_ms: 50", NULL);
	int bound;

	expect_shut(timed);
	ask_greet(&other, service.socket);
	m = ask(&other,
		"delegate { labels { key: \"job\" } rights { see: true } with_session: true }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DELEGATED, "%s", ask_text(m));
	bound = peer_take_fd(&other);
	peer_close(&other);
	expect_shut(bound);
}

/* That nothing of it is left is seen when the service settles: as many descriptors as before. */
Test(delegate, P11_it_goes_when_all_copies_of_the_door_are_closed)
{
	int door = mint("ports { name: \"shared\" } rights { see: true }", NULL);
	struct peer p;

	enter(&p, door);
	close(door);
	/* Who is in may stay. */
	cr_expect_eq(ask(&p, "list { }")->ports->n_ports, 1);
	peer_close(&p);
}

/* --- on its way ------------------------------------------------------------------------------ */

static void wait_held(struct peer *p, uint64_t port)
{
	Redd__V1__Message *m;
	bool held = false;

	while (!held) {
		m = ask(p, "inspect { port { id: %llu } }", ID(port));
		for (size_t i = 0; i < m->port_info->n_streams; i++)
			held |= m->port_info->streams[i]->held;
	}
}

/* Its socket is full of output: answers wait, and each door goes with its own. */
Test(delegate, P8_each_door_comes_with_its_answer_through_a_flood)
{
	int doors[30], n = 0;
	uint64_t ids[30], requests[30], flood;
	Redd__V1__Message *m;
	struct peer other;

	flood = ask_spawn(&maker, "zeros", "args: \"1000000000\" subscribe { }");
	ask_greet(&other, service.socket);
	wait_held(&other, flood);
	for (int i = 0; i < 30; i++)
		requests[i] = ask_send(
			&maker, "delegate { ports { id: %llu } rights { see: true } }", ID(cat));
	for (int i = 0; i < 30; i++) {
		m = ask_answer(&maker, requests[i]);
		if (m->body_case != REDD__V1__MESSAGE__BODY_DELEGATED) {
			cr_assert(ask_is_error(m, REDD__V1__CODE__RESOURCE_EXHAUSTED), "%s",
				  ask_text(m));
			continue;
		}
		ids[n] = m->delegated->delegation;
		doors[n] = peer_take_fd(&maker);
		cr_assert_geq(doors[n++], 0);
		cr_assert_eq(maker.n_fds, 0, "a door came before its answer");
	}
	cr_assert_geq(n, 1);
	for (int i = 0; i < n; i++) {
		m = ask(&other, "revoke { delegation: %llu }", ID(ids[i]));
		cr_assert_eq(m->body_case, DONE, "%s", ask_text(m));
		expect_shut(doors[i]);
	}
	ask_end(&maker, flood); /* reads what is on its way */
	peer_close(&other);
}

/* --- who knocks ------------------------------------------------------------------------------ */

static void knock_with(int door, const void *data, size_t size, const int *fds, size_t n)
{
	struct iovec iov = { (void *)data, size };

	cr_assert_geq(fdpass_send(door, &iov, 1, fds, n, 0), 0);
}

Test(delegate, P15_bad_knocks_are_dropped_and_the_door_goes_on)
{
	int door = mint("ports { name: \"shared\" } rights { see: true }", NULL);
	int pair[2], other_pair[2], packets[2], pipes[2], null = open("/dev/null", O_RDWR);
	int listening = socket(AF_UNIX, SOCK_STREAM, 0), alone = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr any = { .sa_family = AF_UNIX };
	struct peer p;

	cr_assert_eq(bind(listening, &any, sizeof(any.sa_family)), 0);
	cr_assert_eq(listen(listening, 5), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, other_pair), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets), 0);
	cr_assert_eq(pipe(pipes), 0);
	for (unsigned i = 0; i < place_rounds(20); i++) {
		const int two[] = { pair[1], other_pair[1] };
		char empty = 0;

		knock_with(door, "c", 1, NULL, 0);
		knock_with(door, "cc", 2, &pair[1], 1);
		knock_with(door, "longer than anything", 20, &pair[1], 1);
		cr_assert_geq(send(door, &empty, 0, MSG_NOSIGNAL), 0);
		knock_with(door, "c", 1, two, 2);
		knock_with(door, "c", 1, &packets[1], 1);
		knock_with(door, "c", 1, &listening, 1);
		knock_with(door, "c", 1, &alone, 1);
		knock_with(door, "c", 1, &pipes[0], 1);
		knock_with(door, "c", 1, &null, 1);
		knock_with(door, "c", 1, &door, 1);
	}
	enter(&p, door);
	cr_expect_eq(ask(&p, "list { }")->ports->n_ports, 1);
	peer_close(&p);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(other_pair[i]);
		close(packets[i]);
		close(pipes[i]);
	}
	close(listening);
	close(alone);
	close(null);
	close(door);
}

Test(delegate, P7_a_flood_through_a_door_has_a_bound_and_delays_nobody)
{
	int door = mint("ports { name: \"shared\" } rights { see: true }", NULL);
	struct peer p[DELEGATION_CONNS + 1], again;
	Redd__V1__Message *m = NULL;

	for (unsigned i = 0; i < DELEGATION_CONNS; i++)
		enter(&p[i], door);
	cr_assert_eq(peer_knock(&p[DELEGATION_CONNS], door), 0);
	cr_assert_eq(peer_recv(&p[DELEGATION_CONNS], 10000, &m), 0);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_BYE);
	cr_expect_eq(m->bye->error->code, REDD__V1__CODE__RESOURCE_EXHAUSTED);
	cr_expect_eq(ask(&maker, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	for (unsigned i = 0; i <= DELEGATION_CONNS; i++)
		peer_close(&p[i]);
	/* There is room again once the broker has heard of it. */
	do {
		cr_assert_eq(peer_knock(&again, door), 0);
		if (peer_hello(&again) == 0)
			break;
		peer_close(&again);
	} while (true);
	peer_close(&again);
	close(door);
}

/* --- from elsewhere -------------------------------------------------------------------------- */

/* What a stranger in an empty root can do with nothing but the door. */
static int stranger(int door)
{
	struct redd_connect_options o = { .no_start = true };
	struct redd *r = redd_new();
	struct redd_ports *ports;
	char socket[32];
	int e;

	if (geteuid() == 0 &&
	    (chroot("/proc/self/fdinfo") || chdir("/") || setgid(NOBODY) || setuid(NOBODY)))
		return 10;
	snprintf(socket, sizeof(socket), "fd:%d", door);
	setenv("REDD_SOCKET", socket, 1);
	e = redd_connect(r, &o);
	if (e < 0)
		return 11;
	e = redd_list(r, NULL, &ports);
	if (e < 0 || ports->n_ports != 1 || ports->ports[0].port != cat)
		return 12;
	redd_ports_free(ports);
	redd_disconnect(r);
	if (redd_connect(r, &o) < 0) /* the door is still open */
		return 13;
	redd_free(r);
	return 0;
}

Test(delegate, P14_another_user_without_a_file_system_comes_in)
{
	int door = mint("ports { name: \"shared\" } rights { see: true }", NULL), status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(stranger(door));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
	close(door);
}

Test(delegate, libredd_gets_the_door_with_the_answer)
{
	struct redd_connect_options o = { .socket = service.socket }, through = { 0 };
	struct redd *r = redd_new(), *inner = redd_new();
	struct redd_port *port, *same;
	struct redd_delegate_options d = { .ports = &port, .n_ports = 1, .rights.write = true };
	struct redd_delegated door[3];
	char socket[32];

	cr_assert_eq(redd_connect(r, &o), 0);
	cr_assert_eq(redd_port_by_id(r, cat, &port), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(redd_delegate(r, &d, &door[i]), 0, "%s", redd_last_error(r)->message);
	cr_assert(fcntl(door[2].door, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(redd_delegate_start(r, &d, NULL), 0); /* whose door nobody wants */
	snprintf(socket, sizeof(socket), "fd:%d", door[1].door);
	through.socket = socket;
	cr_assert_eq(redd_connect(inner, &through), 0, "%s", redd_last_error(inner)->message);
	cr_assert_eq(redd_port_by_id(inner, cat, &same), 0);
	cr_expect_eq(redd_write(same, "x", 1, NULL, NULL), 0);
	cr_expect_eq(redd_signal(same, 0, REDD_LEADER, NULL), -EPERM);
	cr_expect_eq(redd_revoke_delegation(r, door[1].delegation), 0);
	cr_expect_eq(redd_write(same, "x", 1, NULL, NULL), -ENOTCONN);
	cr_expect(strstr(redd_last_error(inner)->message, "revoked"), "%s",
		  redd_last_error(inner)->message);
	for (int i = 0; i < 3; i++)
		close(door[i].door);
	redd_free(inner);
	redd_free(r);
}
