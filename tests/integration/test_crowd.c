/* Many clients on one port, one of them stopped in the middle: it delays nobody (P7), nobody loses
 * a byte (P1, P3), and it is told what it missed when it goes on.
 *
 * Most clients are connections of this process, driven by one poll(2); the one that is stopped is a
 * process of its own, which reports through a pipe.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define CLIENTS 63
#define LOG	65536u
#define WAIT	60000

TestSuite(crowd, .init = scene_begin, .fini = scene_end, .timeout = 90);

/* Waits for its input to end and then writes `size` patterned bytes. */
static struct redd_port *spawn_waiting_pattern(unsigned size, struct collect *c)
{
	char command[512];
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = { .shell = command,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .log_size = LOG,
					      .checksum = true };

	snprintf(command, sizeof(command), "read x; exec %s %u", place_prog("pattern"), size);
	return scene_spawn(&o, c);
}

/* --- the crowd ------------------------------------------------------------------------------- */

struct client {
	struct redd *r;
	struct redd_port *port;
	struct collect c;
};

static struct client crowd[CLIENTS];

static void crowd_join(uint64_t port, enum redd_overflow overflow)
{
	for (int i = 0; i < CLIENTS; i++) {
		struct client *k = &crowd[i];

		k->r = service_connect(&scene.service);
		cr_assert_not_null(k->r);
		collect_init(&k->c);
		k->c.patterned = k->c.drop_data = k->c.watch.verify = true;
		k->c.watch.overflow = overflow;
		cr_assert_eq(redd_port_by_id(k->r, port, &k->port), 0);
		scene_subscribe(k->port, &k->c);
	}
}

static void crowd_leave(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		collect_deinit(&crowd[i].c);
		redd_free(crowd[i].r);
	}
}

/* Dispatches whoever is ready. Returns how many have not seen the end yet. */
static int crowd_turn(void)
{
	struct pollfd fds[CLIENTS];
	int open = 0;

	for (int i = 0; i < CLIENTS; i++)
		fds[i] = (struct pollfd){ redd_fd(crowd[i].r), redd_events(crowd[i].r), 0 };
	poll(fds, CLIENTS, 1000);
	for (int i = 0; i < CLIENTS; i++) {
		if (fds[i].revents)
			cr_assert_eq(redd_dispatch(crowd[i].r), 0);
		open += !crowd[i].c.n_closed;
	}
	return open;
}

static void crowd_wait(void)
{
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT);

	while (crowd_turn())
		cr_assert_lt(scene_now_ms(), deadline, "not all of the crowd came to the end");
}

/* Each saw every byte, and the checksum agrees. */
static void crowd_check(uint64_t size)
{
	for (int i = 0; i < CLIENTS; i++) {
		const struct collect_stream *s = collect_stream(&crowd[i].c, 1);

		cr_expect_str_eq(crowd[i].c.wrong, "", "client %d: %s", i, crowd[i].c.wrong);
		cr_expect_eq(s->end.seen, size);
		cr_expect_eq(s->n_gaps, 0);
		cr_expect(s->end.verified);
	}
}

/* --- the one that is stopped ----------------------------------------------------------------- */

/* What it says at the end. */
struct report {
	char wrong[256];
	uint64_t total, seen, gaps;
	unsigned n_gaps;
	enum redd_gap_cause cause; /* of the first gap */
	unsigned n_closed;
};

struct stopped {
	pid_t pid;
	int report_fd;
};

static void stopped_report(const struct collect *c, int fd)
{
	const struct collect_stream *s = collect_stream(c, 1);
	struct report report = { .total = s->end.total,
				 .seen = s->end.seen,
				 .gaps = s->end.gaps,
				 .n_gaps = s->n_gaps,
				 .cause = s->gap[0].cause,
				 .n_closed = c->n_closed };

	memcpy(report.wrong, c->wrong, sizeof(report.wrong));
	if (write(fd, &report, sizeof(report)) != sizeof(report))
		_exit(2);
}

/* Subscribes, stops itself, and when it goes on reads to the end. */
static void stopped_run(uint64_t id, enum redd_overflow overflow, int fd)
{
	struct redd *r = service_connect(&scene.service);
	struct redd_subscription *s;
	struct redd_port *port;
	struct collect c;

	collect_init(&c);
	c.patterned = c.drop_data = true;
	c.watch.overflow = overflow;
	c.watch.credit_mode = REDD_CREDIT_NONE; /* the socket alone is the brake */
	if (!r || redd_port_by_id(r, id, &port) || redd_subscribe(port, &c.watch, &s))
		_exit(1);
	raise(SIGSTOP);
	collect_wait(&c, r, WAIT);
	stopped_report(&c, fd);
	collect_deinit(&c);
	redd_free(r);
	_exit(0);
}

/* Returns when it has subscribed and is stopped. */
static struct stopped stopped_begin(uint64_t port, enum redd_overflow overflow)
{
	struct stopped ret;
	int fds[2], status;

	cr_assert_eq(pipe(fds), 0);
	fflush(NULL);
	ret.pid = fork();
	cr_assert_geq(ret.pid, 0);
	if (ret.pid == 0) {
		close(fds[0]);
		stopped_run(port, overflow, fds[1]);
	}
	close(fds[1]);
	ret.report_fd = fds[0];
	cr_assert_eq(waitpid(ret.pid, &status, WUNTRACED), ret.pid);
	cr_assert(WIFSTOPPED(status), "the client did not come so far");
	return ret;
}

static struct report stopped_go_on(struct stopped *s)
{
	struct report report;
	int status;

	kill(s->pid, SIGCONT);
	cr_assert_eq(read(s->report_fd, &report, sizeof(report)), (ssize_t)sizeof(report));
	close(s->report_fd);
	cr_assert_eq(waitpid(s->pid, &status, 0), s->pid);
	cr_assert_eq(status, 0);
	return report;
}

/* --- the tests ------------------------------------------------------------------------------- */

Test(crowd, P7_of_64_clients_63_see_all_while_one_is_stopped)
{
	const unsigned size = place_rounds(4) * 1048576u;
	struct redd_port *port = spawn_waiting_pattern(size, NULL);
	struct stopped stopped = stopped_begin(redd_port_id(port), REDD_DROP);
	struct report report;

	crowd_join(redd_port_id(port), REDD_BLOCK);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	crowd_wait();
	crowd_check(size);
	report = stopped_go_on(&stopped);
	cr_expect_str_eq(report.wrong, "");
	cr_expect_eq(report.n_closed, 1);
	cr_expect_eq(report.total, size);
	cr_expect_eq(report.seen + report.gaps, size);
	cr_expect_gt(report.gaps, 0, "it was stopped all the time");
	cr_expect_eq(report.cause, REDD_GAP_SLOW);
	crowd_leave();
	scene_forget(port);
}

Test(crowd, P7_a_stopped_client_that_may_block_holds_its_own_child_back_and_no_other)
{
	const unsigned size = place_rounds(4) * 1048576u;
	struct redd_port *held = spawn_waiting_pattern(size, NULL);
	struct redd_port *port = spawn_waiting_pattern(size, NULL);
	struct stopped stopped = stopped_begin(redd_port_id(held), REDD_BLOCK);
	struct redd_waited waited;
	struct report report;

	cr_assert_eq(redd_close(held, 0, NULL), 0);
	scene_wait_held(held, 1);
	crowd_join(redd_port_id(port), REDD_BLOCK);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	crowd_wait();
	crowd_check(size);
	cr_assert_eq(redd_wait(held, REDD_UNTIL_EXITED, 0, &waited), -ETIMEDOUT);
	report = stopped_go_on(&stopped);
	cr_expect_str_eq(report.wrong, "");
	cr_expect_eq(report.seen, size);
	cr_expect_eq(report.n_gaps, 0);
	crowd_leave();
	scene_forget(port);
	scene_forget(held);
}

Test(crowd, P7_a_killed_client_that_blocked_lets_its_child_go_on)
{
	const unsigned size = place_rounds(4) * 1048576u;
	struct redd_port *port = spawn_waiting_pattern(size, NULL);
	struct stopped stopped = stopped_begin(redd_port_id(port), REDD_BLOCK);
	struct redd_waited waited;
	int status;

	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_wait_held(port, 1);
	kill(stopped.pid, SIGKILL);
	cr_assert_eq(waitpid(stopped.pid, &status, 0), stopped.pid);
	close(stopped.report_fd);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	cr_assert_eq(waited.streams[0].total + waited.streams[1].total, size);
	scene_forget(port);
}

Test(crowd, P7_a_dropping_crowd_is_told_of_every_byte_it_gets_or_not)
{
	const unsigned size = place_rounds(8) * 1048576u;
	struct redd_port *port = spawn_waiting_pattern(size, NULL);

	crowd_join(redd_port_id(port), REDD_DROP);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	crowd_wait();
	for (int i = 0; i < CLIENTS; i++) {
		const struct collect_stream *s = collect_stream(&crowd[i].c, 1);

		cr_expect_str_eq(crowd[i].c.wrong, "", "client %d: %s", i, crowd[i].c.wrong);
		cr_expect_eq(s->end.total, size);
		cr_expect_eq(s->end.seen + s->end.gaps, size);
	}
	crowd_leave();
	scene_forget(port);
}
