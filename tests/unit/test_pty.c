#include "broker/pty.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "proto/base/fd.h"

static int fds[2] = { -1, -1 }, fds_before;

static void init(void)
{
	fds_before = fd_count();
	cr_assert_eq(pty_open(&(struct pty_size){ 24, 80, 640, 480 }, fds), 0);
}

static void fini(void)
{
	fd_close_many(fds, 2);
	cr_assert_eq(fd_count(), fds_before);
}

TestSuite(pty, .timeout = 10, .init = init, .fini = fini);

static void has_size(unsigned rows, unsigned columns, unsigned x, unsigned y)
{
	struct winsize w;

	cr_assert_eq(ioctl(fds[1], TIOCGWINSZ, &w), 0);
	cr_assert_eq(w.ws_row, rows);
	cr_assert_eq(w.ws_col, columns);
	cr_assert_eq(w.ws_xpixel, x);
	cr_assert_eq(w.ws_ypixel, y);
}

static void set_raw(void)
{
	struct termios t;

	cr_assert_eq(tcgetattr(fds[1], &t), 0);
	cfmakeraw(&t);
	cr_assert_eq(tcsetattr(fds[1], TCSANOW, &t), 0);
}

Test(pty, the_pair_is_one_terminal_of_the_given_size)
{
	char byte;

	cr_assert(isatty(fds[1]));
	has_size(24, 80, 640, 480);
	set_raw();
	cr_assert_eq(write(fds[0], "a", 1), 1);
	cr_assert_eq(read(fds[1], &byte, 1), 1);
	cr_assert_eq(byte, 'a');
	cr_assert_eq(write(fds[1], "b", 1), 1);
	cr_assert_eq(read(fds[0], &byte, 1), 1);
	cr_assert_eq(byte, 'b');
}

Test(pty, both_ends_are_closed_on_exec_and_nobodys_controlling_terminal)
{
	cr_assert(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(tcgetsid(fds[1]), -1);
}

Test(pty, the_childs_end_is_its_users_only)
{
	struct stat st;

	cr_assert_eq(fstat(fds[1], &st), 0);
	cr_assert_eq(st.st_uid, geteuid());
	cr_assert_eq(st.st_mode & 0006, 0, "mode %o", st.st_mode);
}

Test(pty, it_is_resized_from_nothing_to_the_largest)
{
	cr_assert_eq(pty_resize(fds[0], &(struct pty_size){ 0, 0, 0, 0 }), 0);
	has_size(0, 0, 0, 0);
	cr_assert_eq(pty_resize(fds[0], &(struct pty_size){ 65535, 65535, 65535, 65535 }), 0);
	has_size(65535, 65535, 65535, 65535);
}

Test(pty, what_is_no_terminal_cannot_be_resized)
{
	int pipe_fds[2];
	char eof = 'x';

	cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	cr_assert_eq(pty_resize(pipe_fds[0], &(struct pty_size){ 1, 1, 0, 0 }), -ENOTTY);
	cr_assert(!pty_is_canonical(pipe_fds[0], &eof));
	cr_assert_eq(eof, 'x');
	fd_close_many(pipe_fds, 2);
	cr_assert_eq(pty_resize(-1, &(struct pty_size){ 1, 1, 0, 0 }), -EBADF);
}

Test(pty, canonical_mode_and_its_end_of_file_are_seen_from_the_master)
{
	struct termios t;
	char eof = 0, bytes[8];

	cr_assert(pty_is_canonical(fds[0], &eof));
	cr_assert_eq(eof, 4, "^D");
	cr_assert_eq(tcgetattr(fds[1], &t), 0);
	t.c_cc[VEOF] = 5;
	cr_assert_eq(tcsetattr(fds[1], TCSANOW, &t), 0);
	cr_assert(pty_is_canonical(fds[0], &eof));
	cr_assert_eq(eof, 5);
	cr_assert_eq(write(fds[0], "ab\005", 3), 3);
	cr_assert_eq(read(fds[1], bytes, sizeof(bytes)), 2, "it delivers the line that was begun");
	cr_assert_eq(write(fds[0], &eof, 1), 1);
	cr_assert_eq(read(fds[1], bytes, sizeof(bytes)), 0, "and then it is the end of file");
	set_raw();
	cr_assert(!pty_is_canonical(fds[0], &eof));
}

Test(pty, without_descriptors_there_is_none_and_nothing_is_left)
{
	struct rlimit old, low;
	int more[2] = { -1, -1 }, n = fd_count();

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	for (rlim_t limit = 0; limit < (rlim_t)fds[1] + 2; limit++) {
		low.rlim_cur = limit;
		cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
		cr_assert_eq(pty_open(&(struct pty_size){ 24, 80, 0, 0 }, more), -EMFILE);
	}
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	cr_assert_eq(more[0], -1);
	cr_assert_eq(fd_count(), n);
}
