/* What makes a port: the call behind Spawn and Open.
 */
#ifndef REDD_CLIENT_SPAWN_CALL_H
#define REDD_CLIENT_SPAWN_CALL_H

#include "client/call.h"
#include "client/spawn_build.h"

/* Fills a request and what it points at; `options` are the call's own. 0 or a negative errno,
 * recorded. */
typedef int spawn_build_fn(struct redd *r, struct spawn_build *b, const void *options,
			   const struct redd_subscribe_options *subscribe,
			   Redd__V1__Request *request);

/* Sends what `build` makes and gives the handle of its port. `subscribe` may be NULL. */
int spawn_begin(struct redd *r, spawn_build_fn *build, const void *options,
		const struct redd_subscribe_options *subscribe, struct redd_port **ret_port,
		struct how how);

/* Waits for the answer to a spawn_begin() that gave e and *port. */
int spawn_wait(struct redd *r, int e, struct redd_port *port, struct waiter *w,
	       struct redd_port **ret_port);

#endif
