/* Queued bytes go out in order with one writev a turn; what the pipe does not take waits for the
 * next UV_WRITABLE. When nobody reads any more (EPIPE) the whole queue fails with that errno.
 *
 * A close is the last item. By kind:
 *	pipe       the keeper closes its duplicate and says so, then ours is closed, then it is told
 *	socket     shutdown(2) of our direction: the child sees end of file, we go on reading
 *	terminal   the end-of-file character, if the terminal is in canonical mode: the line that
 * was begun is delivered by a first one, end of file by the next; the input stays open
 */
#include "broker/stream.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/port.h"
#include "broker/pty.h"
#include "broker/record.h"
#include "broker/scratch.h"
#include "proto/base/err.h"

#define WRITE_PIECES 64

int stream_charge_input(struct stream *s, const char **ret_reason)
{
	uint64_t queued = input_queued(&s->in.queue);

	if (!s->in.charge.account && queued)
		return quota_charge_take(&s->in.charge, port_account(s->port), QUOTA_INPUT_BYTES,
					 queued, ret_reason);
	if (s->in.charge.account && !queued)
		quota_charge_return(&s->in.charge);
	else if (s->in.charge.account)
		return quota_charge_resize(&s->in.charge, queued, ret_reason);
	return 0;
}

void stream_settle_input(struct stream *s)
{
	s->port->events->stream.in_changed(s);
	stream_charge_input(s, NULL);
	s->port->events->stream.in_queued(s);
}

void stream_fail_input(struct stream *s, int error)
{
	if (!s->in.is_there || s->in.is_failed || s->in.is_closed)
		return;
	s->in.is_failed = true;
	s->in.error = error;
	port_save(s->port);
	stream_close_unused(s);
	s->port->events->stream.in_failed(s, error);
	stream_charge_input(s, NULL);
	s->port->events->stream.in_queued(s);
}

static ssize_t stream_send(struct stream *s, const struct iovec *iov, int n)
{
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n };
	ssize_t sent = s->kind == STREAM_IS_SOCKET
			       ? sendmsg(s->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
			       : writev(s->fd, iov, n);

	return sent < 0 ? -errno : sent;
}

/* Writes what there is, so that a successor can tell how much that was. A large write into a pipe
 * leaves no doubt; a small one is in doubt for the moment of its system call. */
static ssize_t stream_put(struct stream *s, const struct iovec *iov, int pieces)
{
	const struct scratch *scratch = &s->broker->scratch;
	struct record_live *live = port_live(s);
	size_t size = 0;
	ssize_t n, share = 0;

	if (!live)
		return stream_send(s, iov, pieces);
	for (int i = 0; i < pieces; i++)
		size += iov[i].iov_len;
	if (s->kind == STREAM_IS_PIPE)
		share = scratch_share(scratch, s->fd, size);
	if (share < 0)
		return share;
	if (share)
		return scratch_send(scratch, s->fd, iov, pieces, (size_t)share, live);
	record_live_going(live, (uint32_t)MIN(size, (size_t)UINT32_MAX), false);
	n = stream_send(s, iov, pieces);
	record_live_went(live, n);
	return n;
}

static void stream_wrote(struct stream *s, const struct iovec *iov, size_t n)
{
	size_t left = n;

	for (; left > iov->iov_len; iov++)
		left -= iov->iov_len;
	s->in.last_byte = ((const char *)iov->iov_base)[left - 1];
	s->broker->counters.bytes_in += n;
	input_wrote(&s->in.queue, n);
}

static void close_pipe(struct stream *s, struct input_item *item)
{
	s->in.closing = item;
	s->in.is_closed = true;
	port_save(s->port);
	stream_close_unused(s);
	if (process_release(&s->port->process, LINK_HOLD(HOLD_INPUT, s->number)) < 0)
		stream_input_released(s);
}

void stream_input_released(struct stream *s)
{
	int error = 0;

	if (!s->in.closing || (port_is_pumped(s->port) && !pumped_input_is_over(s, &error)))
		return;
	s->port->events->stream.in_closed(s, TAKE(s->in.closing), error);
}

static void close_socket(struct stream *s, struct input_item *item)
{
	int r = shutdown(s->fd, SHUT_WR) < 0 ? -errno : 0;

	s->in.is_closed = true;
	port_save(s->port);
	stream_close_unused(s);
	s->port->events->stream.in_closed(s, item, r);
}

/* Writes what ends the input of a terminal: 0; -EAGAIN: not all of it yet; another negative errno.
 */
static int terminal_send_end(struct stream *s)
{
	char eof[2];
	size_t size = s->in.last_byte == '\n' || input_offset(&s->in.queue) == 0 ? 1 : 2;
	int r = stream_poll(s); /* so that it does not block */
	ssize_t n;

	if (r < 0)
		return err_pass(r);
	if (!pty_is_canonical(s->fd, &eof[0]))
		return -ENOTTY;
	eof[1] = eof[0];
	n = write(s->fd, eof, size);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	s->in.last_byte = '\n'; /* the line that was begun is delivered */
	return (size_t)n < size ? -EAGAIN : 0;
}

/* The terminal is still there afterwards, and takes more. */
static void close_terminal(struct stream *s, int error)
{
	struct input_item *item = input_take_close(&s->in.queue);

	s->in.queue.is_closed = false;
	s->port->events->stream.in_closed(s, item, error);
}

static void stream_close_due(struct stream *s)
{
	int r = s->kind == STREAM_IS_TERMINAL ? terminal_send_end(s) : 0;

	if (r == -EAGAIN)
		return; /* when it takes bytes again */
	if (s->kind == STREAM_IS_TERMINAL)
		close_terminal(s, r);
	else if (s->kind == STREAM_IS_PIPE)
		close_pipe(s, input_take_close(&s->in.queue));
	else
		close_socket(s, input_take_close(&s->in.queue));
}

void stream_write(struct stream *s)
{
	struct iovec iov[WRITE_PIECES];
	int pieces, r;
	ssize_t n;

	if (s->fd < 0 || s->in.is_failed || s->in.is_closed)
		return;
	pieces = input_iov(&s->in.queue, iov, WRITE_PIECES);
	if (pieces) {
		r = stream_poll(s);
		if (r < 0) {
			stream_fail_input(s, r);
			return;
		}
		n = stream_put(s, iov, pieces);
		if (n < 0 && n != -EAGAIN && n != -EINTR) {
			if (port_is_pumped(s->port))
				pumped_look(s->port); /* knows better why */
			stream_fail_input(s, (int)n);
			return;
		}
		if (n > 0)
			stream_wrote(s, iov, (size_t)n);
	}
	stream_settle_input(s);
	if (input_close_is_due(&s->in.queue))
		stream_close_due(s);
	stream_watch(s);
}
