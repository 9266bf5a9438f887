/* What becomes of a call that was sent and not answered when its connection is lost, as its kind
 * says (enum call_repeat): it waits to be asked again (repeat.c), or ends now. What never left goes
 * out later in any case.
 *
 * All are judged before any is told: callbacks may start others, which belong behind them.
 */
#include <errno.h>

#include "client/call.h"
#include "client/handles.h"
#include "client/patience.h"

#define HEADER_MOST 4u /* bytes of a packet's */

/* The broker may have got some of it. */
static bool call_has_left(const struct redd *r, const struct call *c)
{
	return c->is_repeated || (c->is_sent && c->position < r->out.position);
}

/* --- where writes went ----------------------------------------------------------------------- */

static bool is_header(uint32_t n)
{
	return n == 1 || n == 2 || n == HEADER_MOST;
}

/* Bytes that a write puts into its input. False: not known. */
static bool input_size(const struct redd_port *port, const struct call_input *in, uint64_t *ret)
{
	uint32_t header = in->header ? in->header : port->header;

	if (!in->header && !port->knows_header)
		return false;
	if (header == REDD_HEADER_NONE)
		header = 0;
	*ret = in->size + header;
	/* Always refused: no such header, or data too long for it. */
	if (header && (!is_header(header) || (uint64_t)in->size >> 8 * header))
		*ret = 0;
	return true;
}

size_t calls_ahead(const struct redd *r, const struct call *c, uint32_t stream, uint64_t *ret_size)
{
	const struct call *other;
	size_t n = 0;

	*ret_size = 0;
	list_for_each (other, &r->calls.order, order) {
		if (other == c)
			break;
		if (other->port != c->port || !other->input.writes || other->input.stream != stream)
			continue;
		*ret_size += other->input.size + HEADER_MOST;
		n++;
	}
	return n;
}

/* Where a write went that has left. False: that cannot be told. One whose offset the program has
 * stated may go there again in any case. */
static bool call_place(struct call *c)
{
	struct call_input *in = &c->input;
	struct redd_port *port = c->port;
	struct ledger_write w = { .stream = in->stream,
				  .window = port->window ? port->window : port->bound,
				  .no_wait = in->no_wait,
				  .has_offset = in->has_offset,
				  .offset = in->offset };
	uint64_t offset;

	if (in->is_cancelled || !input_size(port, in, &w.size) ||
	    !ledger_reckon(&port->inputs, &w, &offset)) {
		ledger_doubt(&port->inputs, in->stream, c->number);
		return in->has_offset;
	}
	in->has_offset = true;
	in->offset = offset;
	return true;
}

/* --- what becomes of them -------------------------------------------------------------------- */

/* To a terminal the end is said, not made: twice is twice. */
static bool ends_a_terminals_input(const struct call *c)
{
	const struct call_input *in = &c->input;

	return in->closes && (in->stream == REDD_TERMINAL ||
			      (in->stream == REDD_STREAM_DEFAULT && !c->port->no_terminal));
}

/* What becomes of it. */
static enum call_repeat call_judge(const struct redd *r, struct call *c)
{
	enum call_repeat what = c->kind->repeat;

	if (what == CALL_DROP || what == CALL_IS_DONE)
		return what;
	if (c->frame && !call_has_left(r, c))
		return CALL_REPEAT;
	if (c->frame && !ends_a_terminals_input(c) &&
	    (what == CALL_REPEAT || (what == CALL_AT && call_place(c))))
		return what;
	if (c->input.writes)
		ledger_doubt(&c->port->inputs, c->input.stream, c->number);
	return CALL_IN_DOUBT;
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

static void call_unsend(struct redd *r, struct call *c)
{
	patience_leave(r, c);
	c->is_sent = false;
	patience_enter(r, c);
}

/* Behind a patient write that was refused, and waits to be sent again, no other can have been
 * taken: it is of the same batch, or was not sent either. */
static void patient_away(struct redd *r)
{
	bool is_refused = false;
	struct call *c;

	patience_lost(r);
	list_for_each (c, &r->calls.order, order) {
		if (!c->input.is_patient)
			continue;
		is_refused |= !c->is_sent;
		if (is_refused)
			call_unsend(r, c);
	}
}

void calls_away(struct redd *r)
{
	struct call *c, *next;
	struct redd_port *p;
	struct list all;

	list_for_each (p, &r->ports, link) {
		port_is_shared(p);
		ledger_begin(&p->inputs);
	}
	list_init(&all);
	patient_away(r);
	list_for_each_safe (c, next, &r->calls.order, order) {
		enum call_repeat what = call_judge(r, c);

		c->is_repeated = call_has_left(r, c);
		call_unsend(r, c);
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
