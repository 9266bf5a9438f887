/* Calls. The table finds a call by the id of its request; the list keeps them as they were started,
 * so that a lost connection ends them in that order.
 *
 * Good path: call_open() checks and allocates, the frame goes into the queue, call_commit() enters
 * the call, calls_answer() takes it out, lets its kind read the answer and tells the program.
 *
 * Failures: whatever goes wrong before the commit is the begun call's result, and nothing was sent;
 * afterwards exactly one completion tells, whether the broker answers, refuses or goes away. A
 * blocking call that gives up leaves its entry without a waiter, so that the late answer finds it.
 * An answer to an id that nobody waits for ends the connection: nothing after it can be trusted.
 */
#include "client/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/handles.h"
#include "client/patience.h"
#include "client/repeat.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"

static void call_drop_frame(struct redd *r, struct call *c)
{
	if (c->frame)
		r->calls.kept -= c->frame_size;
	free(c->frame);
	c->frame = NULL;
	fd_close_many(c->fds, c->n_fds);
	free(c->fds);
	c->fds = NULL;
	c->n_fds = 0;
}

/* Out of the tables: its answer has come, or never will. */
static void call_leave(struct redd *r, struct call *c)
{
	if (!list_is_linked(&c->order))
		return;
	r->calls.n--;
	if (c->is_sent)
		r->calls.n_sent--;
	patience_leave(r, c);
	c->is_sent = false;
	list_remove(&c->order);
	list_remove(&c->bucket);
}

void call_free(struct redd *r, struct call *c)
{
	call_leave(r, c);
	list_remove(&c->order);
	list_remove(&c->bucket);
	call_drop_frame(r, c);
	port_unref(c->port);
	subscription_unref(c->subscription);
	watch_unref(c->watch);
	free(c);
}

static struct list *bucket_of(struct redd *r, uint64_t id)
{
	return &r->calls.buckets[id & (CLIENT_BUCKETS - 1)];
}

static struct call *call_find(struct redd *r, uint64_t id)
{
	struct call *c;

	list_for_each (c, bucket_of(r, id), bucket) {
		if (c->id == id)
			return c;
	}
	return NULL;
}

int call_open(struct redd *r, const struct call_kind *kind, struct how how,
	      const struct call_target *target, struct call **ret)
{
	static const struct call_target none;
	struct call *c;

	if (r->state == CLIENT_DOWN)
		return client_fail_down(r);
	if (how.waiter && r->dispatching)
		return client_fail(r, -EDEADLK,
				   "%s would wait inside of a callback; use its _start form there",
				   kind->name);
	c = malloc(sizeof(*c));
	if (!c)
		return client_fail(r, err_begin(-ENOMEM), "no memory for %s", kind->name);
	if (!target)
		target = &none;
	*c = (struct call){
		.id = ++r->calls.last_id,
		.kind = kind,
		.done = how.call ? how.call->done : NULL,
		.user = how.call ? how.call->user : NULL,
		.waiter = how.waiter,
		.port = port_ref(target->port),
		.subscription = subscription_ref(target->subscription),
		.watch = watch_ref(target->watch),
		.started_ms = clock_ms(),
	};
	if (target->input)
		c->input = *target->input;
	list_init(&c->order);
	list_init(&c->bucket);
	*ret = c;
	return 0;
}

/* What a full queue means: waiting for a blocking call (1), a refusal for the others. */
static int call_full(struct redd *r, struct call *c)
{
	int64_t deadline = -1;
	int e;

	/* What a loss would settle is begun anew by who waits. */
	if (!c->waiter || c->kind->repeat == CALL_IS_DONE)
		return client_fail(r, -EAGAIN,
				   "the outgoing queue is full (%zu bytes, %zu calls); dispatch "
				   "and try again",
				   outgoing_size(&r->out), r->calls.n);
	if (r->call_timeout_ms && !c->waiter->is_long)
		deadline = c->started_ms + r->call_timeout_ms;
	e = client_turn(r, deadline);
	if (e == -ETIMEDOUT)
		return client_fail(r, e, "there was no room to send %s within %u ms; ask again",
				   c->kind->name, r->call_timeout_ms);
	return e < 0 ? client_fail_down(r) : 1;
}

int call_queued(struct redd *r, struct call *c, int outgoing_result)
{
	int e = outgoing_result;

	if (e == OUTGOING_E_FULL)
		e = call_full(r, c);
	else if (e == OUTGOING_E_LONG)
		e = client_fail(r, -EMSGSIZE,
				"%s is longer than a frame of %u bytes; send less, or ask for "
				"longer frames when connecting",
				c->kind->name, r->frame_max);
	else if (e < 0)
		e = client_fail(r, e, "%s cannot be queued: %s", c->kind->name, err_name(e));
	if (e < 0)
		call_free(r, c);
	return e;
}

void call_commit(struct redd *r, struct call *take_c, struct how how)
{
	if (take_c->is_sent)
		r->calls.n_sent++;
	take_c->number = ++r->calls.last_number;
	if (take_c->input.writes)
		ledger_named(&take_c->port->inputs, take_c->input.stream);
	list_append(&r->calls.order, &take_c->order);
	list_append(bucket_of(r, take_c->id), &take_c->bucket);
	r->calls.n++;
	patience_enter(r, take_c);
	if (how.call)
		how.call->request = take_c->id;
}

/* Packs it once, with its descriptors. 0, OUTGOING_E_LONG or a negative errno. */
static int call_pack(struct redd *r, struct call *c, const struct call_target *target,
		     const Redd__V1__Request *request)
{
	_cleanup_(buf_deinit) struct buf b;
	int e;

	if (c->frame)
		return 0;
	buf_init(&b, r->frame_max + FRAME_PREFIX_MAX);
	e = codec_pack(&b, &request->base, r->frame_max);
	if (e)
		return e < 0 ? err_pass(e) : OUTGOING_E_LONG;
	e = call_keep(r, c, buf_head(&b), buf_size(&b), NULL, 0);
	if (e < 0 || !target || !target->n_fds)
		return err_pass(e);
	c->fds = malloc(target->n_fds * sizeof(int));
	if (!c->fds)
		return err_begin(-ENOMEM);
	for (; c->n_fds < target->n_fds && e >= 0; c->n_fds += e >= 0)
		e = fd_dup(target->fds[c->n_fds], &c->fds[c->n_fds]);
	return MIN(e, 0);
}

/* One try to queue it: 0, OUTGOING_E_* or a negative errno. */
static int call_try(struct redd *r, struct call *c, const struct call_target *target,
		    Redd__V1__Request *request)
{
	uint64_t position;
	int e = 0;

	if (calls_are_full(r, false))
		return OUTGOING_E_FULL;
	repeat_names(r, request, c->port); /* it may have waited over a loss */
	if (r->away.limit_ms)
		e = call_pack(r, c, target, request);
	if (e || !calls_go_out(r))
		return e;
	position = outgoing_end(&r->out);
	e = outgoing_message(&r->out, &request->base, r->frame_max, target ? target->fds : NULL,
			     target ? target->n_fds : 0);
	if (!e)
		call_mark_sent(r, c, position);
	return e;
}

bool calls_pass_descriptors(const struct redd *r)
{
	return !redd_welcome(r) || redd_welcome(r)->descriptors;
}

static int call_refuse_descriptors(struct redd *r)
{
	return client_fail(r, -EOPNOTSUPP,
			   "this socket takes no descriptors; pass them through the service's "
			   "first one");
}

int call_send(struct redd *r, const struct call_kind *kind, struct how how,
	      const struct call_target *target, Redd__V1__Request *request, uint64_t *ret_id)
{
	struct call *c;
	int e;

	if (target && target->n_fds && r->state != CLIENT_DOWN && !calls_pass_descriptors(r))
		return call_refuse_descriptors(r);
	e = call_open(r, kind, how, target, &c);
	if (e < 0)
		return err_pass(e);
	request->has_id = true;
	request->id = c->id;
	do {
		e = call_queued(r, c, call_try(r, c, target, request));
	} while (e > 0);
	if (e < 0)
		return err_pass(e);
	if (ret_id)
		*ret_id = c->id;
	call_commit(r, c, how);
	return 0;
}

int call_own(struct redd *r, const struct call_kind *kind, const struct call_target *target,
	     Redd__V1__Request *request)
{
	uint64_t position = outgoing_end(&r->out);
	struct call *c;
	int e = call_open(r, kind, NOBODY, target, &c);

	if (e < 0)
		return err_pass(e);
	request->has_id = true;
	request->id = c->id;
	e = outgoing_own(&r->out, &request->base);
	if (e) {
		call_free(r, c);
		return e < 0 ? err_pass(e) : -EAGAIN;
	}
	call_mark_sent(r, c, position);
	call_commit(r, c, NOBODY);
	return 0;
}

/* --- answers --------------------------------------------------------------------------------- */

static void waiter_tell(struct redd *r, struct waiter *w, int result, struct redd_reply *reply)
{
	w->done = true;
	w->result = result;
	w->reply = *reply;
	if (result < 0)
		failure_copy(&w->failure, &r->failure);
}

void call_end(struct redd *r, struct call *c, int result, struct redd_reply *reply)
{
	/* Out of the table before anybody is told: its id is free again. */
	call_leave(r, c);
	if (c->waiter) {
		waiter_tell(r, c->waiter, result, reply);
	} else {
		if (c->done)
			c->done(r, result, result < 0 ? NULL : reply, c->user);
		if (result == 0 && c->kind->answer == REDD__V1__MESSAGE__BODY_STATISTICS)
			redd_metrics_free((struct redd_metrics *)reply->metrics);
		if (result == 0 && !c->done && c->kind->answer == REDD__V1__MESSAGE__BODY_DELEGATED)
			fd_close(reply->delegated.door); /* nobody wants it any more */
		if (result == 0 && c->kind->answer == REDD__V1__MESSAGE__BODY_MATCHED)
			redd_matched_free((struct redd_matched *)reply->matched);
		if (result == 0 && (c->kind->answer == REDD__V1__MESSAGE__BODY_PORTS ||
				    c->kind->answer == REDD__V1__MESSAGE__BODY_PORT_INFO))
			redd_ports_free((struct redd_ports *)reply->ports);
	}
	if (result < 0 && c->kind->failed)
		c->kind->failed(r, c, result);
	if (c->is_settled && c->kind->settled)
		c->kind->settled(r, c);
	call_free(r, c);
}

/* A repetition may be refused because the first one had come about. */
static int call_refused(struct redd *r, struct call *c, const Redd__V1__Error *error,
			struct redd_reply *reply)
{
	int result = failure_refused(&r->failure, error);

	if (c->is_repeated && c->kind->was_done && c->kind->was_done(r, c, reply))
		return 0;
	return result;
}

int calls_answer(struct redd *r, uint64_t id, const Redd__V1__Message *m)
{
	struct call *c = call_find(r, id);
	struct redd_reply reply = { 0 };
	int result = 0;

	if (!c)
		return client_fail(r, -EPROTO, "the broker answered a request that was not made");
	if (m->body_case == REDD__V1__MESSAGE__BODY_ERROR) {
		result = call_refused(r, c, m->error, &reply);
		if (result < 0 && patience_takes_back(r, c))
			return 0;
	} else if ((int)m->body_case != c->kind->answer) {
		return client_fail(r, -EPROTO, "the broker gave a wrong kind of answer to %s",
				   c->kind->name);
	} else if (c->kind->take) {
		result = c->kind->take(r, c, m, &reply);
	}
	call_end(r, c, result, &reply);
	return 0;
}

void calls_lose(struct redd *r, bool tell)
{
	struct redd_reply reply = { 0 };
	struct call *c;

	while ((c = list_first(&r->calls.order, struct call, order))) {
		if (tell || c->waiter)
			call_end(r, c, client_fail_down(r), &reply);
		else
			call_free(r, c);
	}
}

/* --- coming back ----------------------------------------------------------------------------- */

bool calls_go_out(const struct redd *r)
{
	return (r->state == CLIENT_HELLO || r->state == CLIENT_UP) && !r->away.is_resuming;
}

bool calls_are_full(const struct redd *r, bool is_bulk)
{
	size_t most = is_bulk ? r->out.limit : 2 * r->out.limit;

	return r->calls.n >= CONN_PENDING_MAX || r->calls.kept >= most;
}

int call_keep(struct redd *r, struct call *c, const void *prefix, size_t prefix_size,
	      const void *data, size_t size)
{
	if ((!r->away.limit_ms && !c->input.is_patient) || c->frame)
		return 0;
	c->frame = malloc(prefix_size + size);
	if (!c->frame)
		return err_begin(-ENOMEM);
	memcpy(c->frame, prefix, prefix_size);
	if (size)
		memcpy(c->frame + prefix_size, data, size);
	c->frame_size = prefix_size + size;
	r->calls.kept += c->frame_size;
	return 0;
}

void call_is_cancelled(struct redd *r, uint64_t id)
{
	struct call *c = call_find(r, id);

	if (c)
		c->input.is_cancelled = true;
}

void call_mark_sent(struct redd *r, struct call *c, uint64_t position)
{
	c->position = position;
	if (list_is_linked(&c->order)) {
		r->calls.n_sent++;
		patience_leave(r, c);
	}
	c->is_sent = true;
	if (list_is_linked(&c->order))
		patience_enter(r, c);
}

void call_give_up(struct redd *r, struct call *c, int result)
{
	struct redd_reply reply = { 0 };

	if (c->n_fds && !calls_pass_descriptors(r))
		call_refuse_descriptors(r);
	else if (c->is_repeated)
		result = client_fail(r, -ENOTCONN,
				     "the connection was lost over %s, which cannot be sent again "
				     "(%s); whether it was done is not known",
				     c->kind->name, err_name(result));
	else
		client_fail(r, result, "%s cannot be sent: %s", c->kind->name, err_name(result));
	call_end(r, c, result, &reply);
}

/* --- waiting --------------------------------------------------------------------------------- */

static void waiter_abandon(struct redd *r, struct waiter *w)
{
	struct call *c;

	list_for_each (c, &r->calls.order, order) {
		if (c->waiter == w)
			c->waiter = NULL;
	}
}

int call_wait(struct redd *r, int begun, struct waiter *w)
{
	int64_t deadline = -1;

	if (begun < 0)
		return err_pass(begun);
	if (r->call_timeout_ms && !w->is_long)
		deadline = clock_ms() + r->call_timeout_ms;
	while (!w->done) {
		if (client_turn(r, deadline) != -ETIMEDOUT || w->done)
			continue;
		waiter_abandon(r, w);
		return client_fail(r, -ETIMEDOUT,
				   "the broker did not answer within %u ms; ask again, or see "
				   "whether it hangs",
				   r->call_timeout_ms);
	}
	if (w->result < 0)
		failure_copy(&r->failure, &w->failure);
	return w->result;
}
