/* Clients that are killed, at any byte of what they had to say: nothing stays of them but what they
 * had declared (orphan policies), and who shows its session in time has it back (P7, P14). */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/ask.h"
#include "tests/lib/measure.h"
#include "tests/lib/narrow.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define WAITED	 REDD__V1__MESSAGE__BODY_WAITED
#define WELCOME	 REDD__V1__MESSAGE__BODY_WELCOME
#define DEADLINE REDD__V1__CODE__DEADLINE_EXCEEDED
#define KEEP_MS	 400

static struct service service;
static struct peer peer;
static struct narrow narrow;

static void set_up(void)
{
	narrow_start(&narrow, &service);
	ask_greet(&peer, service.socket);
}

static void tear_down(void)
{
	peer_close(&peer);
	cr_assert_eq(service_finish(&service), 0);
	narrow_remove(&narrow);
}

TestSuite(cut, .init = set_up, .fini = tear_down, .timeout = 90);

/* --- at any byte ----------------------------------------------------------------------------- */

/* All that leaves traces: ports of each policy but those that keep, input, subscriptions, waits, a
 * watch. */
static void session_pack(struct buf *out)
{
	char spawn[1024];

	buf_init(out, 1 << 20);
	ask_pack(out, 1, "hello { version: 1 client: \"cut\" }");
	snprintf(spawn, sizeof(spawn),
		 "spawn { program: \"%s\" descriptors { fd: 0 kind: KIND_PIPE } subscribe { } "
		 "retention_ms: 0 }",
		 place_prog("hang"));
	ask_pack(out, 2, spawn);
	ask_pack(out, 3, "write { port { spawn: 2 } data: \"abcdefghijklmnopqrstuvwxyz\" }");
	snprintf(spawn, sizeof(spawn),
		 "spawn { program: \"%s\" descriptors { fd: 0 kind: KIND_PIPE } "
		 "orphan: ORPHAN_CLOSE_INPUT retention_ms: 0 }",
		 place_prog("cat"));
	ask_pack(out, 4, spawn);
	ask_pack(out, 5, "write { port { spawn: 4 } data: \"0123456789\" }");
	ask_pack(out, 6, "subscribe { port { spawn: 4 } credit: 1 }");
	ask_pack(out, 7, "wait { port { spawn: 4 } until: CLOSED }");
	ask_pack(out, 8, "watch { after: 0 }");
}

/* In a process of its own, which is killed when it has sent so many bytes. */
static void client_run(const void *bytes, size_t size)
{
	pid_t pid = fork();
	struct peer p;
	int status;

	if (pid == 0) {
		if (peer_open(&p, service.socket) == 0 && peer_send(&p, bytes, size) == 0)
			raise(SIGKILL);
		_exit(1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status), "the client could not send %zu bytes", size);
}

Test(cut, P7_a_client_killed_at_any_byte_leaves_nothing)
{
	struct neighbour neighbour;
	struct buf bytes;
	size_t step;

	session_pack(&bytes);
	step = buf_size(&bytes) / place_rounds((unsigned)buf_size(&bytes));
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
	for (size_t cut = 0; cut <= buf_size(&bytes); cut += step)
		client_run(buf_head(&bytes), cut);
	buf_deinit(&bytes);
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
}

/* --- policies -------------------------------------------------------------------------------- */

/* A port whose client is killed as soon as it was told of it; its input has `text`. */
static uint64_t orphan_make(const char *prog, const char *options, const char *text)
{
	uint64_t port = 0;
	int report[2], status;
	pid_t pid;

	cr_assert_eq(pipe(report), 0);
	pid = fork();
	if (pid == 0) {
		struct peer p;

		ask_greet(&p, service.socket);
		port = ask_spawn(&p, prog, options);
		if (text)
			ask_send(&p, "write { port { id: %d } data: \"%s\" }", (int)port, text);
		if (write(report[1], &port, sizeof(port)) == sizeof(port))
			raise(SIGKILL);
		_exit(1);
	}
	close(report[1]);
	cr_assert_eq(read(report[0], &port, sizeof(port)), sizeof(port));
	close(report[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return port;
}

static const Redd__V1__Exit *wait_closed(uint64_t port)
{
	Redd__V1__Message *m =
		ask(&peer, "wait { port { id: %llu } until: CLOSED }", (unsigned long long)port);

	cr_assert_eq(m->body_case, WAITED, "%s", ask_text(m));
	return m->waited->exit;
}

static void forget(uint64_t port)
{
	Redd__V1__Message *m = ask(&peer, "forget { port { id: %llu } }", (unsigned long long)port);

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DONE, "%s", ask_text(m));
}

Test(cut, P7_kill_is_what_an_orphan_gets_unless_told_otherwise)
{
	uint64_t port = orphan_make("hang", "", NULL);
	const Redd__V1__Exit *exit = wait_closed(port);

	cr_expect_eq(exit->state, REDD__V1__EXIT__STATE__SIGNAL);
	cr_expect_eq(exit->signal, SIGKILL);
	forget(port);
}

Test(cut, P7_close_input_writes_what_was_accepted_and_then_ends_it)
{
	uint64_t port = orphan_make(
		"sink",
		"descriptors { fd: 0 kind: KIND_PIPE } orphan: ORPHAN_CLOSE_INPUT subscribe { }",
		"0123456789");
	Redd__V1__Message *m;

	cr_expect_eq(wait_closed(port)->code, 0);
	ask_send(&peer, "subscribe { port { id: %llu } }", (unsigned long long)port);
	m = ask_event(&peer, REDD__V1__MESSAGE__BODY_OUTPUT);
	cr_assert(m && !memcmp(m->output->data.data, "10 ", 3), "not all ten bytes came");
	forget(port);
}

Test(cut, P7_keep_keeps)
{
	uint64_t port = orphan_make("hang", "orphan: ORPHAN_KEEP", NULL);
	Redd__V1__Message *m =
		ask(&peer, "wait { port { id: %llu } timeout_ms: 300 }", (unsigned long long)port);

	cr_expect(ask_is_error(m, DEADLINE), "%s", ask_text(m));
	m = ask(&peer, "inspect { port { id: %llu } }", (unsigned long long)port);
	cr_expect(m->port_info->orphaned);
	ask_end(&peer, port);
}

Test(cut, P7_keep_for_kills_when_the_time_is_over)
{
	double begin = measure_now();
	uint64_t port = orphan_make("hang", "orphan: ORPHAN_KEEP_FOR orphan_ms: 400", NULL);

	cr_expect_eq(wait_closed(port)->signal, SIGKILL);
	cr_expect_geq((measure_now() - begin) * 1000, KEEP_MS);
	forget(port);
}

Test(cut, P7_a_spawn_whose_client_goes_before_the_answer_is_an_orphan_too)
{
	for (unsigned i = 0; i < place_rounds(20); i++) {
		struct peer p;

		ask_greet(&p, service.socket);
		ask_send(&p, "spawn { program: \"%s\" retention_ms: 0 }", place_prog("hang"));
		peer_close(&p);
	}
}

/* --- sessions -------------------------------------------------------------------------------- */

struct shown {
	char id[16 * 4 + 1]; /* as text with escapes */
	uint8_t instance[16];
};

static void hello(struct peer *p, const char *socket, struct shown *ret)
{
	Redd__V1__Message *m;

	cr_assert_eq(peer_open(p, socket), 0);
	m = ask(p, "hello { version: 1 }");
	cr_assert_eq(m->body_case, WELCOME, "%s", ask_text(m));
	cr_assert_eq(m->welcome->session.len, 16);
	for (int i = 0; i < 16; i++)
		sprintf(ret->id + 4 * i, "\\x%02x", m->welcome->session.data[i]);
	memcpy(ret->instance, m->welcome->instance.data, 16);
}

static Redd__V1__Message *hello_again(struct peer *p, const char *socket, const struct shown *s)
{
	cr_assert_eq(peer_open(p, socket), 0);
	return ask(p, "hello { version: 1 session: \"%s\" }", s->id);
}

Test(cut, P7_a_session_that_is_back_in_time_has_its_ports_again)
{
	struct peer first, second;
	struct shown shown;
	Redd__V1__Message *m;
	uint64_t port;

	hello(&first, service.socket, &shown);
	port = ask_spawn(&first, "hang", "orphan: ORPHAN_KEEP_FOR orphan_ms: 1000");
	peer_close(&first);
	m = hello_again(&second, service.socket, &shown);
	cr_assert_eq(m->body_case, WELCOME, "%s", ask_text(m));
	cr_expect(!memcmp(m->welcome->instance.data, shown.instance, 16));
	m = ask(&second, "inspect { port { id: %llu } }", (unsigned long long)port);
	cr_expect_not(m->port_info->orphaned);
	m = ask(&second, "wait { port { id: %llu } timeout_ms: 1500 }", (unsigned long long)port);
	cr_expect(ask_is_error(m, DEADLINE), "it was killed after all: %s", ask_text(m));
	peer_close(&second); /* the policy holds again */
	cr_expect_eq(wait_closed(port)->signal, SIGKILL);
	forget(port);
}

Test(cut, P7_S63_a_session_may_be_taken_over_from_a_connection_that_lives)
{
	struct peer first, second;
	struct shown shown;
	Redd__V1__Message *m;
	uint64_t port;

	hello(&first, service.socket, &shown);
	port = ask_spawn(&first, "hang", "");
	m = hello_again(&second, service.socket, &shown);
	cr_assert_eq(m->body_case, WELCOME, "%s", ask_text(m));
	m = ask_event(&first, REDD__V1__MESSAGE__BODY_BYE);
	cr_assert(m && m->bye->error->code == REDD__V1__CODE__ABORTED, "%s", ask_text(m));
	cr_expect_null(ask_check_error(m->bye->error), "%s", ask_text(m));
	cr_expect_eq(peer_expect_end(&first, 10000), 0);
	peer_close(&first);
	m = ask(&second, "wait { port { id: %llu } timeout_ms: 200 }", (unsigned long long)port);
	cr_expect(ask_is_error(m, DEADLINE), "%s", ask_text(m));
	ask_end(&second, port);
	peer_close(&second);
}

Test(cut, P14_a_session_is_its_owners_alone)
{
	struct peer first, second;
	struct shown shown;
	Redd__V1__Message *m;

	hello(&first, service.socket, &shown);
	m = hello_again(&second, narrow.socket, &shown);
	cr_expect(ask_is_error(m, REDD__V1__CODE__NOT_FOUND), "%s", ask_text(m));
	cr_expect_eq(peer_hello(&second), 0); /* and may go on without */
	peer_close(&second);
	shown.id[3] = shown.id[3] == '0' ? '1' : '0';
	m = hello_again(&second, service.socket, &shown);
	cr_expect(ask_is_error(m, REDD__V1__CODE__NOT_FOUND), "%s", ask_text(m));
	peer_close(&second);
	cr_expect_eq(ask(&first, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	peer_close(&first);
}

Test(cut, P14_a_session_ends_with_its_connection_when_no_port_waits)
{
	struct peer first, second;
	struct shown shown;
	Redd__V1__Message *m;

	hello(&first, service.socket, &shown);
	ask_end(&first, ask_spawn(&first, "exit", ""));
	peer_close(&first);
	cr_assert_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	cr_assert_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	m = hello_again(&second, service.socket, &shown);
	cr_expect(ask_is_error(m, REDD__V1__CODE__NOT_FOUND), "%s", ask_text(m));
	peer_close(&second);
}
