/* Grandchildren that keep a stream open: they neither hide the exit nor cut output (P5). After the
 * exit a stream goes on until end of file, or until it was idle for the drain time, or to a hard
 * bound; then Closed names who held on, and what was cut is a gap.
 *
 * The grandchildren are tests/progs/holder (silent until a fifo is opened) and ticker (says
 * something every so often); both print their pid first. Times are those of the broker: nothing
 * here sleeps, it waits for a Wait of the broker to be up.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define LOG  65536u
#define WAIT 30000

static char fifo[PATH_MAX + 8];

static void set_up(void)
{
	scene_begin();
	snprintf(fifo, sizeof(fifo), "%s/fifo", scene.service.directory);
	cr_assert_eq(mkfifo(fifo, 0600), 0);
}

TestSuite(drain, .init = set_up, .fini = scene_end, .timeout = 60);

static struct redd_spawn_options drained(const char *const *argv, uint32_t drain_ms)
{
	return (struct redd_spawn_options){ .argv = argv,
					    .drain_ms = drain_ms,
					    .set = REDD_SET_DRAIN };
}

/* Lets the holder go on. */
static void fifo_release(void)
{
	int fd = open(fifo, O_WRONLY);

	cr_assert_geq(fd, 0);
	close(fd);
}

static void wait_exited(void)
{
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT);

	while (!scene.c.n_exited) {
		cr_assert_eq(redd_run_once(scene.r, 1000), 0);
		cr_assert_lt(scene_now_ms(), deadline, "the exit is not told");
	}
}

static void wait_closed(void)
{
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(scene.c.closed.cause, REDD_PORT_CLOSED);
}

/* The pid that the grandchild has printed in its first line. */
static pid_t printed_pid(void)
{
	return (pid_t)atoi(collect_text(&scene.c, 1));
}

static void expect_holder(void)
{
	cr_assert_eq(scene.c.closed.n_holders, 1);
	cr_assert_eq(scene.c.closed.holders[0], printed_pid());
}

/* --- the exit is not hidden ------------------------------------------------------------------ */

Test(drain, P5_S54_the_exit_is_told_at_once_although_a_grandchild_holds_on)
{
	const char *const argv[] = { place_prog("holder"), "7", fifo, "the last words\n", NULL };
	struct redd_spawn_options o = drained(argv, REDD_DRAIN_NEVER);
	struct redd_port *port = scene_spawn(&o, &scene.c);
	struct redd_waited waited;

	wait_exited();
	cr_expect_eq(redd_exit_status(&scene.c.exit), 7);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited), 0);
	scene_stays_open(port, 300);
	cr_expect_not(collect_stream(&scene.c, 1)->ended);
	cr_expect_eq(scene.c.n_closed, 0);
	fifo_release();
	wait_closed();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	cr_expect_not_null(strstr(collect_text(&scene.c, 1), "the last words\n"));
	cr_expect_eq(scene.c.closed.n_holders, 0);
	scene_forget(port);
}

Test(drain, P5_a_port_that_drains_says_so_and_is_not_forgotten)
{
	const char *const argv[] = { place_prog("holder"), "0", fifo, NULL };
	struct redd_spawn_options o = drained(argv, REDD_DRAIN_NEVER);
	struct redd_port *port = scene_spawn(&o, &scene.c);
	struct redd_ports *info;

	wait_exited();
	cr_assert_eq(redd_inspect(port, &info), 0);
	cr_expect_eq(info->ports[0].state, REDD_DRAINING);
	cr_expect(info->ports[0].has_exit);
	redd_ports_free(info);
	cr_expect_eq(redd_forget(port), -EBUSY);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
	fifo_release();
	wait_closed();
	scene_forget(port);
}

/* --- idle ------------------------------------------------------------------------------------ */

Test(drain, P5_a_silent_holder_is_waited_for_and_then_named)
{
	const char *const argv[] = { place_prog("holder"), "3", fifo, NULL };
	struct redd_spawn_options o = drained(argv, 200);
	struct redd_port *port = scene_spawn(&o, &scene.c);
	struct redd_waited waited;
	int64_t exited;

	wait_exited();
	exited = scene_now_ms();
	wait_closed();
	cr_expect_geq(scene_now_ms() - exited, 150, "it was idle for less than its drain time");
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_IDLE);
	cr_expect_eq(collect_stream(&scene.c, 2)->end.cause, REDD_END_IDLE);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0, "nothing was lost");
	expect_holder();
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 0, &waited), 0);
	cr_expect_eq(waited.n_holders, 1);
	cr_expect_eq(waited.holders[0], printed_pid());
	fifo_release();
	scene_forget(port);
}

Test(drain, P5_several_holders_are_all_named)
{
	struct redd_spawn_options o = drained(NULL, 200);
	struct redd_port *port;

	o.shell = scene_text("for i in 1 2 3; do %s 0 %s; done", place_prog("holder"), fifo);
	port = scene_spawn(&o, &scene.c);
	wait_closed();
	cr_assert_eq(scene.c.closed.n_holders, 3);
	for (int i = 0; i < 3; i++) {
		char line[32];

		snprintf(line, sizeof(line), "%d\n", (int)scene.c.closed.holders[i]);
		cr_expect_not_null(strstr(collect_text(&scene.c, 1), line));
	}
	for (int i = 0; i < 3; i++)
		cr_assert_eq(kill(scene.c.closed.holders[i], SIGKILL), 0);
	scene_forget(port);
}

Test(drain, P5_a_grandchild_that_goes_on_talking_is_heard_to_its_end)
{
	/* 1.2 s in all, and never silent for the 400 ms that it may be. */
	const char *const argv[] = { place_prog("ticker"), "5", "100", "12", NULL };
	struct redd_spawn_options o = drained(argv, 400);
	struct redd_port *port = scene_spawn(&o, &scene.c);

	wait_exited();
	cr_expect_lt(collect_stream(&scene.c, 1)->size, 60, "the exit did not wait for it");
	wait_closed();
	cr_expect_eq(redd_exit_status(&scene.c.exit), 5);
	cr_expect_not_null(strstr(collect_text(&scene.c, 1), "tick 0\n"));
	cr_expect_not_null(strstr(collect_text(&scene.c, 1), "tick 11\n"));
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	cr_expect_eq(scene.c.closed.n_holders, 0);
	scene_forget(port);
}

Test(drain, P5_a_grandchild_that_falls_silent_is_let_go_of_then)
{
	const char *const argv[] = { place_prog("ticker"), "0", "50", "8", "stay", NULL };
	struct redd_spawn_options o = drained(argv, 400);
	struct redd_port *port = scene_spawn(&o, &scene.c);

	wait_closed();
	cr_expect_not_null(strstr(collect_text(&scene.c, 1), "tick 7\n"));
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_IDLE);
	expect_holder();
	cr_assert_eq(kill(printed_pid(), SIGKILL), 0);
	scene_forget(port);
}

Test(drain, P5_streams_are_idle_each_for_itself)
{
	/* stderr is closed by the talking grandchild's start; stdout goes on. */
	struct redd_spawn_options o = drained(NULL, 400);
	struct redd_port *port;

	o.shell = scene_text("%s 0 %s >&2; exec %s 0 100 10 2>&-", place_prog("holder"), fifo,
			     place_prog("ticker"));
	port = scene_spawn(&o, &scene.c);
	wait_closed();
	cr_expect_eq(collect_stream(&scene.c, 2)->end.cause, REDD_END_IDLE);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	cr_expect_not_null(strstr(collect_text(&scene.c, 1), "tick 9\n"));
	fifo_release();
	scene_forget(port);
}

Test(drain, P5_S37_S54_without_drain_time_it_ends_with_the_exit_but_nothing_written_is_lost)
{
	struct redd_spawn_options o = drained(NULL, 0);
	struct redd_port *port;
	char line[64];

	o.shell = scene_text("%s 150000; exec %s 4 -", place_prog("pattern"), place_prog("holder"));
	port = scene_spawn(&o, &scene.c);
	wait_closed();
	cr_expect_eq(redd_exit_status(&scene.c.exit), 4);
	cr_assert_eq(scene.c.closed.n_holders, 1);
	snprintf(line, sizeof(line), "%d\n", (int)scene.c.closed.holders[0]);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, 150000 + strlen(line));
	cr_expect_eq(pattern_match((uint8_t *)collect_stream(&scene.c, 1)->data, 150000, 0),
		     150000);
	cr_assert_eq(kill(scene.c.closed.holders[0], SIGKILL), 0);
	scene_forget(port);
}

/* --- the hard bound -------------------------------------------------------------------------- */

Test(drain, P5_a_hard_bound_cuts_what_talks_for_ever_and_says_so)
{
	const char *const argv[] = { place_prog("ticker"), "0", "30", "100000", NULL };
	struct redd_spawn_options o = drained(argv, 30000);
	const struct collect_stream *s;
	struct redd_port *port;

	o.drain_limit_ms = 400;
	o.set |= REDD_SET_DRAIN_LIMIT;
	port = scene_spawn(&o, &scene.c);
	wait_closed();
	s = collect_stream(&scene.c, 1);
	cr_expect_eq(s->end.cause, REDD_END_LIMIT);
	cr_assert_eq(s->n_gaps, 1);
	cr_expect_eq(s->gap[0].cause, REDD_GAP_ABANDONED);
	cr_expect_eq(s->gap[0].end, s->end.total);
	cr_expect_not_null(strstr(collect_text(&scene.c, 1), "tick 0\n"));
	expect_holder();
	cr_assert_eq(kill(printed_pid(), SIGKILL), 0);
	scene_forget(port);
}

/* Fills log and pipe while a blocking reader without credit looks on, and holds on. The writer has
 * left: `total` bytes and the holder's pid have been written when this returns. */
static struct redd_port *spawn_held_back(struct redd_spawn_options *o, uint64_t total)
{
	struct redd_port *port;

	o->shell = scene_text("%s %" PRIu64 "; exec %s 6 %s", place_prog("pattern"), total,
			      place_prog("holder"), fifo);
	o->log_size = LOG;
	scene.c.watch.overflow = REDD_BLOCK;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 1; /* not even an empty event */
	port = scene_spawn(o, &scene.c);
	wait_exited();
	scene_wait_held(port, 1);
	return port;
}

static void give_all(struct redd_port *port)
{
	cr_assert_eq(redd_credit(redd_port_subscription(port), 1ull << 40), 0);
}

Test(drain, P5_what_the_hard_bound_leaves_in_the_pipe_is_a_gap_of_its_size)
{
	struct redd_spawn_options o = { .drain_limit_ms = 300, .set = REDD_SET_DRAIN_LIMIT };
	struct redd_port *port = spawn_held_back(&o, 100000);
	const struct collect_stream *s;
	struct redd_waited waited;
	char line[32];

	/* Closed for everybody; only this reader has not been told yet. */
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	cr_assert_eq(scene.c.n_closed, 0);
	cr_assert_eq(waited.n_holders, 1);
	snprintf(line, sizeof(line), "%d\n", (int)waited.holders[0]);
	give_all(port);
	wait_closed();
	s = collect_stream(&scene.c, 1);
	cr_expect_eq(s->end.cause, REDD_END_LIMIT);
	cr_expect_eq(s->end.seen, LOG);
	cr_assert_eq(s->n_gaps, 1);
	cr_expect_eq(s->gap[0].cause, REDD_GAP_ABANDONED);
	cr_expect_eq(s->gap[0].offset, LOG);
	cr_expect_eq(s->gap[0].end, 100000 + strlen(line));
	cr_expect_eq(s->end.total, 100000 + strlen(line));
	fifo_release();
	scene_forget(port);
}

/* --- held back is not idle ------------------------------------------------------------------- */

Test(drain, P5_time_in_which_a_blocking_reader_holds_the_pipe_back_is_not_idle_time)
{
	struct redd_spawn_options o = { .drain_ms = 200, .set = REDD_SET_DRAIN };
	struct redd_port *port = spawn_held_back(&o, 100000);
	const struct collect_stream *s;

	scene_stays_open(port, 900);
	give_all(port);
	wait_closed();
	s = collect_stream(&scene.c, 1);
	cr_expect_eq(s->n_gaps, 0);
	cr_expect_gt(s->end.seen, 100000);
	cr_expect_eq(s->end.cause, REDD_END_IDLE);
	cr_expect_eq(pattern_match((uint8_t *)s->data, 100000, 0), 100000);
	cr_expect_eq(scene.c.closed.n_holders, 1);
	fifo_release();
	scene_forget(port);
}

Test(drain, P5_unread_output_that_is_held_is_not_idle_either)
{
	struct redd_spawn_options o = {
		.log_size = LOG, .hold_unread = true, .drain_ms = 200, .set = REDD_SET_DRAIN
	};
	struct redd_port *port;

	o.shell = scene_text("exec %s 100000", place_prog("pattern"));
	port = scene_spawn(&o, NULL);
	scene_wait_held(port, 1);
	scene_stays_open(port, 700);
	scene.c.patterned = true;
	scene_subscribe(port, &scene.c);
	wait_closed();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, 100000);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	scene_forget(port);
}

/* --- closed early ---------------------------------------------------------------------------- */

Test(drain, P5_a_grandchild_that_let_go_of_the_streams_is_not_waited_for)
{
	const char *const argv[] = { place_prog("stray"), "1", NULL };
	struct redd_spawn_options o = drained(argv, REDD_DRAIN_NEVER);
	struct redd_port *port = scene_spawn(&o, &scene.c);

	wait_closed();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	cr_expect_eq(scene.c.closed.n_holders, 0);
	cr_assert_eq(kill(printed_pid(), SIGKILL), 0);
	scene_forget(port);
}

Test(drain, P5_killing_the_tree_ends_the_wait_for_a_holder)
{
	const char *const argv[] = { place_prog("holder"), "0", "-", NULL };
	struct redd_spawn_options o = drained(argv, REDD_DRAIN_NEVER);
	struct redd_port *port = scene_spawn(&o, &scene.c);
	struct redd_signalled done;

	wait_exited();
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_TREE, &done), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_expect_eq(done.count, 1);
	cr_expect_eq(done.n_survivors, 0);
	wait_closed();
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
	scene_forget(port);
}
