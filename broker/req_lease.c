/* Lease, Release; and who may write while there is one. */
#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/holding.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "broker/session.h"
#include "proto/base/err.h"

/* --- what is told of it ---------------------------------------------------------------------- */

static void fill_session(Redd__V1__ClaimInfo *ret, uint64_t id, const struct session *s)
{
	redd__v1__claim_info__init(ret);
	SET(*ret, lease, id);
	SET(*ret, uid, s->who.uid);
	if (s->conn) {
		ret->client = s->conn->client;
		SET(*ret, pid, s->conn->pid);
	}
}

Redd__V1__LeaseInfo *req_fill_lease(struct lease_message *ret, const struct port *p)
{
	uint64_t now = uv_now(&p->broker->loop);
	struct lease_claim *claim;
	size_t n = 0;

	if (!p->holder)
		return NULL;
	redd__v1__lease_info__init(&ret->info);
	fill_session(&ret->holder, p->lease.id, p->holder);
	ret->info.holder = &ret->holder;
	if (p->lease_until_ms)
		SET(ret->info, left_ms, p->lease_until_ms > now ? p->lease_until_ms - now : 0);
	list_for_each (claim, &p->lease.claims, link) {
		fill_session(&ret->waiting[n], claim->id, claim->who);
		ret->pointers[n] = &ret->waiting[n];
		n++;
	}
	ret->info.n_waiting = n;
	ret->info.waiting = ret->pointers;
	return &ret->info;
}

static void refuse_held(struct conn *c, uint64_t request, const struct port *p, const char *what)
{
	const struct conn *holder = p->holder->conn;

	reply_error(c, request, REPLY_FAILED_PRECONDITION, EBUSY,
		    "'%s' (pid %d, uid %u) has the lease of this port's input; %s",
		    holder ? holder->client : "", holder ? (int)holder->pid : 0,
		    (unsigned)p->holder->who.uid, what);
}

bool req_lease_admits(struct conn *c, uint64_t request, const struct port *p)
{
	if (lease_admits(&p->lease, c->session))
		return true;
	refuse_held(c, request, p, "nothing was written; ask for the lease, and wait for it");
	return false;
}

/* --- Lease ----------------------------------------------------------------------------------- */

static uint64_t claim_id(struct broker *b)
{
	return b->deaths << 32 | ++b->last_grant;
}

static void lease_now(struct conn *c, const Redd__V1__Request *request, struct port *p)
{
	uint64_t id = p->holder == c->session ? p->lease.id : claim_id(c->broker);

	holding_begin(p, c->session, id, request->lease->duration_ms);
	reply_leased(c, request->id, p->id, id);
}

static void lease_later(struct conn *c, const Redd__V1__Request *request, struct port *p)
{
	struct pending *pending = req_pending(c, p, PENDING_LEASE, request->id);
	int r;

	if (!pending)
		return;
	lease_claim_init(&pending->claim, c->session, claim_id(c->broker));
	pending->claim.duration_ms = request->lease->duration_ms;
	r = lease_wait(&p->lease, &pending->claim);
	if (!r)
		return;
	pending_free(pending);
	if (r == LEASE_E_TWICE)
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, EALREADY,
			    "this session waits for the lease already; Release ends that");
	else
		reply_error(c, request->id, REPLY_RESOURCE_EXHAUSTED, EAGAIN,
			    "as many wait for this lease as may (%u); try again later",
			    LEASE_CLAIMS_MAX);
}

static void lease_by_force(struct conn *c, const Redd__V1__Request *request, struct port *p)
{
	struct conn *before = p->holder->conn;
	uint64_t id = p->lease.id;

	if (!rights_may(c, POLICY_MANAGE, p)) {
		reply_error(c, request->id, REPLY_PERMISSION_DENIED, EPERM, "%s",
			    policy_reason(POLICY_MANAGE));
		return;
	}
	lease_now(c, request, p);
	if (before)
		reply_lease_ended(before, p->id, id, HOLDING_TAKEN);
}

static bool has_input(const struct port *p)
{
	for (unsigned i = 0; p->state != PORT_ENDED && i < p->n_streams; i++)
		if (p->streams[i]->in.is_there && !p->streams[i]->in.is_closed &&
		    !p->streams[i]->in.is_failed)
			return true;
	return false;
}

static void refuse_no_input(struct conn *c, uint64_t request)
{
	reply_error(c, request, REPLY_FAILED_PRECONDITION, EPIPE,
		    "the port has no input that is open");
}

void req_lease_look(struct port *p)
{
	struct lease_claim *claim, *next;
	struct pending *pending;

	if (list_is_empty(&p->lease.claims) || has_input(p))
		return;
	list_for_each_safe (claim, next, &p->lease.claims, link) {
		pending = container_of(claim, struct pending, claim);
		refuse_no_input(pending->conn, pending->request);
		pending_free(pending);
	}
}

int req_lease(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Lease *m = request->lease;
	struct port *p = req_port(c, request->id, m->port, POLICY_WRITE);

	if (!p)
		return 0;
	if (m->wait && m->force)
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL,
			    "wait and force exclude each other");
	else if (m->duration_ms > RIGHTS_DURATION_MAX_MS)
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL,
			    "duration_ms is more than a hundred years; leave it out");
	else if (!has_input(p))
		refuse_no_input(c, request->id);
	else if (lease_admits(&p->lease, c->session))
		lease_now(c, request, p);
	else if (m->force)
		lease_by_force(c, request, p);
	else if (m->wait)
		lease_later(c, request, p);
	else
		refuse_held(c, request->id, p, "set wait to have it in turn");
	return 0;
}

/* --- Release --------------------------------------------------------------------------------- */

static void release(struct conn *c, const Redd__V1__Request *request, struct port *p)
{
	struct lease_claim *to = lease_find(&p->lease, request->release->to);

	if (request->release->has_to && !to) {
		reply_error(c, request->id, REPLY_NOT_FOUND, 0,
			    "nobody waits for the lease with that claim, or no longer; Inspect "
			    "shows who does");
		return;
	}
	holding_end(p, HOLDING_RELEASED, to ? container_of(to, struct pending, claim) : NULL,
		    false);
	reply_done(c, request->id);
}

int req_release(struct conn *c, const Redd__V1__Request *request)
{
	struct port *p = req_port(c, request->id, request->release->port, POLICY_SEE);
	struct lease_claim *claim;
	struct pending *pending;

	if (!p)
		return 0;
	if (p->holder == c->session) {
		release(c, request, p);
		return 0;
	}
	claim = lease_find_who(&p->lease, c->session);
	if (!claim) {
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, 0,
			    "this session has not got the lease, nor does it wait for it");
		return 0;
	}
	pending = container_of(claim, struct pending, claim);
	reply_error(pending->conn, pending->request, REPLY_CANCELLED, ECANCELED,
		    "released by its client");
	pending_free(pending);
	reply_done(c, request->id);
	return 0;
}
