/* How a program ended is told once, at once and as it was (P4): every code, signals, cores, time
 * limits, what it used. Closed comes last.
 *
 * What a grandchild does to the end is in test_drain.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define WAIT 30000

TestSuite(exit, .init = scene_begin, .fini = scene_end, .timeout = 60);

static int64_t real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void run(const struct redd_spawn_options *o)
{
	cr_assert_eq(collect_run(&scene.c, scene.r, o, WAIT), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(scene.c.n_exited, 1);
}

/* --- codes, signals -------------------------------------------------------------------------- */

struct code_run {
	struct redd_port *port;
	int code;
	int n_wrong;
};

static unsigned n_codes_done;

static void on_code(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct code_run *c = user;

	(void)r;
	n_codes_done++;
	c->n_wrong = result || reply->waited.exit.state != REDD_EXIT_CODE ||
		     reply->waited.exit.code != c->code || reply->waited.exit.timed_out;
}

Test(exit, P4_S52_every_code_from_0_to_255_is_told_as_it_is)
{
	static struct code_run runs[256];
	char code[8];
	const char *const argv[] = { place_prog("exit"), code, NULL };
	const struct redd_spawn_options o = { .argv = argv, .set = REDD_SET_RETENTION };

	for (int i = 0; i < 256; i++) {
		struct redd_call spawn = { 0 }, wait = { .done = on_code, .user = &runs[i] };

		runs[i].code = i;
		snprintf(code, sizeof(code), "%d", i);
		cr_assert_eq(redd_spawn_start(scene.r, &o, &runs[i].port, &spawn), 0);
		cr_assert_eq(redd_wait_start(runs[i].port, REDD_UNTIL_EXITED, -1, &wait), 0);
	}
	while (n_codes_done < 256)
		cr_assert_eq(redd_run_once(scene.r, place_patience_ms(WAIT)), 0);
	for (int i = 0; i < 256; i++) {
		cr_expect_eq(runs[i].n_wrong, 0, "exit %d", i);
		redd_port_free(runs[i].port);
	}
}

Test(exit, P4_S52_S71_every_deadly_signal_is_told_as_a_signal)
{
	static const int signals[] = { SIGHUP,	SIGINT,	 SIGQUIT, SIGILL,  SIGTRAP, SIGABRT,
				       SIGBUS,	SIGFPE,	 SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2,
				       SIGPIPE, SIGALRM, SIGTERM, SIGXCPU, SIGXFSZ, SIGSYS };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct collect c;
		char number[8];

		collect_init(&c);
		snprintf(number, sizeof(number), "%d", signals[i]);
		cr_assert_eq(collect_prog(&c, scene.r, "die", number, NULL), 0);
		cr_expect_str_eq(c.wrong, "");
		cr_expect_eq(c.exit.state, REDD_EXIT_SIGNAL);
		cr_expect_eq(c.exit.signal, signals[i], "%d was told as %d", signals[i],
			     c.exit.signal);
		cr_expect_not(c.exit.core);
		cr_expect_not(c.exit.timed_out);
		cr_expect_eq(redd_exit_status(&c.exit), 128 + signals[i]);
		collect_deinit(&c);
	}
}

/* Whether SIGABRT leaves a core in that directory where limits allow it, without redd. */
static bool system_dumps_core(const char *directory)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (chdir(directory) || setrlimit(RLIMIT_CORE, &all))
			_exit(1);
		execl(place_prog("die"), "die", "6", "core", NULL);
		_exit(1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WCOREDUMP(status);
}

Test(exit, P4_the_core_flag_is_that_of_the_system)
{
	const char *const argv[] = { place_prog("die"), "6", "core", NULL };
	const struct redd_limit limit = { .name = "core",
					  .has_soft = true,
					  .soft = REDD_UNLIMITED,
					  .has_hard = true,
					  .hard = REDD_UNLIMITED };
	const struct redd_spawn_options o = {
		.argv = argv, .directory = scene.service.directory, .limits = &limit, .n_limits = 1
	};

	run(&o);
	cr_assert_eq(scene.c.exit.signal, SIGABRT);
	cr_assert_eq(scene.c.exit.core, system_dumps_core(scene.service.directory));
}

/* --- at once, once, last --------------------------------------------------------------------- */

Test(exit, P4_the_events_answers_and_lists_tell_the_same_exit)
{
	struct redd_port *port = scene_shell("echo x; exit 42", &scene.c);
	struct redd_waited exited, closed;
	struct redd_ports *info;

	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &exited), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 0, &closed), 0);
	cr_assert_eq(redd_inspect(port, &info), 0);
	cr_expect_eq(info->ports[0].state, REDD_ENDED);
	cr_assert(info->ports[0].has_exit);
	cr_expect_eq(scene.c.exit.code, 42);
	cr_expect_eq(memcmp(&scene.c.exit, &exited.exit, sizeof(exited.exit)), 0);
	cr_expect_eq(memcmp(&scene.c.exit, &closed.exit, sizeof(closed.exit)), 0);
	cr_expect_eq(memcmp(&scene.c.exit, &scene.c.closed.exit, sizeof(closed.exit)), 0);
	cr_expect_eq(memcmp(&scene.c.exit, &info->ports[0].exit, sizeof(closed.exit)), 0);
	redd_ports_free(info);
	scene_forget(port);
}

static char lives[64];

static void on_life(struct redd_watch *watch, const struct redd_life *life, void *user)
{
	static const char *const names[] = { "?", "started ", "exited ", "closed ", "forgotten " };

	(void)watch, (void)user;
	cr_assert_lt((unsigned)life->what, 5);
	strcat(lives, names[life->what]);
	if (life->what == REDD_LIFE_EXITED || life->what == REDD_LIFE_CLOSED)
		cr_expect(life->has_exit && life->exit.code == 3);
}

Test(exit, P4_S73_a_watcher_is_told_of_each_step_once_and_in_order)
{
	const struct redd_watch_options o = { .on_life = on_life };
	struct redd_watch *watch;

	cr_assert_eq(redd_watch(scene.r, &o, &watch), 0);
	scene_forget(scene_shell("exit 3", NULL));
	while (!strstr(lives, "forgotten"))
		cr_assert_eq(redd_run_once(scene.r, place_patience_ms(WAIT)), 0);
	cr_assert_eq(redd_ping(scene.r), 0); /* nothing else is on its way */
	cr_assert_str_eq(lives, "started exited closed forgotten ");
	redd_watch_free(watch);
}

static void wait_on_all_sides(struct redd_port *port, int n)
{
	for (int i = 0; i < n; i++) {
		struct redd_waited waited;
		struct redd *other = service_connect(&scene.service);
		struct redd_port *theirs;

		cr_assert_not_null(other);
		cr_assert_eq(redd_port_by_id(other, redd_port_id(port), &theirs), 0);
		cr_assert_eq(redd_wait(theirs, REDD_UNTIL_EXITED, -1, &waited), 0);
		cr_expect_eq(waited.exit.code, 9);
		redd_free(other);
	}
}

Test(exit, P4_S73_S74_any_number_of_clients_may_wait_before_and_after)
{
	struct redd_port *port = scene_shell("exit 9", NULL);

	wait_on_all_sides(port, 20);
	scene_forget(port);
}

Test(exit, P4_a_wait_that_is_up_says_so_and_the_port_goes_on)
{
	struct redd_port *port = scene_prog(NULL, "hang", NULL);
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited), -ETIMEDOUT);
	cr_assert_eq(redd_last_error(scene.r)->code, REDD_DEADLINE_EXCEEDED);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 50, &waited), -ETIMEDOUT);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, -1, &waited), 0);
	cr_assert_eq(waited.exit.signal, SIGKILL);
	scene_forget(port);
}

/* --- times and use --------------------------------------------------------------------------- */

Test(exit, P4_start_and_end_are_points_in_time_around_the_program)
{
	struct redd_spawn_options o = { .shell = "exit 0" };
	int64_t before = real_ns();

	run(&o);
	cr_assert_leq(before - 10000000, scene.c.exit.start_ns);
	cr_assert_leq(scene.c.exit.start_ns, scene.c.exit.end_ns);
	cr_assert_leq(scene.c.exit.end_ns, real_ns() + 10000000);
}

Test(exit, P4_what_the_leader_and_its_children_used_is_told)
{
	/* A child that it waits for computes; the leader itself only holds memory. */
	struct redd_spawn_options o = {
		.shell = "(i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done); "
			 "x=$(head -c 8000000 /dev/zero | tr '\\0' x); exit 0"
	};
	const struct redd_exit *e = &scene.c.exit;

	run(&o);
	cr_expect_gt(e->user_us, 1000);
	cr_expect_lt((int64_t)(e->user_us + e->system_us),
		     (e->end_ns - e->start_ns) / 1000 * sysconf(_SC_NPROCESSORS_ONLN) + 20000);
	cr_expect_gt(e->max_rss, 8000000);
	cr_expect_lt(e->max_rss, 1ull << 33);
	cr_expect_gt(e->minor_faults, 100);
	cr_expect_gt(e->voluntary_switches + e->involuntary_switches, 0);
}

/* --- time limits ----------------------------------------------------------------------------- */

Test(exit, P4_a_program_out_of_time_gets_the_signal_and_is_told_so)
{
	const char *const argv[] = { place_prog("hang"), NULL };
	struct redd_spawn_options o = { .argv = argv, .timeout_ms = 150 };
	int64_t begin = scene_now_ms();

	run(&o);
	cr_expect_geq(scene_now_ms() - begin, 150);
	cr_expect_eq(scene.c.exit.state, REDD_EXIT_SIGNAL);
	cr_expect_eq(scene.c.exit.signal, SIGTERM);
	cr_expect(scene.c.exit.timed_out);
}

Test(exit, P4_another_signal_may_tell_that_time_is_up)
{
	const char *const argv[] = { place_prog("hang"), NULL };
	struct redd_spawn_options o = { .argv = argv,
					.timeout_ms = 100,
					.timeout_signal = SIGUSR1 };

	run(&o);
	cr_expect_eq(scene.c.exit.signal, SIGUSR1);
	cr_expect(scene.c.exit.timed_out);
}

Test(exit, P4_behind_the_grace_it_is_killed)
{
	const char *const argv[] = { place_prog("hang"), "15", NULL };
	struct redd_spawn_options o = { .argv = argv,
					.timeout_ms = 100,
					.timeout_grace_ms = 200,
					.set = REDD_SET_TIMEOUT_GRACE };
	int64_t begin = scene_now_ms();

	run(&o);
	cr_expect_geq(scene_now_ms() - begin, 300);
	cr_expect_eq(scene.c.exit.signal, SIGKILL);
	cr_expect(scene.c.exit.timed_out);
}

Test(exit, P4_its_own_status_counts_when_it_leaves_in_the_grace)
{
	struct redd_spawn_options o = {
		.shell = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 1; done",
		.timeout_ms = (uint32_t)place_span_ms(300)
	};

	run(&o);
	cr_expect_eq(scene.c.exit.state, REDD_EXIT_CODE);
	cr_expect_eq(scene.c.exit.code, 3);
	cr_expect(scene.c.exit.timed_out);
	cr_expect_str_eq(collect_text(&scene.c, 1), "ready\nbye\n");
}

/* To many programs a second one means: never mind the tidying up. */
Test(exit, P4_the_signal_that_tells_that_time_is_up_comes_once)
{
	struct redd_spawn_options o = { .shell = "trap 'echo told' TERM; while :; do :; done",
					.timeout_ms = (uint32_t)place_span_ms(150),
					.timeout_grace_ms = (uint32_t)place_span_ms(400),
					.set = REDD_SET_TIMEOUT_GRACE };

	run(&o);
	cr_expect_eq(scene.c.exit.signal, SIGKILL);
	cr_expect_str_eq(collect_text(&scene.c, 1), "told\n");
}

Test(exit, P4_who_is_done_in_time_is_not_timed_out)
{
	struct redd_spawn_options o = { .shell = "exit 0", .timeout_ms = 30000 };

	run(&o);
	cr_expect_not(scene.c.exit.timed_out);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
}

Test(exit, P4_the_whole_tree_is_out_of_time_with_its_leader)
{
	/* The leader ignores the signal; its children, in sessions of their own, do not live on. */
	const char *const argv[] = { place_prog("stray"), "3", "keep", "stay", NULL };
	struct redd_spawn_options o = { .argv = argv, .timeout_ms = (uint32_t)place_span_ms(300) };

	run(&o);
	cr_expect_eq(scene.c.exit.signal, SIGTERM);
	cr_expect(scene.c.exit.timed_out);
	cr_expect_eq(scene.c.closed.n_holders, 0, "nobody held a stream any more");
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_OF_FILE);
}

Test(exit, P4_a_killed_program_was_not_timed_out)
{
	struct redd_port *port;
	const char *const argv[] = { place_prog("hang"), NULL };
	struct redd_spawn_options o = { .argv = argv, .timeout_ms = 60000 };

	port = scene_spawn(&o, &scene.c);
	cr_assert_eq(redd_signal(port, SIGTERM, REDD_LEADER, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_eq(scene.c.exit.signal, SIGTERM);
	cr_expect_not(scene.c.exit.timed_out);
	scene_forget(port);
}
