/* packets HEADER COUNT MOST: writes that many packets of tests/lib/packet.h to stdout, each with a
 * big-endian length of HEADER bytes in front. */
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/packet.h"

static char buffer[1 << 20];

static int put(size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = write(STDOUT_FILENO, buffer + done, size - done);

		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned header = argc == 4 ? (unsigned)atoi(argv[1]) : 0, count, most;
	size_t used = 0;

	if (header < 1 || header > 4)
		return 2;
	count = (unsigned)atoi(argv[2]);
	most = (unsigned)atoi(argv[3]);
	for (unsigned n = 0; n < count; n++) {
		size_t size = packet_size(n, most);

		if (used + header + size > sizeof(buffer)) {
			if (put(used))
				return 1;
			used = 0;
		}
		for (unsigned i = header; i-- > 0;)
			buffer[used++] = (char)(size >> 8 * i);
		packet_fill(buffer + used, n, most);
		used += size;
	}
	return put(used) ? 1 : 0;
}
