/* What a running service has: processes, zombies, descriptors. Taken from /proc, so it needs no
 * help of the service, and counts whatever it forgot. */
#ifndef TESTS_LIB_CENSUS_H
#define TESTS_LIB_CENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Figures that cannot be read (another user's process) are -1 and equal anything. */
struct census {
	pid_t keeper, broker, forker; /* 0: not there just now */
	int processes;		      /* below the keeper, without broker and forker */
	int zombies;		      /* below the keeper, all of them */
	/* The keeper slept before anything was counted: what it had been told by then is done. */
	bool is_settled;
	/* Logs' memory is not among them: it is pooled, and told by log_bytes. */
	int keeper_fds, broker_fds, forker_fds;
	long broker_rss; /* bytes; told, not compared */
	/* What the broker says (service_start(), service_settle()), else -1. */
	int ports, clients;
	long log_bytes; /* of logs in use */
};

/* `keeper` is the service's process id. 0, or -1 when there is no such process. */
int census_take(pid_t keeper, struct census *ret);

/* Counts that differ, as "broker_fds 12 -> 14, zombies 0 -> 1", of descriptors only those that are
 * more; empty when none does. The pids are not compared. Returns text. */
const char *census_compare(const struct census *before, const struct census *after, char *text,
			   size_t size);

/* Says on standard error who is below the keeper and neither broker nor forker: state, what it
 * waits in, arguments. */
void census_print(pid_t keeper);

/* Children of a process, from /proc; at most `max` go to pids. Returns how many there are, zombies
 * among them. */
int census_children(pid_t parent, pid_t *pids, int max);

/* The child of a process that has this word among its arguments ("forker", "redd-broker"); 0: none.
 * Quick: looks at nobody else. */
pid_t census_child(pid_t parent, const char *word);

/* Resident memory in bytes, processor time that it took in clock ticks, and how many mappings it
 * has; or -1. */
long census_rss(pid_t pid);
/* The same with each page counted once, however often it is mapped (a log is mapped twice). */
long census_pss(pid_t pid);
long census_cpu_ticks(pid_t pid);
long census_maps(pid_t pid);

/* Open descriptors of a process without those of logs, or -1. */
int census_fds(pid_t pid);
int census_logs(pid_t pid); /* those of logs alone */

/* Its parent and its state letter (proc(5)); 0 and 0 when there is no such process. */
pid_t census_parent(pid_t pid, char *ret_state);
char census_state(pid_t pid);

/* When it was started, in clock ticks since the boot (field 22, proc(5)); 0: no such process. With
 * its pid this names one process for ever. */
unsigned long long census_start(pid_t pid);

#endif
