/* Subscriptions: asked for, given up, freed.
 *
 * One that the program frees while the broker still knows it stays in the table, deaf, until its
 * Closed comes: its events are on their way. If it is freed before its answer came, the answer
 * makes us ask for its end.
 */
#include "client/subscribe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/answers.h"
#include "client/call.h"
#include "proto/base/err.h"

const char subscription_not_told[] = "its end was not told while the subscription lasted";

/* --- the request ----------------------------------------------------------------------------- */

static int subscribe_check(struct redd *r, const struct redd_subscribe_options *o)
{
	if (o->n_streams > REDD_STREAMS_MAX || o->n_offsets > REDD_STREAMS_MAX)
		return client_fail(r, -EINVAL, "a subscription names at most %d streams",
				   REDD_STREAMS_MAX);
	if ((unsigned)o->from > REDD_FROM_LAST_LINES || (unsigned)o->overflow > REDD_CANCEL ||
	    (unsigned)o->credit_mode > REDD_CREDIT_NONE)
		return client_fail(r, -EINVAL,
				   "a subscription's start, overflow or credit mode is "
				   "not one of those in redd.h");
	return 0;
}

static void start_build(struct subscribe_build *b, const struct redd_subscribe_options *o)
{
	b->start = (Redd__V1__Start)REDD__V1__START__INIT;
	b->start.has_from = true;
	b->start.from = (Redd__V1__Start__From)o->from;
	b->start.has_count = o->count != 0;
	b->start.count = o->count;
	for (size_t i = 0; i < o->n_offsets; i++) {
		b->offsets[i] = (Redd__V1__StreamOffset)REDD__V1__STREAM_OFFSET__INIT;
		b->offsets[i].has_stream = true;
		b->offsets[i].stream = o->offsets[i].stream;
		b->offsets[i].has_offset = true;
		b->offsets[i].offset = o->offsets[i].offset;
		b->offset_list[i] = &b->offsets[i];
	}
	b->start.n_offsets = o->n_offsets;
	b->start.offsets = b->offset_list;
}

int framing_build(struct redd *r, Redd__V1__Framing *m, const struct redd_framing *f,
		  Redd__V1__Framing **ret)
{
	bool is_default = f->cut == REDD_CUT_DEFAULT;

	if ((unsigned)f->cut > REDD_PACKETS || (is_default && (f->maximum || f->header)))
		return client_fail(r, -EINVAL,
				   "a framing's cut is not one of those in redd.h, or it has a "
				   "maximum or header without one");
	*ret = is_default ? NULL : m;
	if (is_default)
		return 0;
	*m = (Redd__V1__Framing)REDD__V1__FRAMING__INIT;
	m->has_cut = true;
	m->cut = (Redd__V1__Framing__Cut)(f->cut - REDD_RAW);
	m->has_maximum = f->maximum != 0;
	m->maximum = f->maximum;
	m->has_header = f->header != 0;
	m->header = f->header;
	return 0;
}

int subscribe_build(struct redd *r, struct subscribe_build *b,
		    const struct redd_subscribe_options *o)
{
	Redd__V1__Subscribe *m = &b->message;
	int e = subscribe_check(r, o);

	if (e < 0)
		return err_pass(e);
	*m = (Redd__V1__Subscribe)REDD__V1__SUBSCRIBE__INIT;
	for (size_t i = 0; i < o->n_streams; i++)
		b->streams[i] = o->streams[i];
	m->n_streams = o->n_streams;
	m->streams = b->streams;
	start_build(b, o);
	m->start = &b->start;
	m->has_overflow = o->overflow != REDD_OVERFLOW_DEFAULT;
	m->overflow = (Redd__V1__Overflow)o->overflow;
	m->has_credit = o->credit_mode != REDD_CREDIT_NONE;
	m->credit = o->window ? o->window : WINDOW_DEFAULT;
	m->has_stall_ms = o->stall_ms != 0;
	m->stall_ms = o->stall_ms;
	m->has_marks = o->handler.on_marks != NULL;
	m->marks = m->has_marks;
	m->has_shared = o->shared;
	m->shared = o->shared;
	return framing_build(r, &b->framing, &o->framing, &m->framing);
}

struct redd_subscription *subscription_new(struct redd_port *port,
					   const struct redd_subscribe_options *o)
{
	struct redd_subscription *s = calloc(1, sizeof(*s));

	if (!s) {
		client_fail(port->r, err_begin(-ENOMEM), "no memory for a subscription");
		return NULL;
	}
	s->refs = 1;
	s->r = port->r;
	s->port = port_ref(port);
	s->handler = o->handler;
	s->credit_mode = o->credit_mode;
	s->window = o->window ? o->window : WINDOW_DEFAULT;
	s->from_beginning = o->from == REDD_FROM_BEGINNING;
	s->verify = o->verify;
	s->left = s->window;
	s->overflow = o->overflow;
	s->stall_ms = o->stall_ms;
	s->framing = o->framing;
	s->n_streams = o->n_streams;
	if (o->n_streams)
		memcpy(s->streams, o->streams, o->n_streams * sizeof(s->streams[0]));
	s->exit = exit_unknown(subscription_not_told);
	list_init(&s->by_id);
	list_init(&s->owing);
	list_init(&s->awake);
	list_append(&s->r->subscriptions, &s->link);
	list_append(&port->subscriptions, &s->of_port);
	return s;
}

static int subscribe_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
			  struct redd_reply *reply)
{
	(void)r;
	(void)reply;
	if (m->subscribed->port)
		c->port->id = m->subscribed->port;
	if (m->subscribed->has_input_window)
		c->port->window = m->subscribed->input_window;
	return subscription_begin(c->subscription, m->subscribed);
}

static void subscribe_failed(struct redd *r, struct call *c, int result)
{
	(void)r;
	subscription_refused(c->subscription, result);
}

static const struct call_kind subscribe_kind = {
	.name = "Subscribe",
	.answer = REDD__V1__MESSAGE__BODY_SUBSCRIBED,
	.repeat = CALL_REPEAT,
	.take = subscribe_take,
	.failed = subscribe_failed,
};

/* While it waits for room a callback may have freed it: *ret is referenced for the caller. */
static int subscribe_begin(struct redd_port *port, const struct redd_subscribe_options *options,
			   struct redd_subscription **ret, struct how how)
{
	struct redd_subscribe_options o;
	struct subscribe_build b;
	Redd__V1__PortRef ref;
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	struct call_target target = { .port = port };
	int e;

	OPTIONS_COPY(o, options);
	e = subscribe_build(port->r, &b, &o);
	if (e < 0)
		return err_pass(e);
	target.subscription = subscription_new(port, &o);
	if (!target.subscription)
		return -ENOMEM;
	port_name_in(port, &ref);
	b.message.port = &ref;
	request.body_case = REDD__V1__REQUEST__BODY_SUBSCRIBE;
	request.subscribe = &b.message;
	*ret = subscription_ref(target.subscription);
	e = call_send(port->r, &subscribe_kind, how, &target, &request, NULL);
	if (e < 0)
		(*ret)->state = SUBSCRIPTION_OVER;
	return err_pass(e);
}

/* Gives the caller's reference up, for the handle if the program is to have it. */
static int subscribe_end(struct redd *r, int e, struct redd_subscription *take_s,
			 struct redd_subscription **ret)
{
	if (!take_s)
		return err_pass(e);
	if (e == 0 && !subscription_is_held(take_s))
		e = client_fail_freed(r, "subscription");
	if (e == 0)
		*ret = take_s;
	else if (subscription_is_held(take_s))
		redd_subscription_free(take_s);
	subscription_unref(take_s);
	return err_pass(e);
}

int redd_subscribe(struct redd_port *port, const struct redd_subscribe_options *options,
		   struct redd_subscription **ret)
{
	struct waiter w = { 0 };
	struct redd_subscription *s = NULL;
	struct redd *r = port->r;
	int e = call_wait(r, subscribe_begin(port, options, &s, WAITER(&w)), &w);

	return subscribe_end(r, e, s, ret);
}

int redd_subscribe_start(struct redd_port *port, const struct redd_subscribe_options *options,
			 struct redd_subscription **ret, struct redd_call *call)
{
	struct redd_subscription *s = NULL;
	int e = subscribe_begin(port, options, &s, STARTED(call));

	return subscribe_end(port->r, e, s, ret);
}

/* --- asked for again ------------------------------------------------------------------------- */

static int again_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	(void)r;
	(void)reply;
	return subscription_resume(c->subscription, m->subscribed);
}

static void again_failed(struct redd *r, struct call *c, int result)
{
	(void)result;
	subscription_not_resumed(c->subscription, &r->failure.error);
}

static const struct call_kind again_kind = {
	.name = "Subscribe",
	.answer = REDD__V1__MESSAGE__BODY_SUBSCRIBED,
	.repeat = CALL_DROP,
	.take = again_take,
	.failed = again_failed,
};

/* As it was asked for at first, but from where it is, with the credit that is left. */
static void again_options(const struct redd_subscription *s, struct redd_subscribe_options *o,
			  struct redd_stream_offset offsets[REDD_STREAMS_MAX])
{
	*o = (struct redd_subscribe_options){
		.streams = s->streams,
		.n_streams = s->n_streams,
		.from = REDD_FROM_OFFSET,
		.offsets = offsets,
		.overflow = s->overflow,
		.credit_mode = s->credit_mode,
		.window = s->window,
		.stall_ms = s->stall_ms,
		.framing = s->framing,
		.handler = s->handler,
	};
	for (size_t i = 0; i < s->n_tracks; i++) {
		if (s->tracks[i].state != TRACK_NEW)
			offsets[o->n_offsets++] = (struct redd_stream_offset){ s->tracks[i].stream,
									       s->tracks[i].next };
	}
}

/* A line may be begun anywhere, but inside of a packet there is no place to begin. */
static bool is_inside_a_packet(const struct redd_subscription *s)
{
	for (size_t i = 0; i < s->n_tracks; i++)
		if (s->tracks[i].in_packet)
			return true;
	return false;
}

int subscription_again(struct redd_subscription *s)
{
	struct redd_stream_offset offsets[REDD_STREAMS_MAX];
	struct call_target target = { .subscription = s };
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	struct redd_subscribe_options o;
	struct subscribe_build b;
	Redd__V1__PortRef ref;
	int e;

	if (is_inside_a_packet(s)) {
		client_fail(s->r, -ENOTCONN, "the connection was lost inside of a packet");
		subscription_not_resumed(s, &s->r->failure.error);
		return 0;
	}
	again_options(s, &o, offsets);
	e = subscribe_build(s->r, &b, &o);
	if (e < 0)
		return err_pass(e);
	if (s->credit_mode == REDD_CREDIT_MANUAL)
		b.message.credit = credit_again(s); /* none at all is a number too */
	port_name_in(s->port, &ref);
	b.message.port = &ref;
	request.body_case = REDD__V1__REQUEST__BODY_SUBSCRIBE;
	request.subscribe = &b.message;
	e = call_own(s->r, &again_kind, &target, &request);
	if (e == 0)
		s->state = SUBSCRIPTION_AGAIN;
	return e;
}

/* Failures of its own kind: the one of the close may be long overwritten. */
static int finish_result(const struct redd_subscription *s)
{
	switch (s->closed.result) {
	case 0:
		return 0;
	case -EBADMSG:
		return client_fail(s->r, -EBADMSG,
				   "not all of the output has come; the end of the "
				   "stream told which was not complete");
	case -ENOTCONN:
		return s->r->state == CLIENT_DOWN
			       ? client_fail_down(s->r)
			       : client_fail(s->r, -ENOTCONN,
					     "the subscription could not be resumed when the "
					     "connection was back");
	default:
		return client_fail(s->r, s->closed.result, "the subscription was refused");
	}
}

int redd_finish(struct redd_subscription *s, struct redd_closed *ret)
{
	struct redd *r = s->r;
	int e = 0;

	if (r->dispatching)
		return client_fail(r, -EDEADLK, "waiting for a subscription inside of a callback");
	subscription_ref(s);
	while (e == 0 && subscription_is_heard(s))
		e = client_turn(r, -1);
	if (s->state == SUBSCRIPTION_LEFT)
		e = client_fail_freed(r, "subscription");
	else
		e = finish_result(s);
	if (s->state == SUBSCRIPTION_OVER && ret)
		*ret = s->closed;
	subscription_unref(s);
	return e;
}

/* --- the end --------------------------------------------------------------------------------- */

/* Its end is on its way, behind what was sent before. */
static int unsubscribe_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
			    struct redd_reply *reply)
{
	(void)r;
	(void)m;
	(void)reply;
	if (c->subscription->state == SUBSCRIPTION_LIVE)
		c->subscription->state = SUBSCRIPTION_ENDED;
	return 0;
}

/* With its connection it came about. */
static void unsubscribe_done(struct redd *r, struct call *c)
{
	(void)r;
	subscription_unsubscribed(c->subscription);
}

static const struct call_kind unsubscribe_kind = {
	.name = "Unsubscribe",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_IS_DONE,
	.take = unsubscribe_take,
	.settled = unsubscribe_done,
};

static void unsubscribe_build(Redd__V1__Request *request, Redd__V1__Unsubscribe *m,
			      const struct redd_subscription *s)
{
	*m = (Redd__V1__Unsubscribe)REDD__V1__UNSUBSCRIBE__INIT;
	m->has_subscription = true;
	m->subscription = s->id;
	request->body_case = REDD__V1__REQUEST__BODY_UNSUBSCRIBE;
	request->unsubscribe = m;
}

static int unsubscribe_begin(struct redd_subscription *s, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Unsubscribe m;
	struct call_target target = { .subscription = s };

	/* While it is away, or asked for again, it has no id by which it could be ended. */
	if (!subscription_is_fed(s) && subscription_is_heard(s) && s->r->state != CLIENT_DOWN)
		return client_fail(s->r, -EAGAIN,
				   "the subscription was not answered yet; end it after");
	unsubscribe_build(&request, &m, s);
	return call_send(s->r, &unsubscribe_kind, how, &target, &request, NULL);
}

/* Until it has a number, and there is room to send it: a loss takes both, so that each try is made
 * anew. */
static int unsubscribe_try(struct redd_subscription *s, struct waiter *w)
{
	struct redd *r = s->r;
	int64_t deadline = r->call_timeout_ms ? clock_ms() + r->call_timeout_ms : -1;
	int e;

	for (;;) {
		if (!subscription_is_held(s))
			return client_fail_freed(r, "subscription");
		e = unsubscribe_begin(s, WAITER(w));
		if (e != -EAGAIN || r->dispatching)
			return err_pass(e);
		if (client_turn(r, deadline) == -ETIMEDOUT)
			return client_fail(r, -ETIMEDOUT,
					   "the subscription could not be ended within %u ms; try "
					   "again",
					   r->call_timeout_ms);
	}
}

int redd_unsubscribe(struct redd_subscription *s)
{
	struct waiter w = { 0 };
	int e;

	subscription_ref(s);
	e = call_wait(s->r, unsubscribe_try(s, &w), &w);
	subscription_unref(s);
	return e;
}

int redd_unsubscribe_start(struct redd_subscription *s, struct redd_call *call)
{
	return unsubscribe_begin(s, STARTED(call));
}

static const struct call_kind unwanted_kind = {
	.name = "Unsubscribe",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_DROP,
};

void subscription_abandon(struct redd_subscription *s)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Unsubscribe m;

	unsubscribe_build(&request, &m, s);
	/* When even the reserve is full the events that still come are dropped here, unread. */
	call_own(s->r, &unwanted_kind, NULL, &request);
}

void redd_subscription_free(struct redd_subscription *s)
{
	if (!s)
		return;
	s->handler = (struct redd_handler){ 0 };
	list_remove(&s->of_port);
	list_remove(&s->owing);
	list_remove(&s->awake);
	if (s->port->with_spawn == s)
		s->port->with_spawn = NULL;
	if (s->state == SUBSCRIPTION_LIVE && s->r->state != CLIENT_DOWN)
		subscription_abandon(s);
	if (s->state != SUBSCRIPTION_OVER)
		s->state = SUBSCRIPTION_LEFT;
	subscription_unref(s);
}
