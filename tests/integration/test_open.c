/* File ports (S39, S60, S61): files, devices and fifos opened by the service, read and written as
 * any port is; what waits or fails does so alone, and says why. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/outcome.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define PATIENCE_MS 30000
#define PIECE	    (256u << 10)

TestSuite(open, .init = scene_begin, .fini = scene_end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

static const char *here(const char *name)
{
	return place_in(scene.service.directory, name);
}

static struct redd_port *open_with(struct redd_open_options o, struct collect *c)
{
	struct redd_port *port = NULL;

	if (c)
		o.port.subscribe = &c->watch;
	cr_assert_eq(redd_open(scene.r, &o, &port), 0, "%s: %s", o.path,
		     redd_last_error(scene.r)->message);
	return port;
}

#define OPEN(c, ...) open_with((struct redd_open_options){ __VA_ARGS__ }, (c))

static void make_fifo(const char *path)
{
	cr_assert_eq(mkfifo(path, 0600), 0, "%s: %s", path, strerror(errno));
}

/* Until it has closed; every promise held. */
static void collect_all(void)
{
	cr_assert_eq(collect_wait(&scene.c, scene.r, PATIENCE_MS), 0);
	cr_assert_str_eq(scene.c.wrong, "");
}

static void collect_again(void)
{
	collect_deinit(&scene.c);
	collect_init(&scene.c);
}

static const char *content(const char *path)
{
	static char text[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	cr_assert_geq(n, 0, "%s", path);
	text[n] = '\0';
	close(fd);
	return text;
}

static void write_text(struct redd_port *port, const char *text)
{
	cr_assert_eq(redd_write(port, text, strlen(text), NULL, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
}

static void write_pattern(struct redd_port *port, uint64_t from, uint64_t to)
{
	static uint8_t data[PIECE];

	for (uint64_t at = from; at < to; at += PIECE) {
		pattern_fill(data, PIECE, at);
		cr_assert_eq(redd_write_all(port, data, PIECE, NULL, NULL), 0, "%s",
			     redd_last_error(scene.r)->message);
	}
}

static enum redd_port_state state_of(struct redd_port *port)
{
	struct redd_ports *ports;
	enum redd_port_state state;

	cr_assert_eq(redd_inspect(port, &ports), 0, "%s", redd_last_error(scene.r)->message);
	state = ports->ports[0].state;
	redd_ports_free(ports);
	return state;
}

/* --- regular files --------------------------------------------------------------------------- */

Test(open, S61_a_file_is_written_and_read_whole_and_unchanged)
{
	const uint64_t size = place_rounds(768) * (uint64_t)PIECE;
	const char *path = here("long");
	struct redd_port *port = OPEN(NULL, .path = path, .write = true);
	struct stat st;
	uint64_t total;

	write_pattern(port, 0, size);
	cr_assert_eq(redd_close(port, 0, &total), 0);
	cr_expect_eq(total, size);
	/* Closed means written: nobody has to wait for more. */
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq((uint64_t)st.st_size, size);
	cr_expect_eq(st.st_mode & 0777, 0644);
	scene_forget(port);

	scene.c.patterned = scene.c.drop_data = scene.c.watch.verify = true;
	port = OPEN(&scene.c, .path = path, .read = true, .port.checksum = true);
	collect_all();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.total, size);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	cr_expect(collect_stream(&scene.c, 1)->end.verified);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	scene_forget(port);
}

Test(open, S39_a_file_is_opened_as_it_was_asked_for)
{
	const char *path = here("a file\nwith \xff odd \x80 name");
	struct redd_port *port = OPEN(NULL, .path = path, .write = true, .exclusive = true,
				      .mode = 0660, .port = { .set = REDD_SET_UMASK, .umask = 0 });
	struct stat st;

	write_text(port, "first");
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0660);
	scene_forget(port);

	port = OPEN(NULL, .path = path, .append = true);
	write_text(port, " second");
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_forget(port);
	cr_expect_str_eq(content(path), "first second");

	/* Both directions share one position, as one open file has it; nothing is truncated. */
	port = OPEN(&scene.c, .path = path, .read = true, .write = true);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 12, PATIENCE_MS), 0);
	write_text(port, " third");
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	collect_all();
	scene_forget(port);
	cr_expect_eq(strncmp(content(path), "first second", 12), 0);

	port = OPEN(NULL, .path = strrchr(path, '/') + 1, .write = true,
		    .client_directory = scene.service.directory);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_forget(port);
	cr_expect_str_eq(content(path), "", "what is only written is truncated");
}

/* --- what cannot be opened ------------------------------------------------------------------- */

Test(open, P6_what_cannot_be_opened_is_told_at_once_with_its_errno)
{
	char *deep = strdup(here("file/below"));
	const struct {
		struct redd_open_options o;
		int error;
	} cases[] = {
		{ { .path = scene.service.directory, .read = true }, EISDIR },
		{ { .path = scene.service.directory, .write = true }, EISDIR },
		{ { .path = here("nothing"), .read = true }, ENOENT },
		{ { .path = here("nothing"), .write = true, .no_create = true }, ENOENT },
		{ { .path = here("file"), .write = true, .exclusive = true }, EEXIST },
		{ { .path = deep, .read = true }, ENOTDIR },
		{ { .path = scene.service.socket, .read = true }, ENXIO },
	};
	struct redd_port *port = OPEN(NULL, .path = here("file"), .write = true);

	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_forget(port);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int e = redd_open(scene.r, &cases[i].o, &port);

		cr_expect_eq(e, -cases[i].error, "%s: %d", cases[i].o.path, e);
		cr_expect_eq(redd_last_error(scene.r)->stage, REDD_STAGE_FILES);
	}
	free(deep);
}

Test(open, P15_requests_that_make_no_sense_are_refused_with_a_sentence)
{
	const struct redd_open_options cases[] = {
		{ .path = "/dev/null" },
		{ .path = "", .read = true },
		{ .path = "/dev/null", .read = true, .exclusive = true },
		{ .path = "x", .read = true, .client_directory = "not/absolute" },
		{ .path = "/dev/null", .read = true, .port.log_size = 1 },
	};
	struct redd_port *port, *process;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int e = redd_open(scene.r, &cases[i], &port);

		cr_expect(e == -EINVAL || e == -ENOENT, "case %zu: %d", i, e);
		cr_expect_eq(redd_last_error(scene.r)->code, REDD_INVALID_ARGUMENT, "case %zu", i);
	}
	port = OPEN(NULL, .path = "/dev/null", .write = true, .port.name = "null");
	cr_expect_eq(redd_open(scene.r,
			       &(struct redd_open_options){
				       .path = "/dev/null", .write = true, .port.name = "null" },
			       &process),
		     -EEXIST);
	cr_expect_eq(redd_signal(port, SIGTERM, REDD_LEADER, NULL), -ESRCH);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
	cr_expect_eq(redd_resize(port, &(struct redd_terminal){ 24, 80, 0, 0 }), -ENOTTY);
	process = scene_prog(NULL, "hang", NULL);
	cr_expect_lt(redd_close_whole(process, false, NULL), 0);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
	scene_kill(process);
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	scene_forget(port);
}

/* It would be the pump's: what is written to it would be nowhere, and 0 the answer. */
Test(open, P15_what_each_process_has_of_its_own_is_not_opened)
{
	static const char *const paths[] = {
		"/dev/stdin", "/dev/stdout",	 "/dev/stderr",		  "/dev/tty",
		"/dev/fd/0",  "/proc/self/fd/1", "/proc/thread-self/fd/0"
	};
	struct redd_port *own;
	char mine[64];

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const struct redd_open_options o = { .path = paths[i], .write = true };
		struct redd_port *port;

		cr_expect_eq(redd_open(scene.r, &o, &port), -EINVAL, "%s", paths[i]);
		cr_expect_not_null(strstr(redd_last_error(scene.r)->message, "adopt"));
	}
	/* By its number it is one process's, whoever opens it. */
	snprintf(mine, sizeof(mine), "/proc/%d/comm", (int)getpid());
	own = OPEN(&scene.c, .path = mine, .read = true);
	collect_all();
	cr_expect_gt(collect_stream(&scene.c, 1)->end.total, 0);
	scene_forget(own);
}

Test(open, a_file_is_listed_with_its_kind_its_path_and_no_pid)
{
	struct redd_port *port = OPEN(NULL, .path = "/dev/null", .write = true);
	struct redd_ports *ports;
	const struct redd_port_info *p;

	cr_assert_eq(redd_inspect(port, &ports), 0);
	p = ports->ports;
	cr_expect_eq(p->kind, REDD_FILE_PORT);
	cr_expect_str_eq(p->program, "/dev/null");
	cr_expect_eq(p->n_args, 0);
	cr_expect_eq(p->pid, 0);
	cr_expect_eq(redd_port_pid(port), 0);
	cr_expect_eq(p->n_streams, 1, "a direction that is not used does not exist");
	cr_expect_eq(p->streams[0].direction, REDD_INPUT);
	redd_ports_free(ports);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_forget(port);
}

/* What libredd never says. */
Test(open, P15_an_open_on_the_wire_is_checked_as_a_whole)
{
	static const char *const wrong[] = {
		"open { }",
		"open { file { read: true } }",
		"open { file { path: \"/dev/null\" } }",
		"open { file { path: \"relative\" read: true } }",
		"open { file { path: \"/dev/null\" append: true truncate: true } }",
		"open { file { path: \"/dev/null\" write: true mode: 4096 } }",
		"open { file { path: \"/dev/null\" write: true exclusive: true create: false } }",
		"open { file { path: \"/dev/null\" read: true } orphan: 9 }",
		"open { file { path: \"/dev/null\" read: true } umask: 512 }",
		"open { adopt { } }",
		"open { adopt { read: 0 } }",
		"open { adopt { read: 4294967295 write: 4294967295 } }",
		"close { port { id: 2 } discard: true }",
		"close { port { id: 2 } whole: true stream: 0 }",
	};
	struct redd_port *port = OPEN(NULL, .path = "/dev/null", .write = true);
	struct peer p;

	cr_assert_eq(redd_port_id(port), 2);
	ask_greet(&p, scene.service.socket);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const Redd__V1__Message *m = ask(&p, "%s", wrong[i]);

		cr_expect(ask_is_error(m, REDD__V1__CODE__INVALID_ARGUMENT), "%s: %s", wrong[i],
			  ask_text(m));
	}
	peer_close(&p);
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	scene_forget(port);
}

/* --- errors on the way ----------------------------------------------------------------------- */

Test(open, S61_what_could_not_be_written_is_told_by_close_and_by_the_exit)
{
	struct redd_port *port = OPEN(&scene.c, .path = "/dev/full", .write = true);
	int e;

	write_text(port, "too much");
	e = redd_close(port, 0, NULL);
	cr_expect_eq(e, -ENOSPC, "%d", e);
	collect_all();
	cr_expect_eq(scene.c.exit.state, REDD_EXIT_CODE);
	cr_expect_eq(scene.c.exit.code, ENOSPC);
	cr_expect_eq(redd_close_whole(port, false, NULL), -ENOSPC);
	scene_forget(port);

	/* And by whatever is written after it failed. */
	collect_again();
	port = OPEN(&scene.c, .path = "/dev/full", .read = true, .write = true);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 4096, PATIENCE_MS), 0);
	do
		e = redd_write(port, "x", 1, NULL, NULL);
	while (!e);
	cr_expect_eq(e, -ENOSPC, "%d", e);
	cr_expect_not(collect_stream(&scene.c, 1)->ended, "reading goes on");
	cr_expect_eq(redd_close_whole(port, false, NULL), -ENOSPC);
	collect_all();
	cr_expect_eq(scene.c.exit.code, ENOSPC);
	scene_forget(port);
}

Test(open, P3_a_read_error_is_no_end_of_file)
{
	struct redd_port *port = OPEN(&scene.c, .path = "/proc/self/mem", .read = true);

	collect_all();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_ERROR);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.sys_errno, EIO);
	cr_expect_eq(scene.c.exit.state, REDD_EXIT_CODE);
	cr_expect_eq(scene.c.exit.code, EIO);
	cr_assert_eq(redd_close_whole(port, false, NULL), 0, "closing what has ended is harmless");
	scene_forget(port);
}

/* --- endless, and closed --------------------------------------------------------------------- */

Test(open, S60_an_endless_device_gives_what_credit_allows_until_it_is_closed)
{
	struct collect *c = &scene.c;
	struct redd_subscription *s;
	struct redd_port *port;
	uint64_t before;

	c->watch.credit_mode = REDD_CREDIT_MANUAL;
	c->watch.window = 100000;
	port = OPEN(c, .path = "/dev/zero", .read = true, .port.checksum = true);
	s = redd_port_subscription(port);
	scene_wait_held(port, 1);
	before = collect_stream(c, 1)->next;
	cr_expect_leq(before, 100000);
	cr_assert_eq(redd_credit(s, 50000), 0);
	cr_assert_eq(collect_wait_bytes(c, scene.r, 1, before + 1, PATIENCE_MS), 0);
	cr_expect_leq(collect_stream(c, 1)->next, 150000);
	/* The pump ends although nobody reads; what it had read is still told. */
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	cr_assert_eq(redd_credit(s, 1u << 30), 0);
	collect_all();
	cr_expect_eq(collect_stream(c, 1)->end.cause, REDD_END_CLOSED);
	cr_expect_eq(collect_stream(c, 1)->gaps, 0);
	cr_expect_eq(redd_exit_status(&c->exit), 0);
	scene_forget(port);
}

/* --- fifos ----------------------------------------------------------------------------------- */

Test(open, P7_an_open_that_waits_holds_nobody_up_and_can_be_given_up)
{
	enum { MOST = 280 }; /* more than the forker and its link have places for */
	static struct outcome waiting[MOST];
	static struct redd_port *ports[MOST];
	unsigned n = place_rounds(MOST);
	const char *path = here("fifo");
	struct redd_open_options o = { .path = path, .read = true };
	struct redd *other = service_connect(&scene.service);
	struct redd_port *port;
	struct collect c;

	make_fifo(path);
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(redd_open_start(i % 2 ? scene.r : other, &o, &ports[i],
					     outcome_call(&waiting[i])),
			     0);
	cr_assert_eq(redd_ping(other), 0);
	collect_init(&c);
	cr_assert_eq(collect_prog(&c, scene.r, "exit", "5", NULL), 0);
	cr_expect_eq(redd_exit_status(&c.exit), 5);
	collect_deinit(&c);
	for (unsigned i = 1; i < n; i += 2) {
		cr_expect_eq(waiting[i].n, 0);
		cr_assert_eq(redd_cancel(scene.r, waiting[i].call.request), 0, "%u: %s", i,
			     redd_last_error(scene.r)->message);
		cr_assert_eq(outcome_wait(&waiting[i], scene.r, PATIENCE_MS), 0);
		cr_expect_eq(waiting[i].result, -ECANCELED);
		redd_port_free(ports[i]);
	}
	/* The others go with their client: no pump is there when the scene ends. */
	redd_free(other);

	/* One that is closed while it is opened. */
	cr_assert_eq(redd_open_start(scene.r, &o, &port, outcome_call(&waiting[0])), 0);
	cr_expect_eq(state_of(port), REDD_STARTING);
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	cr_assert_eq(outcome_wait(&waiting[0], scene.r, PATIENCE_MS), 0);
	redd_port_free(port);
}

Test(open, S39_two_ports_meet_in_a_fifo)
{
	struct redd_open_options reading = { .path = here("fifo"), .read = true };
	struct redd_open_options writing = { .path = here("fifo"), .write = true };
	const uint64_t size = place_rounds(64) * (uint64_t)PIECE;
	struct redd_port *from, *to;
	struct outcome o = { 0 };

	make_fifo(reading.path);
	scene.c.patterned = scene.c.drop_data = true;
	reading.port.subscribe = &scene.c.watch;
	cr_assert_eq(redd_open_start(scene.r, &reading, &from, outcome_call(&o)), 0);
	cr_assert_eq(redd_open(scene.r, &writing, &to), 0);
	cr_assert_eq(outcome_wait(&o, scene.r, PATIENCE_MS), 0);
	cr_assert_eq(o.result, 0);
	write_pattern(to, 0, size);
	cr_assert_eq(redd_close(to, 0, NULL), 0);
	collect_all();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.total, size);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	scene_forget(to);
	scene_forget(from);
}

/* Reads all that comes until end of file; it must be the pattern. */
static uint64_t drain(int fd)
{
	static uint8_t data[PIECE];
	uint64_t at = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0) {
		cr_assert_eq(pattern_match(data, (size_t)n, at), (size_t)n, "at %llu",
			     (unsigned long long)at);
		at += (uint64_t)n;
	}
	cr_assert_eq(n, 0, "%s", strerror(errno));
	return at;
}

/* A fifo with us as its reader, and a port that has more queued for it than its pipes hold. */
static struct redd_port *stuffed_fifo(struct redd *r, const char *path, struct outcome *written,
				      int *ret_fd)
{
	static uint8_t data[3 * PIECE];
	struct redd_open_options o = { .path = path, .write = true };
	struct redd_port *port;

	make_fifo(path);
	*ret_fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	cr_assert_geq(*ret_fd, 0);
	cr_assert_eq(fcntl(*ret_fd, F_SETFL, 0), 0);
	cr_assert_eq(redd_open(r, &o, &port), 0);
	pattern_fill(data, sizeof(data), 0);
	cr_assert_eq(redd_write_start(port, data, sizeof(data), NULL, outcome_call(written)), 0);
	cr_assert_eq(redd_ping(r), 0);
	cr_assert_eq(written->n, 0, "it was to be more than fits");
	return port;
}

Test(open, S61_a_port_that_is_closed_writes_first_what_it_accepted)
{
	struct outcome written = { 0 }, closed[2] = { { 0 }, { 0 } };
	int fd;
	struct redd_port *port = stuffed_fifo(scene.r, here("fifo"), &written, &fd);

	for (int i = 0; i < 2; i++)
		cr_assert_eq(redd_close_whole_start(port, false, outcome_call(&closed[i])), 0);
	cr_expect_lt(redd_write(port, "x", 1, NULL, NULL), 0, "nothing goes behind a close");
	cr_expect_eq(closed[0].n, 0);
	cr_expect_eq(drain(fd), 3 * PIECE);
	cr_assert_eq(outcomes_wait(closed, 2, scene.r, PATIENCE_MS), 0);
	cr_expect_eq(closed[0].result, 0);
	cr_expect_eq(closed[0].reply.closed_at, 3 * PIECE);
	cr_expect_eq(closed[1].result, 0);
	cr_expect_eq(written.result, 0);
	close(fd);
	scene_forget(port);
}

Test(open, S60_a_port_that_is_discarded_ends_at_once)
{
	struct outcome written = { 0 };
	int fd;
	struct redd_port *port = stuffed_fifo(scene.r, here("fifo"), &written, &fd);

	cr_assert_eq(redd_close_whole(port, true, NULL), 0);
	cr_assert_eq(outcome_wait(&written, scene.r, PATIENCE_MS), 0);
	cr_expect_lt(written.result, 0);
	cr_expect_lt(drain(fd), 3 * PIECE);
	close(fd);
	scene_forget(port);
}

Test(open, S61_what_a_client_wrote_before_it_left_is_written)
{
	struct redd *other = service_connect(&scene.service);
	struct outcome written = { 0 };
	struct redd_port *port;
	uint64_t id;
	int fd;

	port = stuffed_fifo(other, here("fifo"), &written, &fd);
	id = redd_port_id(port);
	redd_free(other); /* ORPHAN_KILL */
	cr_expect_eq(drain(fd), 3 * PIECE);
	close(fd);
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_forget(port);
}

/* --- tokens, and deaths ---------------------------------------------------------------------- */

Test(open, a_token_opens_once)
{
	struct redd_open_options o = { .path = here("file"),
				       .write = true,
				       .exclusive = true,
				       .port = { .token = "once", .token_size = 4 } };
	struct redd_port *first =
		OPEN(NULL, .path = o.path, .write = true, .exclusive = true, .port = o.port);
	struct redd_port *second = open_with(o, NULL), *none;

	cr_expect_eq(redd_port_id(first), redd_port_id(second));
	o.read = true;
	cr_expect_eq(redd_open(scene.r, &o, &none), -EEXIST);
	redd_port_free(second);
	cr_assert_eq(redd_close(first, 0, NULL), 0);
	scene_forget(first);
}

static void kill_broker(void)
{
	pid_t pid;

	while (!(pid = census_child(scene.service.pid, "redd-broker")))
		; /* it is just being started */
	cr_assert_eq(kill(pid, SIGKILL), 0);
	redd_free(scene.r);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
}

Test(open, P13_a_file_port_outlives_the_broker_with_nothing_lost_or_doubled)
{
	const uint64_t half = 8 * PIECE;
	const char *path = here("file");
	const struct redd_port_options keep = { .orphan = REDD_ORPHAN_KEEP, .hold_unread = true };
	struct redd_port *port = OPEN(NULL, .path = path, .write = true, .port = keep);
	uint64_t id = redd_port_id(port), offset;
	struct redd_ports *ports;

	write_pattern(port, 0, half);
	kill_broker();
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	cr_assert_eq(redd_inspect(port, &ports), 0, "%s", redd_last_error(scene.r)->message);
	cr_expect_eq(ports->ports[0].kind, REDD_FILE_PORT);
	cr_expect_eq(ports->ports[0].pid, 0);
	redd_ports_free(ports);
	write_pattern(port, half, 2 * half);
	cr_assert_eq(redd_close(port, 0, NULL), 0, "the new broker knows when all is written");
	scene_forget(port);

	/* The same for what is read, by a reader who stopped in the middle. */
	scene.c.patterned = true;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 100000;
	port = OPEN(&scene.c, .path = path, .read = true, .port = keep);
	id = redd_port_id(port);
	scene_wait_held(port, 1);
	offset = collect_stream(&scene.c, 1)->next;
	kill_broker();
	collect_again();
	scene.c.patterned = scene.c.starts_anywhere = true;
	scene.c.watch.from = REDD_FROM_OFFSET;
	scene.c.watch.offsets = &(struct redd_stream_offset){ 1, offset };
	scene.c.watch.n_offsets = 1;
	scene.c.watch.overflow = REDD_BLOCK;
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_subscribe(port, &scene.c);
	collect_all();
	cr_expect_eq(collect_stream(&scene.c, 1)->first, offset);
	cr_expect_eq(collect_stream(&scene.c, 1)->next, 2 * half);
	cr_expect_eq(collect_stream(&scene.c, 1)->gaps, 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	scene_forget(port);
}
