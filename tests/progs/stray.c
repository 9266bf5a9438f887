/* stray [COUNT [keep] [stay]]: starts COUNT (1) descendants, each forked twice and in a session of
 * its own, as daemons are, and prints their process ids, one a line. With "keep" they keep stdout
 * and stderr, else they close them. Then it leaves with 0, or stays with "stay". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int has_word(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], word))
			return 1;
	return 0;
}

static void daemon_run(int report, int keep)
{
	pid_t pid = getpid();

	if (write(report, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
	close(report);
	if (!keep) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
	}
	for (;;)
		pause();
}

static pid_t daemon_start(int keep)
{
	int report[2];
	pid_t pid = -1, child;

	if (pipe(report) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		setsid();
		if (fork() == 0) {
			close(report[0]);
			daemon_run(report[1], keep);
		}
		_exit(0);
	}
	close(report[1]);
	waitpid(child, NULL, 0);
	if (read(report[0], &pid, sizeof(pid)) != sizeof(pid))
		pid = -1;
	close(report[0]);
	return pid;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;

	for (int i = 0; i < count; i++)
		printf("%d\n", (int)daemon_start(has_word(argc, argv, "keep")));
	fflush(stdout);
	while (has_word(argc, argv, "stay"))
		pause();
	return 0;
}
