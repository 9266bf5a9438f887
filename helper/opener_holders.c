/* Who has a descriptor for one of these pipes, sockets or files: by the text of the links in
 * /proc/PID/fd, which touches no file system; only links to paths are looked at with statx(2), and
 * that without asking a server. Processes of others cannot be seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "helper/opener.h"
#include "helper/proc.h"

#define TIME_MAX_MS 1000

struct search {
	const struct opener_request *request;
	struct opener_reply *reply;
	int64_t until_ms;
	bool is_found; /* in the process at hand */
};

static bool is_wanted(const struct opener_request *r, uint64_t inode, const uint64_t *device)
{
	for (uint32_t i = 0; i < r->n_inodes; i++)
		if (r->inodes[i].inode == inode && (!device || r->inodes[i].device == *device))
			return true;
	return false;
}

/* "pipe:[123]", "socket:[123]": one numbering for all of them. */
static bool is_wanted_number(const struct opener_request *r, const char *link)
{
	const char *number = strstr(link, ":[");

	return number && is_wanted(r, strtoull(number + 2, NULL, 10), NULL);
}

static bool is_wanted_path(const struct opener_request *r, pid_t pid, int fd)
{
	char path[64];
	struct statx st;
	uint64_t device;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &st) < 0)
		return false;
	device = makedev(st.stx_dev_major, st.stx_dev_minor);
	return is_wanted(r, st.stx_ino, &device);
}

static bool each_fd(pid_t pid, int fd, const char *link, void *context)
{
	struct search *s = context;

	s->is_found = *link == '/' ? is_wanted_path(s->request, pid, fd)
				   : is_wanted_number(s->request, link);
	return !s->is_found;
}

static bool each_process(pid_t pid, void *context)
{
	struct search *s = context;

	if (opener_is_excluded(s->request, pid))
		return true;
	s->is_found = false;
	proc_each_fd(pid, each_fd, s);
	if (s->is_found) {
		s->reply->count++;
		if (s->reply->n_pids < SCAN_SURVIVORS_MAX)
			s->reply->pids[s->reply->n_pids++] = pid;
	}
	if (opener_now_ms() < s->until_ms)
		return true;
	s->reply->error = ETIMEDOUT;
	return false;
}

void opener_holders(const struct opener_request *request, struct opener_reply *ret)
{
	struct search s = { request, ret, opener_now_ms() + TIME_MAX_MS, false };
	int r = proc_each(each_process, &s);

	if (r < 0)
		ret->error = -r;
}
