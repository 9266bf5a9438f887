/* Our own stdin, stdout and stderr, read and written without ever blocking this program, and
 * without ever making them non-blocking for the others who share them.
 */
#ifndef REDD_CLI_ENDPOINT_H
#define REDD_CLI_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum endpoint_kind {
	ENDPOINT_PLAIN,	 /* regular files and the like: calls do not wait */
	ENDPOINT_OWN,	 /* an open file of our own, non-blocking */
	ENDPOINT_SOCKET, /* MSG_DONTWAIT */
	ENDPOINT_SHARED, /* poll first, then little at a time */
};

struct endpoint {
	int fd;	    /* what to read or write, and to poll */
	int origin; /* the descriptor we were started with */
	enum endpoint_kind kind;
	bool terminal;
	bool pipe;
	unsigned full; /* times in which the pipe was found full; it grows once that is usual */
};

/* flags: O_RDONLY or O_WRONLY. Never fails: what cannot be had better is ENDPOINT_SHARED. */
void endpoint_open(struct endpoint *e, int fd, int flags);

/* Closes both, so that the other side learns that nobody is here any more. */
void endpoint_close(struct endpoint *e);

/* Each returns bytes, 0 at the end of file, -EAGAIN when there is nothing just now, or another
 * negative errno. SHARED: only after poll(2) said that it is ready. */
ssize_t endpoint_read(struct endpoint *e, void *buf, size_t size);
ssize_t endpoint_write(struct endpoint *e, const void *data, size_t size);

#endif
