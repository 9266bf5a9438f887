/* P13 where something was being ended when the broker died: the kill comes at a chosen step, and
 * the successor has to finish what was begun. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/death.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(resume_close, .init = death_begin, .fini = scene_end, .timeout = 120);
TestSuite(resume_close_full, .fini = scene_end, .timeout = 120);

static struct redd_port *cat(struct collect *c)
{
	const struct redd_descriptor in = { .fd = 0 };
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .log_size = 65536 };

	return scene_spawn(&o, c);
}

/* --- one end of a pipe ----------------------------------------------------------------------- */

/* Our end goes first: then the keeper has the only one, and has not been told. */
Test(resume_close, P13_a_child_sees_the_end_of_an_input_whoever_died_over_the_close)
{
	struct redd_port *port;
	struct death death;

	death_needs_tracing();
	port = cat(&scene.c);
	death_at(&death, "close", 1);
	cr_assert_eq(redd_close(port, 0, NULL), 0, "%s", redd_last_error(scene.r)->message);
	death_await(&death);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0, "it never saw the end");
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	scene_forget(port);
}

/* Writes to it until it is over. What it passes on before the keeper has closed its end, which
 * nobody waits for, goes unnoticed, as with every pipe. */
static int write_until_exited(struct redd_port *port, struct redd_waited *ret)
{
	int64_t until = scene_now_ms() + place_patience_ms(20000);
	int e;

	do {
		(void)redd_write(port, "x", 1, NULL, NULL); /* refused when it is over */
		e = redd_wait(port, REDD_UNTIL_EXITED, 100, ret);
	} while (e < 0 && scene_now_ms() < until);
	return e;
}

/* There is no room for a second log, so the second one's output ends with an error. */
Test(resume_close_full, P13_a_child_learns_that_nobody_reads_whoever_died_over_that)
{
	struct redd_port *first, *second;
	struct redd_waited waited;
	struct death death;

	death_begin_with((const char *const[]){ "--log-bytes-per-uid", "65536", NULL });
	death_needs_tracing();
	first = cat(NULL);
	second = cat(&scene.c);
	cr_assert_eq(redd_write(first, "x", 1, NULL, NULL), 0);
	while (scene_stream(first, 1).total == 0)
		cr_assert_geq(redd_run_once(scene.r, 10), 0);
	death_at(&death, "close", 1);
	cr_assert_eq(redd_write(second, "x", 1, NULL, NULL), 0);
	death_await(&death);
	cr_assert_eq(write_until_exited(second, &waited), 0,
		     "it writes into a pipe that nobody reads");
	cr_expect_eq(waited.exit.state, REDD_EXIT_SIGNAL);
	cr_expect_eq(waited.exit.signal, SIGPIPE);
	scene_forget(second);
	cr_assert_eq(redd_close(first, 0, NULL), 0);
	scene_forget(first);
}

/* --- a whole port ---------------------------------------------------------------------------- */

#define MUCH 600000u /* more than both pipes on its way hold */

/* A port that writes into a fifo of which the test is the slow reader. */
struct fifo {
	const char *path;
	struct redd_port *port;
	int fd;
	size_t got;
	bool ended;
};

static void fifo_open(struct fifo *f, bool reads)
{
	struct redd_open_options o = { .write = !reads, .read = reads };

	o.path = f->path = scene_text("%s/fifo", scene.service.directory);
	o.port.orphan = REDD_ORPHAN_KEEP;
	cr_assert_eq(mkfifo(f->path, 0600), 0, "%s", strerror(errno));
	f->fd = open(f->path, (reads ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
	cr_assert_geq(f->fd, 0);
	f->got = 0;
	f->ended = false;
	if (reads)
		o.port.subscribe = &scene.c.watch;
	cr_assert_eq(redd_open(scene.r, &o, &f->port), 0, "%s", redd_last_error(scene.r)->message);
}

static void fifo_read(struct fifo *f)
{
	char bytes[65536];
	ssize_t n;

	while ((n = read(f->fd, bytes, sizeof(bytes))) > 0)
		f->got += (size_t)n;
	f->ended |= n == 0;
}

/* While its other side is read; false: it was not over in time. */
static bool fifo_read_until(struct fifo *f, const struct outcome *o)
{
	int64_t until = scene_now_ms() + place_patience_ms(20000);

	while (o ? !o->n : !f->ended) {
		if (scene_now_ms() > until)
			return false;
		cr_assert_geq(redd_run_once(scene.r, 10), 0);
		fifo_read(f);
	}
	return true;
}

/* Closes it as a whole behind a Write that its reader is not done with. The broker dies over that,
 * or (NULL) while it waits. */
static void whole_close(struct death *death)
{
	static char bytes[MUCH];
	struct outcome wrote = { 0 }, closed = { 0 };
	struct fifo f;

	fifo_open(&f, false);
	cr_assert_eq(redd_write_start(f.port, bytes, sizeof(bytes), NULL, outcome_call(&wrote)), 0);
	if (death)
		death_at(death, "shutdown", 1);
	cr_assert_eq(redd_close_whole_start(f.port, false, outcome_call(&closed)), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	if (death)
		death_await(death);
	else
		death_now();
	cr_assert(fifo_read_until(&f, &closed), "the close was never answered");
	fifo_read(&f);
	cr_expect(f.ended);
	cr_expect_eq(f.got, sizeof(bytes));
	cr_expect(wrote.n == 1 && wrote.result == 0, "%d", wrote.result);
	cr_expect(closed.n == 1 && closed.result == 0, "%d", closed.result);
	close(f.fd);
	scene_forget(f.port);
}

Test(resume_close, P13_a_whole_close_that_waits_for_a_slow_reader_outlives_the_broker)
{
	whole_close(NULL);
}

Test(resume_close, P13_a_whole_close_is_done_whoever_died_over_it)
{
	struct death death;

	death_needs_tracing();
	whole_close(&death);
}

/* Who asked for it never comes back. */
Test(resume_close, P13_a_whole_close_is_finished_without_the_one_who_asked_for_it)
{
	struct outcome closed = { 0 };
	struct redd_port *same;
	struct redd *other;
	struct death death;
	struct fifo f;

	death_needs_tracing();
	other = service_connect(&scene.service);
	fifo_open(&f, false);
	cr_assert_eq(redd_write(f.port, "accepted", 8, NULL, NULL), 0);
	cr_assert_eq(redd_port_by_id(other, redd_port_id(f.port), &same), 0);
	death_at(&death, "shutdown", 1);
	cr_assert_eq(redd_close_whole_start(same, false, outcome_call(&closed)), 0);
	while (death_broker() == death.broker)
		redd_run_once(other, 10);
	redd_free(other);
	death_await(&death);
	cr_assert(fifo_read_until(&f, NULL), "the fifo is still open");
	cr_expect_eq(f.got, 8);
	close(f.fd);
	scene_forget(f.port);
}

Test(resume_close, P13_a_whole_close_stops_the_reading_whoever_died_over_it)
{
	struct outcome closed = { 0 };
	struct redd_port *same;
	struct redd *other;
	struct death death;
	struct fifo f;

	death_needs_tracing();
	other = service_connect(&scene.service);
	fifo_open(&f, true);
	cr_assert_eq(redd_port_by_id(other, redd_port_id(f.port), &same), 0);
	death_at(&death, "shutdown", 1);
	cr_assert_eq(redd_close_whole_start(same, false, outcome_call(&closed)), 0);
	while (death_broker() == death.broker)
		redd_run_once(other, 10);
	redd_free(other);
	death_await(&death);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0, "it is read for ever");
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_CLOSED);
	close(f.fd);
	scene_forget(f.port);
}

/* --- an Open --------------------------------------------------------------------------------- */

/* Each step of taking the pump's report. The later ones may not come at all. */
Test(resume_close, P13_an_open_is_answered_whoever_died_over_its_report)
{
	death_needs_tracing();
	for (unsigned step = 1; step <= 4; step++) {
		const struct redd_open_options o = { .path = scene_text("%s/fifo",
									scene.service.directory),
						     .read = true,
						     .write = true };
		struct outcome opened = { 0 };
		struct redd_port *port;
		struct death death;

		if (step == 1)
			cr_assert_eq(mkfifo(o.path, 0600), 0, "%s", strerror(errno));
		death_at(&death, "recvfrom", step);
		cr_assert_eq(redd_open_start(scene.r, &o, &port, outcome_call(&opened)), 0);
		cr_assert_eq(outcome_wait(&opened, scene.r, 20000), 0, "step %u", step);
		cr_expect_eq(opened.result, 0, "step %u", step);
		cr_expect(death_over(&death) || step > 2, "it did not die at step %u", step);
		cr_assert_eq(redd_close_whole(port, false, NULL), 0);
		scene_forget(port);
	}
}

/* The same with what cannot be opened: why not is told by the report alone. */
Test(resume_close, P13_an_open_fails_as_it_should_whoever_died_over_its_report)
{
	death_needs_tracing();
	for (unsigned step = 1; step <= 2; step++) {
		const struct redd_open_options o = { .path = "/", .read = true };
		struct outcome opened = { 0 };
		struct redd_port *port;
		struct death death;

		death_at(&death, "recvfrom", step);
		cr_assert_eq(redd_open_start(scene.r, &o, &port, outcome_call(&opened)), 0);
		cr_assert_eq(outcome_wait(&opened, scene.r, 20000), 0, "step %u", step);
		cr_expect_eq(opened.result, -EISDIR, "step %u: %d", step, opened.result);
		death_over(&death);
	}
}
