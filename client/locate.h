/* Where the broker is, and a socket connected to it.
 */
#ifndef REDD_CLIENT_LOCATE_H
#define REDD_CLIENT_LOCATE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/failure.h"

struct place {
	char *path;	/* owned; NULL: a connection that was handed over */
	int fd;		/* that one; else -1 */
	int door;	/* one that was handed over; else -1 */
	bool owns_door; /* a copy of ours */
	bool ours;	/* the default place: a broker may be started there */
	bool temporary; /* below /tmp, where others could have been first */
};

void place_deinit(struct place *p);

/* Takes a copy of the door, for as long as the place is there. 0 or a negative errno. */
int place_keep_door(struct place *p);

/* Decides by the rules of redd_connect_options.socket. 0, or a negative errno with *failure set. */
int place_find(const char *socket, struct place *ret, struct failure *failure);

/* Checks that nobody else can have put a socket at the default place: its directory is a real one,
 * ours, closed to others. 0; -ENOENT when there is none (not recorded); -EPERM. */
int place_check(const struct place *p, struct failure *failure);

/* Makes the directory of the default place, 0700. 0 or a negative errno. */
int place_make(const struct place *p, struct failure *failure);

/* Asks for a connection at the door. Waits at most timeout_ms while others knock. As
 * place_connect(). */
int place_knock(const struct place *p, uint32_t timeout_ms, int *ret_fd, struct failure *failure);

/* Connects; waits at most timeout_ms while the backlog is full. The socket is closed on exec. 0,
 * or a negative errno with *failure set. */
int place_connect(const struct place *p, uint32_t timeout_ms, int *ret_fd, struct failure *failure);

/* The same without waiting, and without a word, at the door where there is one: -EAGAIN while the
 * backlog is full. */
int place_try(const struct place *p, int *ret_fd);

#endif
