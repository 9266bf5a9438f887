/* The opener as a process, with the test in the broker's place. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/link.h"
#include "helper/proc.h"
#include "proto/base/cleanup.h"
#include "proto/fdpass.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"

static char mark[64];		/* of what is started next */
static rlim_t most_descriptors; /* that the opener may have; 0: as many as we */

static void setup(void)
{
	static unsigned n;

	/* Another one in every test and in every copy of it that runs beside. */
	snprintf(mark, sizeof(mark), "REDD_PORT=test.%d.%u", (int)getpid(), ++n);
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* daemons come to us and are reaped here */
	most_descriptors = 0;
}

static void teardown(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

TestSuite(opener, .init = setup, .fini = teardown, .timeout = 60);

/* --- asking ------------------------------------------------------------------------------------
 */

static struct opener_reply replies[OPENER_REQUESTS_MAX];

/* One whole errand, with descriptors; returns how many replies came. */
static size_t ask_bytes(const void *request, size_t size, const int *fds, size_t n_fds)
{
	struct iovec iov = { (void *)request, size };
	int pair[2], status;
	ssize_t n;
	pid_t pid;

	memset(replies, 0, sizeof(replies));
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(fdpass_send(pair[0], &iov, 1, fds, n_fds, 0), (ssize_t)size);
	pid = fork();
	if (pid == 0) {
		char *const argv[] = { (char *)"redd-helper", (char *)"opener", NULL };
		char *const envp[] = { NULL };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(pair[1], 0);
		if (most_descriptors)
			setrlimit(RLIMIT_NOFILE,
				  &(struct rlimit){ most_descriptors, most_descriptors });
		execve(place_program("redd-helper"), argv, envp);
		_exit(127);
	}
	close(pair[1]);
	n = recv(pair[0], replies, sizeof(replies), 0);
	cr_assert(n > 0 && n % (ssize_t)sizeof(replies[0]) == 0, "%zd", n);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	close(pair[0]);
	return (size_t)n / sizeof(replies[0]);
}

static struct opener_reply ask_with(struct opener_request *request, int leader_pidfd)
{
	request->has_pidfd = leader_pidfd >= 0;
	cr_assert_eq(ask_bytes(request, sizeof(*request), &leader_pidfd, request->has_pidfd), 1);
	return replies[0];
}

static struct opener_reply ask(struct opener_request *request)
{
	return ask_with(request, -1);
}

static struct opener_request tree_request(int signal)
{
	struct opener_request r = { .verb = OPENER_TREE, .signal = signal };

	r.exclude[0] = getpid();
	snprintf(r.mark, sizeof(r.mark), "%s", mark);
	return r;
}

/* --- what is asked about -----------------------------------------------------------------------
 */

struct child {
	pid_t pid;
	int pidfd;
	int out; /* read end of its descriptor 1 */
};

enum { IN_SESSION = 1, WITH_MARK = 2 };

/* Runs a shell command, in a session of its own and with the mark if asked for. */
static struct child start(const char *command, int flags)
{
	struct child c;
	int out[2];

	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	c.pid = fork();
	if (c.pid == 0) {
		char *const argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
		char *const envp[] = { (char *)"PATH=/usr/bin:/bin",
				       flags & WITH_MARK ? mark : NULL, NULL };

		if (flags & IN_SESSION)
			setsid();
		dup2(out[1], 1);
		execve("/bin/sh", argv, envp);
		_exit(127);
	}
	close(out[1]);
	c.out = out[0];
	c.pidfd = (int)syscall(SYS_pidfd_open, c.pid, 0);
	return c;
}

/* A number that the command printed. */
static pid_t told(const struct child *c)
{
	char text[16] = "";
	size_t n = 0;

	while (n < sizeof(text) - 1 && read(c->out, text + n, 1) == 1 && text[n] != '\n')
		n++;
	return (pid_t)atoi(text);
}

static bool is_alive(pid_t pid)
{
	char state;

	return census_parent(pid, &state) && state != 'Z';
}

static void stop(struct child *c)
{
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	close(c->pidfd);
	close(c->out);
}

static uint64_t start_of(pid_t pid)
{
	struct proc_stat s;

	cr_assert_eq(proc_stat_read(pid, &s), 0);
	return s.start_ticks;
}

#define DAEMON "setsid sh -c 'echo $$; exec sleep 1000' & "

/* --- trees -------------------------------------------------------------------------------------
 */

Test(opener, P10_a_daemon_that_left_its_parents_is_found_by_the_mark)
{
	struct child c = start("(" DAEMON ")", WITH_MARK | IN_SESSION);
	struct opener_request r = tree_request(SIGKILL);
	pid_t daemon = told(&c);
	struct opener_reply reply;

	cr_assert_eq(waitpid(c.pid, NULL, 0), c.pid, "its leader is gone");
	r.leader = c.pid;
	reply = ask(&r);
	cr_assert_eq(reply.error, 0);
	cr_assert_eq(reply.count, 1);
	cr_assert_eq(reply.n_pids, 0, "nobody survived");
	cr_assert_not(is_alive(daemon));
	stop(&c);
}

Test(opener, P10_descendants_without_the_mark_are_found_by_ancestry)
{
	struct child c = start("setsid env -i /bin/sh -c 'echo $$; exec sleep 1000' & wait",
			       WITH_MARK | IN_SESSION);
	struct opener_request r = tree_request(SIGKILL);
	pid_t daemon = told(&c);
	struct opener_reply reply = ask(&r);

	cr_assert_eq(reply.error, 0);
	cr_assert_eq(reply.count, 2, "%u", reply.count);
	cr_assert_not(is_alive(daemon) || is_alive(c.pid));
	stop(&c);
}

Test(opener, P10_a_leader_without_the_mark_is_known_by_its_start)
{
	struct child c = start("sleep 1000 & echo $!; wait", IN_SESSION);
	struct opener_request r = tree_request(SIGKILL);
	pid_t sleeper = told(&c);
	struct opener_reply reply;

	r.leader = c.pid;
	r.start_ticks = start_of(c.pid) + 1;
	reply = ask(&r);
	cr_assert_eq(reply.count, 0, "the number is another process's by now");
	cr_assert(is_alive(c.pid) && is_alive(sleeper));
	r.start_ticks--;
	reply = ask(&r);
	cr_assert_eq(reply.count, 2);
	cr_assert_not(is_alive(sleeper));
	stop(&c);
}

Test(opener, P10_a_leader_without_the_mark_is_known_by_its_pidfd)
{
	struct child c = start("sleep 1000 & echo $!; wait", IN_SESSION);
	struct opener_request r = tree_request(SIGKILL);
	pid_t sleeper = told(&c);
	struct opener_reply reply;

	if (place_valgrind()) { /* which has no pidfds */
		stop(&c);
		kill(sleeper, SIGKILL);
		return;
	}
	r.leader = c.pid;
	reply = ask(&r);
	cr_assert_eq(reply.count, 0, "a number alone is not believed");
	reply = ask_with(&r, c.pidfd);
	cr_assert_eq(reply.count, 2);
	cr_assert_not(is_alive(sleeper));
	stop(&c);
}

/* The session's number is still the leader's, as one with the mark is in it. */
Test(opener, P10_members_of_the_session_are_found_when_the_leader_is_gone)
{
	struct child c = start("env -i sleep 1000 & echo $!; sleep 1000 & echo $!; exit 0",
			       WITH_MARK | IN_SESSION);
	struct opener_request r = tree_request(SIGTERM);
	pid_t bare = told(&c), marked = told(&c);
	struct opener_reply reply;

	cr_assert_eq(waitpid(c.pid, NULL, 0), c.pid);
	r.leader = c.pid;
	reply = ask(&r);
	cr_assert_eq(reply.count, 2, "%u", reply.count);
	cr_assert(waitpid(bare, NULL, 0) == bare && waitpid(marked, NULL, 0) == marked);
	stop(&c);
}

Test(opener, P10_others_are_not_touched)
{
	struct child ours = start("echo 1; exec sleep 1000", WITH_MARK | IN_SESSION);
	struct child other = start("echo 1; exec sleep 1000", IN_SESSION);
	struct child excluded = start("echo 1; exec sleep 1000", WITH_MARK | IN_SESSION);
	struct opener_request r = tree_request(SIGKILL);
	struct opener_reply reply;

	cr_assert(told(&ours) && told(&other) && told(&excluded));
	r.exclude[1] = excluded.pid;
	reply = ask(&r);
	cr_assert_eq(reply.count, 1);
	cr_assert_not(is_alive(ours.pid));
	cr_assert(is_alive(other.pid) && is_alive(excluded.pid));
	stop(&ours);
	stop(&other);
	stop(&excluded);
}

Test(opener, signal_0_only_counts)
{
	struct child c = start("sleep 1000 & echo $!; wait", WITH_MARK | IN_SESSION);
	struct opener_request r = tree_request(0);
	pid_t sleeper = told(&c);

	cr_assert_eq(ask(&r).count, 2);
	cr_assert(is_alive(c.pid) && is_alive(sleeper));
	r.signal = SIGKILL;
	cr_assert_eq(ask(&r).count, 2);
	stop(&c);
}

/* Many trees go with one opener, so what a limit is to it must be nothing to one of them. */
Test(opener, P10_a_tree_of_more_processes_than_descriptors_is_ended)
{
	struct child c = start("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do "
			       "sleep 1000 & done; echo $!; wait",
			       WITH_MARK | IN_SESSION);
	struct opener_request r = tree_request(SIGKILL);
	pid_t last = told(&c);
	struct opener_reply reply;

	most_descriptors = 12;
	reply = ask(&r);
	cr_expect_eq(reply.error, 0, "%d", reply.error);
	cr_expect_eq(reply.count, 21, "%u", reply.count);
	cr_expect_eq(reply.n_pids, 0, "%u survived", reply.n_pids);
	cr_expect_not(is_alive(last));
	most_descriptors = 0;
	ask(&r); /* whoever is left */
	stop(&c);
}

/* Each process makes the next one and leaves: whoever looks at a list of them is always late. */
Test(opener, P10_a_chain_of_processes_that_replace_themselves_is_ended)
{
	const char *const chain =
		"f='setsid /bin/sh -c \"$f\" & exit 0'; export f; echo 1; eval \"$f\"";
	struct child c = start(chain, WITH_MARK | IN_SESSION);
	struct opener_request r = tree_request(SIGKILL);
	struct opener_reply reply = { 0 };
	char byte;

	cr_assert(told(&c));
	/* One of them at a time is caught standing still or not at all: the chain may need some
	 * tries, but then its pipe is at its end. */
	for (int i = 0; i < 50; i++) {
		struct pollfd f = { .fd = c.out, .events = POLLIN };

		reply = ask(&r);
		cr_assert_eq(reply.error, 0);
		if (poll(&f, 1, 0) == 1)
			break;
	}
	cr_assert_eq(read(c.out, &byte, 1), 0, "the last one is gone");
	stop(&c);
}

Test(opener, P10_a_crowd_in_sessions_of_their_own_is_ended_at_once)
{
	char command[PATH_MAX + 32];
	struct opener_request r = tree_request(SIGKILL);
	struct opener_reply reply;
	struct child c;
	char byte;

	snprintf(command, sizeof(command), "exec %s 200 keep", place_prog("stray"));
	c = start(command, WITH_MARK | IN_SESSION);
	cr_assert_eq(waitpid(c.pid, NULL, 0), c.pid);
	reply = ask(&r);
	cr_assert_eq(reply.error, 0);
	cr_assert_eq(reply.count, 200);
	cr_assert_eq(reply.n_pids, 0);
	while (read(c.out, &byte, 1) == 1)
		;
	stop(&c);
}

/* --- many at once ------------------------------------------------------------------------------
 */

/* The ith tree's mark, in place of the test's own. */
static void mark_of(char ret[64], size_t i)
{
	snprintf(ret, 64, "REDD_PORT=test.%d.tree.%zu", (int)getpid(), i);
}

static struct child start_tree(size_t i, const char *command, int flags)
{
	mark_of(mark, i);
	return start(command, flags);
}

static struct opener_request request_of(size_t i, int signal)
{
	struct opener_request r = tree_request(signal);

	mark_of(r.mark, i);
	return r;
}

Test(opener, P10_many_trees_are_ended_at_once_and_no_other)
{
	enum { N = OPENER_REQUESTS_MAX };
	struct opener_request r[N];
	struct child trees[N + 1];
	pid_t daemons[N + 1];

	for (size_t i = 0; i <= N; i++) {
		trees[i] = start_tree(i, DAEMON "exec sleep 1000", WITH_MARK | IN_SESSION);
		daemons[i] = told(&trees[i]);
	}
	for (size_t i = 0; i < N; i++) {
		r[i] = request_of(i, SIGKILL);
		r[i].leader = trees[i].pid;
	}
	cr_assert_eq(ask_bytes(r, sizeof(r), NULL, 0), N);
	for (size_t i = 0; i < N; i++) {
		cr_expect_eq(replies[i].error, 0);
		cr_expect_eq(replies[i].count, 2, "%zu: %u", i, replies[i].count);
		cr_expect_eq(replies[i].n_pids, 0);
		cr_expect_not(is_alive(trees[i].pid) || is_alive(daemons[i]));
	}
	cr_expect(is_alive(trees[N].pid) && is_alive(daemons[N]));
	kill(daemons[N], SIGKILL);
	for (size_t i = 0; i <= N; i++)
		stop(&trees[i]);
}

/* Each its own count; and each member is known by another sign. */
Test(opener, P10_each_of_many_is_counted_by_itself)
{
	struct child two = start_tree(0, "sleep 1000 & echo $!; wait", WITH_MARK | IN_SESSION);
	struct child bare = start_tree(1, "sleep 1000 & sleep 1000 & echo $!; wait", IN_SESSION);
	struct opener_request r[3] = { request_of(0, 0), request_of(1, 0), request_of(2, 0) };

	cr_assert(told(&two) && told(&bare));
	r[1].leader = bare.pid;
	r[1].start_ticks = start_of(bare.pid);
	cr_assert_eq(ask_bytes(r, sizeof(r), NULL, 0), 3);
	cr_expect_eq(replies[0].count, 2, "%u", replies[0].count);
	cr_expect_eq(replies[1].count, 3, "%u", replies[1].count);
	cr_expect_eq(replies[2].count, 0, "%u", replies[2].count);
	r[0].signal = r[1].signal = r[2].signal = SIGKILL;
	cr_assert_eq(ask_bytes(r, sizeof(r), NULL, 0), 3);
	stop(&two);
	stop(&bare);
}

/* The number was another port's leader's before, of which something is left. */
Test(opener, P10_two_leaders_of_one_number_are_told_apart)
{
	struct child now = start_tree(0, "sleep 1000 & echo $!; wait", IN_SESSION);
	struct child left = start_tree(1, DAEMON "exec sleep 1000", WITH_MARK | IN_SESSION);
	struct opener_request r[2] = { request_of(1, SIGKILL), request_of(0, SIGKILL) };

	cr_assert(told(&now) && told(&left));
	r[0].leader = r[1].leader = now.pid;
	r[1].start_ticks = start_of(now.pid);
	cr_assert_eq(ask_bytes(r, sizeof(r), NULL, 0), 2);
	cr_expect_eq(replies[0].count, 2, "%u", replies[0].count);
	cr_expect_eq(replies[1].count, 2, "%u", replies[1].count);
	stop(&now);
	stop(&left);
}

Test(opener, P10_a_pidfd_is_its_own_leaders_proof_alone)
{
	struct child proven = start_tree(0, "echo 1; exec sleep 1000", IN_SESSION);
	struct child other = start_tree(1, "echo 1; exec sleep 1000", IN_SESSION);
	struct opener_request r[2] = { request_of(1, SIGKILL), request_of(0, SIGKILL) };

	cr_assert(told(&proven) && told(&other));
	r[0].leader = other.pid;
	r[1].leader = proven.pid;
	r[1].has_pidfd = true;
	if (!place_valgrind()) { /* which has no pidfds */
		cr_assert_eq(ask_bytes(r, sizeof(r), &proven.pidfd, 1), 2);
		cr_expect_eq(replies[0].count, 0);
		cr_expect_eq(replies[1].count, 1);
	}
	cr_expect(is_alive(other.pid));
	stop(&proven);
	stop(&other);
}

/* --- holders -----------------------------------------------------------------------------------
 */

static struct opener_request holders_request(const int *fds, uint32_t n)
{
	struct opener_request r = { .verb = OPENER_HOLDERS, .n_inodes = n };

	r.exclude[0] = getpid();
	for (uint32_t i = 0; i < n; i++) {
		struct stat st;

		cr_assert_eq(fstat(fds[i], &st), 0);
		r.inodes[i].device = st.st_dev;
		r.inodes[i].inode = st.st_ino;
	}
	return r;
}

Test(opener, P5_who_holds_a_pipe_is_named)
{
	struct child holder = start("echo 1; exec sleep 1000", 0);
	struct child other = start("echo 1; exec sleep 1000", 0);
	struct opener_request r = holders_request(&holder.out, 1);
	struct opener_reply reply;

	cr_assert(told(&holder) && told(&other));
	reply = ask(&r);
	cr_assert_eq(reply.error, 0);
	cr_assert_eq(reply.count, 1);
	cr_assert_eq(reply.n_pids, 1);
	cr_assert_eq(reply.pids[0], holder.pid);
	r.exclude[1] = holder.pid;
	cr_assert_eq(ask(&r).count, 0);
	stop(&holder);
	stop(&other);
}

Test(opener, P5_who_holds_a_file_is_named_by_device_and_inode)
{
	char path[] = "/tmp/redd-opener-XXXXXX", command[64];
	int fd = mkostemp(path, O_CLOEXEC);
	struct child holder, other;
	struct opener_request r = holders_request(&fd, 1);
	struct opener_reply reply;

	snprintf(command, sizeof(command), "exec 5<%s; echo 1; exec sleep 1000", path);
	holder = start(command, 0);
	other = start("exec 5</etc/passwd; echo 1; exec sleep 1000", 0);
	cr_assert(told(&holder) && told(&other));
	reply = ask(&r);
	cr_assert_eq(reply.n_pids, 1);
	cr_assert_eq(reply.pids[0], holder.pid);
	r.inodes[0].device++;
	cr_assert_eq(ask(&r).count, 0);
	stop(&holder);
	stop(&other);
	close(fd);
	unlink(path);
}

/* --- lies --------------------------------------------------------------------------------------
 */

Test(opener, P15_wrong_requests_are_refused_with_einval)
{
	struct opener_request r = tree_request(SIGKILL);

	r.verb = 77;
	cr_assert_eq(ask(&r).error, EINVAL);
	r = tree_request(65);
	cr_assert_eq(ask(&r).error, EINVAL);
	r = tree_request(-1);
	cr_assert_eq(ask(&r).error, EINVAL);
	r = tree_request(SIGKILL);
	memset(r.mark, 'x', sizeof(r.mark));
	cr_assert_eq(ask(&r).error, EINVAL);
	r = tree_request(SIGKILL);
	r.n_inodes = PORT_STREAMS_MAX + 1;
	cr_assert_eq(ask(&r).error, EINVAL);
	r = tree_request(SIGKILL);
	cr_assert_eq(ask_bytes(&r, sizeof(r) - 1, NULL, 0), 1);
	cr_assert_eq(replies[0].error, EINVAL);
}

static int refusal_of(const struct opener_request *requests, size_t n, const int *fds, size_t n_fds)
{
	cr_assert_eq(ask_bytes(requests, n * sizeof(*requests), fds, n_fds), 1);
	return replies[0].error;
}

Test(opener, P15_wrong_messages_are_refused_whole)
{
	struct child c = start("echo 1; exec sleep 1000", WITH_MARK | IN_SESSION);
	struct opener_request r[2] = { tree_request(SIGKILL), tree_request(SIGKILL) };
	const int fds[] = { 0, 1, 2 };

	cr_assert(told(&c));
	r[1].signal = SIGTERM;
	cr_expect_eq(refusal_of(r, 2, NULL, 0), EINVAL, "two signals");
	r[1] = (struct opener_request){ .verb = OPENER_HOLDERS, .signal = SIGKILL };
	cr_expect_eq(refusal_of(r, 2, NULL, 0), EINVAL, "two verbs");
	r[1] = tree_request(SIGKILL);
	r[1].n_inodes = PORT_STREAMS_MAX + 1;
	cr_expect_eq(refusal_of(r, 2, NULL, 0), EINVAL, "the second is wrong");
	r[1] = tree_request(SIGKILL);
	cr_expect_eq(refusal_of(r, 2, fds, 1), EINVAL, "a descriptor for nobody");
	r[0].has_pidfd = r[1].has_pidfd = true;
	cr_expect_eq(refusal_of(r, 2, fds, 1), EINVAL, "one is missing");
	cr_expect_eq(refusal_of(r, 2, fds, 3), EINVAL, "one too many");
	cr_expect(is_alive(c.pid));
	stop(&c);
}

Test(opener, an_empty_mark_and_no_leader_name_nobody)
{
	struct opener_request r = tree_request(SIGKILL);

	r.mark[0] = '\0';
	cr_assert_eq(ask(&r).count, 0);
}
