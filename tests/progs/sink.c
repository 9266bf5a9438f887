/* sink [AFTER]: reads stdin to its end and prints "SIZE BAD\n": how many bytes came, and at which
 * offset the first one stood that does not belong to the pattern (tests/lib/pattern.h), or "-".
 * With AFTER it reads only so many bytes and then hangs without reading. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/pattern.h"

static uint8_t buffer[1 << 16];

int main(int argc, char **argv)
{
	uint64_t limit = argc > 1 ? strtoull(argv[1], NULL, 10) : UINT64_MAX, size = 0;
	uint64_t bad = UINT64_MAX;

	while (size < limit) {
		uint64_t want = limit - size < sizeof(buffer) ? limit - size : sizeof(buffer);
		ssize_t n = read(STDIN_FILENO, buffer, (size_t)want);
		size_t good;

		if (n <= 0)
			break;
		good = pattern_match(buffer, (size_t)n, size);
		if (good < (size_t)n && bad == UINT64_MAX)
			bad = size + good;
		size += (uint64_t)n;
	}
	if (bad == UINT64_MAX)
		printf("%" PRIu64 " -\n", size);
	else
		printf("%" PRIu64 " %" PRIu64 "\n", size, bad);
	fflush(stdout);
	while (argc > 1 && size == limit)
		pause();
	return 0;
}
