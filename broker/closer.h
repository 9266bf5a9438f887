/* Closes descriptors that came from clients. close(2) of somebody else's descriptor can block for
 * as long as who sent it likes (a lingering socket, a network file system), so it never happens in
 * the loop, but in a few threads of the closer's own.
 *
 * Whose they are is kept apart: each user's connections, each door, and all doors of a user. None
 * of them holds more than CLOSER_THREADS_EACH threads, so that one whose closes hang is in nobody
 * else's way; and of who has too many that are not closed yet no more are received until they are
 * (closer_waits()). They count as their user's descriptors, as far as there is quota.
 */
#ifndef REDD_BROKER_CLOSER_H
#define REDD_BROKER_CLOSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/list.h"

struct broker;
struct quota_account;

/* From whom they came. */
struct closer_whose {
	struct quota_account *account; /* a uid's; NULL: nobody knows */
	uint64_t door;		       /* the delegation's id; 0: not through one */
};

/* Somebody who would take more descriptors. */
struct closer_wait {
	struct list link; /* of the closer's, while it waits */
	struct closer_whose whose;
	void (*go_on)(struct closer_wait *w);
};

/* Takes all n and sets them to -1. Without memory for a job they are closed here and now. */
void closer_close(struct broker *b, const struct closer_whose *whose, int *take_fds, size_t n);

/* The same for a Unix socket. One that nothing has come to is closed at once: descriptors that wait
 * in it are closed with it. */
void closer_close_socket(struct broker *b, const struct closer_whose *whose, int *take_fd);

void closer_wait_init(struct closer_wait *w, void (*go_on)(struct closer_wait *w));

/* True: too many of theirs are not closed yet, so no more may be received; go_on is called, from
 * the loop, when that has changed. w->whose is borrowed until then, or until closer_wait_end(). */
bool closer_waits(struct broker *b, struct closer_wait *w, const struct closer_whose *whose);
void closer_wait_end(struct closer_wait *w);

/* Descriptors that are not closed yet. */
size_t closer_count(const struct broker *b);

/* Waits a moment for what is being closed, and gives up the rest: the process is about to end. The
 * loop must run once more before the broker's memory goes. */
void closer_end(struct broker *b);

#endif
