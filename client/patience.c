/* Patient writes.
 *
 * Good path: a write goes out as any other, in the batch that there is just now. Once one is
 * refused for want of room, the broker refuses all of its batch that come behind it. Each of them
 * stays in its place in the list of calls, as one that has to be sent; what is started meanwhile
 * waits behind. When all of the batch are answered, and after a pause, the first of them is tried
 * again, alone and in a new batch; when it is taken two may be under way, then four, until none
 * waits any more.
 *
 * Failures: refused again: the pause doubles. Refused for another reason, or nothing was kept of
 * it: it ends. When the connection is lost they are calls as others, and go out again with them,
 * until one is refused: then some of its batch are still to be refused, and none may pass them.
 */
#include "client/patience.h"

#include <errno.h>

#include "client/repeat.h"
#include "proto/base/err.h"

#define PAUSE_FIRST_MS 10u
#define PAUSE_MOST_MS  500u
#define SENT_MOST      64u

void patience_init(struct patience *p)
{
	*p = (struct patience){ .batch = 1, .most_sent = 1, .pause_ms = PAUSE_FIRST_MS };
}

static size_t *count_of(struct redd *r, const struct call *c)
{
	return c->is_sent ? &r->patience.n_sent : &r->patience.n_waiting;
}

void patience_enter(struct redd *r, const struct call *c)
{
	if (c->input.is_patient)
		(*count_of(r, c))++;
}

void patience_leave(struct redd *r, const struct call *c)
{
	if (c->input.is_patient)
		(*count_of(r, c))--;
	if (!r->patience.n_sent)
		r->patience.is_settling = false;
}

/* The first of a batch: what is behind it was sent in vain. */
static void batch_end(struct patience *p)
{
	p->batch = p->batch == UINT32_MAX ? 1 : p->batch + 1;
	p->most_sent = 1;
	p->is_crowded = true;
	p->due_ms = clock_ms() + p->pause_ms;
	p->pause_ms = MIN(2 * p->pause_ms, PAUSE_MOST_MS);
}

bool patience_takes_back(struct redd *r, struct call *c)
{
	struct patience *p = &r->patience;

	if (!c->input.is_patient || c->input.is_cancelled || !c->frame || !c->is_sent ||
	    r->failure.error.code != REDD_RESOURCE_EXHAUSTED)
		return false;
	patience_leave(r, c);
	c->is_sent = false;
	r->calls.n_sent--;
	patience_enter(r, c);
	if (c->input.batch == p->batch)
		batch_end(p);
	p->is_settling = p->n_sent > 0;
	return true;
}

void patience_pays(struct redd *r, const struct call *c)
{
	struct patience *p = &r->patience;

	if (!c->input.is_patient || p->is_settling)
		return;
	p->most_sent = MIN(2 * p->most_sent, (size_t)SENT_MOST);
	p->pause_ms = PAUSE_FIRST_MS;
	p->due_ms = 0;
}

static bool may_send(const struct redd *r)
{
	const struct patience *p = &r->patience;

	return p->n_waiting && p->n_sent < p->most_sent && !p->is_settling && calls_go_out(r);
}

void patience_turn(struct redd *r)
{
	while (may_send(r) && clock_left(r->patience.due_ms) == 0 && repeat_patient(r) == 0)
		;
	if (!r->patience.n_waiting)
		r->patience.is_crowded = false;
}

void patience_lost(struct redd *r)
{
	r->patience.is_crowded = false;
}

int patience_timeout(const struct redd *r)
{
	return may_send(r) ? clock_left(r->patience.due_ms) : -1;
}
