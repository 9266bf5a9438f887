#include "helper/reap.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "helper/proc.h"
#include "helper/raw.h"

#define PF_FORKNOEXEC 0x40u

int64_t reap_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* waitid(2) with the kernel's fifth argument, which libc leaves out. */
static int wait_for(idtype_t type, pid_t pid, int options, siginfo_t *info, struct rusage *usage)
{
	long r;

	info->si_pid = 0;
	do
		r = raw(SYS_waitid, type, pid, info, options | WEXITED | WNOHANG, usage);
	while (r == -EINTR);
	if (r < 0)
		return REAP_E_NONE;
	return info->si_pid ? 0 : REAP_E_ALIVE;
}

/* As wait(2) would have given it. */
static int status_of(const siginfo_t *info)
{
	if (info->si_code == CLD_EXITED)
		return (info->si_status & 0xff) << 8;
	return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

static uint64_t microseconds(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec;
}

static void record(struct link_exited *out, const siginfo_t *info, const struct rusage *u)
{
	out->pid = info->si_pid;
	out->status = status_of(info);
	out->end_ns = reap_now_ns();
	out->user_us = microseconds(&u->ru_utime);
	out->system_us = microseconds(&u->ru_stime);
	out->max_rss = (uint64_t)u->ru_maxrss * 1024;
	out->minor_faults = (uint64_t)u->ru_minflt;
	out->major_faults = (uint64_t)u->ru_majflt;
	out->voluntary_switches = (uint64_t)u->ru_nvcsw;
	out->involuntary_switches = (uint64_t)u->ru_nivcsw;
	out->blocks_in = (uint64_t)u->ru_inblock;
	out->blocks_out = (uint64_t)u->ru_oublock;
}

int reap_look(pid_t pid, struct link_exited *ret)
{
	struct rusage usage = { 0 };
	siginfo_t info = { 0 };
	int r = wait_for(P_PID, pid, WNOWAIT, &info, &usage);

	if (!r)
		record(ret, &info, &usage);
	return r;
}

bool reap_never_executed(pid_t pid)
{
	struct proc_stat stat;

	return proc_stat_read(pid, &stat) == 0 && (stat.flags & PF_FORKNOEXEC);
}

int reap_release(pid_t pid)
{
	siginfo_t info = { 0 };

	return wait_for(P_PID, pid, 0, &info, NULL);
}

int reap_look_any(pid_t *ret_pid)
{
	siginfo_t info = { 0 };
	int r = wait_for(P_ALL, 0, WNOWAIT, &info, NULL);

	if (!r)
		*ret_pid = info.si_pid;
	return r;
}
