/* Rights given to others: grants, doors, leases.
 */
#include <errno.h>
#include <string.h>

#include "client/call.h"
#include "client/handles.h"
#include "client/selector.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

static Redd__V1__Rights rights_build(const struct redd_rights *r)
{
	Redd__V1__Rights m = REDD__V1__RIGHTS__INIT;

	m.has_see = m.see = r->see;
	m.has_read = m.read = r->read;
	m.has_write = m.write = r->write;
	m.has_signal = m.signal = r->signal;
	m.has_resize = m.resize = r->resize;
	m.has_manage = m.manage = r->manage;
	m.has_block = m.block = r->block;
	m.n_streams = r->n_streams;
	m.streams = (uint32_t *)r->streams;
	return m;
}

/* --- grant ----------------------------------------------------------------------------------- */

static int grant_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	(void)r;
	(void)c;
	reply->granted = m->granted->grant;
	return 0;
}

static const struct call_kind grant_kind = {
	.name = "Grant",
	.answer = REDD__V1__MESSAGE__BODY_GRANTED,
	.repeat = CALL_IN_DOUBT, /* it would be a second grant */
	.take = grant_take,
};

static int grant_begin(struct redd_port *port, const struct redd_grant_options *options,
		       struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Grant m = REDD__V1__GRANT__INIT;
	struct call_target about = { .port = port };
	struct redd_grant_options o;
	Redd__V1__Rights rights;
	Redd__V1__PortRef ref;

	OPTIONS_COPY(o, options);
	rights = rights_build(&o.rights);
	port_name_in(port, &ref);
	m.port = &ref;
	m.has_to = true;
	m.to = (Redd__V1__GrantTo)o.to;
	m.has_number = o.to != REDD_GRANT_EVERYONE;
	m.number = o.number;
	m.rights = &rights;
	m.has_duration_ms = o.duration_ms != 0;
	m.duration_ms = o.duration_ms;
	request.body_case = REDD__V1__REQUEST__BODY_GRANT;
	request.grant = &m;
	return call_send(port->r, &grant_kind, how, &about, &request, NULL);
}

int redd_grant(struct redd_port *port, const struct redd_grant_options *options,
	       uint64_t *ret_grant)
{
	struct waiter w = { 0 };
	int e = call_wait(port->r, grant_begin(port, options, WAITER(&w)), &w);

	if (e == 0 && ret_grant)
		*ret_grant = w.reply.granted;
	return e;
}

int redd_grant_start(struct redd_port *port, const struct redd_grant_options *options,
		     struct redd_call *call)
{
	return grant_begin(port, options, STARTED(call));
}

/* --- revoke ---------------------------------------------------------------------------------- */

static const struct call_kind revoke_all_kind = {
	.name = "Revoke",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_REPEAT,
};

/* Of one. A repetition finds none both when it was done and when we may not do it. */
static const struct call_kind revoke_kind = {
	.name = "Revoke",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_IN_DOUBT,
};

static int revoke_begin(struct redd *r, struct redd_port *port, const uint64_t *grant,
			const uint64_t *delegation, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Revoke m = REDD__V1__REVOKE__INIT;
	struct call_target about = { .port = port };
	Redd__V1__PortRef ref;

	if (port) {
		port_name_in(port, &ref);
		m.port = &ref;
	}
	m.has_grant = grant != NULL;
	m.grant = grant ? *grant : 0;
	m.has_delegation = delegation != NULL;
	m.delegation = delegation ? *delegation : 0;
	request.body_case = REDD__V1__REQUEST__BODY_REVOKE;
	request.revoke = &m;
	return call_send(r, port ? &revoke_all_kind : &revoke_kind, how, &about, &request, NULL);
}

int redd_revoke_all(struct redd_port *port)
{
	struct waiter w = { 0 };

	return call_wait(port->r, revoke_begin(port->r, port, NULL, NULL, WAITER(&w)), &w);
}

int redd_revoke_all_start(struct redd_port *port, struct redd_call *call)
{
	return revoke_begin(port->r, port, NULL, NULL, STARTED(call));
}

int redd_revoke_grant(struct redd *r, uint64_t grant)
{
	struct waiter w = { 0 };

	return call_wait(r, revoke_begin(r, NULL, &grant, NULL, WAITER(&w)), &w);
}

int redd_revoke_grant_start(struct redd *r, uint64_t grant, struct redd_call *call)
{
	return revoke_begin(r, NULL, &grant, NULL, STARTED(call));
}

int redd_revoke_delegation(struct redd *r, uint64_t delegation)
{
	struct waiter w = { 0 };

	return call_wait(r, revoke_begin(r, NULL, NULL, &delegation, WAITER(&w)), &w);
}

int redd_revoke_delegation_start(struct redd *r, uint64_t delegation, struct redd_call *call)
{
	return revoke_begin(r, NULL, NULL, &delegation, STARTED(call));
}

/* --- delegate -------------------------------------------------------------------------------- */

/* Doors come in the order of their answers. */
static int delegate_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
			 struct redd_reply *reply)
{
	(void)c;
	if (!r->n_doors)
		return client_fail(r, -EPROTO, "the broker's answer came without its door");
	reply->delegated = (struct redd_delegated){ m->delegated->delegation, r->doors[0] };
	memmove(&r->doors[0], &r->doors[1], --r->n_doors * sizeof(r->doors[0]));
	return 0;
}

static const struct call_kind delegate_kind = {
	.name = "Delegate",
	.answer = REDD__V1__MESSAGE__BODY_DELEGATED,
	.repeat = CALL_IN_DOUBT, /* it would be a second door */
	.take = delegate_take,
};

static int delegate_check(struct redd *r, const struct redd_delegate_options *o)
{
	if (o->n_ports > REDD_DELEGATION_PORTS)
		return client_fail(r, -EINVAL, "a delegation names %d ports at most; use a label",
				   REDD_DELEGATION_PORTS);
	for (size_t i = 0; i < o->n_ports; i++)
		if (o->ports[i]->r != r)
			return client_fail(r, -EINVAL, "port %zu is another connection's", i);
	return 0;
}

static int delegate_begin(struct redd *r, const struct redd_delegate_options *options,
			  struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Delegate m = REDD__V1__DELEGATE__INIT;
	Redd__V1__PortRef refs[REDD_DELEGATION_PORTS], *list[REDD_DELEGATION_PORTS];
	struct redd_port *ports[REDD_DELEGATION_PORTS];
	struct redd_delegate_options o;
	struct selector selector;
	Redd__V1__Rights rights;
	int e;

	OPTIONS_COPY(o, options);
	e = delegate_check(r, &o);
	if (e == 0)
		e = selector_build(r, &selector, o.labels, o.n_labels);
	if (e < 0)
		return err_pass(e);
	for (size_t i = 0; i < o.n_ports; i++) {
		port_name_in(o.ports[i], &refs[i]);
		list[i] = &refs[i];
	}
	rights = rights_build(&o.rights);
	m.n_ports = o.n_ports;
	m.ports = list;
	m.n_labels = o.n_labels;
	m.labels = selector.list;
	m.rights = &rights;
	m.has_duration_ms = o.duration_ms != 0;
	m.duration_ms = o.duration_ms;
	m.has_spawn = m.spawn = o.spawn;
	m.has_with_session = m.with_session = o.with_session;
	request.body_case = REDD__V1__REQUEST__BODY_DELEGATE;
	request.delegate = &m;
	/* Their names are in it; while it waits for room a callback may free them. */
	for (size_t i = 0; i < o.n_ports; i++)
		port_ref(ports[i] = o.ports[i]);
	e = call_send(r, &delegate_kind, how, NULL, &request, NULL);
	for (size_t i = 0; i < o.n_ports; i++)
		port_unref(ports[i]);
	return err_pass(e);
}

int redd_delegate(struct redd *r, const struct redd_delegate_options *options,
		  struct redd_delegated *ret)
{
	struct waiter w = { 0 };
	int e = call_wait(r, delegate_begin(r, options, WAITER(&w)), &w);

	if (e == 0)
		*ret = w.reply.delegated;
	return e;
}

int redd_delegate_start(struct redd *r, const struct redd_delegate_options *options,
			struct redd_call *call)
{
	return delegate_begin(r, options, STARTED(call));
}

/* --- lease ----------------------------------------------------------------------------------- */

static int lease_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	(void)r;
	if (!c->port->id)
		c->port->id = m->leased->port; /* what ends is told of by its id */
	c->port->lease = m->leased->lease;
	c->port->lease_is_away = false;
	reply->leased = m->leased->lease;
	return 0;
}

static const struct call_kind lease_kind = {
	.name = "Lease",
	.answer = REDD__V1__MESSAGE__BODY_LEASED,
	.repeat = CALL_REPEAT, /* who has it has it, anew for its time */
	.take = lease_take,
};

static int lease_begin(struct redd_port *port, const struct redd_lease_options *options,
		       struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Lease m = REDD__V1__LEASE__INIT;
	struct call_target about = { .port = port };
	struct redd_lease_options o;
	Redd__V1__PortRef ref;

	OPTIONS_COPY(o, options);
	port_name_in(port, &ref);
	m.port = &ref;
	m.has_wait = m.wait = o.wait;
	m.has_force = m.force = o.force;
	m.has_duration_ms = o.duration_ms != 0;
	m.duration_ms = o.duration_ms;
	request.body_case = REDD__V1__REQUEST__BODY_LEASE;
	request.lease = &m;
	return call_send(port->r, &lease_kind, how, &about, &request, NULL);
}

int redd_lease(struct redd_port *port, const struct redd_lease_options *options,
	       uint64_t *ret_lease)
{
	struct waiter w = { 0 };
	int e = call_wait(port->r, lease_begin(port, options, WAITER(&w)), &w);

	if (e == 0 && ret_lease)
		*ret_lease = w.reply.leased;
	return e;
}

int redd_lease_start(struct redd_port *port, const struct redd_lease_options *options,
		     struct redd_call *call)
{
	return lease_begin(port, options, STARTED(call));
}

/* There may be more than one handle of a port. */
static void forget_lease(struct redd *r, uint64_t port)
{
	struct redd_port *p;

	list_for_each (p, &r->ports, link)
		if (p->id == port && port)
			p->lease = 0;
}

static int release_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
			struct redd_reply *reply)
{
	(void)m, (void)reply;
	c->port->lease = 0;
	forget_lease(r, c->port->id);
	return 0;
}

static const struct call_kind release_kind = {
	.name = "Release",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_IN_DOUBT, /* it could give back what was taken since */
	.take = release_take,
};

static int release_begin(struct redd_port *port, uint64_t to, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Release m = REDD__V1__RELEASE__INIT;
	struct call_target about = { .port = port };
	Redd__V1__PortRef ref;

	port_name_in(port, &ref);
	m.port = &ref;
	m.has_to = to != 0;
	m.to = to;
	request.body_case = REDD__V1__REQUEST__BODY_RELEASE;
	request.release = &m;
	return call_send(port->r, &release_kind, how, &about, &request, NULL);
}

int redd_release(struct redd_port *port, uint64_t to)
{
	struct waiter w = { 0 };

	return call_wait(port->r, release_begin(port, to, WAITER(&w)), &w);
}

int redd_release_start(struct redd_port *port, uint64_t to, struct redd_call *call)
{
	return release_begin(port, to, STARTED(call));
}

/* --- leases that end ------------------------------------------------------------------------- */

void redd_on_lease_end(struct redd *r, redd_lease_end_fn *on_lease_end, void *user)
{
	r->on_lease_end = on_lease_end;
	r->on_lease_end_user = user;
}

static void tell_lease_end(struct redd *r, uint64_t port, uint64_t lease, enum redd_lease_end why)
{
	forget_lease(r, port);
	if (r->on_lease_end)
		r->on_lease_end(r, port, lease, why, r->on_lease_end_user);
}

int lease_event(struct redd *r, const Redd__V1__Message *m)
{
	const Redd__V1__Leased *leased = m->leased;

	tell_lease_end(r, leased->port, leased->lease, (enum redd_lease_end)leased->cause);
	return 0;
}

void leases_away(struct redd *r)
{
	struct redd_port *p;

	list_for_each (p, &r->ports, link)
		p->lease_is_away = true;
}

/* It may have ended while nobody could tell us. */
static int look_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		     struct redd_reply *reply)
{
	const Redd__V1__LeaseInfo *lease = m->port_info->lease;
	uint64_t ours = c->port->lease;

	(void)reply;
	if (ours && !(lease && lease->holder && lease->holder->lease == ours))
		tell_lease_end(r, m->port_info->port, ours, REDD_LEASE_ABANDONED);
	return 0;
}

/* The port has gone, or is not for us to see any more. */
static void look_failed(struct redd *r, struct call *c, int result)
{
	uint64_t ours = c->port->lease;

	(void)result;
	if (ours && r->state != CLIENT_DOWN)
		tell_lease_end(r, c->port->id, ours, REDD_LEASE_ABANDONED);
}

static const struct call_kind look_kind = {
	.name = "Inspect",
	.answer = REDD__V1__MESSAGE__BODY_PORT_INFO,
	.repeat = CALL_DROP,
	.take = look_take,
	.failed = look_failed,
};

int lease_look(struct redd_port *p)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Inspect m = REDD__V1__INSPECT__INIT;
	struct call_target target = { .port = p };
	Redd__V1__PortRef ref;
	int e;

	port_name_in(p, &ref);
	m.port = &ref;
	request.body_case = REDD__V1__REQUEST__BODY_INSPECT;
	request.inspect = &m;
	e = call_own(p->r, &look_kind, &target, &request);
	if (e == 0)
		p->lease_is_away = false;
	return e;
}

static struct redd_port *next_leased(struct redd *r)
{
	struct redd_port *p;

	list_for_each (p, &r->ports, link)
		if (p->lease)
			return p;
	return NULL;
}

/* Callbacks may free ports, so each step begins at the front. */
void leases_abandon(struct redd *r)
{
	struct redd_port *p;

	while ((p = next_leased(r))) {
		uint64_t lease = p->lease;

		p->lease = 0;
		tell_lease_end(r, p->id, lease, REDD_LEASE_ABANDONED);
	}
}
