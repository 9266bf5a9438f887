/* Length prefixes. Pure functions, no state: the caller holds the bytes, and asks again when more
 * have come. A prefix is refused by its own bytes alone, before any of its body is there.
 */
#include "proto/frame.h"

#include <assert.h>

#include "proto/varint.h"

int frame_parse(const uint8_t *data, size_t size, size_t max, size_t *ret_prefix,
		size_t *ret_length)
{
	uint64_t length = 0;
	size_t n = 0;

	do {
		if (n == FRAME_PREFIX_MAX)
			return FRAME_E_BAD;
		if (n == size)
			return FRAME_E_MORE;
		length |= (uint64_t)(data[n] & 0x7f) << (7 * n);
	} while (data[n++] & 0x80);

	if (length > UINT32_MAX)
		return FRAME_E_BAD;
	if (length > max)
		return FRAME_E_LONG;
	*ret_prefix = n;
	*ret_length = (size_t)length;
	return 0;
}

size_t frame_prefix(uint8_t out[FRAME_PREFIX_MAX], size_t length)
{
	assert(length <= UINT32_MAX);
	return (size_t)(varint_write(out, length) - out);
}
