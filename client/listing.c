/* List and Inspect: what the broker tells of its ports, in one block of memory.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/answers.h"
#include "client/block.h"
#include "client/call.h"
#include "client/handles.h"
#include "client/selector.h"
#include "proto/base/err.h"
#include "proto/redd.pb-c.h"

/* --- what came ------------------------------------------------------------------------------- */

static const char *take_bytes(struct block *b, const ProtobufCBinaryData *d)
{
	return block_bytes(b, d->data, d->len);
}

static const struct redd_label *take_labels(struct block *b, Redd__V1__Label **wire, size_t n)
{
	struct redd_label *list = block_take(b, n, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		struct redd_label l = {
			.key = block_string(b, wire[i]->key),
			.value = block_string(b, wire[i]->value),
		};

		if (list)
			list[i] = l;
	}
	return list;
}

static const char *const *take_args(struct block *b, const ProtobufCBinaryData *wire, size_t n)
{
	const char **list = block_take(b, n + 1, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		const char *s = take_bytes(b, &wire[i]);

		if (list)
			list[i] = s;
	}
	return list;
}

static const struct redd_holder *take_held_by(struct block *b, Redd__V1__Holder **wire, size_t n)
{
	struct redd_holder *list = block_take(b, n, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		const char *client = block_string(b, wire[i]->client);

		if (list)
			list[i] =
				(struct redd_holder){ wire[i]->subscription, wire[i]->pid, client };
	}
	return list;
}

static const struct redd_stream_info *take_streams(struct block *b, Redd__V1__StreamInfo **wire,
						   size_t n)
{
	struct redd_stream_info *list = block_take(b, n, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		const struct redd_holder *holders =
			take_held_by(b, wire[i]->held_by, wire[i]->n_held_by);

		if (!list)
			continue;
		list[i] = stream_info_of(wire[i]);
		list[i].n_held_by = wire[i]->n_held_by;
		list[i].held_by = holders;
	}
	return list;
}

static const struct redd_stream_offset *take_offsets(struct block *b, Redd__V1__StreamOffset **wire,
						     size_t n)
{
	struct redd_stream_offset *list = block_take(b, n, sizeof(*list));

	for (size_t i = 0; list && i < n; i++)
		list[i] = (struct redd_stream_offset){ wire[i]->stream, wire[i]->offset };
	return list;
}

static struct redd_subscription_info take_subscription(struct block *b,
						       const Redd__V1__SubscriptionInfo *w)
{
	return (struct redd_subscription_info){
		.subscription = w->subscription,
		.client = block_string(b, w->client),
		.pid = w->pid,
		.uid = w->uid,
		.overflow = (enum redd_overflow)w->overflow,
		.n_offsets = w->n_offsets,
		.offsets = take_offsets(b, w->offsets, w->n_offsets),
		.lag = w->lag,
		.has_credit = w->has_credit,
		.credit = w->credit,
		.blocking = w->blocking,
		.skipped = w->skipped,
		.shared = w->shared,
		.lag_ms = w->lag_ms,
		.blocking_ms = w->blocking_ms,
		.blocked_total_ms = w->blocked_total_ms,
		.stalled = w->stalled,
	};
}

static const struct redd_subscription_info *
take_subscriptions(struct block *b, Redd__V1__SubscriptionInfo **wire, size_t n)
{
	struct redd_subscription_info *list = block_take(b, n, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		struct redd_subscription_info s = take_subscription(b, wire[i]);

		if (list)
			list[i] = s;
	}
	return list;
}

static const int32_t *take_holders(struct block *b, const int32_t *wire, size_t n)
{
	int32_t *list = block_take(b, n, sizeof(*list));

	if (list && n)
		memcpy(list, wire, n * sizeof(*list));
	return list;
}

static struct redd_framing framing_of(const Redd__V1__Framing *w)
{
	if (!w)
		return (struct redd_framing){ .cut = REDD_RAW };
	return (struct redd_framing){ .cut = (enum redd_cut)(w->cut + REDD_RAW),
				      .maximum = w->maximum,
				      .header = w->header };
}

static struct redd_terminal take_terminal(const Redd__V1__Terminal *w)
{
	return w ? (struct redd_terminal){ w->rows, w->columns, w->x_pixels, w->y_pixels }
		 : (struct redd_terminal){ 0 };
}

static struct redd_rights take_rights(struct block *b, const Redd__V1__Rights *w)
{
	uint32_t *streams;
	struct redd_rights rights = { 0 };

	if (!w)
		return rights;
	streams = block_take(b, w->n_streams, sizeof(*streams));
	if (streams && w->n_streams)
		memcpy(streams, w->streams, w->n_streams * sizeof(*streams));
	return (struct redd_rights){
		.see = w->see,
		.read = w->read,
		.write = w->write,
		.signal = w->signal,
		.resize = w->resize,
		.manage = w->manage,
		.block = w->block,
		.streams = streams,
		.n_streams = w->n_streams,
	};
}

static const struct redd_grant_info *take_grants(struct block *b, Redd__V1__GrantInfo **wire,
						 size_t n)
{
	struct redd_grant_info *list = block_take(b, n, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		struct redd_grant_info g = {
			.grant = wire[i]->grant,
			.to = (enum redd_grant_to)wire[i]->to,
			.number = wire[i]->number,
			.rights = take_rights(b, wire[i]->rights),
			.has_left = wire[i]->has_left_ms,
			.left_ms = wire[i]->left_ms,
		};

		if (list)
			list[i] = g;
	}
	return list;
}

static struct redd_claim_info take_claim(struct block *b, const Redd__V1__ClaimInfo *w)
{
	return (struct redd_claim_info){
		.lease = w->lease,
		.client = block_string(b, w->client),
		.pid = w->pid,
		.uid = w->uid,
	};
}

static struct redd_lease_info take_lease(struct block *b, const Redd__V1__LeaseInfo *w)
{
	struct redd_lease_info lease = { 0 };
	struct redd_claim_info *waiting;

	if (!w || !w->holder)
		return lease;
	waiting = block_take(b, w->n_waiting, sizeof(*waiting));
	for (size_t i = 0; i < w->n_waiting; i++) {
		struct redd_claim_info c = take_claim(b, w->waiting[i]);

		if (waiting)
			waiting[i] = c;
	}
	return (struct redd_lease_info){
		.holder = take_claim(b, w->holder),
		.has_left = w->has_left_ms,
		.left_ms = w->left_ms,
		.n_waiting = w->n_waiting,
		.waiting = waiting,
	};
}

static struct redd_port_info take_port(struct block *b, const Redd__V1__PortInfo *w)
{
	return (struct redd_port_info){
		.port = w->port,
		.name = w->has_name && w->name.len ? take_bytes(b, &w->name) : NULL,
		.state = (enum redd_port_state)w->state,
		.pid = w->pid,
		.owner_uid = w->owner_uid,
		.program = take_bytes(b, &w->program),
		.n_args = w->n_args,
		.args = take_args(b, w->args, w->n_args),
		.args_cut = w->args_cut,
		.directory = take_bytes(b, &w->directory),
		.n_labels = w->n_labels,
		.labels = take_labels(b, w->labels, w->n_labels),
		.start_ns = w->start_ns,
		.has_exit = w->exit != NULL,
		.exit = exit_of(w->exit),
		.terminal = w->terminal,
		.has_terminal_size = w->terminal_size != NULL,
		.terminal_size = take_terminal(w->terminal_size),
		.orphan = (enum redd_orphan)w->orphan,
		.orphaned = w->orphaned,
		.n_streams = w->n_streams,
		.streams = take_streams(b, w->streams, w->n_streams),
		.n_subscriptions = w->n_subscriptions,
		.subscriptions = take_subscriptions(b, w->subscriptions, w->n_subscriptions),
		.n_holders = w->n_holders,
		.holders = take_holders(b, w->holders, w->n_holders),
		.timeout_ms = w->timeout_ms,
		.retention_ms = w->retention_ms,
		.framing = framing_of(w->framing),
		.kind = (enum redd_port_kind)w->kind,
		.n_grants = w->n_grants,
		.grants = take_grants(b, w->grants, w->n_grants),
		.has_lease = w->lease && w->lease->holder,
		.lease = take_lease(b, w->lease),
	};
}

static void ports_fill(struct block *b, const Redd__V1__Ports *w)
{
	struct redd_ports *out = block_take(b, 1, sizeof(*out));
	struct redd_port_info *list = block_take(b, w->n_ports, sizeof(*list));

	for (size_t i = 0; i < w->n_ports; i++) {
		struct redd_port_info p = take_port(b, w->ports[i]);

		if (list)
			list[i] = p;
	}
	if (out)
		*out = (struct redd_ports){
			.n_ports = w->n_ports,
			.ports = list,
			.more = w->more,
			.sequence = w->sequence,
		};
}

static int ports_take(struct redd *r, const Redd__V1__Ports *wire, struct redd_reply *reply)
{
	struct block b = { 0 };

	ports_fill(&b, wire);
	if (block_make(&b) < 0)
		return client_fail(r, -ENOMEM, "no memory for a list of ports");
	ports_fill(&b, wire);
	reply->ports = block_start(&b);
	return 0;
}

void redd_ports_free(struct redd_ports *ports)
{
	free(ports);
}

/* --- list ------------------------------------------------------------------------------------ */

static int list_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		     struct redd_reply *reply)
{
	(void)c;
	return ports_take(r, m->ports, reply);
}

static const struct call_kind list_kind = {
	.name = "List",
	.answer = REDD__V1__MESSAGE__BODY_PORTS,
	.repeat = CALL_REPEAT,
	.take = list_take,
};

#define STATES_MAX 4 /* of enum redd_port_state */

static int list_begin(struct redd *r, const struct redd_list_options *options, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__List m = REDD__V1__LIST__INIT;
	Redd__V1__PortState states[STATES_MAX];
	struct selector selector;
	struct redd_list_options o;
	int e;

	OPTIONS_COPY(o, options);
	if (o.n_states > STATES_MAX)
		return client_fail(r, -EINVAL, "there are %d states; name each once", STATES_MAX);
	e = selector_build(r, &selector, o.labels, o.n_labels);
	if (e < 0)
		return err_pass(e);
	for (size_t i = 0; i < o.n_states; i++)
		states[i] = (Redd__V1__PortState)o.states[i];
	m.n_labels = o.n_labels;
	m.labels = selector.list;
	m.n_states = o.n_states;
	m.states = states;
	m.has_after = o.after != 0;
	m.after = o.after;
	m.has_limit = o.limit != 0;
	m.limit = o.limit;
	m.has_details = o.details;
	m.details = o.details;
	request.body_case = REDD__V1__REQUEST__BODY_LIST;
	request.list = &m;
	return call_send(r, &list_kind, how, NULL, &request, NULL);
}

int redd_list(struct redd *r, const struct redd_list_options *options, struct redd_ports **ret)
{
	struct waiter w = { 0 };
	int e = call_wait(r, list_begin(r, options, WAITER(&w)), &w);

	if (e == 0)
		*ret = (struct redd_ports *)w.reply.ports;
	return e;
}

int redd_list_start(struct redd *r, const struct redd_list_options *options, struct redd_call *call)
{
	return list_begin(r, options, STARTED(call));
}

/* --- inspect --------------------------------------------------------------------------------- */

static void input_take(struct redd *r, const struct call *c, uint32_t stream,
		       const Redd__V1__StreamInfo *s)
{
	uint64_t ahead;
	size_t n = calls_ahead(r, c, stream, &ahead);

	ledger_seen(&c->port->inputs, stream, c->number, s->total + s->queued, n, ahead);
}

/* Where the inputs are, for writes whose answer may get lost. The default one is 0 where that is an
 * input, else the terminal. */
static void inputs_take(struct redd *r, const struct call *c, const Redd__V1__PortInfo *w)
{
	const Redd__V1__StreamInfo *first = NULL;

	for (size_t i = 0; i < w->n_streams; i++) {
		const Redd__V1__StreamInfo *s = w->streams[i];

		if (s->direction != REDD__V1__DIRECTION__DIRECTION_INPUT)
			continue;
		input_take(r, c, s->stream, s);
		if (s->stream == 0 || (s->stream == REDD_TERMINAL && !first))
			first = s;
	}
	if (first)
		input_take(r, c, REDD_STREAM_DEFAULT, first);
	c->port->no_terminal = !w->terminal;
	c->port->knows_header = true;
	c->port->header = framing_of(w->framing).header;
}

static int inspect_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
			struct redd_reply *reply)
{
	Redd__V1__PortInfo *one = m->port_info;
	Redd__V1__Ports ports = REDD__V1__PORTS__INIT;

	ports.n_ports = 1;
	ports.ports = &one;
	if (!c->port->id)
		c->port->id = one->port;
	inputs_take(r, c, one);
	return ports_take(r, &ports, reply);
}

static const struct call_kind inspect_kind = {
	.name = "Inspect",
	.answer = REDD__V1__MESSAGE__BODY_PORT_INFO,
	.repeat = CALL_REPEAT,
	.take = inspect_take,
};

static int inspect_begin(struct redd_port *port, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Inspect m = REDD__V1__INSPECT__INIT;
	struct call_target target = { .port = port };
	Redd__V1__PortRef ref;

	port_name_in(port, &ref);
	m.port = &ref;
	request.body_case = REDD__V1__REQUEST__BODY_INSPECT;
	request.inspect = &m;
	return call_send(port->r, &inspect_kind, how, &target, &request, NULL);
}

int redd_inspect(struct redd_port *port, struct redd_ports **ret)
{
	struct waiter w = { 0 };
	int e = call_wait(port->r, inspect_begin(port, WAITER(&w)), &w);

	if (e == 0)
		*ret = (struct redd_ports *)w.reply.ports;
	return e;
}

int redd_inspect_start(struct redd_port *port, struct redd_call *call)
{
	return inspect_begin(port, STARTED(call));
}
