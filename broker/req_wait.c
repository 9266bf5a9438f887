/* Wait, Forget, Watch, Unwatch. */
#include <errno.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/req.h"
#include "broker/req_events.h"
#include "broker/life.h"
#include "proto/base/err.h"

/* --- Wait ------------------------------------------------------------------------------------ */

static bool is_fulfilled(const struct port *p, enum pending_kind kind)
{
	return kind == PENDING_WAIT_CLOSED ? p->state == PORT_ENDED : p->has_exited;
}

static void answer_wait(struct conn *c, uint64_t request, struct port *p, enum pending_kind kind)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Waited w = REDD__V1__WAITED__INIT;
	Redd__V1__Exit exit = REDD__V1__EXIT__INIT;
	struct stream_infos streams;

	port_was_asked(p);
	reply_fill_exit(&exit, &p->exit);
	SET(w, port, p->id);
	w.exit = &exit;
	if (kind == PENDING_WAIT_CLOSED) {
		w.n_holders = p->n_holders;
		w.holders = p->holders;
		req_fill_streams(&streams, p);
		w.n_streams = streams.n;
		w.streams = streams.pointers;
	}
	m.body_case = REDD__V1__MESSAGE__BODY_WAITED;
	m.waited = &w;
	reply_message(c, request, &m);
}

int req_wait(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Wait *m = request->wait;
	struct port *p = req_port(c, request->id, m->port, POLICY_SEE);
	enum pending_kind kind = m->until == REDD__V1__WAIT__UNTIL__CLOSED ? PENDING_WAIT_CLOSED
									   : PENDING_WAIT_EXITED;
	struct pending *pending;

	if (!p)
		return 0;
	if ((unsigned)m->until > REDD__V1__WAIT__UNTIL__CLOSED) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL,
			    "until has a value that this broker does not know");
		return 0;
	}
	if (is_fulfilled(p, kind)) {
		answer_wait(c, request->id, p, kind);
		return 0;
	}
	if (m->has_timeout_ms && m->timeout_ms == 0) {
		reply_error(c, request->id, REPLY_DEADLINE_EXCEEDED, 0, "not yet; the port is %s",
			    port_state_name(p->state));
		return 0;
	}
	pending = req_pending(c, p, kind, request->id);
	if (pending && m->has_timeout_ms)
		return alarm_set(&c->broker->alarms, &pending->alarm, m->timeout_ms);
	return 0;
}

void req_wait_look(struct port *p)
{
	struct pending *pending, *next;

	list_for_each_safe (pending, next, &p->pendings, port_link) {
		if (pending->kind != PENDING_WAIT_EXITED && pending->kind != PENDING_WAIT_CLOSED)
			continue;
		if (!is_fulfilled(p, pending->kind))
			continue;
		answer_wait(pending->conn, pending->request, p, pending->kind);
		pending_free(pending);
	}
}

/* --- Forget ---------------------------------------------------------------------------------- */

int req_forget(struct conn *c, const Redd__V1__Request *request)
{
	struct port *p = req_port(c, request->id, request->forget->port, POLICY_MANAGE);

	if (!p)
		return 0;
	if (p->state != PORT_ENDED) {
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, EBUSY,
			    "the port is %s; signal it and wait until it has ended",
			    port_state_name(p->state));
		return 0;
	}
	port_forget(p);
	reply_done(c, request->id);
	broker_check_idle(c->broker);
	return 0;
}

/* --- Watch ----------------------------------------------------------------------------------- */

static void refuse_watch(struct conn *c, uint64_t request, int why)
{
	if (why == WATCH_E_GONE)
		reply_error(c, request, REPLY_OUT_OF_RANGE, 0,
			    "events so old are not kept; List, and watch from its sequence");
	else if (why == WATCH_E_AHEAD)
		reply_error(c, request, REPLY_OUT_OF_RANGE, 0,
			    "no event has that sequence yet; List tells the newest one");
	else
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, 0,
			    "the connection has too many watches; end one of them first");
}

int req_watch(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Watch *m = request->watch;
	Redd__V1__Message reply = REDD__V1__MESSAGE__INIT;
	Redd__V1__Watching watching = REDD__V1__WATCHING__INIT;
	struct labels *selector;
	const char *reason;
	struct watch *w;
	int r = req_read_labels(m->labels, m->n_labels, true, &selector, &reason);

	if (r < 0)
		return err_pass(r);
	if (r) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0, "%s", reason);
		return 0;
	}
	r = watch_new(&w, c, m->has_after ? &m->after : NULL, selector);
	if (r) {
		if (r > 0)
			refuse_watch(c, request->id, r);
		return MIN(r, 0);
	}
	SET(watching, watch, w->id);
	SET(watching, sequence, w->told);
	reply.body_case = REDD__V1__MESSAGE__BODY_WATCHING;
	reply.watching = &watching;
	reply_message(c, request->id, &reply);
	return 0;
}

int req_unwatch(struct conn *c, const Redd__V1__Request *request)
{
	struct watch *w = watch_find(c, request->unwatch->watch);

	if (!w) {
		reply_error(c, request->id, REPLY_NOT_FOUND, 0,
			    "this connection has no such watch");
		return 0;
	}
	watch_free(w);
	reply_done(c, request->id);
	return 0;
}
