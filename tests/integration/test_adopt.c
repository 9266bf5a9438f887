/* Descriptors of a client as a port (S62): both directions, for as long as they last; and nothing
 * that others share with them is changed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/outcome.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define PATIENCE_MS 30000
#define PIECE	    (256u << 10)

TestSuite(adopt, .init = scene_begin, .fini = scene_end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

/* A descriptor that is -1 is not used. */
static struct redd_port *adopt(int read_fd, int write_fd, struct redd_port_options port)
{
	struct redd_adopt_options o = { .reads = read_fd >= 0,
					.writes = write_fd >= 0,
					.read_fd = read_fd,
					.write_fd = write_fd,
					.port = port };
	struct redd_port *p = NULL;

	o.port.subscribe = &scene.c.watch;
	cr_assert_eq(redd_adopt(scene.r, &o, &p), 0, "%s", redd_last_error(scene.r)->message);
	return p;
}

#define ADOPT(read_fd, write_fd, ...) \
	adopt((read_fd), (write_fd), (struct redd_port_options){ __VA_ARGS__ })

static void collect_all(void)
{
	cr_assert_eq(collect_wait(&scene.c, scene.r, PATIENCE_MS), 0);
	cr_assert_str_eq(scene.c.wrong, "");
}

static void say(struct redd_port *port, const char *text)
{
	cr_assert_eq(redd_write(port, text, strlen(text), NULL, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
}

/* Waits for exactly so many bytes. */
static void expect(int fd, const char *text)
{
	char got[256] = "";
	size_t n = 0;

	while (n < strlen(text)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t m;

		cr_assert_eq(poll(&p, 1, place_patience_ms(PATIENCE_MS)), 1, "only '%s' came", got);
		m = read(fd, got + n, strlen(text) - n);
		cr_assert_gt(m, 0, "only '%s' came", got);
		n += (size_t)m;
	}
	cr_expect_str_eq(got, text);
}

static void put(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* --- sockets --------------------------------------------------------------------------------- */

Test(adopt, S62_a_socket_goes_both_ways_and_is_not_shut_down)
{
	struct redd_port *port;
	struct redd_ports *ports;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	port = ADOPT(pair[0], pair[0]);
	cr_assert_eq(redd_inspect(port, &ports), 0);
	cr_expect_eq(ports->ports[0].kind, REDD_DESCRIPTORS);
	cr_expect_str_eq(ports->ports[0].program, "");
	cr_expect_eq(ports->ports[0].n_streams, 2);
	redd_ports_free(ports);
	put(pair[1], "to the port");
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 11, PATIENCE_MS), 0);
	say(port, "from the port");
	expect(pair[1], "from the port");
	/* The end of the input is the port's alone: we hold the socket as well. */
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	put(pair[0], "from us");
	expect(pair[1], "from us");
	put(pair[1], ", more");
	cr_assert_eq(shutdown(pair[1], SHUT_WR), 0);
	collect_all();
	cr_expect_str_eq(collect_text(&scene.c, 1), "to the port, more");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	put(pair[0], "still open");
	expect(pair[1], "still open");
	close(pair[0]);
	close(pair[1]);
	scene_forget(port);
}

Test(adopt, S62_a_closed_peer_is_an_errno_and_no_death)
{
	struct redd_port *port;
	int ends[2], e;

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	port = ADOPT(-1, ends[1]);
	close(ends[1]);
	say(port, "x");
	expect(ends[0], "x");
	close(ends[0]);
	say(port, "for nobody");
	e = redd_close(port, 0, NULL);
	cr_expect_eq(e, -EPIPE, "%d", e);
	collect_all();
	cr_expect_eq(scene.c.exit.state, REDD_EXIT_CODE);
	cr_expect_eq(scene.c.exit.code, EPIPE);
	scene_forget(port);
}

/* Without an error: nothing was lost. What is written afterwards is told so. */
Test(adopt, a_peer_that_goes_ends_both_directions)
{
	struct redd_port *port;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	port = ADOPT(pair[0], pair[0]);
	close(pair[0]);
	put(pair[1], "bye");
	close(pair[1]);
	collect_all();
	cr_expect_str_eq(collect_text(&scene.c, 1), "bye");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	cr_expect_lt(redd_write(port, "x", 1, NULL, NULL), 0);
	scene_forget(port);
}

/* A write that blocks stops no reading. */
Test(adopt, S62_both_directions_go_on_independently)
{
	static uint8_t data[3 * PIECE];
	struct outcome written = { 0 };
	struct redd_port *port;
	int pair[2];
	size_t got = 0;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	port = ADOPT(pair[0], pair[0]);
	close(pair[0]);
	pattern_fill(data, sizeof(data), 0);
	cr_assert_eq(redd_write_start(port, data, sizeof(data), NULL, outcome_call(&written)), 0);
	for (int i = 0; i < 20; i++) {
		put(pair[1], "0123456789");
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 10 * (unsigned)(i + 1),
						PATIENCE_MS),
			     0);
	}
	cr_expect_eq(written.n, 0);
	while (got < sizeof(data)) {
		uint8_t some[65536];
		ssize_t n = read(pair[1], some, sizeof(some));

		cr_assert_gt(n, 0);
		cr_assert_eq(pattern_match(some, (size_t)n, got), (size_t)n);
		got += (size_t)n;
	}
	cr_assert_eq(outcome_wait(&written, scene.r, PATIENCE_MS), 0);
	cr_expect_eq(written.result, 0);
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	collect_all();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_CLOSED);
	close(pair[1]);
	scene_forget(port);
}

/* --- what is shared -------------------------------------------------------------------------- */

/* More than the pipes between hold, through descriptors with and without O_NONBLOCK. */
static void expect_flags_unchanged(int extra)
{
	static uint8_t data[2 * PIECE];
	const size_t size = sizeof(data);
	struct redd_port *port;
	int in[2], out[2], in_flags, out_flags;
	size_t put_in = 0, taken = 0;

	cr_assert_eq(pipe2(in, O_CLOEXEC | extra), 0);
	cr_assert_eq(pipe2(out, O_CLOEXEC | extra), 0);
	in_flags = fcntl(in[0], F_GETFL);
	out_flags = fcntl(out[1], F_GETFL);
	collect_deinit(&scene.c);
	collect_init(&scene.c);
	scene.c.patterned = scene.c.drop_data = true;
	port = ADOPT(in[0], out[1]);
	pattern_fill(data, size, 0);
	while (put_in < size) {
		struct pollfd p = { .fd = in[1], .events = POLLOUT };
		size_t part = size - put_in < 4096 ? size - put_in : 4096;
		ssize_t n;

		redd_run_once(scene.r, 0);
		if (poll(&p, 1, 10) == 1 && (n = write(in[1], data + put_in, part)) > 0)
			put_in += (size_t)n;
	}
	close(in[1]);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, size, PATIENCE_MS), 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->next, size);
	cr_assert_eq(redd_write_start(port, data, size, NULL, NULL), 0);
	cr_assert_eq(redd_close_start(port, 0, NULL), 0);
	while (taken < size) {
		struct pollfd p = { .fd = out[0], .events = POLLIN };
		uint8_t some[65536];
		ssize_t n;

		redd_run_once(scene.r, 0);
		if (poll(&p, 1, 10) != 1)
			continue;
		n = read(out[0], some, sizeof(some));
		cr_assert_gt(n, 0);
		cr_assert_eq(pattern_match(some, (size_t)n, taken), (size_t)n);
		taken += (size_t)n;
	}
	cr_expect_eq(fcntl(in[0], F_GETFL), in_flags);
	cr_expect_eq(fcntl(out[1], F_GETFL), out_flags);
	collect_all();
	cr_expect_eq(fcntl(in[0], F_GETFL), in_flags);
	cr_expect_eq(fcntl(out[1], F_GETFL), out_flags);
	close(in[0]);
	close(out[0]);
	close(out[1]);
	scene_forget(port);
}

Test(adopt, S62_the_flags_that_others_share_stay_as_they_are)
{
	expect_flags_unchanged(0);
	expect_flags_unchanged(O_NONBLOCK);
}

static bool termios_are_same(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && !memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc));
}

Test(adopt, S62_a_terminal_keeps_its_modes_and_its_flags)
{
	struct termios before, after;
	struct redd_port *port;
	int user, tty, flags;

	cr_assert_eq(openpty(&user, &tty, NULL, NULL, NULL), 0);
	cr_assert_eq(tcgetattr(tty, &before), 0);
	before.c_lflag &= ~(tcflag_t)ECHO;
	cr_assert_eq(tcsetattr(tty, TCSANOW, &before), 0);
	flags = fcntl(tty, F_GETFL);
	port = ADOPT(tty, tty);
	put(user, "a line\n");
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 7, PATIENCE_MS), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "a line\n");
	say(port, "shown\n");
	expect(user, "shown\r\n");
	cr_expect_lt(redd_resize(port, &(struct redd_terminal){ 10, 20, 0, 0 }), 0);
	/* A reader that waits in the terminal is no obstacle. */
	cr_assert_eq(redd_close_whole(port, false, NULL), 0);
	collect_all();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_CLOSED);
	cr_assert_eq(tcgetattr(tty, &after), 0);
	cr_expect(termios_are_same(&before, &after));
	cr_expect_eq(fcntl(tty, F_GETFL), flags);
	put(user, "ours again\n");
	expect(tty, "ours again\n");
	close(tty);
	close(user);
	scene_forget(port);
}

Test(adopt, a_terminal_that_is_hung_up_is_an_end)
{
	struct redd_port *port;
	int user, tty;

	cr_assert_eq(openpty(&user, &tty, NULL, NULL, NULL), 0);
	port = ADOPT(tty, tty);
	close(tty);
	close(user);
	collect_all();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	scene_forget(port);
}

/* --- refusals, and a death ------------------------------------------------------------------- */

Test(adopt, P15_what_cannot_be_read_or_written_as_asked_is_refused)
{
	struct redd_adopt_options o = { .reads = true };
	struct redd_port *port;
	int ends[2], path = open("/dev/null", O_PATH | O_CLOEXEC);

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	o.read_fd = ends[1];
	cr_expect_eq(redd_adopt(scene.r, &o, &port), -EBADF);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_INVALID_ARGUMENT);
	o = (struct redd_adopt_options){
		.reads = true, .writes = true, .read_fd = ends[0], .write_fd = ends[0]
	};
	cr_expect_eq(redd_adopt(scene.r, &o, &port), -EBADF);
	o = (struct redd_adopt_options){ .writes = true, .write_fd = path };
	cr_expect_eq(redd_adopt(scene.r, &o, &port), -EBADF);
	cr_expect_eq(redd_adopt(scene.r, &(struct redd_adopt_options){ .read_fd = 0 }, &port),
		     -EINVAL);
	o = (struct redd_adopt_options){ .reads = true, .read_fd = 1000 };
	cr_expect_eq(redd_adopt(scene.r, &o, &port), -EBADF);
	cr_expect_not_null(
		strstr(redd_last_error(scene.r)->message, "descriptor 1000 is not open"));
	cr_expect_eq(redd_ping(scene.r), 0, "the connection goes on");
	close(path);
	close(ends[0]);
	close(ends[1]);
}

/* Messages would run into one another, an empty one would be the end, and what a pipe has no room
 * for would be lost. */
Test(adopt, P15_a_socket_that_is_no_stream_is_refused)
{
	static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
	struct redd_adopt_options o = { 0 };
	struct redd_port *port;

	for (int i = 0; i < 4; i++) {
		int ends[2];

		cr_assert_eq(socketpair(AF_UNIX, types[i % 2] | SOCK_CLOEXEC, 0, ends), 0);
		o.reads = i < 2;
		o.writes = !o.reads;
		o.read_fd = o.write_fd = ends[0];
		cr_expect_eq(redd_adopt(scene.r, &o, &port), -EBADF);
		cr_expect_not_null(strstr(redd_last_error(scene.r)->message, "SOCK_STREAM"));
		close(ends[0]);
		close(ends[1]);
	}
	o.read_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	o.reads = true;
	o.writes = false;
	cr_assert_eq(listen(o.read_fd, 1), 0);
	cr_expect_eq(redd_adopt(scene.r, &o, &port), -EBADF);
	close(o.read_fd);
}

Test(adopt, P13_descriptors_outlive_the_broker)
{
	struct redd_port *port;
	uint64_t id;
	int pair[2];
	pid_t pid;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	port = ADOPT(pair[0], pair[0], .orphan = REDD_ORPHAN_KEEP);
	id = redd_port_id(port);
	close(pair[0]);
	while (!(pid = census_child(scene.service.pid, "redd-broker")))
		;
	cr_assert_eq(kill(pid, SIGKILL), 0);
	put(pair[1], "meanwhile");
	redd_free(scene.r);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
	collect_deinit(&scene.c);
	collect_init(&scene.c);
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_subscribe(port, &scene.c);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 9, PATIENCE_MS), 0);
	say(port, "answer");
	expect(pair[1], "answer");
	cr_assert_eq(redd_close_whole(port, false, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
	collect_all();
	cr_expect_str_eq(collect_text(&scene.c, 1), "meanwhile");
	close(pair[1]);
	scene_forget(port);
}
