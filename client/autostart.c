/* The start of a broker on demand, as tmux does it.
 *
 * We fork twice: the child makes a session and ends, so that the broker is nobody's child here and
 * no terminal's, and our program never has a zombie. The grandchild executes the broker; an exec
 * that fails comes back over a pipe that exec closes. Between fork and exec only
 * async-signal-safe calls are made, since the program may have threads.
 *
 * Then we try to connect until it works, woken by changes of the directory (inotify), by the
 * broker's end (a pidfd), and at the latest every RETRY_MS. A broker that ends at once may have
 * lost a race against another start, so the socket gets LOSER_MS more to answer.
 */
#include "client/autostart.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/client.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

#ifndef REDD_BINDIR
#define REDD_BINDIR "/usr/local/bin"
#endif

#define IDLE_EXIT "300" /* seconds */
#define RETRY_MS  20
#define LOSER_MS  1000

/* What the grandchild says before it executes, and only then: its pid, and why it could not. */
struct report {
	pid_t pid;
	int error;
};

/* --- which program --------------------------------------------------------------------------- */

/* $REDD_BROKER, the one beside our own program, the installed one. */
static void broker_program(char out[PATH_MAX])
{
	const char *named = getenv("REDD_BROKER");
	ssize_t n;
	char *slash;

	if (named && *named) {
		snprintf(out, PATH_MAX, "%s", named);
		return;
	}
	n = readlink("/proc/self/exe", out, PATH_MAX - 1);
	if (n > 0) {
		out[n] = '\0';
		slash = strrchr(out, '/');
		if (slash && slash + sizeof("/redd-broker") < out + PATH_MAX) {
			strcpy(slash, "/redd-broker");
			if (!access(out, X_OK))
				return;
		}
	}
	snprintf(out, PATH_MAX, "%s/redd-broker", REDD_BINDIR);
}

/* --- the grandchild -------------------------------------------------------------------------- */

/* Default dispositions and an empty mask: what was ignored in our program must not be in the
 * service. */
static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s <= SIGRTMAX; s++)
		sigaction(s, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Descriptor `report` becomes 3, the null device 0 to 2, all others are closed. */
static int arrange_descriptors(int report)
{
	int null;

	if (report != 3 && dup3(report, 3, O_CLOEXEC) < 0)
		return -errno;
	null = open("/dev/null", O_RDWR);
	if (null < 0)
		return -errno;
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(null, fd) < 0)
			return -errno;
	}
	if (syscall(SYS_close_range, 4u, ~0u, 0u) < 0) {
		for (int fd = (int)sysconf(_SC_OPEN_MAX) - 1; fd > 3; fd--)
			close(fd); /* before kernel 5.9 */
	}
	return 0;
}

/* Writes are of a few bytes into an empty pipe: whole or not at all. */
static void tell(int fd, int error)
{
	struct report report = { getpid(), error };

	if (write(fd, &report, sizeof(report)) != sizeof(report))
		_exit(125); /* nobody is there to be told */
}

static _Noreturn void run_broker(int report, const char *program, const char *path)
{
	const char *argv[] = { "redd-broker", "--socket", path, "--idle-exit", IDLE_EXIT, NULL };
	int error = arrange_descriptors(report);

	if (!error) {
		reset_signals();
		tell(3, 0);
		/* A service keeps no directory busy; a relative REDD_BROKER means ours. */
		if (program[0] == '/' && chdir("/") < 0)
			_exit(125);
		execv(program, (char *const *)argv);
		error = -errno;
		report = 3;
	}
	tell(report, -error);
	_exit(125);
}

static int fork_twice(int report, const char *program, const char *path)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return err_errno();
	if (pid == 0) {
		if (setsid() < 0)
			_exit(errno);
		pid = fork();
		if (pid < 0)
			_exit(errno);
		if (pid == 0)
			run_broker(report, program, path);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return 0; /* ECHILD: the program has its children reaped by the system */
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

/* The broker, nobody's child here. */
struct started {
	pid_t pid;
	int pidfd; /* -1: this system has none */
};

static void started_deinit(struct started *s)
{
	s->pidfd = fd_close(s->pidfd);
}

static int broker_spawn(const char *program, const char *path, struct started *ret)
{
	_cleanup_(fd_closep) int read_end = -1, write_end = -1;
	struct report report;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno();
	read_end = fds[0];
	write_end = fds[1];
	r = fork_twice(write_end, program, path);
	if (r < 0)
		return err_pass(r);
	write_end = fd_close(write_end);
	for (;;) {
		ssize_t n = read(read_end, &report, sizeof(report));

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(report))
			return 0; /* executed */
		if (report.error)
			return -report.error;
		ret->pid = report.pid;
		ret->pidfd = (int)syscall(SYS_pidfd_open, report.pid, 0);
	}
}

/* --- waiting for it -------------------------------------------------------------------------- */

static int watch_directory(const char *path)
{
	char directory[PATH_MAX];
	char *slash;
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0)
		return -1; /* then the retries alone must do */
	snprintf(directory, sizeof(directory), "%s", path);
	slash = strrchr(directory, '/');
	if (slash)
		*slash = '\0';
	inotify_add_watch(fd, slash ? directory : ".", IN_CREATE | IN_MOVED_TO | IN_ATTRIB);
	return fd;
}

static void drain(int fd)
{
	char buf[4096];

	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		;
}

/* Sleeps until something happened that makes another try worth while. True when the broker has
 * ended; s is NULL when that is known already. */
static bool wait_for_change(int changes, const struct started *s, int64_t deadline_ms)
{
	struct pollfd fds[] = { { .fd = changes, .events = POLLIN },
				{ .fd = s ? s->pidfd : -1, .events = POLLIN } };
	int left = clock_left(deadline_ms);

	poll(fds, ARRAY_SIZE(fds), left < RETRY_MS ? left : RETRY_MS);
	drain(changes);
	return s && (s->pidfd < 0 ? kill(s->pid, 0) < 0 : fds[1].revents != 0);
}

static int connect_when_ready(const struct place *p, int changes, const struct started *s,
			      int64_t deadline_ms, int *ret_fd, struct failure *failure)
{
	bool ended = false;

	for (;;) {
		int left = clock_left(deadline_ms);
		int r = place_connect(p, (uint32_t)left, ret_fd, failure);

		if (r != -ENOENT && r != -ECONNREFUSED)
			return r;
		if (left == 0)
			return ended ? -ECHILD : -ETIMEDOUT;
		if (wait_for_change(changes, ended ? NULL : s, deadline_ms)) {
			ended = true;
			if (deadline_ms > clock_ms() + LOSER_MS)
				deadline_ms = clock_ms() + LOSER_MS;
		}
	}
}

int autostart_broker(const struct place *p, int64_t deadline_ms, int *ret_fd,
		     struct failure *failure)
{
	_cleanup_(started_deinit) struct started s = { .pidfd = -1 };
	_cleanup_(fd_closep) int changes = -1;
	char program[PATH_MAX];
	int r = place_make(p, failure);

	if (r < 0)
		return r;
	broker_program(program);
	changes = watch_directory(p->path);
	r = broker_spawn(program, p->path, &s);
	if (r < 0)
		return failure_set(failure, r,
				   "%s cannot be started: %s; install it, or set REDD_BROKER",
				   program, err_name(r));
	r = connect_when_ready(p, changes, &s, deadline_ms, ret_fd, failure);
	if (r == -ECHILD)
		return failure_set(failure, -ECONNREFUSED,
				   "the broker ended at once; run '%s --socket %s' to see why",
				   program, p->path);
	if (r == -ETIMEDOUT)
		return failure_set(failure, r,
				   "the broker was started but does not answer; run '%s --socket "
				   "%s' to see why",
				   program, p->path);
	return r;
}
