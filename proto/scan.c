/* One pass over the bytes of a frame, recursive only as deep as SCAN_DEPTH_MAX, without memory of
 * its own but a few words a level.
 *
 * Good path: scan_message() -> scan_fields() for a message -> scan_field() for each field: tag,
 * bounds of the value, then by type. What protobuf-c will allocate for it is added up on the way
 * (see "what unpacking takes") and held against the budget at the end; until then nothing was
 * allocated, so it is early enough.
 *
 * Every refusal goes through refuse(), which notes the reason and where; the first one ends the
 * scan.
 */
#include "proto/scan.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/arena.h"
#include "proto/base/cleanup.h"
#include "proto/schema.h"
#include "proto/utf8.h"
#include "proto/varint.h"

/* Fields of one message type that duplicates can be told of; protobuf-c needs an allocation of its
 * own for types with more. */
#define SCAN_TYPE_FIELDS_MAX 128u

struct scan {
	const uint8_t *base;
	size_t n_fields;
	size_t n_unknown;
	struct scan_result *ret;
};

struct level {
	const ProtobufCMessageDescriptor *type;
	const ProtobufCFieldDescriptor *last; /* the field before: lists repeat it */
	unsigned depth;			      /* 0: the outermost message */
	size_t n_members;
	uint64_t seen[SCAN_TYPE_FIELDS_MAX / 64]; /* by index of the field */
};

/* A field's value: without the length prefix, if there was one. */
struct value {
	const uint8_t *tag; /* where the field begins */
	const uint8_t *data;
	size_t size;
	size_t prefix_size;
	ProtobufCWireType wire;
};

static int scan_fields(struct scan *s, const ProtobufCMessageDescriptor *type, const uint8_t *at,
		       const uint8_t *end, unsigned depth);

static int refuse(struct scan *s, const struct level *l, const uint8_t *at, const char *reason)
{
	s->ret->reason = reason;
	s->ret->offset = (size_t)(at - s->base);
	s->ret->n_path = l->depth + 1;
	return SCAN_E_REFUSED;
}

/* --- what unpacking takes -------------------------------------------------------------------- */

static void charge(struct scan *s, size_t size)
{
	s->ret->arena += ARENA_COST(size);
}

/* protobuf-c notes the members of a message in slabs: the first, of 16, is on its stack, each
 * further one has twice as many. An entry takes 32 bytes. */
static void charge_slabs(struct scan *s, size_t n_members)
{
	for (size_t slab = 16, noted = 16; noted < n_members; noted += slab) {
		slab *= 2;
		charge(s, slab * 32);
	}
}

/* --- fields ---------------------------------------------------------------------------------- */

static const ProtobufCFieldDescriptor *find_field(struct level *l, uint32_t number)
{
	if (!l->last || l->last->id != number)
		l->last = schema_field(l->type, number);
	return l->last;
}

static bool was_seen(const struct level *l, size_t index)
{
	return l->seen[index / 64] >> (index % 64) & 1;
}

/* A oneof's members share the place of their case in the message. */
static bool oneof_was_seen(const struct level *l, const ProtobufCFieldDescriptor *field)
{
	for (unsigned i = 0; i < l->type->n_fields; i++)
		if (l->type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
		    l->type->fields[i].quantifier_offset == field->quantifier_offset &&
		    was_seen(l, i))
			return true;
	return false;
}

/* A second submessage is merged by some readers and replaces the first for others, and merging can
 * be made to cost seconds. Of scalars the last one counts, for all. */
static int check_duplicate(struct scan *s, struct level *l, const ProtobufCFieldDescriptor *field,
			   const struct value *v)
{
	size_t index = (size_t)(field - l->type->fields);

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return 0;
	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && oneof_was_seen(l, field))
		return refuse(s, l, v->tag,
			      "is a second choice where there can be one only, and readers differ "
			      "on which counts; send exactly one");
	if (field->type == PROTOBUF_C_TYPE_MESSAGE && was_seen(l, index))
		return refuse(
			s, l, v->tag,
			"is given twice, and readers differ on what that means; send it once");
	l->seen[index / 64] |= UINT64_C(1) << (index % 64);
	return 0;
}

static int scan_string(struct scan *s, const struct level *l, const struct value *v)
{
	if (memchr(v->data, 0, v->size))
		return refuse(s, l, v->tag,
			      "is text with a NUL byte in it, which would cut it; remove the NUL");
	if (!utf8_is_valid(v->data, v->size))
		return refuse(s, l, v->tag,
			      "is not UTF-8, which text on this protocol is; encode it as UTF-8");
	charge(s, v->size + 1);
	return 0;
}

static int scan_bytes(struct scan *s, const struct level *l, const ProtobufCFieldDescriptor *field,
		      const struct value *v)
{
	if (memchr(v->data, 0, v->size) && !schema_is_data(l->type, field->id))
		return refuse(s, l, v->tag,
			      "holds a NUL byte, where the system would take it to end; "
			      "remove the NUL");
	charge(s, v->size);
	return 0;
}

static int scan_submessage(struct scan *s, const struct level *l,
			   const ProtobufCFieldDescriptor *field, const struct value *v)
{
	if (l->depth + 1 >= SCAN_DEPTH_MAX)
		return refuse(s, l, v->tag,
			      "is nested too deeply; no message of this protocol needs that depth, "
			      "so send it as redd.proto has it");
	return scan_fields(s, field->descriptor, v->data, v->data + v->size, l->depth + 1);
}

/* A list of numbers in one value: each must be whole. */
static int scan_packed(struct scan *s, const struct level *l, const ProtobufCFieldDescriptor *field,
		       const struct value *v)
{
	static const char cut[] = "is a packed list whose last number is cut or too long; "
				  "pack it as a protobuf library does";
	size_t item = schema_element_size(field->type), n = 0;
	const uint8_t *at = v->data, *end = v->data + v->size;
	uint64_t number;

	if (schema_wire(field->type) != PROTOBUF_C_WIRE_TYPE_VARINT) {
		if (v->size % item)
			return refuse(s, l, v->tag, cut);
		n = v->size / item;
		at = end;
	}
	for (; at < end; n++)
		if (!varint_read(&at, end, VARINT_MAX, &number))
			return refuse(s, l, v->tag, cut);
	charge(s, n * item);
	return 0;
}

static int scan_known(struct scan *s, struct level *l, const ProtobufCFieldDescriptor *field,
		      const struct value *v)
{
	ProtobufCWireType wire = schema_wire(field->type);
	bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
	int r;

	if (v->wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED && repeated && wire != v->wire)
		return scan_packed(s, l, field, v);
	if (v->wire != wire)
		return refuse(s, l, v->tag,
			      "is encoded as another type than the protocol gives it; "
			      "generate the client from the broker's redd.proto");
	r = check_duplicate(s, l, field, v);
	if (r)
		return r;
	if (repeated)
		charge(s, schema_element_size(field->type));
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return scan_string(s, l, v);
	case PROTOBUF_C_TYPE_BYTES:
		return scan_bytes(s, l, field, v);
	case PROTOBUF_C_TYPE_MESSAGE:
		return scan_submessage(s, l, field, v);
	default:
		return 0;
	}
}

/* Kept by protobuf-c with its length prefix, and noted in 24 bytes. */
static int scan_unknown(struct scan *s, const struct level *l, const struct value *v)
{
	if (++s->n_unknown > SCAN_UNKNOWN_MAX)
		return refuse(s, l, v->tag,
			      "is one unknown field too many: a newer client may send some, this "
			      "frame has more than 64; send what the broker's redd.proto has");
	charge(s, sizeof(ProtobufCMessageUnknownField));
	charge(s, v->size + v->prefix_size);
	return 0;
}

/* Finds where the value at *at lies and moves *at past it. */
static int scan_value(struct scan *s, const struct level *l, const uint8_t **at, const uint8_t *end,
		      struct value *v)
{
	static const char over[] = "goes past the end of its message: the frame was cut or put "
				   "together wrongly; send frames as a protobuf library writes "
				   "them";
	const uint8_t *start = *at;
	uint32_t size = 0;
	uint64_t number;

	switch (v->wire) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		if (!varint_read(at, end, VARINT_MAX, &number))
			return refuse(
				s, l, v->tag,
				"is a number that is cut, or longer than 10 bytes or 64 bits; "
				"send numbers as a protobuf library writes them");
		*v = (struct value){ v->tag, start, (size_t)(*at - start), 0, v->wire };
		return 0;
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		size = 8;
		break;
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		size = 4;
		break;
	case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
		if (!varint_read32(at, end, &size))
			return refuse(s, l, v->tag, over);
		break;
	default:
		return refuse(
			s, l, v->tag,
			"is a group or no known wire type; this protocol has neither, so send "
			"frames as a protobuf library writes them");
	}
	if (size > (size_t)(end - *at))
		return refuse(s, l, v->tag, over);
	*v = (struct value){ v->tag, *at, size, (size_t)(*at - start), v->wire };
	*at += size;
	return 0;
}

static int scan_field(struct scan *s, struct level *l, const uint8_t **at, const uint8_t *end)
{
	const ProtobufCFieldDescriptor *field;
	struct value v = { .tag = *at };
	uint32_t tag;
	int r;

	s->ret->path[l->depth] = 0;
	if (!varint_read32(at, end, &tag) || !(tag >> 3))
		return refuse(s, l, v.tag,
			      "is not the beginning of a field; send frames as a protobuf library "
			      "writes them");
	s->ret->path[l->depth] = tag >> 3;
	if (++s->n_fields > SCAN_FIELDS_MAX)
		return refuse(s, l, v.tag,
			      "is one field too many for a frame; split the request, or pass less "
			      "in lists");
	v.wire = tag & 7;
	r = scan_value(s, l, at, end, &v);
	if (r)
		return r;
	l->n_members++;
	field = find_field(l, tag >> 3);
	return field ? scan_known(s, l, field, &v) : scan_unknown(s, l, &v);
}

static int scan_fields(struct scan *s, const ProtobufCMessageDescriptor *type, const uint8_t *at,
		       const uint8_t *end, unsigned depth)
{
	struct level l = { .type = type, .depth = depth };
	int r;

	charge(s, type->sizeof_message);
	while (at < end) {
		r = scan_field(s, &l, &at, end);
		if (r)
			return r;
	}
	charge_slabs(s, l.n_members);
	return 0;
}

int scan_message(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size,
		 struct scan_result *ret)
{
	struct scan s = { .base = data, .ret = ret };
	size_t budget = MAX((size_t)ARENA_FACTOR * size, (size_t)ARENA_FLOOR);
	int r;

	*ret = (struct scan_result){ 0 };
	r = scan_fields(&s, type, data, data + size, 0);
	if (r || ret->arena <= budget)
		return r;
	ret->reason = "needs too much memory for its size once read: it is made of very many "
		      "nearly empty parts; send fewer";
	return SCAN_E_REFUSED;
}

char *scan_path(const ProtobufCMessageDescriptor *type, const struct scan_result *result, char *out,
		size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < result->n_path && used < size; i++) {
		const ProtobufCFieldDescriptor *field =
			type ? schema_field(type, result->path[i]) : NULL;
		const char *dot = i ? "." : "";
		int n;

		if (field)
			n = snprintf(out + used, size - used, "%s%s", dot, field->name);
		else
			n = snprintf(out + used, size - used, "%s%u", dot, result->path[i]);
		used += (size_t)n;
		type = field && field->type == PROTOBUF_C_TYPE_MESSAGE ? field->descriptor : NULL;
	}
	return out;
}
