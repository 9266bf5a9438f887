/* P12: a forker may be killed at any moment. Children are the keeper's and do not notice; a spawn
 * under way runs exactly once or is told as failed; the next one finds a new forker. And an exec
 * that hangs is nobody else's trouble. What ran is counted by what ran: each child appends its own
 * line to a file. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/burst.h"
#include "tests/lib/census.h"
#include "tests/lib/measure.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

/* Its log would be one line a death. */
static void begin_with(const char *const *args)
{
	const struct service_options o = { .args = args, .quiet = true };

	cr_assert_eq(service_start(&scene.service, &o), 0);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
	collect_init(&scene.c);
}

static void begin(void)
{
	begin_with(NULL);
}

/* The clone without shared memory is a way of its own. */
static void begin_plain(void)
{
	static const char *const args[] = { "--plain-clone", NULL };

	begin_with(place_plain_clone() ? NULL : args);
}

TestSuite(forker, .init = begin, .fini = scene_end, .timeout = 120);
TestSuite(forker_plain, .init = begin_plain, .fini = scene_end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

static const char *here(const char *name)
{
	return place_in(scene.service.directory, name);
}

static bool forker_signal(int signal)
{
	pid_t pid = census_child(scene.service.pid, "forker");

	return pid > 0 && kill(pid, signal) == 0;
}

static void forker_kill(void)
{
	while (!forker_signal(SIGKILL))
		cr_assert_eq(redd_ping(scene.r), 0); /* the next one is just being started */
}

/* --- kills under load ------------------------------------------------------------------------ */

#define CLIENTS 4

struct storm {
	struct burst bursts[CLIENTS];
	unsigned each;
	struct random random;
	unsigned next_kill; /* when so many are over */
	unsigned n_kills;
	uint8_t *failed; /* by client and number */
	char marks[PATH_MAX + 64];
};

static struct storm storm;

/* The strings must live during the call only. */
static void prepare_mark(struct burst *b, unsigned number, struct redd_spawn_options *o)
{
	static char text[32];
	static const char *argv[4];

	snprintf(text, sizeof(text), "%u.%u", (unsigned)(b - storm.bursts), number);
	argv[0] = place_prog("mark");
	argv[1] = storm.marks;
	argv[2] = text;
	o->argv = argv;
}

static void note_end(struct burst *b, unsigned number, int result, const struct redd_waited *end)
{
	(void)end;
	if (result)
		fprintf(stderr, "%u.%u: %s\n", (unsigned)(b - storm.bursts), number,
			redd_last_error(b->r)->message);
	storm.failed[(size_t)(b - storm.bursts) * storm.each + number] = result != 0;
}

static void kill_at_random(void *user)
{
	unsigned over = 0;

	(void)user;
	for (int i = 0; i < CLIENTS; i++)
		over += storm.bursts[i].n_over;
	if (over < storm.next_kill)
		return;
	storm.n_kills += forker_signal(SIGKILL);
	storm.next_kill = over + 1 + (unsigned)random_below(&storm.random, 120);
}

/* Lines of the file, counted by client and number. */
static uint8_t *marks_count(void)
{
	uint8_t *counts = calloc(CLIENTS, storm.each);
	FILE *file = fopen(storm.marks, "re");
	unsigned client, number;

	cr_assert_not_null(counts);
	cr_assert_not_null(file);
	while (fscanf(file, "%u.%u\n", &client, &number) == 2) {
		cr_assert(client < CLIENTS && number < storm.each);
		counts[client * storm.each + number]++;
	}
	cr_expect(feof(file));
	fclose(file);
	return counts;
}

static void storm_check(void)
{
	uint8_t *counts = marks_count();

	for (size_t i = 0; i < (size_t)CLIENTS * storm.each; i++)
		cr_assert_eq(counts[i], storm.failed[i] ? 0 : 1, "%zu ran %d times, %s", i,
			     counts[i], storm.failed[i] ? "and was told as failed" : "not once");
	free(counts);
}

static void storm_run(unsigned spawns, uint64_t seed)
{
	unsigned failed = 0;

	storm.each = spawns / CLIENTS;
	storm.random.state = seed;
	storm.failed = calloc(CLIENTS, storm.each);
	snprintf(storm.marks, sizeof(storm.marks), "%s", here("marks"));
	for (int i = 0; i < CLIENTS; i++) {
		struct burst *b = &storm.bursts[i];

		*b = (struct burst){ .r = service_connect(&scene.service),
				     .total = storm.each,
				     .in_flight = 12,
				     .prepare = prepare_mark,
				     .ended = note_end };
		cr_assert_not_null(b->r);
	}
	cr_assert_eq(burst_run_with(storm.bursts, CLIENTS, 30000, kill_at_random, NULL), 0,
		     "seed %llu: a spawn was never answered", (unsigned long long)seed);
	for (int i = 0; i < CLIENTS; i++) {
		cr_expect_eq(storm.bursts[i].n_over, storm.each);
		cr_expect_eq(storm.bursts[i].n_bad, 0);
		cr_expect_eq(storm.bursts[i].n_lost, 0);
		failed += storm.bursts[i].n_failed;
		redd_free(storm.bursts[i].r);
	}
	cr_expect_eq(failed, 0, "seed %llu: %u failed", (unsigned long long)seed, failed);
	cr_expect_gt(storm.n_kills, spawns / 500);
	storm_check();
	free(storm.failed);
}

/* The forker is another one afterwards, with the same descriptors. */
Test(forker, P12_S26_spawns_run_once_while_forkers_are_killed)
{
	storm_run(place_rounds(2500) * CLIENTS, 20260102);
}

Test(forker_plain, P12_S26_spawns_run_once_while_forkers_are_killed)
{
	storm_run(place_rounds(750) * CLIENTS, 20260103);
}

/* --- what lives on --------------------------------------------------------------------------- */

static void children_live_on(void)
{
	enum { N = 8 };
	const struct redd_descriptor in = { .fd = 0 };
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	struct redd_port *ports[N];
	struct collect c[N];

	for (int i = 0; i < N; i++) {
		collect_init(&c[i]);
		ports[i] = scene_spawn(&o, &c[i]);
	}
	for (unsigned round = 0; round < 5; round++) {
		forker_kill();
		for (int i = 0; i < N; i++) {
			cr_assert_eq(redd_write(ports[i], "still here ", 11, NULL, NULL), 0);
			cr_assert_eq(collect_wait_bytes(&c[i], scene.r, 1, 11 * (round + 1), 20000),
				     0);
			cr_expect_eq(c[i].n_exited, 0);
		}
	}
	for (int i = 0; i < N; i++) {
		cr_assert_eq(redd_close(ports[i], 0, NULL), 0);
		cr_assert_eq(collect_wait(&c[i], scene.r, 20000), 0);
		cr_expect_str_eq(c[i].wrong, "");
		cr_expect_eq(redd_exit_status(&c[i].exit), 0);
		scene_forget(ports[i]);
		collect_deinit(&c[i]);
	}
}

Test(forker, P12_children_do_not_notice_the_death_of_their_forker)
{
	children_live_on();
}

Test(forker_plain, P12_children_do_not_notice_the_death_of_their_forker)
{
	children_live_on();
}

Test(forker, P12_an_exit_that_falls_into_a_death_is_told_rightly)
{
	for (unsigned i = 0; i < place_rounds(100); i++) {
		char status[8];
		struct redd_port *port;

		snprintf(status, sizeof(status), "%u", 1 + i % 100);
		port = scene_prog(&scene.c, "exit", status, NULL);
		forker_kill();
		cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
		cr_expect_str_eq(scene.c.wrong, "");
		cr_expect_eq(redd_exit_status(&scene.c.exit), (int)(1 + i % 100));
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
}

/* What lies unread in a forker's link when it dies has not run, and does with the next one. */
Test(forker, P12_spawns_that_wait_for_a_stopped_forker_run_once_with_the_next)
{
	enum { N = 100 };
	static struct outcome outcomes[N];
	static struct redd_port *ports[N];
	char text[16], marks[PATH_MAX + 64];
	const char *argv[] = { place_prog("mark"), marks, text, NULL };
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	FILE *file;
	int lines = 0, c;

	snprintf(marks, sizeof(marks), "%s", here("marks"));
	cr_assert(forker_signal(SIGSTOP));
	for (int i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "%d", i);
		cr_assert_eq(redd_spawn_start(scene.r, &o, &ports[i], outcome_call(&outcomes[i])),
			     0);
	}
	cr_assert_eq(redd_ping(scene.r), 0);
	forker_kill();
	cr_assert_eq(outcomes_wait(outcomes, N, scene.r, 20000), 0);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(outcomes[i].result, 0, "%d", i);
		scene_forget(ports[i]);
	}
	file = fopen(marks, "re");
	cr_assert_not_null(file);
	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	cr_expect_eq(lines, N);
}

/* Blocks in a memfd, more than a datagram holds, are still there for the next attempt. */
Test(forker, P12_S25_a_large_spawn_survives_its_forker)
{
	static char large[120 * 1024];
	const char *argv[] = { "/bin/sh", "-c", "printf %s \"$1$2\" | wc -c", "sh", large,
			       large,	  NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .subscribe = &scene.c.watch };
	struct redd_port *port;

	memset(large, 'x', sizeof(large) - 1);
	cr_assert(forker_signal(SIGSTOP));
	cr_assert_eq(redd_spawn_start(scene.r, &o, &port, NULL), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	forker_kill();
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "245758\n");
	scene_forget(port);
}

/* --- an exec that hangs ---------------------------------------------------------------------- */

#define HANGING 8

/* Opening a fifo that nobody reads hangs between clone and exec. */
static void hang_start(struct redd_port **ports, struct outcome *outcomes)
{
	const char *argv[] = { place_prog("exit"), "4", NULL };
	const struct redd_descriptor d = {
		.fd = 7, .kind = REDD_FILE, .path = here("fifo"), .open_flags = O_WRONLY
	};
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &d, .n_descriptors = 1
	};

	cr_assert_eq(mkfifo(here("fifo"), 0600), 0);
	for (int i = 0; i < HANGING; i++)
		cr_assert_eq(redd_spawn_start(scene.r, &o, &ports[i], outcome_call(&outcomes[i])),
			     0);
	cr_assert_eq(redd_ping(scene.r), 0);
}

static void hang_release(struct redd_port **ports, struct outcome *outcomes)
{
	int fd = open(here("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct redd_waited end;

	cr_assert_geq(fd, 0);
	cr_assert_eq(outcomes_wait(outcomes, HANGING, scene.r, 20000), 0);
	for (int i = 0; i < HANGING; i++) {
		cr_assert_eq(outcomes[i].result, 0);
		cr_assert_eq(redd_wait(ports[i], REDD_UNTIL_CLOSED, 20000, &end), 0);
		cr_expect_eq(redd_exit_status(&end.exit), 4);
		scene_forget(ports[i]);
	}
	close(fd);
}

/* How long a neighbour takes from its request until all of it is known, in the worst case. */
static double neighbour_slowest(unsigned rounds)
{
	double slowest = 0;

	for (unsigned i = 0; i < rounds; i++) {
		double begin = measure_now(), took;
		struct redd_port *port = scene_prog(&scene.c, "exit", "0", NULL);

		cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
		cr_expect_str_eq(scene.c.wrong, "");
		took = measure_now() - begin;
		slowest = took > slowest ? took : slowest;
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
	return slowest;
}

/* Its end of file comes, though a sibling that was cloned meanwhile had a copy for a moment. */
static void neighbour_sees_its_end(void)
{
	const struct redd_descriptor in = { .fd = 0 };
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	struct redd_port *port = scene_spawn(&o, &scene.c);

	cr_assert_eq(redd_write(port, "hello", 5, NULL, NULL), 0);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hello");
	scene_forget(port);
	collect_deinit(&scene.c);
	collect_init(&scene.c);
}

static void neighbours_do_not_notice(void)
{
	struct redd_port *ports[HANGING];
	struct outcome outcomes[HANGING];
	double slowest;

	hang_start(ports, outcomes);
	slowest = neighbour_slowest(place_rounds(100));
	cr_expect_lt(slowest, place_patience_ms(1000) / 1e3, "%.3f s", slowest);
	neighbour_sees_its_end();
	for (int i = 0; i < HANGING; i++)
		cr_expect_eq(outcomes[i].n, 0, "still hanging");
	hang_release(ports, outcomes);
}

Test(forker, P12_neighbours_of_an_exec_that_hangs_do_not_notice)
{
	neighbours_do_not_notice();
}

Test(forker_plain, P12_neighbours_of_an_exec_that_hangs_do_not_notice)
{
	neighbours_do_not_notice();
}

/* The sibling is there before the one that hangs, so the latter was cloned with its pipes open. */
Test(forker, P12_one_that_hangs_keeps_no_elder_sibling_open)
{
	const struct redd_descriptor in = { .fd = 0 };
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	struct redd_port *elder = scene_spawn(&o, &scene.c), *ports[HANGING];
	struct outcome outcomes[HANGING];

	hang_start(ports, outcomes);
	cr_assert_eq(redd_close(elder, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	scene_forget(elder);
	hang_release(ports, outcomes);
}

/* A child before its exec is a process of its own: it goes on and runs its program. */
static void hanging_outlives_its_forker(void)
{
	struct redd_port *ports[HANGING];
	struct outcome outcomes[HANGING];

	hang_start(ports, outcomes);
	neighbour_slowest(1); /* behind them, so they are all born */
	forker_kill();
	neighbour_slowest(3);
	for (int i = 0; i < HANGING; i++)
		cr_expect_eq(outcomes[i].n, 0);
	hang_release(ports, outcomes);
}

Test(forker, P12_one_that_hangs_outlives_its_forker)
{
	hanging_outlives_its_forker();
}

Test(forker_plain, P12_one_that_hangs_outlives_its_forker)
{
	hanging_outlives_its_forker();
}

/* --- deaths with nothing to do --------------------------------------------------------------- */

Test(forker, P12_a_forker_that_dies_often_is_there_for_the_next_spawn)
{
	for (unsigned i = 0; i < place_rounds(50); i++) {
		struct redd_port *port;

		forker_kill();
		port = scene_prog(NULL, "exit", "0", NULL);
		scene_forget(port);
	}
}
