/* Busy and free, told to the subscriptions that asked for it.
 *
 * A state, not a queue: of each input a subscription was told either that it is busy or nothing, or
 * that it is free. Where that differs from how it is the subscription stands on its connection's
 * list, and the message is made when there is room for it. What changes back before takes it off
 * again, so a client that does not read costs one bit for each input.
 *
 * Nothing is told before the port runs: Started comes first.
 */
#ifndef REDD_BROKER_MARKS_H
#define REDD_BROKER_MARKS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/list.h"

struct conn;
struct port;
struct stream;
struct subscription;

/* A subscription's part. Zeroed and marks_init() it is that of one that did not ask. */
struct marks {
	struct list port_link; /* of the port's, when it asked */
	struct list conn_link; /* of the connection's, while something is to be told */
	uint32_t told;	       /* bit i: it was told that the port's streams[i] is busy */
};

void marks_init(struct marks *m);

/* It asks from now on: what is busy is told to it. */
void marks_watch(struct subscription *s);

/* It is told nothing any more. */
void marks_leave(struct subscription *s);

/* The input may have become busy or free. */
void marks_look(struct stream *s);

/* The port runs: what happened before may be told. */
void marks_start(struct port *p);

/* Something is still to be told to it. */
bool marks_are_due(const struct subscription *s);

/* Packs what is to be told on the connection while its control lane holds less than `limit`. 0, a
 * codec's refusal, or a negative errno. */
int marks_fill(struct conn *conn, size_t limit);

#endif
