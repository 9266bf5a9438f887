/* Spawns again and again over one connection, a number of processes at once, waits for the end of
 * each and forgets it; counts what came of them. Several bursts, each with its own connection, can
 * run beside each other.
 *
 *	struct burst b = { .r = r, .argv = argv, .total = 1000, .in_flight = 16 };
 *
 *	cr_assert_eq(burst_run(&b, 1, 30000), 0);
 *	cr_assert_eq(b.n_good, 1000);
 */
#ifndef TESTS_LIB_BURST_H
#define TESTS_LIB_BURST_H

#include <stdbool.h>

#include "client/redd.h"

#define BURST_IN_FLIGHT_MAX 128

struct burst;

struct burst_item {
	struct burst *burst;
	unsigned number; /* of the spawn, from 0 */
	bool is_busy;
	struct redd_port *port;
};

struct burst {
	struct redd *r;
	const char *const *argv;
	struct redd_spawn_options options; /* argv and size are set here */
	unsigned total, in_flight;
	/* May change the options of one spawn, which are fresh each time. */
	void (*prepare)(struct burst *b, unsigned number, struct redd_spawn_options *o);
	/* May look at an end: result of the spawn (a negative errno), else of the wait. */
	void (*ended)(struct burst *b, unsigned number, int result, const struct redd_waited *end);
	void *user;
	/* What came of them. */
	unsigned n_begun, n_over;
	unsigned n_good;   /* left with 0 */
	unsigned n_bad;	   /* left in another way */
	unsigned n_failed; /* the spawn was answered with an error */
	unsigned n_lost;   /* not answered: the connection went */
	struct burst_item items[BURST_IN_FLIGHT_MAX];
};

/* Begins what may be begun. True while something is left to do. Does not dispatch. */
bool burst_turn(struct burst *b);

/* Runs n bursts until all are over. on_turn (may be NULL) is called in between. 0, or -ETIMEDOUT
 * when nothing more comes for timeout_ms (stretched in slow runs). */
int burst_run(struct burst *b, unsigned n, int timeout_ms);
int burst_run_with(struct burst *b, unsigned n, int timeout_ms, void (*on_turn)(void *user),
		   void *user);

#endif
