/* Reading /proc. No allocation, no stdio. */
#ifndef REDD_HELPER_PROC_H
#define REDD_HELPER_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What of /proc/PID/stat is of use here (proc(5)). */
struct proc_stat {
	pid_t pid;
	char state;
	pid_t parent;
	pid_t group;
	pid_t session;
	uint32_t flags;
	uint64_t cpu_ticks; /* that it has run, of all its threads */
	uint64_t start_ticks;
};

/* Pure: reads the text of a stat file, whose second field may hold any byte. False if it is none.
 */
bool proc_stat_parse(const char *text, size_t size, struct proc_stat *ret);

/* 0 or a negative errno: -ENOENT, -ESRCH when there is no such process. */
int proc_stat_read(pid_t pid, struct proc_stat *ret);

/* Calls back for each NAME=VALUE of less than PROC_ENTRY_SIZE bytes in the environment that the
 * process was started with, until the callback returns true: 1 then, 0 if it never did, or a
 * negative errno. -EAGAIN: the process has neither arguments nor environment; it is the kernel's,
 * or a zombie, which some kernels tell otherwise, or in the middle of an execve(2). */
#define PROC_ENTRY_SIZE 64
int proc_find_environment(pid_t pid, bool (*each)(const char *entry, void *context), void *context);

/* The process that a pidfd of ours is for; -1 when it was reaped, or fd is no pidfd. */
pid_t proc_of_pidfd(int fd);

/* Calls back for every process there is, until the callback returns false. 0 or a negative errno.
 */
int proc_each(bool (*each)(pid_t pid, void *context), void *context);

/* Calls back for every descriptor of a process with the text of its link (cut if it is long), until
 * the callback returns false. 0 or a negative errno, -EACCES for processes of others. */
int proc_each_fd(pid_t pid, bool (*each)(pid_t pid, int fd, const char *link, void *context),
		 void *context);

#endif
