/* The parts of a broker that serves, without the process around it, in the order in which
 * broker.c makes them; and what its helper link tells that belongs to no process. For
 * tests/lib/core.h and for fuzzers: nothing in here knows criterion.
 *
 *	static struct unclaimed unclaimed = { .b = &b };
 *
 *	parts_init(&b, limits);
 *	helper_link_init(&b.helper, &b.loop, &b.turn, keeper_fd, &unclaimed_events, &unclaimed);
 *	b.state = BROKER_SERVING;
 */
#ifndef TESTS_LIB_PARTS_H
#define TESTS_LIB_PARTS_H

#include <stddef.h>

#include "broker/broker.h"
#include "broker/helper_link.h"

/* *b is all zeros but for its loop, which is there already. The policy has two listeners, the
 * second one narrow. limits: QUOTA_LEVELS of them. 0 or a negative errno. */
int parts_init(struct broker *b, const struct quota_limits *limits);

/* What no process of the helper link claims is counted, and its descriptors are closed. Answers to
 * group signals go on to those who asked. */
struct unclaimed {
	struct broker *b;
	unsigned n_setup, n_held, n_rings, n_records, n_ready, n_signalled;
	size_t n_fds; /* that came with those */
	int lost; /* negative errno; 0: the link goes on. The keeper is not heard any more then */
};

/* Their context is a struct unclaimed. */
extern const struct helper_events unclaimed_events;

#endif
