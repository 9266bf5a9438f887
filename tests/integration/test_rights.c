/* Who may what (P14): a port is its owner's, and an owner is a uid behind one listening socket.
 * Whoever else asks is told that there is no such port, whatever the verb. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/narrow.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define NOT_FOUND REDD__V1__CODE__NOT_FOUND
#define DENIED	  REDD__V1__CODE__PERMISSION_DENIED
#define NOBODY	  65534

static struct service service;
static struct peer owner, stranger;
static struct narrow narrow;
static uint64_t port;

static void set_up(void)
{
	narrow_start(&narrow, &service);
	ask_greet(&owner, service.socket);
	ask_greet(&stranger, narrow.socket);
	port = ask_spawn(&owner, "hang",
			 "name: \"mine\" token: \"secret\" terminal { } labels { key: \"k\" }");
}

static void tear_down(void)
{
	ask_end(&owner, port);
	peer_close(&stranger);
	peer_close(&owner);
	cr_assert_eq(service_finish(&service), 0);
	narrow_remove(&narrow);
}

TestSuite(rights, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- another principal ----------------------------------------------------------------------- */

static const char *const verbs[] = {
	"write { port { %s } data: \"x\" }",
	"write { port { %s } data: \"x\" close: true }",
	"close { port { %s } }",
	"signal { port { %s } signal: 0 }",
	"signal { port { %s } signal: 9 target: TARGET_GROUP }",
	"signal { port { %s } signal: 9 target: TARGET_TREE }",
	"resize { port { %s } size { rows: 1 } }",
	"subscribe { port { %s } }",
	"wait { port { %s } timeout_ms: 0 }",
	"inspect { port { %s } }",
	"forget { port { %s } }",
};

static void expect_hidden(struct peer *p, const char *reference)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		char text[256];
		Redd__V1__Message *m;

		snprintf(text, sizeof(text), verbs[i], reference);
		m = ask(p, "%s", text);
		cr_expect(ask_is_error(m, NOT_FOUND), "%s: %s", text, ask_text(m));
		cr_expect(m->error && !strstr(m->error->message, "mine"), "%s", ask_text(m));
	}
}

Test(rights, P14_S65_every_verb_on_anothers_port_says_that_there_is_none)
{
	char id[64];

	snprintf(id, sizeof(id), "id: %llu", (unsigned long long)port);
	expect_hidden(&stranger, id);
	expect_hidden(&stranger, "name: \"mine\"");
	expect_hidden(&stranger, "spawn: 2"); /* the owner's request that spawned it */
	cr_expect_eq(ask(&owner, "resize { port { name: \"mine\" } size { } }")->body_case,
		     REDD__V1__MESSAGE__BODY_DONE);
}

Test(rights, P14_lists_and_watches_leave_out_what_is_anothers)
{
	Redd__V1__Message *m = ask(&stranger, "list { details: true }");
	uint64_t sequence, mine;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORTS, "%s", ask_text(m));
	cr_expect_eq(m->ports->n_ports, 0);
	m = ask(&stranger, "watch { after: 0 }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WATCHING, "%s", ask_text(m));
	sequence = m->watching->sequence;
	ask_end(&owner, ask_spawn(&owner, "exit", ""));
	mine = ask_spawn(&stranger, "exit", "");
	m = ask_event(&stranger, REDD__V1__MESSAGE__BODY_LIFE);
	cr_assert_not_null(m);
	cr_expect_eq(m->life->port, mine, "an event of another's port");
	cr_expect_gt(m->life->sequence, sequence + 1); /* those were there, and not told */
	ask_end(&stranger, mine);
}

Test(rights, P14_names_and_tokens_are_each_principals_own)
{
	Redd__V1__Message *m = ask(&stranger,
				   "spawn { program: \"%s\" name: \"mine\" token: \"secret\" "
				   "terminal { } labels { key: \"k\" } }",
				   place_prog("hang"));
	uint64_t theirs;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	theirs = m->started->port;
	cr_expect_neq(theirs, port);
	cr_expect_not(m->started->repeated);
	m = ask(&stranger, "inspect { port { name: \"mine\" } }");
	cr_expect_eq(m->port_info->port, theirs);
	m = ask(&owner, "inspect { port { name: \"mine\" } }");
	cr_expect_eq(m->port_info->port, port);
	ask_end(&stranger, theirs);
}

Test(rights, P14_ids_of_a_connection_mean_nothing_on_another)
{
	Redd__V1__Message *m = ask(&owner, "subscribe { port { name: \"mine\" } }");
	struct peer second;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	ask(&owner, "watch { }");
	ask_send(&owner, "wait { port { name: \"mine\" } }");
	ask_greet(&second, service.socket);
	m = ask(&second, "unsubscribe { subscription: 1 }");
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	m = ask(&second, "credit { subscription: 1 bytes: 1 }");
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	m = ask(&second, "unwatch { watch: 1 }");
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	m = ask(&second, "cancel { request: %llu }", (unsigned long long)owner.last_id);
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	m = ask(&second, "inspect { port { spawn: 2 } }");
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	m = ask(&owner, "cancel { request: %llu }", (unsigned long long)owner.last_id);
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_DONE, "%s", ask_text(m));
	peer_close(&second);
}

Test(rights, P14_only_the_private_socket_may_end_the_service)
{
	Redd__V1__Message *m = ask(&stranger, "shutdown { }");

	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	cr_expect_eq(ask(&owner, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
}

/* --- descriptors ----------------------------------------------------------------------------- */

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	(void)reply;
	*(int *)user = result;
}

/* Asked for behind Welcome, or ahead of it, when nobody can know yet. */
static void expect_no_descriptors(bool ahead)
{
	struct redd_connect_options to = { .socket = narrow.socket };
	struct redd_adopt_options o = { .reads = true, .read_fd = open("/dev/null", O_RDONLY) };
	struct redd *r = redd_new();
	struct redd_port *p;
	int result = 1;
	struct redd_call call = { .done = on_done, .user = &result };

	if (ahead)
		cr_assert_eq(redd_connect_start(r, &to, NULL), 0);
	else
		cr_assert_eq(redd_connect(r, &to), 0);
	if (redd_adopt_start(r, &o, &p, &call) < 0)
		result = redd_last_error(r)->result;
	while (result == 1)
		cr_assert_eq(redd_run_once(r, 10000), 0);
	cr_expect_eq(result, -EOPNOTSUPP, "%d: %s", result, redd_last_error(r)->message);
	cr_expect(strstr(redd_last_error(r)->message, "takes no descriptors"));
	cr_expect_eq(redd_ping(r), 0, "the connection goes on");
	redd_free(r);
	close(o.read_fd);
}

Test(rights, P15_descriptors_are_refused_where_none_are_taken)
{
	expect_no_descriptors(false);
	expect_no_descriptors(true);
}

/* --- another user ---------------------------------------------------------------------------- */

/* What a client of that uid gets: 0 Bye with that code, 1 something else, 2 it cannot even connect.
 */
static int visit_as(uid_t uid, const char *socket, Redd__V1__Code code)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		Redd__V1__Message *m;
		struct peer p;

		if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
			_exit(3);
		if (peer_open(&p, socket))
			_exit(2);
		m = ask_event(&p, REDD__V1__MESSAGE__BODY_BYE);
		_exit(!m || m->bye->error->code != code || ask_check_error(m->bye->error) ||
		      peer_expect_end(&p, 10000));
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Suites run in a temporary directory of their own, which only its user may enter. */
static void parent_open(void)
{
	const char *tmp = getenv("TMPDIR");
	struct stat st;

	if (tmp && stat(tmp, &st) == 0 && (st.st_mode & 0011) != 0011)
		cr_assert_eq(chmod(tmp, (st.st_mode & 07777) | 0011), 0);
}

Test(rights, P14_another_user_is_refused_by_the_file_system_and_by_the_broker)
{
	int r;

	if (geteuid())
		cr_skip_test("becoming another user needs root");
	parent_open();
	cr_expect_eq(visit_as(NOBODY, service.socket, DENIED), 2, "it could connect");
	cr_assert_eq(chmod(service.directory, 0755), 0);
	cr_expect_eq(visit_as(NOBODY, service.socket, DENIED), 2, "it could connect");
	cr_assert_eq(chmod(service.socket, 0666), 0);
	r = visit_as(NOBODY, service.socket, DENIED);
	cr_expect_eq(r, 0, "it was not told why: %d", r);
	cr_assert_eq(chmod(narrow.directory, 0755), 0);
	cr_assert_eq(chmod(narrow.socket, 0666), 0);
	r = visit_as(NOBODY, narrow.socket, DENIED);
	cr_expect_eq(r, 0, "it was not told why: %d", r);
}

/* Same uid, other groups, as behind newgrp(1): what its child prints goes to ret. */
static void spawn_with_groups(gid_t gid, gid_t group, char *ret, size_t size)
{
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		Redd__V1__Message *m;
		struct peer p;

		if (setgroups(1, &group) || setresgid(gid, gid, gid) ||
		    peer_open(&p, service.socket) || peer_hello(&p))
			_exit(3);
		ask(&p, "spawn { shell: \"echo `id -g` `id -G`\" subscribe { } retention_ms: 0 }");
		m = ask_event(&p, REDD__V1__MESSAGE__BODY_OUTPUT);
		_exit(!m || write(fds[1], m->output->data.data, m->output->data.len) < 0);
	}
	close(fds[1]);
	n = read(fds[0], ret, size - 1);
	ret[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

Test(rights, P14_a_child_has_its_clients_groups_not_the_services)
{
	char text[128];

	if (geteuid())
		cr_skip_test("other groups need root");
	spawn_with_groups(12345, 54321, text, sizeof(text));
	cr_expect_str_eq(text, "12345 12345 54321\n");
}

/* --- sockets --------------------------------------------------------------------------------- */

static mode_t mode_of(const char *path)
{
	struct stat st;

	cr_assert_eq(lstat(path, &st), 0, "%s", path);
	return st.st_mode & 07777;
}

Test(rights, P14_sockets_and_locks_are_their_users_alone)
{
	char lock[PATH_MAX + 8];

	cr_expect_eq(mode_of(service.socket), 0600);
	cr_expect_eq(mode_of(narrow.socket), 0600);
	snprintf(lock, sizeof(lock), "%s.lock", service.socket);
	cr_expect_eq(mode_of(lock), 0600);
}
