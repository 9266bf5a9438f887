/* The child runs on a stack of its own in our memory until its exec; it does nothing but dup2 and
 * execve. The stack belongs to the struct and is free again when the child has executed, for which
 * its end is proof enough. */
#include "tests/lib/rawspawn.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_SIZE 32768
#define ARGS_MAX   7

extern char **environ;

struct plan {
	int in, out, err;
	char *argv[ARGS_MAX + 1];
};

static int child_main(void *user)
{
	const struct plan *plan = user;

	dup2(plan->in, 0);
	dup2(plan->out, 1);
	dup2(plan->err, 2);
	execve(plan->argv[0], plan->argv, environ);
	_exit(127);
}

static void close_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_ours(struct rawspawn *p)
{
	close_open(&p->in);
	close_open(&p->out);
	close_open(&p->err);
	close_open(&p->pidfd);
}

int rawspawn(struct rawspawn *p, char *const *argv, bool async)
{
	int flags = CLONE_VM | CLONE_PIDFD | SIGCHLD | (async ? 0 : CLONE_VFORK);
	int in[2], out[2], err[2];
	struct plan *plan;

	if (!p->stack)
		p->stack = malloc(STACK_SIZE);
	if (!p->stack || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
	    pipe2(err, O_CLOEXEC) < 0)
		return -1;
	/* At the bottom of the child's own stack, so that it lives as long as the child needs it.
	 */
	plan = p->stack;
	*plan = (struct plan){ in[0], out[1], err[1], { NULL } };
	for (int i = 0; i < ARGS_MAX && argv[i]; i++)
		plan->argv[i] = argv[i];
	p->in = in[1];
	p->out = out[0];
	p->err = err[0];
	p->pid = clone(child_main, (char *)p->stack + STACK_SIZE, flags, plan, &p->pidfd);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	if (p->pid < 0)
		close_ours(p);
	return p->pid < 0 ? -1 : 0;
}

int rawspawn_end(struct rawspawn *p)
{
	siginfo_t info = { 0 };
	int r;

	close_open(&p->in);
	r = waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED);
	close_ours(p);
	if (r < 0)
		return -1;
	return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}
