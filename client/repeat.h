/* What a connection that is back asks for again: subscriptions at their next offsets, watches
 * behind their last event, and the calls that wait, as they were started.
 */
#ifndef REDD_CLIENT_REPEAT_H
#define REDD_CLIENT_REPEAT_H

#include "client/client.h"

typedef struct Redd__V1__Request Redd__V1__Request;

/* Queues as much as there is room for; when all is queued away.is_resuming is false. 0, or -ENOMEM,
 * recorded. Runs callbacks. */
int repeat_turn(struct redd *r);

/* Names the ports of a request by the ids that they have got since it was made; port: the call's,
 * or NULL. */
void repeat_names(const struct redd *r, Redd__V1__Request *m, const struct redd_port *port);

/* There was no room for all, and there is some now. */
bool repeat_is_due(const struct redd *r);

/* Queues the first patient write that waits. 0; 1 when there is none, or no room just now. Runs
 * callbacks. */
int repeat_patient(struct redd *r);

#endif
