/* Good path: a handler asks rights_may() with the port; the owner's answer comes without a look at
 * the clock.
 *
 * Revocation. A grant that was taken back, or whose time is up, is out of the port's set first;
 * then rights_look() goes through all that others do with the port and ends what they may not do
 * any more: subscriptions (Closed, REVOKED), Waits, Writes and Closes of which no byte is in the
 * pipe, claims and leases. A Write that has begun is finished: half of it would be worse for
 * whoever reads it. Signals that are on their way have been sent.
 */
#include "broker/rights.h"

#include <errno.h>
#include <time.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/expect.h"
#include "broker/delegation.h"
#include "broker/holding.h"
#include "broker/life.h"
#include "broker/pending.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/selection.h"
#include "broker/session.h"
#include "broker/subscription.h"
#include "proto/base/err.h"

uint64_t rights_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- asking ---------------------------------------------------------------------------------- */

static void target_fill(struct policy_target *ret, const struct conn *c,
			const struct principal *owner, const struct grants *grants)
{
	*ret = (struct policy_target){ .owner = *owner,
				       .grants = grants,
				       .now_ms = grants && grants->n ? rights_now_ms() : 0,
				       .groups = c->groups,
				       .n_groups = c->n_groups };
}

static void target_of_port(struct policy_target *ret, const struct conn *c, const struct port *p)
{
	target_fill(ret, c, &p->owner, p->grants);
	if (!c->delegation)
		return;
	ret->delegated = delegation_rights(c->delegation, p->id, p->options.labels, &p->owner);
	ret->delegated_streams = delegation_streams(c->delegation, p);
}

bool rights_may(const struct conn *c, enum policy_verb verb, const struct port *p)
{
	struct policy_target target;

	target_of_port(&target, c, p);
	return policy_may(&c->broker->policy, &c->who, verb, &target);
}

stream_set rights_streams(const struct conn *c, enum policy_verb verb, const struct port *p)
{
	struct policy_target target;

	target_of_port(&target, c, p);
	return policy_streams(&c->broker->policy, &c->who, verb, &target);
}

stream_set rights_bit(const struct port *p, uint32_t stream)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		if (p->streams[i]->number == stream)
			return (stream_set)(1u << i);
	return 0;
}

bool rights_may_stream(const struct conn *c, enum policy_verb verb, const struct stream *s)
{
	return rights_streams(c, verb, s->port) & rights_bit(s->port, s->number);
}

unsigned rights_of(const struct conn *c, const struct port *p)
{
	static const struct {
		enum policy_verb verb;
		enum right right;
	} all[] = {
		{ POLICY_SEE, RIGHT_SEE },	 { POLICY_READ, RIGHT_READ },
		{ POLICY_WRITE, RIGHT_WRITE },	 { POLICY_SIGNAL, RIGHT_SIGNAL },
		{ POLICY_RESIZE, RIGHT_RESIZE }, { POLICY_MANAGE, RIGHT_MANAGE },
		{ POLICY_BLOCK, RIGHT_BLOCK },
	};
	unsigned rights = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (rights_may(c, all[i].verb, p))
			rights |= all[i].right;
	return rights;
}

uint64_t rights_end(const struct conn *c, const struct port *p)
{
	const struct grantee who = { c->who.uid, c->who.gid, c->groups, c->n_groups };

	if (principal_is_same(&c->who, &p->owner))
		return 0;
	return grants_end_of(p->grants, &who, RIGHT_MANAGE);
}

/* What a watch is told depends on the grants of now, also when the port has gone. That it is
 * granted or revoked is told to those whom it makes a difference to. */
bool rights_see_event(const struct conn *c, const struct event *e)
{
	const struct grantee grantee = { c->who.uid, c->who.gid, c->groups, c->n_groups };
	struct policy_target target;
	bool sees;

	target_fill(&target, c, &e->owner, e->grants);
	if (c->delegation)
		target.delegated = delegation_rights(c->delegation, e->port, e->labels, &e->owner);
	sees = policy_may(&c->broker->policy, &c->who, POLICY_SEE, &target);
	if (e->what != EVENT_GRANTED && e->what != EVENT_REVOKED)
		return sees;
	if (c->who.delegation || principal_is_same(&c->who, &e->owner) ||
	    !grant_is_for(&e->grant, &grantee))
		return false;
	return sees == (e->what == EVENT_GRANTED);
}

/* --- taking back ----------------------------------------------------------------------------- */

static bool may_go_on_reading(const struct subscription *s)
{
	stream_set allowed;

	if (s->overflow == CURSOR_MAY_BLOCK && !rights_may(s->conn, POLICY_BLOCK, s->port))
		return false;
	allowed = rights_streams(s->conn, POLICY_READ, s->port);
	for (unsigned i = 0; i < s->n_readers; i++)
		if (!(allowed & rights_bit(s->port, s->readers[i].stream->number)))
			return false;
	return allowed;
}

static void look_at_subscriptions(struct port *p)
{
	struct subscription *s, *next;

	list_for_each_safe (s, next, &p->subscriptions, port_link)
		if (s->state == SUBSCRIPTION_OPEN && !may_go_on_reading(s))
			subscription_end(s, SUBSCRIPTION_REVOKED);
}

static bool may_look_at_ports(const struct conn *c)
{
	return policy_may(&c->broker->policy, &c->who, POLICY_CONNECT, NULL) &&
	       (!c->who.delegation || c->delegation);
}

static bool may_go_on_waiting(const struct pending *w)
{
	if (selection_is_choosing(w->selection))
		return may_look_at_ports(w->conn);
	switch (w->kind) {
	case PENDING_WAIT_EXITED:
	case PENDING_WAIT_CLOSED:
		if (!w->port) /* any of several */
			return may_look_at_ports(w->conn);
		return rights_may(w->conn, POLICY_SEE, w->port);
	case PENDING_WRITE:
	case PENDING_CLOSE:
		return rights_may_stream(w->conn, POLICY_WRITE, w->stream);
	case PENDING_LEASE:
		return rights_may(w->conn, POLICY_WRITE, w->port);
	case PENDING_EXPECT:
		return rights_may_stream(w->conn, POLICY_READ, w->expect->stream) &&
		       (!w->expect->options.block || rights_may(w->conn, POLICY_BLOCK, w->port));
	default:
		return true; /* SPAWN, SIGNAL have taken effect */
	}
}

/* A write that has begun is finished. */
static void give_up(struct pending *w)
{
	struct stream *s = w->stream;

	if (s && !pending_cancel_input(w) && w->kind != PENDING_EXPECT)
		return;
	reply_error(w->conn, w->request, REPLY_PERMISSION_DENIED, EPERM,
		    "the right to this was revoked, or its time was up, while the request waited");
	pending_free(w);
	if (s)
		stream_settle_input(s);
}

static struct pending *pending_at(struct list *link, bool of_port)
{
	return of_port ? list_entry(link, struct pending, port_link)
		       : list_entry(link, struct pending, conn_link);
}

/* Giving one up may answer others, so each step begins at the front, and who was looked at is out
 * of the way meanwhile. */
static void look_at_pendings(struct list *list, bool of_port)
{
	struct list looked = LIST_INIT(looked);

	while (!list_is_empty(list)) {
		struct list *link = list->next;
		struct pending *w = pending_at(link, of_port);

		list_remove(link);
		list_append(&looked, link);
		if (!may_go_on_waiting(w))
			give_up(w);
	}
	list_splice(list, &looked);
}

void rights_look(struct port *p)
{
	look_at_subscriptions(p);
	look_at_pendings(&p->pendings, true);
	holding_look(p);
}

void rights_look_at(struct conn *c)
{
	struct subscription *s, *next;
	struct port *p, *next_port;

	list_for_each_safe (s, next, &c->subscriptions, conn_link)
		if (s->state == SUBSCRIPTION_OPEN && !may_go_on_reading(s))
			subscription_end(s, SUBSCRIPTION_REVOKED);
	look_at_pendings(&c->pendings, false);
	if (!c->session)
		return;
	list_for_each_safe (p, next_port, &c->session->leases, lease_link)
		holding_look(p);
}

static void set_alarm(struct port *p)
{
	uint64_t end = grants_next_end(p->grants), now = rights_now_ms();

	if (end)
		alarm_set(&p->broker->alarms, &p->grants_end, end > now ? end - now : 0);
	else
		alarm_stop(&p->broker->alarms, &p->grants_end);
}

/* Tells watches, and everything else, of one that is out of the set. */
static void gone(struct port *p, const struct grant *grant)
{
	rights_look(p);
	watches_note_grant(p->broker, EVENT_REVOKED, p, grant);
}

bool rights_revoke(struct port *p, uint64_t id)
{
	bool found = false;

	for (unsigned i = p->grants ? p->grants->n : 0; i-- > 0;) {
		struct grant grant = p->grants->list[i];

		if (id && grant.id != id)
			continue;
		grants_remove(p->grants, grant.id);
		found = true;
		gone(p, &grant);
	}
	if (found) {
		set_alarm(p);
		port_save(p);
	}
	return found;
}

void rights_on_end(struct alarm *a)
{
	struct port *p = container_of(a, struct port, grants_end);
	uint64_t now = rights_now_ms();

	for (unsigned i = p->grants->n; i-- > 0;) {
		struct grant grant = p->grants->list[i];

		if (!grant.until_ms || grant.until_ms > now)
			continue;
		grants_remove(p->grants, grant.id);
		gone(p, &grant);
	}
	set_alarm(p);
	port_save(p);
}

/* --- giving ---------------------------------------------------------------------------------- */

int rights_grant(struct port *p, struct grant *grant)
{
	int r;

	if (!p->grants)
		p->grants = grants_new();
	if (!p->grants)
		return err_begin(-ENOMEM);
	grant->id = p->broker->deaths << 32 | ++p->broker->last_grant;
	r = grants_add(p->grants, grant);
	if (r)
		return r;
	set_alarm(p);
	port_save(p);
	watches_note_grant(p->broker, EVENT_GRANTED, p, grant);
	return 0;
}

int rights_restore(struct port *p, const struct grant *list, unsigned n)
{
	if (!n)
		return 0;
	p->grants = grants_new();
	if (!p->grants)
		return err_begin(-ENOMEM);
	for (unsigned i = 0; i < n; i++)
		grants_add(p->grants, &list[i]);
	set_alarm(p);
	return 0;
}
