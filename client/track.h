/* What one subscription has seen of one stream, and whether it adds up. Pure.
 *
 * A stream starts at some offset, and from there on every byte is either seen or told as a gap, in
 * order, none twice; at its end the next offset must be its total. Once something does not fit the
 * track is broken, with the reason, and stays so.
 */
#ifndef REDD_CLIENT_TRACK_H
#define REDD_CLIENT_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum track_state { TRACK_NEW, TRACK_OPEN, TRACK_ENDED };

struct track {
	uint32_t stream;
	enum track_state state;
	uint64_t start, next; /* offsets; TRACK_NEW: not known */
	uint64_t seen, gaps;
	uint64_t record;    /* where the record begins that is at hand; else as `next` */
	bool in_record;	    /* of which parts have come */
	bool in_packet;	    /* and which began with a header */
	bool left_out;	    /* framing removed bytes: what came is not what the broker summed up */
	bool resumed;	    /* what came before may be told again: its end */
	const char *broken; /* static: what did not fit; NULL: all did */
	void *hash;	    /* XXH3 state over all that was seen; NULL: not asked for */
};

/* Hash: compute a checksum as well; without memory for it the track goes without. */
void track_init(struct track *t, uint32_t stream, bool hash);
void track_deinit(struct track *t);

/* The stream begins at `offset` for us. Once. */
void track_start(struct track *t, uint64_t offset);

/* What one output brings. */
struct track_output {
	uint64_t offset, consumed;
	const void *data;
	size_t size;
	bool is_framed;	  /* consumed may be more than size, by a header or newline */
	bool ends_record; /* of those framed: what follows is of another one */
};
void track_output(struct track *t, const struct track_output *o);
void track_gap(struct track *t, uint64_t offset, uint64_t end);

/* The stream ended with so many bytes in all. */
void track_end(struct track *t, uint64_t total);

/* The connection was lost and is back: the stream goes on at `offset`, which must be where it was.
 */
void track_resume(struct track *t, uint64_t offset);

/* The end is told once more, after that: true when it is the same one. */
bool track_ends_again(struct track *t, uint64_t total);

/* True when every byte from 0 on was seen and hashed: then *ret is the checksum. */
bool track_checksum(const struct track *t, uint64_t *ret);

#endif
