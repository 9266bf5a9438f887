/* pattern SIZE [CHUNK [FD]...]: writes SIZE patterned bytes (tests/lib/pattern.h) in writes of
 * CHUNK bytes (65536) to each FD (1), in turns. Leaves with 0 when all was written. */
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/pattern.h"

static int put(int fd, const uint8_t *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0)
			return -1;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	size_t chunk = argc > 2 ? strtoul(argv[2], NULL, 10) : 65536;
	uint8_t *buffer = malloc(chunk ? chunk : 1);

	if (!buffer || !chunk)
		return 2;
	for (uint64_t offset = 0; offset < size;) {
		size_t n = size - offset < chunk ? (size_t)(size - offset) : chunk;

		pattern_fill(buffer, n, offset);
		if (argc <= 3 && put(STDOUT_FILENO, buffer, n) < 0)
			return 1;
		for (int i = 3; i < argc; i++)
			if (put(atoi(argv[i]), buffer, n) < 0)
				return 1;
		offset += n;
	}
	return 0;
}
