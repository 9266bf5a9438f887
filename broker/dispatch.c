/* Two ways in. A Write in canonical field order, which is most of what flows, is read where it lies
 * in the frame. Everything else is scanned and unpacked into the broker's arena first; there is one
 * frame at a time.
 */
#include "broker/dispatch.h"

#include <errno.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/req.h"
#include "proto/base/err.h"

enum dispatch_when { WHEN_GREETING = 1 << 0, WHEN_OPEN = 1 << 1 };

struct dispatch_entry {
	req_handler *handle;
	unsigned when;
	bool without_id; /* may carry id 0 */
};

static const struct dispatch_entry table[] = {
	[REDD__V1__REQUEST__BODY_HELLO] = { req_hello, WHEN_GREETING | WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_SPAWN] = { req_spawn, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_WRITE] = { req_write, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_CLOSE] = { req_close, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_SIGNAL] = { req_signal, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_RESIZE] = { req_resize, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_SUBSCRIBE] = { req_subscribe, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_UNSUBSCRIBE] = { req_unsubscribe, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_CREDIT] = { req_credit, WHEN_OPEN, true },
	[REDD__V1__REQUEST__BODY_WAIT] = { req_wait, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_LIST] = { req_list, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_INSPECT] = { req_inspect, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_FORGET] = { req_forget, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_WATCH] = { req_watch, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_UNWATCH] = { req_unwatch, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_STATS] = { req_stats, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_PING] = { req_ping, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_SHUTDOWN] = { req_shutdown, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_CANCEL] = { req_cancel, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_OPEN] = { req_open, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_GRANT] = { req_grant, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_REVOKE] = { req_revoke, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_DELEGATE] = { req_delegate, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_LEASE] = { req_lease, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_RELEASE] = { req_release, WHEN_OPEN, false },
	[REDD__V1__REQUEST__BODY_EXPECT] = { req_expect, WHEN_OPEN, false },
};

static unsigned when_now(const struct conn *c)
{
	return c->state == CONN_GREETING ? WHEN_GREETING : WHEN_OPEN;
}

static int dispatch_request(struct conn *c, const Redd__V1__Request *r)
{
	const struct dispatch_entry *e = &table[0];

	if ((size_t)r->body_case < ARRAY_SIZE(table))
		e = &table[r->body_case];
	if (!r->id && !e->without_id) {
		conn_leave(c, REPLY_INVALID_ARGUMENT,
			   "a request without an id cannot be answered; number requests from 1");
		return 0;
	}
	if (pending_find(c, r->id)) {
		reply_error(c, r->id, REPLY_INVALID_ARGUMENT, 0,
			    "a request with this id still waits for its answer; use another id");
		return 0;
	}
	if (!r->id && !(e->when & when_now(c)))
		return 0; /* wants no answer, and gets none */
	if (!e->handle)
		reply_error(
			c, r->id, REPLY_UNIMPLEMENTED, 0,
			"this broker does not know the request; look at the features of Welcome");
	else if (!(e->when & when_now(c)))
		reply_error(c, r->id, REPLY_UNAUTHENTICATED, 0,
			    "Hello must be the first request of a connection");
	else
		return e->handle(c, r);
	return 0;
}

int dispatch_frame(struct conn *c, const uint8_t *frame, size_t size)
{
	struct codec_write write;
	Redd__V1__Request *request;
	const char *reason;
	int r;

	c->broker->counters.requests++;
	if (c->state == CONN_OPEN && codec_view_write(frame, size, &write) == 0)
		return req_write_view(c, &write);
	r = codec_unpack_request(&c->broker->arena, frame, size, &request, &reason);
	if (r < 0)
		return err_pass(r);
	if (r)
		conn_leave(c, REPLY_INVALID_ARGUMENT, reason);
	else
		r = dispatch_request(c, request);
	arena_reset(&c->broker->arena,
		    0); /* what a large frame took is not kept for the next one */
	return err_pass(MIN(r, 0));
}
