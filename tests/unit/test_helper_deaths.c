/* Keeper and forker with the test in the broker's place: what happens when one of the three dies.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "helper/link.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/lib/act.h"
#include "tests/lib/census.h"
#include "tests/lib/hog.h"
#include "tests/lib/places.h"
#include "tests/lib/play.h"
#include "tests/lib/random.h"

#define DEATHS(name, limit)                         \
	static void name(struct play *p);           \
	Test(helper_deaths, name, .timeout = limit) \
	{                                           \
		static struct play p;               \
                                                    \
		cr_assert_eq(play_start(&p, 0), 0); \
		name(&p);                           \
		cr_assert_eq(play_stop(&p, 0), 0);  \
	}                                           \
	static void name(struct play *p)

/* --- the forker --------------------------------------------------------------------------------
 */

#define MANY   2000
#define WINDOW 24
#define ONE_IN 9 /* spawns after which the forker is killed */

enum fate { FATE_NONE, FATE_HANDED, FATE_STARTED, FATE_EXITED };

struct storm {
	struct play *p;
	struct random random;
	uint8_t fate[MANY + 1];
	uint32_t attempts[MANY + 1];
	uint32_t unborn[WINDOW]; /* to be handed over again when there is a forker */
	unsigned n_waiting;
	bool has_forker;
	char file[PATH_MAX + 8];
	unsigned n, n_in_flight, n_exited, n_kills, n_unborn;
};

/* Hands over what is numbered i; what a dead forker did not get comes back as unborn. */
static void storm_spawn(struct storm *t, uint32_t i)
{
	char text[16];
	const char *const argv[] = { place_prog("mark"), t->file, text, NULL };
	struct play_spawn s;

	snprintf(text, sizeof(text), "%u", i);
	play_spawn_init(t->p, &s, i % PORTS_MAX, argv);
	s.id.port = i;
	s.id.attempt = t->attempts[i]++;
	play_spawn(t->p, &s);
	t->fate[i] = FATE_HANDED;
	if (t->has_forker && random_chance(&t->random, ONE_IN)) {
		cr_assert_eq(kill(t->p->forker, SIGKILL), 0);
		t->has_forker = false;
		t->n_kills++;
	}
}

static void storm_hear(struct storm *t, const struct play_message *m)
{
	uint64_t i = m->started.id.port;

	switch (m->head.type) {
	case LINK_STARTED:
		cr_assert_eq(t->fate[i], FATE_HANDED, "%llu", (unsigned long long)i);
		t->fate[i] = FATE_STARTED;
		break;
	case LINK_EXITED:
		cr_assert_eq(t->fate[i], FATE_STARTED, "%llu", (unsigned long long)i);
		cr_assert_eq(m->exited.status, 0, "status %x", m->exited.status);
		t->fate[i] = FATE_EXITED;
		t->n_in_flight--;
		t->n_exited++;
		cr_assert_eq(play_forget(t->p, &m->exited.id), 0);
		break;
	case LINK_UNBORN:
		cr_assert_eq(t->fate[i], FATE_HANDED, "%llu", (unsigned long long)i);
		cr_assert_eq(m->unborn.id.attempt, t->attempts[i]);
		t->n_unborn++;
		t->unborn[t->n_waiting++] = (uint32_t)i;
		break;
	case LINK_FORKER:
		t->has_forker = true;
		break;
	default:
		cr_assert_fail("message %u, stage %u, %s", m->head.type, m->failed.stage,
			       strerror(m->failed.error));
	}
}

/* How often each number stands in the file. */
static void storm_check(struct storm *t)
{
	uint8_t *seen = calloc(1, t->n + 1);
	FILE *f = fopen(t->file, "r");
	unsigned i, n_lines = 0;

	cr_assert_not_null(f);
	while (fscanf(f, "%u", &i) == 1) {
		cr_assert(i >= 1 && i <= t->n);
		cr_assert_eq(seen[i]++, 0, "%u ran twice", i);
		n_lines++;
	}
	fclose(f);
	cr_assert_eq(n_lines, t->n, "%u of %u ran", n_lines, t->n);
	free(seen);
}

static void storm(struct play *p, uint64_t seed)
{
	struct storm *t = calloc(1, sizeof(*t));
	struct play_message m = { 0 };
	uint32_t sent = 0;

	*t = (struct storm){
		.p = p, .random = { seed }, .has_forker = true, .n = place_rounds(MANY)
	};
	snprintf(t->file, sizeof(t->file), "%s/lines", p->directory);
	while (t->n_exited < t->n) {
		while (t->has_forker && t->n_waiting)
			storm_spawn(t, t->unborn[--t->n_waiting]);
		for (; t->has_forker && sent < t->n && t->n_in_flight < WINDOW; t->n_in_flight++)
			storm_spawn(t, ++sent);
		cr_assert_eq(play_receive(p, &m, 10000), 0, "seed %llu: %u of %u ended, %u kills",
			     (unsigned long long)seed, t->n_exited, t->n, t->n_kills);
		storm_hear(t, &m);
	}
	storm_check(t);
	cr_assert_gt(t->n_kills, t->n / ONE_IN / 3);
	free(t);
}

DEATHS(every_spawn_runs_exactly_once_however_often_the_forker_is_killed, 240)
{
	storm(p, 20240917);
}

DEATHS(a_forker_that_dies_is_replaced_and_its_children_do_not_notice, 30)
{
	const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct play_message m = { 0 };
	struct play_spawn s, next;
	pid_t old = p->forker;

	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(kill(old, SIGKILL), 0);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_FORKER);
	cr_assert_neq(p->forker, old);
	play_spawn_init(p, &next, 2, argv);
	cr_assert_eq(play_spawn_wait(p, &next, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(kill(m.started.pid, SIGKILL), 0);
	cr_assert_eq(play_wait_exit(p, &next.id, &m), 0);
	cr_assert_eq(play_receive(p, &m, 20), PLAY_E_TIMEOUT, "the first one still runs");
	cr_assert_eq(play_forget(p, &s.id), 0);
}

/* A child between clone and exec has its stack in memory that the dead forker shared with it. */
DEATHS(a_birth_that_hangs_outlives_its_forker, 30)
{
	const char *const argv[] = { "/bin/sh", "-c", "exit 4", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char fifo[PATH_MAX + 8];
	int fd;

	act_make_fifo(p, fifo, sizeof(fifo));
	play_spawn_init(p, &s, 9, argv);
	spawn_bytes_file(&s.bytes, 0, O_RDONLY, fifo);
	s.keep_birth = true;
	cr_assert_eq(play_spawn(p, &s), 0);
	act_wait_for_birth(&s);
	close(s.birth_fd);
	cr_assert_eq(kill(p->forker, SIGKILL), 0);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_FORKER);
	fd = open(fifo, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(WEXITSTATUS(m.exited.status), 4);
	close(fd);
	unlink(fifo);
}

/* --- the broker --------------------------------------------------------------------------------
 */

struct heard {
	unsigned n_held, n_rings, n_records, n_ready, n_started, n_exited, n_failed, n_unborn;
	unsigned n_too_early;
	struct link_held held[8];
	struct link_exited exited;
	int fds_of_held[8];
};

static void hear(struct play_message *m, void *context)
{
	struct heard *h = context;

	switch (m->head.type) {
	case LINK_HELD:
		h->fds_of_held[h->n_held] = (int)m->n_fds;
		h->held[h->n_held++] = m->held;
		break;
	case LINK_RING:
		h->n_rings += m->n_fds == 1;
		break;
	case LINK_RECORDS:
		h->n_records += m->n_fds == LINK_RECORDS_FDS;
		break;
	case LINK_READY:
		h->n_ready++;
		break;
	case LINK_STARTED:
		h->n_started++;
		h->n_too_early += !h->n_ready;
		break;
	case LINK_FAILED:
		h->n_failed++;
		break;
	case LINK_UNBORN:
		h->n_unborn++;
		break;
	case LINK_EXITED:
		h->exited = m->exited;
		h->n_exited++;
		h->n_too_early += h->n_started == 0;
		break;
	default:
		break;
	}
}

/* Kills the stand-in and greets the next one. */
static void replace_broker(struct play *p, struct heard *h)
{
	*h = (struct heard){ 0 };
	cr_assert_eq(kill(p->stand_in, SIGKILL), 0);
	cr_assert_eq(play_meet(p), 0);
	cr_assert_eq(play_greet(p, hear, h), 0);
}

/* Of the stand-in, whose socket says so. */
static void wait_for_end(struct play *p)
{
	struct pollfd f = { .fd = p->stand_in_fd, .events = POLLIN };

	cr_assert_eq(poll(&f, 1, place_patience_ms(30000)), 1);
	cr_assert(f.revents & POLLHUP);
}

/* The stand-in leaves by itself, and the next one is greeted. */
static void leave_broker(struct play *p, struct heard *h)
{
	char status = 3;

	*h = (struct heard){ 0 };
	cr_assert_eq(write(p->stand_in_fd, &status, 1), 1);
	wait_for_end(p);
	cr_assert_eq(play_meet(p), 0);
	cr_assert_eq(play_greet(p, hear, h), 0);
}

static void send_memfd(struct play *p, const void *message, size_t size, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	const int fds[LINK_RECORDS_FDS] = { fd, fd, fd };

	cr_assert_eq(play_send(p->link_fd, message, size, fds, n), 0);
	close(fd);
}

DEATHS(a_new_broker_is_given_all_that_is_held_and_told_all_that_happened, 30)
{
	const char *const running[] = { "/bin/sleep", "1000", NULL };
	const char *const ended[] = { "/bin/sh", "-c", "exit 5", NULL };
	const char *const missing[] = { "/nowhere/x", NULL };
	struct link_ring ring = { { LINK_RING, sizeof(ring) }, 7, 65536 };
	struct link_records records = { { LINK_RECORDS, sizeof(records) } };
	struct play_spawn s[3];
	struct play_message m = { 0 };
	struct heard h;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_init(p, &s[0], 1, running);
	s[0].holds[0] = LINK_HOLD(HOLD_OUTPUT, 1);
	s[0].hold_fds[0] = fds[0];
	s[0].n_holds = 1;
	play_spawn_init(p, &s[1], 2, missing);
	play_spawn_init(p, &s[2], 3, ended);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(play_spawn_wait(p, &s[i], &m), 0);
	cr_assert_eq(play_wait_exit(p, &s[2].id, &m), 0);
	send_memfd(p, &ring, sizeof(ring), 1);
	send_memfd(p, &records, sizeof(records), LINK_RECORDS_FDS);
	cr_assert_eq(p->setup.incarnation, 1);
	cr_assert_eq(p->setup.n_listeners, 1);
	cr_assert_eq(p->setup.n_locks, 1);
	for (unsigned incarnation = 2; incarnation < 5; incarnation++) {
		replace_broker(p, &h);
		cr_assert_eq(p->setup.incarnation, incarnation);
		cr_assert_eq(p->setup.deaths, incarnation - 1);
		cr_assert_eq(h.n_held, 3);
		cr_assert_eq(h.held[0].id.port, s[0].id.port);
		cr_assert_eq(h.held[0].n_holds, 2, "its output and its pidfd");
		cr_assert_eq(h.fds_of_held[0], 2);
		cr_assert_eq(h.n_rings, 1);
		cr_assert_eq(h.n_records, 1);
		cr_assert_eq(h.n_ready, 1);
		cr_assert_eq(h.n_started, 2);
		cr_assert_eq(h.n_exited, 1);
		cr_assert_eq(h.n_failed, 1);
		cr_assert_eq(h.n_too_early, 0);
		cr_assert_eq(h.exited.id.port, s[2].id.port);
		cr_assert_eq(WEXITSTATUS(h.exited.status), 5);
	}
	for (int i = 0; i < 3; i++)
		cr_assert_eq(play_forget(p, &s[i].id), 0);
	ring.size = 0;
	cr_assert_eq(play_send(p->link_fd, &ring, sizeof(ring), NULL, 0), 0);
	replace_broker(p, &h);
	cr_assert_eq(h.n_held + h.n_rings + h.n_started, 0);
	fd_close_many(fds, 2);
}

/* A deposit is obeyed even when its sender is dead: what was handed over with it may have run. */
DEATHS(what_a_broker_sent_before_its_death_still_counts, 30)
{
	const char *const argv[] = { "/bin/sh", "-c", "exit 6", NULL };
	struct play_spawn s;
	struct heard h;
	struct play_message m = { 0 };

	play_spawn_init(p, &s, 1, argv);
	s.keep_birth = true;
	cr_assert_eq(kill(p->keeper, SIGSTOP), 0);
	cr_assert_eq(play_spawn(p, &s), 0);
	act_wait_for_birth(&s);
	close(s.birth_fd);
	cr_assert_eq(kill(p->stand_in, SIGKILL), 0);
	cr_assert_eq(kill(p->keeper, SIGCONT), 0);
	h = (struct heard){ 0 };
	cr_assert_eq(play_meet(p), 0);
	cr_assert_eq(play_greet(p, hear, &h), 0);
	cr_assert_eq(h.n_held, 1);
	if (!h.n_exited)
		cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	else
		m.exited = h.exited;
	cr_assert_eq(WEXITSTATUS(m.exited.status), 6);
}

DEATHS(a_new_broker_can_spawn_through_the_old_forker, 30)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	pid_t forker = p->forker;
	struct heard h;

	replace_broker(p, &h);
	cr_assert_eq(p->forker, forker);
	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
}

DEATHS(a_broker_that_leaves_without_a_word_is_replaced, 30)
{
	struct heard h;

	leave_broker(p, &h);
	cr_assert_eq(p->setup.incarnation, 2);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

DEATHS(deaths_that_follow_each_other_too_fast_are_slowed_down, 60)
{
	int64_t begin = now_ms();
	struct heard h;

	for (unsigned i = 0; i < 2 * RESTART_DEATHS_MAX; i++)
		replace_broker(p, &h);
	cr_assert_lt(now_ms() - begin, place_patience_ms(900), "a kill is nobody's fault");
	for (unsigned i = 1; i < RESTART_DEATHS_MAX; i++)
		leave_broker(p, &h);
	cr_assert_lt(now_ms() - begin, place_patience_ms(1800));
	begin = now_ms();
	leave_broker(p, &h);
	cr_assert_geq(now_ms() - begin, 900);
	cr_assert_eq(p->setup.incarnation, 3 * RESTART_DEATHS_MAX + 1);
}

static void beat(struct play *p)
{
	struct link_beat m = { { LINK_BEAT, sizeof(m) } };

	cr_assert_eq(play_send(p->link_fd, &m, sizeof(m), NULL, 0), 0);
}

DEATHS(a_broker_that_falls_silent_is_killed_and_comes_back, 60)
{
	int64_t begin;
	pid_t old = p->stand_in;

	beat(p);
	begin = now_ms();
	wait_for_end(p);
	cr_assert_eq(play_meet(p), 0);
	cr_assert_neq(p->stand_in, old);
	cr_assert_geq(now_ms() - begin, (int64_t)WATCHDOG_MS - 100);
	cr_assert_leq(now_ms() - begin,
		      (int64_t)(WATCHDOG_MS + HEARTBEAT_MS) + place_patience_ms(2000));
	cr_assert_eq(play_greet(p, NULL, NULL), 0);
}

/* Where sessions are groups to the scheduler (sched(7)) it gives way as a group. */
static void set_nice(pid_t pid, int nice)
{
	FILE *group;
	char path[64];

	setpriority(PRIO_PROCESS, (id_t)pid, nice);
	snprintf(path, sizeof(path), "/proc/%d/autogroup", (int)pid);
	group = fopen(path, "we");
	if (!group)
		return;
	fprintf(group, "%d", nice);
	fclose(group);
}

/* Others leave it a hundredth of a processor or less. */
DEATHS(a_broker_that_is_not_let_run_is_left_alone_until_it_is, 120)
{
	struct pollfd f = { .fd = p->stand_in_fd, .events = POLLIN };
	int processor = hog_processor();
	unsigned char busy = 255;
	pid_t hogs[2];
	int64_t begin;

	if (place_patience_ms(1) > 1)
		cr_skip_test("it takes long, and is the same with a tool");
	beat(p);
	set_nice(p->stand_in, 19);
	cr_assert_eq(hog_pin(p->stand_in, processor), 0);
	for (int i = 0; i < 2; i++)
		cr_assert_gt(hogs[i] = hog_start(processor), 0);
	cr_assert_eq(write(p->stand_in_fd, &busy, 1), 1);
	cr_expect_eq(poll(&f, 1, WATCHDOG_MS + 2 * HEARTBEAT_MS + 500), 0, "it was killed");
	begin = now_ms();
	for (int i = 0; i < 2; i++)
		hog_stop(hogs[i]);
	set_nice(p->stand_in, 0); /* only root may; there may be others that are busy */
	cr_assert_eq(poll(&f, 1, STARVED_MOST_MS + WATCHDOG_MS), 1, "busy for ever, it lives on");
	cr_expect(f.revents & POLLHUP);
	if (geteuid() == 0)
		cr_expect_leq(now_ms() - begin, 10 * (int64_t)HEARTBEAT_MS, "%lld",
			      (long long)(now_ms() - begin));
	cr_assert_eq(play_meet(p), 0);
	cr_assert_eq(play_greet(p, NULL, NULL), 0);
}

DEATHS(a_broker_that_beats_is_left_alone, 60)
{
	struct pollfd f = { .fd = p->stand_in_fd, .events = POLLIN };
	int64_t end = now_ms() + WATCHDOG_MS + HEARTBEAT_MS + 1500;

	beat(p);
	while (now_ms() < end) {
		cr_assert_eq(poll(&f, 1, HEARTBEAT_MS), 0, "it was killed");
		beat(p);
	}
}

/* --- the end -----------------------------------------------------------------------------------
 */

static int signal_told(struct play *p)
{
	struct pollfd f = { .fd = p->stand_in_fd, .events = POLLIN };
	unsigned char byte = 0;

	if (poll(&f, 1, place_patience_ms(5000)) != 1 || read(p->stand_in_fd, &byte, 1) != 1)
		return -1;
	return byte;
}

DEATHS(signals_that_end_a_service_are_passed_to_the_broker, 30)
{
	beat(p);
	cr_assert_eq(kill(p->keeper, SIGTERM), 0);
	cr_assert_eq(signal_told(p), SIGTERM);
	cr_assert_eq(kill(p->keeper, SIGINT), 0);
	cr_assert_eq(signal_told(p), SIGINT);
}

DEATHS(a_signal_waits_for_a_broker_that_can_take_it, 30)
{
	struct heard h;

	cr_assert_eq(kill(p->keeper, SIGTERM), 0);
	replace_broker(p, &h);
	beat(p);
	cr_assert_eq(signal_told(p), SIGTERM);
}

Test(helper_deaths, the_status_of_a_bye_is_the_services, .timeout = 30)
{
	static struct play p;

	cr_assert_eq(play_start(&p, 0), 0);
	cr_assert_eq(play_stop(&p, 42), 0);
}

/* With no broker to be had, the keeper ends it all: processes, forker, files. */
Test(helper_deaths, without_any_broker_a_signal_still_ends_the_service, .timeout = 60)
{
	const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct play_message m = { 0 };
	static struct play p;
	struct play_spawn s;
	struct pollfd f = { .events = POLLIN };
	struct heard h;
	int status;

	cr_assert_eq(play_start(&p, 0), 0);
	play_spawn_init(&p, &s, 1, argv);
	cr_assert_eq(play_spawn_wait(&p, &s, &m), 0);
	cr_assert_eq(m.n_fds, 1);
	f.fd = m.fds[0];
	m.fds[0] = -1;
	for (unsigned i = 0; i < RESTART_DEATHS_MAX; i++)
		leave_broker(&p, &h);
	cr_assert_eq(kill(p.keeper, SIGTERM), 0);
	cr_assert_eq(waitpid(p.keeper, &status, 0), p.keeper);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	if (!place_valgrind())
		cr_assert_eq(poll(&f, 1, 5000), 1, "the process is gone");
	cr_assert_neq(access(p.socket, F_OK), 0);
	cr_assert_neq(access(p.lock, F_OK), 0);
	p.keeper = 0;
	close(f.fd);
	play_kill(&p);
}

/* A keeper that is killed takes nobody with it but those who live from it. */
Test(helper_deaths, a_forker_leaves_when_its_keeper_is_gone, .timeout = 30)
{
	static struct play p;
	char state;

	cr_assert_eq(play_start(&p, 0), 0);
	play_kill(&p);
	for (int i = 0; i < 500 && census_parent(p.forker, &state); i++)
		poll(NULL, 0, 10);
	cr_assert_eq(census_parent(p.forker, &state), 0);
}
