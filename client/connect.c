/* The life of a connection: made, greeted, lost.
 *
 * Good path: find the place, connect (or start a broker), queue Hello; its answer makes the state
 * UP. Requests may be queued behind Hello at once; until the answer tells how long frames may be,
 * they are kept to the smallest that every broker takes.
 *
 * A loss that can be mended is reconnect.c's; what ends here ends for good.
 *
 * Failures: redd_connect() leaves the handle DOWN with the reason, ready for another try. A loss
 * ends every call, subscription and watch exactly once, in that order, and then tells on_lost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/autostart.h"
#include "client/call.h"
#include "client/handles.h"
#include "client/locate.h"
#include "client/reading.h"
#include "client/patience.h"
#include "client/reconnect.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/redd.pb-c.h"

static void tables_init(struct redd *r)
{
	list_init(&r->calls.order);
	patience_init(&r->patience);
	list_init(&r->ports);
	list_init(&r->subscriptions);
	list_init(&r->owing);
	list_init(&r->awake);
	list_init(&r->watches);
	for (size_t i = 0; i < CLIENT_BUCKETS; i++) {
		list_init(&r->calls.buckets[i]);
		list_init(&r->by_id[i]);
	}
}

struct redd *redd_new(void)
{
	struct redd *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->fd = -1;
	tables_init(r);
	arena_init(&r->arena);
	outgoing_init(&r->out, QUEUE_DEFAULT);
	failure_init(&r->failure);
	failure_init(&r->bye);
	failure_init(&r->away.why);
	r->away.place.fd = r->away.place.door = -1;
	failure_set(&r->down, -ENOTCONN, "there is no connection; call redd_connect() first");
	return r;
}

/* Closes and forgets all that belongs to one connection, but the handles. */
static void connection_drop(struct redd *r)
{
	if (r->state != CLIENT_DOWN)
		client_set_state(r, CLIENT_DOWN);
	r->fd = fd_close(r->fd);
	while (r->n_doors)
		fd_close(r->doors[--r->n_doors]);
	outgoing_deinit(&r->out);
	free(r->in.data);
	r->in = (struct incoming){ 0 };
	doors_close(r, r->n_doors);
	free(TAKE(r->copy));
	arena_reset(&r->arena, 0);
	place_deinit(&r->away.place);
}

void redd_free(struct redd *r)
{
	struct redd_port *p;
	struct redd_watch *w;

	if (!r)
		return;
	connection_drop(r);
	calls_lose(r, false);
	subscriptions_lose(r, false);
	while ((p = list_first(&r->ports, struct redd_port, link)))
		redd_port_free(p);
	while ((w = list_first(&r->watches, struct redd_watch, link)))
		redd_watch_free(w);
	free(r->broker);
	arena_deinit(&r->arena);
	free(r);
}

void client_lose(struct redd *r, const struct failure *why, bool tell)
{
	bool nested = r->dispatching;

	if (r->state == CLIENT_DOWN)
		return;
	failure_copy(&r->down, why);
	r->down.error.result = -ENOTCONN;
	connection_drop(r);
	r->dispatching = true;
	calls_lose(r, true);
	subscriptions_lose(r, true);
	watches_lose(r);
	failure_copy(&r->failure, &r->down);
	if (tell && r->on_lost)
		r->on_lost(r, &r->down.error, r->on_lost_user);
	r->dispatching = nested;
}

void redd_disconnect(struct redd *r)
{
	struct failure why;

	failure_set(&why, -ENOTCONN, "the connection was closed by redd_disconnect()");
	client_lose(r, &why, false);
}

int client_fail_freed(struct redd *r, const char *what)
{
	return client_fail(r, -ECANCELED, "the %s was freed by a callback", what);
}

int client_fail_down(struct redd *r)
{
	failure_copy(&r->failure, &r->down);
	return -ENOTCONN;
}

/* --- Hello ----------------------------------------------------------------------------------- */

static void copy_id(uint8_t out[16], const ProtobufCBinaryData *id)
{
	memset(out, 0, 16);
	memcpy(out, id->data, MIN(id->len, (size_t)16));
}

int client_welcome(struct redd *r, const Redd__V1__Welcome *w)
{
	uint32_t frame_max = w->has_frame_max ? w->frame_max : FRAME_MAX_DEFAULT;
	char *broker;

	if (frame_max < FRAME_MAX_LOWEST || frame_max > FRAME_MAX_HIGHEST)
		return client_fail(r, -EPROTO, "the broker wants frames of %u bytes", frame_max);
	broker = strdup(w->broker ? w->broker : "");
	if (!broker)
		return client_fail(r, err_begin(-ENOMEM), "no memory for the broker's name");
	free(r->broker);
	r->broker = broker;
	r->welcome = (struct redd_welcome){
		.broker = r->broker,
		.version = w->version,
		.frame_max = frame_max,
		.output_max = w->output_max,
		.uid = w->uid,
		.gid = w->gid,
		.pid = w->pid,
		.broker_pid = w->broker_pid,
		.descriptors = w->descriptors,
	};
	copy_id(r->welcome.session, &w->session);
	copy_id(r->welcome.instance, &w->instance);
	r->frame_max = frame_max;
	return 0;
}

static int hello_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	bool is_back = c->is_repeated || r->away.tries;
	int e = client_welcome(r, m->welcome);

	(void)reply;
	if (e < 0)
		return err_pass(e);
	client_set_state(r, CLIENT_UP);
	r->away.tries = 0;
	if (is_back && r->away.on_reconnect)
		r->away.on_reconnect(r, REDD_BACK, r->away.user);
	return 0;
}

/* A broker that refuses Hello takes nothing else either. */
static void hello_failed(struct redd *r, struct call *c, int result)
{
	struct failure why;

	(void)c;
	(void)result;
	failure_copy(&why, &r->failure);
	client_lose(r, &why, true);
}

static const struct call_kind hello_kind = {
	.name = "Hello",
	.answer = REDD__V1__MESSAGE__BODY_WELCOME,
	.repeat = CALL_REPEAT,
	.take = hello_take,
	.failed = hello_failed,
};

static void hello_build(struct redd *r, Redd__V1__Hello *hello, Redd__V1__Request *request,
			const uint8_t *session)
{
	*hello = (Redd__V1__Hello)REDD__V1__HELLO__INIT;
	*request = (Redd__V1__Request)REDD__V1__REQUEST__INIT;
	hello->has_version = true;
	hello->version = PROTOCOL_VERSION;
	hello->client = r->away.client;
	hello->has_frame_max = true;
	hello->frame_max = r->away.frame_max ? r->away.frame_max : FRAME_MAX_DEFAULT;
	if (session) {
		hello->has_session = true;
		hello->session.data = (uint8_t *)session;
		hello->session.len = SESSION_ID_SIZE;
	}
	request->body_case = REDD__V1__REQUEST__BODY_HELLO;
	request->hello = hello;
}

static int hello_begin(struct redd *r, const uint8_t *session, struct how how)
{
	Redd__V1__Hello hello;
	Redd__V1__Request request;

	hello_build(r, &hello, &request, session);
	return call_send(r, &hello_kind, how, NULL, &request, NULL);
}

int client_hello(struct redd *r, uint64_t id, const uint8_t *session)
{
	Redd__V1__Hello hello;
	Redd__V1__Request request;

	hello_build(r, &hello, &request, session);
	request.has_id = true;
	request.id = id;
	return outgoing_own(&r->out, &request.base);
}

/* --- connecting ------------------------------------------------------------------------------ */

/* Connects to a place; at the default one a broker is started when none answers. */
static int reach(struct redd *r, struct place *p, bool may_start, uint32_t timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms;
	int e = 0;

	if (p->door >= 0)
		return place_knock(p, timeout_ms, &r->fd, &r->failure);
	if (p->fd >= 0) {
		r->fd = TAKE_FD(p->fd);
		return fd_set_cloexec(r->fd);
	}
	if (p->ours)
		e = place_check(p, &r->failure);
	if (e == 0 || e == -ENOENT)
		e = place_connect(p, timeout_ms, &r->fd, &r->failure);
	if ((e != -ENOENT && e != -ECONNREFUSED) || !p->ours || !may_start)
		return e;
	return autostart_broker(p, deadline, &r->fd, &r->failure);
}

static int options_check(struct redd *r, const struct redd_connect_options *o)
{
	struct redd_port *p;

	if (r->dispatching)
		return client_fail(r, -EDEADLK, "connecting inside of a callback; do it after");
	if (r->state != CLIENT_DOWN)
		return client_fail(r, -EISCONN, "there is a connection; disconnect first");
	list_for_each (p, &r->ports, link) {
		if (p->held)
			return client_fail(
				r, -EBUSY,
				"ports of the last connection are held; free them first");
	}
	if (o->frame_max && (o->frame_max < FRAME_MAX_LOWEST || o->frame_max > FRAME_MAX_HIGHEST))
		return client_fail(r, -EINVAL, "frames have %u to %u bytes, not %u",
				   FRAME_MAX_LOWEST, FRAME_MAX_HIGHEST, o->frame_max);
	if (o->client && strlen(o->client) > CLIENT_NAME_MAX)
		return client_fail(r, -EINVAL, "the client's name has at most %u bytes",
				   CLIENT_NAME_MAX);
	return 0;
}

/* What a new connection starts from. */
static void connection_begin(struct redd *r, const struct redd_connect_options *o,
			     uint32_t timeout_ms)
{
	uint32_t frame = o->frame_max ? o->frame_max : FRAME_MAX_DEFAULT;
	size_t limit = o->queue_max ? o->queue_max : QUEUE_DEFAULT;

	client_set_state(r, CLIENT_HELLO);
	r->frame_max = MIN(frame, FRAME_MAX_DEFAULT); /* until Welcome says more */
	r->call_timeout_ms = o->call_timeout_ms;
	r->hello_deadline_ms = clock_ms() + timeout_ms;
	r->welcome = (struct redd_welcome){ 0 };
	failure_init(&r->bye);
	outgoing_init(&r->out, MAX(limit, (size_t)frame + FRAME_PREFIX_MAX));
}

static int connect_begin(struct redd *r, const struct redd_connect_options *options, struct how how)
{
	struct redd_connect_options o;
	__attribute__((cleanup(place_deinit))) struct place place = { .fd = -1, .door = -1 };
	uint32_t timeout_ms;
	int e;

	OPTIONS_COPY(o, options);
	e = options_check(r, &o);
	if (e < 0)
		return err_pass(e);
	timeout_ms = o.connect_timeout_ms ? o.connect_timeout_ms : CONNECT_TIMEOUT_MS;
	e = place_find(o.socket, &place, &r->failure);
	if (e < 0)
		return err_pass(e);
	e = reach(r, &place, !o.no_start, timeout_ms);
	if (e < 0)
		return err_pass(e);
	reconnect_prepare(r, &o, &place);
	connection_begin(r, &o, timeout_ms);
	e = hello_begin(r, o.session, how);
	if (e < 0)
		connection_drop(r);
	return e;
}

int redd_connect(struct redd *r, const struct redd_connect_options *options)
{
	struct waiter w = { 0 };

	return call_wait(r, connect_begin(r, options, WAITER(&w)), &w);
}

int redd_connect_start(struct redd *r, const struct redd_connect_options *options,
		       struct redd_call *call)
{
	return connect_begin(r, options, STARTED(call));
}

const struct redd_welcome *redd_welcome(const struct redd *r)
{
	return r->welcome.broker ? &r->welcome : NULL;
}

void redd_on_lost(struct redd *r, redd_lost_fn *on_lost, void *user)
{
	r->on_lost = on_lost;
	r->on_lost_user = user;
}

const struct redd_error *redd_last_error(const struct redd *r)
{
	return &r->failure.error;
}
