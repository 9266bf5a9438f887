/* Writes that wait until there is room: what was refused, and what was started behind it, is sent
 * again, in its order.
 */
#ifndef REDD_CLIENT_PATIENCE_H
#define REDD_CLIENT_PATIENCE_H

#include "client/call.h"

void patience_init(struct patience *p);

/* Counts a call, as it is now; nothing when it is no patient one. */
void patience_enter(struct redd *r, const struct call *c);
void patience_leave(struct redd *r, const struct call *c);

/* It was refused, as r->failure says: true when it will be sent again, and is not to end. */
bool patience_takes_back(struct redd *r, struct call *c);

/* It was taken. */
void patience_pays(struct redd *r, const struct call *c);

/* The connection is lost: they go out again with all others. */
void patience_lost(struct redd *r);

/* Sends what may be sent by now. Runs callbacks. */
void patience_turn(struct redd *r);

/* Milliseconds until there is something to send; -1: nothing by itself. */
int patience_timeout(const struct redd *r);

#endif
