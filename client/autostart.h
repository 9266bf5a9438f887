/* Starts a broker at the default place and waits until it answers.
 */
#ifndef REDD_CLIENT_AUTOSTART_H
#define REDD_CLIENT_AUTOSTART_H

#include "client/locate.h"

/* The broker runs detached (its own session, nothing of ours open) and leaves when it was idle for
 * five minutes. Somebody else's, started in the same moment, is as good. Waits at most until
 * deadline_ms (CLOCK_MONOTONIC); *ret_fd is connected. 0, or a negative errno with *failure set. */
int autostart_broker(const struct place *p, int64_t deadline_ms, int *ret_fd,
		     struct failure *failure);

#endif
