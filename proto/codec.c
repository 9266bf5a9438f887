/* The general way: scan, arena and generated code for whole messages of any kind.
 *
 * Good path of reading: scan (refuses, and tells how much memory is needed) -> arena reset to just
 * that -> protobuf-c's unpack. After the scan the unpack can only fail for want of memory; that it
 * fails otherwise is a defect, and is told as a refusal all the same. Failures name the field, in a
 * sentence that lies in the arena.
 *
 * Good path of writing: size -> room in the buffer -> prefix and message into it. Whatever fails
 * does so before the buffer is touched.
 */
#include "proto/codec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/err.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "proto/scan.h"

#define REASON_SIZE 512u

/* "spawn.args (at byte 17): holds a NUL byte, ...". Falls back to the sentence alone. */
static const char *describe(struct arena *a, const ProtobufCMessageDescriptor *type,
			    const struct scan_result *result)
{
	char path[REASON_SIZE / 2];
	char *text;

	arena_reset(a, ARENA_COST(REASON_SIZE));
	text = arena_alloc(a, REASON_SIZE);
	if (!text)
		return result->reason;
	if (result->n_path)
		snprintf(text, REASON_SIZE, "%s (at byte %zu) %s",
			 scan_path(type, result, path, sizeof(path)), result->offset,
			 result->reason);
	else
		snprintf(text, REASON_SIZE, "the frame %s", result->reason);
	return text;
}

static int unpack(struct arena *a, const ProtobufCMessageDescriptor *type, const uint8_t *data,
		  size_t size, ProtobufCMessage **ret, const char **ret_reason)
{
	struct scan_result result;
	ProtobufCMessage *message;

	if (scan_message(type, data, size, &result)) {
		*ret_reason = describe(a, type, &result);
		return CODEC_E_REFUSED;
	}
	arena_reset(a, result.arena);
	message = protobuf_c_message_unpack(type, arena_allocator(a), size, data);
	if (message) {
		*ret = message;
		return 0;
	}
	if (a->out_of_memory)
		return err_begin(-ENOMEM);
	*ret_reason = "the frame cannot be read; send frames as a protobuf library writes them";
	return CODEC_E_REFUSED;
}

int codec_unpack_request(struct arena *a, const uint8_t *data, size_t size, Redd__V1__Request **ret,
			 const char **ret_reason)
{
	ProtobufCMessage *message;
	int r = unpack(a, &redd__v1__request__descriptor, data, size, &message, ret_reason);

	if (r)
		return r < 0 ? err_pass(r) : r;
	*ret = (Redd__V1__Request *)message;
	return 0;
}

int codec_unpack_message(struct arena *a, const uint8_t *data, size_t size, Redd__V1__Message **ret,
			 const char **ret_reason)
{
	ProtobufCMessage *message;
	int r = unpack(a, &redd__v1__message__descriptor, data, size, &message, ret_reason);

	if (r)
		return r < 0 ? err_pass(r) : r;
	*ret = (Redd__V1__Message *)message;
	return 0;
}

int codec_pack(struct buf *out, const ProtobufCMessage *message, size_t frame_max)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t prefix[FRAME_PREFIX_MAX], *space;
	size_t prefix_size;
	int r;

	if (size > frame_max || size > UINT32_MAX)
		return CODEC_E_LONG;
	prefix_size = frame_prefix(prefix, size);
	r = buf_reserve(out, prefix_size + size, &space);
	if (r == BUF_E_FULL)
		return CODEC_E_FULL;
	if (r < 0)
		return err_pass(r);
	memcpy(space, prefix, prefix_size);
	protobuf_c_message_pack(message, space + prefix_size);
	buf_commit(out, prefix_size + size);
	return 0;
}
