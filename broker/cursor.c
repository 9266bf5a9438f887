/* A subscription's place in a log and its credit: numbers and decisions only.
 *
 * Invariant: all offsets from the start up to `offset` were told, as data or in gaps. cursor_next()
 * looks, cursor_sent() moves; nothing else does. What a cursor missed is measured only when there
 * is credit to tell it, so a reader that stays away gets one gap, not thousands.
 *
 * A cursor that frames and was overtaken is lost until a record's start is found; a gap covers what
 * lies before it. It waits for that, as for the rest of a record, only as long as it is less than
 * half a log behind: so waiting never overtakes it, nor holds the child back.
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

static struct framing_log log_of(const struct cursor_view *view)
{
	return (struct framing_log){ view->tail, view->head, view->data, view->index };
}

/* The record that is being written, and those behind it. */
static enum framing_found start_now(struct cursor *c, const struct framing_log *log,
				    uint64_t *ret_start)
{
	enum framing_found found = framing_find_last(&c->framing, log, ret_start);

	c->place.end = 0;
	return found;
}

/* The first record at or behind an offset that was not chosen for being one's start. */
static enum framing_found start_behind(struct cursor *c, const struct framing_log *log,
				       uint64_t *ret_start)
{
	*ret_start = c->offset;
	if (framing_begins(&c->framing, log, c->offset))
		return FRAMING_FOUND;
	c->place.end = 0;
	return framing_find(&c->framing, &c->place, log, c->offset, ret_start);
}

/* The start that was stated: a record begins there, or this is somebody who knows what he does.
 * Where the log does not have it any more, another must be found. */
static enum framing_found start_here(struct cursor *c, const struct framing_log *log,
				     uint64_t *ret_start)
{
	uint64_t other;

	*ret_start = c->offset;
	return c->offset < log->tail ? framing_find(&c->framing, &c->place, log, log->tail, &other)
				     : FRAMING_FOUND;
}

int cursor_frame(struct cursor *c, const struct framing *f, const struct cursor_view *view,
		 enum cursor_from from)
{
	struct framing_log log = log_of(view);
	enum framing_found found;
	uint64_t start;

	c->framing = *f;
	if (f->cut == FRAMING_RAW)
		return 0;
	if (f->cut == FRAMING_PACKETS && from == CURSOR_FROM_LAST_LINES)
		return CURSOR_E_LINES;
	framing_place_at(&c->place, c->offset);
	if (from == CURSOR_FROM_BEGINNING || from == CURSOR_FROM_OFFSET)
		return start_here(c, &log, &start) == FRAMING_NEVER ? CURSOR_E_RECORD : 0;
	found = from == CURSOR_FROM_NOW ? start_now(c, &log, &start)
					: start_behind(c, &log, &start);
	if (found == FRAMING_NEVER)
		return CURSOR_E_RECORD;
	c->lost_by = CURSOR_GAP_BEFORE_LOG;
	c->place.is_lost = found != FRAMING_FOUND || start > view->head;
	if (found == FRAMING_FOUND && start <= view->head)
		c->offset = start;
	if (found == FRAMING_FOUND)
		c->place.end = start;
	c->place.looked = c->offset;
	return 0;
}

/* --- what to send ---------------------------------------------------------------------------- */

/* So many bytes behind its cursor are reason enough not to wait for more: it could be overtaken, or
 * hold the child back, before they come. */
static bool is_pressed(const struct cursor_view *view, uint64_t offset)
{
	return view->size && view->head - MAX(offset, view->tail) >= MAX(view->size / 2, 1u);
}

/* The gap goes on to where the next record begins. Where that is not in the log yet it is told when
 * it comes, or when nobody can wait any longer. */
static void step_land(struct cursor *c, const struct cursor_view *view, struct cursor_step *step)
{
	struct framing_log log = log_of(view);
	uint64_t start = 0;

	step->is_lost = true;
	switch (framing_find(&c->framing, &c->place, &log, step->end, &start)) {
	case FRAMING_NEVER:
		step->what = CURSOR_CANCEL;
		return;
	case FRAMING_HOPELESS:
		step->what = CURSOR_BAD;
		step->end = start;
		return;
	case FRAMING_FOUND:
		step->next = start;
		step->is_lost = start > view->head;
		break;
	case FRAMING_NOT_YET:
		break;
	}
	if (!step->is_lost)
		step->end = start;
	else if (view->is_ended || is_pressed(view, step->offset))
		step->end = view->head;
	else
		step->what = CURSOR_NOTHING;
}

/* Up to `end`, and who frames further on, to a record. */
static void step_gap(struct cursor *c, const struct cursor_view *view, struct cursor_step *step,
		     uint64_t end, enum cursor_gap cause)
{
	step->what = CURSOR_GAP;
	step->end = end;
	step->cause = cause;
	step->aborts = c->place.is_open;
	if (c->framing.cut == FRAMING_RAW)
		return;
	step->is_lost = true;
	if (end >= view->tail)
		step_land(c, view, step);
}

static void step_record(struct cursor *c, const struct cursor_view *view, uint64_t most,
			struct cursor_step *step)
{
	struct framing_in in = {
		.offset = c->offset,
		.data = view->data + (c->offset - view->tail),
		.size = view->head - c->offset,
		.most = most,
		.must = view->is_ended || is_pressed(view, c->offset),
		.is_last = view->is_ended && !view->is_abandoned,
	};
	struct framing_piece piece = { 0 };

	switch (framing_next(&c->framing, &c->place, &in, &piece)) {
	case FRAMING_PIECE:
		step->what = CURSOR_DATA;
		step->before = piece.before;
		step->size = piece.size;
		step->after = piece.after;
		step->record = piece.record;
		step->next = piece.next;
		break;
	case FRAMING_NO_ROOM:
		step->what = CURSOR_NO_CREDIT;
		break;
	case FRAMING_BAD:
		step->what = CURSOR_BAD;
		step->end = c->offset;
		break;
	case FRAMING_WAIT:
		break;
	}
}

static void step_data(struct cursor *c, const struct cursor_view *view, uint64_t room,
		      struct cursor_step *step)
{
	uint64_t most = view->data_max ? MIN(view->data_max, OUTPUT_MAX) : OUTPUT_MAX;

	most = MIN(most, room);
	if (c->framing.cut != FRAMING_RAW) {
		step_record(c, view, most, step);
		return;
	}
	step->what = most ? CURSOR_DATA : CURSOR_NO_CREDIT;
	step->size = (uint32_t)MIN(view->head - step->offset, most);
}

static void step_overtaken(struct cursor *c, const struct cursor_view *view,
			   struct cursor_step *step)
{
	if (c->overflow == CURSOR_MAY_CANCEL)
		step->what = CURSOR_CANCEL;
	else
		step_gap(c, view, step, view->tail,
			 c->is_stalled ? CURSOR_GAP_STALLED : CURSOR_GAP_SLOW);
}

static void step_end(const struct cursor *c, const struct cursor_view *view,
		     struct cursor_step *step)
{
	if (!view->is_abandoned || c->told_abandoned) {
		step->what = CURSOR_END;
		return;
	}
	step->what = CURSOR_GAP;
	step->end = view->head + view->abandoned;
	step->cause = CURSOR_GAP_ABANDONED;
	step->aborts = c->place.is_open;
}

/* The stream has ended inside of a record of which all bytes were told. */
static bool owes_end_of_record(const struct cursor *c, const struct cursor_view *view)
{
	return c->place.is_open && view->is_ended && !view->is_abandoned;
}

/* What is due; `room`: the data that credit allows. */
static void step_wanted(struct cursor *c, const struct cursor_view *view, uint64_t room,
			struct cursor_step *step)
{
	if (c->is_ended)
		return;
	if (c->offset < c->first_tail)
		step_gap(c, view, step, c->first_tail, CURSOR_GAP_BEFORE_LOG);
	else if (c->offset < view->tail)
		step_overtaken(c, view, step);
	else if (c->offset < view->head && c->place.is_lost)
		step_gap(c, view, step, c->offset, c->lost_by);
	else if (c->offset < view->head || owes_end_of_record(c, view))
		step_data(c, view, room, step);
	else if (view->is_ended)
		step_end(c, view, step);
}

static bool is_sent(enum cursor_what what)
{
	return what == CURSOR_DATA || what == CURSOR_GAP || what == CURSOR_END;
}

void cursor_next(struct cursor *c, const struct cursor_view *view, const struct credit *credit,
		 struct cursor_step *ret_step)
{
	struct cursor_step step = { .what = CURSOR_NOTHING,
				    .offset = c->offset,
				    .record = FRAMING_NO_RECORD };
	uint64_t room;
	bool allowed = credit_room(credit, &room);

	step_wanted(c, view, room, &step);
	if (is_sent(step.what) && allowed)
		step.cost = (uint64_t)step.size + EVENT_CREDIT;
	else if (is_sent(step.what))
		step = (struct cursor_step){ .what = CURSOR_NO_CREDIT, .offset = c->offset };
	*ret_step = step;
}

static void sent_data(struct cursor *c, const struct cursor_step *step)
{
	const struct framing_piece piece = { step->before, step->size, step->after, step->record,
					     step->next };

	c->offset += (uint64_t)step->before + step->size + step->after;
	if (step->record != FRAMING_NO_RECORD)
		framing_took(&c->place, &piece);
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
	c->place.is_open = false;
	c->place.told = 0;
	c->place.is_lost = step->is_lost;
	c->place.end = step->is_lost ? MAX(c->place.end, step->next) : step->end;
	c->lost_by = step->cause == CURSOR_GAP_STALLED ? CURSOR_GAP_SLOW : step->cause;
}

void cursor_sent(struct cursor *c, const struct cursor_step *step, struct credit *credit)
{
	assert(step->offset == c->offset && !c->is_ended);
	credit_take(credit, step->what == CURSOR_DATA ? step->size : 0);
	switch (step->what) {
	case CURSOR_DATA:
		sent_data(c, step);
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
