/* Reads /proc. Invariant: nothing is kept open; every figure is of one moment, but not all of the
 * same one: take a census when nothing moves. */
#include "tests/lib/census.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads a small file of /proc/PID; returns its size or -1. */
static ssize_t proc_read(pid_t pid, const char *file, char *out, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, out, size - 1);
	close(fd);
	if (n >= 0)
		out[n] = '\0';
	return n;
}

pid_t census_parent(pid_t pid, char *ret_state)
{
	char text[1024], *end;
	int parent = 0;

	*ret_state = 0;
	if (proc_read(pid, "stat", text, sizeof(text)) <= 0)
		return 0;
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1, " %c %d", ret_state, &parent) != 2)
		return 0;
	return parent;
}

char census_state(pid_t pid)
{
	char state;

	census_parent(pid, &state);
	return state;
}

static bool is_log(int directory, const char *name)
{
	static const char log[] = "/memfd:redd-ring";
	char target[64];
	ssize_t n = readlinkat(directory, name, target, sizeof(target));

	return n >= (ssize_t)sizeof(log) - 1 && !strncmp(target, log, sizeof(log) - 1);
}

static int count_fds(pid_t pid, bool of_logs)
{
	struct dirent *entry;
	char path[64];
	int count = 0;
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	directory = opendir(path);
	if (!directory)
		return -1;
	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.' && is_log(dirfd(directory), entry->d_name) == of_logs)
			count++;
	closedir(directory);
	return count;
}

int census_fds(pid_t pid)
{
	return count_fds(pid, false);
}

int census_logs(pid_t pid)
{
	return count_fds(pid, true);
}

int census_children(pid_t parent, pid_t *pids, int max)
{
	DIR *directory = opendir("/proc");
	struct dirent *entry;
	int count = 0;
	char state;

	if (!directory)
		return -1;
	while ((entry = readdir(directory))) {
		pid_t pid = atoi(entry->d_name);

		if (pid <= 0 || census_parent(pid, &state) != parent)
			continue;
		if (count < max)
			pids[count] = pid;
		count++;
	}
	closedir(directory);
	return count;
}

/* True when one of the process's arguments is this word or a path that ends in it. */
static int has_argument(pid_t pid, const char *word)
{
	char line[4096];
	ssize_t n = proc_read(pid, "cmdline", line, sizeof(line));

	for (char *p = line; n > 0 && p < line + n; p += strlen(p) + 1) {
		const char *slash = strrchr(p, '/');

		if (!strcmp(slash ? slash + 1 : p, word))
			return 1;
	}
	return 0;
}

/* Field `number` of /proc/PID/stat, from 3 on. */
static unsigned long long stat_field(pid_t pid, int number)
{
	char text[1024], *p;

	if (proc_read(pid, "stat", text, sizeof(text)) <= 0)
		return 0;
	p = strrchr(text, ')');
	for (int field = 2; p && field < number; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

/* True between clone and exec (PF_FORKNOEXEC): such a child still looks like who cloned it. */
static int has_not_executed(pid_t pid)
{
	return (stat_field(pid, 9) & 0x40) != 0;
}

pid_t census_child(pid_t parent, const char *word)
{
	char path[64];
	pid_t pid, found = 0;
	FILE *list;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
	list = fopen(path, "re");
	while (list && !found && fscanf(list, "%d", &pid) == 1)
		if (!has_not_executed(pid) && has_argument(pid, word)) /* in this order */
			found = pid;
	if (list)
		fclose(list);
	return found;
}

unsigned long long census_start(pid_t pid)
{
	return stat_field(pid, 22);
}

long census_cpu_ticks(pid_t pid)
{
	return (long)(stat_field(pid, 14) + stat_field(pid, 15));
}

long census_maps(pid_t pid)
{
	char path[64];
	long n = 0;
	FILE *maps;
	int c;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!maps)
		return -1;
	while ((c = getc(maps)) != EOF)
		n += c == '\n';
	fclose(maps);
	return n;
}

long census_rss(pid_t pid)
{
	char text[256];
	long pages;

	if (proc_read(pid, "statm", text, sizeof(text)) <= 0 ||
	    sscanf(text, "%*s %ld", &pages) != 1)
		return -1;
	return pages * sysconf(_SC_PAGESIZE);
}

long census_pss(pid_t pid)
{
	char text[4096];
	const char *line;
	long kib;

	if (proc_read(pid, "smaps_rollup", text, sizeof(text)) <= 0)
		return -1;
	line = strstr(text, "\nPss:");
	return line && sscanf(line, "\nPss: %ld", &kib) == 1 ? kib * 1024 : -1;
}

enum role { ROLE_GONE, ROLE_ZOMBIE, ROLE_BROKER, ROLE_FORKER, ROLE_OTHER };

static enum role role_of(pid_t pid)
{
	char state;

	if (!census_parent(pid, &state))
		return ROLE_GONE;
	if (state == 'Z')
		return ROLE_ZOMBIE;
	if (has_not_executed(pid))
		return ROLE_OTHER;
	if (has_argument(pid, "redd-broker"))
		return ROLE_BROKER;
	return has_argument(pid, "forker") ? ROLE_FORKER : ROLE_OTHER;
}

static void census_add(struct census *c, pid_t pid)
{
	switch (role_of(pid)) {
	case ROLE_GONE:
		break;
	case ROLE_ZOMBIE:
		c->zombies++;
		break;
	case ROLE_BROKER:
		c->broker = pid;
		c->broker_fds = census_fds(pid);
		c->broker_rss = census_rss(pid);
		break;
	case ROLE_FORKER:
		c->forker = pid;
		c->forker_fds = census_fds(pid);
		break;
	case ROLE_OTHER:
		c->processes++;
		break;
	}
}

static void print_process(pid_t pid)
{
	char line[256] = "", at[64] = "", state;
	ssize_t n = proc_read(pid, "cmdline", line, sizeof(line));
	pid_t parent = census_parent(pid, &state);

	proc_read(pid, "wchan", at, sizeof(at));
	for (ssize_t i = 0; i + 1 < n; i++)
		if (!line[i])
			line[i] = ' ';
	fprintf(stderr, "service: process %d, child of %d, state %c, in %s%s: %s\n", (int)pid,
		(int)parent, state ? state : '?', at, has_not_executed(pid) ? ", not executed" : "",
		line);
}

void census_print(pid_t keeper)
{
	pid_t pids[64];
	int n = census_children(keeper, pids, 64);

	for (int i = 0; i < n && i < 64; i++)
		if (role_of(pids[i]) == ROLE_OTHER)
			print_process(pids[i]);
}

int census_take(pid_t keeper, struct census *ret)
{
	enum { MOST = 32768 };
	pid_t *pids = calloc(MOST, sizeof(*pids));
	char state;
	bool is_asleep = census_parent(keeper, &state) && state == 'S';
	int n = pids ? census_children(keeper, pids, MOST) : -1;

	*ret = (struct census){
		.keeper = keeper,
		.is_settled = is_asleep,
		.broker_fds = -1,
		.forker_fds = -1,
		.ports = -1,
		.clients = -1,
		.log_bytes = -1,
	};
	ret->keeper_fds = census_fds(keeper);
	for (int i = 0; i < n && i < MOST; i++)
		census_add(ret, pids[i]);
	free(pids);
	return n < 0 || !census_parent(keeper, &state) ? -1 : 0;
}

static void compare_one(char *text, size_t size, const char *name, long before, long after)
{
	size_t used = strlen(text);

	if (before == after || before == -1 || after == -1 || used >= size)
		return;
	snprintf(text + used, size - used, "%s%s %ld -> %ld", used ? ", " : "", name, before,
		 after);
}

/* Fewer are not a leak: what the first spawn needed may have been open still. */
static void compare_fds(char *text, size_t size, const char *name, long before, long after)
{
	if (after > before)
		compare_one(text, size, name, before, after);
}

const char *census_compare(const struct census *before, const struct census *after, char *text,
			   size_t size)
{
	text[0] = '\0';
	compare_one(text, size, "processes", before->processes, after->processes);
	compare_one(text, size, "zombies", before->zombies, after->zombies);
	compare_fds(text, size, "keeper_fds", before->keeper_fds, after->keeper_fds);
	compare_fds(text, size, "broker_fds", before->broker_fds, after->broker_fds);
	compare_fds(text, size, "forker_fds", before->forker_fds, after->forker_fds);
	compare_one(text, size, "ports", before->ports, after->ports);
	compare_one(text, size, "clients", before->clients, after->clients);
	compare_one(text, size, "log_bytes", before->log_bytes, after->log_bytes);
	return text;
}
