/* Finds the broker's socket and connects to it.
 *
 * A place that was named is taken as it is. The default place is ours to make, so it is looked at
 * before it is trusted: in /tmp a stranger may have made the directory first, and what answered
 * there would get our environment and our input.
 *
 * A path longer than a socket address holds (108 bytes) is reached through its directory's entry in
 * /proc/self/fd.
 */
#include "client/locate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/fdpass.h"

void place_deinit(struct place *p)
{
	free(p->path);
	p->path = NULL;
	p->fd = fd_close(p->fd);
	if (p->owns_door)
		fd_close(p->door);
	p->owns_door = false;
	p->door = -1;
}

int place_keep_door(struct place *p)
{
	int copy;

	if (fd_dup(p->door, &copy) < 0)
		return err_errno();
	p->door = copy;
	p->owns_door = true;
	return 0;
}

static int place_copy(struct place *p, const char *path, struct failure *failure)
{
	p->path = strdup(path);
	return p->path ? 0 : failure_set(failure, err_begin(-ENOMEM), "no memory for a path");
}

/* "fd:N". */
static int place_handed(const char *text, struct place *p, struct failure *failure)
{
	int domain = 0, type = 0;
	socklen_t size = sizeof(int);
	char *end;
	long n;

	errno = 0;
	n = strtol(text + 3, &end, 10);
	if (errno || end == text + 3 || *end || n < 0 || n > INT32_MAX)
		return failure_set(failure, -EINVAL, "'%s' is no descriptor; give fd:N", text);
	if (getsockopt((int)n, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 ||
	    getsockopt((int)n, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || domain != AF_UNIX ||
	    (type != SOCK_STREAM && type != SOCK_SEQPACKET))
		return failure_set(failure, -EINVAL,
				   "descriptor %ld is neither a stream socket that is connected to "
				   "a broker nor a door; hand over one of these",
				   n);
	*(type == SOCK_STREAM ? &p->fd : &p->door) = (int)n;
	return 0;
}

static int place_named(const char *text, struct place *p, struct failure *failure)
{
	if (!strncmp(text, "fd:", 3))
		return place_handed(text, p, failure);
	if (!*text)
		return failure_set(failure, -EINVAL, "the socket's path is empty; give one");
	return place_copy(p, text, failure);
}

static int place_default(struct place *p, struct failure *failure)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char path[64];

	p->ours = true;
	if (run && run[0] == '/') {
		if (asprintf(&p->path, "%s/redd/redd.sock", run) >= 0)
			return 0;
		p->path = NULL;
		return failure_set(failure, err_begin(-ENOMEM), "no memory for a path");
	}
	p->temporary = true;
	snprintf(path, sizeof(path), "/tmp/redd-%u/redd.sock", (unsigned)geteuid());
	return place_copy(p, path, failure);
}

int place_find(const char *socket, struct place *ret, struct failure *failure)
{
	const char *named = socket;

	*ret = (struct place){ .fd = -1, .door = -1 };
	if (!named) {
		named = getenv("REDD_SOCKET");
		if (named && !*named)
			named = NULL;
	}
	return named ? place_named(named, ret, failure) : place_default(ret, failure);
}

/* The directory of a path, in `out`. */
static int directory_of(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;

	if (!slash)
		return snprintf(out, size, ".") < (int)size ? 0 : -ENAMETOOLONG;
	if (length + 1 >= size)
		return -ENAMETOOLONG;
	memcpy(out, path, length);
	out[length] = '\0';
	if (!length)
		memcpy(out, "/", 2);
	return 0;
}

int place_check(const struct place *p, struct failure *failure)
{
	char directory[4096];
	struct stat st;

	if (directory_of(p->path, directory, sizeof(directory)) < 0)
		return failure_set(failure, -ENAMETOOLONG, "the path of the socket is too long");
	if (lstat(directory, &st) < 0)
		return errno == ENOENT ? -ENOENT
				       : failure_set(failure, -errno,
						     "%s: %s; give another "
						     "--socket",
						     directory, err_name(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return failure_set(failure, -EPERM,
				   "%s must be a directory of your own with mode 0700; mend or "
				   "remove it, or set REDD_SOCKET",
				   directory);
	return 0;
}

int place_make(const struct place *p, struct failure *failure)
{
	char directory[4096];

	if (directory_of(p->path, directory, sizeof(directory)) < 0)
		return failure_set(failure, -ENAMETOOLONG, "the path of the socket is too long");
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return failure_set(failure, -errno, "%s cannot be made: %s; set REDD_SOCKET",
				   directory, err_name(errno));
	return place_check(p, failure);
}

/* An address for any path: a long one by way of *ret_dir, which must stay open until connected. */
static int address_of(const char *path, struct sockaddr_un *a, int *ret_dir)
{
	const char *base = strrchr(path, '/');
	char directory[4096];
	int n;

	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof(a->sun_path)) {
		memcpy(a->sun_path, path, strlen(path) + 1);
		return 0;
	}
	if (!base || directory_of(path, directory, sizeof(directory)) < 0)
		return -ENAMETOOLONG;
	*ret_dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return -errno;
	n = snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d%s", *ret_dir, base);
	return n < (int)sizeof(a->sun_path) ? 0 : -ENAMETOOLONG;
}

/* A blocking connect that gives up: for Unix sockets the send timeout bounds the wait for a full
 * backlog, which no poll can. */
static int connect_within(const struct sockaddr_un *a, uint32_t timeout_ms, int *ret_fd)
{
	struct timeval limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000 + 1 };
	_cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_errno();
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return err_errno();
	while (connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0) {
		if (errno != EINTR)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* 0 or a negative errno: -EAGAIN while as many knock as may wait there. */
static int knock(const struct place *p, int *ret_fd)
{
	_cleanup_(fd_closep) int ours = -1, theirs = -1;
	struct iovec iov = { "c", 1 };
	int ends[2];
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	ours = ends[0];
	theirs = ends[1];
	n = fdpass_send(p->door, &iov, 1, &theirs, 1, MSG_DONTWAIT);
	if (n < 0)
		return (int)n;
	*ret_fd = TAKE_FD(ours);
	return 0;
}

int place_knock(const struct place *p, uint32_t timeout_ms, int *ret_fd, struct failure *failure)
{
	struct pollfd door = { p->door, POLLOUT, 0 };
	int r;

	if (poll(&door, 1, (int)MIN(timeout_ms, (uint32_t)INT32_MAX)) == 0)
		return failure_set(failure, -ETIMEDOUT,
				   "too many others knock at the door; try again later");
	r = knock(p, ret_fd);
	if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN)
		return failure_set(failure, r,
				   "nobody is behind the door any more (%s); ask who gave it for "
				   "another",
				   err_name(r));
	return r < 0 ? failure_set(failure, r, "the door cannot be knocked at: %s", err_name(r))
		     : 0;
}

int place_connect(const struct place *p, uint32_t timeout_ms, int *ret_fd, struct failure *failure)
{
	_cleanup_(fd_closep) int directory = -1;
	struct sockaddr_un address;
	int r = address_of(p->path, &address, &directory);

	if (r == 0)
		r = connect_within(&address, timeout_ms, ret_fd);
	if (r == 0)
		return 0;
	if (r == -ENOENT || r == -ECONNREFUSED)
		return failure_set(failure, r,
				   "no broker answers at %s; start one with redd-broker, or give "
				   "another --socket",
				   p->path);
	if (r == -ENAMETOOLONG)
		return failure_set(failure, r, "%s is too long for a socket; choose a shorter path",
				   p->path);
	return failure_set(failure, r, "%s: %s; see whether the broker there is yours and alive",
			   p->path, err_name(r));
}

int place_try(const struct place *p, int *ret_fd)
{
	_cleanup_(fd_closep) int directory = -1;
	_cleanup_(fd_closep) int fd = -1;
	struct sockaddr_un address;
	int r;

	if (p->door >= 0)
		return knock(p, ret_fd);
	r = address_of(p->path, &address, &directory);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}
