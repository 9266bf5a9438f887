/* Spawn: the port's handle exists before the answer, and is named by the request until the answer
 * gives it an id, so that writes, signals and a close can follow in the same packet.
 */
#include <errno.h>
#include <sys/random.h>

#include "client/spawn_call.h"
#include "proto/base/err.h"

static int spawn_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	const Redd__V1__Started *started = m->started;
	struct redd_port *port = c->port;

	if (!started->port)
		return client_fail(r, -EPROTO, "the broker gave a port no id");
	port->id = started->port;
	port->pid = started->pid;
	port->window = started->input_window;
	port->inputs.fresh |= !started->repeated;
	reply->spawned = (struct redd_spawned){
		.port = started->port,
		.pid = started->pid,
		.start_ns = started->start_ns,
		.input_window = started->input_window,
		.repeated = started->repeated,
	};
	if (!c->subscription)
		return 0;
	if (!started->subscribed)
		return client_fail(r, -EPROTO,
				   "the broker did not answer the subscription that "
				   "was asked for with the spawn");
	return subscription_begin(c->subscription, started->subscribed);
}

static void spawn_failed(struct redd *r, struct call *c, int result)
{
	(void)r;
	if (c->subscription)
		subscription_refused(c->subscription, result);
}

static const struct call_kind spawn_kind = {
	.name = "Spawn",
	.answer = REDD__V1__MESSAGE__BODY_STARTED,
	.repeat = CALL_REPEAT,
	.take = spawn_take,
	.failed = spawn_failed,
};

#define TOKEN_OF_OURS 16

/* With a token it can be repeated when the connection is lost before its answer. One of the
 * program's may be known for long, and others have written since; with ours the port is new. */
static int spawn_token(struct redd_port *port, Redd__V1__Request *request,
		       uint8_t token[TOKEN_OF_OURS])
{
	struct redd *r = port->r;
	bool is_open = request->body_case == REDD__V1__REQUEST__BODY_OPEN;
	protobuf_c_boolean *has = is_open ? &request->open->has_token : &request->spawn->has_token;

	if (!r->away.limit_ms || *has)
		return 0;
	if (getrandom(token, TOKEN_OF_OURS, 0) != TOKEN_OF_OURS)
		return client_fail(r, err_errno(), "no random number for a token: %s",
				   err_name(errno));
	*has = true;
	port->inputs.fresh = true;
	*(is_open ? &request->open->token : &request->spawn->token) =
		(ProtobufCBinaryData){ TOKEN_OF_OURS, token };
	return 0;
}

static bool has_terminal(const Redd__V1__Spawn *m)
{
	for (size_t i = 0; i < m->n_descriptors; i++)
		if (m->descriptors[i]->kind == REDD__V1__KIND__KIND_TERMINAL)
			return true;
	return m->terminal != NULL;
}

/* What writes to it will meet. */
static void port_learns_inputs(struct redd_port *port, const Redd__V1__Request *request)
{
	bool is_open = request->body_case == REDD__V1__REQUEST__BODY_OPEN;
	const Redd__V1__Framing *f = is_open ? request->open->framing : request->spawn->framing;
	uint32_t bound = is_open ? request->open->input_bound : request->spawn->input_bound;

	port->bound = bound ? bound : INPUT_BOUND_DEFAULT;
	port->no_terminal = is_open || !has_terminal(request->spawn);
	port->knows_header = true;
	port->header = f && f->cut == REDD__V1__FRAMING__CUT__PACKETS ? f->header : 0;
}

static int spawn_send(struct redd_port *port, spawn_build_fn *build, const void *options,
		      const struct redd_subscribe_options *subscribe, struct how how)
{
	__attribute__((cleanup(spawn_build_deinit))) struct spawn_build b;
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	struct call_target target = { .port = port, .fds = b.fds };
	uint8_t token[TOKEN_OF_OURS];
	int e = build(port->r, &b, options, subscribe, &request);

	if (e == 0)
		e = spawn_token(port, &request, token);
	if (e < 0)
		return err_pass(e);
	port_learns_inputs(port, &request);
	if (subscribe) {
		port->with_spawn = subscription_new(port, subscribe);
		if (!port->with_spawn)
			return -ENOMEM;
		target.subscription = port->with_spawn;
	}
	target.n_fds = b.n_fds;
	e = call_send(port->r, &spawn_kind, how, &target, &request, &port->spawn);
	if (e < 0 && port->with_spawn)
		port->with_spawn->state = SUBSCRIPTION_OVER; /* nobody knows it */
	return e;
}

int spawn_begin(struct redd *r, spawn_build_fn *build, const void *options,
		const struct redd_subscribe_options *subscribe, struct redd_port **ret_port,
		struct how how)
{
	struct redd_subscribe_options copy;
	struct redd_port *port;
	int e;

	if (subscribe)
		OPTIONS_COPY(copy, subscribe);
	if (r->state == CLIENT_DOWN)
		return client_fail_down(r);
	port = port_new(r);
	if (!port)
		return -ENOMEM;
	/* While it waits for room a callback may free it. */
	port_ref(port);
	e = spawn_send(port, build, options, subscribe ? &copy : NULL, how);
	if (e < 0)
		redd_port_free(port);
	else
		*ret_port = port;
	port_unref(port);
	return err_pass(e);
}

int spawn_wait(struct redd *r, int e, struct redd_port *port, struct waiter *w,
	       struct redd_port **ret_port)
{
	port_ref(port);
	e = call_wait(r, e, w);
	if (e == 0 && !port->held)
		e = client_fail_freed(r, "port");
	if (e == 0)
		*ret_port = port;
	else
		redd_port_free(port);
	port_unref(port);
	return err_pass(e);
}

/* --- a process ------------------------------------------------------------------------------- */

static int process_build(struct redd *r, struct spawn_build *b, const void *options,
			 const struct redd_subscribe_options *subscribe, Redd__V1__Request *request)
{
	request->body_case = REDD__V1__REQUEST__BODY_SPAWN;
	request->spawn = &b->message;
	return spawn_build(r, b, options, subscribe);
}

static int process_begin(struct redd *r, const struct redd_spawn_options *options,
			 struct redd_port **ret_port, struct how how)
{
	struct redd_spawn_options o;

	OPTIONS_COPY(o, options);
	return spawn_begin(r, process_build, &o, o.subscribe, ret_port, how);
}

int redd_spawn(struct redd *r, const struct redd_spawn_options *options,
	       struct redd_port **ret_port)
{
	struct waiter w = { 0 };
	struct redd_port *port = NULL;
	int e = process_begin(r, options, &port, WAITER(&w));

	return spawn_wait(r, e, port, &w, ret_port);
}

int redd_spawn_start(struct redd *r, const struct redd_spawn_options *options,
		     struct redd_port **ret_port, struct redd_call *call)
{
	return process_begin(r, options, ret_port, STARTED(call));
}
