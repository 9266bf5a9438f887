/* Owns the record and the child's ends of all pipes until the keeper's verdict, because a spawn
 * that was lost with its forker is handed over again; each attempt has a birth socket of its own.
 *
 * The order on the way out is what makes a death harmless: first the keeper gets the birth socket
 * and our ends (LINK_DEPOSIT, on a socket that keeps it even if we die), then the forker gets the
 * spawn. What a forker had and did not do closes the birth socket's write end: the keeper says
 * "unborn", and it is handed over again.
 */
#include "broker/process.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/helper_link.h"
#include "broker/spawn_line.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1u << 2)
#endif

static const char *const state_names[] = {
	[PROCESS_NEW] = "new",	       [PROCESS_WAITING] = "waiting", [PROCESS_HANDED] = "handed",
	[PROCESS_RUNNING] = "running", [PROCESS_EXITED] = "exited",   [PROCESS_FAILED] = "failed",
};

static const unsigned state_moves[] = {
	[PROCESS_NEW] = 1u << PROCESS_WAITING | 1u << PROCESS_FAILED,
	[PROCESS_WAITING] = 1u << PROCESS_HANDED | 1u << PROCESS_FAILED,
	[PROCESS_HANDED] = 1u << PROCESS_WAITING | 1u << PROCESS_RUNNING | 1u << PROCESS_FAILED,
	[PROCESS_RUNNING] = 1u << PROCESS_EXITED,
	[PROCESS_EXITED] = 0,
	[PROCESS_FAILED] = 0,
};

static void process_set_state(struct process *p, enum process_state state)
{
	if (!(state_moves[p->state] & 1u << state))
		log_error("process %llu: %s -> %s is no legal move", (unsigned long long)p->id,
			  state_names[p->state], state_names[state]);
	p->state = state;
}

static void process_blank(struct process *p, struct helper_link *helper,
			  const struct process_events *events)
{
	*p = (struct process){
		.helper = helper, .events = events, .pidfd = -1, .record_memfd = -1, .birth_fd = -1
	};
	list_init(&p->link);
}

int process_init(struct process *p, struct helper_link *helper, const struct process_events *events,
		 uint64_t id)
{
	process_blank(p, helper, events);
	p->id = id;
	if (!helper_link_take_slot(helper, p, (uint32_t)(id % PORTS_MAX))) {
		p->helper = NULL;
		return PROCESS_E_FULL;
	}
	return 0;
}

int process_init_internal(struct process *p, struct helper_link *helper,
			  const struct process_events *events)
{
	uint32_t slot;

	process_blank(p, helper, events);
	p->id = helper_link_internal_id(helper);
	for (slot = PORTS_MAX; slot-- > 0;)
		if (helper_link_take_slot(helper, p, slot))
			return 0;
	p->helper = NULL;
	return PROCESS_E_FULL;
}

/* What only mattered until the verdict. */
static void process_drop_wish(struct process *p)
{
	free(TAKE(p->record));
	p->record_memfd = fd_close(p->record_memfd);
	p->birth_fd = fd_close(p->birth_fd);
	quota_charge_return(&p->charge);
	if (p->foreign.account)
		closer_close(p->helper->context, &p->foreign, p->child_fds, p->n_child_fds);
	else
		fd_close_many(p->child_fds, p->n_child_fds);
	p->n_child_fds = 0;
}

void process_retire(struct process *p)
{
	if (p->state == PROCESS_WAITING && list_is_linked(&p->link))
		helper_link_dequeue(p->helper, p);
	process_drop_wish(p);
	p->pidfd = fd_close(p->pidfd);
	if (p->attempt)
		helper_link_forget(p->helper, p);
	p->attempt = 0;
	p->line = spawn_line_unref(p->line);
}

void process_deinit(struct process *p)
{
	if (!p->helper)
		return;
	process_retire(p);
	helper_link_give_slot(p->helper, p);
	p->helper = NULL;
}

int process_add_child_fd(struct process *p, int take_fd, uint32_t *ret_source)
{
	if (p->n_child_fds == ARRAY_SIZE(p->child_fds)) {
		fd_close(take_fd);
		return PROCESS_E_FULL;
	}
	*ret_source = (uint32_t)p->n_child_fds;
	p->child_fds[p->n_child_fds++] = take_fd;
	return 0;
}

int process_add_hold(struct process *p, uint32_t hold, int fd)
{
	if (p->n_holds == ARRAY_SIZE(p->holds) - 1) /* one is for the birth socket */
		return PROCESS_E_FULL;
	p->holds[p->n_holds++] = (struct process_hold){ hold, fd };
	return 0;
}

void process_join_line(struct process *p, struct spawn_line *line)
{
	p->line = spawn_line_ref(line);
}

size_t process_record_size(size_t size, int memfd)
{
	struct stat st;

	return size + (memfd >= 0 && fstat(memfd, &st) == 0 ? (size_t)st.st_size : 0);
}

void process_start(struct process *p, uint8_t *take_record, size_t size, int take_memfd)
{
	assert(p->state == PROCESS_NEW);
	p->record = take_record;
	p->record_size = size;
	p->record_memfd = take_memfd;
	p->weight = spawn_line_weight(process_record_size(size, take_memfd));
	process_set_state(p, PROCESS_WAITING);
	helper_link_enqueue(p->helper, p);
}

/* The birth socket of the next attempt: the read end goes to the keeper, with all that it holds. */
static int process_deposit(struct process *p)
{
	struct link_deposit m = { .head = { LINK_DEPOSIT, sizeof(m) } };
	int fds[LINK_HOLDS_MAX], pair[2], r;
	size_t n = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno();
	m.id = (struct link_spawn_id){ p->id, p->slot, p->attempt + 1 };
	m.holds[n] = LINK_HOLD(HOLD_BIRTH, 0);
	fds[n++] = pair[0];
	for (size_t i = 0; i < p->n_holds && p->attempt == 0; i++) {
		m.holds[n] = p->holds[i].hold;
		fds[n++] = p->holds[i].fd;
	}
	m.n_holds = (uint32_t)n;
	r = helper_link_send(p->helper, &m, sizeof(m), fds, n);
	fd_close(pair[0]);
	if (r < 0) {
		fd_close(pair[1]);
		return err_pass(r);
	}
	p->attempt++;
	p->birth_fd = pair[1];
	return 0;
}

static int process_spawn(struct process *p)
{
	struct link_spawn *m = (struct link_spawn *)p->record;
	int fds[LINK_FDS_MAX];
	size_t n = 0;

	m->id = (struct link_spawn_id){ p->id, p->slot, p->attempt };
	fds[n++] = p->birth_fd;
	for (size_t i = 0; i < p->n_child_fds; i++)
		fds[n++] = p->child_fds[i];
	if (p->record_memfd >= 0)
		fds[n++] = p->record_memfd;
	return helper_link_spawn(p->helper, p->record, p->record_size, fds, n);
}

bool process_hand_over(struct process *p)
{
	int r = p->birth_fd < 0 ? process_deposit(p) : 0;

	if (!r && helper_link_is_congested(p->helper))
		return false;
	if (!r)
		r = process_spawn(p);
	if (r == -EAGAIN)
		return false;
	if (r < 0) {
		process_on_failed(p, LINK_STAGE_REQUEST, -r);
		return true;
	}
	p->birth_fd = fd_close(p->birth_fd);
	process_set_state(p, PROCESS_HANDED);
	helper_link_dequeue(p->helper, p);
	return true;
}

void process_on_started(struct process *p, const struct link_started *m, int take_pidfd)
{
	if (p->state != PROCESS_HANDED || m->id.attempt != p->attempt) {
		fd_close(take_pidfd);
		return;
	}
	helper_link_answered(p->helper, p);
	process_drop_wish(p);
	p->pid = m->pid;
	p->pidfd = take_pidfd;
	p->start_ns = m->start_ns;
	process_set_state(p, PROCESS_RUNNING);
	p->events->started(p);
}

void process_on_failed(struct process *p, uint32_t stage, int error)
{
	if (p->state == PROCESS_HANDED)
		helper_link_answered(p->helper, p);
	else if (p->state == PROCESS_WAITING)
		helper_link_dequeue(p->helper, p);
	else
		return;
	process_drop_wish(p);
	process_set_state(p, PROCESS_FAILED);
	p->events->failed(p, stage, error);
}

void process_on_unborn(struct process *p)
{
	if (p->state != PROCESS_HANDED)
		return;
	if (!p->record) {
		/* An earlier broker's: nothing ran, and what was to run is not known here. */
		process_on_failed(p, LINK_STAGE_REQUEST, EINTR);
		return;
	}
	helper_link_answered(p->helper, p);
	process_set_state(p, PROCESS_WAITING);
	helper_link_enqueue(p->helper, p);
}

void process_on_exited(struct process *p, const struct link_exited *m)
{
	if (p->state != PROCESS_RUNNING)
		return;
	process_set_state(p, PROCESS_EXITED);
	p->events->exited(p, m);
}

static int pidfd_signal(int pidfd, int signal, unsigned flags)
{
	if (pidfd < 0)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, flags) < 0 ? -errno : 0;
}

/* By the keeper, which reaps and so knows whom a pid means; the answer is not waited for. */
static int keeper_signal(struct process *p, int signal)
{
	struct link_group_signal m = { .head = { LINK_SIGNAL, sizeof(m) }, .signal = signal };

	m.id = (struct link_spawn_id){ p->id, p->slot, p->attempt };
	return helper_link_send(p->helper, &m, sizeof(m), NULL, 0);
}

int process_signal(struct process *p, int signal)
{
	int r = pidfd_signal(p->pidfd, signal, 0);

	return r == -ENOSYS ? keeper_signal(p, signal) : r;
}

int process_signal_group(struct process *p, int signal)
{
	int r = pidfd_signal(p->pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP);

	return r == -ENOSYS ? -EINVAL : r; /* the keeper can do either */
}

int process_release(struct process *p, uint32_t hold)
{
	struct link_release m = { .head = { LINK_RELEASE, sizeof(m) }, .hold = hold };

	m.id = (struct link_spawn_id){ p->id, p->slot, p->attempt };
	return helper_link_send(p->helper, &m, sizeof(m), NULL, 0);
}
