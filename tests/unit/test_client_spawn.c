/* Spawn and input: what goes over the wire, and in which order. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/fake.h"

TestSuite(client_spawn, .timeout = 20);

static const char *const argv[] = { "prog", "a b", "", NULL };

static bool same(const ProtobufCBinaryData *d, const char *text)
{
	return d->len == strlen(text) && (!d->len || !memcmp(d->data, text, d->len));
}

/* Spawns with these options; what the broker got. */
static Redd__V1__Spawn *spawn(struct fake *f, const struct redd_spawn_options *o)
{
	struct redd_port *port;
	Redd__V1__Request *request;

	fake_open(f);
	cr_assert_eq(redd_spawn_start(f->r, o, &port, NULL), 0, "%s",
		     redd_last_error(f->r)->message);
	cr_assert_eq(fake_settle(f), 0);
	request = fake_heard(f);
	cr_assert(request && request->body_case == REDD__V1__REQUEST__BODY_SPAWN);
	return request->spawn;
}

static bool has_variable(const Redd__V1__Spawn *m, const char *text)
{
	for (size_t i = 0; i < m->environment->n_client; i++) {
		if (same(&m->environment->client[i], text))
			return true;
	}
	return false;
}

Test(client_spawn, all_zero_options_mean_our_environment_and_directory)
{
	struct redd_spawn_options o = { .argv = argv };
	char directory[4096];
	Redd__V1__Spawn *m;
	struct fake f;

	setenv("CLIENT_SPAWN_TEST", "yes = no", 1);
	m = spawn(&f, &o);
	cr_assert(same(&m->program, "prog") && !m->has_argv0 && !m->has_shell);
	cr_assert_eq(m->n_args, 2);
	cr_assert(same(&m->args[0], "a b") && same(&m->args[1], ""));
	cr_assert(has_variable(m, "CLIENT_SPAWN_TEST=yes = no"));
	cr_assert_eq(m->environment->from, REDD__V1__ENVIRONMENT__BASE__CLIENT);
	cr_assert_not(m->has_search_path, "the child's own PATH is the client's");
	cr_assert(same(&m->client_directory, getcwd(directory, sizeof(directory))));
	cr_assert_not(m->has_directory || m->has_umask || m->has_nice || m->has_uid ||
		      m->has_timeout_ms || m->has_drain_ms || m->has_retention_ms ||
		      m->has_orphan || m->has_name || m->has_token || m->has_checksum);
	cr_assert(!m->terminal && !m->subscribe && !m->n_descriptors && !m->n_labels);
	fake_close(&f);
}

Test(client_spawn, zeros_that_mean_something_are_sent_when_set)
{
	struct redd_spawn_options o = {
		.argv = argv,
		.set = REDD_SET_UMASK | REDD_SET_NICE | REDD_SET_UID | REDD_SET_GID |
		       REDD_SET_DRAIN | REDD_SET_DRAIN_LIMIT | REDD_SET_RETENTION |
		       REDD_SET_TIMEOUT_GRACE,
	};
	struct fake f;
	Redd__V1__Spawn *m = spawn(&f, &o);

	cr_assert(m->has_umask && m->umask == 0 && m->has_nice && m->nice == 0);
	cr_assert(m->has_uid && m->uid == 0 && m->has_gid && m->gid == 0);
	cr_assert(m->has_drain_ms && m->drain_ms == 0 && m->has_drain_limit_ms);
	cr_assert(m->has_retention_ms && m->has_timeout_grace_ms);
	fake_close(&f);
}

Test(client_spawn, every_option_reaches_the_wire)
{
	static const char *const set[] = { "A=1", "B=", NULL }, *const unset[] = { "C", NULL };
	const struct redd_label label = { "k", "v" };
	const struct redd_limit limit = { "nofile", true, true, 10, REDD_UNLIMITED };
	const struct redd_terminal size = { 30, 100, 7, 8 };
	const struct redd_subscribe_options sub = { .overflow = REDD_CANCEL, .window = 5000 };
	const uint32_t groups[] = { 5, 6 };
	struct redd_spawn_options o = {
		.argv = argv,
		.program = "/bin/real",
		.search_path = "/x:",
		.directory = "sub",
		.client_directory = "/here",
		.environment_base = REDD_ENV_EMPTY,
		.set_env = set,
		.unset = unset,
		.terminal = &size,
		.new_group = true,
		.no_new_privileges = true,
		.set = REDD_SET_GROUPS,
		.groups = groups,
		.n_groups = 2,
		.limits = &limit,
		.n_limits = 1,
		.timeout_ms = 1,
		.timeout_signal = SIGINT,
		.orphan = REDD_ORPHAN_KEEP_FOR,
		.orphan_ms = 9,
		.name = "n",
		.labels = &label,
		.n_labels = 1,
		.log_size = 65536,
		.token = "to\0ken",
		.token_size = 6,
		.checksum = true,
		.hold_unread = true,
		.input_high = 3,
		.input_low = 2,
		.input_bound = 1 << 21,
		.subscribe = &sub,
	};
	struct fake f;
	Redd__V1__Spawn *m = spawn(&f, &o);

	cr_assert(same(&m->program, "/bin/real") && same(&m->argv0, "prog"));
	cr_assert(same(&m->search_path, "/x:") && same(&m->directory, "sub"));
	cr_assert(same(&m->client_directory, "/here"));
	cr_assert_eq(m->environment->from, REDD__V1__ENVIRONMENT__BASE__EMPTY);
	cr_assert(m->environment->n_client == 0 && m->environment->n_set == 2 &&
		  same(&m->environment->set[1], "B=") && same(&m->environment->unset[0], "C"));
	cr_assert(m->terminal->rows == 30 && m->terminal->columns == 100 &&
		  m->terminal->x_pixels == 7 && m->terminal->y_pixels == 8);
	cr_assert(m->group == REDD__V1__GROUP__GROUP_NEW && m->no_new_privileges);
	cr_assert(m->n_groups == 2 && m->groups[1] == 6);
	cr_assert_str_eq(m->limits[0]->name, "nofile");
	cr_assert(m->limits[0]->soft == 10 && m->limits[0]->hard == UINT64_MAX);
	cr_assert(m->timeout_ms == 1 && m->timeout_signal == SIGINT);
	cr_assert(m->orphan == REDD__V1__ORPHAN__ORPHAN_KEEP_FOR && m->orphan_ms == 9);
	cr_assert(same(&m->name, "n") && !strcmp(m->labels[0]->value, "v"));
	cr_assert(m->log_size == 65536 && m->token.len == 6 && m->checksum && m->hold_unread);
	cr_assert(m->input_high == 3 && m->input_low == 2 && m->input_bound == 1 << 21);
	cr_assert_eq(m->subscribe->overflow, REDD__V1__OVERFLOW__OVERFLOW_CANCEL);
	cr_assert_eq(m->subscribe->credit, 5000);
	fake_close(&f);
}

Test(client_spawn, enumerations_have_the_numbers_of_the_wire)
{
	cr_assert_eq((int)REDD_TTY, REDD__V1__KIND__KIND_TERMINAL);
	cr_assert_eq((int)REDD_PASSED, REDD__V1__KIND__KIND_PASSED);
	cr_assert_eq((int)REDD_CLOSED_FD, REDD__V1__KIND__KIND_CLOSED);
	cr_assert_eq((int)REDD_OUTPUT, REDD__V1__DIRECTION__DIRECTION_OUTPUT);
	cr_assert_eq((int)REDD_ORPHAN_KEEP_FOR, REDD__V1__ORPHAN__ORPHAN_KEEP_FOR);
	cr_assert_eq((int)REDD_CANCEL, REDD__V1__OVERFLOW__OVERFLOW_CANCEL);
	cr_assert_eq((int)REDD_FROM_LAST_LINES, REDD__V1__START__FROM__LAST_LINES);
	cr_assert_eq((int)REDD_GAP_ABANDONED, REDD__V1__GAP__CAUSE__ABANDONED);
	cr_assert_eq((int)REDD_END_STOPPED, REDD__V1__STREAM_END__CAUSE__BROKER_STOPPED);
	cr_assert_eq((int)REDD_FORGOTTEN, REDD__V1__CLOSED__CAUSE__FORGOTTEN);
	cr_assert_eq((int)REDD_TREE, REDD__V1__TARGET__TARGET_TREE);
	cr_assert_eq((int)REDD_ENDED, REDD__V1__PORT_STATE__ENDED);
	cr_assert_eq((int)REDD_LIFE_MISSED, REDD__V1__LIFE__WHAT__MISSED);
	cr_assert_eq((int)REDD_STAGE_EXEC, REDD__V1__STAGE__STAGE_EXEC);
	cr_assert_eq((int)REDD_UNTIL_CLOSED, REDD__V1__WAIT__UNTIL__CLOSED);
	cr_assert_eq((int)REDD_EXIT_SIGNAL, REDD__V1__EXIT__STATE__SIGNAL);
}

Test(client_spawn, what_makes_no_sense_is_refused_here_with_a_sentence)
{
	const struct redd_descriptor bad_file = { .fd = 1, .kind = REDD_FILE },
				     bad_flags = { .fd = 1,
						   .kind = REDD_FILE,
						   .path = "x",
						   .open_flags = O_NONBLOCK },
				     bad_kind = { .fd = 1, .kind = (enum redd_kind)99 };
	const struct redd_spawn_options wrong[] = {
		{ 0 },
		{ .argv = argv, .shell = "x" },
		{ .argv = argv, .environment_base = (enum redd_environment)9 },
		{ .argv = argv, .descriptors = &bad_file, .n_descriptors = 1 },
		{ .argv = argv, .descriptors = &bad_flags, .n_descriptors = 1 },
		{ .argv = argv, .descriptors = &bad_kind, .n_descriptors = 1 },
	};
	struct redd_port *port = NULL;
	struct fake f;

	fake_open(&f);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_assert_eq(redd_spawn(f.r, &wrong[i], &port), -EINVAL, "%zu", i);
		cr_assert(strlen(redd_last_error(f.r)->message) > 10);
		cr_assert_not(redd_last_error(f.r)->from_broker);
	}
	cr_assert_null(port);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_null(fake_heard(&f), "nothing was sent");
	fake_close(&f);
}

Test(client_spawn, P6_a_failed_spawn_tells_stage_and_errno_and_leaves_no_port)
{
	struct redd_spawn_options o = { .argv = argv };
	Redd__V1__Message m = fake_reply(2, REDD__V1__MESSAGE__BODY_ERROR);
	Redd__V1__Error e = REDD__V1__ERROR__INIT;
	struct redd_port *port = NULL;
	struct fake f;

	fake_open(&f);
	e.has_code = e.has_sys_errno = e.has_stage = true;
	e.code = REDD__V1__CODE__NOT_FOUND;
	e.sys_errno = ENOENT;
	e.stage = REDD__V1__STAGE__STAGE_EXEC;
	m.error = &e;
	fake_say(&f, &m);
	cr_assert_eq(redd_spawn(f.r, &o, &port), -ENOENT);
	cr_assert_null(port);
	cr_assert_eq(redd_last_error(f.r)->stage, REDD_STAGE_EXEC);
	cr_assert_eq(redd_last_error(f.r)->sys_errno, ENOENT);
	fake_close(&f);
}

Test(client_spawn, a_spawn_larger_than_a_frame_is_refused_here)
{
	size_t size = 2 << 20;
	char *big = malloc(size);
	const char *const words[] = { "prog", big, NULL };
	struct redd_spawn_options o = { .argv = words };
	struct redd_port *port;
	struct fake f;

	memset(big, 'x', size);
	big[size - 1] = '\0';
	fake_open(&f);
	cr_assert_eq(redd_spawn(f.r, &o, &port), -EMSGSIZE);
	fake_error(&f, 3, REDD__V1__CODE__UNKNOWN, 0, "still there");
	cr_assert_eq(redd_ping(f.r), -EIO);
	free(big);
	fake_close(&f);
}

/* --- descriptors ----------------------------------------------------------------------------- */

Test(client_spawn, files_and_passed_descriptors_are_described_and_travel)
{
	const struct redd_descriptor list[] = {
		{ .fd = 0, .kind = REDD_FILE, .path = "in" },
		{ .fd = 1,
		  .kind = REDD_FILE,
		  .path = "out",
		  .mode = 0600,
		  .open_flags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_EXCL },
		{ .fd = 2, .kind = REDD_SAME, .same_as = 1 },
		{ .fd = 5, .kind = REDD_PASSED, .passed = STDERR_FILENO },
		{ .fd = 6, .kind = REDD_PIPE, .direction = REDD_INPUT },
		{ .fd = 7, .kind = REDD_PASSED, .passed = STDIN_FILENO },
	};
	struct redd_spawn_options o = { .argv = argv, .descriptors = list, .n_descriptors = 6 };
	struct stat ours, theirs;
	struct fake f;
	Redd__V1__Descriptor **d = spawn(&f, &o)->descriptors;

	cr_assert(d[0]->read && !d[0]->has_write && same(&d[0]->path, "in"));
	cr_assert(d[1]->write && d[1]->create && d[1]->truncate && d[1]->append &&
		  d[1]->exclusive && d[1]->mode == 0600 && !d[1]->has_read);
	cr_assert(d[2]->kind == REDD__V1__KIND__KIND_SAME && d[2]->same_as == 1);
	cr_assert(d[3]->passed == 0 && d[5]->passed == 1 && d[5]->has_passed);
	cr_assert_eq(d[4]->direction, REDD__V1__DIRECTION__DIRECTION_INPUT);
	cr_assert_eq(f.n_fds, 2);
	cr_assert_eq(fstat(STDERR_FILENO, &ours), 0);
	cr_assert_eq(fstat(f.fds[0], &theirs), 0);
	cr_assert(ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev);
	fake_close(&f);
}

Test(client_spawn, a_descriptor_that_is_not_open_is_refused_and_nothing_leaks)
{
	const struct redd_descriptor list[] = {
		{ .fd = 3, .kind = REDD_PASSED, .passed = STDERR_FILENO },
		{ .fd = 4, .kind = REDD_PASSED, .passed = 999 },
	};
	struct redd_spawn_options o = { .argv = argv, .descriptors = list, .n_descriptors = 2 };
	int before = fd_count();
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_spawn(f.r, &o, &port), -EBADF);
	fake_close(&f);
	cr_assert_eq(fd_count(), before);
}

Test(client_spawn, each_spawn_gets_its_own_descriptors_in_a_crowd)
{
	struct redd_descriptor d = { .fd = 3, .kind = REDD_PASSED };
	struct redd_spawn_options o = { .argv = argv, .descriptors = &d, .n_descriptors = 1 };
	struct redd_port *port;
	struct fake f;
	int pipes[10][2];

	fake_open(&f);
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(pipe(pipes[i]), 0);
		d.passed = pipes[i][0];
		cr_assert_eq(redd_spawn_start(f.r, &o, &port, NULL), 0);
		cr_assert_eq(redd_ping_start(f.r, NULL), 0);
		close(pipes[i][0]); /* ours to close at once: it was duplicated */
	}
	cr_assert_eq(fake_settle(&f), 0);
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(fake_heard(&f)->body_case, REDD__V1__REQUEST__BODY_SPAWN);
		cr_assert_eq(fake_heard(&f)->body_case, REDD__V1__REQUEST__BODY_PING);
	}
	cr_assert_eq(f.n_fds, 10);
	for (int i = 0; i < 10; i++) {
		char c = (char)('a' + i), got = 0;

		cr_assert_eq(write(pipes[i][1], &c, 1), 1);
		cr_assert_eq(read(f.fds[i], &got, 1), 1);
		cr_assert_eq(got, c);
		close(pipes[i][1]);
	}
	fake_close(&f);
}

/* --- pipelining ------------------------------------------------------------------------------ */

Test(client_spawn, spawn_write_and_close_go_out_before_any_answer)
{
	struct redd_spawn_options o = { .argv = argv };
	Redd__V1__Request *request;
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, NULL), 0);
	cr_assert_eq(redd_port_id(port), 0);
	cr_assert_eq(redd_write_start(port, "hello", 5, NULL, NULL), 0);
	cr_assert_eq(redd_close_start(port, REDD_STREAM_DEFAULT, NULL), 0);
	cr_assert_eq(redd_signal_start(port, SIGTERM, REDD_GROUP, NULL), 0);
	cr_assert_eq(fake_settle(&f), 0);
	request = fake_heard(&f);
	cr_assert(request->body_case == REDD__V1__REQUEST__BODY_SPAWN && request->id == 2);
	request = fake_heard(&f);
	cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_WRITE);
	cr_assert_eq(request->write->port->by_case, REDD__V1__PORT_REF__BY_SPAWN);
	cr_assert_eq(request->write->port->spawn, 2);
	cr_assert(same(&request->write->data, "hello") && !request->write->has_stream);
	request = fake_heard(&f);
	cr_assert(request->body_case == REDD__V1__REQUEST__BODY_CLOSE &&
		  request->close->port->spawn == 2 && !request->close->has_stream);
	request = fake_heard(&f);
	cr_assert(request->signal->signal == SIGTERM &&
		  request->signal->target == REDD__V1__TARGET__TARGET_GROUP);

	fake_started(&f, 2, 77, 0);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert(redd_port_id(port) == 77 && redd_port_pid(port) == 1234);
	cr_assert_eq(redd_port_input_window(port), 1 << 20);
	cr_assert_eq(redd_resize_start(port, &(struct redd_terminal){ 1, 2, 0, 0 }, NULL), 0);
	cr_assert_eq(fake_settle(&f), 0);
	request = fake_heard(&f);
	cr_assert(request->resize->port->by_case == REDD__V1__PORT_REF__BY_ID &&
		  request->resize->port->id == 77);
	fake_close(&f);
}

Test(client_spawn, ports_are_found_by_id_or_name)
{
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_find(f.r, "12", &port), 0);
	cr_assert_eq(redd_port_id(port), 12);
	cr_assert_eq(redd_port_find(f.r, "build", &port), 0);
	cr_assert_eq(redd_forget_start(port, NULL), 0);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert(same(&fake_heard(&f)->forget->port->name, "build"));
	cr_assert_eq(redd_port_find(f.r, "12x", &port), -EINVAL);
	cr_assert_eq(redd_port_find(f.r, "0", &port), -EINVAL);
	cr_assert_eq(redd_port_find(f.r, "", &port), -EINVAL);
	cr_assert_eq(redd_port_find(f.r, "99999999999999999999", &port), -EINVAL);
	fake_close(&f);
}

/* --- input ----------------------------------------------------------------------------------- */

Test(client_spawn, a_write_takes_its_options_along)
{
	struct redd_write_options o = { .other_stream = true,
					.stream = 5,
					.at_offset = true,
					.offset = 0,
					.no_wait = true,
					.force = true,
					.close = true };
	struct redd_written written;
	Redd__V1__Write *w;
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	fake_written(&f, 2, 0, 3);
	cr_assert_eq(redd_write(port, "a\0b", 3, &o, &written), 0);
	cr_assert_eq(written.size, 3);
	w = fake_heard(&f)->write;
	cr_assert(w->has_stream && w->stream == 5 && w->has_offset && w->offset == 0);
	cr_assert(w->no_wait && w->force && w->close && w->data.len == 3 && w->data.data[1] == 0);
	fake_close(&f);
}

Test(client_spawn, a_write_longer_than_a_frame_is_refused_whole)
{
	size_t size = FRAME_MAX_DEFAULT;
	char *data = calloc(1, size);
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	cr_assert_eq(redd_write(port, data, size, NULL, NULL), -EMSGSIZE);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_null(fake_heard(&f));
	free(data);
	fake_close(&f);
}

/* The broker as a process of its own, for calls that wait for more than one answer. */
static pid_t serve(struct fake *f, void (*script)(struct fake *))
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		script(f);
		_exit(0);
	}
	return pid;
}

static void hear_wait(struct fake *f)
{
	struct pollfd p = { .fd = f->fd, .events = POLLIN };

	poll(&p, 1, -1);
}

static Redd__V1__Request *hear_next(struct fake *f)
{
	Redd__V1__Request *request;

	while (!(request = fake_heard(f)))
		hear_wait(f);
	return request;
}

#define LONG_SIZE 3000000

static uint8_t long_byte(uint64_t at)
{
	return (uint8_t)(at * 7 >> 3);
}

/* Takes writes, lets several wait, and answers them; complains by its status. */
static void take_all(struct fake *f)
{
	uint64_t total = 0, waiting = 0, most = 0, id = 0;

	while (total < LONG_SIZE) {
		Redd__V1__Request *q = fake_heard(f);

		if (q) {
			id = q->id;
			waiting += q->write->data.len;
			for (size_t i = 0; i < q->write->data.len; i++) {
				if (q->write->data.data[i] != long_byte(total + i))
					_exit(1);
			}
			total += q->write->data.len;
			most = waiting > most ? waiting : most;
			if (waiting < 500000 && total < LONG_SIZE)
				continue;
		}
		if (waiting)
			for (uint64_t n = (waiting + 131071) / 131072; n; n--)
				fake_written(f, id + 1 - n, 0, 0);
		waiting = 0;
		if (!q)
			hear_wait(f);
	}
	_exit(most > 1 << 20 ? 2 : most > 131072 ? 0 : 3);
}

Test(client_spawn, a_long_write_is_pipelined_within_the_window)
{
	struct redd_spawn_options o = { .argv = argv };
	uint8_t *data = malloc(LONG_SIZE);
	uint64_t sent = 0;
	struct redd_port *port;
	struct fake f;
	int status;
	pid_t pid;

	for (size_t i = 0; i < LONG_SIZE; i++)
		data[i] = long_byte(i);
	fake_open(&f);
	fake_started(&f, 2, 3, 0);
	cr_assert_eq(redd_spawn(f.r, &o, &port), 0);
	fake_heard(&f);
	pid = serve(&f, take_all);
	cr_assert_eq(redd_write_all(port, data, LONG_SIZE, NULL, &sent), 0);
	cr_assert_eq(sent, LONG_SIZE);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0,
		     "the broker saw wrong bytes (1), too many at once (2) or no more "
		     "than one at a time (3): %d",
		     WEXITSTATUS(status));
	free(data);
	fake_close(&f);
}

static void refuse_the_second(struct fake *f)
{
	Redd__V1__Request *q = hear_next(f);

	fake_written(f, q->id, 0, q->write->data.len);
	q = hear_next(f);
	fake_error(f, q->id, REDD__V1__CODE__ABORTED, EPIPE, "the port has ended");
}

Test(client_spawn, a_long_write_tells_what_is_certain_when_it_fails)
{
	static const char data[200000];
	uint64_t sent = 0;
	struct redd_port *port;
	struct fake f;
	pid_t pid;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	pid = serve(&f, refuse_the_second);
	cr_assert_eq(redd_write_all(port, data, sizeof(data), NULL, &sent), -EPIPE);
	cr_assert_eq(sent, 131072);
	cr_assert_str_eq(redd_last_error(f.r)->message, "the port has ended");
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	fake_close(&f);
}

Test(client_spawn, an_empty_write_that_closes_is_a_write)
{
	struct redd_write_options o = { .close = true };
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	fake_written(&f, 2, 10, 0);
	cr_assert_eq(redd_write_all(port, NULL, 0, &o, NULL), 0);
	cr_assert(fake_heard(&f)->write->close);
	fake_close(&f);
}
