/* The client's end of a connection of tests/lib/core.h: takes bytes in any portions, cuts them into
 * messages, and holds those of its subscriptions against what is promised: offsets without a hole,
 * the bytes of tests/lib/pattern.h, gaps in their place, each stream's end with its total, Exited
 * before Closed, and nothing behind that. What breaks a promise fails the test.
 */
#ifndef TESTS_LIB_READER_H
#define TESTS_LIB_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/conn.h"
#include "proto/arena.h"
#include "proto/base/buf.h"
#include "tests/lib/core.h"

#define READER_SUBSCRIPTIONS 16
#define READER_STREAMS	     4

struct reader_stream {
	uint64_t next;	     /* offset that must come next */
	uint64_t data, gaps; /* bytes */
	unsigned n_gaps, last_cause;
	unsigned n_records; /* packets that have ended; their bodies are the pattern's too */
	bool has_ended;
};

struct reader_subscription {
	struct reader_stream streams[READER_STREAMS]; /* by number */
	bool may_gap, has_exited, is_closed;
	bool is_busy[READER_STREAMS]; /* as the marks told, by stream */
	unsigned n_marks;
	unsigned cause; /* of Closed */
	uint64_t cost;	/* credit that all of this took */
};

struct reader_client {
	struct conn *conn;
	int fd;
	struct buf in;
	struct arena arena;
	struct reader_subscription subscriptions[READER_SUBSCRIPTIONS]; /* by id */
	unsigned n_answers; /* messages with a reply_to */
	uint64_t n_bytes;
	bool is_over; /* end of file */
};

/* Connects, with socket buffers as small as the system has them. */
void reader_open(struct reader_client *r, struct core *core);
void reader_close(struct reader_client *r);

/* Reads `most` bytes at most, once. False: there was nothing. */
bool reader_take(struct reader_client *r, size_t most);

/* Reads all there is, and turns, until nothing comes any more. */
void reader_drain(struct reader_client *r, struct core *core);

#endif
