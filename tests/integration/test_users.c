/* Several users of one service (P14): they meet at its public socket, where each has what is his,
 * and of what is another's what that one grants. */
#include <criterion/criterion.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/ask.h"
#include "tests/lib/command.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define NOT_FOUND REDD__V1__CODE__NOT_FOUND
#define DENIED	  REDD__V1__CODE__PERMISSION_DENIED
#define ANN	  61001u
#define BOB	  61002u
#define CARL	  61003u
#define NO_GROUP  61004u
#define CLUB	  61005u

static struct service service;
static char directory[PATH_MAX], meeting[PATH_MAX];

/* Suites run in a temporary directory of their own, which only its user may enter. */
static void open_up(const char *path)
{
	struct stat st;

	if (path && stat(path, &st) == 0 && (st.st_mode & 0011) != 0011)
		cr_assert_eq(chmod(path, (st.st_mode & 07777) | 0011), 0);
}

static void set_up(void)
{
	const char *const args[] = { "--public-socket", meeting, NULL };
	const struct service_options o = { .args = args };

	umask(077);
	open_up(getenv("TMPDIR"));
	cr_assert_eq(place_make_dir(directory), 0);
	open_up(directory);
	snprintf(meeting, sizeof(meeting), "%.*s/all/sock", PATH_MAX - 16, directory);
	cr_assert_eq(service_start(&service, &o), 0);
}

static void tear_down(void)
{
	cr_assert_eq(service_finish(&service), 0);
	cr_assert_eq(place_remove_dir(directory), 0);
}

TestSuite(users, .init = set_up, .fini = tear_down, .timeout = 60);

/* A process of its own becomes that user, and connects. */
static void become(uid_t uid, gid_t gid, struct peer *ret)
{
	alarm(30);
	if (setgroups(1, &gid) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		_exit(99);
	if (peer_open(ret, meeting) || peer_hello(ret))
		_exit(98);
}

/* Asks as that user, on a connection of its own: 0, or the code of what it was refused with. What
 * it was answered goes to ret, which may be NULL: a port's id, or a code of exit. */
static int visit(uid_t uid, gid_t gid, uint64_t *ret, const char *request)
{
	int fds[2], status;
	uint64_t told = 0;
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		Redd__V1__Message *m;
		struct peer p;

		become(uid, gid, &p);
		m = ask(&p, "%s", request);
		if (m->body_case == REDD__V1__MESSAGE__BODY_STARTED)
			told = m->started->port;
		if (m->body_case == REDD__V1__MESSAGE__BODY_WAITED)
			told = m->waited->exit->code;
		if (write(fds[1], &told, sizeof(told)) < 0)
			_exit(97);
		_exit(m->body_case == REDD__V1__MESSAGE__BODY_ERROR ? (int)m->error->code : 0);
	}
	close(fds[1]);
	cr_assert_eq(read(fds[0], &told, sizeof(told)), (ssize_t)sizeof(told));
	close(fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (ret)
		*ret = told;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The same about a port, whose id stands for %llu. */
static int visit_port(uid_t uid, gid_t gid, const char *format, uint64_t port)
{
	char request[256];

	snprintf(request, sizeof(request), format, (unsigned long long)port);
	return visit(uid, gid, NULL, request);
}

static uint64_t spawn_as(uid_t uid, const char *what)
{
	uint64_t port;

	if (geteuid())
		cr_skip_test("becoming another user needs root");
	cr_assert_eq(visit(uid, NO_GROUP, &port, what), 0);
	return port;
}

#define CAT                                            \
	"spawn { program: \"cat\" orphan: ORPHAN_KEEP" \
	" name: \"hers\" descriptors { fd: 0 kind: KIND_PIPE } }"
#define READ	"subscribe { port { id: %llu } }"
#define WRITE	"write { port { id: %llu } data: \"x\" }"
#define INSPECT "inspect { port { id: %llu } }"

static void end_as(uid_t uid, uint64_t port)
{
	cr_expect_eq(visit_port(uid, NO_GROUP, "signal { port { id: %llu } signal: 9 }", port), 0);
	cr_expect_eq(visit_port(uid, NO_GROUP, "wait { port { id: %llu } until: CLOSED }", port),
		     0);
	cr_expect_eq(visit_port(uid, NO_GROUP, "forget { port { id: %llu } }", port), 0);
}

Test(users, P14_a_port_is_for_those_users_whom_it_was_granted_to)
{
	uint64_t port = spawn_as(ANN, CAT);
	struct peer root;

	ask_greet(&root, service.socket);
	cr_expect(ask_is_error(ask(&root, INSPECT, (unsigned long long)port), NOT_FOUND));
	peer_close(&root);
	cr_expect_eq(visit_port(BOB, NO_GROUP, INSPECT, port), NOT_FOUND);
	cr_expect_eq(visit_port(ANN, NO_GROUP,
				"grant { port { id: %llu } number: 61002 rights { read: true } }",
				port),
		     0);
	cr_expect_eq(visit_port(ANN, NO_GROUP,
				"grant { port { id: %llu } to: GRANT_GID number: 61005 "
				"rights { write: true } }",
				port),
		     0);
	cr_expect_eq(visit_port(BOB, NO_GROUP, READ, port), 0);
	cr_expect_eq(visit_port(BOB, NO_GROUP, WRITE, port), DENIED);
	cr_expect_eq(visit_port(CARL, NO_GROUP, INSPECT, port), NOT_FOUND);
	cr_expect_eq(visit_port(CARL, CLUB, WRITE, port), 0);
	cr_expect_eq(visit_port(CARL, CLUB, READ, port), DENIED);
	cr_expect_eq(visit_port(BOB, NO_GROUP, "revoke { port { id: %llu } }", port), DENIED);
	cr_expect_eq(visit_port(ANN, NO_GROUP, "revoke { port { id: %llu } }", port), 0);
	cr_expect_eq(visit_port(BOB, NO_GROUP, READ, port), NOT_FOUND);
	cr_expect_eq(visit(BOB, NO_GROUP, NULL, "inspect { port { name: \"hers\" } }"), NOT_FOUND);
	end_as(ANN, port);
}

/* Tells `fd` when it is subscribed. 0: it was told that its right was taken back. */
static int watch_until_revoked(uint64_t port, int fd)
{
	Redd__V1__Message *m;
	struct peer p;

	become(BOB, NO_GROUP, &p);
	m = ask(&p, READ, (unsigned long long)port);
	if (m->body_case != REDD__V1__MESSAGE__BODY_SUBSCRIBED || write(fd, "", 1) < 0)
		return 1;
	m = ask_event(&p, REDD__V1__MESSAGE__BODY_CLOSED);
	return !m || m->closed->cause != REDD__V1__CLOSED__CAUSE__REVOKED;
}

Test(users, P14_another_users_subscription_ends_when_its_right_is_taken_back)
{
	uint64_t port = spawn_as(ANN, CAT);
	int fds[2], status;
	pid_t pid;
	char c;

	cr_assert_eq(visit_port(ANN, NO_GROUP,
				"grant { port { id: %llu } to: GRANT_EVERYONE "
				"rights { read: true streams: 1 } }",
				port),
		     0);
	cr_assert_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0)
		_exit(watch_until_revoked(port, fds[1]));
	close(fds[1]);
	cr_assert_eq(read(fds[0], &c, 1), 1);
	close(fds[0]);
	cr_expect_eq(visit_port(ANN, NO_GROUP, "revoke { port { id: %llu } }", port), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	end_as(ANN, port);
}

/* The same user at another socket is another one, too. */
Test(users, P14_logs_that_are_taken_away_are_no_end)
{
	struct command logs = { 0 };
	struct peer owner;
	uint64_t port;
	char id[24];

	ask_greet(&owner, service.socket);
	port = ask_spawn(&owner, "cat", "descriptors { fd: 0 kind: KIND_PIPE }");
	ask(&owner, "write { port { id: %llu } data: \"here\" }", (unsigned long long)port);
	ask(&owner, "grant { port { id: %llu } number: %u rights { read: true } }",
	    (unsigned long long)port, (unsigned)geteuid());
	snprintf(id, sizeof(id), "%llu", (unsigned long long)port);
	command_start(&logs, meeting, "logs", "-f", id, NULL);
	cr_assert(command_await(&logs, "here"));
	ask(&owner, "revoke { port { id: %llu } }", (unsigned long long)port);
	command_finish(&logs, NULL, 0);
	cr_expect_eq(logs.status, 1, "status %d", logs.status);
	cr_expect(logs.err.text && strstr(logs.err.text, "taken back"), "%s", logs.err.text);
	command_free(&logs);
	ask_end(&owner, port);
	peer_close(&owner);
}

Test(users, P14_each_user_is_himself_and_no_more)
{
	uint64_t port = spawn_as(BOB, "spawn { shell: \"exit $(($(id -u) - 61000))\""
				      " orphan: ORPHAN_KEEP }");
	uint64_t code = 0;
	char text[128];

	snprintf(text, sizeof(text), "wait { port { id: %llu } until: CLOSED }",
		 (unsigned long long)port);
	cr_expect_eq(visit(BOB, NO_GROUP, &code, text), 0);
	cr_expect_eq(code, BOB - 61000);
	cr_expect_eq(visit_port(BOB, NO_GROUP, "forget { port { id: %llu } }", port), 0);
	cr_expect_eq(visit(BOB, NO_GROUP, NULL, "spawn { program: \"true\" uid: 0 }"), DENIED);
	cr_expect_eq(visit(BOB, NO_GROUP, NULL, "shutdown { }"), DENIED);
	/* What the service has, and he has not. */
	cr_expect_eq(
		visit(BOB, NO_GROUP, NULL, "spawn { program: \"true\" nice: 5 retention_ms: 0 }"),
		0);
	cr_expect_eq(visit(BOB, NO_GROUP, NULL, "spawn { program: \"true\" nice: -5 }"), DENIED);
	cr_expect_eq(visit(BOB, NO_GROUP, NULL, "spawn { program: \"true\" group: GROUP_NEW }"),
		     DENIED);
	cr_expect_eq(visit(BOB, NO_GROUP, NULL,
			   "spawn { program: \"true\" environment { from: BROKER } }"),
		     DENIED);
	cr_expect_eq(visit(BOB, NO_GROUP, NULL,
			   "spawn { program: \"true\" limits { name: \"rtprio\" hard: 99 } }"),
		     DENIED);
}
