/* What protobuf-c's descriptors tell about a message type, so that a change of redd.proto needs no
 * second table; and the one thing that they do not tell: which `bytes` are data.
 */
#ifndef REDD_SCHEMA_H
#define REDD_SCHEMA_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The field with that number, or NULL. */
const ProtobufCFieldDescriptor *schema_field(const ProtobufCMessageDescriptor *type,
					     uint32_t number);

/* How a value of this type is encoded when it is not packed. */
ProtobufCWireType schema_wire(ProtobufCType type);

/* Bytes that one element takes in the array of a repeated field. */
size_t schema_element_size(ProtobufCType type);

/* True for `bytes` that the system never reads as text, so that they may hold a NUL. */
bool schema_is_data(const ProtobufCMessageDescriptor *type, uint32_t number);

#endif
