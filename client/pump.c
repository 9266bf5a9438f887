/* The engine: bytes in, frames out of them, and what waits to be sent.
 *
 * A turn sends what the socket takes, reads at most READS_A_TURN times, and routes every whole
 * frame at once, so that nothing lies here that the descriptor would not tell of. Output takes a
 * short way: a view into the buffer, no unpacking, no copy.
 *
 * Failures end in one place, reconnect_or_lose(): end of file, a reset, a frame that is too long or
 * does not parse, an answer or event that nobody expects, a Hello that is not answered in time.
 * When only sending fails, reading goes on to the end first: the broker's Bye may still lie there.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "client/client.h"
#include "client/patience.h"
#include "client/reading.h"
#include "client/reconnect.h"
#include "client/repeat.h"
#include "proto/base/err.h"
#include "proto/fdpass.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"

#define READS_A_TURN 4
#define READ_SIZE    KIB(256)
#define READ_LEAST   KIB(64) /* less room than this: what is left moves to the front */
#define PAGE	     4096u   /* a copy to an odd place in a page is several times slower */

void options_copy(void *to, size_t to_size, const void *from, size_t first)
{
	size_t size;

	memset(to, 0, to_size);
	if (!from)
		return;
	memcpy(&size, from, sizeof(size)); /* each begins with its size */
	if (size == 0)
		size = first;
	memcpy(to, from, MIN(size, to_size));
}

int64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int clock_left(int64_t deadline_ms)
{
	int64_t left = deadline_ms - clock_ms();

	return left < 0 ? 0 : (int)MIN(left, (int64_t)INT32_MAX);
}

/* --- what came ------------------------------------------------------------------------------- */

static int route(struct redd *r, const Redd__V1__Message *m)
{
	if (m->has_reply_to && m->reply_to && r->state == CLIENT_AGAIN &&
	    m->reply_to == r->away.hello)
		return reconnect_answer(r, m);
	if (m->has_reply_to && m->reply_to)
		return calls_answer(r, m->reply_to, m);
	switch ((int)m->body_case) {
	case REDD__V1__MESSAGE__BODY_OUTPUT:
	case REDD__V1__MESSAGE__BODY_GAP:
	case REDD__V1__MESSAGE__BODY_STREAM_END:
	case REDD__V1__MESSAGE__BODY_EXITED:
	case REDD__V1__MESSAGE__BODY_CLOSED:
	case REDD__V1__MESSAGE__BODY_MARKS:
	case REDD__V1__MESSAGE__BODY_MOVED:
		return subscription_event(r, m);
	case REDD__V1__MESSAGE__BODY_LIFE:
		return watch_event(r, m);
	case REDD__V1__MESSAGE__BODY_LEASED:
		return lease_event(r, m);
	case REDD__V1__MESSAGE__BODY_BYE:
		failure_refused(&r->bye, m->bye->error);
		return 0;
	case REDD__V1__MESSAGE__BODY_ERROR: /* a request without an id, such as Credit, failed */
		failure_refused(&r->failure, m->error);
		return 0;
	default:
		return 0; /* an event of a newer broker */
	}
}

static int frame_in(struct redd *r, const uint8_t *data, size_t size)
{
	struct codec_output output;
	Redd__V1__Message *m;
	const char *reason;
	const uint8_t *bytes;
	int e;

	if (size == 0)
		return 0;
	if (codec_view_output(data, size, &output, &bytes) == 0) {
		subscription_output(r, &output, bytes);
		return 0;
	}
	e = codec_unpack_message(&r->arena, data, size, &m, &reason);
	if (e == CODEC_E_REFUSED)
		return client_fail(r, -EPROTO, "the broker sent a frame that is not right: %s",
				   reason);
	if (e < 0)
		return client_fail(r, e, "no memory for a message of %zu bytes", size);
	e = route(r, m);
	arena_reset(&r->arena, 0);
	return e;
}

/* Routes every whole frame. 0, or a negative errno that ends the connection. */
static int frames_in(struct redd *r)
{
	struct incoming *in = &r->in;
	size_t prefix, length;

	while (in->end > in->start) {
		uint32_t max = MAX(r->frame_max, FRAME_MAX_DEFAULT);
		int e = frame_parse(in->data + in->start, in->end - in->start, max, &prefix,
				    &length);

		if (e == FRAME_E_MORE)
			return 0;
		if (e)
			return client_fail(r, -EPROTO,
					   "the broker sent a frame that is too long; is it one?");
		if (in->end - in->start - prefix < length)
			return 0;
		e = frame_in(r, in->data + in->start + prefix, length);
		if (e < 0)
			return err_pass(e);
		in->start += prefix + length;
	}
	in->start = in->end = 0;
	return 0;
}

/* Makes room to read into: moves what is left to the front, and grows when a frame fills it all.
 * A frame may only be announced; the buffer doubles with what has really come. */
static int room(struct redd *r)
{
	struct incoming *in = &r->in;
	size_t used = in->end - in->start, capacity = in->capacity;
	uint8_t *data;

	if (in->capacity - in->end >= READ_LEAST)
		return 0;
	if (in->start && in->capacity - used >= READ_LEAST) {
		memmove(in->data, in->data + in->start, used);
		in->start = 0;
		in->end = used;
		return 0;
	}
	capacity = capacity ? capacity * 2 : READ_SIZE;
	data = aligned_alloc(PAGE, capacity);
	if (!data)
		return client_fail(r, err_begin(-ENOMEM), "no memory for %zu bytes that came",
				   capacity);
	if (used)
		memcpy(data, in->data + in->start, used);
	free(in->data);
	*in = (struct incoming){ .data = data, .end = used, .capacity = capacity };
	return 0;
}

/* Why the other side closed: in its own words if it said any. */
static int closed_by_broker(struct redd *r)
{
	if (r->bye.error.result) {
		failure_copy(&r->failure, &r->bye);
		return r->bye.error.result;
	}
	if (r->in.end > r->in.start)
		return client_fail(r, -ENOTCONN,
				   "the broker closed the connection in the middle of a message; "
				   "see whether it still runs");
	return client_fail(r, -ENOTCONN,
			   "the broker closed the connection; see whether it still runs");
}

/* 1: something came, 0: nothing now, or a negative errno that ends the connection. */
static int read_once(struct redd *r)
{
	struct incoming *in = &r->in;
	struct fdpass_info info;
	ssize_t n;
	int e = room(r);

	if (e < 0)
		return err_pass(e);
	n = fdpass_recv(r->fd, in->data + in->end, in->capacity - in->end, MSG_DONTWAIT,
			r->doors + r->n_doors, ARRAY_SIZE(r->doors) - r->n_doors, &info);
	if (n == -EAGAIN)
		return r->out.error ? closed_by_broker(r) : 0;
	if (n == 0 || n == -ECONNRESET)
		return closed_by_broker(r);
	if (n < 0)
		return client_fail(r, (int)n, "reading from the broker: %s", err_name((int)n));
	r->n_doors += info.n_fds;
	in->end += (size_t)n;
	e = frames_in(r);
	if (e < 0 || r->state == CLIENT_DOWN)
		return MIN(e, 0);
	subscriptions_pay(r);
	outgoing_flush(&r->out, r->fd);
	return 1;
}

/* --- turns ----------------------------------------------------------------------------------- */

static int turn(struct redd *r)
{
	int e = 1;

	if (r->state == CLIENT_AWAY || r->state == CLIENT_AGAIN)
		e = reconnect_turn(r);
	if (e < 0 || r->state == CLIENT_AWAY)
		return err_pass(e);
	e = repeat_turn(r);
	if (e < 0)
		return err_pass(e);
	outgoing_flush(&r->out, r->fd);
	e = 1;
	for (int i = 0; i < READS_A_TURN && e > 0; i++)
		e = read_once(r);
	if (e < 0)
		return err_pass(e);
	if (!list_is_empty(&r->awake)) {
		reading_turn(r);
		subscriptions_pay(r);
		outgoing_flush(&r->out, r->fd);
	}
	if (r->state == CLIENT_DOWN)
		return 0; /* Hello was refused */
	if (r->state == CLIENT_HELLO && clock_left(r->hello_deadline_ms) == 0)
		return client_fail(r, -ETIMEDOUT,
				   "the broker took the connection but does not answer; see "
				   "whether it hangs");
	e = repeat_turn(r);
	patience_turn(r);
	outgoing_flush(&r->out, r->fd);
	return err_pass(e);
}

int redd_dispatch(struct redd *r)
{
	int e;

	if (r->dispatching)
		return client_fail(r, -EDEADLK, "dispatching inside of a callback");
	if (r->state == CLIENT_DOWN)
		return client_fail_down(r);
	r->dispatching = true;
	e = turn(r);
	r->dispatching = false;
	if (e < 0)
		reconnect_or_lose(r, e);
	return r->state == CLIENT_DOWN ? client_fail_down(r) : 0;
}

int redd_run_once(struct redd *r, int timeout_ms)
{
	struct pollfd p = { .fd = redd_fd(r), .events = redd_events(r) };
	int due = redd_timeout(r);

	if (r->dispatching)
		return client_fail(r, -EDEADLK, "waiting inside of a callback");
	if (r->state == CLIENT_DOWN)
		return client_fail_down(r);
	if (due >= 0 && (timeout_ms < 0 || due < timeout_ms))
		timeout_ms = due;
	poll(&p, 1, timeout_ms);
	return redd_dispatch(r);
}

int client_turn(struct redd *r, int64_t deadline_ms)
{
	int left = deadline_ms < 0 ? -1 : clock_left(deadline_ms);

	if (left == 0)
		return -ETIMEDOUT;
	return redd_run_once(r, left);
}

int redd_fd(const struct redd *r)
{
	return r->fd;
}

short redd_events(const struct redd *r)
{
	if (r->state == CLIENT_DOWN || r->state == CLIENT_AWAY)
		return 0;
	return (short)(outgoing_size(&r->out) ? POLLIN | POLLOUT : POLLIN);
}

int redd_timeout(const struct redd *r)
{
	if (r->state == CLIENT_DOWN)
		return -1;
	if (r->state == CLIENT_AWAY || r->state == CLIENT_AGAIN)
		return r->out.error ? 0 : reconnect_timeout(r);
	if (r->out.error || !list_is_empty(&r->awake) || repeat_is_due(r))
		return 0;
	return r->state == CLIENT_HELLO ? clock_left(r->hello_deadline_ms) : patience_timeout(r);
}

size_t redd_queued(const struct redd *r)
{
	return outgoing_size(&r->out);
}
