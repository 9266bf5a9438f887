#include "broker/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

int pty_open(const struct pty_size *size, int ret_fds[2])
{
	_cleanup_(fd_closep) int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	_cleanup_(fd_closep) int peer = -1;
	int r;

	if (master < 0 || unlockpt(master) < 0)
		return err_errno();
	/* By the master, not by name: no path is looked up (ioctl_tty(2), Linux 4.13). */
	peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (peer < 0)
		return err_errno();
	r = pty_resize(master, size);
	if (r < 0)
		return err_pass(r);
	ret_fds[0] = TAKE_FD(master);
	ret_fds[1] = TAKE_FD(peer);
	return 0;
}

int pty_resize(int master, const struct pty_size *size)
{
	struct winsize w = { .ws_row = size->rows,
			     .ws_col = size->columns,
			     .ws_xpixel = size->x_pixels,
			     .ws_ypixel = size->y_pixels };

	return ioctl(master, TIOCSWINSZ, &w) < 0 ? err_errno() : 0;
}

int pty_size(int master, struct pty_size *ret)
{
	struct winsize w;

	if (ioctl(master, TIOCGWINSZ, &w) < 0)
		return err_errno();
	*ret = (struct pty_size){ w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel };
	return 0;
}

bool pty_is_canonical(int master, char *ret_eof)
{
	struct termios t;

	/* On Linux the master answers for the pair. */
	if (tcgetattr(master, &t) < 0 || !(t.c_lflag & ICANON))
		return false;
	*ret_eof = (char)t.c_cc[VEOF];
	return true;
}
