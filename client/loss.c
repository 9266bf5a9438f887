/* What becomes of a call that was sent and not answered when its connection is lost, as its kind
 * says (enum call_repeat): it waits to be asked again (repeat.c), or ends now. What never left goes
 * out later in any case.
 *
 * All are judged before any is told: callbacks may start others, which belong behind them.
 */
#include <errno.h>

#include "client/call.h"
#include "client/handles.h"

/* The broker may have got some of it. */
static bool call_has_left(const struct redd *r, const struct call *c)
{
	return c->is_repeated || (c->is_sent && c->position < r->out.position);
}

/* Where a write went that has left. False: that cannot be told. Also one whose offset was stated
 * counts for those behind it. */
static bool call_reckon(struct call *c)
{
	struct call_input *in = &c->input;
	uint64_t offset;
	bool known =
		ledger_reckon(&c->port->inputs, in->stream, in->size, c->port->window, &offset);

	if (!in->has_offset && known)
		in->offset = offset;
	in->has_offset |= known;
	return in->has_offset;
}

/* What becomes of it. */
static enum call_repeat call_judge(const struct redd *r, struct call *c)
{
	enum call_repeat what = c->kind->repeat;

	if (what == CALL_DROP || what == CALL_IS_DONE)
		return what;
	if (!c->frame)
		return CALL_IN_DOUBT;
	if (!call_has_left(r, c))
		return CALL_REPEAT;
	if (what == CALL_AT && !call_reckon(c))
		return CALL_IN_DOUBT;
	return what;
}

static void call_end_away(struct redd *r, struct call *c, enum call_repeat what)
{
	struct redd_reply reply = { 0 };
	int result = 0;

	if (what == CALL_IN_DOUBT)
		result = client_fail(r, -ENOTCONN,
				     "the connection was lost over %s; whether it was done is not "
				     "known, so it is not repeated; look, and decide",
				     c->kind->name);
	if (what == CALL_DROP) {
		call_free(r, c);
		return;
	}
	c->is_settled = what == CALL_IS_DONE;
	call_end(r, c, result, &reply);
}

void calls_away(struct redd *r)
{
	struct call *c, *next;
	struct redd_port *p;
	struct list all;

	list_for_each (p, &r->ports, link)
		ledger_begin(&p->inputs);
	list_init(&all);
	list_for_each_safe (c, next, &r->calls.order, order) {
		enum call_repeat what = call_judge(r, c);

		c->is_repeated = call_has_left(r, c);
		c->is_sent = false;
		if (what == CALL_REPEAT || what == CALL_AT)
			continue;
		/* Told when all are judged: callbacks may start others. */
		list_remove(&c->order);
		list_append(&all, &c->order);
	}
	r->calls.n_sent = 0;
	while ((c = list_first(&all, struct call, order))) {
		enum call_repeat what = c->kind->repeat;

		call_end_away(r, c,
			      what == CALL_DROP || what == CALL_IS_DONE ? what : CALL_IN_DOUBT);
	}
}
