#include "tests/lib/wire.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/schema.h"
#include "proto/varint.h"

static void append(struct buf *out, const void *data, size_t size)
{
	if (buf_append(out, data, size))
		abort();
}

void wire_varint(struct buf *out, uint64_t value)
{
	uint8_t bytes[VARINT_MAX];

	append(out, bytes, (size_t)(varint_write(bytes, value) - bytes));
}

void wire_tag(struct buf *out, uint32_t number, ProtobufCWireType wire)
{
	wire_varint(out, (uint64_t)number << 3 | wire);
}

void wire_number(struct buf *out, uint32_t number, uint64_t value)
{
	wire_tag(out, number, PROTOBUF_C_WIRE_TYPE_VARINT);
	wire_varint(out, value);
}

void wire_bytes(struct buf *out, uint32_t number, const void *data, size_t size)
{
	wire_tag(out, number, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED);
	wire_varint(out, size);
	append(out, data, size);
}

void wire_text(struct buf *out, uint32_t number, const char *text)
{
	wire_bytes(out, number, text, strlen(text));
}

static void random_text(struct buf *out, uint32_t number, struct random *r)
{
	static const char *const words[] = { "",
					     "A=1",
					     "/bin/echo",
					     "h\xc3\xa9",
					     "\xf0\x9f\x90\x9f",
					     "a long text of more than sixteen bytes",
					     "\x01\x7f" };

	wire_text(out, number, words[random_below(r, sizeof(words) / sizeof(words[0]))]);
}

static void random_bytes(struct buf *out, uint32_t number, bool nul, struct random *r)
{
	uint8_t data[300];
	size_t size = random_below(r, random_chance(r, 8) ? sizeof(data) : 12);

	random_fill(r, data, size);
	for (size_t i = 0; !nul && i < size; i++)
		data[i] |= !data[i];
	wire_bytes(out, number, data, size);
}

static void random_scalar(struct buf *out, ProtobufCWireType wire, struct random *r)
{
	uint64_t value = random_number(r);

	if (wire == PROTOBUF_C_WIRE_TYPE_VARINT)
		wire_varint(out, value);
	else
		append(out, &value, wire == PROTOBUF_C_WIRE_TYPE_64BIT ? 8 : 4);
}

static void random_packed(struct buf *out, const ProtobufCFieldDescriptor *field, struct random *r)
{
	struct buf list;

	buf_init(&list, 4096);
	for (uint64_t n = random_below(r, 6); n > 0; n--)
		random_scalar(&list, schema_wire(field->type), r);
	wire_bytes(out, field->id, buf_head(&list), buf_size(&list));
	buf_deinit(&list);
}

static void random_submessage(struct buf *out, const ProtobufCFieldDescriptor *field,
			      struct random *r)
{
	struct buf inner;

	buf_init(&inner, out->cap);
	wire_random(&inner, field->descriptor, r);
	wire_bytes(out, field->id, buf_head(&inner), buf_size(&inner));
	buf_deinit(&inner);
}

static void random_value(struct buf *out, const ProtobufCMessageDescriptor *type,
			 const ProtobufCFieldDescriptor *field, struct random *r)
{
	ProtobufCWireType wire = schema_wire(field->type);

	if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
		random_submessage(out, field, r);
	} else if (field->type == PROTOBUF_C_TYPE_STRING) {
		random_text(out, field->id, r);
	} else if (field->type == PROTOBUF_C_TYPE_BYTES) {
		random_bytes(out, field->id, schema_is_data(type, field->id), r);
	} else if (field->label == PROTOBUF_C_LABEL_REPEATED && random_chance(r, 2)) {
		random_packed(out, field, r);
	} else {
		wire_tag(out, field->id, wire);
		random_scalar(out, wire, r);
	}
}

static void random_unknown(struct buf *out, struct random *r)
{
	uint32_t number = (uint32_t)random_below(r, 1u << 29) | 1u << 10;

	if (random_chance(r, 2))
		random_bytes(out, number, true, r);
	else
		wire_number(out, number, random_number(r));
}

static bool is_singular(const ProtobufCFieldDescriptor *field)
{
	return field->label != PROTOBUF_C_LABEL_REPEATED &&
	       (field->type == PROTOBUF_C_TYPE_MESSAGE ||
		field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF);
}

void wire_random(struct buf *out, const ProtobufCMessageDescriptor *type, struct random *r)
{
	uint64_t seen = 0;
	bool chosen = false;

	for (uint64_t n = random_below(r, 2 + type->n_fields); n > 0 && type->n_fields > 0; n--) {
		const ProtobufCFieldDescriptor *field =
			&type->fields[random_below(r, type->n_fields)];
		uint64_t bit = UINT64_C(1) << (field - type->fields);

		if (is_singular(field) && (seen & bit))
			continue;
		if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
			if (chosen)
				continue;
			chosen = true;
		}
		seen |= bit;
		random_value(out, type, field, r);
	}
	if (random_chance(r, 16))
		random_unknown(out, r);
}

static void mutate_at(uint8_t *data, size_t size, struct random *r)
{
	size_t at = random_below(r, size);

	if (random_chance(r, 2))
		data[at] ^= (uint8_t)(1u << random_below(r, 8));
	else
		data[at] = (uint8_t)random_next(r);
}

void wire_mutate(struct buf *b, struct random *r)
{
	size_t size = buf_size(b);

	for (uint64_t n = 1 + random_below(r, 3); n > 0 && size > 0; n--) {
		switch (random_below(r, 6)) {
		case 0: /* cut */
			size = random_below(r, size);
			b->end = b->start + size;
			break;
		case 1: /* once more */
			if (size < 4096) {
				uint8_t copy[4096];

				memcpy(copy, buf_head(b), size);
				append(b, copy, size);
				size *= 2;
			}
			break;
		default:
			mutate_at(buf_head(b), size, r);
			break;
		}
	}
}
