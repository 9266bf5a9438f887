/* Ledgers: see the header for what they know. Answers to writes come in the order of the writes,
 * each with its offset; one that does not begin where the last one ended shows another writer, and
 * then nothing can be reckoned any more.
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

void ledger_written(struct ledgers *l, uint32_t stream, uint64_t offset, uint64_t size)
{
	struct ledger *e = ledger_of(l, stream);

	if (!e)
		return;
	if (e->state == LEDGER_OURS && offset != e->end)
		e->state = LEDGER_SHARED;
	else if (e->state == LEDGER_UNKNOWN)
		e->state = LEDGER_OURS;
	e->end = offset + size;
}

uint64_t ledger_end(const struct ledgers *l, uint32_t stream)
{
	for (size_t i = 0; i < l->n; i++) {
		if (l->list[i].stream == stream)
			return l->list[i].end;
	}
	return 0;
}

void ledger_seen(struct ledgers *l, uint32_t stream, uint64_t accepted)
{
	struct ledger *e = ledger_of(l, stream);

	if (!e || e->state != LEDGER_UNKNOWN)
		return;
	e->state = LEDGER_OURS;
	e->end = accepted;
}

void ledger_begin(struct ledgers *l)
{
	for (size_t i = 0; i < l->n; i++)
		l->list[i].reckoned = 0;
}

bool ledger_reckon(struct ledgers *l, uint32_t stream, uint64_t size, uint32_t window,
		   uint64_t *ret_offset)
{
	struct ledger *e = ledger_of(l, stream);
	uint64_t before;

	if (!e || e->state != LEDGER_OURS)
		return false;
	before = e->reckoned;
	e->reckoned += size;
	/* An empty queue takes any write, also one larger than the window. */
	if (before && window && e->reckoned > window)
		return false;
	*ret_offset = e->end + before;
	return true;
}
