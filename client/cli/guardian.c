/* Two ends of a pipe: we hold the one, the guardian waits at the other. A byte sends it home, the
 * end of file without one means that we are gone. It has a session of its own, so that no key and
 * no hangup of the terminal ends it, and no descriptor but the pipe and the terminal: whoever waits
 * for the end of our output does not wait for it.
 */
#include "client/cli/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIPE_NUMBER 3
#define TTY_NUMBER  4

/* Moves both to their numbers, and closes all others; false when it cannot. */
static bool place_descriptors(int fd, int tty)
{
	int high_fd = fcntl(fd, F_DUPFD, TTY_NUMBER + 1);
	int high_tty = fcntl(tty, F_DUPFD, TTY_NUMBER + 1);

	if (high_fd < 0 || high_tty < 0 || dup2(high_fd, PIPE_NUMBER) < 0 ||
	    dup2(high_tty, TTY_NUMBER) < 0)
		return false;
	for (int i = 0; i < PIPE_NUMBER; i++)
		close(i);
	if (syscall(SYS_close_range, TTY_NUMBER + 1, ~0u, 0) == 0)
		return true;
	for (int i = TTY_NUMBER + 1; i < (int)sysconf(_SC_OPEN_MAX); i++)
		close(i);
	return true;
}

/* Without waiting for output that nobody may ever read. */
static void guard(int fd, int tty, const struct termios *modes)
{
	sigset_t all;
	char byte;
	ssize_t n;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	prctl(PR_SET_NAME, "redd-guardian");
	if (!place_descriptors(fd, tty) || chdir("/") < 0)
		return;
	do
		n = read(PIPE_NUMBER, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		tcsetattr(TTY_NUMBER, TCSANOW, modes);
}

int guardian_start(struct guardian *g, int tty, const struct termios *modes)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(fds[1]);
		guard(fds[0], tty, modes);
		_exit(0);
	}
	close(fds[0]);
	if (pid < 0) {
		close(fds[1]);
		return -EAGAIN;
	}
	*g = (struct guardian){ .pid = pid, .fd = fds[1] };
	return 0;
}

void guardian_stop(struct guardian *g)
{
	pid_t pid = g->pid;

	if (!pid)
		return;
	g->pid = 0;
	/* Nothing can fail here that would not have ended it already. */
	if (write(g->fd, "", 1) < 0)
		kill(pid, SIGKILL);
	close(g->fd);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
