/* A detached session keeps its ports on its list (so that it can be attached again) while
 * port_orphan has run for each; a port that is killed for it, or that is kept for some time, leaves
 * the list when it is gone.
 */
#include "broker/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/delegation.h"
#include "broker/holding.h"
#include "broker/pending.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "proto/base/err.h"

static void on_leave(struct job *job);
static void on_grace(struct alarm *a);

static struct session *session_make(struct broker *b, const struct principal *who)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->broker = b;
	s->who = *who;
	list_init(&s->ports);
	list_init(&s->leaving);
	list_init(&s->leases);
	job_init(&s->leave, on_leave);
	alarm_init(&s->grace, on_grace);
	return s;
}

int session_new(struct session **ret, struct broker *b, struct conn *conn)
{
	_cleanup_(freep) struct session *s = session_make(b, &conn->who);

	if (!s)
		return err_begin(-ENOMEM);
	if (getrandom(s->id, sizeof(s->id), 0) != (ssize_t)sizeof(s->id))
		return err_errno();
	s->conn = conn;
	list_append(&b->sessions, &s->link);
	*ret = TAKE(s);
	return 0;
}

/* Compares all bytes whatever they are: the time taken tells nothing. */
static bool id_is_same(const uint8_t *a, const uint8_t *b)
{
	unsigned difference = 0;

	for (unsigned i = 0; i < SESSION_ID_SIZE; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

struct session *session_find(struct broker *b, const struct principal *who, const void *id,
			     size_t size)
{
	struct session *s;

	if (size != SESSION_ID_SIZE)
		return NULL;
	list_for_each (s, &b->sessions, link)
		if (id_is_same(s->id, id) && principal_is_same(&s->who, who))
			return s;
	return NULL;
}

struct session *session_restore(struct broker *b, const uint8_t id[SESSION_ID_SIZE],
				const struct principal *who)
{
	static const uint8_t nobody[SESSION_ID_SIZE];
	struct session *s = session_find(b, who, id, SESSION_ID_SIZE);

	if (s || id_is_same(id, nobody))
		return s;
	s = session_make(b, who);
	if (!s)
		return NULL;
	memcpy(s->id, id, sizeof(s->id));
	list_append(&b->sessions, &s->link);
	alarm_set(&b->alarms, &s->grace, RECONNECT_GRACE_MS); /* failed: it is not waited for */
	return s;
}

void session_attach(struct session *s, struct conn *conn)
{
	struct conn *old = s->conn;
	struct port *p;

	s->conn = conn;
	alarm_stop(&s->broker->alarms, &s->grace);
	if (old) {
		old->session = NULL;
		conn_leave(old, REPLY_ABORTED, "another connection has taken the session over");
		pendings_abandon(old); /* nobody is told; claims are the session's */
	}
	job_cancel(&s->leave);
	list_splice(&s->ports, &s->leaving);
	list_for_each (p, &s->ports, session_link)
		port_come_back(p);
	holding_attached(s);
}

void session_check(struct session *s)
{
	if (list_is_empty(&s->leaving))
		job_cancel(&s->leave); /* it is at the cost of whose ports they were */
	if (s->conn || s->is_telling || !list_is_empty(&s->ports) || !list_is_empty(&s->leaving))
		return;
	if (alarm_is_set(&s->grace) &&
	    (!list_is_empty(&s->leases) || delegations_hang_on(s->broker, s)))
		return;
	alarm_stop(&s->broker->alarms, &s->grace);
	list_remove(&s->link);
	holding_session_over(s);
	delegations_end_with(s->broker, s);
	free(s);
}

void session_check_awaited(struct session *s)
{
	if (s && alarm_is_set(&s->grace))
		session_check(s);
}

static void on_grace(struct alarm *a)
{
	session_check(container_of(a, struct session, grace));
}

/* The next ones; they may go over it. */
static void tell_ports(struct session *s)
{
	uint64_t end_ns = uv_hrtime() + WALK_SLICE_NS;
	struct port *p;

	s->is_telling = true;
	for (unsigned n = 1; (p = list_first(&s->leaving, struct port, session_link)); n++) {
		list_remove(&p->session_link);
		list_append(&s->ports, &p->session_link);
		port_orphan(p);
		if (n % WALK_PORTS == 0 && uv_hrtime() >= end_ns)
			break;
	}
	s->is_telling = false;
	p = list_first(&s->leaving, struct port, session_link);
	if (p) {
		job_join(&s->leave, quota_turn_share(port_account(p)));
		turn_work(&s->broker->turn, &s->leave);
	}
	session_check(s);
}

static void on_leave(struct job *job)
{
	tell_ports(container_of(job, struct session, leave));
}

void session_detach(struct session *s)
{
	s->conn = NULL;
	holding_detached(s);
	list_splice(&s->leaving, &s->ports);
	tell_ports(s);
}
