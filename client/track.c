/* Tracks: the proof that a subscription got all of a stream. See the header for what must hold. */
#include "client/track.h"

#include <xxhash.h>

void track_init(struct track *t, uint32_t stream, bool hash)
{
	*t = (struct track){ .stream = stream, .state = TRACK_NEW };
	if (!hash)
		return;
	t->hash = XXH3_createState();
	if (t->hash)
		XXH3_64bits_reset(t->hash);
}

void track_deinit(struct track *t)
{
	if (t->hash)
		XXH3_freeState(t->hash);
	t->hash = NULL;
}

static void track_break(struct track *t, const char *reason)
{
	if (!t->broken)
		t->broken = reason;
}

void track_start(struct track *t, uint64_t offset)
{
	if (t->state != TRACK_NEW)
		return;
	t->state = TRACK_OPEN;
	t->start = t->next = t->record = offset;
}

/* True when something may come at this offset; a track that was not started begins there. */
static bool track_accepts(struct track *t, uint64_t offset)
{
	if (t->state == TRACK_ENDED)
		track_break(t, "something came after the end");
	track_start(t, offset);
	if (offset < t->next)
		track_break(t, "bytes came twice");
	else if (offset > t->next)
		track_break(t, "bytes are missing without a gap");
	return !t->broken;
}

/* Newline or header: what framing may remove with one output. */
#define LEFT_OUT_MAX 4u

static bool takes_what_it_says(const struct track_output *o)
{
	uint64_t left_out = o->consumed - o->size;

	return o->consumed >= o->size && left_out <= (o->is_framed ? LEFT_OUT_MAX : 0) &&
	       o->offset + o->consumed >= o->offset;
}

static void track_record(struct track *t, const struct track_output *o)
{
	bool begins = !t->in_record;

	t->left_out |= o->consumed != o->size;
	if (begins)
		t->record = o->offset;
	t->in_record = o->is_framed && !o->ends_record;
	/* Of a line only the end is left out. */
	if (begins)
		t->in_packet = o->consumed != o->size;
	t->in_packet &= t->in_record;
	if (!t->in_record)
		t->record = t->next;
}

void track_output(struct track *t, const struct track_output *o)
{
	t->seen += o->consumed;
	if (!track_accepts(t, o->offset))
		return;
	if (!takes_what_it_says(o)) {
		track_break(t, "an output does not say how much it took");
		return;
	}
	t->next += o->consumed;
	track_record(t, o);
	if (t->hash && o->size)
		XXH3_64bits_update(t->hash, o->data, o->size);
}

void track_gap(struct track *t, uint64_t offset, uint64_t end)
{
	if (!track_accepts(t, offset))
		return;
	if (end < offset) {
		track_break(t, "a gap ends before it begins");
		return;
	}
	t->gaps += end - offset;
	t->next = t->record = end;
	t->in_record = t->in_packet = false;
}

void track_end(struct track *t, uint64_t total)
{
	if (t->state == TRACK_ENDED)
		track_break(t, "the stream ended twice");
	track_start(t, total);
	t->state = TRACK_ENDED;
	if (total != t->next)
		track_break(t, total > t->next ? "bytes are missing at the end"
					       : "more bytes came than the stream had");
}

void track_resume(struct track *t, uint64_t offset)
{
	t->resumed = t->state == TRACK_ENDED;
	track_start(t, offset);
	if (offset != t->next)
		track_break(t, "the broker did not go on where it was");
}

bool track_ends_again(struct track *t, uint64_t total)
{
	bool again = t->state == TRACK_ENDED && t->resumed && total == t->next && !t->broken;

	t->resumed = false;
	return again;
}

bool track_checksum(const struct track *t, uint64_t *ret)
{
	if (!t->hash || t->left_out || t->broken || t->start != 0 || t->gaps != 0 ||
	    t->state != TRACK_ENDED)
		return false;
	*ret = XXH3_64bits_digest(t->hash);
	return true;
}
