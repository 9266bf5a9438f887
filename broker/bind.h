/* Listening sockets by path: exactly one service a path, and nobody ever sees a looser mode. */
#ifndef REDD_BROKER_BIND_H
#define REDD_BROKER_BIND_H

#include <stdbool.h>
#include <stdint.h>

#define BIND_E_REFUSED 1 /* `error` says why and what to do */

/* Locks `path`.lock, then makes a listening socket of mode 0600 at `path`, of 0666 for everyone; a
 * stale one is replaced. The directory is made (0700, for everyone 0755) when only its last part is
 * missing; it must belong to us or to root and must not be writable for others, unless it is
 * sticky. Lock and socket are closed on exec and owned by the caller, who must hold the lock as
 * long as the path exists. 0, BIND_E_REFUSED (too long, not ours, another service holds it), or a
 * negative errno. */
int bind_path(const char *path, bool everyone, int *ret_listener, int *ret_lock, char error[256]);

/* A socket that was passed in by a service manager: must be a listening AF_UNIX stream socket with
 * a path. 0 or BIND_E_REFUSED. */
int bind_check_inherited(int fd, char error[256]);

#endif
