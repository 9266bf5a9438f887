/* Two sockets. The keeper's is watched for reading always, and for writing while `outbox` holds
 * something; every message of a slot goes through it in order. The forker's is only written to, and
 * is replaced whenever the keeper has started another forker.
 *
 * A burst of spawns is bounded: SPAWNS_IN_FLIGHT are handed over, the others wait in their lines.
 * `hand_over` is the job that moves them on, HAND_OVERS_A_TURN at most.
 */
#include "broker/helper_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"

struct message {
	struct list link;
	size_t size, n_fds;
	int fds[LINK_HOLDS_MAX];
	uint8_t data[];
};

/* One forker's link. Has a life of its own, because closing a handle takes a turn. */
struct forker {
	uv_poll_t poll;
	struct helper_link *link;
	int fd;
	bool is_watched;
};

static void message_free(struct message *m)
{
	fd_close_many(m->fds, m->n_fds);
	free(m);
}
DEFINE_CLEANUP(struct message, message_free)

/* --- sending --------------------------------------------------------------------------------- */

static void on_keeper(uv_poll_t *poll, int status, int events);
static void on_forker(uv_poll_t *poll, int status, int events);

static void keeper_watch(struct helper_link *h)
{
	int mask = UV_READABLE | (list_is_empty(&h->outbox) ? 0 : UV_WRITABLE);

	if (mask != h->keeper_mask)
		uv_poll_start(&h->keeper_poll, h->keeper_mask = mask, on_keeper);
}

static int message_queue(struct helper_link *h, const void *data, size_t size, const int *fds,
			 size_t n_fds)
{
	_cleanup_(message_freep) struct message *m = calloc(1, sizeof(*m) + size);
	int r;

	if (!m)
		return err_begin(-ENOMEM);
	memcpy(m->data, data, size);
	m->size = size;
	for (; m->n_fds < n_fds; m->n_fds++) {
		r = fd_dup(fds[m->n_fds], &m->fds[m->n_fds]);
		if (r < 0)
			return err_pass(r);
	}
	list_append(&h->outbox, &TAKE(m)->link);
	keeper_watch(h);
	return 0;
}

int helper_link_send(struct helper_link *h, const void *message, size_t size, const int *fds,
		     size_t n_fds)
{
	struct iovec iov = { (void *)message, size };
	ssize_t n = -EAGAIN;

	if (!h->keeper_active)
		return err_begin(-ENOTCONN);
	if (list_is_empty(&h->outbox))
		n = fdpass_send(h->keeper_fd, &iov, 1, fds, n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN)
		return message_queue(h, message, size, fds, n_fds);
	return n < 0 ? err_begin((int)n) : 0;
}

static int outbox_flush(struct helper_link *h)
{
	struct message *m;

	while ((m = list_first(&h->outbox, struct message, link))) {
		struct iovec iov = { m->data, m->size };
		ssize_t n = fdpass_send(h->keeper_fd, &iov, 1, m->fds, m->n_fds, MSG_DONTWAIT);

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return err_begin((int)n);
		list_remove(&m->link);
		message_free(m);
	}
	turn_work(h->turn, &h->hand_over);
	return 0;
}

bool helper_link_is_congested(const struct helper_link *h)
{
	return !list_is_empty(&h->outbox);
}

static void on_forker_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void forker_close(struct forker *f)
{
	if (!f)
		return;
	uv_close((uv_handle_t *)&f->poll, on_forker_closed);
	f->fd = fd_close(f->fd);
}

static void forker_wait(struct forker *f)
{
	if (f->is_watched)
		return;
	f->is_watched = true;
	uv_poll_start(&f->poll, UV_WRITABLE, on_forker);
}

static bool is_gone(ssize_t error)
{
	return error == -EPIPE || error == -ECONNRESET || error == -ECONNREFUSED ||
	       error == -ENOTCONN;
}

int helper_link_spawn(struct helper_link *h, const void *record, size_t size, const int *fds,
		      size_t n_fds)
{
	struct iovec iov = { (void *)record, size };
	ssize_t n;

	if (!h->forker)
		return -EAGAIN;
	n = fdpass_send(h->forker->fd, &iov, 1, fds, n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN)
		forker_wait(h->forker);
	if (is_gone(n)) {
		forker_close(TAKE(h->forker)); /* nothing was sent; all wait for the next one */
		return -EAGAIN;
	}
	return n < 0 ? (int)n : 0;
}

/* --- spawns ---------------------------------------------------------------------------------- */

static void on_hand_over(struct job *job)
{
	struct helper_link *h = container_of(job, struct helper_link, hand_over);
	struct process *p;

	for (unsigned i = 0; i < HAND_OVERS_A_TURN; i++) {
		if (!h->forker || h->in_flight >= SPAWNS_IN_FLIGHT || helper_link_is_congested(h))
			return;
		p = spawn_lines_first(&h->lines);
		if (!p || !process_hand_over(p))
			return;
	}
	turn_work(h->turn, &h->hand_over);
}

void helper_link_enqueue(struct helper_link *h, struct process *p)
{
	if (p->attempt)
		h->n_unborn++;
	spawn_lines_enqueue(&h->lines, p);
	turn_work(h->turn, &h->hand_over);
}

void helper_link_dequeue(struct helper_link *h, struct process *p)
{
	spawn_lines_dequeue(&h->lines, p, p->state == PROCESS_HANDED);
	if (p->state == PROCESS_HANDED)
		h->in_flight++;
}

void helper_link_adopted(struct helper_link *h)
{
	h->in_flight++;
}

void helper_link_answered(struct helper_link *h, struct process *p)
{
	h->in_flight--;
	spawn_lines_answered(&h->lines, p);
	if (h->lines.n_waiting)
		turn_work(h->turn, &h->hand_over);
}

void helper_link_forget(struct helper_link *h, struct process *p)
{
	struct link_forget m = { .head = { LINK_FORGET, sizeof(m) } };
	int r;

	m.id = (struct link_spawn_id){ p->id, p->slot, p->attempt };
	if (p->state == PROCESS_HANDED)
		helper_link_answered(h, p);
	r = helper_link_send(h, &m, sizeof(m), NULL, 0);
	if (r < 0 && r != -ENOTCONN)
		log_error("keeper link: %s", err_string(r));
}

bool helper_link_take_slot(struct helper_link *h, struct process *p, uint32_t slot)
{
	if (h->slots[slot])
		return false;
	h->slots[slot] = p;
	p->slot = slot;
	return true;
}

void helper_link_give_slot(struct helper_link *h, struct process *p)
{
	h->slots[p->slot] = NULL;
}

uint64_t helper_link_internal_id(struct helper_link *h)
{
	return 1ull << 63 | ++h->n_internal;
}

/* --- receiving ------------------------------------------------------------------------------- */

/* Everything about one process; a message about one that is not known any more is no error. */
static struct process *process_of(struct helper_link *h, const struct link_spawn_id *id)
{
	struct process *p = id->slot < PORTS_MAX ? h->slots[id->slot] : NULL;

	return p && p->id == id->port ? p : NULL;
}

/* The next forker takes the old one's place. */
static int forker_adopt(struct helper_link *h, int take_fd)
{
	_cleanup_(fd_closep) int fd = take_fd;
	_cleanup_(freep) struct forker *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_begin(-ENOMEM);
	r = uv_poll_init(h->loop, &f->poll, fd);
	if (r < 0)
		return err_begin(r);
	f->link = h;
	f->poll.data = f;
	f->fd = TAKE_FD(fd);
	forker_close(h->forker);
	h->forker = TAKE(f);
	h->n_forkers++;
	turn_work(h->turn, &h->hand_over);
	return 0;
}

static int message_of_process(struct helper_link *h, const void *data, int *fds, size_t n_fds)
{
	const struct link_head *head = data;
	const struct link_started *started = data; /* all begin with head and id */
	struct process *p = process_of(h, &started->id);

	if (!p)
		return 0;
	switch (head->type) {
	case LINK_STARTED:
		/* Without a pidfd when it has been reaped already. */
		process_on_started(p, data, n_fds ? TAKE_FD(fds[0]) : -1);
		return 0;
	case LINK_FAILED:
		if (started->id.attempt == p->attempt)
			process_on_failed(p, ((const struct link_failed *)data)->stage,
					  ((const struct link_failed *)data)->error);
		return 0;
	case LINK_UNBORN:
		if (started->id.attempt == p->attempt)
			process_on_unborn(p);
		return 0;
	case LINK_EXITED:
		process_on_exited(p, data);
		return 0;
	default:
		p->events->released(p, ((const struct link_release *)data)->hold);
		return 0;
	}
}

static const size_t message_sizes[] = {
	[LINK_SETUP] = sizeof(struct link_setup),
	[LINK_FORKER] = sizeof(struct link_forker),
	[LINK_STARTED] = sizeof(struct link_started),
	[LINK_FAILED] = sizeof(struct link_failed),
	[LINK_UNBORN] = sizeof(struct link_unborn),
	[LINK_EXITED] = sizeof(struct link_exited),
	[LINK_RELEASED] = sizeof(struct link_release),
	[LINK_HELD] = sizeof(struct link_held),
	[LINK_READY] = sizeof(struct link_ready),
	[LINK_RING] = sizeof(struct link_ring),
	[LINK_RECORDS] = sizeof(struct link_records),
	[LINK_GROUP_SIGNALLED] = sizeof(struct link_group_signal),
};

/* Descriptors that a handler takes are set to -1 here; the caller closes the others. */
static int message_handle(struct helper_link *h, const void *data, size_t size, int *fds,
			  size_t n_fds)
{
	const struct link_head *head = data;

	if (size < sizeof(*head) || head->size != size || head->type >= ARRAY_SIZE(message_sizes) ||
	    !message_sizes[head->type] || message_sizes[head->type] != size)
		return err_begin(-EBADMSG);
	switch (head->type) {
	case LINK_SETUP:
		h->events->setup(h->context, data, fds, n_fds);
		break;
	case LINK_HELD:
		h->events->held(h->context, data, fds, n_fds);
		break;
	case LINK_FORKER:
		return n_fds == 1 ? forker_adopt(h, TAKE_FD(fds[0])) : err_begin(-EBADMSG);
	case LINK_RING:
		h->events->ring(h->context, data, n_fds ? TAKE_FD(fds[0]) : -1);
		return 0;
	case LINK_RECORDS:
		h->events->records(h->context, fds, n_fds);
		break;
	case LINK_READY:
		h->events->ready(h->context);
		return 0;
	case LINK_GROUP_SIGNALLED:
		h->events->group_signalled(h->context, data);
		return 0;
	default:
		return message_of_process(h, data, fds, n_fds);
	}
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = -1; /* they took them all */
	return 0;
}

/* 0: more may be there; 1: nothing more now. */
static int keeper_receive(struct helper_link *h)
{
	union {
		struct link_head head;
		struct link_held held;
		struct link_setup setup;
		struct link_exited exited;
		uint8_t room[1024];
	} message;
	struct fdpass_info info;
	int fds[LINK_FDS_MAX + LISTENERS_MAX * 2], r;
	ssize_t n = fdpass_recv(h->keeper_fd, &message, sizeof(message), MSG_DONTWAIT, fds,
				ARRAY_SIZE(fds), &info);

	if (n == -EAGAIN)
		return 1;
	if (n < 0)
		return err_begin((int)n);
	if (n == 0)
		return err_begin(-ENOTCONN);
	if (info.truncated || info.message_truncated) {
		/* Out of descriptors, against all reserves. A process without its pidfd can still
		 * be known; everything else that carries descriptors cannot be done without. */
		fd_close_many(fds, info.n_fds);
		info.n_fds = 0;
		if (message.head.type != LINK_STARTED)
			return err_begin(-EMFILE);
	}
	r = message_handle(h, &message, (size_t)n, fds, info.n_fds);
	fd_close_many(fds, info.n_fds);
	return err_pass(r);
}

static int keeper_ready(struct helper_link *h, int events)
{
	int r = events & UV_WRITABLE ? outbox_flush(h) : 0;

	for (unsigned i = 0; i < KEEPER_NEWS_A_TURN && r == 0 && h->keeper_active; i++)
		r = keeper_receive(h);
	if (r < 0)
		return err_pass(r);
	if (h->keeper_active)
		keeper_watch(h);
	return 0;
}

static void on_keeper(uv_poll_t *poll, int status, int events)
{
	struct helper_link *h = poll->data;
	int r = status < 0 ? err_begin(status) : keeper_ready(h, events);

	if (r < 0)
		h->events->lost(h->context, r);
}

static void on_forker(uv_poll_t *poll, int status, int events)
{
	struct forker *f = poll->data;

	(void)status, (void)events; /* a dead one's socket shows at the next send */
	uv_poll_stop(poll);
	f->is_watched = false;
	turn_work(f->link->turn, &f->link->hand_over);
}

/* --- life ------------------------------------------------------------------------------------ */

int helper_link_init(struct helper_link *h, uv_loop_t *loop, struct turn *turn, int take_fd,
		     const struct helper_events *events, void *context)
{
	int r;

	*h = (struct helper_link){ .keeper_fd = take_fd,
				   .turn = turn,
				   .loop = loop,
				   .events = events,
				   .context = context };
	list_init(&h->outbox);
	job_init(&h->hand_over, on_hand_over);
	h->slots = calloc(PORTS_MAX, sizeof(*h->slots));
	if (!h->slots || spawn_lines_init(&h->lines) < 0)
		return err_begin(-ENOMEM);
	r = uv_poll_init(loop, &h->keeper_poll, take_fd);
	if (r < 0)
		return err_begin(r);
	h->keeper_poll.data = h;
	h->keeper_active = true;
	keeper_watch(h);
	return 0;
}

void helper_link_close(struct helper_link *h)
{
	struct message *m;

	job_cancel(&h->hand_over);
	if (h->keeper_active)
		uv_close((uv_handle_t *)&h->keeper_poll, NULL);
	h->keeper_active = false;
	h->keeper_fd = fd_close(h->keeper_fd);
	forker_close(TAKE(h->forker));
	while ((m = list_first(&h->outbox, struct message, link))) {
		list_remove(&m->link);
		message_free(m);
	}
	spawn_lines_deinit(&h->lines);
	free(TAKE(h->slots));
}
