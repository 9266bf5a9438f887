/* say TEXT [FD...]: writes TEXT and a newline in one write to each FD (1), and leaves with 0: the
 * shortest life in which something is said. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int put(int fd, const char *text, size_t size)
{
	return write(fd, text, size) != (ssize_t)size;
}

int main(int argc, char **argv)
{
	size_t size = argc > 1 ? strlen(argv[1]) + 1 : 0;
	char text[4096];
	int bad = 0;

	if (!size || size > sizeof(text))
		return 2;
	memcpy(text, argv[1], size - 1);
	text[size - 1] = '\n';
	if (argc == 2)
		return put(STDOUT_FILENO, text, size);
	for (int i = 2; i < argc; i++)
		bad |= put(atoi(argv[i]), text, size);
	return bad;
}
