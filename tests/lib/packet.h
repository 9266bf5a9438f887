/* Packets that tell their number and length, so that one that was lost, cut or mixed up shows: the
 * n-th has 8 digits, n, and then packet_size() - 8 letters. */
#ifndef TESTS_LIB_PACKET_H
#define TESTS_LIB_PACKET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static inline size_t packet_size(unsigned n, unsigned most)
{
	return 8 + n * 7919u % most;
}

/* packet_size() bytes. */
static inline void packet_fill(char *out, unsigned n, unsigned most)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%08u", n % 100000000u);
	memcpy(out, digits, 8);
	memset(out + 8, 'a' + (int)(n % 26), packet_size(n, most) - 8);
}

/* Its number, or -1 where it is not whole. `most` is 2048 at most. */
static inline int packet_number(const char *data, size_t size, unsigned most)
{
	char expected[8 + 2048];
	int n = 0;

	if (size < 8)
		return -1;
	for (int i = 0; i < 8; i++)
		n = n * 10 + (data[i] - '0');
	packet_fill(expected, (unsigned)n, most);
	return size == packet_size((unsigned)n, most) && !memcmp(data, expected, size) ? n : -1;
}

#endif
