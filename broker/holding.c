/* A lease belongs to a session: it goes on while that waits for its client to come back, but no
 * longer than RECONNECT_GRACE_MS, as others may wait for it. It outlives the broker, and then the
 * session waits for its sake, too. What the holder has queued is in the
 * input's queue and stays there, so a hand-over takes effect for what is written from then on, and
 * a holder that dies keeps nobody.
 *
 * A claim is part of the request that waits for it (struct pending), so it goes with its
 * connection.
 */
#include "broker/holding.h"

#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/delegation.h"
#include "broker/pending.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/rights.h"
#include "broker/session.h"
#include "proto/base/err.h"

/* Sets the alarm for what is left of its time, and `most_ms` at the most (0: no limit). */
static void set_end(struct port *p, uint64_t most_ms)
{
	uint64_t now = uv_now(&p->broker->loop), left = most_ms;

	if (p->lease_until_ms) {
		left = p->lease_until_ms > now ? p->lease_until_ms - now : 0;
		left = most_ms ? MIN(left, most_ms) : left;
	}
	if (p->lease_until_ms || most_ms)
		alarm_set(&p->broker->alarms, &p->lease_end, left);
	else
		alarm_stop(&p->broker->alarms, &p->lease_end);
}

void holding_detached(struct session *s)
{
	struct port *p;

	list_for_each (p, &s->leases, lease_link)
		set_end(p, RECONNECT_GRACE_MS);
}

void holding_attached(struct session *s)
{
	struct port *p;

	list_for_each (p, &s->leases, lease_link)
		set_end(p, 0);
}

static void holding_set(struct port *p, struct session *s, uint64_t id, uint64_t until_ms)
{
	struct session *before = p->holder;

	lease_seize(&p->lease, s, id);
	p->holder = s;
	list_remove(&p->lease_link);
	list_append(&s->leases, &p->lease_link);
	p->lease_until_ms = until_ms;
	session_check_awaited(before);
}

/* The loop's clock is CLOCK_MONOTONIC. */
void holding_begin(struct port *p, struct session *s, uint64_t id, uint64_t duration_ms)
{
	holding_set(p, s, id, duration_ms ? uv_now(&p->broker->loop) + duration_ms : 0);
	set_end(p, 0);
	port_save(p);
}

void holding_resume(struct port *p, struct session *s, uint64_t id, uint64_t until_ms)
{
	holding_set(p, s, id, until_ms);
	set_end(p, RECONNECT_GRACE_MS);
}

static void holding_stop(struct port *p)
{
	alarm_stop(&p->broker->alarms, &p->lease_end);
	list_remove(&p->lease_link);
	p->holder = NULL;
	p->lease_until_ms = 0;
}

void holding_end(struct port *p, enum holding_cause cause, struct pending *to, bool tell)
{
	struct session *before = p->holder;
	uint64_t id = p->lease.id;
	struct lease_claim *claim;
	struct pending *next;

	holding_stop(p);
	if (tell && before && before->conn)
		reply_lease_ended(before->conn, p->id, id, (uint32_t)cause);
	session_check_awaited(before);
	claim = lease_pass(&p->lease, to ? &to->claim : NULL);
	if (!claim) {
		port_save(p);
		return;
	}
	next = container_of(claim, struct pending, claim);
	holding_begin(p, (struct session *)claim->who, claim->id, claim->duration_ms);
	reply_leased(next->conn, next->request, p->id, claim->id);
	pending_free(next);
}

void holding_session_over(struct session *s)
{
	struct port *p, *next;

	list_for_each_safe (p, next, &s->leases, lease_link)
		holding_end(p, HOLDING_RELEASED, NULL, false);
}

/* As if it were back, through the same door. */
static bool absent_may_write(const struct port *p, const struct session *s)
{
	struct delegation *d = delegation_find(p->broker, s->who.delegation);
	struct conn back = { .broker = p->broker, .who = s->who, .delegation = d };

	if (d) {
		memcpy(back.groups, d->groups, sizeof(back.groups));
		back.n_groups = d->n_groups;
	}
	return rights_may(&back, POLICY_WRITE, p);
}

static bool may_write(const struct port *p, const struct session *s)
{
	return s->conn ? rights_may(s->conn, POLICY_WRITE, p) : absent_may_write(p, s);
}

void holding_look(struct port *p)
{
	if (p->holder && !may_write(p, p->holder))
		holding_end(p, HOLDING_REVOKED, NULL, true);
}

static struct port *next_lease_through(struct broker *b, uint64_t delegation)
{
	struct session *s;

	list_for_each (s, &b->sessions, link)
		if (!s->conn && s->who.delegation == delegation && !list_is_empty(&s->leases))
			return list_first(&s->leases, struct port, lease_link);
	return NULL;
}

/* A session may be over with its last lease, so each step begins at the front. */
void holding_door_over(struct broker *b, uint64_t delegation)
{
	struct port *p;

	while ((p = next_lease_through(b, delegation)))
		holding_end(p, HOLDING_REVOKED, NULL, false);
}

/* Who waits was told that the port is gone. */
void holding_forget(struct port *p)
{
	struct session *s = p->holder;

	holding_stop(p);
	session_check_awaited(s);
}

void holding_on_end(struct alarm *a)
{
	holding_end(container_of(a, struct port, lease_end), HOLDING_EXPIRED, NULL, true);
}
