/* A process that puts a terminal's modes back when ours dies in a way that lets it do nothing any
 * more (SIGKILL, a crash). It is there only while the modes are changed.
 */
#ifndef REDD_CLI_GUARDIAN_H
#define REDD_CLI_GUARDIAN_H

#include <sys/types.h>
#include <termios.h>

struct guardian {
	pid_t pid; /* 0: none */
	int fd;	   /* its end of file sets the guardian going */
};

/* Sends one out for the terminal behind tty. 0, or a negative errno. */
int guardian_start(struct guardian *g, int tty, const struct termios *modes);

/* It is not needed any more: returns when it is gone. Harmless when there is none. */
void guardian_stop(struct guardian *g);

#endif
