/* What the broker is told. Nothing is queued: what there is to tell follows from the table (phase
 * and cursor for a new broker, then each slot's flags), and is sent as far as the link takes it.
 * When it takes no more, epoll says when it does; when the kernel is short of something, a timer
 * does.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "helper/keeper.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"

#define RETRY_MS 20

#define HEAD(type, message)           \
	{                             \
		type, sizeof(message) \
	}

/* True when it was sent. */
static bool send_message(struct keeper *k, const void *message, size_t size, const int *fds,
			 size_t n_fds)
{
	struct iovec iov = { (void *)message, size };
	ssize_t n = fdpass_send(k->broker.link_fd, &iov, 1, fds, n_fds, MSG_DONTWAIT);

	if (n >= 0)
		return true;
	k->is_congested = true;
	if (n == -EAGAIN)
		return false;
	if (n == -EPIPE || n == -ECONNRESET) {
		if (!k->is_ending)
			launch_kill(&k->broker); /* it closed its link: it is of no use any more */
		return false;
	}
	if (n != -ETOOMANYREFS && n != -ENOBUFS && n != -ENOMEM)
		log_error("keeper link: %s", err_string((int)n));
	k->retry_at_ms = keeper_now_ms() + RETRY_MS;
	return false;
}

/* --- to a new broker: each returns true when it is done ----------------------------------------
 */

static bool tell_setup(struct keeper *k)
{
	const struct link_config *c = k->config.head;
	struct link_setup m = { .head = HEAD(LINK_SETUP, m),
				.version = LINK_VERSION,
				.incarnation = k->incarnation,
				.n_locks = (uint32_t)k->config.n_locks,
				.n_listeners = c->n_listeners,
				.deaths = k->deaths };
	int fds[1 + 2 * LISTENERS_MAX] = { k->config.fd };
	size_t n = 1;

	for (uint32_t i = 0; i < c->n_listeners; i++)
		if (c->lock_fds[i] >= 0)
			fds[n++] = c->lock_fds[i];
	for (uint32_t i = 0; i < c->n_listeners; i++)
		fds[n++] = c->listener_fds[i];
	return send_message(k, &m, sizeof(m), fds, n);
}

static bool tell_slot_held(struct keeper *k, const struct hold_slot *s)
{
	struct link_held m = {
		.head = HEAD(LINK_HELD, m), .id = s->id, .pid = s->pid, .n_holds = s->n_holds
	};
	int fds[LINK_HOLDS_MAX];

	memcpy(m.holds, s->holds, s->n_holds * sizeof(m.holds[0]));
	memcpy(fds, s->fds, s->n_holds * sizeof(fds[0]));
	if (s->pidfd >= 0) {
		m.holds[m.n_holds] = LINK_HOLD(HOLD_PIDFD, 0);
		fds[m.n_holds++] = s->pidfd;
	}
	return send_message(k, &m, sizeof(m), fds, m.n_holds);
}

static bool tell_held(struct keeper *k)
{
	for (; k->cursor < k->hold->n_slots; k->cursor++) {
		const struct hold_slot *s = &k->hold->slots[k->cursor];

		if (s->state != HOLD_STATE_FREE && !tell_slot_held(k, s))
			return false;
	}
	k->cursor = 0;
	return true;
}

static bool tell_rings(struct keeper *k)
{
	for (; k->cursor < k->hold->n_rings; k->cursor++) {
		const struct hold_ring *r = &k->hold->rings[k->cursor];
		struct link_ring m = { HEAD(LINK_RING, m), k->cursor, r->size };
		int fd = r->fd_plus_1 - 1;

		if (fd >= 0 && !send_message(k, &m, sizeof(m), &fd, 1))
			return false;
	}
	k->cursor = 0;
	return true;
}

static bool tell_records(struct keeper *k)
{
	struct link_records m = { HEAD(LINK_RECORDS, m) };

	return k->hold->records_fds[0] < 0 ||
	       send_message(k, &m, sizeof(m), k->hold->records_fds, LINK_RECORDS_FDS);
}

static bool tell_ready(struct keeper *k)
{
	struct link_ready m = { HEAD(LINK_READY, m) };

	if (!send_message(k, &m, sizeof(m), NULL, 0))
		return false;
	k->beat_at_ms = keeper_now_ms();
	return true;
}

/* --- as things happen --------------------------------------------------------------------------
 */

static bool tell_started(struct keeper *k, const struct hold_slot *s)
{
	struct link_started m = {
		.head = HEAD(LINK_STARTED, m), .id = s->id, .pid = s->pid, .start_ns = s->start_ns
	};

	return send_message(k, &m, sizeof(m), &s->pidfd, s->pidfd >= 0);
}

static bool tell_verdict(struct keeper *k, const struct hold_slot *s)
{
	struct link_failed failed = {
		.head = HEAD(LINK_FAILED, failed), .id = s->id, .stage = s->stage, .error = s->error
	};
	struct link_unborn unborn = { HEAD(LINK_UNBORN, unborn), s->id };

	switch (s->state) {
	case HOLD_STATE_FAILED:
		return send_message(k, &failed, sizeof(failed), NULL, 0);
	case HOLD_STATE_UNBORN:
		return send_message(k, &unborn, sizeof(unborn), NULL, 0);
	default:
		return tell_started(k, s);
	}
}

static bool tell_slot(struct keeper *k, struct hold_slot *s)
{
	if (s->tells_verdict) {
		if (!tell_verdict(k, s))
			return false;
		s->tells_verdict = false;
	}
	if (s->state == HOLD_STATE_EXITED)
		hold_drop_pidfd(k->hold, s); /* was kept for LINK_STARTED */
	if (s->tells_exit && !send_message(k, &s->exited, sizeof(s->exited), NULL, 0))
		return false;
	hold_told(s);
	return true;
}

static bool tell_forker(struct keeper *k)
{
	struct link_forker m = { .head = HEAD(LINK_FORKER, m), .pid = k->forker.pid };

	if (k->forker_end_fd < 0)
		return true;
	if (!send_message(k, &m, sizeof(m), &k->forker_end_fd, 1))
		return false;
	k->forker_end_fd = fd_close(k->forker_end_fd);
	return true;
}

static bool tell_news(struct keeper *k)
{
	struct hold_slot *s;

	while ((s = list_first(&k->hold->telling, struct hold_slot, telling)))
		if (!tell_slot(k, s))
			return false;
	return tell_forker(k);
}

/* --- the link ----------------------------------------------------------------------------------
 */

static bool (*const phases[])(struct keeper *k) = {
	[KEEPER_PHASE_SETUP] = tell_setup, [KEEPER_PHASE_HELD] = tell_held,
	[KEEPER_PHASE_RINGS] = tell_rings, [KEEPER_PHASE_RECORDS] = tell_records,
	[KEEPER_PHASE_READY] = tell_ready,
};

static bool answer_flush(struct keeper *k)
{
	if (k->answer.size && !send_message(k, k->answer.bytes, k->answer.size, NULL, 0))
		return false;
	k->answer.size = 0;
	return true;
}

static bool tell_everything(struct keeper *k)
{
	if (!answer_flush(k))
		return false;
	for (; k->phase < KEEPER_PHASE_UP; k->phase++)
		if (!phases[k->phase](k))
			return false;
	return tell_news(k);
}

/* What to wait for on the link. */
static void watch_link(struct keeper *k)
{
	bool waits_for_room = k->is_congested && k->retry_at_ms == KEEPER_NEVER;
	uint32_t events = (k->answer.size ? 0 : EPOLLIN) | (waits_for_room ? EPOLLOUT : 0);
	struct epoll_event e = { .events = events,
				 .data.u64 = keeper_event_data(KEEPER_EVENT_LINK, 0, 0) };

	if (events == k->link_events)
		return;
	if (epoll_ctl(k->epoll_fd, EPOLL_CTL_MOD, k->broker.link_fd, &e) < 0)
		log_error("keeper link: %s", err_name(errno));
	k->link_events = events;
}

void tell_pump(struct keeper *k)
{
	if (k->phase == KEEPER_PHASE_DOWN)
		return;
	if (!k->is_congested)
		tell_everything(k);
	watch_link(k);
}

void tell_answer(struct keeper *k, const void *message, size_t size)
{
	if (k->phase == KEEPER_PHASE_DOWN)
		return;
	if (!k->is_congested && send_message(k, message, size, NULL, 0))
		return;
	memcpy(k->answer.bytes, message, size);
	k->answer.size = size;
}

void tell_refused(struct keeper *k, const struct link_spawn_id *id, int error)
{
	struct link_failed m = {
		.head = HEAD(LINK_FAILED, m), .id = *id, .stage = LINK_STAGE_REQUEST, .error = error
	};

	tell_answer(k, &m, sizeof(m));
}
