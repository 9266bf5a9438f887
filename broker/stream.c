/* The poll handle is the only thing here that closes asynchronously: the memory of a stream that is
 * freed meanwhile goes in its close callback. The descriptor is closed at once, and the handle
 * right before it: epoll would otherwise go on reporting an open file description that the keeper
 * still has a duplicate of, and a handle that is closed later takes the descriptor's next user out
 * of epoll.
 */
#include "broker/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "broker/port.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

static void on_work(struct job *job);

int stream_new(struct stream **ret, struct port *port, uint32_t number, enum stream_kind kind,
	       int take_fd)
{
	_cleanup_(fd_closep) int fd = take_fd;
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_begin(-ENOMEM);
	s->port = port;
	s->broker = port->broker;
	s->number = number;
	s->kind = kind;
	s->fd = TAKE_FD(fd);
	list_init(&s->out.readers);
	list_init(&s->out.blockers);
	list_init(&s->out.expects);
	list_init(&s->out.idle);
	list_init(&s->out.shared);
	job_init(&s->work, on_work);
	job_join(&s->work, quota_turn_share(port_account(port)));
	*ret = s;
	return 0;
}

static void stream_destroy(struct stream *s)
{
	ring_free(s->out.ring);
	quota_charge_return(&s->out.charge);
	quota_charge_return(&s->in.charge);
	free(s);
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct stream *s = handle->data;

	s->is_closing = false;
	if (s->is_freed)
		stream_destroy(s);
}

static void stream_close(struct stream *s)
{
	if (s->is_polled) {
		s->is_polled = false;
		s->is_closing = true;
		uv_close((uv_handle_t *)&s->poll, on_poll_closed);
	}
	job_cancel(&s->work);
	s->events = 0;
	s->mask = 0;
	s->fd = fd_close(s->fd);
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	stream_close(s);
	if (s->in.is_there)
		input_deinit(&s->in.queue, NULL, NULL);
	s->in.is_there = false;
	if (s->in.closing)
		input_item_free(TAKE(s->in.closing));
	ring_free(TAKE(s->out.ring));
	quota_charge_return(&s->out.charge);
	s->is_freed = true;
	if (!s->is_closing)
		stream_destroy(s);
}

int stream_poll(struct stream *s)
{
	int r;

	if (s->is_polled)
		return 0;
	r = uv_poll_init(&s->broker->loop, &s->poll, s->fd);
	if (r < 0)
		return err_begin(r);
	s->poll.data = s;
	s->is_polled = true;
	return 0;
}

void stream_start(struct stream *s)
{
	s->is_started = true;
	s->out.active_ms = uv_now(&s->broker->loop);
	stream_watch(s);
}

static int stream_wants(const struct stream *s)
{
	struct iovec iov;
	int mask = 0;

	if (s->kind == STREAM_IS_REPORTS)
		return s->out.is_ended ? 0 : UV_READABLE;
	if (s->out.is_there && !s->out.is_ended && !s->out.is_held && !s->out.awaits_cause)
		mask |= UV_READABLE;
	if (s->in.is_there && !s->in.is_failed && !s->in.is_closed &&
	    (input_iov(&s->in.queue, &iov, 1) || input_close_is_due(&s->in.queue)))
		mask |= UV_WRITABLE;
	return mask;
}

static uint64_t moved(const struct stream *s)
{
	return (s->out.is_there ? stream_total(s) : 0) + s->in.queue.written;
}

static void on_work(struct job *job)
{
	struct stream *s = container_of(job, struct stream, work);
	int events = s->events & stream_wants(s);
	uint64_t before = moved(s);

	/* Once its program has ended its time to be read is counted. */
	if (events && !s->port->has_exited && yield_waits(&s->broker->yield, &s->flow, job))
		return;
	s->events = 0;
	if (events & UV_WRITABLE)
		stream_write(s);
	if (s->fd >= 0 && (events & UV_READABLE) && s->kind == STREAM_IS_REPORTS)
		pumped_ready(s);
	else if (s->fd >= 0 && (events & UV_READABLE))
		stream_read(s);
	yield_moved(&s->broker->yield, &s->flow, moved(s) - before);
	stream_watch(s);
}

void stream_write_soon(struct stream *s)
{
	uint64_t before = moved(s);

	if (yield_is_aside(&s->flow, &s->work))
		return;
	stream_write(s);
	yield_moved(&s->broker->yield, &s->flow, moved(s) - before);
}

void stream_hurry(struct stream *s)
{
	yield_hurry(&s->broker->yield, &s->flow, &s->work);
}

/* Noted, and done in its turn. While it waits for that it is not polled. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct stream *s = poll->data;

	if (status < 0) {
		events = UV_READABLE | UV_WRITABLE; /* they tell which error it is */
		s->mask = 0;			    /* libuv has stopped the handle */
	} else if (job_waits(&s->work)) {
		uv_poll_stop(poll);
		s->mask = 0;
	}
	s->events |= events;
	turn_work(&s->broker->turn, &s->work);
}

void stream_watch(struct stream *s)
{
	int mask = s->fd < 0 || !s->is_started ? 0 : stream_wants(s), r = 0;

	if (mask == s->mask)
		return;
	if (mask)
		r = stream_poll(s);
	if (r < 0) {
		stream_end_output(s, STREAM_READ_ERROR, -r);
		stream_fail_input(s, r);
		return;
	}
	s->mask = mask;
	if (mask)
		uv_poll_start(&s->poll, mask, on_poll);
	else
		uv_poll_stop(&s->poll);
}

void stream_close_unused(struct stream *s)
{
	bool reads = (s->out.is_there || s->kind == STREAM_IS_REPORTS) && !s->out.is_ended;
	bool writes = s->in.is_there && !s->in.is_closed && !s->in.is_failed;

	if (!reads && !writes)
		stream_close(s);
	else
		stream_watch(s);
}
