/* A listening socket. The way in is the first part of who a client is: its index stands in every
 * principal that came through it.
 */
#ifndef REDD_BROKER_LISTENER_H
#define REDD_BROKER_LISTENER_H

#include <stdint.h>

struct broker;
struct listener;

/* take_fd: a listening socket. 0 or a negative errno; the descriptor is consumed in every case. */
int listener_new(struct listener **ret, struct broker *b, uint32_t index, int take_fd);

/* Accepts no more, and frees. NULL is harmless. The keeper's duplicate keeps the socket open. */
void listener_free(struct listener *l);

#endif
