/* Keeper and forker with the test in the broker's place: what the keeper does for children that
 * run. It tells each end once, holds, releases and signals, reaps what nobody asks for, and nothing
 * is left. Each in both clone modes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/link.h"
#include "tests/lib/act.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/play.h"

/* --- many, and nothing left ------------------------------------------------------------------ */

#define MANY   1000
#define WINDOW 64

struct tally {
	uint8_t started[MANY + 1], exited[MANY + 1];
	unsigned n_exited, n_wrong;
};

static void count(struct tally *t, const struct play_message *m)
{
	uint64_t port = m->started.id.port;

	if (port > MANY) {
		t->n_wrong++;
	} else if (m->head.type == LINK_STARTED) {
		t->n_wrong += t->started[port]++ != 0 || m->n_fds != 1;
	} else if (m->head.type == LINK_EXITED) {
		t->n_wrong += t->exited[port]++ != 0 || !t->started[port];
		t->n_wrong += WEXITSTATUS(m->exited.status) != (int)(port % 256);
		t->n_exited++;
	} else {
		t->n_wrong++;
	}
}

BOTH_MODES(helper_keeper, quick_programs_start_once_and_exit_once_each, 120)
{
	unsigned n = place_rounds(MANY), sent = 0;
	struct play_message m = { 0 };
	struct tally t = { 0 };
	struct play_spawn s;
	char status[8];
	const char *const argv[] = { place_prog("exit"), status, NULL };

	while (t.n_exited < n) {
		while (sent < n && sent - t.n_exited < WINDOW) {
			snprintf(status, sizeof(status), "%u", ++sent % 256);
			play_spawn_init(p, &s, sent % PORTS_MAX, argv);
			cr_assert_eq(play_spawn(p, &s), 0);
		}
		cr_assert_eq(play_receive(p, &m, 10000), 0, "%u of %u ended", t.n_exited, n);
		count(&t, &m);
		cr_assert_eq(t.n_wrong, 0, "message %u about %llu", m.head.type,
			     (unsigned long long)m.started.id.port);
		if (m.head.type == LINK_EXITED)
			cr_assert_eq(play_forget(p, &m.exited.id), 0);
	}
}

BOTH_MODES(helper_keeper, nothing_is_left_of_spawns_that_ran_or_failed, 120)
{
	const char *const good[] = { place_prog("exit"), "0", NULL };
	const char *const bad[] = { "/nowhere/x", NULL };
	int keeper_fds, forker_fds, fds[2];
	struct play_message m = { 0 };
	struct play_spawn s;

	play_spawn_init(p, &s, 0, good); /* until then the forker may not have its link yet */
	cr_assert_eq(play_spawn(p, &s), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(play_forget(p, &s.id), 0);
	act_settle(p);
	keeper_fds = census_fds(p->keeper);
	forker_fds = census_fds(p->forker);
	for (uint32_t i = 0; i < place_rounds(100); i++) {
		play_spawn_init(p, &s, i % 7, i % 2 ? good : bad);
		cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
		play_spawn_pass(&s, 1, fds[1]);
		s.holds[s.n_holds] = LINK_HOLD(HOLD_OUTPUT, 1);
		s.hold_fds[s.n_holds++] = fds[0];
		cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
		close(fds[0]);
		close(fds[1]);
		if (i % 2)
			cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
		else
			cr_assert_eq(m.head.type, LINK_FAILED);
		cr_assert_eq(play_forget(p, &s.id), 0);
	}
	act_settle(p);
	cr_assert(act_becomes_childless(p));
	cr_assert_eq(census_fds(p->keeper), keeper_fds);
	cr_assert_eq(census_fds(p->forker), forker_fds);
}

/* How many descriptors a process's epoll watches, of closed ones that others have open too. */
static int n_watched(pid_t pid)
{
	char path[64], text[8192];
	int n = 0;

	for (int fd = 0; fd < 32; fd++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
		f = fopen(path, "re");
		while (f && fgets(text, sizeof(text), f))
			n += strncmp(text, "tfd:", 4) == 0;
		if (f)
			fclose(f);
	}
	return n;
}

/* Closing does not end a watch while somebody else has the same file open: the keeper would be told
 * of it for ever. */
BOTH_MODES(helper_keeper, what_the_broker_keeps_open_does_not_keep_the_keeper_busy, 30)
{
	const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct play_message started = { 0 }, m = { 0 };
	struct play_spawn s;
	int before;

	act_settle(p);
	before = n_watched(p->keeper);
	play_spawn_init(p, &s, 1, argv);
	s.keep_birth = true;
	cr_assert_eq(play_spawn_wait(p, &s, &started), 0);
	cr_assert_eq(started.n_fds, 1, "and the pidfd stays open here");
	cr_assert_eq(kill(started.started.pid, SIGKILL), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(n_watched(p->keeper), before);
	cr_assert_eq(play_forget(p, &s.id), 0);
	play_message_close(&started);
	close(s.birth_fd);
}

/* Daemons that came to the keeper when their parents ended: killed, they must not stay as zombies.
 */
BOTH_MODES(helper_keeper, orphans_are_reaped_and_named_to_nobody, 60)
{
	const char *const argv[] = { place_prog("stray"), "20", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char text[4096], *at, *end;
	int out;

	play_spawn_init(p, &s, 1, argv);
	out = act_spawn_with_output(p, &s);
	act_read_all(out, text, sizeof(text));
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(m.exited.status, 0);
	cr_assert_eq(play_forget(p, &s.id), 0);
	for (at = text;; at = end) {
		pid_t pid = (pid_t)strtol(at, &end, 10);

		if (end == at)
			break;
		cr_assert_eq(kill(pid, SIGKILL), 0);
	}
	cr_assert_geq(at - text, 40, "twenty numbers");
	cr_assert(act_becomes_childless(p));
	cr_assert_eq(play_receive(p, &m, 50), PLAY_E_TIMEOUT);
	close(out);
}

/* --- holding, releasing, signalling ---------------------------------------------------------- */

BOTH_MODES(helper_keeper, a_released_descriptor_is_closed_before_the_answer, 30)
{
	const char *const argv[] = { "/bin/sleep", "1000", NULL };
	struct play_message m = { 0 };
	struct link_release r = { .head = { LINK_RELEASE, sizeof(r) } };
	struct play_spawn s;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_init(p, &s, 1, argv);
	s.holds[0] = LINK_HOLD(HOLD_INPUT, 0);
	s.hold_fds[0] = fds[1];
	s.n_holds = 1;
	cr_assert_eq(play_spawn_wait(p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	close(fds[1]);
	cr_assert_not(act_ends_within(fds[0], 50), "the keeper holds it");
	r.id = s.id;
	r.hold = s.holds[0];
	cr_assert_eq(play_send(p->link_fd, &r, sizeof(r), NULL, 0), 0);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_RELEASED);
	cr_assert_eq(m.released.hold, r.hold);
	cr_assert(act_ends_within(fds[0], 0));
	close(fds[0]);
	cr_assert_eq(play_forget(p, &s.id), 0);
}

static int signal_by_keeper(struct play *p, const struct link_spawn_id *id, uint32_t type,
			    int signal)
{
	struct link_group_signal g = {
		.head = { type, sizeof(g) }, .id = *id, .cookie = 4711, .signal = signal
	};
	struct play_message m = { 0 };

	cr_assert_eq(play_send(p->link_fd, &g, sizeof(g), NULL, 0), 0);
	do
		cr_assert_eq(play_receive(p, &m, 5000), 0);
	while (m.head.type != LINK_GROUP_SIGNALLED);
	cr_assert_eq(m.signalled.cookie, 4711);
	return m.signalled.error;
}

BOTH_MODES(helper_keeper, leader_and_group_are_signalled_until_the_leader_is_reaped, 30)
{
	const char *const argv[] = { "/bin/sh", "-c",
				     "trap 'exit 3' TERM; (echo r; exec sleep 100) & wait", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	char c;
	int out;

	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL_GROUP, SIGTERM), ESRCH);
	out = act_spawn_with_output(p, &s);
	cr_assert_eq(read(out, &c, 1), 1);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL, 99), EINVAL);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL, 0), 0);
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL_GROUP, SIGTERM), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	cr_assert_eq(WEXITSTATUS(m.exited.status), 3);
	while (read(out, &c, 1) > 0)
		; /* the end comes only when sleep is gone too */
	cr_assert_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL, SIGTERM), ESRCH);
	close(out);
}

BOTH_MODES(helper_keeper, a_forgotten_process_goes_on_and_is_reaped_quietly, 30)
{
	const char *const argv[] = { "/bin/cat", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	int fds[2], out;

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_init(p, &s, 1, argv);
	play_spawn_pass(&s, 0, fds[0]);
	out = act_spawn_with_output(p, &s);
	close(fds[0]);
	cr_assert_eq(play_receive(p, &m, 5000), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_forget(p, &s.id), 0);
	act_settle(p);
	cr_assert_not(act_ends_within(out, 20), "it was not touched");
	close(fds[1]);
	cr_assert(act_ends_within(out, 5000));
	cr_assert(act_becomes_childless(p));
	cr_assert_eq(play_receive(p, &m, 20), PLAY_E_TIMEOUT);
	close(out);
}

/* A process of ours that has this number; -1: it is not to be had. Only root can ask for one. */
static pid_t take_number(pid_t number)
{
	for (int i = 0; i < 50; i++) {
		FILE *f = fopen("/proc/sys/kernel/ns_last_pid", "we");
		bool is_asked = f && fprintf(f, "%d", (int)number - 1) > 0;
		pid_t pid;

		if (!f || fclose(f) || !is_asked)
			return -1;
		pid = fork();
		if (pid == 0) {
			pause();
			_exit(0);
		}
		if (pid == number)
			return pid;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return -1;
}

BOTH_MODES(helper_keeper, P10_whoever_has_the_number_of_one_that_is_gone_is_left_alone, 30)
{
	const char *const argv[] = { place_prog("exit"), "0", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;
	pid_t pid;

	play_spawn_init(p, &s, 1, argv);
	cr_assert_eq(play_spawn(p, &s), 0);
	cr_assert_eq(play_wait_exit(p, &s.id, &m), 0);
	pid = take_number(m.exited.pid);
	if (pid <= 0) {
		fprintf(stderr, "P10: its number could not be had again, so nobody could be hit: "
				"that takes root (/proc/sys/kernel/ns_last_pid)\n");
	} else {
		cr_expect_eq(signal_by_keeper(p, &s.id, LINK_SIGNAL, SIGKILL), ESRCH);
		cr_expect_eq(waitpid(pid, NULL, WNOHANG), 0, "it was hit");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	cr_assert_eq(play_forget(p, &s.id), 0);
}
