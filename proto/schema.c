/* Pure look-ups in constant tables. */
#include "proto/schema.h"

#include "proto/base/cleanup.h"
#include "proto/redd.pb-c.h"

/* All other `bytes` (programs, arguments, environment, paths, names) are handed to the system or
 * compared with what it gave: a NUL would end the value for one reader and not for another. */
static const struct {
	const ProtobufCMessageDescriptor *type;
	uint32_t number;
} data_fields[] = {
	{ &redd__v1__hello__descriptor, 5 },	/* session */
	{ &redd__v1__welcome__descriptor, 5 },	/* session */
	{ &redd__v1__welcome__descriptor, 10 }, /* instance */
	{ &redd__v1__ping__descriptor, 1 },	/* data */
	{ &redd__v1__pong__descriptor, 1 },	/* data */
	{ &redd__v1__spawn__descriptor, 30 },	/* token */
	{ &redd__v1__open__descriptor, 30 },	/* token */
	{ &redd__v1__write__descriptor, 15 },	/* data */
	{ &redd__v1__output__descriptor, 15 },	/* data */
	{ &redd__v1__pattern__descriptor, 1 },	/* text */
	{ &redd__v1__pattern__descriptor, 2 },	/* regex */
	{ &redd__v1__matched__descriptor, 15 }, /* data */
};

bool schema_is_data(const ProtobufCMessageDescriptor *type, uint32_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(data_fields); i++)
		if (data_fields[i].type == type && data_fields[i].number == number)
			return true;
	return false;
}

/* Fields are sorted by number; each range holds consecutive ones and is followed by at least one
 * more entry, which tells where it ends. */
const ProtobufCFieldDescriptor *schema_field(const ProtobufCMessageDescriptor *type,
					     uint32_t number)
{
	for (unsigned i = 0; i < type->n_field_ranges; i++) {
		const ProtobufCIntRange *range = &type->field_ranges[i];
		uint32_t start = (uint32_t)range[0].start_value;
		uint32_t n = range[1].orig_index - range[0].orig_index;

		if (number >= start && number - start < n)
			return &type->fields[range[0].orig_index + (number - start)];
	}
	return NULL;
}

ProtobufCWireType schema_wire(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return PROTOBUF_C_WIRE_TYPE_32BIT;
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return PROTOBUF_C_WIRE_TYPE_64BIT;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
	default:
		return PROTOBUF_C_WIRE_TYPE_VARINT;
	}
}

size_t schema_element_size(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		return sizeof(uint32_t);
	}
}
