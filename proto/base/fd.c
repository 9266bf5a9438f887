#include "proto/base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/err.h"

int fd_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd); /* never retried: on Linux it is closed, EINTR or not (close(2)) */
	errno = saved;
	return -1;
}

void fd_close_many(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fds[i] = fd_close(fds[i]);
}

int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return err_errno();
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno();
	return 0;
}

int fd_set_cloexec(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? err_errno() : 0;
}

int fd_dup(int fd, int *ret_fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return err_errno();
	*ret_fd = copy;
	return 0;
}

int fd_pipe(int ours, int ret_fds[2])
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno();
	/* The two ends are two open file descriptions: the child's stays blocking. */
	r = fd_set_nonblocking(fds[ours]);
	if (r < 0) {
		fd_close_many(fds, 2);
		return err_pass(r);
	}
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

int fd_write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size > 0) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno();
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

bool fd_is_high(int fd, unsigned reserve)
{
	static __thread long limit; /* asked for once: it is set before the program runs */

	if (!limit)
		limit = sysconf(_SC_OPEN_MAX);
	return fd >= limit - (long)reserve;
}

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* One by one: with thousands of them this takes milliseconds. */
static int count_each(void)
{
	_cleanup_(closedirp) DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (!dir)
		return err_errno();
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	return n - 1; /* the directory's own */
}

int fd_count(void)
{
	struct stat st;

	/* Since Linux 6.2 the directory's size is how many there are (proc(5)); before that 0. */
	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return (int)st.st_size;
	return count_each();
}
