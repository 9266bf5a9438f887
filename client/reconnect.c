/* The state of a connection, and how one that was lost comes back.
 *
 * Good path: the loss closes the socket and makes every call, subscription and watch wait; a socket
 * is connected without blocking (the service's stays while its broker is replaced: connects queue
 * there); Hello shows our session; Welcome tells the same instance, so that ports are what they
 * were; then repeat.c asks for everything again.
 *
 * Failures: nobody there, or another loss on the way: tried again, at most every TRY_MOST_MS, until
 * away.deadline_ms; a service that leaves just as we come is followed by one that we start, as
 * when connecting. Another instance: our ports are gone. No such session: they went the way of
 * their orphan policies while we were away; who had none loses nothing with it and says Hello
 * without. A broker that says Bye meant it, unless it tells when to come back.
 */
#include "client/reconnect.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/autostart.h"
#include "client/call.h"
#include "client/handles.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/redd.pb-c.h"

#define RECONNECT_DEFAULT_MS 10000u /* as long as a broker keeps sessions */
#define TRY_FIRST_MS	     5
#define TRY_MOST_MS	     200
#define TRY_E_LATER	     1

/* --- state ----------------------------------------------------------------------------------- */

#define MOVE(to) (1u << (to))

static const struct {
	const char *name;
	unsigned moves; /* where it may go */
} states[] = {
	[CLIENT_DOWN] = { "down", MOVE(CLIENT_HELLO) },
	[CLIENT_HELLO] = { "hello", MOVE(CLIENT_DOWN) | MOVE(CLIENT_UP) | MOVE(CLIENT_AWAY) },
	[CLIENT_UP] = { "up", MOVE(CLIENT_DOWN) | MOVE(CLIENT_AWAY) },
	[CLIENT_AWAY] = { "away", MOVE(CLIENT_DOWN) | MOVE(CLIENT_HELLO) | MOVE(CLIENT_AGAIN) },
	[CLIENT_AGAIN] = { "again", MOVE(CLIENT_DOWN) | MOVE(CLIENT_UP) | MOVE(CLIENT_AWAY) },
};

void client_set_state(struct redd *r, enum client_state state)
{
	assert(states[r->state].name && states[r->state].moves & MOVE(state));
	r->state = state;
}

/* --- what is kept ---------------------------------------------------------------------------- */

void reconnect_prepare(struct redd *r, const struct redd_connect_options *o,
		       struct place *take_place)
{
	struct away *a = &r->away;

	place_deinit(&a->place);
	a->place = *take_place;
	*take_place = (struct place){ .fd = -1, .door = -1 };
	a->limit_ms = o->reconnect_ms ? o->reconnect_ms : RECONNECT_DEFAULT_MS;
	if (o->no_reconnect ||
	    (!a->place.path && (a->place.door < 0 || place_keep_door(&a->place) < 0)))
		a->limit_ms = 0;
	a->may_start = a->place.ours && !o->no_start;
	a->frame_max = o->frame_max;
	a->is_resuming = false;
	a->tries = 0;
	strncpy(a->client, o->client ? o->client : program_invocation_short_name, CLIENT_NAME_MAX);
	a->client[CLIENT_NAME_MAX] = '\0';
}

void redd_on_reconnect(struct redd *r, redd_reconnect_fn *on_reconnect, void *user)
{
	r->away.on_reconnect = on_reconnect;
	r->away.user = user;
}

static void tell(struct redd *r, enum redd_reconnect what)
{
	if (r->away.on_reconnect)
		r->away.on_reconnect(r, what, r->away.user);
}

/* --- the loss -------------------------------------------------------------------------------- */

/* Nobody has said Welcome yet, and we would start a broker where none is. */
static bool may_start(const struct redd *r)
{
	return r->away.may_start && !redd_welcome(r);
}

/* Whether it can come back: the other side went without a word, or told when to ask again, or goes
 * for good and another can be started. */
static bool may_come_back(const struct redd *r, int e)
{
	const struct redd_error *bye = &r->bye.error;

	if (!r->away.limit_ms || r->state == CLIENT_DOWN)
		return false;
	if (!bye->result)
		return e == -ENOTCONN;
	return bye->code == REDD_UNAVAILABLE && (bye->retry_after_ms || may_start(r));
}

static void connection_close(struct redd *r)
{
	size_t limit = r->out.limit;

	r->fd = fd_close(r->fd);
	outgoing_deinit(&r->out);
	outgoing_init(&r->out, limit);
	r->in.start = r->in.end = 0;
}

/* Another loss on the way back is not told again. */
static void go_away(struct redd *r)
{
	struct away *a = &r->away;
	bool nested = r->dispatching, first = r->state != CLIENT_AGAIN && !a->tries;
	int64_t now = clock_ms();

	if (first) {
		failure_copy(&a->why, &r->failure);
		a->begin_ms = now;
		a->deadline_ms = now + a->limit_ms;
		if (!redd_welcome(r)) /* the time for connecting is bounded too */
			a->deadline_ms = MIN(a->deadline_ms, r->hello_deadline_ms);
	}
	a->next_ms = now + (int64_t)r->bye.error.retry_after_ms;
	failure_init(&r->bye);
	client_set_state(r, CLIENT_AWAY);
	a->is_resuming = false;
	r->dispatching = true;
	subscriptions_away(r);
	watches_away(r);
	leases_away(r);
	calls_away(r);
	subscriptions_settle(r);
	connection_close(r);
	if (first) {
		failure_copy(&r->failure, &a->why);
		tell(r, REDD_AWAY);
	}
	r->dispatching = nested;
}

void reconnect_or_lose(struct redd *r, int e)
{
	struct failure why;

	if (may_come_back(r, e)) {
		go_away(r);
		return;
	}
	failure_copy(&why, &r->failure);
	client_lose(r, &why, true);
}

/* --- trying ---------------------------------------------------------------------------------- */

int reconnect_timeout(const struct redd *r)
{
	int64_t due = r->away.deadline_ms;

	if (r->state == CLIENT_AWAY)
		due = MIN(due, r->away.next_ms);
	return clock_left(due);
}

static int too_late(struct redd *r)
{
	return client_fail(r, -ETIMEDOUT, "%s (and there was no way back within %lld ms)",
			   r->away.why.text, (long long)(r->away.deadline_ms - r->away.begin_ms));
}

static void try_later(struct redd *r)
{
	struct away *a = &r->away;
	int64_t wait = TRY_FIRST_MS << MIN(a->tries, 6u);

	a->next_ms = clock_ms() + MIN(wait, (int64_t)TRY_MOST_MS);
}

/* Says Hello: the first one that was kept, if no Welcome was ever seen, goes out with the rest. */
static int greet(struct redd *r)
{
	struct away *a = &r->away;
	int e;

	if (!redd_welcome(r)) {
		client_set_state(r, CLIENT_HELLO);
		a->is_resuming = true;
		return 0;
	}
	client_set_state(r, CLIENT_AGAIN);
	a->hello = ++r->calls.last_id;
	a->is_anonymous = false;
	e = client_hello(r, a->hello, r->welcome.session);
	return e ? client_fail(r, -ENOMEM, "no memory to say Hello again") : 0;
}

/* 0, TRY_E_LATER, or a negative errno that ends it. */
static int try_now(struct redd *r)
{
	struct away *a = &r->away;
	int e = 0;

	if (a->place.ours)
		e = place_check(&a->place, &r->failure);
	if (e == -EPERM)
		return err_pass(e);
	if (e == 0)
		e = place_try(&a->place, &r->fd);
	/* The keeper has the other side of a door while there is no broker. */
	if (a->place.door >= 0 && (e == -EPIPE || e == -ECONNRESET || e == -ENOTCONN))
		return client_fail(r, -EPIPE,
				   "the connection was lost, and nobody is behind the door any "
				   "more; ask who gave it for another");
	if ((e == -ENOENT || e == -ECONNREFUSED) && may_start(r))
		return autostart_broker(&a->place, a->deadline_ms, &r->fd, &r->failure);
	return e < 0 ? TRY_E_LATER : 0;
}

int reconnect_turn(struct redd *r)
{
	struct away *a = &r->away;
	int e;

	if (r->state == CLIENT_AGAIN)
		return clock_left(a->deadline_ms) ? 0 : too_late(r);
	if (clock_left(a->next_ms) > 0 && clock_left(a->deadline_ms) > 0)
		return 0;
	e = try_now(r);
	if (e < 0)
		return err_pass(e);
	if (e == 0) {
		a->tries++;
		return greet(r);
	}
	if (clock_left(a->deadline_ms) == 0)
		return too_late(r);
	try_later(r);
	a->tries++;
	return 0;
}

/* --- Welcome again --------------------------------------------------------------------------- */

/* Ports of ours that may live: with our session they follow their orphan policies. */
static bool has_ports(const struct redd *r)
{
	const struct redd_port *p;

	list_for_each (p, &r->ports, link) {
		if (p->spawn && p->id && !p->has_ended)
			return true;
	}
	return false;
}

/* 0 when Hello was said once more. */
static int session_refused(struct redd *r, const Redd__V1__Error *error)
{
	struct away *a = &r->away;

	failure_refused(&r->failure, error);
	if (r->failure.error.code != REDD_NOT_FOUND || a->is_anonymous)
		return r->failure.error.result;
	if (has_ports(r))
		return client_fail(r, -ESTALE,
				   "the connection was lost, and our session has ended meanwhile; "
				   "our ports went as their orphan policies say");
	a->is_anonymous = true;
	a->hello = ++r->calls.last_id;
	return client_hello(r, a->hello, NULL) ? client_fail(r, -ENOMEM, "no memory to say Hello")
					       : 0;
}

int reconnect_answer(struct redd *r, const Redd__V1__Message *m)
{
	uint8_t instance[INSTANCE_ID_SIZE];
	int e;

	if (m->body_case == REDD__V1__MESSAGE__BODY_ERROR)
		return session_refused(r, m->error);
	if (m->body_case != REDD__V1__MESSAGE__BODY_WELCOME)
		return client_fail(r, -EPROTO, "the broker gave a wrong kind of answer to Hello");
	memcpy(instance, r->welcome.instance, sizeof(instance));
	e = client_welcome(r, m->welcome);
	if (e < 0)
		return err_pass(e);
	if (memcmp(instance, r->welcome.instance, sizeof(instance)) != 0)
		return client_fail(r, -ESTALE,
				   "the connection was lost, and the service has been started anew "
				   "meanwhile: its ports are gone");
	client_set_state(r, CLIENT_UP);
	r->away.tries = 0;
	r->away.is_resuming = true;
	tell(r, REDD_BACK);
	if (r->away.is_anonymous)
		leases_abandon(r);
	return 0;
}
