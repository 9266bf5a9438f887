/* Reading a subscription's streams from the broker's logs, which are mapped, instead of getting
 * them as Output. What is read goes the same way as what comes by the socket: tracks, handlers.
 */
#ifndef REDD_CLIENT_READING_H
#define REDD_CLIENT_READING_H

#include "client/handles.h"
#include "proto/redd.pb-c.h"

/* The broker has answered that it is shared: takes the descriptors that came with the answer and
 * maps them. What cannot be mapped is asked for by the socket instead; then s->reading stays NULL.
 */
void reading_begin(struct redd_subscription *s, const Redd__V1__Subscribed *wire);

/* Unmaps; harmless when there is nothing. */
void reading_end(struct redd_subscription *s);

/* The broker says that there is more. */
void reading_wake(struct redd_subscription *s);

/* MANUAL: the program lets it read so many bytes more. */
void reading_credit(struct redd_subscription *s, uint64_t bytes);

/* Reads a bounded share of all logs that may have something, and runs callbacks. What is left stays
 * on r->awake. */
void reading_turn(struct redd *r);

/* Closes descriptors that came and were not taken. */
void doors_close(struct redd *r, size_t n);

#endif
