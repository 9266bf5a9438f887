/* Owns one strace. That it is attached is known by the line it prints then; only calls that are
 * injected stop the traced process (--seccomp-bpf is of no use for one that runs already). */
#include "tests/lib/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/places.h"

#define ATTACH_MS 10000

static void strace_exec(pid_t pid, const char *what, int report)
{
	char process[16], order[256], trace[256];

	snprintf(process, sizeof(process), "%d", (int)pid);
	snprintf(order, sizeof(order), "inject=%s", what);
	snprintf(trace, sizeof(trace), "trace=%.*s", (int)strcspn(what, ":"), what);
	dup2(report, STDERR_FILENO);
	execlp("strace", "strace", "-f", "-o", "/dev/null", "-e", trace, "-e", order, "-p", process,
	       (char *)NULL);
	fprintf(stderr, "strace: %s\n", strerror(errno));
	_exit(127);
}

static int attached_wait(int report)
{
	struct pollfd fd = { report, POLLIN, 0 };
	char text[4096];
	size_t size = 0;

	while (size < sizeof(text) - 1 && poll(&fd, 1, place_patience_ms(ATTACH_MS)) == 1) {
		ssize_t n = read(report, text + size, sizeof(text) - 1 - size);

		if (n <= 0)
			break;
		size += (size_t)n;
		text[size] = '\0';
		if (strstr(text, "attached"))
			return 0;
	}
	text[size] = '\0';
	fprintf(stderr, "inject: strace did not attach: %s\n", text);
	return -1;
}

int inject_start(struct inject *i, pid_t pid, const char *what)
{
	int report[2];

	*i = (struct inject){ -1, -1 };
	if (pipe2(report, O_CLOEXEC) < 0)
		return -1;
	i->strace = fork();
	if (i->strace == 0)
		strace_exec(pid, what, report[1]);
	close(report[1]);
	i->report = report[0];
	if (i->strace > 0 && attached_wait(report[0]) == 0)
		return 0;
	inject_stop(i);
	return -1;
}

int inject_stop(struct inject *i)
{
	int status = -1;

	if (i->strace > 0) {
		kill(i->strace, SIGINT);
		waitpid(i->strace, &status, 0);
	}
	if (i->report >= 0)
		close(i->report);
	*i = (struct inject){ -1, -1 };
	/* strace ends by the signal that it was sent, or with 130. */
	return status == -1 ? -1 : 0;
}
