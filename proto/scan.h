/* The wire scan: looks at every frame before protobuf-c does, and refuses what would cost more than
 * it should, what two readers could read in two ways, and what protobuf-c is known to get wrong. It
 * allocates nothing, is driven by protobuf-c's own descriptors, and what passes it is certain to
 * unpack within the number of bytes that it tells.
 *
 * Refused, always as a whole:
 *	a length or a value that goes over the end; a varint of more than 10 bytes or 64 bits; a tag
 *	or a length of more than 5 bytes or 32 bits; field number 0; groups; a known field with a
 *	wire type that is not its own; messages nested deeper than SCAN_DEPTH_MAX; more than
 *	SCAN_FIELDS_MAX fields, or SCAN_UNKNOWN_MAX unknown ones, in all; a second occurrence of a
 *	singular submessage; a second member of a oneof; `string` with a NUL or that is not UTF-8;
 *	`bytes` with a NUL, unless the field is data (the table in schema.c); more memory than
 *	max(ARENA_FACTOR * size, ARENA_FLOOR) once unpacked.
 * Not refused: unknown fields and enum values, singular scalars that come twice (the last counts),
 * fields in any order, packed or unpacked lists of numbers, padded varints within the limits above.
 */
#ifndef REDD_SCAN_H
#define REDD_SCAN_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

#define SCAN_E_REFUSED 1

struct scan_result {
	/* Refused: a static sentence without control characters: what, why, what to do. */
	const char *reason;
	/* Refused: the field numbers from the outermost message down to what is refused. */
	uint32_t path[SCAN_DEPTH_MAX + 1];
	unsigned n_path;
	/* Refused: where in the frame the refused field begins. */
	size_t offset;
	/* Passed: what unpacking takes from an arena (ARENA_COST() of every allocation), exactly or
	 * a little more. */
	size_t arena;
};

/* Scans one message of the given type. 0 or SCAN_E_REFUSED; *ret is written in both cases. */
int scan_message(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size,
		 struct scan_result *ret);

/* The path in names, "spawn.environment.set", or numbers where there is no name; cut at size, which
 * includes the final NUL. Empty for the message itself. Returns out. */
char *scan_path(const ProtobufCMessageDescriptor *type, const struct scan_result *result, char *out,
		size_t size);

#endif
