/* Frames for tests, put together by hand or at random, right or wrong. */
#ifndef TESTS_LIB_WIRE_H
#define TESTS_LIB_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "tests/lib/random.h"

/* All append to `out`, which must have room below its cap. */
void wire_varint(struct buf *out, uint64_t value);
void wire_tag(struct buf *out, uint32_t number, ProtobufCWireType wire);
void wire_number(struct buf *out, uint32_t number, uint64_t value);
void wire_bytes(struct buf *out, uint32_t number, const void *data, size_t size);
void wire_text(struct buf *out, uint32_t number, const char *text);

/* A random message of that type as the protocol wants it: fields in any order, any of them there or
 * not, lists packed or not, unknown fields, at most one member of each oneof, no NUL where none may
 * be. */
void wire_random(struct buf *out, const ProtobufCMessageDescriptor *type, struct random *r);

/* Changes, cuts, repeats or inserts bytes at random. */
void wire_mutate(struct buf *b, struct random *r);

#endif
