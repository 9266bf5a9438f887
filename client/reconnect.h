/* A connection that is lost and comes back.
 *
 *	UP, HELLO --loss--> AWAY
 *	AWAY --try--> AGAIN, or HELLO before a first Welcome; --away.deadline_ms--> DOWN
 *	AGAIN --Welcome--> UP; --loss--> AWAY; --another instance, no session--> DOWN
 */
#ifndef REDD_CLIENT_RECONNECT_H
#define REDD_CLIENT_RECONNECT_H

#include "client/client.h"

/* Keeps what a later try needs. take_place is consumed. */
void reconnect_prepare(struct redd *r, const struct redd_connect_options *o,
		       struct place *take_place);

/* The connection has failed with e, why is in r->failure: begins to come back, or ends for good.
 * Runs callbacks. */
void reconnect_or_lose(struct redd *r, int e);

/* CLIENT_AWAY: tries, if it is time. 0, or a negative errno (recorded) that ends it for good. */
int reconnect_turn(struct redd *r);

/* CLIENT_AGAIN: the answer to Hello. As calls_answer(). */
int reconnect_answer(struct redd *r, const Redd__V1__Message *m);

/* Milliseconds until redd_dispatch() is due. */
int reconnect_timeout(const struct redd *r);

#endif
