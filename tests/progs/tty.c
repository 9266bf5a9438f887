/* tty: tells about its terminal, one line each: "tty yes|no" for 0, 1 and 2, "control yes|no",
 * "size ROWS COLUMNS", then a "size" line for every SIGWINCH until stdin ends or has a line. */
#include <fcntl.h>
#include <poll.h>
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
	struct pollfd in = { STDIN_FILENO, POLLIN, 0 };
	int control = open("/dev/tty", O_RDWR);
	sigset_t winch, none;

	/* It comes only while we wait, so none is missed between a look and the next wait. */
	sigemptyset(&none);
	sigemptyset(&winch);
	sigaddset(&winch, SIGWINCH);
	sigprocmask(SIG_BLOCK, &winch, NULL);
	sigaction(SIGWINCH, &action, NULL);
	printf("tty %s %s %s\n", isatty(0) ? "yes" : "no", isatty(1) ? "yes" : "no",
	       isatty(2) ? "yes" : "no");
	printf("control %s\n", control >= 0 && tcgetpgrp(control) == getpgrp() ? "yes" : "no");
	size_print();
	while (ppoll(&in, 1, NULL, &none) < 0)
		size_print();
	return 0;
}
