/* Grant, Revoke, Delegate; and how rights stand in messages. */
#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/delegation.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

/* --- in messages ----------------------------------------------------------------------------- */

const char *req_read_rights(const Redd__V1__Rights *m, struct rights_wish *ret)
{
	*ret = (struct rights_wish){ 0 };
	if (!m)
		return "no rights are named; set at least one of see, read, write, signal, resize, "
		       "manage and block";
	ret->rights = (uint8_t)((m->see ? RIGHT_SEE : 0) | (m->read ? RIGHT_READ : 0) |
				(m->write ? RIGHT_WRITE : 0) | (m->signal ? RIGHT_SIGNAL : 0) |
				(m->resize ? RIGHT_RESIZE : 0) | (m->manage ? RIGHT_MANAGE : 0) |
				(m->block ? RIGHT_BLOCK : 0));
	if (!ret->rights)
		return "no rights are named; set at least one of see, read, write, signal, resize, "
		       "manage and block";
	if (m->n_streams > PORT_STREAMS_MAX)
		return "more streams than a port can have";
	if (m->n_streams && !(ret->rights & (RIGHT_READ | RIGHT_WRITE)))
		return "streams narrow read and write, and neither is given";
	ret->n_streams = (unsigned)m->n_streams;
	for (size_t i = 0; i < m->n_streams; i++)
		ret->streams[i] = m->streams[i];
	return NULL;
}

static void fill_rights(Redd__V1__Rights *ret, unsigned rights)
{
	redd__v1__rights__init(ret);
	ret->has_see = ret->see = rights & RIGHT_SEE;
	ret->has_read = ret->read = rights & RIGHT_READ;
	ret->has_write = ret->write = rights & RIGHT_WRITE;
	ret->has_signal = ret->signal = rights & RIGHT_SIGNAL;
	ret->has_resize = ret->resize = rights & RIGHT_RESIZE;
	ret->has_manage = ret->manage = rights & RIGHT_MANAGE;
	ret->has_block = ret->block = rights & RIGHT_BLOCK;
}

static void fill_streams(Redd__V1__Rights *ret, uint32_t numbers[PORT_STREAMS_MAX],
			 const struct port *p, stream_set set)
{
	ret->streams = numbers;
	for (unsigned i = 0; set != STREAMS_ALL && i < p->n_streams; i++)
		if (set & 1u << i)
			numbers[ret->n_streams++] = p->streams[i]->number;
}

void req_fill_grants(struct grants_message *ret, const struct port *p)
{
	uint64_t now = rights_now_ms();

	for (ret->n = 0; p->grants && ret->n < p->grants->n; ret->n++) {
		const struct grant *g = &p->grants->list[ret->n];
		Redd__V1__GrantInfo *info = &ret->infos[ret->n];

		redd__v1__grant_info__init(info);
		fill_rights(&ret->rights[ret->n], g->rights);
		fill_streams(&ret->rights[ret->n], ret->streams[ret->n], p, g->streams);
		SET(*info, grant, g->id);
		SET(*info, to, (Redd__V1__GrantTo)g->to);
		if (g->to != GRANT_TO_EVERYONE)
			SET(*info, number, g->number);
		if (g->until_ms)
			SET(*info, left_ms, g->until_ms > now ? g->until_ms - now : 0);
		info->rights = &ret->rights[ret->n];
		ret->pointers[ret->n] = info;
	}
}

/* --- Grant ----------------------------------------------------------------------------------- */

static bool may_delegate(struct conn *c, uint64_t request)
{
	if (policy_may(&c->broker->policy, &c->who, POLICY_DELEGATE, NULL))
		return true;
	reply_error(c, request, REPLY_PERMISSION_DENIED, EPERM, "%s",
		    policy_reason(POLICY_DELEGATE));
	return false;
}

static const char *read_grantee(const Redd__V1__Grant *m, struct grant *ret)
{
	if ((unsigned)m->to > GRANT_TO_EVERYONE)
		return "to has a value that this broker does not know";
	if (m->has_number == (m->to == REDD__V1__GRANT_TO__GRANT_EVERYONE))
		return "number is the uid or gid that the rights are for; for everyone there is "
		       "none";
	ret->to = (uint16_t)m->to;
	ret->number = m->number;
	return NULL;
}

/* The streams as places in the port; READ and WRITE can be for no others than it has. */
static const char *read_set(const struct port *p, const struct rights_wish *wish, stream_set *ret)
{
	*ret = wish->n_streams ? 0 : STREAMS_ALL;
	for (unsigned i = 0; i < wish->n_streams; i++) {
		stream_set bit = rights_bit(p, wish->streams[i]);

		if (!bit)
			return "the port has no stream of that number; Inspect lists its streams";
		*ret |= bit;
	}
	return NULL;
}

/* Nobody gives more than he has: neither rights, nor streams for them. */
static bool has_them(const struct conn *c, const struct port *p, unsigned rights, stream_set set)
{
	stream_set real = (stream_set)((1u << p->n_streams) - 1);

	if (rights & ~(rights_of(c, p) | RIGHT_SEE))
		return false;
	if (rights & RIGHT_READ && set & real & ~rights_streams(c, POLICY_READ, p))
		return false;
	return !(rights & RIGHT_WRITE && set & real & ~rights_streams(c, POLICY_WRITE, p));
}

static void answer_granted(struct conn *c, uint64_t request, uint64_t id)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Granted granted = REDD__V1__GRANTED__INIT;

	SET(granted, grant, id);
	m.body_case = REDD__V1__MESSAGE__BODY_GRANTED;
	m.granted = &granted;
	reply_message(c, request, &m);
}

/* What somebody gives whose own right has an end does not last longer than that. */
static void grant(struct conn *c, const Redd__V1__Request *request, struct port *p, struct grant *g)
{
	uint64_t duration = request->grant->duration_ms, end = rights_end(c, p);
	int r;

	g->until_ms = duration ? rights_now_ms() + duration : 0;
	if (end && (!g->until_ms || g->until_ms > end))
		g->until_ms = end;
	r = rights_grant(p, g);
	if (r == 0)
		answer_granted(c, request->id, g->id);
	else
		reply_error(c, request->id, REPLY_RESOURCE_EXHAUSTED, r < 0 ? -r : 0,
			    r < 0 ? "no memory for the grant; try again"
				  : "the port has as many grants as it may (%u); revoke some",
			    GRANTS_MAX);
}

int req_grant(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Grant *m = request->grant;
	struct port *p = may_delegate(c, request->id)
				 ? req_port(c, request->id, m->port, POLICY_MANAGE)
				 : NULL;
	struct rights_wish wish;
	struct grant g = { 0 };
	const char *wrong;

	if (!p)
		return 0;
	wrong = read_grantee(m, &g);
	if (!wrong)
		wrong = req_read_rights(m->rights, &wish);
	if (!wrong)
		wrong = read_set(p, &wish, &g.streams);
	if (!wrong && m->duration_ms > RIGHTS_DURATION_MAX_MS)
		wrong = "duration_ms is more than a hundred years; leave it out";
	g.rights = wrong ? 0 : wish.rights;
	if (wrong)
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL, "%s", wrong);
	else if (!has_them(c, p, g.rights, g.streams))
		reply_error(c, request->id, REPLY_PERMISSION_DENIED, EPERM,
			    "some of these rights are not yours to give; Inspect shows which are");
	else
		grant(c, request, p, &g);
	return 0;
}

/* --- Revoke ---------------------------------------------------------------------------------- */

static struct port *port_of_grant(struct conn *c, uint64_t id)
{
	struct port *p;

	port_table_for_each(p, &c->broker->ports) if (grants_find(p->grants, id) &&
						      rights_may(c, POLICY_MANAGE, p)) return p;
	return NULL;
}

static void revoke_grant(struct conn *c, uint64_t request, uint64_t id)
{
	struct port *p = port_of_grant(c, id);

	if (p && rights_revoke(p, id))
		reply_done(c, request);
	else
		reply_error(c, request, REPLY_NOT_FOUND, 0,
			    "there is no such grant that you may revoke, or no longer; Inspect "
			    "shows those of a port");
}

static void revoke_delegation(struct conn *c, uint64_t request, uint64_t id)
{
	struct delegation *d = delegation_find(c->broker, id);

	if (!d || c->who.delegation || c->who.listener != d->who.listener ||
	    c->who.uid != d->who.uid) {
		reply_error(c, request, REPLY_NOT_FOUND, 0,
			    "there is no such delegation of yours, or no longer");
		return;
	}
	delegation_end(d, "the door was revoked by who made it");
	reply_done(c, request);
}

int req_revoke(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Revoke *m = request->revoke;
	struct port *p;

	if ((m->port != NULL) + m->has_grant + m->has_delegation != 1) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL,
			    "set exactly one of port, grant and delegation");
	} else if (m->has_grant) {
		revoke_grant(c, request->id, m->grant);
	} else if (m->has_delegation) {
		revoke_delegation(c, request->id, m->delegation);
	} else {
		p = req_port(c, request->id, m->port, POLICY_MANAGE);
		if (!p)
			return 0;
		rights_revoke(p, 0);
		reply_done(c, request->id);
	}
	return 0;
}

/* --- Delegate -------------------------------------------------------------------------------- */

/* Each must be one on which the client has those rights itself. False: it was answered. */
static bool read_ports(struct conn *c, const Redd__V1__Request *request,
		       struct delegation_options *o)
{
	const Redd__V1__Delegate *m = request->delegate;

	for (size_t i = 0; i < m->n_ports; i++) {
		struct port *p = req_port(c, request->id, m->ports[i], POLICY_SEE);

		if (!p)
			return false;
		if (o->rights & ~(rights_of(c, p) | RIGHT_SEE)) {
			reply_error(c, request->id, REPLY_PERMISSION_DENIED, EPERM,
				    "you do not have these rights on port %llu yourself",
				    (unsigned long long)p->id);
			return false;
		}
		o->ports[o->n_ports++] = p->id;
	}
	return true;
}

static const char *check_delegate(const Redd__V1__Delegate *m)
{
	if (m->n_ports && m->n_labels)
		return "ports and labels exclude each other";
	if (!m->n_ports && !m->n_labels && !m->spawn)
		return "name ports or labels, or allow spawning";
	if (m->n_ports > DELEGATION_PORTS)
		return "more than 64 ports; give them a label, and name that";
	if (m->duration_ms > RIGHTS_DURATION_MAX_MS)
		return "duration_ms is more than a hundred years; leave it out";
	return NULL;
}

static void answer_delegated(struct conn *c, uint64_t request, struct delegation *d, int take_door)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Delegated delegated = REDD__V1__DELEGATED__INIT;

	if (!conn_attach(c, take_door)) {
		delegation_end(d, "its door could not be handed over");
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, EAGAIN,
			    "too many doors wait to be read; read the answers, then ask again");
		return;
	}
	SET(delegated, delegation, d->who.delegation);
	m.body_case = REDD__V1__MESSAGE__BODY_DELEGATED;
	m.delegated = &delegated;
	reply_message(c, request, &m);
}

static void delegate(struct conn *c, uint64_t request, struct delegation_options *o)
{
	struct delegation *d;
	const char *reason = "the service has as many doors as it may; close some";
	int door, r = delegation_new(&d, c, o, &door, &reason);

	if (r == 0)
		answer_delegated(c, request, d, door);
	else
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, r < 0 ? -r : 0, "%s",
			    r < 0 ? "a door cannot be made; try again later" : reason);
}

int req_delegate(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Delegate *m = request->delegate;
	struct delegation_options o = {
		.until_ms = m->duration_ms ? uv_now(&c->broker->loop) + m->duration_ms : 0,
		.may_spawn = m->spawn,
		.with_session = m->with_session
	};
	const char *wrong = check_delegate(m);
	struct rights_wish wish;
	int r = 0;

	if (!may_delegate(c, request->id))
		return 0;
	if (!wrong)
		wrong = req_read_rights(m->rights, &wish);
	if (!wrong)
		r = req_read_labels(m->labels, m->n_labels, true, &o.selector, &wrong);
	if (r < 0)
		return err_pass(r);
	if (wrong && (r > 0 || !o.selector)) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL, "%s", wrong);
		return 0;
	}
	o.rights = wish.rights;
	o.n_streams = wish.n_streams;
	memcpy(o.streams, wish.streams, sizeof(o.streams));
	if (read_ports(c, request, &o))
		delegate(c, request->id, &o);
	labels_unref(o.selector);
	return 0;
}
