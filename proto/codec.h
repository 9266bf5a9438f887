/* Frames to messages and back. The generated types are only named here; who looks into them
 * includes "proto/redd.pb-c.h" too, and that is request handlers alone.
 *
 * Data has a way of its own past the generated code, because it is most of what flows: a hand-made
 * prefix in front of the raw bytes when sending, a view into the frame when receiving. Both are
 * byte for byte what the generated code would make and take.
 */
#ifndef REDD_CODEC_H
#define REDD_CODEC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/base/buf.h"
#include "proto/limits.h"

typedef struct Redd__V1__Request Redd__V1__Request;
typedef struct Redd__V1__Message Redd__V1__Message;

#define CODEC_E_REFUSED 1 /* the scan refused the frame: the peer is told the reason */
#define CODEC_E_LONG	2 /* the packed message is longer than frame_max */
#define CODEC_E_FULL	3 /* the buffer's cap would be passed */
#define CODEC_E_OTHER \
	4 /* a view does not fit this frame: take the general way, nothing is judged */

/* --- whole messages -------------------------------------------------------------------------- */

/* Scans and unpacks one frame's body. Resets the arena first; the message, and the reason, belong
 * to it until its next reset, and refer to nothing of `data`. Returns
 *	0                 *ret is the message
 *	CODEC_E_REFUSED   *ret_reason is one sentence for the peer, naming the field
 *	-ENOMEM */
int codec_unpack_request(struct arena *a, const uint8_t *data, size_t size, Redd__V1__Request **ret,
			 const char **ret_reason);
int codec_unpack_message(struct arena *a, const uint8_t *data, size_t size, Redd__V1__Message **ret,
			 const char **ret_reason);

/* Appends prefix and message, or nothing. 0, CODEC_E_LONG, CODEC_E_FULL or -ENOMEM. The message is
 * only read. */
int codec_pack(struct buf *out, const ProtobufCMessage *message, size_t frame_max);

/* --- output ---------------------------------------------------------------------------------- */

#define CODEC_RECORD_NONE (-1)

struct codec_output {
	uint64_t subscription;
	uint64_t port;
	uint32_t stream;
	uint64_t offset;
	uint64_t consumed;
	int record;  /* enum Redd__V1__Output__Record, or CODEC_RECORD_NONE: absent */
	size_t size; /* bytes of data behind the prefix; 0 is legal */
};

#define CODEC_OUTPUT_PREFIX_MAX 72u

/* Writes all of a frame Message{output{...}} but its data: `o->size` bytes follow on the wire.
 * o->size is at most FRAME_MAX_HIGHEST; that the frame fits the connection's frame_max is the
 * caller's care. Returns the prefix's size. */
size_t codec_output_prefix(uint8_t out[CODEC_OUTPUT_PREFIX_MAX], const struct codec_output *o);

/* Reads a frame's body. 0 when it is exactly a Message with an Output in the order above, with all
 * of its fields (record may be absent); *ret_data points into the frame and has ret->size bytes.
 * CODEC_E_OTHER for everything else. Makes no difference to what codec_unpack_message() says. */
int codec_view_output(const uint8_t *frame, size_t size, struct codec_output *ret,
		      const uint8_t **ret_data);

/* --- input ----------------------------------------------------------------------------------- */

/* How a request names its port. */
enum codec_by { CODEC_BY_ID = 1, CODEC_BY_NAME = 2, CODEC_BY_SPAWN = 3 };

struct codec_write {
	uint64_t id; /* of the request, not 0 */
	enum codec_by by;
	uint64_t number;     /* CODEC_BY_ID: the port; CODEC_BY_SPAWN: the Spawn request's id */
	const uint8_t *name; /* CODEC_BY_NAME: 0 to NAME_MAX_SIZE bytes, borrowed, no NUL in it */
	size_t name_size;
	uint32_t stream; /* if has_stream */
	uint64_t offset; /* if has_offset */
	bool has_stream;
	bool has_offset;
	bool has_header;
	uint32_t header;     /* if has_header */
	bool no_wait;	     /* absent when false */
	bool close;	     /* absent when false */
	bool force;	     /* absent when false */
	uint32_t batch;	     /* absent when 0 */
	const uint8_t *data; /* borrowed; not read by codec_write_prefix() */
	size_t size;
};

#define CODEC_WRITE_PREFIX_MAX 200u

/* Writes all of a frame Request{id, write{...}} but its data: `w->size` bytes follow on the wire.
 * w->size is at most FRAME_MAX_HIGHEST, w->name_size at most NAME_MAX_SIZE; that the frame fits the
 * connection's frame_max is the caller's care. Returns the prefix's size. */
size_t codec_write_prefix(uint8_t out[CODEC_WRITE_PREFIX_MAX], const struct codec_write *w);

/* Reads a frame's body. 0 when it is exactly a Request with a Write in the order above, with id
 * (not 0), port and data; name and data point into the frame. CODEC_E_OTHER for everything else. */
int codec_view_write(const uint8_t *frame, size_t size, struct codec_write *ret);

#endif
