/* ticker STATUS EVERY_MS COUNT [stay]: leaves with STATUS at once, while a child of its own keeps
 * stdout and stderr open, prints its process id, and then COUNT times, every EVERY_MS, "tick N".
 * Behind the last one it leaves too, or stays until killed with "stay". */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static void tick(long every_ms, long count)
{
	for (long i = 0; i < count; i++) {
		wait_ms(every_ms);
		printf("tick %ld\n", i);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	int ready[2];
	char byte;

	if (argc < 4 || pipe(ready) < 0)
		return 99;
	if (fork() == 0) {
		close(ready[0]);
		printf("%d\n", (int)getpid());
		fflush(stdout);
		close(ready[1]);
		tick(atol(argv[2]), atol(argv[3]));
		while (argc > 4)
			pause();
		return 0;
	}
	close(ready[1]);
	/* The first line is in the pipe before the leader goes. */
	if (read(ready[0], &byte, 1) < 0)
		return 99;
	return atoi(argv[1]);
}
