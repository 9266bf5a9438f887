/* A polite client beside whatever a test does to the broker: in a thread of its own it sends pieces
 * of a pattern through a cat, checks what comes back with offsets and totals, asks for Pongs, and
 * notes how long each round trip took.
 *
 *	struct neighbour n;
 *
 *	cr_assert_eq(neighbour_start(&n, &service), 0);
 *	... something nasty ...
 *	cr_assert_eq(neighbour_stop(&n), 0, "%s", n.wrong);
 *	cr_assert_lt(n.worst_ms, ...);
 */
#ifndef TESTS_LIB_NEIGHBOUR_H
#define TESTS_LIB_NEIGHBOUR_H

#include <pthread.h>
#include <stdbool.h>

#include "tests/lib/collect.h"
#include "tests/lib/service.h"

struct neighbour {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t moved; /* n_rounds, is_over */
	struct redd *r;
	struct redd_port *cat;
	struct collect c;
	bool stop, is_over;
	unsigned long n_rounds;
	double *times_ms;
	/* After neighbour_stop(): */
	double worst_ms, middle_ms;
	char wrong[320]; /* what was not as it should be; empty: nothing */
};

/* Returns when its cat runs. 0 or -1. */
int neighbour_start(struct neighbour *n, const struct service *s);

/* Lets it finish: stdin is closed, all bytes must have come back, and the port is forgotten. 0, or
 * -1 with what was wrong in n->wrong. Harmless when it was stopped before. */
int neighbour_stop(struct neighbour *n);

/* Waits until it has made `rounds` more round trips: what was sent to the broker before has been
 * dealt with by then, side by side with somebody else's work. */
void neighbour_wait(struct neighbour *n, unsigned long rounds);

#endif
