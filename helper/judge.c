/* Births and deaths. For each spawn the good path is: end of file on the birth socket, records
 * BORN and EXECUTING, a pidfd, LINK_STARTED; the pidfd readable, the exit recorded, the zombie
 * released, LINK_EXITED.
 *
 * A child that said EXECUTING and is found dead when its birth is judged may have been killed in
 * its exec: the flag PF_FORKNOEXEC of the zombie tells, so it is looked at before it is released.
 * (When it is just about to die from a signal in there, it counts as started and killed: no client
 * could tell the difference.)
 *
 * Dead children that no pidfd announces are found by the sweep: orphans that came to us, children
 * whose exec failed, processes that were forgotten or could not be watched. A fast child may be
 * dead before its deposit was read or its birth peeked, so before anything is taken for a stranger
 * the link is read empty and all births are peeked, in this order: the deposit was sent before the
 * birth.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "helper/birth.h"
#include "helper/keeper.h"
#include "helper/raw.h"
#include "helper/reap.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#define SWEEP_MAX 512 /* dead children a sweep */
#define RETRY_MS  50

#define BIRTH LINK_HOLD(HOLD_BIRTH, 0)

static void trouble(struct keeper *k, struct hold_slot *s)
{
	if (!list_is_linked(&s->troubled))
		list_append(&k->hold->troubled, &s->troubled);
	k->retry_at_ms = MIN(k->retry_at_ms, keeper_now_ms() + RETRY_MS);
}

static uint64_t event_of(struct keeper *k, enum keeper_event event, const struct hold_slot *s)
{
	return keeper_event_data(event, s->generation, hold_index(k->hold, s));
}

static void failed(struct keeper *k, struct hold_slot *s, uint32_t stage, int error)
{
	s->stage = stage;
	s->error = error;
	hold_set_state(k->hold, s, HOLD_STATE_FAILED);
	hold_tell(k->hold, s);
}

void judge_watch_birth(struct keeper *k, struct hold_slot *s)
{
	/* EPOLLHUP alone, which needs no asking: all write ends are closed. EPOLLRDHUP would also
	 * tell that we shut it ourselves (birth_cancel), when the child is not at its end yet. */
	int r = keeper_watch(k, hold_get(s, BIRTH), 0, event_of(k, KEEPER_EVENT_BIRTH, s));

	if (r == 0 || r == -EEXIST)
		return;
	if (r != -EPERM) {
		trouble(k, s);
		return;
	}
	hold_drop(k->hold, s, BIRTH); /* a regular file */
	failed(k, s, LINK_STAGE_REQUEST, EPROTO);
}

/* --- exits -------------------------------------------------------------------------------------
 */

/* Puts the outcome into the slot first; then the zombie may go. */
static void record_exit(struct keeper *k, struct hold_slot *s, const struct link_exited *exited)
{
	s->exited = *exited;
	s->exited.head = (struct link_head){ LINK_EXITED, sizeof(s->exited) };
	s->exited.id = s->id;
	s->exited.pid = s->pid;
	s->exited.start_ns = s->start_ns;
	hold_set_state(k->hold, s, HOLD_STATE_EXITED);
	keeper_unwatch(k, s->pidfd);
	reap_release(s->pid);
	pidmap_remove(&k->hold->pids, s->pid);
	if (!s->tells_verdict)
		hold_drop_pidfd(k->hold, s); /* else LINK_STARTED still needs it */
	hold_tell(k->hold, s);
}

void judge_exit(struct keeper *k, struct hold_slot *s)
{
	struct link_exited exited = { .status = -1 };
	int r = reap_look(s->pid, &exited);

	if (r == REAP_E_ALIVE)
		return;
	if (r == REAP_E_NONE) {
		log_error("process %d was reaped by somebody else", (int)s->pid);
		exited.end_ns = reap_now_ns();
	}
	record_exit(k, s, &exited);
}

/* --- births ------------------------------------------------------------------------------------
 */

/* Where there is no pidfd_open(2) (valgrind), the directory in /proc takes its place: signals can
 * be sent by it too. It cannot be watched; the sweep finds the end. */
static int open_process(pid_t pid)
{
	int fd = (int)raw(SYS_pidfd_open, pid, 0);
	char path[32];

	if (fd != -ENOSYS)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return (int)raw(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* False when it has to be tried again. */
static bool watch_process(struct keeper *k, struct hold_slot *s)
{
	int r;

	if (s->pidfd < 0) {
		int fd = open_process(s->pid);

		if (fd < 0)
			return false;
		hold_take_pidfd(k->hold, s, fd);
	}
	r = keeper_watch(k, s->pidfd, EPOLLIN, event_of(k, KEEPER_EVENT_PROCESS, s));
	return r == 0 || r == -EEXIST || r == -EPERM;
}

/* Its program runs, or ran: only now STARTED is told, as it has to come with a pidfd. */
static void running(struct keeper *k, struct hold_slot *s)
{
	struct link_exited exited;
	bool is_watched = watch_process(k, s);

	if (!is_watched)
		trouble(k, s);
	if (s->pidfd >= 0)
		hold_tell(k->hold, s);
	if (reap_look(s->pid, &exited) == 0)
		record_exit(k, s, &exited);
}

/* There is or was a process, which has ended or is just about to. */
static void failed_in_child(struct keeper *k, struct hold_slot *s, pid_t pid, uint32_t stage,
			    int error)
{
	if (reap_release(pid) == REAP_E_ALIVE)
		pidmap_put(&k->hold->pids, pid, HOLD_NOBODY);
	else
		pidmap_remove(&k->hold->pids, pid);
	failed(k, s, stage, error);
}

static void died_before_exec(struct keeper *k, struct hold_slot *s, pid_t pid)
{
	if (s->is_cancelled)
		failed_in_child(k, s, pid, LINK_STAGE_REQUEST, EMFILE);
	else
		failed_in_child(k, s, pid, LINK_STAGE_SETUP, EINTR);
}

/* Normally only a dead one is worth the look into /proc. One that was cancelled could not say that
 * its exec failed, so it is looked at while it is still about to end, too. */
static bool never_executed(const struct hold_slot *s, bool is_dead)
{
	return (is_dead || s->is_cancelled) && reap_never_executed(s->pid);
}

static void executing(struct keeper *k, struct hold_slot *s, const struct birth_verdict *v)
{
	struct link_exited exited;
	int r;

	s->pid = v->pid;
	s->start_ns = v->start_ns;
	pidmap_put(&k->hold->pids, s->pid, hold_index(k->hold, s));
	r = reap_look(s->pid, &exited);
	if (r == REAP_E_NONE) {
		log_error("a birth names %d, which is no child", (int)s->pid);
		pidmap_remove(&k->hold->pids, s->pid);
		failed(k, s, LINK_STAGE_SETUP, ECHILD);
		return;
	}
	if (never_executed(s, r == 0)) {
		died_before_exec(k, s, s->pid);
		return;
	}
	hold_set_state(k->hold, s, HOLD_STATE_RUNNING);
	running(k, s);
}

void judge_birth(struct keeper *k, struct hold_slot *s)
{
	struct birth_verdict v;

	birth_peek(hold_get(s, BIRTH), &v);
	keeper_unwatch(k, hold_get(s, BIRTH)); /* somebody else may have it open */
	hold_drop(k->hold, s, BIRTH);	       /* which makes room for the pidfd */
	list_remove(&s->troubled);
	switch (v.kind) {
	case BIRTH_VERDICT_EXECUTING:
		executing(k, s, &v);
		break;
	case BIRTH_VERDICT_BORN:
		died_before_exec(k, s, v.pid);
		break;
	case BIRTH_VERDICT_FAILED:
		if (v.pid)
			failed_in_child(k, s, v.pid, v.stage, v.error);
		else
			failed(k, s, v.stage, v.error);
		break;
	default:
		hold_set_state(k->hold, s, HOLD_STATE_UNBORN);
		hold_tell(k->hold, s);
		break;
	}
}

/* --- what cannot be watched --------------------------------------------------------------------
 */

static void retry_slot(struct keeper *k, struct hold_slot *s)
{
	list_remove(&s->troubled);
	if (s->state == HOLD_STATE_AWAITING)
		judge_watch_birth(k, s);
	else if (s->state == HOLD_STATE_RUNNING)
		running(k, s);
}

void judge_retry(struct keeper *k)
{
	struct list now;
	struct hold_slot *s;

	list_init(&now);
	list_splice(&now, &k->hold->troubled);
	while ((s = list_first(&now, struct hold_slot, troubled)))
		retry_slot(k, s);
}

/* --- the sweep ---------------------------------------------------------------------------------
 */

/* Births whose process is not known yet. */
static void peek_births(struct keeper *k)
{
	struct hold_slot *s;

	list_for_each (s, &k->hold->awaiting, awaiting) {
		struct birth_verdict v;

		if (s->pid)
			continue;
		birth_peek(hold_get(s, BIRTH), &v);
		if (!v.pid)
			continue;
		s->pid = v.pid;
		pidmap_put(&k->hold->pids, v.pid, hold_index(k->hold, s));
	}
}

/* False when it cannot be told now. */
static bool find(struct keeper *k, pid_t pid, bool *ret_is_known, uint32_t *ret_index)
{
	*ret_is_known = pidmap_get(&k->hold->pids, pid, ret_index);
	if (*ret_is_known)
		return true;
	if (!heed_link(k, true))
		return false;
	peek_births(k);
	*ret_is_known = pidmap_get(&k->hold->pids, pid, ret_index);
	return true;
}

static void bury(struct keeper *k, pid_t pid, bool is_known, uint32_t index)
{
	struct hold_slot *s = is_known && index != HOLD_NOBODY ? &k->hold->slots[index] : NULL;

	if (s && s->state == HOLD_STATE_AWAITING) {
		judge_birth(k, s);
	} else if (s && s->state == HOLD_STATE_RUNNING) {
		judge_exit(k, s);
	} else {
		k->n_strangers += !is_known;
		pidmap_remove(&k->hold->pids, pid);
		reap_release(pid);
	}
}

void judge_sweep(struct keeper *k)
{
	uint32_t index = 0;
	bool is_known;
	pid_t pid;

	for (int i = 0; i < SWEEP_MAX; i++) {
		if (reap_look_any(&pid) != 0)
			return;
		if (launch_look(k, pid))
			continue;
		if (!find(k, pid, &is_known, &index))
			break;
		bury(k, pid, is_known, index);
	}
	k->sweep_at_ms = MIN(k->sweep_at_ms, keeper_now_ms() + RETRY_MS);
}
