/* What is known of the position of a port's inputs: where the last write that was answered ended,
 * and so where those that were not answered have begun, as long as nobody else writes. Pure.
 *
 * An input is told apart by the number that writes to it give; REDD_STREAM_DEFAULT is one of its
 * own.
 */
#ifndef REDD_CLIENT_LEDGER_H
#define REDD_CLIENT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/redd.h"

enum ledger_state {
	LEDGER_UNKNOWN, /* nothing was answered yet */
	LEDGER_OURS,	/* all that is in the input so far is accounted for */
	LEDGER_SHARED,	/* somebody else writes to it too: it cannot be told */
};

struct ledger {
	uint32_t stream;
	enum ledger_state state;
	uint64_t end;	   /* OURS: of what was answered */
	uint64_t reckoned; /* OURS: bytes behind it that were sent and not answered */
};

struct ledgers {
	bool fresh; /* the port was spawned through this handle: its inputs begin at 0 */
	size_t n;
	struct ledger list[REDD_STREAMS_MAX + 1];
};

/* A write was answered. */
void ledger_written(struct ledgers *l, uint32_t stream, uint64_t offset, uint64_t size);

/* Where the last answered write ended; 0 when none was. */
uint64_t ledger_end(const struct ledgers *l, uint32_t stream);

/* Inspect told of an input: what is in it, and what waits. Changes nothing that is known better. */
void ledger_seen(struct ledgers *l, uint32_t stream, uint64_t accepted);

/* The connection was lost: reckoning begins, over the writes in the order in which they were sent.
 */
void ledger_begin(struct ledgers *l);

/* Where a write of that size went, if it went; true when that is known. window: bytes that may be
 * under way without being refused; more than these, and one of them may have been. 0: not known. */
bool ledger_reckon(struct ledgers *l, uint32_t stream, uint64_t size, uint32_t window,
		   uint64_t *ret_offset);

#endif
