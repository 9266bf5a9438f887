/* How not to block on a descriptor that others share: a pipe, a fifo or a terminal is opened once
 * more through /proc/self/fd, which gives an open file description of our own that may be
 * non-blocking; a socket has MSG_DONTWAIT; a regular file does not wait. Where opening is not
 * possible (no /proc, another owner, no reader) poll(2) is asked before, and no more than PIPE_BUF
 * bytes are written, for which a pipe that polls writable has room.
 *
 * A pipe that is found full again and again is made larger: with the usual 64 KiB its two ends wake
 * each other for every write. How much a pipe holds is nothing that its users can rely on.
 */
#include "client/cli/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A non-blocking open file of our own on the same pipe or terminal, or -1. */
static int open_again(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

#define PIPE_USUAL 65536
#define PIPE_GROWN (1 << 20)
#define FULL_TIMES 4

/* /dev/null, /dev/zero and their like never wait. */
static bool is_memory_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && major(st->st_rdev) == 1;
}

void endpoint_open(struct endpoint *e, int fd, int flags)
{
	struct stat st;

	*e = (struct endpoint){ .fd = fd, .origin = fd, .kind = ENDPOINT_SHARED };
	if (fstat(fd, &st) < 0)
		return; /* the first use will tell */
	e->terminal = S_ISCHR(st.st_mode) && isatty(fd);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || is_memory_device(&st)) {
		e->kind = ENDPOINT_PLAIN;
	} else if (S_ISSOCK(st.st_mode)) {
		e->kind = ENDPOINT_SOCKET;
	} else if (S_ISFIFO(st.st_mode) || e->terminal) {
		int own = open_again(fd, flags);

		if (own < 0)
			return;
		e->fd = own;
		e->kind = ENDPOINT_OWN;
		e->pipe = !e->terminal;
	}
}

void endpoint_close(struct endpoint *e)
{
	if (e->fd >= 0 && e->fd != e->origin)
		close(e->fd);
	if (e->origin >= 0)
		close(e->origin);
	e->fd = e->origin = -1;
}

/* It may fail for a quota: then it stays as it is. */
static void found_full(struct endpoint *e)
{
	if (e->pipe && ++e->full == FULL_TIMES && fcntl(e->fd, F_GETPIPE_SZ) < PIPE_GROWN)
		fcntl(e->fd, F_SETPIPE_SZ, PIPE_GROWN);
}

ssize_t endpoint_read(struct endpoint *e, void *buf, size_t size)
{
	ssize_t n;

	do {
		n = e->kind == ENDPOINT_SOCKET ? recv(e->fd, buf, size, MSG_DONTWAIT)
					       : read(e->fd, buf, size);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n >= PIPE_USUAL)
		found_full(e);
	return n;
}

ssize_t endpoint_write(struct endpoint *e, const void *data, size_t size)
{
	ssize_t n;

	if (e->kind == ENDPOINT_SHARED && size > PIPE_BUF)
		size = PIPE_BUF;
	do {
		n = e->kind == ENDPOINT_SOCKET
			    ? send(e->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
			    : write(e->fd, data, size);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno != EAGAIN)
		return -errno;
	found_full(e);
	return -EAGAIN;
}
