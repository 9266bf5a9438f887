#include "helper/proc.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/raw.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

/* As getdents64(2) gives it. */
struct entry {
	uint64_t inode;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* Field numbers as in proc(5); those after the name. */
enum {
	FIELD_STATE = 3,
	FIELD_PARENT,
	FIELD_GROUP,
	FIELD_SESSION,
	FIELD_FLAGS = 9,
	FIELD_USER = 14,
	FIELD_SYSTEM = 15,
	FIELD_START = 22
};

static void take_field(struct proc_stat *s, int field, uint64_t value)
{
	switch (field) {
	case FIELD_PARENT:
		s->parent = (pid_t)value;
		break;
	case FIELD_GROUP:
		s->group = (pid_t)value;
		break;
	case FIELD_SESSION:
		s->session = (pid_t)value;
		break;
	case FIELD_FLAGS:
		s->flags = (uint32_t)value;
		break;
	case FIELD_USER:
	case FIELD_SYSTEM:
		s->cpu_ticks += value;
		break;
	case FIELD_START:
		s->start_ticks = value;
		break;
	default:
		break;
	}
}

bool proc_stat_parse(const char *text, size_t size, struct proc_stat *ret)
{
	struct proc_stat s = { 0 };
	char copy[1024];
	char *at, *end;

	size = size < sizeof(copy) - 1 ? size : sizeof(copy) - 1;
	memcpy(copy, text, size);
	copy[size] = '\0';
	s.pid = (pid_t)strtol(copy, &end, 10);
	at = memrchr(copy, ')', size); /* the name may hold one too, nothing after it does */
	if (end == copy || !at || at[1] != ' ' || !at[2])
		return false;
	s.state = at[2];
	at += 3;
	for (int field = FIELD_PARENT; field <= FIELD_START; field++) {
		uint64_t value = strtoull(at, &end, 10); /* negative ones are not of interest */

		if (end == at)
			return false;
		take_field(&s, field, value);
		at = end;
	}
	*ret = s;
	return true;
}

static int open_of(pid_t pid, const char *what, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	fd = open(path, flags | O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

int proc_stat_read(pid_t pid, struct proc_stat *ret)
{
	_cleanup_(fd_closep) int fd = open_of(pid, "stat", 0);
	char text[1024];
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, text, sizeof(text));
	if (n < 0)
		return -errno;
	return proc_stat_parse(text, (size_t)n, ret) ? 0 : -ESRCH;
}

pid_t proc_of_pidfd(int fd)
{
	char path[64], text[1024], *at;
	_cleanup_(fd_closep) int info = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (n < 0)
		return -1;
	text[n] = '\0';
	at = strstr(text, "\nPid:");
	return at ? (pid_t)strtol(at + 5, NULL, 10) : -1;
}

/* --- environment -------------------------------------------------------------------------------
 */

struct entry_text {
	char text[PROC_ENTRY_SIZE];
	size_t size; /* with what did not fit */
};

/* True when that was the end of an entry that fits. */
static bool entry_add(struct entry_text *e, char byte)
{
	bool is_whole = byte == '\0' && e->size < sizeof(e->text);

	if (e->size < sizeof(e->text))
		e->text[e->size] = byte;
	e->size = byte == '\0' ? 0 : e->size + 1;
	return is_whole;
}

/* Whether a file of the process, which is not empty while it runs a program, is so now. */
static bool is_empty(pid_t pid, const char *what)
{
	_cleanup_(fd_closep) int fd = open_of(pid, what, 0);
	char byte;

	return fd >= 0 && read(fd, &byte, 1) == 0;
}

int proc_find_environment(pid_t pid, bool (*each)(const char *entry, void *context), void *context)
{
	_cleanup_(fd_closep) int fd = open_of(pid, "environ", 0);
	struct entry_text e = { .size = 0 };
	bool is_any = false;
	char text[4096];
	ssize_t n;

	if (fd < 0)
		return fd;
	while ((n = read(fd, text, sizeof(text))) > 0) {
		is_any = true;
		for (ssize_t i = 0; i < n; i++)
			if (entry_add(&e, text[i]) && each(e.text, context))
				return 1;
	}
	if (n < 0)
		return -errno;
	return !is_any && is_empty(pid, "cmdline") ? -EAGAIN : 0;
}

/* --- directories -------------------------------------------------------------------------------
 */

/* Calls back with every entry whose name is a number. 0 or a negative errno. */
static int each_number(int dir, bool (*each)(int number, void *context), void *context)
{
	_Alignas(struct entry) char room[8192];
	long size;

	while ((size = raw(SYS_getdents64, dir, room, sizeof(room))) > 0) {
		for (long at = 0; at < size;) {
			const struct entry *e = (const struct entry *)(room + at);

			if (isdigit((unsigned char)e->name[0]) && !each(atoi(e->name), context))
				return 0;
			at += e->size;
		}
	}
	return (int)size;
}

int proc_each(bool (*each)(pid_t pid, void *context), void *context)
{
	_cleanup_(fd_closep) int dir = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? err_errno() : each_number(dir, each, context);
}

struct fd_walk {
	pid_t pid;
	int dir;
	bool (*each)(pid_t pid, int fd, const char *link, void *context);
	void *context;
};

static bool each_fd(int fd, void *context)
{
	struct fd_walk *w = context;
	char name[16], link[256];
	ssize_t n;

	snprintf(name, sizeof(name), "%d", fd);
	n = readlinkat(w->dir, name, link, sizeof(link) - 1);
	if (n < 0)
		return true; /* closed meanwhile */
	link[n] = '\0';
	return w->each(w->pid, fd, link, w->context);
}

int proc_each_fd(pid_t pid, bool (*each)(pid_t pid, int fd, const char *link, void *context),
		 void *context)
{
	_cleanup_(fd_closep) int dir = open_of(pid, "fd", O_DIRECTORY);
	struct fd_walk w = { pid, dir, each, context };

	return dir < 0 ? dir : each_number(dir, each_fd, &w);
}
