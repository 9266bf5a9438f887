/* Signals all that a port's leader became. A process is a member when it
 *
 *	is the leader itself (its number with its start time, or with its pidfd as descriptor 3),
 *	has a member for parent,
 *	carries the port's mark in the environment it was started with, or
 *	is in the leader's session, as long as that number is known to mean this session still: the
 *	leader is there, or a process with the mark is in it.
 *
 * Each is held by a pidfd and looked at again after that was opened (same start time), so no signal
 * ever goes to another process that got the number meanwhile. Passes over /proc are repeated until
 * one finds nobody new, as members may fork meanwhile. For SIGKILL all are stopped first in this
 * way: what stands still neither forks nor leaves children without a parent to be found by.
 *
 * What a pass costs is the files that it reads, so a process is read once, in the first pass that
 * sees it: nobody becomes a member later. The environment is only read of those that are not older
 * than the leader.
 *
 * Bounds: members, passes, time. Members beyond the table are not seen: error is E2BIG then.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "helper/opener.h"
#include "helper/proc.h"
#include "helper/raw.h"
#include "proto/base/cleanup.h"

#define LEADER_PIDFD  3
#define PROCESSES_MAX 65536u /* seen in one pass */
#define MEMBERS_MAX   16384u
#define PASSES_MAX    64
#define TIME_MAX_MS   1000 /* for the passes */
#define SURVIVE_MS    500  /* that SIGKILL may take to be seen */

struct process {
	pid_t pid, parent, session;
	uint64_t start_ticks;
	bool is_member, is_marked;
};

struct member {
	pid_t pid;
	uint64_t start_ticks;
	int pidfd; /* -1: none was to be had */
};

/* One opener serves one request, so this is the one tree of the process. */
static struct tree {
	const struct opener_request *request;
	struct opener_reply *reply;
	uint64_t leader_start; /* 0: not known */
	size_t n_processes, n_members;
	size_t n_sorted; /* of the processes: seen by earlier passes, by pid */
	bool has_overflown;
	struct process processes[PROCESSES_MAX];
	struct member members[MEMBERS_MAX];
} tree;

/* --- one look at all processes -----------------------------------------------------------------
 */

static bool is_leader(const struct tree *t, const struct process *p)
{
	return p->pid == t->request->leader && t->leader_start && p->start_ticks == t->leader_start;
}

static uint64_t find_leader_start(const struct opener_request *r)
{
	struct proc_stat stat;

	if (r->start_ticks || !r->leader)
		return r->start_ticks;
	/* Asked behind the look at the number, it says that this was the process still. */
	if (proc_stat_read(r->leader, &stat) < 0 || proc_of_pidfd(LEADER_PIDFD) != r->leader)
		return 0;
	return stat.start_ticks;
}

static int by_pid(const void *a, const void *b)
{
	const struct process *p = a, *q = b;

	return (p->pid > q->pid) - (p->pid < q->pid);
}

static const struct process *find(const struct tree *t, pid_t pid, size_t n)
{
	struct process key = { .pid = pid };

	return bsearch(&key, t->processes, n, sizeof(key), by_pid);
}

static bool each_process(pid_t pid, void *context)
{
	struct tree *t = context;
	struct process *p = &t->processes[t->n_processes];
	struct proc_stat stat;

	if (opener_is_excluded(t->request, pid) || find(t, pid, t->n_sorted) ||
	    proc_stat_read(pid, &stat) < 0)
		return true;
	if (t->n_processes == PROCESSES_MAX) {
		t->has_overflown = true;
		return false;
	}
	*p = (struct process){ .pid = pid,
			       .parent = stat.parent,
			       .session = stat.session,
			       .start_ticks = stat.start_ticks };
	p->is_marked =
		stat.start_ticks >= t->leader_start && proc_has_environment(pid, t->request->mark);
	p->is_member = p->is_marked || is_leader(t, p);
	t->n_processes++;
	return true;
}

static bool session_is_known(const struct tree *t)
{
	for (size_t i = 0; i < t->n_processes; i++) {
		const struct process *p = &t->processes[i];

		if (is_leader(t, p) || (p->is_marked && p->session == t->request->leader))
			return true;
	}
	return false;
}

static bool has_member_parent(const struct tree *t, const struct process *p)
{
	const struct process *parent = find(t, p->parent, t->n_processes);

	return parent && parent->is_member;
}

/* Children of members are members, until there are no more of them. */
static void close_ancestry(struct tree *t)
{
	bool is_changed = true;

	while (is_changed) {
		is_changed = false;
		for (size_t i = 0; i < t->n_processes; i++) {
			struct process *p = &t->processes[i];

			if (p->is_member || !has_member_parent(t, p))
				continue;
			p->is_member = is_changed = true;
		}
	}
}

static void look(struct tree *t)
{
	int r = proc_each(each_process, t);

	if (r < 0)
		t->reply->error = -r;
	qsort(t->processes, t->n_processes, sizeof(t->processes[0]), by_pid);
	t->n_sorted = t->n_processes;
	if (t->request->leader && session_is_known(t))
		for (size_t i = 0; i < t->n_processes; i++)
			t->processes[i].is_member |= t->processes[i].session == t->request->leader;
	close_ancestry(t);
}

/* --- members -----------------------------------------------------------------------------------
 */

static bool is_known(const struct tree *t, const struct process *p)
{
	for (size_t i = 0; i < t->n_members; i++)
		if (t->members[i].pid == p->pid && t->members[i].start_ticks == p->start_ticks)
			return true;
	return false;
}

static bool is_same(pid_t pid, uint64_t start_ticks)
{
	struct proc_stat stat;

	return proc_stat_read(pid, &stat) == 0 && stat.start_ticks == start_ticks;
}

/* 0 or an errno; somebody who is gone is no error. Only where there are no pidfds at all (valgrind)
 * the number is used, right after it was seen to be the same process still. */
static int signal_member(const struct member *m, int signal)
{
	long r = m->pidfd;

	if (r >= 0)
		r = raw(SYS_pidfd_send_signal, m->pidfd, signal, NULL, 0);
	if (r == -ENOSYS && is_same(m->pid, m->start_ticks))
		r = raw(SYS_kill, m->pid, signal);
	return r == -ESRCH ? 0 : (int)-r;
}

/* True when it is a new member. Without a pidfd it is named, but not signalled. */
static bool member_add(struct tree *t, const struct process *p)
{
	struct member *m = &t->members[t->n_members];

	if (is_known(t, p))
		return false;
	if (t->n_members == MEMBERS_MAX) {
		t->has_overflown = true;
		return false;
	}
	*m = (struct member){ p->pid, p->start_ticks, (int)raw(SYS_pidfd_open, p->pid, 0) };
	if (!is_same(p->pid, p->start_ticks)) {
		raw(SYS_close, m->pidfd); /* gone meanwhile */
		return false;
	}
	t->n_members++;
	return true;
}

static void signal_from(struct tree *t, size_t first, int signal)
{
	for (size_t i = first; i < t->n_members; i++) {
		const struct member *m = &t->members[i];
		int error = signal_member(m, signal);

		if (error && !t->reply->error)
			t->reply->error = error;
	}
}

/* One pass. True when it found somebody new. */
static bool pass(struct tree *t, int signal)
{
	size_t before = t->n_members;

	look(t);
	for (size_t i = 0; i < t->n_processes; i++)
		if (t->processes[i].is_member)
			member_add(t, &t->processes[i]);
	signal_from(t, before, signal);
	return t->n_members > before;
}

/* --- survivors ---------------------------------------------------------------------------------
 */

static bool is_zombie(pid_t pid)
{
	struct proc_stat stat;

	return proc_stat_read(pid, &stat) == 0 && (stat.state == 'Z' || stat.state == 'X');
}

static bool is_dead(const struct member *m)
{
	struct pollfd p = { .fd = m->pidfd, .events = POLLIN };

	if (m->pidfd < 0)
		return !is_same(m->pid, m->start_ticks) || is_zombie(m->pid);
	return poll(&p, 1, 0) > 0;
}

static void wait_dead(const struct member *m, int64_t until_ms)
{
	struct pollfd p = { .fd = m->pidfd, .events = POLLIN };
	int64_t left = until_ms - opener_now_ms();

	if (m->pidfd >= 0 && left > 0)
		poll(&p, 1, (int)left);
	while (m->pidfd < 0 && !is_dead(m) && opener_now_ms() < until_ms)
		poll(NULL, 0, 5);
}

static void name_survivors(struct tree *t)
{
	int64_t until_ms = opener_now_ms() + SURVIVE_MS;

	for (size_t i = 0; i < t->n_members; i++)
		wait_dead(&t->members[i], until_ms);
	for (size_t i = 0; i < t->n_members; i++)
		if (!is_dead(&t->members[i]) && t->reply->n_pids < SCAN_SURVIVORS_MAX)
			t->reply->pids[t->reply->n_pids++] = t->members[i].pid;
}

static void pass_until_nobody_is_new(struct tree *t, int signal, int64_t until_ms)
{
	for (int i = 0; i < PASSES_MAX && pass(t, signal) && opener_now_ms() < until_ms; i++)
		;
}

void opener_tree(const struct opener_request *request, struct opener_reply *ret)
{
	int64_t until_ms = opener_now_ms() + TIME_MAX_MS;
	struct tree *t = &tree;

	t->request = request;
	t->reply = ret;
	t->leader_start = find_leader_start(request);
	pass_until_nobody_is_new(t, request->signal == SIGKILL ? SIGSTOP : request->signal,
				 until_ms);
	if (request->signal == SIGKILL) {
		signal_from(t, 0, SIGKILL);
		pass_until_nobody_is_new(t, SIGKILL, until_ms);
		name_survivors(t);
	}
	ret->count = (uint32_t)t->n_members;
	if (t->has_overflown && !ret->error)
		ret->error = E2BIG;
}
