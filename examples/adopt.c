/* adopt NAME: gives the service one end of a socket pair as a port and keeps the other, so that
 * every client that may can talk to this program, late, several at once, and by `redd write` and
 * `redd logs` too. It answers each line in capitals, until one says bye.
 *
 *	cc adopt.c $(pkg-config --cflags --libs redd) -o adopt
 */
#include <ctype.h>
#include <redd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int answer(int fd)
{
	FILE *in = fdopen(fd, "r");
	char line[4096];

	while (in && fgets(line, sizeof(line), in) && strcmp(line, "bye\n")) {
		size_t size = strlen(line);

		for (size_t i = 0; i < size; i++)
			line[i] = (char)toupper((unsigned char)line[i]);
		if (write(fd, line, size) != (ssize_t)size)
			return 1;
	}
	return !in || ferror(in);
}

int main(int argc, char **argv)
{
	struct redd_adopt_options o = { .size = sizeof(o),
					.reads = true,
					.writes = true,
					/* It stays when we disconnect, as we do at once. */
					.port.orphan = REDD_ORPHAN_KEEP };
	struct redd *r = redd_new();
	struct redd_port *port;
	int pair[2];

	if (argc != 2 || !r || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
		fprintf(stderr, "usage: adopt NAME\n");
		return 2;
	}
	o.port.name = argv[1];
	o.read_fd = o.write_fd = pair[0];
	if (redd_connect(r, NULL) || redd_adopt(r, &o, &port)) {
		fprintf(stderr, "adopt: %s\n", redd_last_error(r)->message);
		redd_free(r);
		return 125;
	}
	/* The service has a copy of its own. */
	close(pair[0]);
	redd_free(r);
	printf("%s is there\n", argv[1]);
	fflush(stdout);
	return answer(pair[1]);
}
