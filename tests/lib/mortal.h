/* A broker that tells the truth and dies at random, on the connection of tests/lib/fake.h: before
 *or after it has done what it was asked for, over its answer, or in the middle of a frame. What is
 *done outlives it, as logs, inputs and ports do; what belongs to a connection does not. The same
 *seed makes the same deaths.
 *
 *	mortal_begin(seed);
 *	redd_ping_start(mortal.f.r, &call);
 *	for (int i = 0; i < 100; i++)
 *		mortal_step();                  // each does a little, or dies
 *	mortal_rest();                          // no more deaths, until nobody has anything to say
 *	mortal_end();
 *
 * There is one. What must not be asked for fails the test, which names seed and step.
 */
#ifndef TESTS_LIB_MORTAL_H
#define TESTS_LIB_MORTAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lib/fake.h"
#include "tests/lib/random.h"

#define MORTAL_PORTS 64	      /* 1 to this, each with one output, stream 1, and one subscription; */
			      /* the next one has an input */
#define MORTAL_WATCHES	32    /* told apart by the value of their label */
#define MORTAL_REQUESTS 4096u /* ids below that */

struct mortal_port {
	uint64_t head; /* of its output; the byte at an offset is mortal_byte(offset) */
	bool has_ended;
	uint64_t spawned; /* the request; 0: it was there */
	/* Its subscription on this connection. */
	uint64_t id; /* 0: none */
	unsigned n_asked;
	uint64_t next; /* to be sent */
	bool is_limited, is_end_sent, is_leaving;
	uint64_t credit;
	bool is_busy, is_busy_told; /* its input, which goes with what waits in it */
};

struct mortal_watch {
	uint64_t id;
	uint64_t next;
};

/* What a request has done, whichever broker it was. */
struct mortal_effect {
	unsigned times;
	size_t size; /* bytes that it wrote; DELEGATE: which door it got */
};

struct mortal {
	struct fake f;
	struct random random;
	uint64_t seed;
	int step;
	bool is_mortal;
	bool has_sessions; /* else none is known to the next one, as of clients without ports */
	unsigned n_deaths;
	uint64_t last_id; /* of subscriptions and watches; each connection begins anew */
	struct mortal_port ports[MORTAL_PORTS + 2];
	struct mortal_watch watches[MORTAL_WATCHES];
	uint64_t sequence; /* of life events, and the newest that is not known any more */
	uint64_t forgotten;
	uint8_t input[1 << 20]; /* of the spawned port */
	size_t input_size;
	struct mortal_effect effects[MORTAL_REQUESTS];
	uint64_t waiting[64]; /* requests that are answered some time */
	size_t n_waiting;
};

extern struct mortal mortal;

#define mortal_check(condition)                                                          \
	cr_assert(condition, "seed %lu step %d deaths %u: %s", mortal.seed, mortal.step, \
		  mortal.n_deaths, #condition)

static inline uint64_t mortal_roll(uint64_t n)
{
	return random_below(&mortal.random, n);
}

static inline uint8_t mortal_byte(uint64_t offset)
{
	return (uint8_t)(offset % 251);
}

/* Tells descriptors apart. */
size_t mortal_inode(int fd);

/* A client is connected. */
void mortal_begin(uint64_t seed);
void mortal_end(void);

/* Broker or client does a little. */
void mortal_step(void);

/* The broker lives until there is nothing to be said any more, and all output is told. */
void mortal_rest(void);

#endif
