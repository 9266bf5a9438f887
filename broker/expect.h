/* A wait for what a stream brings: a match of patterns, silence, the end, the leader's exit, or
 * until its time is up. It belongs to its pending, which answers when it is over.
 *
 * The search itself (search.h) is done in the loop's turns, a slice at a time: connections with
 * work take turns, and all waits together take EXPECT_TIME_A_TURN_NS of a turn at most. What the
 * log gives up before it was searched ends the wait, unless it was allowed to hold the stream back.
 */
#ifndef REDD_BROKER_EXPECT_H
#define REDD_BROKER_EXPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/alarm.h"
#include "broker/quota.h"
#include "broker/search.h"
#include "broker/turn.h"

struct broker;
struct conn;
struct pending;
struct port;
struct stream;

/* Numbers as in Matched.What of redd.proto. */
enum expect_end {
	EXPECT_MATCH = 1,
	EXPECT_IDLE = 2,
	EXPECT_EXITED = 3,
	EXPECT_ENDED = 4,
	EXPECT_DEADLINE = 5,
	EXPECT_LOST = 6,
};

struct expect_options {
	uint64_t from;	  /* oldest <= from <= total of the stream */
	uint32_t idle_ms; /* 0: never over for that */
	bool exit, block, has_timeout;
	uint32_t timeout_ms; /* 0: over when all that is there was searched */
	bool writes;	     /* expect_written() will come, and silence counts from then on */
};

struct expect;

/* Tells that it is over; frees the pending. */
typedef void expect_over_fn(struct expect *e, enum expect_end end);

struct expect {
	struct list stream_link; /* of the stream's */
	struct list ready_link;	 /* of the connection's, while there is something to look at */
	struct pending *pending;
	struct stream *stream;
	struct search *search; /* NULL: no patterns */
	struct expect_options options;
	expect_over_fn *over;
	struct alarm idle;
	struct quota_charge charge;
	uint64_t since_ms; /* silence counts from then on */
	uint64_t goal;	   /* once so far is searched it is over ... */
	enum expect_end goal_end;
};

/* Part of a connection: its waits that have something to look at. */
struct expect_queue {
	struct list link; /* of the broker's, while there are any */
	struct list ready;
	unsigned n; /* all waits of the connection */
};

/* Part of the broker. */
struct expect_turns {
	struct list queues; /* of connections, the next one first */
	struct job job;
	unsigned n; /* all waits */
};

void expect_turns_init(struct expect_turns *t);
void expect_queue_init(struct expect_queue *q);

#define EXPECT_E_QUOTA 1 /* *ret_reason */

/* Makes the wait of a pending; the program is taken, also on failure (without instructions: no
 * patterns). `over` is called from the loop, never from within. 0, EXPECT_E_QUOTA, -ENOMEM. */
int expect_new(struct pending *pending, struct stream *stream, struct program *take_program,
	       const struct expect_options *options, expect_over_fn *over, const char **ret_reason);

/* By pending_free(). */
void expect_free(struct expect *e);

/* What it wanted written is in the pipe. */
void expect_written(struct expect *e);

/* The stream has more bytes, or has ended. */
void expects_wake(struct stream *s);

/* The port's leader is gone. */
void expects_exited(struct port *p);

/* Bytes that the stream may take before this wait, which holds it back, would miss some; UINT64_MAX
 * when it does not. */
uint64_t expect_room(const struct expect *e);

/* One past the last byte that was looked at. */
uint64_t expect_searched(const struct expect *e);

#endif
