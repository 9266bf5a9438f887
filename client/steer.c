/* Steering a port: signal, resize, wait, forget.
 */
#include <errno.h>

#include "client/answers.h"
#include "client/call.h"
#include "client/selector.h"
#include "client/spawn_build.h"
#include "proto/base/err.h"

/* --- signal ---------------------------------------------------------------------------------- */

static int signal_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		       struct redd_reply *reply)
{
	const Redd__V1__Signalled *w = m->signalled;

	(void)r;
	(void)c;
	reply->signalled.count = w->count;
	reply->signalled.n_survivors =
		pids_of(reply->signalled.survivors, w->survivors, w->n_survivors);
	return 0;
}

static const struct call_kind signal_kind = {
	.name = "Signal",
	.answer = REDD__V1__MESSAGE__BODY_SIGNALLED,
	.repeat = CALL_IN_DOUBT,
	.take = signal_take,
};

/* To one port, or to those with labels. */
static int signal_send(struct redd *r, struct redd_port *port, Redd__V1__Signal *m, int signal,
		       enum redd_target target, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	struct call_target about = { .port = port };

	if (signal < 0 || (unsigned)target > REDD_TREE)
		return client_fail(r, -EINVAL, "%d to target %d is no signal; see signal(7)",
				   signal, (int)target);
	m->has_signal = true;
	m->signal = (uint32_t)signal;
	m->has_target = true;
	m->target = (Redd__V1__Target)target;
	request.body_case = REDD__V1__REQUEST__BODY_SIGNAL;
	request.signal = m;
	return call_send(r, &signal_kind, how, &about, &request, NULL);
}

static int signal_begin(struct redd_port *port, int signal, enum redd_target target, struct how how)
{
	Redd__V1__Signal m = REDD__V1__SIGNAL__INIT;
	Redd__V1__PortRef ref;

	port_name_in(port, &ref);
	m.port = &ref;
	return signal_send(port->r, port, &m, signal, target, how);
}

/* For a request that is about all ports with these labels. */
static int labels_build(struct redd *r, struct selector *s, const struct redd_label *labels,
			size_t n_labels)
{
	if (!n_labels)
		return client_fail(r, -EINVAL, "no labels are given; name at least one");
	return err_pass(selector_build(r, s, labels, n_labels));
}

static int signal_labels_begin(struct redd *r, const struct redd_label *labels, size_t n_labels,
			       int signal, enum redd_target target, struct how how)
{
	Redd__V1__Signal m = REDD__V1__SIGNAL__INIT;
	struct selector selector;
	int e = labels_build(r, &selector, labels, n_labels);

	if (e < 0)
		return err_pass(e);
	m.n_labels = n_labels;
	m.labels = selector.list;
	return signal_send(r, NULL, &m, signal, target, how);
}

int redd_signal_labels(struct redd *r, const struct redd_label *labels, size_t n_labels, int signal,
		       enum redd_target target, uint32_t *ret_count)
{
	struct waiter w = { 0 };
	int e = call_wait(r, signal_labels_begin(r, labels, n_labels, signal, target, WAITER(&w)),
			  &w);

	if (e == 0 && ret_count)
		*ret_count = w.reply.signalled.count;
	return e;
}

int redd_signal_labels_start(struct redd *r, const struct redd_label *labels, size_t n_labels,
			     int signal, enum redd_target target, struct redd_call *call)
{
	return signal_labels_begin(r, labels, n_labels, signal, target, STARTED(call));
}

int redd_signal(struct redd_port *port, int signal, enum redd_target target,
		struct redd_signalled *ret)
{
	struct waiter w = { 0 };
	int e = call_wait(port->r, signal_begin(port, signal, target, WAITER(&w)), &w);

	if (e == 0 && ret)
		*ret = w.reply.signalled;
	return e;
}

int redd_signal_start(struct redd_port *port, int signal, enum redd_target target,
		      struct redd_call *call)
{
	return signal_begin(port, signal, target, STARTED(call));
}

/* --- resize ---------------------------------------------------------------------------------- */

static const struct call_kind resize_kind = {
	.name = "Resize",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_REPEAT,
};

static int resize_begin(struct redd_port *port, const struct redd_terminal *size, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Resize m = REDD__V1__RESIZE__INIT;
	Redd__V1__Terminal terminal = terminal_build(size);
	struct call_target about = { .port = port };
	Redd__V1__PortRef ref;

	port_name_in(port, &ref);
	m.port = &ref;
	m.size = &terminal;
	request.body_case = REDD__V1__REQUEST__BODY_RESIZE;
	request.resize = &m;
	return call_send(port->r, &resize_kind, how, &about, &request, NULL);
}

int redd_resize(struct redd_port *port, const struct redd_terminal *size)
{
	struct waiter w = { 0 };

	return call_wait(port->r, resize_begin(port, size, WAITER(&w)), &w);
}

int redd_resize_start(struct redd_port *port, const struct redd_terminal *size,
		      struct redd_call *call)
{
	return resize_begin(port, size, STARTED(call));
}

/* --- wait ------------------------------------------------------------------------------------ */

static int wait_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		     struct redd_reply *reply)
{
	const Redd__V1__Waited *w = m->waited;
	struct redd_waited *out = &reply->waited;

	if (w->n_streams > REDD_STREAMS_MAX)
		return client_fail(r, -EPROTO, "the broker told of more streams than there can be");
	out->port = w->port;
	out->exit = exit_of(w->exit);
	out->n_holders = pids_of(out->holders, w->holders, w->n_holders);
	out->n_streams = (int)w->n_streams;
	for (size_t i = 0; i < w->n_streams; i++)
		out->streams[i] = stream_info_of(w->streams[i]);
	if (c->port) /* only until closed there are streams */
		c->port->has_ended |= w->n_streams > 0;
	return 0;
}

static const struct call_kind wait_kind = {
	.name = "Wait",
	.answer = REDD__V1__MESSAGE__BODY_WAITED,
	.repeat = CALL_REPEAT,
	.take = wait_take,
};

static int wait_send(struct redd *r, struct redd_port *port, Redd__V1__Wait *m,
		     enum redd_until until, int64_t timeout_ms, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	struct call_target about = { .port = port };

	if ((unsigned)until > REDD_UNTIL_CLOSED || timeout_ms > UINT32_MAX)
		return client_fail(r, -EINVAL,
				   "a wait is until exited or closed, and for "
				   "at most 49 days; leave the limit out");
	m->has_until = true;
	m->until = (Redd__V1__Wait__Until)until;
	m->has_timeout_ms = timeout_ms >= 0;
	m->timeout_ms = m->has_timeout_ms ? (uint32_t)timeout_ms : 0;
	request.body_case = REDD__V1__REQUEST__BODY_WAIT;
	request.wait = m;
	return call_send(r, &wait_kind, how, &about, &request, NULL);
}

static int wait_begin(struct redd_port *port, enum redd_until until, int64_t timeout_ms,
		      struct how how)
{
	Redd__V1__Wait m = REDD__V1__WAIT__INIT;
	Redd__V1__PortRef ref;

	port_name_in(port, &ref);
	m.port = &ref;
	return wait_send(port->r, port, &m, until, timeout_ms, how);
}

static int wait_labels_begin(struct redd *r, const struct redd_label *labels, size_t n_labels,
			     enum redd_until until, int64_t timeout_ms, struct how how)
{
	Redd__V1__Wait m = REDD__V1__WAIT__INIT;
	struct selector selector;
	int e = labels_build(r, &selector, labels, n_labels);

	if (e < 0)
		return err_pass(e);
	m.n_labels = n_labels;
	m.labels = selector.list;
	return wait_send(r, NULL, &m, until, timeout_ms, how);
}

/* What came of a wait that was begun for `port` (0: any of several). */
static int wait_end(struct redd *r, uint64_t port, int e, struct waiter *w, struct redd_waited *ret)
{
	e = call_wait(r, e, w);
	if (e == 0) {
		*ret = w->reply.waited;
		return 0;
	}
	*ret = (struct redd_waited){
		.port = port,
		.exit = exit_unknown(e == -ENOTCONN
					     ? "the connection to the broker was lost before the "
					       "exit was told"
					     : "the wait failed"),
	};
	return e;
}

int redd_wait(struct redd_port *port, enum redd_until until, int64_t timeout_ms,
	      struct redd_waited *ret)
{
	struct waiter w = { .is_long = true };
	int e = wait_begin(port, until, timeout_ms, WAITER(&w));

	return wait_end(port->r, port->id, e, &w, ret);
}

int redd_wait_labels(struct redd *r, const struct redd_label *labels, size_t n_labels,
		     enum redd_until until, int64_t timeout_ms, struct redd_waited *ret)
{
	struct waiter w = { .is_long = true };
	int e = wait_labels_begin(r, labels, n_labels, until, timeout_ms, WAITER(&w));

	return wait_end(r, 0, e, &w, ret);
}

int redd_wait_labels_start(struct redd *r, const struct redd_label *labels, size_t n_labels,
			   enum redd_until until, int64_t timeout_ms, struct redd_call *call)
{
	return wait_labels_begin(r, labels, n_labels, until, timeout_ms, STARTED(call));
}

int redd_wait_start(struct redd_port *port, enum redd_until until, int64_t timeout_ms,
		    struct redd_call *call)
{
	return wait_begin(port, until, timeout_ms, STARTED(call));
}

/* --- forget ---------------------------------------------------------------------------------- */

static bool forget_was_done(struct redd *r, const struct call *c, struct redd_reply *reply)
{
	(void)c;
	(void)reply;
	return r->failure.error.code == REDD_NOT_FOUND;
}

static const struct call_kind forget_kind = {
	.name = "Forget",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_REPEAT,
	.was_done = forget_was_done,
};

static int forget_begin(struct redd_port *port, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Forget m = REDD__V1__FORGET__INIT;
	struct call_target about = { .port = port };
	Redd__V1__PortRef ref;

	port_name_in(port, &ref);
	m.port = &ref;
	request.body_case = REDD__V1__REQUEST__BODY_FORGET;
	request.forget = &m;
	return call_send(port->r, &forget_kind, how, &about, &request, NULL);
}

int redd_forget(struct redd_port *port)
{
	struct waiter w = { 0 };

	return call_wait(port->r, forget_begin(port, WAITER(&w)), &w);
}

int redd_forget_start(struct redd_port *port, struct redd_call *call)
{
	return forget_begin(port, STARTED(call));
}
