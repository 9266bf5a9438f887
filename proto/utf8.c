/* The table of well-formed byte sequences (Unicode, table 3-7) as code: the first byte tells the
 * length and the range of the second; all others are 80..BF.
 */
#include "proto/utf8.h"

#include <string.h>

/* Size of the character at p, 0 if there is none. */
static size_t character_size(const uint8_t *p, size_t size)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n > size)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static bool is_ascii8(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return !(word & 0x8080808080808080u);
}

bool utf8_is_valid(const uint8_t *data, size_t size)
{
	size_t at = 0, n;

	while (at < size) {
		if (size - at >= 8 && is_ascii8(data + at)) {
			at += 8;
			continue;
		}
		n = character_size(data + at, size - at);
		if (!n)
			return false;
		at += n;
	}
	return true;
}
