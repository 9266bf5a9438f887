/* What is known of the position of a port's inputs: where the last write that was answered ended,
 * and so where those that were not answered have begun, as long as nobody else writes. Pure.
 *
 * An input is told apart by the number that writes to it give; REDD_STREAM_DEFAULT is one of its
 * own, and as it is input 0 or the terminal, nothing is reckoned once both ways were used.
 *
 * Everything that is sent has a number, which rises; an answer tells of what was sent behind it
 * only if nothing in between is in doubt.
 */
#ifndef REDD_CLIENT_LEDGER_H
#define REDD_CLIENT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/redd.h"

enum ledger_state {
	LEDGER_UNKNOWN, /* nothing was answered yet that was sent behind `since` */
	LEDGER_OURS,	/* all that is in the input so far is accounted for */
	LEDGER_SHARED,	/* somebody else writes to it too: it cannot be told */
};

struct ledger {
	uint32_t stream;
	enum ledger_state state;
	uint64_t since;	   /* UNKNOWN */
	uint64_t end;	   /* OURS: of what was answered */
	uint64_t reckoned; /* OURS: bytes behind it that were sent and not answered */
};

struct ledgers {
	bool fresh; /* the port was spawned through this handle: its inputs begin at 0 */
	bool by_default, by_number; /* how the default input was written to */
	bool is_used;		    /* any was */
	size_t n;
	struct ledger list[REDD_STREAMS_MAX + 1];
};

/* Something is written to an input of that name. */
void ledger_named(struct ledgers *l, uint32_t stream);

/* A write that was sent with that number was answered: its bytes are in the stream, there. */
void ledger_written(struct ledgers *l, uint32_t stream, uint64_t number, uint64_t offset,
		    uint64_t size);

/* Nobody knows what of a write of that number is, or will be, in the stream. */
void ledger_doubt(struct ledgers *l, uint32_t stream, uint64_t number);

/* The same for all inputs: somebody else has written. */
void ledgers_doubt(struct ledgers *l, uint64_t number);

/* Where the last answered write ended; 0 when none was. */
uint64_t ledger_end(const struct ledgers *l, uint32_t stream);

/* The broker told how many bytes of an input it had accepted when it came to request `number`;
 * `n_ahead` writes of ours, of `ahead` bytes, had been sent before and were not answered. Changes
 * nothing that is known better, but shows whether others write. */
void ledger_seen(struct ledgers *l, uint32_t stream, uint64_t number, uint64_t accepted,
		 size_t n_ahead, uint64_t ahead);

/* The connection was lost: reckoning begins, over the writes in the order in which they were sent.
 */
void ledger_begin(struct ledgers *l);

struct ledger_write {
	uint32_t stream;
	uint64_t size;
	uint32_t window; /* bytes that may be under way without being refused; 0: not known */
	bool no_wait;	 /* refused while the input is busy */
	bool has_offset; /* refused if it is not the next */
	uint64_t offset;
};

/* Where a write went, if it went; true when that is known: what was sent before it is, and it
 * cannot have been refused. Else what follows it is in doubt (ledger_doubt()). */
bool ledger_reckon(struct ledgers *l, const struct ledger_write *w, uint64_t *ret_offset);

#endif
