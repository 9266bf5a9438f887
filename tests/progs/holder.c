/* holder STATUS FIFO [TEXT]: leaves with STATUS at once, while a child of its own keeps stdout and
 * stderr open, prints its process id, and stays until somebody opens the FIFO for writing and
 * closes it; then it writes TEXT, if given, and leaves. With "-" for FIFO it stays until killed. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void wait_for(const char *fifo)
{
	char byte;
	int fd;

	if (!strcmp(fifo, "-"))
		for (;;)
			pause();
	fd = open(fifo, O_RDONLY);
	while (fd >= 0 && read(fd, &byte, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	int ready[2];
	char byte;

	if (argc < 3 || pipe(ready) < 0)
		return 99;
	if (fork() == 0) {
		close(ready[0]);
		printf("%d\n", (int)getpid());
		fflush(stdout);
		close(ready[1]);
		wait_for(argv[2]);
		if (argc > 3)
			fputs(argv[3], stdout);
		return 0;
	}
	close(ready[1]);
	/* The text is in the pipe before the leader goes. */
	if (read(ready[0], &byte, 1) < 0)
		return 99;
	return atoi(argv[1]);
}
