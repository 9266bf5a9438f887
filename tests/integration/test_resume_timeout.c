/* P13 for the time limit: what it has come to when the broker dies is where the successor goes on.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/death.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define TIMEOUT_MS 200

TestSuite(resume_timeout, .init = death_begin, .fini = scene_end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

/* With a time limit, and this grace behind it. */
static struct redd_port *limited(const char *command, uint32_t grace_ms)
{
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .set = REDD_SET_TIMEOUT_GRACE | REDD_SET_DRAIN,
					      .shell = command,
					      .timeout_ms = TIMEOUT_MS,
					      .timeout_grace_ms = grace_ms,
					      .drain_ms = REDD_DRAIN_NEVER };

	return scene_spawn(&o, &scene.c);
}

static void await_text(const char *text)
{
	int64_t until = scene_now_ms() + place_patience_ms(20000);

	while (!strstr(collect_text(&scene.c, 1), text)) {
		cr_assert_lt(scene_now_ms(), until, "'%s' never came", text);
		cr_assert_geq(redd_run_once(scene.r, 10), 0);
	}
}

/* The broker knows that the signal was sent: else its successor sends it again. */
static void await_opener_gone(void)
{
	while (census_child(scene.service.pid, "opener"))
		cr_assert_geq(redd_run_once(scene.r, 1), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
}

/* --- tests ----------------------------------------------------------------------------------- */

Test(resume_timeout, P4_P13_the_grace_is_not_cut_short)
{
	const char *command = scene_text("trap 'echo warned' TERM; while :; do %s & wait; done",
					 place_prog("hang"));
	struct redd_port *port = limited(command, 600000);

	await_text("warned");
	await_opener_gone();
	death_now();
	cr_assert_eq(redd_ping(scene.r), 0);
	scene_stays_open(port, 500);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_TREE, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect(scene.c.exit.timed_out);
	cr_expect_null(strstr(strstr(collect_text(&scene.c, 1), "warned") + 1, "warned"),
		       "it was warned twice");
	scene_forget(port);
}

/* The first socket pair is the spawn's, the second one that of whoever is to warn the tree. */
Test(resume_timeout, P4_P13_who_was_not_warned_yet_is_warned_by_the_next_broker)
{
	const char *command =
		scene_text("trap 'echo warned; exit 3' TERM; %s & wait", place_prog("hang"));
	struct redd_port *port;
	struct death death;

	death_needs_tracing();
	death_at(&death, "socketpair", 2);
	port = limited(command, 600000);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0, "it never was");
	cr_expect(death_over(&death), "nobody died");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 3);
	cr_expect(scene.c.exit.timed_out);
	scene_forget(port);
}

/* The leader goes when it is warned; what ignores that holds the output. */
Test(resume_timeout, P4_P13_what_is_left_of_the_tree_is_killed_after_its_grace)
{
	const char *command = scene_text("%s 15 & trap 'exit 3' TERM; wait", place_prog("hang"));
	struct redd_port *port = limited(command, (uint32_t)place_patience_ms(1500));
	int64_t until = scene_now_ms() + place_patience_ms(20000);

	while (!scene.c.n_exited) {
		cr_assert_lt(scene_now_ms(), until);
		cr_assert_geq(redd_run_once(scene.r, 10), 0);
	}
	death_now();
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0, "it lives for ever");
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 3);
	cr_expect(scene.c.exit.timed_out);
	scene_forget(port);
}

/* Nobody is there to see it: the keeper stands still meanwhile. */
Test(resume_timeout, P4_P13_who_ended_of_it_while_no_broker_ran_was_timed_out)
{
	const char *fifo = scene_text("%s/fifo", scene.service.directory);
	const char *command =
		scene_text("trap 'echo warned; read x <%s; exit 3' TERM; echo $$; %s & wait", fifo,
			   place_prog("hang"));
	struct redd_port *port;
	char state = 0;
	int fd;

	cr_assert_eq(mkfifo(fifo, 0600), 0, "%s", strerror(errno));
	port = limited(command, 600000);
	await_text("warned");
	cr_assert_eq(kill(scene.service.pid, SIGSTOP), 0);
	death_now();
	fd = open(fifo, O_WRONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	close(fd);
	while (state != 'Z')
		cr_assert_neq(census_parent(redd_port_pid(port), &state), 0);
	cr_assert_eq(kill(scene.service.pid, SIGCONT), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 3);
	cr_expect(scene.c.exit.timed_out, "it ended of that signal");
	scene_forget(port);
}
