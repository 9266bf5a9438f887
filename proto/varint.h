/* Varints: 7 bits a byte, the lowest first, the high bit set on all but the last. */
#ifndef REDD_VARINT_H
#define REDD_VARINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX 10u /* bytes of a 64-bit number */

/* Moves *at past one varint. False, and nothing is moved, when it does not end within `most` bytes
 * (VARINT_MAX at most), before `end`, or in 64 bits. */
static inline bool varint_read(const uint8_t **at, const uint8_t *end, unsigned most, uint64_t *ret)
{
	const uint8_t *p = *at;
	uint64_t value = 0;

	for (unsigned n = 0; n < most && p < end; n++, p++) {
		value |= (uint64_t)(*p & 0x7f) << (7 * n);
		if (*p & 0x80)
			continue;
		if (n == VARINT_MAX - 1 && *p > 1)
			return false;
		*at = p + 1;
		*ret = value;
		return true;
	}
	return false;
}

/* For tags and lengths: 5 bytes and 32 bits at most. */
static inline bool varint_read32(const uint8_t **at, const uint8_t *end, uint32_t *ret)
{
	const uint8_t *p = *at;
	uint64_t value;

	if (!varint_read(&p, end, 5, &value) || value > UINT32_MAX)
		return false;
	*at = p;
	*ret = (uint32_t)value;
	return true;
}

/* Writes the shortest form, at most VARINT_MAX bytes; returns where it ends. */
static inline uint8_t *varint_write(uint8_t *out, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		*out++ = (uint8_t)(value | 0x80);
	*out++ = (uint8_t)value;
	return out;
}

#endif
