/* What waits to be sent: whole frames, some with descriptors. Nothing here blocks. A user's frame
 * is taken only while the queue is below its limit; frames that the library itself owes (credit, an
 * unsubscribe) may go a little above it, so that they are never lost to a full queue.
 */
#ifndef REDD_CLIENT_OUTGOING_H
#define REDD_CLIENT_OUTGOING_H

#include "proto/base/buf.h"
#include "proto/base/list.h"
#include "proto/codec.h"

#define OUTGOING_E_FULL 1 /* nothing was taken: flush and try again */
#define OUTGOING_E_LONG 2 /* longer than a frame may be */

#define OUTGOING_RESERVE KIB(256) /* above the limit; half of it for the library's own frames */

struct outgoing {
	struct buf data;
	size_t limit;
	uint64_t position;   /* of data's first byte since the connection began */
	struct list parcels; /* struct parcel, by position */
	int error;	     /* negative errno once sending failed: nothing goes out any more */
};

void outgoing_init(struct outgoing *o, size_t limit);

/* Drops what waits and closes the descriptors that wait. */
void outgoing_deinit(struct outgoing *o);

static inline size_t outgoing_size(const struct outgoing *o)
{
	return buf_size(&o->data);
}

/* The position of the next byte that is queued. */
static inline uint64_t outgoing_end(const struct outgoing *o)
{
	return o->position + outgoing_size(o);
}

/* Queues a frame; the descriptors are duplicated. 0, OUTGOING_E_*, or a negative errno. */
int outgoing_message(struct outgoing *o, const ProtobufCMessage *message, size_t frame_max,
		     const int *fds, size_t n_fds);

/* Queues a frame of the library's own. 0, OUTGOING_E_* or a negative errno. */
int outgoing_own(struct outgoing *o, const ProtobufCMessage *message);

/* Queues prefix and data; when they are large they are sent at once behind what waits, and only
 * what the socket does not take is copied. 0, OUTGOING_E_FULL or -ENOMEM. */
int outgoing_data(struct outgoing *o, int sock, const uint8_t *prefix, size_t prefix_size,
		  const void *data, size_t size);

/* Sends what the socket takes. Failures are kept in o->error. */
void outgoing_flush(struct outgoing *o, int sock);

#endif
