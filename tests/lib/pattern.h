/* Bytes that tell where they belong: what is at offset N of a patterned stream depends on N alone,
 * so that lost, doubled or swapped bytes show wherever they are. Used by the tests and by the
 * children that they start. */
#ifndef TESTS_LIB_PATTERN_H
#define TESTS_LIB_PATTERN_H

#include <stddef.h>
#include <stdint.h>

static inline uint8_t pattern_at(uint64_t offset)
{
	return (uint8_t)((offset * 0x9e3779b97f4a7c15u) >> 56);
}

static inline void pattern_fill(uint8_t *out, size_t size, uint64_t offset)
{
	for (size_t i = 0; i < size; i++)
		out[i] = pattern_at(offset + i);
}

/* How many of the first bytes are as they should be: size when all are. */
static inline size_t pattern_match(const uint8_t *data, size_t size, uint64_t offset)
{
	size_t i = 0;

	while (i < size && data[i] == pattern_at(offset + i))
		i++;
	return i;
}

#endif
