/* P13 as a client sees it: the broker is killed at random instants, and whoever talked to it goes
 * on with its successor. Nothing is lost, doubled, or run twice. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/command.h"
#include "tests/lib/death.h"
#include "tests/lib/inject.h"
#include "tests/lib/outcome.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

static struct random dice;

/* Its log would be one line a death. */
static void begin(void)
{
	dice.state = (uint64_t)getpid() ^ (uint64_t)scene_now_ms();
	fprintf(stderr, "resume: seed %llu\n", (unsigned long long)dice.state);
	death_begin();
}

static void end(void)
{
	cr_assert_eq(service_forget_all(&scene.service), 0);
	collect_deinit(&scene.c);
	redd_free(scene.r);
	cr_assert_eq(service_finish(&scene.service), 0);
}

TestSuite(resume, .init = begin, .fini = end, .timeout = 180);

/* --- tools ----------------------------------------------------------------------------------- */

static unsigned n_back;

static void on_reconnect(struct redd *r, enum redd_reconnect what, void *user)
{
	(void)r;
	(void)user;
	n_back += what == REDD_BACK;
}

/* --- the command ----------------------------------------------------------------------------- */

#define STREAM (6u << 20)
#define STEP   (STREAM / 8)

/* Both directions of a `redd run`, patterned; the broker is killed wherever we happen to be. */
struct relay_run {
	struct command c;
	size_t fed, got, next_kill;
	unsigned kills_left;
	bool wrong;
};

static void relay_kill(struct relay_run *run)
{
	bool stopped = random_chance(&dice, 3);
	pid_t before;

	run->next_kill += STEP / 2 + random_below(&dice, STEP / 2);
	run->kills_left--;
	if (stopped)
		kill(run->c.pid, SIGSTOP);
	before = death_now();
	if (stopped) {
		death_await_next(before);
		kill(run->c.pid, SIGCONT);
	}
}

static void relay_feed(struct relay_run *run)
{
	static uint8_t bytes[65536];
	size_t size = STREAM - run->fed < sizeof(bytes) ? STREAM - run->fed : sizeof(bytes);
	ssize_t n;

	pattern_fill(bytes, size, run->fed);
	n = write(run->c.in, bytes, size);
	run->fed += n > 0 ? (size_t)n : 0;
	if (run->fed < STREAM)
		return;
	close(run->c.in);
	run->c.in = -1;
}

static bool relay_read(struct relay_run *run)
{
	static uint8_t bytes[65536];
	ssize_t n = read(run->c.out_fd, bytes, sizeof(bytes));

	if (n < 0)
		return true;
	run->wrong |= pattern_match(bytes, (size_t)n, run->got) != (size_t)n;
	run->got += (size_t)n;
	if (run->kills_left && run->got >= run->next_kill)
		relay_kill(run);
	return n > 0;
}

static void relay_pump(struct relay_run *run)
{
	bool more = true;

	fcntl(run->c.in, F_SETFL, O_NONBLOCK);
	while (more) {
		struct pollfd fds[2] = { { run->c.out_fd, POLLIN, 0 }, { run->c.in, POLLOUT, 0 } };

		cr_assert_gt(poll(fds, 2, place_patience_ms(30000)), 0, "it stands at %zu of %zu",
			     run->got, run->fed);
		if (fds[1].revents)
			relay_feed(run);
		if (fds[0].revents)
			more = relay_read(run);
	}
}

Test(resume, P13_redd_run_gives_the_same_bytes_and_status_whoever_dies)
{
	for (unsigned round = 0; round < place_rounds(5); round++) {
		struct relay_run run = { .kills_left = place_rounds(5) };

		run.next_kill = random_below(&dice, STEP);
		command_start(&run.c, scene.service.socket, "run", "--", "sh", "-c", "cat; exit 7",
			      NULL);
		relay_pump(&run);
		command_finish(&run.c, NULL, 0);
		cr_expect_eq(run.c.status, 7, "%s", run.c.err.text);
		cr_expect_str_eq(run.c.err.text, "");
		cr_expect_eq(run.got, STREAM);
		cr_expect_not(run.wrong, "bytes were lost, doubled or swapped");
		command_free(&run.c);
	}
}

Test(resume, P13_commands_that_watch_and_wait_go_on)
{
	const struct redd_descriptor in = { .fd = 0 };
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .name = "it",
					      .descriptors = &in,
					      .n_descriptors = 1 };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct command logs, wait, events, write;

	command_start(&logs, scene.service.socket, "logs", "-f", "it", NULL);
	command_start(&wait, scene.service.socket, "wait", "it", NULL);
	command_start(&events, scene.service.socket, "events", "--after", "0", NULL);
	cr_assert(command_await(&events, "started"));
	cr_assert_eq(redd_write(port, "before\n", 7, NULL, NULL), 0);
	cr_assert(command_await(&logs, "before\n"));
	death_await_next(death_now());
	command_run(&write, scene.service.socket, NULL, 0, "write", "it", "after", NULL);
	cr_expect_eq(write.status, 0, "%s", write.err.text);
	cr_assert(command_await(&logs, "after\n"));
	death_now();
	cr_assert_eq(redd_close(port, 0, NULL), 0, "%s", redd_last_error(scene.r)->message);
	command_finish(&logs, NULL, 0);
	command_finish(&wait, NULL, 0);
	cr_expect_eq(logs.status, 0, "%s", logs.err.text);
	cr_expect_str_eq(logs.out.text, "before\nafter\n");
	cr_expect_eq(wait.status, 0, "%s", wait.err.text);
	cr_assert(command_await(&events, "closed"));
	kill(events.pid, SIGTERM);
	command_finish(&events, NULL, 0);
	cr_expect_null(strstr(events.err.text, "missing"), "%s", events.err.text);
	command_free(&logs);
	command_free(&wait);
	command_free(&events);
	command_free(&write);
}

/* --- libredd --------------------------------------------------------------------------------- */

Test(resume, P13_a_subscription_proves_that_it_saw_everything)
{
	enum { MIB = 1 << 20 };
	unsigned kills = place_rounds(12);
	char size[32];
	const char *argv[] = { place_prog("pattern"), size, "8192", "1", "2", NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv, .checksum = true };
	uint64_t total = (uint64_t)kills * MIB / 2 + MIB, at = 0;
	struct redd_port *port;

	snprintf(size, sizeof(size), "%llu", (unsigned long long)total);
	redd_on_reconnect(scene.r, on_reconnect, NULL);
	scene.c.patterned = scene.c.drop_data = true;
	scene.c.watch.verify = true;
	port = scene_spawn(&o, &scene.c);
	for (unsigned i = 0; i < kills; i++) {
		at += random_below(&dice, MIB / 2);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1 + i % 2, at, 30000), 0);
		death_now();
	}
	cr_assert_eq(collect_wait(&scene.c, scene.r, 60000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_gt(n_back, 0);
	cr_expect(scene.c.n_exited == 1 && redd_exit_status(&scene.c.exit) == 0);
	for (uint32_t s = 1; s <= 2; s++) {
		cr_expect_eq(collect_stream(&scene.c, s)->end.total, total);
		cr_expect_eq(collect_stream(&scene.c, s)->gaps, 0);
		cr_expect(collect_stream(&scene.c, s)->end.verified, "stream %u", s);
	}
	redd_on_reconnect(scene.r, NULL, NULL);
	scene_forget(port);
}

static size_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

/* Each spawn writes one byte: killed over any step of theirs, none is lost and none runs twice. */
Test(resume, P13_spawns_under_way_run_exactly_once)
{
	enum { N = 8 };
	unsigned rounds = place_rounds(12);
	const char *path = scene_text("%s/runs", scene.service.directory);
	const char *command = scene_text("printf x >> '%s'", path);
	const struct redd_spawn_options o = { .size = sizeof(o), .shell = command };
	char *kept = strdup(path);

	for (unsigned round = 0; round < rounds; round++) {
		struct outcome outcomes[N];
		struct redd_port *ports[N];

		memset(outcomes, 0, sizeof(outcomes));
		for (int i = 0; i < N; i++)
			cr_assert_eq(redd_spawn_start(scene.r, &o, &ports[i],
						      outcome_call(&outcomes[i])),
				     0);
		if (random_chance(&dice, 2))
			redd_dispatch(scene.r);
		poll(NULL, 0, (int)random_below(&dice, 4)); /* any instant will do */
		death_now();
		cr_assert_eq(outcomes_wait(outcomes, N, scene.r, 30000), 0);
		for (int i = 0; i < N; i++) {
			cr_expect_eq(outcomes[i].result, 0, "%s",
				     redd_last_error(scene.r)->message);
			scene_forget(ports[i]);
		}
		cr_assert_eq(file_size(kept), (round + 1) * N, "round %u", round);
	}
	free(kept);
}

Test(resume, P13_blocking_calls_only_take_longer)
{
	static char bytes[1 << 20];
	const struct redd_descriptor in = { .fd = 0 };
	const char *argv[] = { place_prog("sink"), NULL };
	struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	struct redd_waited waited;
	struct redd_ports *ports;
	struct redd_port *port;
	uint64_t taken, total;

	pattern_fill((uint8_t *)bytes, sizeof(bytes), 0);
	death_now();
	port = scene_spawn(&o, &scene.c);
	death_now();
	cr_assert_eq(redd_write_all(port, bytes, sizeof(bytes), NULL, &taken), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_eq(taken, sizeof(bytes));
	death_now();
	cr_assert_eq(redd_inspect(port, &ports), 0);
	cr_expect_eq(ports->ports[0].streams[0].total, sizeof(bytes));
	redd_ports_free(ports);
	death_now();
	cr_assert_eq(redd_close(port, REDD_STREAM_DEFAULT, &total), 0);
	death_now();
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 60000, &waited), 0);
	cr_expect_eq(redd_exit_status(&waited.exit), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_str_eq(collect_text(&scene.c, 1), "1048576 -\n");
	scene_forget(port);
}

/* --- events ---------------------------------------------------------------------------------- */

struct lives {
	unsigned n, n_started, n_missed;
	uint64_t last;
	bool backwards;
};

static void on_life(struct redd_watch *w, const struct redd_life *life, void *user)
{
	struct lives *l = user;

	(void)w;
	l->n++;
	l->n_started += life->what == REDD_LIFE_STARTED;
	l->n_missed += life->what == REDD_LIFE_MISSED;
	l->backwards |= life->sequence <= l->last;
	l->last = life->sequence;
}

Test(resume, P13_life_events_are_counted_on)
{
	struct lives lives = { 0 };
	const struct redd_watch_options o = { .size = sizeof(o),
					      .on_life = on_life,
					      .user = &lives };
	unsigned rounds = place_rounds(4);
	struct redd_watch *watch;

	cr_assert_eq(redd_watch(scene.r, &o, &watch), 0);
	for (unsigned i = 0; i < rounds; i++) {
		struct redd_port *port = scene_prog(NULL, "exit", "3", NULL);

		scene_forget(port);
		while (lives.n < 4 * (i + 1))
			cr_assert_eq(redd_run_once(scene.r, -1), 0);
		death_now();
	}
	cr_expect_eq(lives.n_started, rounds);
	cr_expect_eq(lives.n_missed, 0);
	cr_expect_not(lives.backwards);
	redd_watch_free(watch);
}

/* --- between two steps ----------------------------------------------------------------------- */

/* The first output of a program makes a log, which the keeper is given before it is noted whose it
 * is. A broker that dies in between leaves one that nobody names; the next one makes another, which
 * may get the same number. */
Test(resume, P13_a_log_outlives_the_broker_that_died_making_it_and_the_next_one)
{
	const char *fifo = scene_text("%s/go", scene.service.directory);
	struct redd_port *port;
	struct inject inject;
	pid_t broker;
	int fd;

	death_needs_tracing();
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	port = scene_shell(scene_text("read x <%s; echo hello; exec sleep 1000", fifo), NULL);
	fd = open(fifo, O_WRONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	broker = death_broker();
	/* The order to the keeper is the first thing that it sends, but for its heartbeat. */
	cr_assert_eq(inject_start(&inject, broker, "sendmsg:delay_exit=5000000:when=1"), 0);
	cr_assert_eq(write(fd, "\n", 1), 1);
	close(fd);
	while (census_logs(scene.service.pid) == 0) /* the keeper has it */
		;
	cr_assert_eq(kill(broker, SIGKILL), 0);
	cr_assert_eq(inject_stop(&inject), 0);
	death_await_next(broker);
	cr_assert_eq(redd_ping(scene.r), 0);
	death_await_next(death_now());
	cr_assert_eq(redd_ping(scene.r), 0);
	scene_subscribe(port, &scene.c);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hello\n");
	scene_kill(port);
}
