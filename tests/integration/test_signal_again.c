/* P10, P13: a tree is killed also when who is to do it dies over it, or the broker does. An opener
 * stops a tree before it kills it; one that dies in between leaves it standing still, so that not
 * even the end of its input can end it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "tests/lib/census.h"
#include "tests/lib/death.h"
#include "tests/lib/inject.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(signal_again, .init = death_begin, .fini = scene_end, .timeout = 60);

static bool is_alive(pid_t pid)
{
	return census_state(pid) && census_state(pid) != 'Z';
}

/* A leader and two strays, none of which is another one's child. */
static struct redd_port *strays(pid_t pids[2])
{
	const char *const argv[] = { place_prog("stray"), "2", "stay", NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .set = REDD_SET_RETENTION };
	struct redd_port *port = scene_spawn(&o, &scene.c);

	cr_assert_eq(scene_wait_pids(pids, 2), 2);
	return port;
}

/* What each opener that the forker starts from now on meets at its nth signal. */
static void openers_meet(struct inject *i, const char *what, unsigned nth)
{
	cr_assert_eq(inject_start(i, census_child(scene.service.pid, "forker"),
				  scene_text("pidfd_send_signal:%s:when=%u", what, nth)),
		     0);
}

static void client_goes(void)
{
	redd_free(scene.r);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
}

Test(signal_again, P10_a_kill_that_ends_half_way_is_done_again)
{
	struct inject inject;
	pid_t pids[2];
	struct redd_port *port = strays(pids);

	openers_meet(&inject, "signal=KILL", 4); /* the first that would kill: three were stopped */
	cr_expect_eq(redd_signal(port, SIGKILL, REDD_TREE, NULL), -EBUSY);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_UNAVAILABLE);
	cr_assert_eq(inject_stop(&inject), 0);
	for (int i = 0; i < 2; i++)
		scene_wait_dead(pids[i]);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	redd_port_free(port);
}

/* Nobody asks: the client goes, and then its port, before its strays do. */
Test(signal_again, P10_what_goes_with_its_client_goes_although_the_opener_dies)
{
	struct inject inject;
	pid_t pids[2], leader;
	struct redd_port *port = strays(pids);

	leader = redd_port_pid(port);
	openers_meet(&inject, "signal=KILL", 4);
	client_goes();
	scene_wait_dead(leader); /* which is done without one in the end */
	cr_assert_eq(inject_stop(&inject), 0);
	for (int i = 0; i < 2; i++)
		scene_wait_dead(pids[i]);
}

/* Found by its parent alone: in a session of its own, and without a mark. */
Test(signal_again, P10_its_leader_is_left_alone_until_its_children_are_found)
{
	const char *const argv[] = { "/bin/sh", "-c",
				     "env -i setsid sh -c 'echo $$; exec sleep 1000' & wait",
				     NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .set = REDD_SET_RETENTION };
	struct inject inject;
	pid_t pid;

	scene_spawn(&o, &scene.c);
	cr_assert_eq(scene_wait_pids(&pid, 1), 1);
	openers_meet(&inject, "signal=KILL", 3); /* two were stopped */
	client_goes();
	while (census_state(pid) != 'T')
		;
	cr_assert_eq(inject_stop(&inject), 0);
	scene_wait_dead(pid);
}

/* The opener is at it when the broker dies, and the next one lets it. */
Test(signal_again, P13_a_kill_outlives_the_broker_that_began_it)
{
	struct outcome o = { 0 };
	struct inject inject;
	pid_t pids[2];
	struct redd_port *port = strays(pids);

	openers_meet(&inject, "delay_enter=1000000", 4);
	cr_assert_eq(redd_signal_start(port, SIGKILL, REDD_TREE, outcome_call(&o)), 0);
	while (census_state(pids[1]) != 'T')
		cr_assert_geq(redd_run_once(scene.r, 1), 0);
	death_await_next(death_now());
	/* The client is back, so that nobody kills them for its absence. */
	while (is_alive(pids[0]) || is_alive(pids[1]))
		cr_assert_geq(redd_run_once(scene.r, 10), 0);
	cr_assert_eq(inject_stop(&inject), 0);
	cr_assert_eq(outcome_wait(&o, scene.r, 20000), 0);
	cr_expect_eq(o.result, -ENOTCONN, "whether it was done is not known to it: %d", o.result);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	redd_port_free(port);
}
