/* cat [RECORD]: copies stdin to stdout until its end. What was read is appended to the file RECORD
 * too. Leaves with 0, or 1 when reading or writing failed. */
#include <fcntl.h>
#include <unistd.h>

static char buffer[1 << 16];

static int put(int fd, const char *data, ssize_t size)
{
	while (size) {
		ssize_t n = write(fd, data, (size_t)size);

		if (n < 0)
			return -1;
		data += n;
		size -= n;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int record = argc > 1 ? open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
	ssize_t n;

	if (argc > 1 && record < 0)
		return 1;
	while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0) {
		if (record >= 0 && put(record, buffer, n) < 0)
			return 1;
		if (put(STDOUT_FILENO, buffer, n) < 0)
			return 1;
	}
	return n < 0;
}
