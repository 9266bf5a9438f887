/* port_program [-3]: a program as one writes it for Erlang's open_port({spawn, ...}, [{packet,
 * 4}]): it reads packets, each behind its length in 4 bytes, big-endian, and answers each with one
 * in capital letters. Standard input and output; with -3 descriptors 3 and 4 (nouse_stdio). It
 * knows nothing of redd, and runs under it as it is: see packets.c.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONGEST (16u << 20)

/* 1, 0 at the end, -1. */
static int read_exactly(int fd, void *to, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, (char *)to + done, size - done);

		if (n <= 0)
			return n < 0 || done ? -1 : 0;
		done += (size_t)n;
	}
	return 1;
}

static int write_exactly(int fd, const void *from, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = write(fd, (const char *)from + done, size - done);

		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 1;
}

int main(int argc, char **argv)
{
	int other = argc > 1 && !strcmp(argv[1], "-3");
	int in = other ? 3 : 0, out = other ? 4 : 1, r;
	char *packet = malloc(LONGEST);
	uint32_t header, size;

	if (!packet)
		return 1;
	while ((r = read_exactly(in, &header, sizeof(header))) > 0) {
		size = ntohl(header);
		if (size > LONGEST || (size && read_exactly(in, packet, size) <= 0))
			return 1;
		for (uint32_t i = 0; i < size; i++)
			packet[i] = (char)toupper((unsigned char)packet[i]);
		if (write_exactly(out, &header, sizeof(header)) < 0 ||
		    write_exactly(out, packet, size) < 0)
			return 1;
	}
	free(packet);
	return r < 0;
}
