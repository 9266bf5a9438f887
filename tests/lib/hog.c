#include "tests/lib/hog.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int hog_processor(void)
{
	cpu_set_t set;
	int i = 0;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 0;
	while (i < CPU_SETSIZE - 1 && !CPU_ISSET(i, &set))
		i++;
	return i;
}

int hog_pin(pid_t pid, int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	return sched_setaffinity(pid, sizeof(set), &set);
}

pid_t hog_start(int processor)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsid();
	hog_pin(0, processor);
	for (;;)
		__asm__ volatile("");
}

void hog_stop(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
