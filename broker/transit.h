/* The step of bytes from a descriptor into a log, so that a successor of this broker can finish it.
 *
 * Bytes that were read, but are not in the log yet, would be gone with the process that read them.
 * So they are spliced into a pipe that the keeper holds as well, and read into the log from there;
 * a note in shared memory tells at every instant how far that has come:
 *
 *	transit_take()   the note names stream and head, then bytes go into the pipe: whatever is in
 *	                 it belongs there; then the note tells how many they are
 *	transit_put()    they are read into the log's memory behind its head: those that are not in
 *	                 the pipe any more are there
 *	(the log publishes its new head: if it is not the note's any more, all is done)
 *	transit_done()   the note is cleared
 *
 * One at a time: take, put or drop, done. Only the broker writes into the pipe.
 */
#ifndef REDD_BROKER_TRANSIT_H
#define REDD_BROKER_TRANSIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* In memory that a successor finds. All zero: nothing is under way. */
struct transit_note {
	uint64_t port; /* 0: none; written last, cleared first */
	uint64_t head; /* of the stream's log before */
	uint64_t size; /* 0: not known, all that is in the pipe */
	uint32_t stream;
	uint32_t pad;
};

struct transit {
	int fds[2]; /* of the pipe: read end, write end; -1: closed */
	struct transit_note *note;
	struct transit_note own; /* where there is no shared memory */
	size_t left;		 /* in the pipe, of what was taken */
};

/* Makes the pipe. 0 or a negative errno. */
int transit_open(struct transit *t);

/* Takes over an earlier broker's pipe instead (both are consumed). */
void transit_adopt(struct transit *t, const int take_fds[2]);

/* From now on the note is there, with what it says already; NULL: in *t. */
void transit_note_at(struct transit *t, struct transit_note *note);

/* Harmless when zeroed or closed. */
void transit_close(struct transit *t);

/* Takes up to `size` bytes (not 0) out of fd, which must be non-blocking, for the log of `what`
 * (port, stream, head). The number of bytes, 0 at end of file, or a negative errno (-EAGAIN); then
 * nothing is under way. */
ssize_t transit_take(struct transit *t, const struct transit_note *what, int fd, size_t size);

/* What was taken goes to `place`, all of it. */
void transit_put(struct transit *t, void *place);

/* The bytes are in the log (or were dropped). */
void transit_done(struct transit *t);

/* Throws away what was taken, and is done. */
void transit_drop(struct transit *t);

/* --- a successor's --------------------------------------------------------------------------- */

/* An earlier broker died in the middle: *ret says where, with the size known. False: it did not. */
bool transit_is_left(struct transit *t, struct transit_note *ret);

/* What is left in the pipe goes behind what its reader read already: `place` is where the first of
 * the note's bytes is. */
void transit_finish(struct transit *t, uint8_t *place);

#endif
