#include "helper/fdclose.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "helper/raw.h"

/* As getdents64(2) gives it. */
struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

size_t fdclose_order(int *fds, size_t n)
{
	size_t out = 0;

	for (size_t i = 1; i < n; i++)
		for (size_t j = i; j > 0 && fds[j - 1] > fds[j]; j--) {
			int fd = fds[j];

			fds[j] = fds[j - 1];
			fds[j - 1] = fd;
		}
	for (size_t i = 0; i < n; i++)
		if (!out || fds[out - 1] != fds[i])
			fds[out++] = fds[i];
	return out;
}

static bool is_kept(const int *keep, size_t n, int fd)
{
	for (size_t i = 0; i < n; i++)
		if (keep[i] == fd)
			return true;
	return false;
}

static long close_between(unsigned int first, unsigned int last)
{
	return first > last ? 0 : raw(SYS_close_range, first, last, 0);
}

/* 0, or what close_range(2) said. */
static long close_gaps(const int *keep, size_t n)
{
	unsigned int first = 0;
	long r = 0;

	for (size_t i = 0; i < n && !r; i++) {
		if (keep[i] > 0)
			r = close_between(first, (unsigned int)keep[i] - 1);
		first = (unsigned int)keep[i] + 1;
	}
	return r ? r : close_between(first, UINT_MAX);
}

/* A negative number for "." and "..". */
static int parse_number(const char *name)
{
	int fd = 0;

	for (; *name; name++) {
		if (*name < '0' || *name > '9')
			return -1;
		fd = fd * 10 + (*name - '0');
	}
	return fd;
}

int fdclose_others_by_proc(const int *keep, size_t n)
{
	_Alignas(struct entry) char room[1024];
	long dir = raw(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long size;

	if (dir < 0)
		return (int)dir;
	/* The kernel goes on by number, so closing what was just read disturbs nothing. */
	while ((size = raw(SYS_getdents64, dir, room, sizeof(room))) > 0) {
		for (long at = 0; at < size;) {
			const struct entry *e = (const struct entry *)(room + at);
			int fd = parse_number(e->name);

			if (fd >= 0 && fd != (int)dir && !is_kept(keep, n, fd))
				raw(SYS_close, fd);
			at += e->size;
		}
	}
	raw(SYS_close, dir);
	return (int)size;
}

void fdclose_others_by_number(const int *keep, size_t n)
{
	struct rlimit limit = { .rlim_max = 1024 };

	/* A descriptor may be above a limit that was lowered later: the hard one is the better
	 * guess.
	 */
	raw(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
	for (int fd = 0; fd < (int)(limit.rlim_max < 1048576 ? limit.rlim_max : 1048576); fd++)
		if (!is_kept(keep, n, fd))
			raw(SYS_close, fd);
}

void fdclose_others(const int *keep, size_t n)
{
	if (close_gaps(keep, n) && fdclose_others_by_proc(keep, n))
		fdclose_others_by_number(keep, n);
}
