/* Between clone and exec. The child may share its parent's memory (not its descriptors, directory
 * or signal dispositions), so here stands only what needs neither libc nor memory but the stack:
 * raw system calls, which return -errno. Built without sanitizers.
 *
 * The order is the table at the end, in one place. It follows from these rules:
 *   - the birth record comes first: from then on the spawn counts as run;
 *   - then all descriptors that are not this request's are closed, before anything that can block;
 *   - what needs the service's rights comes before the identity, what names a file after it;
 *   - descriptors are placed before their number is limited;
 *   - the signal mask is emptied before the child says that it executes: a signal that waited ends
 *     it as one that never did.
 *
 * Any failure: BIRTH_FAILED {stage, errno}, and the end. The birth socket is closed on exec, so its
 * end of file behind BIRTH_EXECUTING means that the program runs; before that, that the child died.
 */
#include "helper/child.h"

#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "helper/fdclose.h"
#include "helper/raw.h"

#define EXIT_NOT_EXECUTED 127
#define BINARY_LOOK	  128
#define BUSY_TRIES	  10	   /* a program that is just being written ... */
#define BUSY_WAIT_NS	  10000000 /* ... mostly is not any more after so long */

static int64_t now_ns(void)
{
	struct timespec t = { 0 };

	raw(SYS_clock_gettime, CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int send_birth(int fd, const struct birth *b)
{
	long n = raw(SYS_sendto, fd, b, sizeof(*b), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);

	return n < 0 ? (int)n : 0;
}

void child_report(int birth, uint32_t stage, int error)
{
	struct birth b = {
		.kind = BIRTH_FAILED, .stage = stage, .error = error, .time_ns = now_ns()
	};

	send_birth(birth, &b);
}

/* --- the steps: each returns 0 or a negative errno ----------------------------------------------
 */

static int announce(struct child_plan *p)
{
	struct birth b = { .kind = BIRTH_BORN,
			   .pid = (int32_t)raw(SYS_getpid),
			   .time_ns = now_ns() };

	if (send_birth(p->birth, &b) < 0)
		raw(SYS_exit_group, EXIT_NOT_EXECUTED); /* nobody would ever know of it */
	return 0;
}

static int close_others(struct child_plan *p)
{
	fdclose_others(p->keep, p->n_keep);
	return 0;
}

static int enter_session(struct child_plan *p)
{
	long r = 0;

	if (p->view.head.flags & LINK_SPAWN_SETSID)
		r = raw(SYS_setsid);
	else if (p->view.head.flags & LINK_SPAWN_SETPGID)
		r = raw(SYS_setpgid, 0, 0);
	return r < 0 ? (int)r : 0;
}

static int set_limit(const struct link_limit *l)
{
	struct rlimit limit;
	long r = raw(SYS_prlimit64, 0, l->resource, NULL, &limit);

	if (r < 0)
		return (int)r;
	if (l->set & 1)
		limit.rlim_cur = l->soft;
	if (l->set & 2)
		limit.rlim_max = l->hard;
	return (int)raw(SYS_prlimit64, 0, l->resource, &limit, NULL);
}

static int set_limits_of(struct child_plan *p, bool descriptors)
{
	int r = 0;

	for (uint32_t i = 0; i < p->view.head.n_limits && !r; i++)
		if ((p->view.limits[i].resource == RLIMIT_NOFILE) == descriptors)
			r = set_limit(&p->view.limits[i]);
	return r;
}

static int set_nice(struct child_plan *p)
{
	if (!(p->view.head.flags & LINK_SPAWN_NICE))
		return 0;
	return (int)raw(SYS_setpriority, PRIO_PROCESS, 0, p->view.head.nice);
}

static bool sets_own_limits(const struct child_plan *p)
{
	return p->view.head.flags & LINK_SPAWN_OWN_LIMITS;
}

static int set_limits(struct child_plan *p)
{
	int r = sets_own_limits(p) ? 0 : set_limits_of(p, false);

	return r || sets_own_limits(p) ? r : set_nice(p);
}

static int limit_descriptors(struct child_plan *p)
{
	struct link_limit l = { RLIMIT_NOFILE, 3, p->nofile_soft, p->nofile_hard };
	int r = set_limit(&l);

	return r || sets_own_limits(p) ? r : set_limits_of(p, true);
}

/* As the user that it runs as now. */
static int set_own_limits(struct child_plan *p)
{
	int r = sets_own_limits(p) ? set_limits_of(p, false) : 0;

	if (!r && sets_own_limits(p))
		r = set_limits_of(p, true);
	return r || !sets_own_limits(p) ? r : set_nice(p);
}

static int set_umask(struct child_plan *p)
{
	if (p->view.head.flags & LINK_SPAWN_UMASK)
		raw(SYS_umask, p->view.head.umask);
	return 0;
}

static int take_terminal(struct child_plan *p)
{
	if (!(p->view.head.flags & LINK_SPAWN_TERMINAL))
		return 0;
	return (int)raw(SYS_ioctl, p->terminal, TIOCSCTTY, 0);
}

/* fcntl(2) where both are one number, as dup3(2) refuses that. */
static int place(int from, int to, int flags)
{
	long r = from == to ? raw(SYS_fcntl, to, F_SETFD, flags ? FD_CLOEXEC : 0)
			    : raw(SYS_dup3, from, to, flags);

	return r < 0 ? (int)r : 0;
}

static int place_descriptors(struct child_plan *p)
{
	for (size_t i = 0; i < p->n_steps; i++) {
		const struct fdmap_step *s = &p->steps[i];
		int r = place(s->from, s->to, s->is_temporary ? O_CLOEXEC : 0);

		if (r < 0)
			return r;
		if (s->is_temporary && s->from == p->birth)
			p->birth = s->to;
	}
	return 0;
}

static int set_groups(struct child_plan *p)
{
	const struct link_spawn *s = &p->view.head;
	long r;

	if (!(s->flags & LINK_SPAWN_IDS))
		return 0;
	r = raw(SYS_setgroups, s->n_groups, p->view.groups);
	return r < 0 ? (int)r : (int)raw(SYS_setresgid, s->gid, s->gid, s->gid);
}

/* A process that could get its old identity back did not really change it. */
static int set_user(struct child_plan *p)
{
	const struct link_spawn *s = &p->view.head;
	uint32_t real, effective, saved;
	long r;

	if (!(s->flags & LINK_SPAWN_IDS))
		return 0;
	r = raw(SYS_setresuid, s->uid, s->uid, s->uid);
	if (r < 0)
		return (int)r;
	r = raw(SYS_getresuid, &real, &effective, &saved);
	if (r < 0)
		return (int)r;
	if (real != s->uid || effective != s->uid || saved != s->uid)
		return -EPERM;
	return s->uid && raw(SYS_setresuid, 0, 0, 0) == 0 ? -EPERM : 0;
}

static int enter_directory(struct child_plan *p)
{
	return p->view.directory[0] ? (int)raw(SYS_chdir, p->view.directory) : 0;
}

static int open_file(const struct child_plan *p, const struct link_file *f)
{
	const char *path = p->view.paths[f->path];
	long fd = raw(SYS_openat, AT_FDCWD, path, f->flags | O_CLOEXEC | O_NOCTTY, f->mode);
	int r;

	if (fd < 0)
		return (int)fd;
	r = place((int)fd, (int)f->target, 0);
	if (fd != (int)f->target)
		raw(SYS_close, fd);
	return r;
}

static int open_files(struct child_plan *p)
{
	int r = 0;

	for (uint32_t i = 0; i < p->view.head.n_files && !r; i++) {
		const struct link_file *f = &p->view.files[i];

		r = f->flags == LINK_FILE_SAME ? place((int)f->path, (int)f->target, 0)
					       : open_file(p, f);
	}
	return r;
}

static int restrict_privileges(struct child_plan *p)
{
	if (!(p->view.head.flags & LINK_SPAWN_NO_NEW_PRIVS))
		return 0;
	return (int)raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Without this the end of file would look the same for a child that was killed just before. */
static int announce_exec(struct child_plan *p)
{
	struct birth b = { .kind = BIRTH_EXECUTING };

	return send_birth(p->birth, &b);
}

static int unblock_signals(struct child_plan *p)
{
	uint64_t none = 0;

	(void)p;
	return (int)raw(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
}

static int exec_once(const struct child_plan *p, const char *path)
{
	const struct timespec wait = { .tv_nsec = BUSY_WAIT_NS };
	long r;

	for (int i = 0; i < BUSY_TRIES; i++) {
		r = raw(SYS_execve, path, p->view.argv, p->view.envp);
		if (r != -ETXTBSY)
			break;
		raw(SYS_nanosleep, &wait, NULL);
	}
	return (int)r;
}

/* No text: a NUL in the first line, as shells see it. What cannot be read sh cannot read either. */
static bool is_binary(const char *path)
{
	char line[BINARY_LOOK];
	long fd = raw(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
	long n = fd < 0 ? 0 : raw(SYS_read, fd, line, sizeof(line));

	if (fd >= 0)
		raw(SYS_close, fd);
	for (long i = 0; i < n && line[i] != '\n'; i++)
		if (!line[i])
			return true;
	return false;
}

/* A script without "#!": what every shell does. Of a program for another machine it would take each
 * line for a command. */
static int exec_by_shell(const struct child_plan *p, char *path)
{
	char **argv = p->view.argv - 1;

	if (is_binary(path))
		return -ENOEXEC;

	argv[0] = (char *)"sh";
	argv[1] = path;
	raw(SYS_execve, "/bin/sh", argv, p->view.envp);
	return -ENOEXEC;
}

static bool may_be_elsewhere(int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -EACCES:
	case -ENAMETOOLONG:
	case -ESTALE:
	case -ENODEV:
	case -ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

static int execute(struct child_plan *p)
{
	bool was_refused = false;
	int r = -ENOENT;

	for (uint32_t i = 0; i < p->view.head.n_candidates; i++) {
		r = exec_once(p, p->view.candidates[i]);
		if (r == -ENOEXEC)
			return exec_by_shell(p, p->view.candidates[i]);
		if (!may_be_elsewhere(r))
			return r;
		was_refused |= r == -EACCES;
	}
	return was_refused ? -EACCES : r;
}

static const struct {
	uint32_t stage;
	int (*act)(struct child_plan *p);
} steps[] = {
	{ LINK_STAGE_SETUP, announce },
	{ LINK_STAGE_SETUP, close_others },
	{ LINK_STAGE_SESSION, enter_session },
	{ LINK_STAGE_LIMITS, set_limits },
	{ LINK_STAGE_SETUP, set_umask },
	{ LINK_STAGE_TERMINAL, take_terminal },
	{ LINK_STAGE_DESCRIPTORS, place_descriptors },
	{ LINK_STAGE_LIMITS, limit_descriptors },
	{ LINK_STAGE_GROUPS, set_groups },
	{ LINK_STAGE_USER, set_user },
	{ LINK_STAGE_LIMITS, set_own_limits },
	{ LINK_STAGE_DIRECTORY, enter_directory },
	{ LINK_STAGE_FILES, open_files },
	{ LINK_STAGE_SANDBOX, restrict_privileges },
	{ LINK_STAGE_SETUP, unblock_signals },
	{ LINK_STAGE_SETUP, announce_exec },
	{ LINK_STAGE_EXEC, execute },
};

int child_run(void *plan)
{
	struct child_plan *p = plan;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int r = steps[i].act(p);

		if (r < 0) {
			child_report(p->birth, steps[i].stage, -r);
			break;
		}
	}
	for (;;)
		raw(SYS_exit_group, EXIT_NOT_EXECUTED);
}
