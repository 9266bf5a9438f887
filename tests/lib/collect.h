/* Gathers what a subscription brings, and holds it against the promises while it comes: offsets
 * without a hole (or a gap in its place), each stream's end with the right total, exit once, closed
 * once and last.
 *
 *	struct collect c;
 *
 *	collect_init(&c);
 *	o.subscribe = &c.watch;
 *	redd_spawn(r, &o, &port);
 *	collect_wait(&c, r, 10000);
 *	cr_assert_str_eq(c.wrong, "");
 *	cr_assert_str_eq(collect_text(&c, 1), "hello\n");
 *	collect_deinit(&c);
 */
#ifndef TESTS_LIB_COLLECT_H
#define TESTS_LIB_COLLECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/redd.h"

#define COLLECT_GAPS 8

struct collect_stream {
	uint32_t stream;
	uint64_t first; /* offset of what came first, as the collector allows it */
	uint64_t next;	/* offset that must come next */
	uint64_t gaps;	/* bytes that were told as missing */
	unsigned n_gaps;
	struct redd_gap gap[COLLECT_GAPS]; /* the first ones */
	unsigned n_outputs;
	unsigned n_records, n_parts,
		n_aborted; /* framed: complete ones, parts, given up in a gap */
	bool in_record;
	char *data; /* kept bytes, with a NUL behind */
	size_t size;
	bool ended;
	struct redd_stream_end end;
};

struct collect {
	struct redd_subscribe_options watch; /* for the spawn or subscribe; change it before */
	bool drop_data;			     /* count and check, keep nothing */
	bool patterned;			     /* data must be that of tests/lib/pattern.h */
	bool starts_anywhere;		     /* what comes first sets the offset; else it is 0 */
	/* Framed: into the kept bytes goes, behind each record, how it ended ('|' END, '/' CUT, '$'
	 * UNTERMINATED), and '!' where a gap aborts one. */
	bool marks;
	/* Framed: each record that is complete, put together from its parts; nothing else is kept.
	 * What it says is wrong, or NULL. */
	const char *(*on_record)(struct collect *c, const char *data, size_t size);
	unsigned n_expected; /* on_record's own */
	struct collect_stream streams[REDD_STREAMS_MAX];
	size_t n_streams;
	unsigned n_exited, n_closed;
	struct redd_exit exit;
	struct redd_closed closed;
	char wrong[256]; /* the first promise that was broken; empty: none */
};

/* The struct must not move until collect_deinit(). */
void collect_init(struct collect *c);
void collect_deinit(struct collect *c);

/* Dispatches until Closed came or `timeout_ms` (stretched in slow runs) went by without it. 0,
 * -ETIMEDOUT or -ENOTCONN. */
int collect_wait(struct collect *c, struct redd *r, int timeout_ms);

/* Until stream has at least so many bytes (its `next`), or has ended. */
int collect_wait_bytes(struct collect *c, struct redd *r, uint32_t stream, uint64_t size,
		       int timeout_ms);

/* What came of a stream; its fields are zero where nothing did. NUL-terminated text or "". */
const struct collect_stream *collect_stream(const struct collect *c, uint32_t stream);
const char *collect_text(const struct collect *c, uint32_t stream);

/* Spawns with this collector and waits for the end: result of redd_spawn(), else of collect_wait().
 * The port is freed and forgotten. */
int collect_run(struct collect *c, struct redd *r, const struct redd_spawn_options *options,
		int timeout_ms);

/* The same for one of tests/progs with arguments, NULL at the end, pipes on 1 and 2. */
int collect_prog(struct collect *c, struct redd *r, const char *prog, ...)
	__attribute__((sentinel));

#endif
