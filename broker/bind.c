/* The lock comes first: who holds `path`.lock owns the name. Its file may be unlinked by the one
 * that leaves, so after locking we look whether the name still is the file that we locked, and
 * start over if not. The socket gets its mode by fchmod before bind (bind copies it), listens under
 * a temporary name, and is renamed into place: a client finds either nothing, or somebody who
 * answers. One for everyone is opened up before it has its name.
 *
 * The directory is opened once; socket names are reached through /proc/self/fd/N, which also makes
 * paths possible that are longer than sockaddr_un holds (unix(7), 108 bytes).
 */
#include "broker/bind.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xxhash.h>

#include "proto/base/cleanup.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

#define REFUSE(...) (snprintf(error, 256, __VA_ARGS__), BIND_E_REFUSED)

struct place {
	char directory[PATH_MAX];
	char name[NAME_MAX + 1];
};

static int place_split(struct place *p, const char *path, char error[256])
{
	char copy[PATH_MAX];
	const char *name;

	if (!*path || strlen(path) >= sizeof(copy) - 16)
		return REFUSE("socket path is empty or longer than %d bytes", PATH_MAX - 17);
	if (*path == '@')
		return REFUSE(
			"abstract socket '%.100s': only paths are served, since an abstract name "
			"has no owner and no mode",
			path);
	strcpy(copy, path);
	name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	if (!*name || strlen(name) > NAME_MAX - 16)
		return REFUSE("socket path %.150s has no usable last part", path);
	strcpy(p->name, name);
	strcpy(p->directory, dirname(copy));
	return 0;
}

static int directory_open(const struct place *p, bool everyone, int *ret_fd, char error[256])
{
	_cleanup_(fd_closep) int fd = -1;
	struct stat st;
	int r = mkdir(p->directory, 0700);

	if (r == 0 && everyone)
		r = chmod(p->directory, 0755); /* whatever our umask */
	if (r < 0 && errno != EEXIST)
		return REFUSE("directory %.150s cannot be made: %s", p->directory, err_name(errno));
	fd = open(p->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return REFUSE("directory %.150s cannot be opened: %s", p->directory,
			      err_name(errno));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return REFUSE("directory %.150s belongs to uid %u; use one of your own",
			      p->directory, st.st_uid);
	if ((st.st_mode & 022) && !(st.st_mode & S_ISVTX))
		return REFUSE("directory %.150s can be written by others; chmod go-w it",
			      p->directory);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int lock_refused(int fd, const char *path, char error[256])
{
	char pid[16] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
	return REFUSE("another redd-broker (pid %s) serves %.150s; use that one, or end it with "
		      "'redd shutdown'",
		      *pid ? pid : "unknown", path);
}

static int lock_take(int dir, const char *name, const char *path, int *ret_lock, char error[256])
{
	char lock[NAME_MAX + 1], pid[16];

	snprintf(lock, sizeof(lock), "%.*s.lock", NAME_MAX - 8, name);
	for (;;) {
		_cleanup_(fd_closep) int fd =
			openat(dir, lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		struct stat held, named;

		if (fd < 0)
			return REFUSE("lock file %.150s.lock cannot be opened: %s", path,
				      err_name(errno));
		if (flock(fd, LOCK_EX | LOCK_NB) < 0)
			return errno == EWOULDBLOCK ? lock_refused(fd, path, error) : err_errno();
		if (fstat(fd, &held) < 0)
			return err_errno();
		if (fstatat(dir, lock, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
		    named.st_ino != held.st_ino || named.st_dev != held.st_dev)
			continue; /* its former holder left and took the name away */
		snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
		if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, strlen(pid), 0) < 0)
			return REFUSE("lock file %.150s.lock cannot be written: %s", path,
				      err_name(errno));
		*ret_lock = TAKE_FD(fd);
		return 0;
	}
}

static int socket_at(int dir, const char *name, bool everyone, int *ret_fd)
{
	_cleanup_(fd_closep) int fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char temporary[32];

	if (fd < 0)
		return err_errno();
	/* Of the name, so that the lock covers it too: what a start left that was killed here is
	 * found by the next one. Short, as the name itself may be longer than an address. */
	snprintf(temporary, sizeof(temporary), ".redd-%016llx",
		 (unsigned long long)XXH3_64bits(name, strlen(name)));
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, temporary);
	unlinkat(dir, temporary, 0);
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return err_errno();
	/* What bind copies is less our umask. */
	if ((everyone && fchmodat(dir, temporary, 0666, 0) < 0) || listen(fd, SOMAXCONN) < 0 ||
	    renameat(dir, temporary, dir, name) < 0) {
		int r = err_errno();

		unlinkat(dir, temporary, 0);
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int bind_path(const char *path, bool everyone, int *ret_listener, int *ret_lock, char error[256])
{
	_cleanup_(fd_closep) int dir = -1, lock = -1;
	struct stat st;
	struct place place;
	int r;

	r = place_split(&place, path, error);
	if (!r)
		r = directory_open(&place, everyone, &dir, error);
	if (!r)
		r = lock_take(dir, place.name, path, &lock, error);
	if (r)
		return err_pass(r);
	if (fstatat(dir, place.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(st.st_mode))
		return REFUSE("%.150s exists and is not a socket; remove it or choose another path",
			      path);
	r = socket_at(dir, place.name, everyone, ret_listener);
	if (r)
		return err_pass(r);
	*ret_lock = TAKE_FD(lock);
	return 0;
}

int bind_check_inherited(int fd, char error[256])
{
	struct sockaddr_un address;
	socklen_t size = sizeof(address), int_size = sizeof(int);
	int type = 0, listening = 0;

	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
	    address.sun_family != AF_UNIX)
		return REFUSE("inherited descriptor %d is not a unix socket", fd);
	if (size <= offsetof(struct sockaddr_un, sun_path) || !address.sun_path[0])
		return REFUSE(
			"inherited socket %d has no path; abstract and unnamed ones are not served",
			fd);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_size) < 0 || type != SOCK_STREAM)
		return REFUSE("inherited socket %d is not a stream socket", fd);
	int_size = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_size) < 0 || !listening)
		return REFUSE("inherited socket %d does not listen", fd);
	return 0;
}
