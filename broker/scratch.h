/* A pipe between our memory and the pipe of a child, so that a death of the broker leaves no doubt
 * about what the child was given: writev(2) tells its caller alone how much it wrote, and a caller
 * that is killed tells nobody. The keeper holds both ends; a successor finds in it what was not
 * moved on. Only one write is on its way at any time.
 */
#ifndef REDD_BROKER_SCRATCH_H
#define REDD_BROKER_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct broker;
struct record_live;

#define SCRATCH_LEAST  4096u  /* less goes straight: a page that is moved fills one of 16 slots */
#define SCRATCH_MOST   65536u /* what an ordinary pipe holds */
#define SCRATCH_PIECES 64     /* of one write */

struct scratch {
	int fds[2]; /* read end, write end; -1: there is none, and writes go straight */
};

/* The keeper keeps the ends as it does the memfds of rings, by numbers that no ring has. True when
 * `number` is one of them: take_fd is consumed then. */
bool scratch_take(struct scratch *s, uint32_t number, int take_fd);

/* Makes one, unless an earlier broker's was taken, and gives the keeper its duplicates. Without it
 * the service runs all the same; that is logged. */
void scratch_open(struct broker *b);
void scratch_close(struct scratch *s);

/* For a successor: completes `written` of the one stream whose write was on its way, before
 * scratch_drain(). */
void scratch_settle(const struct scratch *s, struct record_live *live);
void scratch_drain(const struct scratch *s);

/* Bytes that may go this way into `pipe` now, of `size`; 0: they go straight; -EAGAIN: not now, the
 * pipe is full, and will be writable when it is not. */
ssize_t scratch_share(const struct scratch *s, int pipe, size_t size);

/* Moves the first `size` bytes of iov, as many as `pipe` takes, and keeps *live right at any
 * instant. How many, or a negative errno. */
ssize_t scratch_send(const struct scratch *s, int pipe, const struct iovec *iov, int n, size_t size,
		     struct record_live *live);

#endif
