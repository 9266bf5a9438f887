/* Output on its way: the inside of a broker, a client that reads as much as a test lets it, and a
 * port whose child is the test. The client's socket is so small that hardly a frame goes whole. One
 * test runs in a process of its own, so there is one flow.
 *
 *	TestSuite(conn_thing, .timeout = 60, .init = flow_begin, .fini = flow_end);
 *
 *	Test(conn_thing, a_sentence)
 *	{
 *		struct subscription *s;
 *
 *		flow_open_port(1);
 *		s = flow_subscribe_plain(CURSOR_MAY_BLOCK);
 *		flow_write_all(1, 1000);
 *		reader_drain(&flow.reader, flow.core);
 *		cr_assert_eq(flow_told(s, 1)->data, flow.written[1]);
 *	}
 *
 * What the child writes is the pattern of tests/lib/pattern.h, and the reader checks it. What goes
 * wrong in here fails the test.
 */
#ifndef TESTS_LIB_FLOW_H
#define TESTS_LIB_FLOW_H

#include <stddef.h>
#include <stdint.h>

#include "broker/port.h"
#include "broker/subscription.h"
#include "tests/lib/core.h"
#include "tests/lib/reader.h"

#define FLOW_LOG RING_LOWEST /* size of each stream's log */

struct flow {
	struct core *core;
	struct reader_client reader;
	struct port *port;
	int child[2];	     /* its ends of streams 1 and 2; -1: closed */
	uint64_t written[3]; /* by stream */
};

extern struct flow flow;

void flow_begin(void);
void flow_end(void);

/* A port with one or two outputs. */
void flow_open_port(unsigned n_outputs);

/* Subscribes the reader to all of the port. stall_ms 0: it may block for ever. */
struct subscription *flow_subscribe(enum cursor_overflow overflow, struct credit credit,
				    uint32_t stall_ms);

/* The same with credit for everything. */
struct subscription *flow_subscribe_plain(enum cursor_overflow overflow);

/* The child writes once; what the pipe does not take is not written. Returns how much it took. */
size_t flow_write(uint32_t stream, size_t size);

/* All of it, with as many turns as that takes. */
void flow_write_all(uint32_t stream, size_t size);

/* The child writes until nothing takes any more: what it has written waits in log and pipe. */
void flow_fill(uint32_t stream);

/* The child closes its ends and exits with 0. */
void flow_exit(void);

/* What the reader was told of a stream. */
struct reader_stream *flow_told(const struct subscription *s, uint32_t stream);

#endif
