/* Signals all that the leaders of some ports became. A process is a member of a port's tree when it
 *
 *	is the leader itself (its number with its start time, or with its pidfd),
 *	has a member for parent,
 *	carries the port's mark in the environment it was started with, or
 *	is in the leader's session, as long as that number is known to mean this session still: the
 *	leader is there, or a process with the mark is in it.
 *
 * Each is held by a pidfd and looked at again after that was opened (same start time), so no signal
 * ever goes to another process that got the number meanwhile. Where there are more members than
 * descriptors, which are needed for reading /proc, too, this is done anew for each signal. Passes
 * over /proc are repeated until one finds nobody new, as members may fork meanwhile. For SIGKILL
 *all are stopped first in this way: what stands still neither forks nor leaves children without a
 * parent to be found by.
 *
 * What a pass costs is the files that it reads, so a process is read once, in the first pass that
 * sees it: nobody becomes a member later. The environment is only read of those that are not older
 * than the oldest leader. It cannot be read for a moment in the middle of an execve(2), so the pass
 * waits for who is there.
 *
 * Bounds, for all trees together: members, passes, time. Members beyond the table are not seen:
 * error is E2BIG then.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "helper/opener.h"
#include "helper/proc.h"
#include "helper/raw.h"
#include "proto/base/cleanup.h"

#define PF_KTHREAD    0x00200000u /* of the flags in proc_pid_stat(5) */
#define PROCESSES_MAX 65536u	  /* seen in one pass */
#define MEMBERS_MAX   16384u
#define PASSES_MAX    64
#define TIME_MAX_MS   1000 /* for the passes */
#define SURVIVE_MS    500  /* that SIGKILL may take to be seen */
#define BETWEEN_MS    50   /* that all who are amid an execve(2) are waited for, in one pass */
#define SPARE_FDS     8u   /* of our descriptors, that no member takes */

struct tree {
	const struct opener_request *request;
	struct opener_reply *reply;
	uint64_t leader_start;	 /* 0: not known */
	bool is_session_its_own; /* the leader's number means this session still */
};

struct process {
	pid_t pid, parent, session;
	uint64_t start_ticks;
	struct tree *tree; /* whose member it is, or NULL */
	bool is_marked, is_taken;
	bool is_between; /* programs: its environment is still to be read */
};

struct member {
	pid_t pid;
	uint64_t start_ticks;
	struct tree *tree;
	int pidfd; /* -EMFILE: opened for each use; other negative ones: none is to be had */
};

/* One opener serves one message, so these are all trees of the process. */
static struct forest {
	struct tree trees[OPENER_REQUESTS_MAX];
	size_t n_trees;
	int signal;
	rlim_t fds_end;	 /* members' pidfds are below */
	uint64_t oldest; /* start of the first leader; 0: of some it is not known */
	size_t n_processes, n_members;
	size_t n_sorted;      /* of the processes: seen by earlier passes, by pid */
	struct process *read; /* whose environment is being read */
	bool has_overflown;
	struct process processes[PROCESSES_MAX];
	struct member members[MEMBERS_MAX];
} forest;

static void fail_all(struct forest *f, int error)
{
	for (size_t i = 0; i < f->n_trees; i++)
		if (!f->trees[i].reply->error)
			f->trees[i].reply->error = error;
}

/* --- the trees ---------------------------------------------------------------------------------
 */

static uint64_t find_leader_start(const struct opener_request *r, int pidfd)
{
	struct proc_stat stat;

	if (r->start_ticks || !r->leader)
		return r->start_ticks;
	/* Asked behind the look at the number, it says that this was the process still. */
	if (pidfd < 0 || proc_stat_read(r->leader, &stat) < 0 || proc_of_pidfd(pidfd) != r->leader)
		return 0;
	return stat.start_ticks;
}

static rlim_t find_fds_end(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	return limit.rlim_cur > SPARE_FDS ? limit.rlim_cur - SPARE_FDS : 0;
}

static void plant(struct forest *f, const struct opener_request *requests, size_t n,
		  const int *pidfds, struct opener_reply *replies)
{
	f->n_trees = n;
	f->signal = requests[0].signal;
	f->fds_end = find_fds_end();
	f->oldest = UINT64_MAX;
	for (size_t i = 0; i < n; i++) {
		uint64_t start = find_leader_start(&requests[i], pidfds[i]);

		f->trees[i] = (struct tree){ &requests[i], &replies[i], start, false };
		f->oldest = MIN(f->oldest, start);
	}
}

/* --- one look at all processes -----------------------------------------------------------------
 */

static bool is_leader(const struct tree *t, const struct process *p)
{
	return p->pid == t->request->leader && t->leader_start && p->start_ticks == t->leader_start;
}

static struct tree *tree_led_by(struct forest *f, const struct process *p)
{
	for (size_t i = 0; i < f->n_trees; i++)
		if (is_leader(&f->trees[i], p))
			return &f->trees[i];
	return NULL;
}

static struct tree *tree_of_session(struct forest *f, pid_t session)
{
	for (size_t i = 0; i < f->n_trees; i++)
		if (f->trees[i].is_session_its_own && f->trees[i].request->leader == session)
			return &f->trees[i];
	return NULL;
}

static int by_pid(const void *a, const void *b)
{
	const struct process *p = a, *q = b;

	return (p->pid > q->pid) - (p->pid < q->pid);
}

static struct process *find(struct forest *f, pid_t pid, size_t n)
{
	struct process key = { .pid = pid };

	return bsearch(&key, f->processes, n, sizeof(key), by_pid);
}

/* One entry of the environment of the process that is being read. */
static bool each_entry(const char *entry, void *context)
{
	struct forest *f = context;
	struct process *p = f->read;

	if (strncmp(entry, OPENER_MARK, strlen(OPENER_MARK)) != 0)
		return false;
	for (size_t i = 0; i < f->n_trees && !p->is_marked; i++) {
		struct tree *t = &f->trees[i];

		p->is_marked =
			p->start_ticks >= t->leader_start && strcmp(entry, t->request->mark) == 0;
		p->tree = p->is_marked ? t : NULL;
	}
	return p->is_marked;
}

static bool runs_a_program(const struct proc_stat *stat)
{
	return stat->state != 'Z' && stat->state != 'X' && !(stat->flags & PF_KTHREAD);
}

static void read_mark(struct forest *f, struct process *p, const struct proc_stat *stat)
{
	f->read = p;
	p->is_between = p->start_ticks >= f->oldest && runs_a_program(stat) &&
			proc_find_environment(p->pid, each_entry, f) == -EAGAIN;
}

static bool each_process(pid_t pid, void *context)
{
	struct forest *f = context;
	struct process *p = &f->processes[f->n_processes];
	struct proc_stat stat;
	struct tree *led;

	if (opener_is_excluded(f->trees[0].request, pid) || find(f, pid, f->n_sorted) ||
	    proc_stat_read(pid, &stat) < 0)
		return true;
	if (f->n_processes == PROCESSES_MAX) {
		f->has_overflown = true;
		return false;
	}
	*p = (struct process){ .pid = pid,
			       .parent = stat.parent,
			       .session = stat.session,
			       .start_ticks = stat.start_ticks };
	read_mark(f, p, &stat);
	led = tree_led_by(f, p);
	if (led)
		p->tree = led;
	f->n_processes++;
	return true;
}

static void look_at_sessions(struct forest *f)
{
	for (size_t i = 0; i < f->n_processes; i++) {
		const struct process *p = &f->processes[i];

		if (p->tree && (is_leader(p->tree, p) ||
				(p->is_marked && p->session == p->tree->request->leader)))
			p->tree->is_session_its_own = true;
	}
	for (size_t i = 0; i < f->n_processes; i++) {
		struct process *p = &f->processes[i];

		if (!p->tree && p->session)
			p->tree = tree_of_session(f, p->session);
	}
}

/* Children of members are members, until there are no more of them. */
static void close_ancestry(struct forest *f)
{
	bool is_changed = true;

	while (is_changed) {
		is_changed = false;
		for (size_t i = 0; i < f->n_processes; i++) {
			struct process *p = &f->processes[i];
			const struct process *parent =
				p->tree ? NULL : find(f, p->parent, f->n_processes);

			if (!parent || !parent->tree)
				continue;
			p->tree = parent->tree;
			is_changed = true;
		}
	}
}

/* One look at all who are. True while there are some. */
static bool read_those_between(struct forest *f)
{
	struct proc_stat stat;
	bool any = false;

	for (size_t i = f->n_sorted; i < f->n_processes; i++) {
		struct process *p = &f->processes[i];

		if (!p->is_between || p->tree)
			continue;
		if (proc_stat_read(p->pid, &stat) < 0 || stat.start_ticks != p->start_ticks)
			p->is_between = false; /* gone meanwhile */
		else
			read_mark(f, p, &stat);
		any |= p->is_between;
	}
	return any;
}

static void look(struct forest *f)
{
	int r = proc_each(each_process, f);

	if (r < 0)
		fail_all(f, -r);
	for (int i = 0; i < BETWEEN_MS && read_those_between(f); i++)
		poll(NULL, 0, 1);
	qsort(f->processes, f->n_processes, sizeof(f->processes[0]), by_pid);
	f->n_sorted = f->n_processes;
	look_at_sessions(f);
	close_ancestry(f);
}

/* --- members -----------------------------------------------------------------------------------
 */

static bool is_same(pid_t pid, uint64_t start_ticks)
{
	struct proc_stat stat;

	return proc_stat_read(pid, &stat) == 0 && stat.start_ticks == start_ticks;
}

/* 0 or a negative errno: -ESRCH when it is another process by now. */
static long signal_by_new_pidfd(const struct member *m, int signal)
{
	long pidfd = raw(SYS_pidfd_open, m->pid, 0), r = pidfd;

	if (pidfd < 0)
		return r;
	r = is_same(m->pid, m->start_ticks) ? raw(SYS_pidfd_send_signal, pidfd, signal, NULL, 0)
					    : -ESRCH;
	raw(SYS_close, pidfd);
	return r;
}

/* 0 or an errno; somebody who is gone is no error. Only where there are no pidfds at all (valgrind)
 * the number is used, right after it was seen to be the same process still. */
static int signal_member(const struct member *m, int signal)
{
	long r = m->pidfd;

	if (r >= 0)
		r = raw(SYS_pidfd_send_signal, m->pidfd, signal, NULL, 0);
	else if (r == -EMFILE)
		r = signal_by_new_pidfd(m, signal);
	if (r == -ENOSYS && is_same(m->pid, m->start_ticks))
		r = raw(SYS_kill, m->pid, signal);
	return r == -ESRCH ? 0 : (int)-r;
}

/* Its pidfd, to be kept, or a negative errno. */
static int pidfd_to_keep(const struct forest *f, pid_t pid)
{
	int pidfd = (int)raw(SYS_pidfd_open, pid, 0);

	if (pidfd < 0 || (rlim_t)pidfd < f->fds_end)
		return pidfd;
	raw(SYS_close, pidfd);
	return -EMFILE;
}

/* Without a pidfd it is named, but not signalled. */
static void member_add(struct forest *f, struct process *p)
{
	struct member *m = &f->members[f->n_members];

	if (p->is_taken)
		return;
	if (f->n_members == MEMBERS_MAX) {
		f->has_overflown = true;
		return;
	}
	p->is_taken = true;
	*m = (struct member){ p->pid, p->start_ticks, p->tree, pidfd_to_keep(f, p->pid) };
	if (!is_same(p->pid, p->start_ticks)) {
		raw(SYS_close, m->pidfd); /* gone meanwhile */
		return;
	}
	p->tree->reply->count++;
	f->n_members++;
}

static void signal_from(struct forest *f, size_t first, int signal)
{
	for (size_t i = first; i < f->n_members; i++) {
		const struct member *m = &f->members[i];
		int error = signal_member(m, signal);

		if (error && !m->tree->reply->error)
			m->tree->reply->error = error;
	}
}

/* One pass. True when it found somebody new. */
static bool pass(struct forest *f, int signal)
{
	size_t before = f->n_members;

	look(f);
	for (size_t i = 0; i < f->n_processes; i++)
		if (f->processes[i].tree)
			member_add(f, &f->processes[i]);
	signal_from(f, before, signal);
	return f->n_members > before;
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

static void name_survivors(struct forest *f)
{
	int64_t until_ms = opener_now_ms() + SURVIVE_MS;

	for (size_t i = 0; i < f->n_members; i++)
		wait_dead(&f->members[i], until_ms);
	for (size_t i = 0; i < f->n_members; i++) {
		const struct member *m = &f->members[i];
		struct opener_reply *reply = m->tree->reply;

		if (!is_dead(m) && reply->n_pids < SCAN_SURVIVORS_MAX)
			reply->pids[reply->n_pids++] = m->pid;
	}
}

static void pass_until_nobody_is_new(struct forest *f, int signal, int64_t until_ms)
{
	for (int i = 0; i < PASSES_MAX && pass(f, signal) && opener_now_ms() < until_ms; i++)
		;
}

void opener_trees(const struct opener_request *requests, size_t n, const int *pidfds,
		  struct opener_reply *ret)
{
	int64_t until_ms = opener_now_ms() + TIME_MAX_MS;
	struct forest *f = &forest;

	plant(f, requests, n, pidfds, ret);
	pass_until_nobody_is_new(f, f->signal == SIGKILL ? SIGSTOP : f->signal, until_ms);
	if (f->signal == SIGKILL) {
		signal_from(f, 0, SIGKILL);
		pass_until_nobody_is_new(f, SIGKILL, until_ms);
		name_survivors(f);
	}
	if (f->has_overflown)
		fail_all(f, E2BIG);
}
