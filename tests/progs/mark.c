/* mark FILE TEXT: appends one line to the file in a single write, so that a test can count how
 * often each TEXT ran. Leaves with 0 when it is there. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char line[512];
	int fd, n;

	if (argc < 3)
		return 2;
	n = snprintf(line, sizeof(line), "%s\n", argv[2]);
	fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return fd < 0 || n >= (int)sizeof(line) || write(fd, line, (size_t)n) != n;
}
