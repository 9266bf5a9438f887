/* Ledgers: see the header for what they know. Answers to writes come in the order of the writes,
 * each with its offset; one that does not begin where the last one ended shows another writer, and
 * then nothing can be reckoned any more.
 *
 * What was refused and not told so moves all behind it to the front. But a refusal is answered at
 * once, ahead of every later answer; so if one was lost, then with all answers to writes that
 * waited in front of it, and what is reckoned before it is the most that can have been in the
 * queue.
 */
#include "client/ledger.h"

#include "proto/base/cleanup.h"

/* NULL when there are more inputs than a port can have. */
static struct ledger *ledger_of(struct ledgers *l, uint32_t stream)
{
	for (size_t i = 0; i < l->n; i++) {
		if (l->list[i].stream == stream)
			return &l->list[i];
	}
	if (l->n == ARRAY_SIZE(l->list))
		return NULL;
	l->list[l->n] = (struct ledger){
		.stream = stream,
		.state = l->fresh ? LEDGER_OURS : LEDGER_UNKNOWN,
	};
	return &l->list[l->n++];
}

void ledger_named(struct ledgers *l, uint32_t stream)
{
	l->is_used = true;
	l->by_default |= stream == REDD_STREAM_DEFAULT;
	l->by_number |= stream == 0 || stream == REDD_TERMINAL;
}

static bool has_two_names(const struct ledgers *l, uint32_t stream)
{
	bool may_be = stream == REDD_STREAM_DEFAULT || stream == 0 || stream == REDD_TERMINAL;

	return may_be && l->by_default && l->by_number;
}

void ledger_written(struct ledgers *l, uint32_t stream, uint64_t number, uint64_t offset,
		    uint64_t size)
{
	struct ledger *e = ledger_of(l, stream);

	if (!e || (e->state == LEDGER_UNKNOWN && number <= e->since))
		return;
	if (e->state == LEDGER_OURS && offset + size <= e->end)
		return; /* the program's own repeat, or told by ledger_seen() */
	if (e->state == LEDGER_OURS && offset != e->end)
		e->state = LEDGER_SHARED;
	else if (e->state == LEDGER_UNKNOWN)
		e->state = LEDGER_OURS;
	e->end = offset + size;
}

static void doubt(struct ledger *e, uint64_t number)
{
	if (e->state == LEDGER_SHARED)
		return;
	e->state = LEDGER_UNKNOWN;
	e->since = MAX(e->since, number);
}

void ledger_doubt(struct ledgers *l, uint32_t stream, uint64_t number)
{
	struct ledger *e = ledger_of(l, stream);

	if (e)
		doubt(e, number);
}

void ledgers_doubt(struct ledgers *l, uint64_t number)
{
	l->fresh = false;
	for (size_t i = 0; i < l->n; i++)
		doubt(&l->list[i], number);
}

uint64_t ledger_end(const struct ledgers *l, uint32_t stream)
{
	for (size_t i = 0; i < l->n; i++) {
		if (l->list[i].stream == stream)
			return l->list[i].end;
	}
	return 0;
}

void ledger_seen(struct ledgers *l, uint32_t stream, uint64_t number, uint64_t accepted,
		 size_t n_ahead, uint64_t ahead)
{
	struct ledger *e = ledger_of(l, stream);

	if (!e)
		return;
	if (e->state == LEDGER_OURS && accepted > e->end + ahead)
		e->state = LEDGER_SHARED;
	if (e->state != LEDGER_UNKNOWN || number <= e->since || n_ahead)
		return;
	e->state = LEDGER_OURS;
	e->end = accepted;
}

void ledger_begin(struct ledgers *l)
{
	for (size_t i = 0; i < l->n; i++)
		l->list[i].reckoned = 0;
}

/* May have been refused with so many bytes in front of it. An empty queue is not busy, and takes
 * any write, also one larger than the window. */
static bool may_be_refused(const struct ledger_write *w, uint64_t before)
{
	return before && (w->no_wait || before + w->size > w->window);
}

bool ledger_reckon(struct ledgers *l, const struct ledger_write *w, uint64_t *ret_offset)
{
	struct ledger *e = ledger_of(l, w->stream);
	uint64_t before, at;

	if (!e || e->state != LEDGER_OURS || has_two_names(l, w->stream))
		return false;
	before = e->reckoned;
	at = e->end + before;
	e->reckoned += w->size;
	if (may_be_refused(w, before) || (w->has_offset && w->offset != at))
		return false;
	*ret_offset = at;
	return true;
}
