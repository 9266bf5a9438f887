/* zeros SIZE [CHUNK [wait]]: writes SIZE zero bytes in writes of CHUNK (65536) as fast as it can;
 * with "wait" only once stdin has a byte or has ended. For measurements: making the bytes costs
 * nothing. */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	unsigned long long left = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	size_t chunk = argc > 2 ? strtoul(argv[2], NULL, 10) : 65536;
	char *buffer = aligned_alloc(4096, (chunk + 4095) & ~(size_t)4095), byte;

	if (!buffer || !chunk)
		return 2;
	for (size_t i = 0; i < chunk; i++)
		buffer[i] = 0;
	if (argc > 3 && read(STDIN_FILENO, &byte, 1) < 0)
		return 1;
	while (left) {
		ssize_t n = write(STDOUT_FILENO, buffer, left < chunk ? (size_t)left : chunk);

		if (n < 0)
			return 1;
		left -= (unsigned long long)n;
	}
	return 0;
}
