/* Closes descriptors that came from clients. close(2) of somebody else's descriptor can block (a
 * lingering socket, a network file system), so it never happens in the loop.
 */
#ifndef REDD_BROKER_CLOSER_H
#define REDD_BROKER_CLOSER_H

#include <stddef.h>

struct broker;

/* Takes all n and sets them to -1. Without memory for a job they are closed here and now. */
void closer_close(struct broker *b, int *take_fds, size_t n);

#endif
