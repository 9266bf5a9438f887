/* Descriptors: closed on exec, -1 when there is none. */
#ifndef REDD_BASE_FD_H
#define REDD_BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/base/cleanup.h"

/* Closes fd unless it is negative; keeps errno. Returns -1, so that `fd = fd_close(fd)` reads well.
 */
int fd_close(int fd);

/* For _cleanup_(fd_closep). */
static inline void fd_closep(int *fd)
{
	*fd = fd_close(*fd);
}

/* Closes all n and sets them to -1. */
void fd_close_many(int *fds, size_t n);

/* Each returns 0 or a negative errno. */
int fd_set_nonblocking(int fd);
int fd_set_cloexec(int fd);

/* A duplicate, closed on exec, numbered 3 or higher, in *ret_fd. 0 or a negative errno. */
int fd_dup(int fd, int *ret_fd);

/* A pipe of which only our end is non-blocking. `ours` is the end that stays here: 0 the read end,
 * 1 the write end. Both are closed on exec. 0 or a negative errno. */
int fd_pipe(int ours, int ret_fds[2]);

/* Writes all or fails; for blocking descriptors. 0 or a negative errno. */
int fd_write_all(int fd, const void *data, size_t size);

/* New descriptors get the lowest free number: one that is among the last `reserve` below the limit
 * of this process (RLIMIT_NOFILE) means that few are left. */
bool fd_is_high(int fd, unsigned reserve);

/* Number of open descriptors of this process, or a negative errno. For tests and statistics. */
int fd_count(void);

#endif
