/* P10: signals reach the leader, its group or its tree, whatever that did to get away, and never a
 * process that only has the number. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(signal, .init = scene_begin, .fini = scene_end, .timeout = 60);

/* --- tools ----------------------------------------------------------------------------------- */

static bool is_alive(pid_t pid)
{
	char state = census_state(pid);

	return state && state != 'Z' && state != 'X';
}

static struct redd_signalled signalled;

static void sends(struct redd_port *port, int signal, enum redd_target target)
{
	memset(&signalled, 0, sizeof(signalled));
	cr_assert_eq(redd_signal(port, signal, target, &signalled), 0, "%s",
		     redd_last_error(scene.r)->message);
}

static void nobody(struct redd_port *port, enum redd_target target)
{
	cr_expect_eq(redd_signal(port, SIGTERM, target, NULL), -ESRCH, "target %d", target);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
}

static void wait_exit(int signal)
{
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(scene.c.exit.state, REDD_EXIT_SIGNAL);
	cr_expect_eq(scene.c.exit.signal, signal, "%d", scene.c.exit.signal);
}

/* --- the leader ------------------------------------------------------------------------------ */

Test(signal, P10_every_signal_that_can_end_a_leader_does)
{
	for (int sig = 1; sig <= 64; sig++) {
		struct redd_port *port;

		if (sig == SIGCHLD || sig == SIGCONT || sig == SIGURG || sig == SIGWINCH ||
		    sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
			continue;
		if (sig == 32 || sig == 33) /* the C library's own */
			continue;
		port = scene_prog(&scene.c, "hang", NULL);
		sends(port, sig, REDD_LEADER);
		cr_expect_eq(signalled.count, 1);
		wait_exit(sig);
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
}

Test(signal, P10_signal_0_only_asks)
{
	struct redd_port *port = scene_prog(&scene.c, "hang", NULL);

	for (int target = REDD_LEADER; target <= REDD_TREE; target++) {
		sends(port, 0, (enum redd_target)target);
		cr_expect_eq(signalled.count, 1);
	}
	sends(port, SIGKILL, REDD_LEADER);
	wait_exit(SIGKILL);
	for (int target = REDD_LEADER; target <= REDD_TREE; target++)
		cr_expect_eq(redd_signal(port, 0, (enum redd_target)target, NULL), -ESRCH);
	scene_forget(port);
}

Test(signal, P10_a_leader_alone_leaves_its_group)
{
	struct redd_port *port = scene_shell("sleep 1000 & echo $!; wait", &scene.c);
	pid_t child;

	cr_assert_eq(scene_wait_pids(&child, 1), 1);
	sends(port, SIGKILL, REDD_LEADER);
	cr_expect(is_alive(child));
	sends(port, SIGTERM, REDD_GROUP);
	scene_wait_dead(child);
	wait_exit(SIGKILL);
	scene_forget(port);
}

Test(signal, P15_what_is_no_signal_is_refused)
{
	struct redd_port *port = scene_prog(&scene.c, "hang", NULL);

	cr_expect_eq(redd_signal(port, 65, REDD_LEADER, NULL), -EINVAL);
	cr_expect_eq(redd_signal(port, -1, REDD_LEADER, NULL), -EINVAL);
	cr_expect_eq(redd_signal(port, 9, (enum redd_target)3, NULL), -EINVAL);
	sends(port, SIGKILL, REDD_LEADER);
	scene_forget(port);
}

/* --- the group ------------------------------------------------------------------------------- */

Test(signal, P10_a_group_gets_it_all_at_once)
{
	struct redd_port *port =
		scene_shell("for i in 1 2 3; do sleep 1000 & echo $!; done; wait", &scene.c);
	pid_t pids[3];

	cr_assert_eq(scene_wait_pids(pids, 3), 3);
	sends(port, SIGTERM, REDD_GROUP);
	cr_expect_eq(signalled.count, 1, "a group counts as one");
	for (int i = 0; i < 3; i++)
		scene_wait_dead(pids[i]);
	wait_exit(SIGTERM);
	scene_forget(port);
}

Test(signal, P10_a_group_outlives_its_leader)
{
	struct redd_port *port = scene_shell("sleep 1000 & echo $!; exit 0", &scene.c);
	pid_t child;

	cr_assert_eq(scene_wait_pids(&child, 1), 1);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 20000, &(struct redd_waited){ 0 }), 0);
	nobody(port, REDD_LEADER);
	sends(port, SIGTERM, REDD_GROUP);
	scene_wait_dead(child);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	nobody(port, REDD_GROUP);
	scene_forget(port);
}

Test(signal, P10_a_group_in_the_services_session_is_the_ports_own)
{
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = "sleep 1000 & echo $!; wait",
					      .new_group = true };
	struct redd_port *port = scene_spawn(&o, &scene.c);
	pid_t child;

	cr_assert_eq(scene_wait_pids(&child, 1), 1);
	sends(port, SIGHUP, REDD_GROUP);
	scene_wait_dead(child);
	wait_exit(SIGHUP);
	cr_assert_eq(redd_ping(scene.r), 0, "nobody else got it");
	scene_forget(port);
}

/* --- the tree -------------------------------------------------------------------------------- */

Test(signal, P10_descendants_that_left_session_and_parents_are_found_by_their_mark)
{
	struct redd_port *port = scene_prog(&scene.c, "stray", "5", "stay", NULL);
	pid_t pids[5];

	cr_assert_eq(scene_wait_pids(pids, 5), 5);
	sends(port, SIGUSR1, REDD_TREE);
	cr_expect_eq(signalled.count, 6, "%u", signalled.count);
	for (int i = 0; i < 5; i++)
		scene_wait_dead(pids[i]);
	wait_exit(SIGUSR1);
	nobody(port, REDD_TREE);
	scene_forget(port);
}

Test(signal, P10_descendants_are_found_after_their_leader_is_gone)
{
	struct redd_port *port = scene_prog(&scene.c, "stray", "5", NULL);
	pid_t pids[5];

	cr_assert_eq(scene_wait_pids(pids, 5), 5);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	for (int i = 0; i < 5; i++)
		cr_expect(is_alive(pids[i]));
	sends(port, SIGKILL, REDD_TREE);
	cr_expect_eq(signalled.count, 5, "%u", signalled.count);
	cr_expect_eq(signalled.n_survivors, 0);
	for (int i = 0; i < 5; i++)
		scene_wait_dead(pids[i]);
	nobody(port, REDD_TREE);
	scene_forget(port);
}

/* A leader that changed its own environment is its pidfd's still. */
Test(signal, P10_a_leader_without_its_mark_is_found)
{
	struct redd_port *port =
		scene_shell("exec env -i sh -c 'echo $$; exec sleep 1000'", &scene.c);
	pid_t leader;

	cr_assert_eq(scene_wait_pids(&leader, 1), 1);
	sends(port, SIGTERM, REDD_TREE);
	cr_expect_eq(signalled.count, 1);
	wait_exit(SIGTERM);
	scene_forget(port);
}

Test(signal, P10_children_without_the_mark_are_found_by_ancestry_and_session)
{
	struct redd_port *port = scene_shell(
		"env -i sh -c 'sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait' & wait",
		&scene.c);
	pid_t pids[2];

	cr_assert_eq(scene_wait_pids(pids, 2), 2);
	sends(port, SIGKILL, REDD_TREE);
	cr_expect_eq(signalled.n_survivors, 0);
	for (int i = 0; i < 2; i++)
		scene_wait_dead(pids[i]);
	wait_exit(SIGKILL);
	scene_forget(port);
}

/* In the leader's session, but neither its child nor marked: a daemon's first half. */
Test(signal, P10_orphans_in_the_leaders_session_are_found)
{
	struct redd_port *port = scene_shell(
		"(env -i sleep 1000 & echo $!); (env -i sleep 1000 & echo $!); exec sleep 1000",
		&scene.c);
	pid_t pids[2];

	cr_assert_eq(scene_wait_pids(pids, 2), 2);
	sends(port, SIGTERM, REDD_TREE);
	/* The shell in the second parentheses may be on its way out still. */
	cr_expect(signalled.count == 3 || signalled.count == 4, "%u", signalled.count);
	for (int i = 0; i < 2; i++)
		scene_wait_dead(pids[i]);
	wait_exit(SIGTERM);
	scene_forget(port);
}

Test(signal, P10_a_neighbour_that_looks_alike_is_left_alone)
{
	struct redd_port *port = scene_prog(&scene.c, "stray", "3", "stay", NULL), *other;
	struct collect c;
	pid_t pids[3];

	collect_init(&c);
	other = scene_prog(&c, "hang", NULL);
	cr_assert_eq(collect_wait_bytes(&c, scene.r, 1, 6, 20000), 0);
	cr_assert_eq(scene_wait_pids(pids, 3), 3);
	sends(port, SIGKILL, REDD_TREE);
	cr_expect_eq(signalled.count, 4);
	wait_exit(SIGKILL);
	cr_expect_eq(c.n_exited, 0);
	cr_expect(is_alive(redd_port_pid(other)));
	scene_forget(port);
	sends(other, SIGKILL, REDD_LEADER);
	cr_assert_eq(collect_wait(&c, scene.r, 20000), 0);
	scene_forget(other);
	collect_deinit(&c);
}

/* Forks faster than anybody can look, each in a session of its own. */
Test(signal, P10_a_tree_that_grows_while_it_is_killed_is_killed)
{
	const struct redd_limit limit = { .name = "cpu", .has_soft = true, .soft = 60 };
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = "f() { [ $1 -gt 7 ] && exec sleep 1000; "
			 "(setsid sh -c \"$F; f $(($1 + 1))\" &) ; "
			 "(setsid sh -c \"$F; f $(($1 + 1))\" &) ; exec sleep 1000; }; "
			 "F='f() { [ $1 -gt 7 ] && exec sleep 1000; "
			 "(setsid sh -c \"$F; f $(($1 + 1))\" &) ; "
			 "(setsid sh -c \"$F; f $(($1 + 1))\" &) ; exec sleep 1000; }'; "
			 "export F; echo $$; f 1",
		.limits = &limit,
		.n_limits = 1,
	};
	struct redd_port *port = scene_spawn(&o, &scene.c);
	pid_t leader;
	int result = 0;

	cr_assert_eq(scene_wait_pids(&leader, 1), 1);
	for (int i = 0; i < 50 && !result; i++)
		result = redd_signal(port, SIGKILL, REDD_TREE, &signalled);
	cr_expect_eq(result, -ESRCH, "nobody is left: %s", redd_last_error(scene.r)->message);
	wait_exit(SIGKILL);
	scene_forget(port);
}

Test(signal, P10_many_strays_are_killed_in_one_go)
{
	unsigned n = place_rounds(300);
	char count[16];
	struct redd_port *port;
	pid_t *pids = calloc(n, sizeof(*pids));

	snprintf(count, sizeof(count), "%u", n);
	port = scene_prog(&scene.c, "stray", count, "stay", NULL);
	cr_assert_eq(scene_wait_pids(pids, n), n);
	sends(port, SIGKILL, REDD_TREE);
	cr_expect_eq(signalled.count, n + 1, "%u", signalled.count);
	cr_expect_eq(signalled.n_survivors, 0);
	for (unsigned i = 0; i < n; i++)
		cr_expect(!is_alive(pids[i]));
	wait_exit(SIGKILL);
	scene_forget(port);
	free(pids);
}

/* More than one opener takes with it; each leader and its stray tell their numbers by one pipe. */
Test(signal, P10_all_that_a_client_leaves_behind_goes_with_it)
{
	unsigned n = 2 * place_rounds(100);
	int tells[2];
	FILE *numbers;
	pid_t *pids = calloc(n, sizeof(*pids));
	struct redd_descriptor out = { .fd = 1, .kind = REDD_PASSED };
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = "echo $$; setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000",
		.set = REDD_SET_RETENTION,
		.descriptors = &out,
		.n_descriptors = 1,
	};
	struct redd *leaver = service_connect(&scene.service);

	cr_assert_eq(pipe2(tells, O_CLOEXEC), 0);
	out.passed = tells[1];
	numbers = fdopen(tells[0], "r");
	for (unsigned i = 0; i < n / 2; i++) {
		struct redd_port *port;

		cr_assert_eq(redd_spawn(leaver, &o, &port), 0);
	}
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(fscanf(numbers, "%d", &pids[i]), 1);
	redd_free(leaver);
	for (unsigned i = 0; i < n; i++)
		scene_wait_dead(pids[i]);
	fclose(numbers);
	close(tells[1]);
	free(pids);
}

/* --- the end --------------------------------------------------------------------------------- */

Test(signal, P10_after_the_end_there_is_nobody)
{
	struct redd_port *port = scene_prog(&scene.c, "exit", "3", NULL);

	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	for (int target = REDD_LEADER; target <= REDD_TREE; target++)
		nobody(port, (enum redd_target)target);
	scene_forget(port);
}

/* Signals that race the exit, while a bystander lives through every number that becomes free. */
Test(signal, P10_a_kill_that_comes_too_late_hits_nobody, .timeout = 120)
{
	enum { BATCH = 25 };
	unsigned rounds = place_rounds(10000 / BATCH), hits = 0, misses = 0;
	const char *const argv[] = { place_prog("tiny"), NULL };
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	struct redd_port *ports[BATCH], *bystander = scene_prog(&scene.c, "hang", NULL);
	struct outcome killed[BATCH], spawned[BATCH], waited[BATCH];

	for (unsigned round = 0; round < rounds; round++) {
		for (int i = 0; i < BATCH; i++)
			cr_assert_eq(
				redd_spawn_start(scene.r, &o, &ports[i], outcome_call(&spawned[i])),
				0);
		for (int i = 0; i < BATCH; i++) {
			cr_assert_eq(outcome_wait(&spawned[i], scene.r, 20000), 0);
			cr_assert_eq(redd_signal_start(ports[i], SIGKILL, REDD_LEADER,
						       outcome_call(&killed[i])),
				     0);
			cr_assert_eq(redd_wait_start(ports[i], REDD_UNTIL_CLOSED, -1,
						     outcome_call(&waited[i])),
				     0);
		}
		cr_assert_eq(outcomes_wait(waited, BATCH, scene.r, 20000), 0);
		for (int i = 0; i < BATCH; i++) {
			cr_assert_eq(killed[i].n, 1);
			cr_assert(killed[i].result == 0 || killed[i].result == -ESRCH);
			killed[i].result ? misses++ : hits++;
			cr_assert_eq(redd_forget(ports[i]), 0);
			redd_port_free(ports[i]);
		}
	}
	cr_expect_eq(scene.c.n_exited, 0, "the bystander was hit");
	cr_expect_gt(misses, 0);
	cr_log_info("%u in time, %u too late", hits, misses);
	sends(bystander, SIGKILL, REDD_LEADER);
	wait_exit(SIGKILL);
	scene_forget(bystander);
}
