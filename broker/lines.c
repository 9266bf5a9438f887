/* Looks backwards for the newline in front of the wanted lines. Somebody may ask for millions of
 * lines of a log full of newlines, so they are counted eight bytes at a time and block by block,
 * and only the block that holds the wanted one is searched byte by byte.
 */
#include "broker/lines.h"

#include <string.h>

#define BLOCK_SIZE 4096u
#define ONES	   0x0101010101010101u
#define SEVENS	   0x7f7f7f7f7f7f7f7fu

static unsigned int count_in_word(uint64_t word)
{
	uint64_t x = word ^ (ONES * '\n');
	uint64_t zero_bytes = ~(((x & SEVENS) + SEVENS) | x | SEVENS); /* 0x80 for each newline */

	return (unsigned int)(((zero_bytes >> 7) * ONES) >> 56);
}

static size_t count_newlines(const uint8_t *data, size_t size)
{
	size_t n = 0;
	uint64_t word;

	for (; size >= sizeof(word); data += sizeof(word), size -= sizeof(word)) {
		memcpy(&word, data, sizeof(word));
		n += count_in_word(word);
	}
	for (; size; data++, size--)
		n += *data == '\n';
	return n;
}

/* One past the n-th newline from the end (n from 1); there are that many. */
static size_t behind_nth_last(const uint8_t *data, size_t size, uint64_t n)
{
	const uint8_t *at = data + size;

	while (n--)
		at = memrchr(data, '\n', (size_t)(at - data));
	return (size_t)(at - data) + 1;
}

size_t lines_find_last(const void *data, size_t size, uint64_t lines)
{
	const uint8_t *bytes = data;
	uint64_t wanted = lines; /* the newline to find, counted from the end */
	size_t end = size;

	if (lines == 0 || size == 0)
		return size;
	if (bytes[size - 1] == '\n')
		end--; /* ends the last line, begins none */
	while (end) {
		size_t start = (end - 1) / BLOCK_SIZE * BLOCK_SIZE;
		size_t n = count_newlines(bytes + start, end - start);

		if (n >= wanted)
			return start + behind_nth_last(bytes + start, end - start, wanted);
		wanted -= n;
		end = start;
	}
	return 0;
}
