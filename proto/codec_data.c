/* Data past the generated code: prefixes for sending, views for receiving.
 *
 * The generated packer writes fields in the order of their numbers, and `data` has the highest
 * (redd.proto says so and keeps it that way), so everything but the bytes can be made by hand. The
 * views accept exactly that form and nothing else: what they take is what the general way would
 * have taken, with the same values; what they do not take goes the general way and is judged there.
 *
 * All tags here are one byte: number << 3 | wire type. Tests hold them against the generated code.
 */
#include "proto/codec.h"

#include <assert.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/varint.h"

enum {
	VARINT = 0,
	BYTES = 2,
};
#define TAG(number, wire) ((uint8_t)((number) << 3 | (wire)))

enum tag {
	MESSAGE_OUTPUT = TAG(15, BYTES),
	OUTPUT_SUBSCRIPTION = TAG(1, VARINT),
	OUTPUT_PORT = TAG(2, VARINT),
	OUTPUT_STREAM = TAG(3, VARINT),
	OUTPUT_OFFSET = TAG(4, VARINT),
	OUTPUT_CONSUMED = TAG(5, VARINT),
	OUTPUT_RECORD = TAG(6, VARINT),
	OUTPUT_DATA = TAG(15, BYTES),

	REQUEST_ID = TAG(1, VARINT),
	REQUEST_WRITE = TAG(4, BYTES),
	WRITE_PORT = TAG(1, BYTES),
	WRITE_STREAM = TAG(2, VARINT),
	WRITE_OFFSET = TAG(3, VARINT),
	WRITE_NO_WAIT = TAG(4, VARINT),
	WRITE_CLOSE = TAG(5, VARINT),
	WRITE_HEADER = TAG(6, VARINT),
	WRITE_FORCE = TAG(7, VARINT),
	WRITE_BATCH = TAG(8, VARINT),
	WRITE_DATA = TAG(15, BYTES),
	PORT_ID = TAG(1, VARINT),
	PORT_NAME = TAG(2, BYTES),
	PORT_SPAWN = TAG(3, VARINT),
};

/* --- sending --------------------------------------------------------------------------------- */

static uint8_t *put(uint8_t *out, enum tag tag, uint64_t value)
{
	*out++ = (uint8_t)tag;
	return varint_write(out, value);
}

static uint8_t *put_bytes(uint8_t *out, enum tag tag, const uint8_t *data, size_t size)
{
	out = put(out, tag, size);
	if (size)
		memcpy(out, data, size);
	return out + size;
}

/* Puts frame prefix, `head`, and `tag` with the size of what it holds, which is `body` and then
 * data_size bytes that are sent behind. Returns the size of it all without those. */
static size_t wrap(uint8_t *out, const uint8_t *head, size_t head_size, enum tag tag,
		   const uint8_t *body, size_t body_size, size_t data_size)
{
	uint8_t inner[1 + VARINT_MAX];
	size_t inner_size = (size_t)(put(inner, tag, body_size + data_size) - inner);
	uint8_t *p = out + frame_prefix(out, head_size + inner_size + body_size + data_size);

	memcpy(p, head, head_size);
	p += head_size;
	memcpy(p, inner, inner_size);
	p += inner_size;
	memcpy(p, body, body_size);
	return (size_t)(p + body_size - out);
}

size_t codec_output_prefix(uint8_t out[CODEC_OUTPUT_PREFIX_MAX], const struct codec_output *o)
{
	uint8_t body[CODEC_OUTPUT_PREFIX_MAX], *p = body;

	assert(o->size <= FRAME_MAX_HIGHEST);
	p = put(p, OUTPUT_SUBSCRIPTION, o->subscription);
	p = put(p, OUTPUT_PORT, o->port);
	p = put(p, OUTPUT_STREAM, o->stream);
	p = put(p, OUTPUT_OFFSET, o->offset);
	p = put(p, OUTPUT_CONSUMED, o->consumed);
	if (o->record >= 0)
		p = put(p, OUTPUT_RECORD, (uint64_t)o->record);
	p = put(p, OUTPUT_DATA, o->size);
	return wrap(out, body, 0, MESSAGE_OUTPUT, body, (size_t)(p - body), o->size);
}

static uint8_t *put_port(uint8_t *out, const struct codec_write *w)
{
	uint8_t ref[1 + VARINT_MAX + NAME_MAX_SIZE], *p = ref;

	switch (w->by) {
	case CODEC_BY_ID:
		p = put(p, PORT_ID, w->number);
		break;
	case CODEC_BY_NAME:
		p = put_bytes(p, PORT_NAME, w->name, w->name_size);
		break;
	case CODEC_BY_SPAWN:
		p = put(p, PORT_SPAWN, w->number);
		break;
	}
	return put_bytes(out, WRITE_PORT, ref, (size_t)(p - ref));
}

size_t codec_write_prefix(uint8_t out[CODEC_WRITE_PREFIX_MAX], const struct codec_write *w)
{
	uint8_t head[1 + VARINT_MAX], body[CODEC_WRITE_PREFIX_MAX], *p;
	size_t head_size = (size_t)(put(head, REQUEST_ID, w->id) - head);

	assert(w->size <= FRAME_MAX_HIGHEST);
	assert(w->by != CODEC_BY_NAME || w->name_size <= NAME_MAX_SIZE);
	p = put_port(body, w);
	if (w->has_stream)
		p = put(p, WRITE_STREAM, w->stream);
	if (w->has_offset)
		p = put(p, WRITE_OFFSET, w->offset);
	if (w->no_wait)
		p = put(p, WRITE_NO_WAIT, 1);
	if (w->close)
		p = put(p, WRITE_CLOSE, 1);
	if (w->has_header)
		p = put(p, WRITE_HEADER, w->header);
	if (w->force)
		p = put(p, WRITE_FORCE, 1);
	if (w->batch)
		p = put(p, WRITE_BATCH, w->batch);
	p = put(p, WRITE_DATA, w->size);
	return wrap(out, head, head_size, REQUEST_WRITE, body, (size_t)(p - body), w->size);
}

/* --- receiving ------------------------------------------------------------------------------- */

/* What is left of a message. Once something did not fit, `fits` is false and stays so. */
struct view {
	const uint8_t *at;
	const uint8_t *end;
	bool fits;
};

static bool view_is_next(const struct view *v, enum tag tag)
{
	return v->fits && v->at < v->end && *v->at == tag;
}

/* The number that must come next, at most `most`. 0 when it does not fit. */
static uint64_t view_number(struct view *v, enum tag tag, uint64_t most)
{
	uint64_t value = 0;

	v->fits = view_is_next(v, tag);
	if (!v->fits)
		return 0;
	v->at++;
	v->fits = varint_read(&v->at, v->end, VARINT_MAX, &value) && value <= most;
	return value;
}

/* The same when it need not be there: *ret_has tells. */
static uint64_t view_optional(struct view *v, enum tag tag, uint64_t most, bool *ret_has)
{
	*ret_has = view_is_next(v, tag);
	return *ret_has ? view_number(v, tag, most) : 0;
}

/* A flag that is only sent when it is set. */
static bool view_flag(struct view *v, enum tag tag)
{
	bool has;
	uint64_t value = view_optional(v, tag, 1, &has);

	v->fits = v->fits && has == (value == 1);
	return has;
}

/* The bytes that must come next; moves past them. */
static struct view view_bytes(struct view *v, enum tag tag)
{
	struct view inner = { 0 };
	uint32_t size = 0;

	v->fits = view_is_next(v, tag);
	if (!v->fits)
		return inner;
	v->at++;
	v->fits = varint_read32(&v->at, v->end, &size) && size <= (size_t)(v->end - v->at);
	if (!v->fits)
		return inner;
	inner = (struct view){ v->at, v->at + size, true };
	v->at += size;
	return inner;
}

static bool view_ends(const struct view *v)
{
	return v->fits && v->at == v->end;
}

int codec_view_output(const uint8_t *frame, size_t size, struct codec_output *ret,
		      const uint8_t **ret_data)
{
	struct view message = { frame, frame + size, true }, v, data;
	struct codec_output o = { 0 };
	bool has_record;

	v = view_bytes(&message, MESSAGE_OUTPUT);
	o.subscription = view_number(&v, OUTPUT_SUBSCRIPTION, UINT64_MAX);
	o.port = view_number(&v, OUTPUT_PORT, UINT64_MAX);
	o.stream = (uint32_t)view_number(&v, OUTPUT_STREAM, UINT32_MAX);
	o.offset = view_number(&v, OUTPUT_OFFSET, UINT64_MAX);
	o.consumed = view_number(&v, OUTPUT_CONSUMED, UINT64_MAX);
	o.record = (int)view_optional(&v, OUTPUT_RECORD, INT32_MAX, &has_record);
	data = view_bytes(&v, OUTPUT_DATA);
	if (!view_ends(&v) || !view_ends(&message))
		return CODEC_E_OTHER;
	if (!has_record)
		o.record = CODEC_RECORD_NONE;
	o.size = (size_t)(data.end - data.at);
	*ret = o;
	*ret_data = data.at;
	return 0;
}

/* Exactly one way to name a port; a name as the scan would let it pass. */
static void view_port(struct view *v, struct codec_write *w)
{
	if (view_is_next(v, PORT_NAME)) {
		struct view name = view_bytes(v, PORT_NAME);

		w->by = CODEC_BY_NAME;
		w->name = name.at;
		w->name_size = (size_t)(name.end - name.at);
		v->fits = v->fits && w->name_size <= NAME_MAX_SIZE &&
			  !memchr(name.at, 0, w->name_size);
	} else if (view_is_next(v, PORT_ID)) {
		w->by = CODEC_BY_ID;
		w->number = view_number(v, PORT_ID, UINT64_MAX);
	} else {
		w->by = CODEC_BY_SPAWN;
		w->number = view_number(v, PORT_SPAWN, UINT64_MAX);
	}
}

int codec_view_write(const uint8_t *frame, size_t size, struct codec_write *ret)
{
	struct view request = { frame, frame + size, true }, v, port, data;
	struct codec_write w = { 0 };
	bool has_batch;

	w.id = view_number(&request, REQUEST_ID, UINT64_MAX);
	request.fits = request.fits && w.id != 0; /* cannot be answered */
	v = view_bytes(&request, REQUEST_WRITE);
	port = view_bytes(&v, WRITE_PORT);
	view_port(&port, &w);
	w.stream = (uint32_t)view_optional(&v, WRITE_STREAM, UINT32_MAX, &w.has_stream);
	w.offset = view_optional(&v, WRITE_OFFSET, UINT64_MAX, &w.has_offset);
	w.no_wait = view_flag(&v, WRITE_NO_WAIT);
	w.close = view_flag(&v, WRITE_CLOSE);
	w.header = (uint32_t)view_optional(&v, WRITE_HEADER, UINT32_MAX, &w.has_header);
	w.force = view_flag(&v, WRITE_FORCE);
	w.batch = (uint32_t)view_optional(&v, WRITE_BATCH, UINT32_MAX, &has_batch);
	data = view_bytes(&v, WRITE_DATA);
	if (!view_ends(&port) || !view_ends(&v) || !view_ends(&request) || has_batch != !!w.batch)
		return CODEC_E_OTHER;
	w.data = data.at;
	w.size = (size_t)(data.end - data.at);
	*ret = w;
	return 0;
}
