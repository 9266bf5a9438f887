/* The wrappers. One order at a time; counting costs nothing when there is none. */
#include "tests/lib/countdown.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>

static struct {
	enum countdown call;
	unsigned left; /* 0: none */
	int error;
	bool fired;
} order;

void countdown_arm(enum countdown call, unsigned nth, int error)
{
	order.call = call;
	order.left = nth;
	order.error = error;
	order.fired = false;
}

bool countdown_off(void)
{
	order.left = 0;
	return order.fired;
}

static bool fails(enum countdown call)
{
	if (!order.left || order.call != call || --order.left)
		return false;
	order.fired = true;
	errno = order.error;
	return true;
}

#define WRAP(kind, type, failure, name, parameters, arguments)          \
	type __real_##name parameters;                                  \
	type __wrap_##name parameters;                                  \
	type __wrap_##name parameters                                   \
	{                                                               \
		return fails(kind) ? failure : __real_##name arguments; \
	}

WRAP(COUNTDOWN_MALLOC, void *, NULL, malloc, (size_t n), (n))
WRAP(COUNTDOWN_MALLOC, void *, NULL, calloc, (size_t n, size_t size), (n, size))
WRAP(COUNTDOWN_MALLOC, void *, NULL, realloc, (void *p, size_t n), (p, n))
WRAP(COUNTDOWN_MALLOC, char *, NULL, strdup, (const char *s), (s))
WRAP(COUNTDOWN_MALLOC, char *, NULL, strndup, (const char *s, size_t n), (s, n))
WRAP(COUNTDOWN_MMAP, void *, MAP_FAILED, mmap,
     (void *at, size_t size, int protection, int flags, int fd, off_t offset),
     (at, size, protection, flags, fd, offset))
WRAP(COUNTDOWN_FTRUNCATE, int, -1, ftruncate, (int fd, off_t size), (fd, size))
WRAP(COUNTDOWN_MEMFD, int, -1, memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(COUNTDOWN_SOCKET, int, -1, socket, (int domain, int type, int protocol),
     (domain, type, protocol))
WRAP(COUNTDOWN_SOCKET, int, -1, socketpair, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds))
WRAP(COUNTDOWN_SOCKET, int, -1, accept4,
     (int fd, struct sockaddr *address, socklen_t *size, int flags), (fd, address, size, flags))
WRAP(COUNTDOWN_PIPE, int, -1, pipe2, (int fds[2], int flags), (fds, flags))
WRAP(COUNTDOWN_EVENTFD, int, -1, eventfd, (unsigned value, int flags), (value, flags))
WRAP(COUNTDOWN_READ, ssize_t, -1, read, (int fd, void *data, size_t size), (fd, data, size))
WRAP(COUNTDOWN_READ, ssize_t, -1, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
WRAP(COUNTDOWN_WRITE, ssize_t, -1, write, (int fd, const void *data, size_t size), (fd, data, size))
WRAP(COUNTDOWN_WRITE, ssize_t, -1, sendmsg, (int fd, const struct msghdr *m, int flags),
     (fd, m, flags))
WRAP(COUNTDOWN_SPLICE, ssize_t, -1, splice,
     (int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags),
     (in, in_at, out, out_at, size, flags))
