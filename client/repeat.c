/* Coming back. In this order, since calls may name subscriptions, and take leases: subscriptions,
 * watches, whether leases are ours still, calls. A queue that is full, or as many requests as a
 * broker lets wait, stop it until a later turn; what is started meanwhile waits behind
 * (calls_go_out()).
 *
 * A call is sent as its frame was, but for what has changed: a port that was named by the request
 * that spawns it has got its id; a Wait or Expect has less time left; a Write states its offset, so
 * that what is in the pipe already is not written again.
 *
 * Failures: a frame that is too long now ends its call alone. A subscription or watch that the
 * broker refuses ends with the reason.
 */
#include "client/repeat.h"

#include <errno.h>

#include "client/call.h"
#include "client/handles.h"
#include "client/subscribe.h"
#include "client/watch.h"
#include "proto/base/err.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"

#define ROOM 1 /* there is none just now */

/* Until answers come, or the socket takes more. */
static bool is_full(const struct redd *r)
{
	return r->calls.n_sent >= CONN_PENDING_MAX || outgoing_size(&r->out) >= r->out.limit;
}

/* --- one call -------------------------------------------------------------------------------- */

/* How the request names its port; NULL: it names none. */
static Redd__V1__PortRef *port_of(const Redd__V1__Request *m)
{
	switch ((int)m->body_case) {
	case REDD__V1__REQUEST__BODY_WRITE:
		return m->write->port;
	case REDD__V1__REQUEST__BODY_CLOSE:
		return m->close->port;
	case REDD__V1__REQUEST__BODY_SIGNAL:
		return m->signal->port;
	case REDD__V1__REQUEST__BODY_RESIZE:
		return m->resize->port;
	case REDD__V1__REQUEST__BODY_SUBSCRIBE:
		return m->subscribe->port;
	case REDD__V1__REQUEST__BODY_WAIT:
		return m->wait->port;
	case REDD__V1__REQUEST__BODY_FORGET:
		return m->forget->port;
	case REDD__V1__REQUEST__BODY_INSPECT:
		return m->inspect->port;
	case REDD__V1__REQUEST__BODY_GRANT:
		return m->grant->port;
	case REDD__V1__REQUEST__BODY_REVOKE:
		return m->revoke->port;
	case REDD__V1__REQUEST__BODY_LEASE:
		return m->lease->port;
	case REDD__V1__REQUEST__BODY_RELEASE:
		return m->release->port;
	case REDD__V1__REQUEST__BODY_EXPECT:
		return m->expect->port;
	default:
		return NULL;
	}
}

/* The request that spawned it was the old connection's. */
static void ref_refresh(Redd__V1__PortRef *ref, const struct redd_port *port)
{
	if (ref->by_case != REDD__V1__PORT_REF__BY_SPAWN || !port->id)
		return;
	ref->by_case = REDD__V1__PORT_REF__BY_ID;
	ref->id = port->id;
}

/* It names several, of which the call holds none. */
static void delegate_refresh(const struct redd *r, Redd__V1__Delegate *m)
{
	const struct redd_port *port;

	for (size_t i = 0; i < m->n_ports; i++) {
		uint64_t spawn = m->ports[i]->by_case == REDD__V1__PORT_REF__BY_SPAWN
					 ? m->ports[i]->spawn
					 : 0;

		list_for_each (port, &r->ports, link)
			if (spawn && port->spawn == spawn)
				ref_refresh(m->ports[i], port);
	}
}

/* What is left of a time limit. */
static uint32_t shorten(uint32_t timeout_ms, const struct call *c)
{
	int64_t gone = clock_ms() - c->started_ms;

	return gone >= timeout_ms ? 0 : timeout_ms - (uint32_t)gone;
}

/* A repeat is no matter of busy or not: some of it may be in the pipe. */
static void write_place(Redd__V1__Write *m, const struct call *c)
{
	if (!c->is_repeated)
		return;
	m->has_offset = c->input.has_offset;
	m->offset = c->input.offset;
	m->has_no_wait = false;
	m->no_wait = false;
}

void repeat_names(const struct redd *r, Redd__V1__Request *m, const struct redd_port *port)
{
	Redd__V1__PortRef *ref = port_of(m);

	if (ref && port)
		ref_refresh(ref, port);
	if (m->body_case == REDD__V1__REQUEST__BODY_DELEGATE)
		delegate_refresh(r, m->delegate);
}

static void call_refresh(const struct redd *r, Redd__V1__Request *m, struct call *c)
{
	repeat_names(r, m, c->port);
	if (m->body_case == REDD__V1__REQUEST__BODY_WAIT)
		m->wait->timeout_ms = shorten(m->wait->timeout_ms, c);
	if (m->body_case == REDD__V1__REQUEST__BODY_EXPECT)
		m->expect->timeout_ms = shorten(m->expect->timeout_ms, c);
	if (m->body_case == REDD__V1__REQUEST__BODY_WRITE)
		write_place(m->write, c);
	if (m->body_case == REDD__V1__REQUEST__BODY_WRITE && c->input.is_patient)
		m->write->batch = c->input.batch = r->patience.batch;
}

/* The message of a kept frame, in the arena. 0 or a negative errno. */
static int frame_open(struct redd *r, const uint8_t *frame, size_t size, Redd__V1__Request **ret)
{
	size_t prefix, length;
	const char *reason;
	int e = frame_parse(frame, size, FRAME_MAX_HIGHEST, &prefix, &length);

	if (e == 0)
		e = codec_unpack_request(&r->arena, frame + prefix, length, ret, &reason);
	return e > 0 ? err_begin(-EBADMSG) : err_pass(e);
}

/* Only Welcome tells whether descriptors are taken; if not, the first try was lost over them, and
 * so would each other one be that does not wait for it. */
static bool waits_for_welcome(const struct redd *r, const struct call *c)
{
	return c->n_fds && !redd_welcome(r);
}

/* 0, ROOM, or a negative errno that is the call's alone. */
static int call_again(struct redd *r, struct call *c)
{
	uint64_t position = outgoing_end(&r->out);
	Redd__V1__Request *m;
	int e = 0;

	if (waits_for_welcome(r, c))
		return ROOM;
	if (c->n_fds && !calls_pass_descriptors(r))
		return -EOPNOTSUPP; /* the connection was lost over them */
	e = frame_open(r, c->frame, c->frame_size, &m);
	if (e < 0)
		return err_pass(e);
	call_refresh(r, m, c);
	e = outgoing_message(&r->out, &m->base, r->frame_max, c->fds, c->n_fds);
	arena_reset(&r->arena, 0);
	if (e == 0)
		call_mark_sent(r, c, position);
	if (e == OUTGOING_E_LONG)
		return err_begin(-EMSGSIZE);
	return e == OUTGOING_E_FULL ? ROOM : err_pass(e);
}

/* The first that waits to be sent here. */
static struct call *call_unsent(const struct redd *r)
{
	struct call *c;

	list_for_each (c, &r->calls.order, order)
		if (!c->is_sent && c->frame && !(c->input.is_patient && r->patience.is_crowded))
			return c;
	return NULL;
}

/* Until there is none: who is told of one that is given up may have started another. */
static int calls_again(struct redd *r)
{
	struct call *c;

	while ((c = call_unsent(r))) {
		int e = is_full(r) ? ROOM : call_again(r, c);

		if (e == ROOM || e == -ENOMEM)
			return e;
		if (e < 0)
			call_give_up(r, c, e);
	}
	return 0;
}

int repeat_patient(struct redd *r)
{
	struct call *c;
	int e;

	list_for_each (c, &r->calls.order, order)
		if (!c->is_sent && c->frame && c->input.is_patient)
			break;
	if (&c->order == &r->calls.order || is_full(r))
		return ROOM;
	e = call_again(r, c);
	if (e == ROOM || e == -ENOMEM)
		return ROOM;
	if (e < 0)
		call_give_up(r, c, e);
	return 0;
}

/* --- all ------------------------------------------------------------------------------------- */

/* Each in turn to the end of the list. One that cannot be asked for ends, and who is told of it may
 * free it and any other. */
static int subscriptions_again(struct redd *r)
{
	struct redd_subscription *s;
	struct list turn;
	int e = 0;

	list_init(&turn);
	list_splice(&turn, &r->subscriptions);
	while (e == 0 && (s = list_first(&turn, struct redd_subscription, link))) {
		list_remove(&s->link);
		list_append(&r->subscriptions, &s->link);
		if (s->state == SUBSCRIPTION_AWAY)
			e = is_full(r) ? ROOM : subscription_again(s);
	}
	list_splice(&r->subscriptions, &turn);
	return e == -EAGAIN ? ROOM : e;
}

static int watches_again(struct redd *r)
{
	struct redd_watch *w;
	int e = 0;

	list_for_each (w, &r->watches, link) {
		Redd__V1__Request *m;

		if (!w->is_away || w->over || !w->request)
			continue;
		e = is_full(r) ? ROOM : frame_open(r, w->request, w->request_size, &m);
		if (e == 0)
			e = watch_again(w, m->watch);
		if (e)
			break;
	}
	return e == -EAGAIN ? ROOM : e;
}

static int leases_again(struct redd *r)
{
	struct redd_port *p;
	int e = 0;

	list_for_each (p, &r->ports, link) {
		if (!p->lease || !p->lease_is_away)
			continue;
		e = is_full(r) ? ROOM : lease_look(p);
		if (e)
			break;
	}
	return e == -EAGAIN ? ROOM : e;
}

static bool may_repeat(const struct redd *r)
{
	return r->away.is_resuming && (r->state == CLIENT_UP || r->state == CLIENT_HELLO);
}

bool repeat_is_due(const struct redd *r)
{
	const struct call *c = call_unsent(r);

	return may_repeat(r) && !outgoing_size(&r->out) && !is_full(r) &&
	       !(c && waits_for_welcome(r, c));
}

int repeat_turn(struct redd *r)
{
	int e = 0;

	if (!may_repeat(r))
		return 0;
	if (r->state == CLIENT_UP) {
		e = subscriptions_again(r);
		if (e == 0)
			e = watches_again(r);
		if (e == 0)
			e = leases_again(r);
	}
	if (e == 0)
		e = calls_again(r);
	if (e == 0)
		r->away.is_resuming = false;
	return e < 0 ? client_fail(r, e, "what was under way cannot be asked again: %s",
				   err_name(e))
		     : 0;
}
