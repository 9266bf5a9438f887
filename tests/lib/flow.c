/* Owns the flow of the test that runs: broker, reader, port and the child's ends. */
#include "tests/lib/flow.h"

#include <criterion/criterion.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/pattern.h"

struct flow flow = { .child = { -1, -1 } };

void flow_begin(void)
{
	flow.core = core_open();
	reader_open(&flow.reader, flow.core);
}

void flow_end(void)
{
	reader_close(&flow.reader);
	fd_close_many(flow.child, 2);
	core_close(flow.core);
}

void flow_open_port(unsigned n_outputs)
{
	const struct core_port o = { .n_outputs = n_outputs, .log_size = FLOW_LOG };

	flow.port = core_port(flow.core, flow.reader.conn, &o, flow.child);
}

struct subscription *flow_subscribe(enum cursor_overflow overflow, struct credit credit,
				    uint32_t stall_ms)
{
	struct subscription_options o = { .overflow = overflow,
					  .credit = credit,
					  .stall_ms = stall_ms };
	struct subscription *s = NULL;
	const char *reason = NULL;

	cr_assert_eq(subscription_new(&s, flow.reader.conn, flow.port, &o, &reason), 0, "%s",
		     reason);
	flow.reader.subscriptions[s->id].may_gap = overflow == CURSOR_MAY_DROP || stall_ms;
	return s;
}

struct subscription *flow_subscribe_plain(enum cursor_overflow overflow)
{
	return flow_subscribe(overflow, (struct credit){ 0 }, 0);
}

/* --- the child ------------------------------------------------------------------------------- */

size_t flow_write(uint32_t stream, size_t size)
{
	static uint8_t bytes[KIB(64)];
	ssize_t n;

	size = MIN(size, sizeof(bytes));
	pattern_fill(bytes, size, flow.written[stream]);
	n = write(flow.child[stream - 1], bytes, size);
	flow.written[stream] += n > 0 ? (uint64_t)n : 0;
	return n > 0 ? (size_t)n : 0;
}

void flow_write_all(uint32_t stream, size_t size)
{
	while (size) {
		size -= flow_write(stream, size);
		core_turns(flow.core, 2);
	}
	core_turns(flow.core, 3);
}

void flow_fill(uint32_t stream)
{
	for (int i = 0; i < 40; i++) {
		flow_write(stream, KIB(64));
		core_turns(flow.core, 2);
	}
}

void flow_exit(void)
{
	fd_close_many(flow.child, 2);
	core_port_exit(flow.core, flow.port, 0);
}

/* --- the reader ------------------------------------------------------------------------------ */

struct reader_stream *flow_told(const struct subscription *s, uint32_t stream)
{
	return &flow.reader.subscriptions[s->id].streams[stream];
}
