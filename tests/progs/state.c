/* state [WHAT...]: prints what a child was given, as "name=value" lines: WHAT is args, env, fds or
 * attributes; all without any. Values are escaped as \xNN where a byte is not printable.
 *
 *	args        argc, argv[N]
 *	env         env[N], in their order
 *	fds         fd N: type, access mode, flags that matter
 *	attributes  21 of them: identity, signals, limits, session, scheduling
 */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

static void text_print(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		if (*p < 32 || *p > 126 || *p == '\\')
			printf("\\x%02x", *p);
		else
			putchar(*p);
	putchar('\n');
}

static void strings_print(const char *name, char **strings)
{
	for (int i = 0; strings[i]; i++) {
		printf("%s[%d]=", name, i);
		text_print(strings[i]);
	}
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFIFO:
		return "pipe";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character";
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	default:
		return "other";
	}
}

static void fd_print(int fd)
{
	static const char *const modes[] = { "r", "w", "rw", "?" };
	int flags = fcntl(fd, F_GETFL);
	char path[64], target[256];
	struct stat st;
	ssize_t n;

	if (flags < 0 || fstat(fd, &st) < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	printf("fd[%d]=%s %s%s%s%s %s\n", fd, type_name(st.st_mode), modes[flags & O_ACCMODE],
	       flags & O_NONBLOCK ? " nonblocking" : "", flags & O_APPEND ? " append" : "",
	       fcntl(fd, F_GETFD) & FD_CLOEXEC ? " cloexec" : "",
	       S_ISCHR(st.st_mode) || S_ISREG(st.st_mode) ? target : "");
}

static void fds_print(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	int open_fds[1024], n = 0;

	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory) && n < 1024)
			open_fds[n++] = atoi(entry->d_name);
	if (directory)
		closedir(directory);
	printf("fds=%d\n", n);
	for (int i = 0; i < n; i++)
		fd_print(open_fds[i]);
}

/* A line "Name:\tvalue" of /proc/self/status. */
static void status_print(const char *attribute, const char *name)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		size_t n = strlen(name);

		if (strncmp(line, name, n) || line[n] != ':')
			continue;
		line[strcspn(line, "\n")] = '\0';
		printf("%s=%s\n", attribute, line + n + 1 + strspn(line + n + 1, "\t "));
	}
	if (file)
		fclose(file);
}

static void file_print(const char *attribute, const char *path)
{
	FILE *file = fopen(path, "re");
	char line[512] = "?";

	if (file && fgets(line, sizeof(line), file))
		line[strcspn(line, "\n")] = '\0';
	printf("%s=", attribute);
	text_print(line);
	if (file)
		fclose(file);
}

static void identity_print(void)
{
	gid_t groups[256];
	int n = getgroups(256, groups);
	char directory[4096];

	printf("uid=%d %d\n", (int)getuid(), (int)geteuid());
	printf("gid=%d %d\n", (int)getgid(), (int)getegid());
	printf("groups=%d", n);
	for (int i = 0; i < n; i++)
		printf(" %d", (int)groups[i]);
	putchar('\n');
	printf("directory=");
	text_print(getcwd(directory, sizeof(directory)) ? directory : "?");
	printf("session=%s\n", getsid(0) == getpid() ? "own" : "other");
	printf("group=%s\n", getpgrp() == getpid() ? "own" : "other");
}

static void limits_print(void)
{
	struct rlimit limit;

	printf("limits=");
	for (int i = 0; i < RLIMIT_NLIMITS; i++)
		if (getrlimit((__rlimit_resource_t)i, &limit) == 0)
			printf("%d:%lld:%lld ", i, (long long)limit.rlim_cur,
			       (long long)limit.rlim_max);
	putchar('\n');
}

static void attributes_print(void)
{
	struct itimerval timer;
	mode_t mask = umask(0);
	int death = 0;

	identity_print();
	printf("umask=%03o\n", (unsigned)mask);
	printf("nice=%d\n", getpriority(PRIO_PROCESS, 0));
	printf("policy=%d\n", sched_getscheduler(0));
	limits_print();
	status_print("blocked", "SigBlk");
	status_print("ignored", "SigIgn");
	status_print("caught", "SigCgt");
	status_print("pending", "SigPnd");
	status_print("no_new_privs", "NoNewPrivs");
	status_print("seccomp", "Seccomp");
	prctl(PR_GET_PDEATHSIG, &death);
	printf("death_signal=%d\n", death);
	printf("dumpable=%d\n", prctl(PR_GET_DUMPABLE));
	printf("personality=%d\n", personality(0xffffffff));
	file_print("oom_score_adj", "/proc/self/oom_score_adj");
	getitimer(ITIMER_REAL, &timer);
	printf("timer=%ld\n", (long)timer.it_value.tv_sec);
}

static int asked(int argc, char **argv, const char *what)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], what))
			return 1;
	return argc == 1;
}

int main(int argc, char **argv)
{
	if (asked(argc, argv, "fds"))
		fds_print();
	if (asked(argc, argv, "args")) {
		printf("argc=%d\n", argc);
		strings_print("argv", argv);
	}
	if (asked(argc, argv, "env"))
		strings_print("env", environ);
	if (asked(argc, argv, "attributes"))
		attributes_print();
	return 0;
}
