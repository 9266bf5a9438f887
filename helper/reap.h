/* Waiting for children without losing what they leave: look first, record, then release. By pid,
 * which is safe for the one process that is their parent and the only one to release them.
 */
#ifndef REDD_HELPER_REAP_H
#define REDD_HELPER_REAP_H

#include <stdbool.h>
#include <sys/types.h>

#include "helper/link.h"

#define REAP_E_ALIVE 1
#define REAP_E_NONE  2 /* no such child */

/* If the child is dead: its status, resources and the time now in *ret (head, id and start are the
 * caller's). The zombie stays. 0, REAP_E_ALIVE or REAP_E_NONE. */
int reap_look(pid_t pid, struct link_exited *ret);

/* True when a zombie never executed a program (PF_FORKNOEXEC). False when that cannot be told. */
bool reap_never_executed(pid_t pid);

/* Releases a zombie. 0, REAP_E_ALIVE or REAP_E_NONE. */
int reap_release(pid_t pid);

/* Some zombie, which stays. 0 with *ret_pid, REAP_E_ALIVE when there is none, REAP_E_NONE when
 * there is no child at all. */
int reap_look_any(pid_t *ret_pid);

/* CLOCK_REALTIME. */
int64_t reap_now_ns(void);

#endif
