/* What stays of a port that has ended, and for how long: its status and its log can be had by
 * everybody until the retention is over or somebody forgets it; a blocking subscriber, who was
 * promised every byte, keeps them longer.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define WAIT 30000

TestSuite(retention, .init = scene_begin, .fini = scene_end, .timeout = 60);

static struct redd_port *spawn_kept(const char *command, uint32_t retention_ms, struct collect *c)
{
	const struct redd_spawn_options o = { .shell = command,
					      .retention_ms = retention_ms,
					      .set = REDD_SET_RETENTION };

	return scene_spawn(&o, c);
}

static void wait_until(struct redd_port *port, enum redd_until until)
{
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, until, place_patience_ms(WAIT), &waited), 0, "%s",
		     redd_last_error(scene.r)->message);
}

static void expect_not_found(int result)
{
	cr_expect_eq(result, -ENOENT, "%d", result);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_NOT_FOUND);
	cr_expect_neq(redd_last_error(scene.r)->message[0], '\0');
}

/* Lets at least `ms` go by, as the broker counts them: another port's retention. */
static void let_pass(uint32_t ms)
{
	struct redd_port *clock = spawn_kept("exit 0", ms, NULL);
	uint64_t id;

	wait_until(clock, REDD_UNTIL_CLOSED);
	id = redd_port_id(clock);
	redd_port_free(clock);
	scene_wait_forgotten(id);
}

/* --- while it is kept ------------------------------------------------------------------------ */

Test(retention, P4_an_ended_port_is_read_and_asked_for_by_anybody)
{
	struct redd_port *port = spawn_kept("echo words; exit 11", 60000, NULL), *theirs;
	struct redd *other;

	wait_until(port, REDD_UNTIL_CLOSED);
	other = service_connect(&scene.service);
	cr_assert_not_null(other);
	for (int i = 0; i < 3; i++) {
		struct redd_waited waited;
		struct collect c;

		collect_init(&c);
		cr_assert_eq(redd_port_by_id(other, redd_port_id(port), &theirs), 0);
		cr_assert_eq(redd_wait(theirs, REDD_UNTIL_EXITED, 0, &waited), 0);
		cr_expect_eq(waited.exit.code, 11);
		scene_subscribe(theirs, &c);
		cr_assert_eq(collect_wait(&c, other, WAIT), 0);
		cr_expect_str_eq(c.wrong, "");
		cr_expect_str_eq(collect_text(&c, 1), "words\n");
		cr_expect_eq(c.closed.cause, REDD_PORT_CLOSED);
		collect_deinit(&c);
		redd_port_free(theirs);
	}
	redd_free(other);
	scene_forget(port);
}

Test(retention, P11_a_forgotten_port_is_gone_with_all_it_had)
{
	struct redd_port *port = spawn_kept("echo words", 60000, NULL);
	struct redd_subscription *s;
	struct redd_ports *info;
	struct redd_waited waited;

	wait_until(port, REDD_UNTIL_CLOSED);
	cr_assert_eq(redd_forget(port), 0);
	expect_not_found(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited));
	expect_not_found(redd_inspect(port, &info));
	expect_not_found(redd_forget(port));
	expect_not_found(redd_subscribe(port, &(struct redd_subscribe_options){ 0 }, &s));
	expect_not_found(redd_signal(port, 0, REDD_LEADER, NULL));
	expect_not_found(redd_write(port, "x", 1, NULL, NULL));
	redd_port_free(port);
}

Test(retention, P4_a_living_port_is_not_forgotten)
{
	struct redd_port *port = scene_prog(NULL, "hang", NULL);

	cr_assert_eq(redd_forget(port), -EBUSY);
	cr_assert_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
	scene_kill(port);
}

/* --- when its time is up --------------------------------------------------------------------- */

struct lives {
	uint64_t port;
	int64_t closed_ns, forgotten_ns;
};

static void on_life(struct redd_watch *watch, const struct redd_life *life, void *user)
{
	struct lives *l = user;

	(void)watch;
	if (life->port != l->port)
		return;
	if (life->what == REDD_LIFE_CLOSED)
		l->closed_ns = life->time_ns;
	if (life->what == REDD_LIFE_FORGOTTEN)
		l->forgotten_ns = life->time_ns;
}

Test(retention, P11_after_its_time_the_port_is_not_found)
{
	struct lives lives = { 0 };
	const struct redd_watch_options o = { .on_life = on_life,
					      .user = &lives,
					      .has_after = true };
	struct redd_port *port;
	struct redd_waited waited;
	struct redd_watch *watch;
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT);

	port = spawn_kept("echo words", 300, NULL);
	lives.port = redd_port_id(port);
	cr_assert_eq(redd_watch(scene.r, &o, &watch), 0);
	while (!lives.forgotten_ns && scene_now_ms() < deadline)
		cr_assert_eq(redd_run_once(scene.r, 1000), 0);
	cr_assert_neq(lives.forgotten_ns, 0, "a watcher is told");
	cr_expect_geq(lives.forgotten_ns - lives.closed_ns, 290 * 1000000ll);
	expect_not_found(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited));
	redd_watch_free(watch);
	redd_port_free(port);
}

Test(retention, P2_without_retention_its_own_reader_still_gets_all)
{
	for (unsigned i = 0; i < place_rounds(200); i++) {
		struct redd_port *port;
		struct collect c;

		collect_init(&c);
		port = spawn_kept("echo words; echo more >&2; exit 2", 0, &c);
		cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
		cr_assert_str_eq(c.wrong, "");
		cr_assert_str_eq(collect_text(&c, 1), "words\n");
		cr_assert_str_eq(collect_text(&c, 2), "more\n");
		cr_assert_eq(redd_exit_status(&c.exit), 2);
		collect_deinit(&c);
		redd_port_free(port);
	}
}

Test(retention, P4_without_retention_those_who_wait_are_answered)
{
	for (unsigned i = 0; i < place_rounds(100); i++) {
		const struct redd_spawn_options o = { .shell = "exit 5",
						      .set = REDD_SET_RETENTION };
		struct redd_waited waited = { 0 };
		struct redd_call call = { 0 };
		struct redd_port *port;

		/* In one packet, so that it can not be too late. */
		cr_assert_eq(redd_spawn_start(scene.r, &o, &port, &call), 0);
		cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited),
			     0, "%s", redd_last_error(scene.r)->message);
		cr_assert_eq(waited.exit.code, 5);
		redd_port_free(port);
	}
}

/* --- who keeps it ---------------------------------------------------------------------------- */

/* A port whose reader gets nothing until it gives credit. */
static struct redd_port *spawn_unread(enum redd_overflow overflow, uint32_t retention_ms)
{
	scene.c.watch.overflow = overflow;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 1;
	return spawn_kept("echo all of it; exit 3", retention_ms, &scene.c);
}

static void expect_found(struct redd_port *port)
{
	struct redd_ports *info;

	cr_assert_eq(redd_inspect(port, &info), 0, "its log waits for the reader");
	redd_ports_free(info);
}

Test(retention, P1_a_blocking_reader_keeps_the_log_beyond_its_time)
{
	struct redd_port *port = spawn_unread(REDD_BLOCK, 100);

	wait_until(port, REDD_UNTIL_CLOSED);
	let_pass(500);
	expect_found(port);
	cr_assert_eq(scene.c.n_closed, 0);
	cr_assert_eq(redd_credit(redd_port_subscription(port), 1u << 20), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_str_eq(collect_text(&scene.c, 1), "all of it\n");
	cr_expect_eq(scene.c.closed.cause, REDD_PORT_CLOSED);
	scene_wait_forgotten(redd_port_id(port));
	redd_port_free(port);
}

Test(retention, P7_a_dropping_reader_does_not_keep_the_log)
{
	struct redd_port *port = spawn_unread(REDD_DROP, 100);

	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(scene.c.closed.cause, REDD_FORGOTTEN);
	cr_expect_eq(scene.c.n_exited, 1, "the exit was told before");
	cr_expect_eq(scene.c.closed.exit.code, 3);
	scene_wait_forgotten(redd_port_id(port));
	redd_port_free(port);
}

Test(retention, P7_a_blocking_reader_that_was_moved_to_drop_does_not_keep_the_log)
{
	const struct redd_spawn_options o = { .shell = "exec head -c 1000000 /dev/zero",
					      .log_size = 65536,
					      .retention_ms = 100,
					      .set = REDD_SET_RETENTION };
	struct redd_port *port;

	scene.c.watch.overflow = REDD_BLOCK;
	scene.c.watch.stall_ms = 100;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 1;
	port = scene_spawn(&o, &scene.c);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(scene.c.closed.cause, REDD_FORGOTTEN);
	scene_wait_forgotten(redd_port_id(port));
	redd_port_free(port);
}

Test(retention, P11_when_the_blocking_reader_leaves_the_port_goes)
{
	struct redd_port *port = spawn_unread(REDD_BLOCK, 100);
	uint64_t id = redd_port_id(port);

	wait_until(port, REDD_UNTIL_CLOSED);
	let_pass(300);
	expect_found(port);
	redd_port_free(port); /* with its subscription */
	scene_wait_forgotten(id);
}

Test(retention, P4_forget_ends_even_a_blocking_readers_wait)
{
	struct redd_port *port = spawn_unread(REDD_BLOCK, 60000);

	wait_until(port, REDD_UNTIL_CLOSED);
	cr_assert_eq(redd_forget(port), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_eq(scene.c.closed.cause, REDD_FORGOTTEN);
	redd_port_free(port);
}
