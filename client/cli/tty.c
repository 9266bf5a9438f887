#include "client/cli/tty.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "client/cli/guardian.h"

/* There is one terminal, and atexit(3) takes no argument. */
static struct {
	int fd; /* -1: it is as it was */
	bool registered;
	struct termios before;
	struct guardian guardian;
} saved = { .fd = -1 };

int tty_raw(int fd)
{
	struct termios raw;
	int e;

	if (tcgetattr(fd, &saved.before) < 0)
		return -errno;
	if (!saved.registered && atexit(tty_restore))
		return -ENOMEM;
	saved.registered = true;
	e = guardian_start(&saved.guardian, fd, &saved.before);
	if (e < 0)
		return e;
	raw = saved.before;
	cfmakeraw(&raw);
	/* Drain: what was written before must still get its carriage returns. */
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0) {
		e = -errno;
		guardian_stop(&saved.guardian);
		return e;
	}
	saved.fd = fd;
	return 0;
}

void tty_restore(void)
{
	int fd = saved.fd;

	if (fd < 0)
		return;
	saved.fd = -1;
	while (tcsetattr(fd, TCSADRAIN, &saved.before) < 0 && errno == EINTR)
		;
	guardian_stop(&saved.guardian);
}

bool tty_size(int fd, struct redd_terminal *ret)
{
	struct winsize w;

	if (ioctl(fd, TIOCGWINSZ, &w) < 0)
		return false;
	*ret = (struct redd_terminal){ w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel };
	return true;
}

bool tty_is_ours(int fd)
{
	pid_t foreground = tcgetpgrp(fd);

	/* Not our controlling terminal: then nobody stops us for reading. */
	return foreground < 0 || foreground == getpgrp();
}
