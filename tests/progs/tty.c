/* tty: tells about its terminal, one line each: "tty yes|no" for 0, 1 and 2, "control yes|no",
 * "size ROWS COLUMNS", then a "size" line for every SIGWINCH until stdin ends or has a line. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void on_winch(int sig)
{
	(void)sig;
}

static void size_print(void)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		printf("size %d %d\n", size.ws_row, size.ws_col);
	fflush(stdout);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_winch };
	int control = open("/dev/tty", O_RDWR);
	char byte;

	sigaction(SIGWINCH, &action, NULL);
	printf("tty %s %s %s\n", isatty(0) ? "yes" : "no", isatty(1) ? "yes" : "no",
	       isatty(2) ? "yes" : "no");
	printf("control %s\n", control >= 0 && tcgetpgrp(control) == getpgrp() ? "yes" : "no");
	size_print();
	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		size_print();
	return 0;
}
