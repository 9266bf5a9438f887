/* The end of a service: whatever its children are deaf to, and whatever of it crashes meanwhile,
 * one that is asked to end does, and leaves nothing. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/lib/census.h"
#include "tests/lib/death.h"
#include "tests/lib/measure.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

static void tear_down(void)
{
	collect_deinit(&scene.c);
	redd_free(scene.r);
}

TestSuite(shutdown, .init = death_begin, .fini = tear_down, .timeout = 120);

/* 0: none just now. */
static pid_t broker(void)
{
	return census_child(scene.service.pid, "redd-broker");
}

/* All that does not want to go: deaf to SIGTERM, out of session and group, without parents, with a
 * terminal, and one before its exec. */
static void crowd(void)
{
	const char *path = place_in(scene.service.directory, "hang");
	static const struct redd_terminal terminal = { .rows = 24, .columns = 80 };
	const struct redd_descriptor fifo = {
		.fd = 7, .kind = REDD_FILE, .path = path, .open_flags = O_WRONLY
	};
	const struct redd_spawn_options deaf = { .size = sizeof(deaf),
						 .shell = "trap '' TERM; sleep 1000; sleep 1000" };
	const struct redd_spawn_options tty = { .size = sizeof(tty),
						.shell = "sleep 1000",
						.terminal = &terminal };
	const struct redd_spawn_options hang = {
		.size = sizeof(hang), .shell = "exit", .descriptors = &fifo, .n_descriptors = 1
	};
	struct redd_port *port;

	cr_assert_eq(mkfifo(path, 0600), 0);
	scene_prog(NULL, "stray", "3", NULL);
	scene_prog(NULL, "hang", "15", "1", "2", NULL);
	scene_spawn(&deaf, NULL);
	scene_spawn(&tty, NULL);
	scene_shell("env -i setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' & wait", NULL);
	cr_assert_eq(redd_spawn_start(scene.r, &hang, &port, NULL), 0);
	scene_prog(NULL, "exit", "0", NULL); /* behind the one that hangs */
}

Test(shutdown, P11_a_shutdown_leaves_nothing)
{
	crowd();
	cr_assert_eq(redd_shutdown(scene.r, 300), 0, "%s", redd_last_error(scene.r)->message);
	cr_assert_eq(service_ended(&scene.service), 0);
}

Test(shutdown, P11_a_shutdown_at_once_leaves_nothing)
{
	crowd();
	cr_assert_eq(redd_shutdown(scene.r, 0), 0);
	cr_assert_eq(service_ended(&scene.service), 0);
}

Test(shutdown, P11_a_signal_leaves_nothing)
{
	crowd();
	cr_assert_eq(service_stop(&scene.service), 0);
}

Test(shutdown, P11_a_shutdown_under_load_leaves_nothing)
{
	enum { N = 200 };
	static struct outcome outcomes[N];
	const char *argv[] = { place_prog("hang"), NULL };
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	struct redd_port *port;
	struct outcome shutdown;

	for (int i = 0; i < N; i++) {
		cr_assert_eq(redd_spawn_start(scene.r, &o, &port, outcome_call(&outcomes[i])), 0);
		if (i == N / 2)
			cr_assert_eq(redd_shutdown_start(scene.r, 1000, outcome_call(&shutdown)),
				     0);
	}
	cr_assert_eq(outcome_wait(&shutdown, scene.r, 20000), 0);
	cr_expect_eq(shutdown.result, 0);
	for (int i = 0; i < N; i++) {
		outcome_wait(&outcomes[i], scene.r, 20000);
		cr_expect_eq(outcomes[i].n, 1, "every request is answered: %d", i);
		cr_expect(i <= N / 2 || outcomes[i].result != 0, "started behind the end: %d", i);
	}
	cr_assert_eq(service_ended(&scene.service), 0);
}

/* The broker dies over the request, once: the next one is asked again. */
Test(shutdown, P13_a_requested_end_survives_its_broker)
{
	struct redd_port *port;

	port = scene_shell("trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done",
			   &scene.c);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6, 20000), 0);
	cr_assert_not_null(port);
	cr_assert_eq(kill(scene.service.pid, SIGTERM), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 11, 20000), 0);
	death_now(); /* while it drains */
	cr_assert_eq(service_ended(&scene.service), 0);
}

/* Kills every broker as soon as it is there, until the service has ended. */
static void kill_until_the_end(void)
{
	struct pollfd fd = { scene.service.pidfd, POLLIN, 0 };
	double deadline = measure_now() + place_patience_ms(40000) / 1e3;

	while (poll(&fd, 1, 0) == 0 && measure_now() < deadline) {
		pid_t pid = broker();

		if (pid)
			kill(pid, SIGKILL);
	}
}

Test(shutdown, P13_a_service_whose_brokers_die_again_and_again_still_ends)
{
	crowd();
	death_now();
	cr_assert_eq(kill(scene.service.pid, SIGTERM), 0);
	kill_until_the_end();
	cr_assert_eq(service_failed(&scene.service), 0);
}

/* Each broker lives just long enough to be told. */
Test(shutdown, P13_a_service_whose_brokers_die_of_the_request_still_ends)
{
	unsigned deaths = 0;
	struct pollfd fd = { scene.service.pidfd, POLLIN, 0 };
	pid_t last = 0;

	if (place_valgrind()) {
		service_kill(&scene.service);
		cr_skip_test("under valgrind brokers are killed before they are told");
	}
	scene_prog(&scene.c, "hang", "15", NULL);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6, 20000), 0); /* deaf by now */
	cr_assert_eq(kill(scene.service.pid, SIGTERM), 0);
	while (poll(&fd, 1, 50) == 0 && deaths < 20) {
		pid_t pid = broker();

		if (!pid || pid == last)
			continue;
		deaths += kill(pid, SIGKILL) == 0;
		last = pid;
	}
	cr_expect_leq(deaths, 19, "the keeper never gave up");
	cr_assert_eq(service_failed(&scene.service), 0);
}

/* Broker and forker live from the keeper; without it they leave. */
Test(shutdown, P13_without_a_keeper_nobody_stays_on_the_socket)
{
	struct census c = scene.service.start;
	const pid_t pids[] = { c.broker, c.forker };
	struct pollfd fd = { redd_fd(scene.r), POLLIN, 0 };

	cr_assert_eq(kill(scene.service.pid, SIGKILL), 0);
	cr_expect_eq(poll(&fd, 1, place_patience_ms(10000)), 1, "the connection ends");
	for (int i = 0; i < 2; i++) {
		char state = 'R';

		for (int tries = 0; tries < 2000 && census_parent(pids[i], &state) && state != 'Z';
		     tries++)
			poll(NULL, 0, place_patience_ms(5));
		cr_expect(!census_parent(pids[i], &state) || state == 'Z', "%d stays",
			  (int)pids[i]);
	}
	service_kill(&scene.service);
}
