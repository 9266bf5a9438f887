/* Frames on the wire: a varint with the length, then so many bytes of one protobuf message (what
 * writeDelimitedTo, protodelim and decodeDelimited speak).
 */
#ifndef REDD_FRAME_H
#define REDD_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

#define FRAME_E_MORE 1 /* the prefix is not complete yet: ask again with more bytes */
#define FRAME_E_BAD  2 /* a varint of more than 5 bytes or more than 32 bits: no way to go on */
#define FRAME_E_LONG 3 /* the body would be longer than max */

/* Reads the prefix at data. On 0 *ret_prefix is its size and *ret_length that of the body, which
 * need not be there yet; a length of 0 is legal and such a frame means nothing. FRAME_E_*
 * otherwise. FRAME_E_LONG is told as soon as the prefix is there, so a buffer never has to grow
 * with what was only announced. */
int frame_parse(const uint8_t *data, size_t size, size_t max, size_t *ret_prefix,
		size_t *ret_length);

/* Writes the shortest prefix for a body of `length` bytes (32 bits at most); returns its size. */
size_t frame_prefix(uint8_t out[FRAME_PREFIX_MAX], size_t length);

#endif
