/* A subscription's place in a log and its credit: numbers and decisions only.
 *
 * Invariant: all offsets from the start up to `offset` were told, as data or in gaps. cursor_next()
 * looks, cursor_sent() moves; nothing else does. What a cursor missed is measured only when there
 * is credit to tell it, so a reader that stays away gets one gap, not thousands.
 *
 * Order of what is told: the gap in front of the log, what was overtaken, data, the gap at the end,
 * the end. A cursor never waits for something that cannot come: with credit it always has a step
 * until nothing is left.
 */
#include "broker/cursor.h"

#include <assert.h>
#include <stddef.h>

#include "broker/ring.h"
#include "proto/base/cleanup.h"

/* --- credit ---------------------------------------------------------------------------------- */

void credit_add(struct credit *credit, uint64_t bytes)
{
	if (__builtin_add_overflow(credit->left, bytes, &credit->left))
		credit->left = UINT64_MAX;
}

/* Bytes of data that an event may carry, and whether there may be one at all. */
static bool credit_room(const struct credit *credit, uint64_t *ret_data)
{
	if (!credit || !credit->is_limited) {
		*ret_data = UINT64_MAX;
		return true;
	}
	*ret_data = credit->left > EVENT_CREDIT ? credit->left - EVENT_CREDIT : 0;
	return credit->left >= EVENT_CREDIT;
}

bool credit_allows(const struct credit *credit, uint64_t data)
{
	uint64_t room;

	return credit_room(credit, &room) && data <= room;
}

void credit_take(struct credit *credit, uint64_t data)
{
	if (!credit || !credit->is_limited)
		return;
	assert(credit_allows(credit, data));
	credit->left -= data + EVENT_CREDIT;
}

/* --- starting -------------------------------------------------------------------------------- */

int cursor_find_start(const struct ring *ring, enum cursor_from from, uint64_t value,
		      uint64_t *ret_offset)
{
	uint64_t head = ring ? ring_head(ring) : 0;
	uint64_t offset = 0;

	switch (from) {
	case CURSOR_FROM_BEGINNING:
		break;
	case CURSOR_FROM_NOW:
		offset = head;
		break;
	case CURSOR_FROM_OFFSET:
		if (value > head)
			return CURSOR_E_AHEAD;
		offset = value;
		break;
	case CURSOR_FROM_LAST_BYTES:
		offset = head - MIN(value, head);
		break;
	case CURSOR_FROM_LAST_LINES:
		offset = ring ? ring_find_last_lines(ring, value) : 0;
		break;
	}
	*ret_offset = offset;
	return 0;
}

void cursor_init(struct cursor *c, uint64_t offset, enum cursor_overflow overflow, uint64_t tail)
{
	*c = (struct cursor){ .offset = offset, .overflow = overflow, .first_tail = tail };
}

/* --- what to send ---------------------------------------------------------------------------- */

static void step_gap(struct cursor_step *step, uint64_t end, enum cursor_gap cause)
{
	step->what = CURSOR_GAP;
	step->end = end;
	step->cause = cause;
}

static void step_data(struct cursor_step *step, const struct cursor_view *view)
{
	uint64_t most = view->data_max ? MIN(view->data_max, OUTPUT_MAX) : OUTPUT_MAX;

	step->what = CURSOR_DATA;
	step->size = (uint32_t)MIN(view->head - step->offset, most);
}

static void step_overtaken(const struct cursor *c, const struct cursor_view *view,
			   struct cursor_step *step)
{
	if (c->overflow == CURSOR_MAY_CANCEL)
		step->what = CURSOR_CANCEL;
	else
		step_gap(step, view->tail, c->is_stalled ? CURSOR_GAP_STALLED : CURSOR_GAP_SLOW);
}

static void step_end(const struct cursor *c, const struct cursor_view *view,
		     struct cursor_step *step)
{
	if (view->is_abandoned && !c->told_abandoned)
		step_gap(step, view->head + view->abandoned, CURSOR_GAP_ABANDONED);
	else
		step->what = CURSOR_END;
}

/* What is due, credit aside. */
static void step_wanted(const struct cursor *c, const struct cursor_view *view,
			struct cursor_step *step)
{
	if (c->is_ended)
		return;
	if (c->offset < c->first_tail)
		step_gap(step, c->first_tail, CURSOR_GAP_BEFORE_LOG);
	else if (c->offset < view->tail)
		step_overtaken(c, view, step);
	else if (c->offset < view->head)
		step_data(step, view);
	else if (view->is_ended)
		step_end(c, view, step);
}

void cursor_next(const struct cursor *c, const struct cursor_view *view,
		 const struct credit *credit, struct cursor_step *ret_step)
{
	struct cursor_step step = { .what = CURSOR_NOTHING, .offset = c->offset };
	uint64_t room;
	bool allowed = credit_room(credit, &room);

	step_wanted(c, view, &step);
	if (step.what == CURSOR_DATA) {
		step.size = (uint32_t)MIN((uint64_t)step.size, room);
		allowed = allowed && step.size > 0;
	}
	if (step.what != CURSOR_NOTHING && step.what != CURSOR_CANCEL) {
		if (allowed)
			step.cost = (uint64_t)step.size + EVENT_CREDIT;
		else
			step = (struct cursor_step){ .what = CURSOR_NO_CREDIT,
						     .offset = c->offset };
	}
	*ret_step = step;
}

static void sent_gap(struct cursor *c, const struct cursor_step *step)
{
	c->skipped += step->end - step->offset;
	switch (step->cause) {
	case CURSOR_GAP_ABANDONED:
		c->told_abandoned = true; /* they count: the total is that of the whole stream */
		break;
	case CURSOR_GAP_STALLED:
		c->is_stalled = false;
		break;
	default:
		break;
	}
	c->offset = step->end;
}

void cursor_sent(struct cursor *c, const struct cursor_step *step, struct credit *credit)
{
	assert(step->offset == c->offset && !c->is_ended);
	credit_take(credit, step->what == CURSOR_DATA ? step->size : 0);
	switch (step->what) {
	case CURSOR_DATA:
		c->offset += step->size;
		break;
	case CURSOR_GAP:
		sent_gap(c, step);
		break;
	case CURSOR_END:
		c->is_ended = true;
		break;
	default:
		assert(!"not a step that can be sent");
	}
}

/* --- holding back ---------------------------------------------------------------------------- */

uint64_t cursor_floor(const struct cursor *c)
{
	if (c->overflow != CURSOR_MAY_BLOCK || c->is_ended)
		return UINT64_MAX;
	return MAX(c->offset, c->first_tail);
}

uint64_t cursor_room(const struct cursor *c, uint64_t head, uint32_t size)
{
	uint64_t floor = cursor_floor(c);
	uint64_t behind = head > floor ? head - floor : 0;

	if (floor == UINT64_MAX)
		return UINT64_MAX;
	return behind < size ? size - behind : 0;
}

uint64_t cursor_lag(const struct cursor *c, uint64_t head)
{
	return head > c->offset ? head - c->offset : 0;
}

void cursor_stall(struct cursor *c)
{
	if (c->overflow != CURSOR_MAY_BLOCK)
		return;
	c->overflow = CURSOR_MAY_DROP;
	c->is_stalled = true;
}
