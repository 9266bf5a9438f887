/* Wait, Forget, Watch, Unwatch. */
#include <errno.h>
#include <limits.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/req.h"
#include "broker/req_events.h"
#include "broker/life.h"
#include "broker/rights.h"
#include "proto/base/err.h"

/* --- Wait ------------------------------------------------------------------------------------ */

/* Also when it is about to go. */
bool req_wait_is_fulfilled(const struct port *p, enum pending_kind kind)
{
	return kind == PENDING_WAIT_CLOSED ? list_is_linked(&p->ended_link) : p->has_exited;
}

void req_wait_answer(struct conn *c, uint64_t request, struct port *p, enum pending_kind kind)
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

int req_wait_set(struct pending *pending, const Redd__V1__Wait *m)
{
	return m->has_timeout_ms
		       ? alarm_set(&pending->conn->broker->alarms, &pending->alarm, m->timeout_ms)
		       : 0;
}

static int wait_until(struct conn *c, const Redd__V1__Request *request, struct port *p,
		      enum pending_kind kind)
{
	struct pending *pending;

	if (p->n_waits >= PORT_WAITS_MAX) {
		reply_error(c, request->id, REPLY_RESOURCE_EXHAUSTED, EAGAIN,
			    "as many requests wait for this port as may (%u); try again when some "
			    "are over, or subscribe to it",
			    PORT_WAITS_MAX);
		return 0;
	}
	pending = req_pending(c, p, kind, request->id);
	return pending ? req_wait_set(pending, request->wait) : 0;
}

int req_wait(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Wait *m = request->wait;
	enum pending_kind kind = m->until == REDD__V1__WAIT__UNTIL__CLOSED ? PENDING_WAIT_CLOSED
									   : PENDING_WAIT_EXITED;
	struct port *p = m->n_labels ? NULL : req_port(c, request->id, m->port, POLICY_SEE);

	if (!p && !m->n_labels)
		return 0;
	if ((unsigned)m->until > REDD__V1__WAIT__UNTIL__CLOSED) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL,
			    "until has a value that this broker does not know");
		return 0;
	}
	if (m->n_labels)
		return req_wait_selected(c, request, kind);
	if (req_wait_is_fulfilled(p, kind)) {
		req_wait_answer(c, request->id, p, kind);
		return 0;
	}
	if (m->has_timeout_ms && m->timeout_ms == 0) {
		reply_error(c, request->id, REPLY_DEADLINE_EXCEEDED, 0, "not yet; the port is %s",
			    port_state_name(p->state));
		return 0;
	}
	return wait_until(c, request, p, kind);
}

/* --- looking --------------------------------------------------------------------------------- */

static void on_looks(struct job *job);

void waits_init(struct waits *w)
{
	*w = (struct waits){ 0 };
	list_init(&w->selected);
	list_init(&w->ports);
	job_init(&w->job, on_looks);
}

void port_look_init(struct port_look *l)
{
	list_init(&l->link);
}

static void answer_if(struct pending *pending, struct port *p)
{
	if (!req_wait_is_fulfilled(p, pending->kind))
		return;
	req_wait_answer(pending->conn, pending->request, p, pending->kind);
	pending_free(pending);
}

static void look_at_own(struct port *p)
{
	struct pending *pending, *next;

	list_for_each_safe (pending, next, &p->pendings, port_link)
		if (pending->kind == PENDING_WAIT_EXITED || pending->kind == PENDING_WAIT_CLOSED)
			answer_if(pending, p);
}

/* The next of those by labels, which is the last then: so those that are left are always the
 * first, whoever comes and goes meanwhile. Who comes has seen for himself how the port is. */
static void look_at_next(struct port *p)
{
	struct waits *w = &p->broker->waits;
	struct pending *next = list_first(&w->selected, struct pending, select_link);

	p->look.n_left = next ? p->look.n_left - 1 : 0;
	if (!next)
		return;
	list_remove(&next->select_link);
	list_append(&w->selected, &next->select_link);
	if (rights_may(next->conn, POLICY_SEE, p) &&
	    labels_match(p->options.labels, next->selector))
		answer_if(next, p);
}

/* False: some are left. */
static bool look_slice(struct port *p)
{
	if (p->look.n_left == UINT_MAX) {
		look_at_own(p);
		p->look.n_left = p->broker->waits.n_selected;
		return !p->look.n_left;
	}
	for (unsigned i = 0; i < WAITS_A_SLICE && p->look.n_left; i++)
		look_at_next(p);
	return !p->look.n_left;
}

static void on_looks(struct job *job)
{
	struct broker *b = container_of(job, struct broker, waits.job);
	uint64_t end = uv_hrtime() + WAITS_TIME_A_TURN_NS;
	struct port *p;

	while ((p = list_first(&b->waits.ports, struct port, look.link))) {
		if (look_slice(p)) {
			list_remove(&p->look.link);
			port_check(p); /* its retention may have been over */
		}
		if (uv_hrtime() >= end)
			break;
	}
	if (!list_is_empty(&b->waits.ports))
		turn_work(&b->turn, job);
}

void waits_look(struct port *p)
{
	struct waits *w = &p->broker->waits;

	p->look.n_left = UINT_MAX;
	if (!port_look_is_due(&p->look))
		list_append(&w->ports, &p->look.link);
	turn_work(&p->broker->turn, &w->job);
}

void waits_finish(struct port *p)
{
	if (!port_look_is_due(&p->look))
		return;
	list_remove(&p->look.link);
	while (!look_slice(p))
		;
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
