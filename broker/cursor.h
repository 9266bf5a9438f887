/* One subscription's place in one stream's log, and the decision what to send from there next.
 * Pure: it knows of no ring, socket or message, only of numbers.
 *
 *	cursor_next(&c, &view, credit, &step)     what would be sent now
 *	...                                       the event goes into the connection's bulk lane
 *	cursor_sent(&c, &step, &credit)           it did
 *
 * Promise: every offset from the start on is told exactly once, in order, either as data (with what
 * framing takes out of it) or in a gap; then the end, once. A framed cursor tells records whole, in
 * parts, or aborted by a gap, and goes on behind a gap where a record begins.
 */
#ifndef REDD_CURSOR_H
#define REDD_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/framing.h"
#include "proto/limits.h"

struct ring;

/* Numbers as in Subscribe.overflow of redd.proto. */
enum cursor_overflow {
	CURSOR_MAY_BLOCK = 1,  /* the pipe is not read while this cursor is a full log behind */
	CURSOR_MAY_DROP = 2,   /* jumps ahead over a gap */
	CURSOR_MAY_CANCEL = 3, /* the subscription ends */
};

/* Numbers as in Gap.cause of redd.proto. */
enum cursor_gap {
	/* Older than what the log had when the subscription started, or the rest of a record that
	 * had begun before its start. */
	CURSOR_GAP_BEFORE_LOG = 1,
	CURSOR_GAP_SLOW = 2,	  /* overtaken */
	CURSOR_GAP_STALLED = 3,	  /* overtaken after cursor_stall() */
	CURSOR_GAP_ABANDONED = 4, /* left in the pipe at the end */
};

struct cursor {
	uint64_t offset;     /* next byte to be told */
	uint64_t skipped;    /* bytes told as gaps */
	uint64_t first_tail; /* the log's tail when the cursor was made */
	enum cursor_overflow overflow;
	bool is_stalled;	 /* moved from BLOCK to DROP, and no gap has said so yet */
	bool told_abandoned;	 /* the gap at the end was told */
	bool is_ended;		 /* the end was told: nothing follows */
	enum cursor_gap lost_by; /* place.is_lost: why */
	struct framing framing;
	struct framing_place place; /* not with FRAMING_RAW */
};

/* Bytes that a subscription, all its streams together, may still be sent. */
struct credit {
	bool is_limited; /* false: the socket alone is the brake */
	uint64_t left;
};

/* What the cursor looks at. */
struct cursor_view {
	uint64_t tail, head; /* of the log; both 0 while there is none */
	bool is_ended;	    /* the stream has ended: head is its total, but for what is abandoned */
	bool is_abandoned;  /* ended with bytes left in the pipe ... */
	uint64_t abandoned; /* ... so many; 0: nobody can say */
	uint32_t data_max;  /* most data of one event; 0: OUTPUT_MAX, which it never passes */
	/* For who frames: */
	uint32_t size;			  /* of the log */
	const uint8_t *data;		  /* the byte at tail; contiguous up to head */
	const struct record_index *index; /* NULL: none is kept */
};

enum cursor_what {
	CURSOR_NOTHING,	  /* all was told; look again when the stream moves */
	CURSOR_DATA,	  /* bytes offset .. offset + size */
	CURSOR_GAP,	  /* bytes offset .. end will not come, for `cause` */
	CURSOR_END,	  /* offset is the total */
	CURSOR_NO_CREDIT, /* there is something, but no credit for it */
	CURSOR_CANCEL,	  /* overtaken under CURSOR_MAY_CANCEL, or where no record's start can be
			   * found again: end the subscription */
	CURSOR_BAD,	  /* at `end` stands no packet: end the subscription */
};

struct cursor_step {
	enum cursor_what what;
	uint64_t offset;
	/* DATA: `before` bytes are left out, `size` (to OUTPUT_MAX; 0 only of a record) are told,
	 * `after` are left out. */
	uint32_t before, size, after;
	enum framing_record record;
	uint64_t end;	       /* GAP: one past the last; ABANDONED: equal to offset if unknown */
	enum cursor_gap cause; /* GAP */
	bool aborts;	       /* GAP: a record was begun, and its end will not come */
	bool is_lost;	       /* GAP of who frames: no record is known to begin at its end */
	uint64_t next;	       /* where the next record begins, if that is known; else 0 */
	uint64_t cost;	       /* what cursor_sent() takes from the credit: data + EVENT_CREDIT */
};

/* Where a subscription wants to start. */
enum cursor_from {
	CURSOR_FROM_BEGINNING = 0,
	CURSOR_FROM_NOW = 1,
	CURSOR_FROM_OFFSET = 2,
	CURSOR_FROM_LAST_BYTES = 3,
	CURSOR_FROM_LAST_LINES = 4,
};

#define CURSOR_E_AHEAD	1 /* an offset that the stream has not reached */
#define CURSOR_E_RECORD 2 /* nobody knows where a packet begins there */
#define CURSOR_E_LINES	3 /* packets have none */

/* The offset to start at; `value` is the offset or the count. `ring` is NULL while the stream has
 * none (nothing was written). It may be before the log's tail: then the first event is a gap. 0 or
 * CURSOR_E_AHEAD. */
int cursor_find_start(const struct ring *ring, enum cursor_from from, uint64_t value,
		      uint64_t *ret_offset);

/* `tail` is that of the log now (0 without one). */
void cursor_init(struct cursor *c, uint64_t offset, enum cursor_overflow overflow, uint64_t tail);

/* Makes it one that frames: moves the offset that cursor_find_start() gave for `from` to where a
 * record begins, if one is known; else the cursor looks for it. An offset that was stated, and the
 * beginning, stay. 0, CURSOR_E_RECORD or CURSOR_E_LINES. */
int cursor_frame(struct cursor *c, const struct framing *f, const struct cursor_view *view,
		 enum cursor_from from);

/* What to send next. `credit` is not changed; NULL: no limit. Of the cursor nothing changes but how
 * far it has looked for a newline. */
void cursor_next(struct cursor *c, const struct cursor_view *view, const struct credit *credit,
		 struct cursor_step *ret_step);

/* The step (DATA, GAP or END, as cursor_next() gave it, raw DATA perhaps with a smaller size) was
 * sent: moves on and takes its cost. */
void cursor_sent(struct cursor *c, const struct cursor_step *step, struct credit *credit);

/* The oldest byte that the log must keep for it; UINT64_MAX for one that does not block. Never gets
 * smaller. */
uint64_t cursor_floor(const struct cursor *c);

/* Bytes that may be written into a log of `size` bytes whose head is `head` before this cursor
 * would be overtaken; UINT64_MAX for one that does not block. */
uint64_t cursor_room(const struct cursor *c, uint64_t head, uint32_t size);

/* The cursor forbids any further byte: it blocks and is a full log behind. */
static inline bool cursor_holds(const struct cursor *c, uint64_t head, uint32_t size)
{
	return cursor_room(c, head, size) == 0;
}

/* Bytes not told yet. */
uint64_t cursor_lag(const struct cursor *c, uint64_t head);

/* From BLOCK to DROP, because it made no progress for too long; the next gap says so. */
void cursor_stall(struct cursor *c);

/* Adds credit, saturating. Without a limit it stays without. */
void credit_add(struct credit *credit, uint64_t bytes);

/* True when an event with `data` bytes may be sent; credit_take() then takes its cost. */
bool credit_allows(const struct credit *credit, uint64_t data);
void credit_take(struct credit *credit, uint64_t data);

#endif
