/* A subscription that reads the logs' memory itself (Subscribe.shared, PROTOCOL.md section 21):
 * what the broker keeps of it, and what it believes of what the client writes, which is next to
 * nothing.
 *
 * The reader's cursor follows the position in the control page; all else (blocking, stalling, lag,
 * the end) is as for every subscription. Data never goes by the socket; Gap (ABANDONED), StreamEnd,
 * Exited and Closed do, and of these the first two once the client has read up to them.
 */
#ifndef REDD_BROKER_SHARING_H
#define REDD_BROKER_SHARING_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

struct cursor_view;
struct reader;
struct shared_control;
struct stream;
struct subscription;

struct sharing {
	struct shared_control *control; /* mapped; the client writes it as well */
	int fd;				/* of its memfd, until the answer has taken it; then -1 */
	uint64_t progress;		/* sum of the positions when that was last asked */
	uint64_t oldest[PORT_STREAMS_MAX]; /* for each reader: of its log when the subscription was
					      made */
};

/* Shares what the subscription, which is not linked yet, reads; makes logs that are not there yet.
 * Where that cannot be (memory, descriptors, quota, bounds, an output that ended without a byte) it
 * goes by the socket: s->sharing stays NULL. */
void sharing_begin(struct subscription *s);

/* Puts the descriptors on their way, to go with the message that is answered next: the control
 * page, then each reader's log. Where that cannot be, or it is not shared, false, and it goes by
 * the socket. */
bool sharing_hand_over(struct subscription *s);

/* From here on it goes by the socket, from where the client had read to. Harmless when it is not
 * shared. */
void sharing_end(struct subscription *s);

/* Moves the reader's cursor to where the client says that it is. For any reader. */
void sharing_pull(struct reader *r);

/* What a cursor is to see of its stream: nothing, until all of it was read and it has ended. False:
 * nothing is to be told. */
bool sharing_view(struct reader *r, struct cursor_view *view);

/* The log has moved, or ended: wakes the client if it sleeps, and ends who may not be overtaken. */
void sharing_moved(struct reader *r);

/* The client says that it has moved, or was overtaken. */
void sharing_told(struct subscription *s);

/* True when the client has read something since this was last asked. */
bool sharing_has_progressed(struct subscription *s);

/* It was moved from BLOCK to DROP. */
void sharing_stalled(struct subscription *s);

/* Bytes that the client says it told as gaps. */
uint64_t sharing_skipped(const struct subscription *s, unsigned reader);

#endif
