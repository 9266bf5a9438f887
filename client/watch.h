/* Watches that are asked for again when a connection is back.
 */
#ifndef REDD_CLIENT_WATCH_H
#define REDD_CLIENT_WATCH_H

#include "client/handles.h"

typedef struct Redd__V1__Watch Redd__V1__Watch;

/* Asks for it behind the last event that it was told; *m is its first request. 0, -EAGAIN (no
 * room), or a negative errno. */
int watch_again(struct redd_watch *w, Redd__V1__Watch *m);

#endif
