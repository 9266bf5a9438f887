/* Records: how a reader's stream is cut into lines or packets. Pure: numbers, and bytes where they
 * lie in the log; nothing is copied or kept, so a record of any length costs nothing.
 *
 *	framing_next(&f, &place, &in, &piece)     what would be told next
 *	framing_took(&place, &piece)              it was
 *
 * A record that is longer than what one event may carry comes in parts, the last of which says how
 * it ended. A part is only made when waiting would not make it larger, or may not be: a reader that
 * waits must never be what keeps the rest from coming (framing_in.must).
 */
#ifndef REDD_FRAMING_H
#define REDD_FRAMING_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/record_index.h"

/* Numbers as in Framing.Cut of redd.proto. */
enum framing_cut { FRAMING_RAW = 0, FRAMING_LINES = 1, FRAMING_PACKETS = 2 };

/* Zeroed: raw. */
struct framing {
	enum framing_cut cut;
	uint32_t maximum; /* of a record, its newline or header not counted */
	uint32_t header;  /* PACKETS: 1, 2 or 4 bytes, big-endian */
};

/* Bytes that a packet's header may have. */
bool framing_is_header(uint32_t header);

/* NULL, or what is wrong with it. */
const char *framing_check(const struct framing *f);

/* Numbers as in Output.Record of redd.proto. */
enum framing_record {
	FRAMING_NO_RECORD = -1, /* raw */
	FRAMING_PART = 0,
	FRAMING_END = 1,
	FRAMING_CUT = 2,	  /* at the maximum: the line goes on in the next record */
	FRAMING_UNTERMINATED = 3, /* the stream ended inside of it */
};

/* Where in a record the reader is. Zeroed at offset 0: before the first one. */
struct framing_place {
	bool is_open;	 /* a part of it was told, its end was not */
	bool is_lost;	 /* no record begins here: the reader looks for one (framing_find()) */
	uint32_t told;	 /* LINES: bytes of it that were told in parts */
	uint64_t looked; /* LINES: no newline from the reader's offset up to here */
	uint64_t end;	 /* PACKETS: where the next record begins, for certain; not behind the
			  * reader, unless nobody knows */
};

/* What there is at the reader's offset. */
struct framing_in {
	uint64_t offset;
	const uint8_t *data; /* `size` bytes, one behind another */
	uint64_t size;
	uint64_t most; /* data that one event may carry now */
	bool must;     /* do not wait for more of a record */
	bool is_last;  /* nothing more comes: what is there is the end */
};

/* One event: `before` bytes are left out, `size` are data, `after` are left out. */
struct framing_piece {
	uint32_t before, size, after;
	enum framing_record record;
	uint64_t next; /* PACKETS: where the next record begins */
};

enum framing_what {
	FRAMING_PIECE,
	FRAMING_WAIT,	 /* for more bytes; or nothing is left */
	FRAMING_NO_ROOM, /* there is something, but `most` does not allow it */
	FRAMING_BAD,	 /* a header announces more than the maximum */
};

/* Changes no more of the place than how far was looked. */
enum framing_what framing_next(const struct framing *f, struct framing_place *p,
			       const struct framing_in *in, struct framing_piece *ret);
void framing_took(struct framing_place *p, const struct framing_piece *piece);

/* --- finding a record ------------------------------------------------------------------------ */

/* Of a log: its bytes, where the oldest lies, and the record starts that are known. */
struct framing_log {
	uint64_t tail, head;
	const uint8_t *data;		  /* the byte at tail */
	const struct record_index *index; /* NULL: none is kept */
};

enum framing_found {
	FRAMING_FOUND,	  /* at *ret; behind head: it will begin there */
	FRAMING_NOT_YET,  /* none up to head */
	FRAMING_NEVER,	  /* nobody knows where records begin, or will */
	FRAMING_HOPELESS, /* packets ended in a header that is none, at *ret */
};

/* The first record that begins at or behind `from` (not below the log's tail, not above head), for
 * a reader that has lost its place. */
enum framing_found framing_find(const struct framing *f, struct framing_place *p,
				const struct framing_log *log, uint64_t from, uint64_t *ret);

/* The record that is at hand at the log's end: the one that the newest byte belongs to, or the next
 * when that one is complete. NOT_YET: its start is not in the log any more. */
enum framing_found framing_find_last(const struct framing *f, const struct framing_log *log,
				     uint64_t *ret);

/* True where a record begins at `offset` (tail to head), as far as the log can tell. */
bool framing_begins(const struct framing *f, const struct framing_log *log, uint64_t offset);

/* A reader at a record's start. */
void framing_place_at(struct framing_place *p, uint64_t offset);

#endif
