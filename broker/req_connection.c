/* Hello, Ping, Cancel, Shutdown. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/names.h"
#include "broker/req.h"
#include "broker/selection.h"
#include "broker/session.h"
#include "proto/base/err.h"
#include "proto/base/log.h"

/* --- Hello ----------------------------------------------------------------------------------- */

static const char *hello_check(const Redd__V1__Hello *h, enum reply_code *ret_code)
{
	*ret_code = REPLY_INVALID_ARGUMENT;
	if (h->has_version && h->version != PROTOCOL_VERSION) {
		*ret_code = REPLY_UNIMPLEMENTED;
		return "this broker speaks version 1 of the protocol only";
	}
	if (h->has_frame_max &&
	    (h->frame_max < FRAME_MAX_LOWEST || h->frame_max > FRAME_MAX_HIGHEST))
		return "frame_max is not from 65536 to 16777216";
	return h->client ? names_check_client(h->client, strlen(h->client)) : NULL;
}

/* The session that was shown, or a new one. */
static int hello_session(struct conn *c, const Redd__V1__Hello *h)
{
	struct session *s;

	if (!h->has_session)
		return session_new(&c->session, c->broker, c);
	s = session_find(c->broker, &c->who, h->session.data, h->session.len);
	if (!s)
		return 1;
	session_attach(s, c);
	c->session = s;
	return 0;
}

static bool wants_shared(const Redd__V1__Hello *h)
{
	for (size_t i = 0; i < h->n_features; i++)
		if (!strcmp(h->features[i], "shared"))
			return true;
	return false;
}

static void hello_answer(struct conn *c, uint64_t request, const Redd__V1__Hello *h)
{
	static char shared_name[] = "shared";
	char *shared = shared_name;
	struct broker *b = c->broker;
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Welcome w = REDD__V1__WELCOME__INIT;

	SET(w, version, PROTOCOL_VERSION);
	w.broker = "redd " REDD_VERSION;
	SET(w, frame_max, c->frame_max);
	SET(w, session, ((ProtobufCBinaryData){ sizeof(c->session->id), c->session->id }));
	SET(w, uid, c->who.uid);
	SET(w, gid, c->who.gid);
	SET(w, pid, c->pid);
	SET(w, broker_pid, b->keeper_pid);
	SET(w, instance, ((ProtobufCBinaryData){ sizeof(b->instance), b->instance }));
	SET(w, output_max, OUTPUT_MAX);
	SET(w, descriptors, policy_may(&b->policy, &c->who, POLICY_PASS_DESCRIPTORS, NULL));
	w.n_features = w.descriptors && wants_shared(h);
	w.features = &shared;
	m.body_case = REDD__V1__MESSAGE__BODY_WELCOME;
	m.welcome = &w;
	reply_message(c, request, &m);
}

int req_hello(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Hello *h = request->hello;
	enum reply_code code;
	const char *wrong = hello_check(h, &code);
	int r;

	if (c->state != CONN_GREETING) {
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, 0,
			    "Hello has been said on this connection");
		return 0;
	}
	if (wrong) {
		reply_error(c, request->id, code, 0, "%s", wrong);
		return 0;
	}
	r = hello_session(c, h);
	if (r < 0)
		return err_pass(r);
	if (r) {
		reply_error(c, request->id, REPLY_NOT_FOUND, 0,
			    "the session has ended; say Hello again without one");
		return 0;
	}
	if (h->client)
		log_escape(c->client, sizeof(c->client), h->client, strlen(h->client));
	if (h->has_frame_max) {
		c->frame_max = h->frame_max;
		c->in.cap = FRAME_PREFIX_MAX + c->frame_max + CONN_READ_SIZE;
		c->control.cap = CONN_CONTROL_BOUND + 4 * MAX(c->frame_max, FRAME_MAX_DEFAULT);
	}
	c->state = CONN_OPEN;
	alarm_stop(&c->broker->alarms, &c->deadline);
	hello_answer(c, request->id, h);
	return 0;
}

/* --- Ping ------------------------------------------------------------------------------------ */

int req_ping(struct conn *c, const Redd__V1__Request *request)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Pong pong = REDD__V1__PONG__INIT;

	if (request->ping->data.len > PING_MAX) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0,
			    "a Ping carries 64 bytes at the most");
		return 0;
	}
	if (request->ping->has_data)
		SET(pong, data, request->ping->data);
	m.body_case = REDD__V1__MESSAGE__BODY_PONG;
	m.pong = &pong;
	reply_message(c, request->id, &m);
	return 0;
}

/* --- Cancel ---------------------------------------------------------------------------------- */

int req_cancel(struct conn *c, const Redd__V1__Request *request)
{
	struct pending *p = pending_find(c, request->cancel->request);
	struct stream *s;

	if (!p) {
		reply_error(c, request->id, REPLY_NOT_FOUND, 0,
			    "no request of that id waits on this connection; it has been answered");
		return 0;
	}
	if (req_open_cancel(p)) {
		reply_done(c, request->id);
		return 0;
	}
	/* What an Expect has begun to write is written; the wait itself can always be given up. */
	if (p->kind == PENDING_SPAWN ||
	    (p->kind == PENDING_SIGNAL && !selection_is_choosing(p->selection)) ||
	    (!pending_cancel_input(p) && p->kind != PENDING_EXPECT)) {
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, 0,
			    "the request has taken effect already; its own answer follows");
		return 0;
	}
	s = p->stream;
	reply_error(c, p->request, REPLY_CANCELLED, 0, "cancelled by its client");
	pending_free(p);
	if (s)
		stream_settle_input(s);
	reply_done(c, request->id);
	return 0;
}

/* --- Shutdown -------------------------------------------------------------------------------- */

int req_shutdown(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Shutdown *s = request->shutdown;
	uint32_t drain_ms = s->has_drain_ms ? s->drain_ms : SHUTDOWN_DRAIN_MS;

	if (!policy_may(&c->broker->policy, &c->who, POLICY_SHUTDOWN, NULL)) {
		reply_error(c, request->id, REPLY_PERMISSION_DENIED, 0, "%s",
			    policy_reason(POLICY_SHUTDOWN));
		return 0;
	}
	if (drain_ms > SHUTDOWN_DRAIN_MAX_MS) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0,
			    "drain_ms is more than a minute (60000)");
		return 0;
	}
	reply_done(c, request->id);
	stop_begin(c->broker, drain_ms);
	return 0;
}
