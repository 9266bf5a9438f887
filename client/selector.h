/* Labels that select ports, as a message holds them.
 */
#ifndef REDD_CLIENT_SELECTOR_H
#define REDD_CLIENT_SELECTOR_H

#include "client/client.h"
#include "proto/redd.pb-c.h"

struct selector {
	Redd__V1__Label items[LABELS_MAX];
	Redd__V1__Label *list[LABELS_MAX];
};

/* Fills *s, which points at the caller's strings and into itself. 0, or -EINVAL, recorded. */
int selector_build(struct redd *r, struct selector *s, const struct redd_label *labels, size_t n);

#endif
