/* Subscriptions of every kind, and whatever a child, a reader and a giver of credit do, in any
 * order: nothing is lost, doubled or left. */
#include "broker/subscription.h"

#include <criterion/criterion.h>
#include <string.h>

#include "broker/conn.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/core.h"
#include "tests/lib/flow.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/reader.h"

TestSuite(conn_send_model, .timeout = 60, .init = flow_begin, .fini = flow_end);

static void random_subscription(struct random *r)
{
	enum cursor_overflow overflow =
		(enum cursor_overflow)(CURSOR_MAY_BLOCK + random_below(r, 3));
	struct credit credit = { random_chance(r, 2), random_below(r, 5000) };

	if (flow.reader.conn->n_subscriptions < 5 &&
	    flow.reader.conn->last_subscription + 1 < READER_SUBSCRIPTIONS) {
		struct subscription *s = flow_subscribe(overflow, credit, 0);

		/* It began at the beginning, which may have been dropped by then. */
		flow.reader.subscriptions[s->id].may_gap = true;
	}
}

static void give_credit(struct random *r)
{
	struct subscription *s;

	list_for_each (s, &flow.reader.conn->subscriptions, conn_link)
		if (random_chance(r, 2))
			subscription_give_credit(s, random_below(r, 3000));
}

static void random_step(struct random *r)
{
	switch (random_below(r, 12)) {
	case 0:
		random_subscription(r);
		break;
	case 1:
	case 2:
		give_credit(r);
		break;
	case 3:
	case 4:
	case 5:
		flow_write(1 + (uint32_t)random_below(r, 2), 1 + random_below(r, KIB(32)));
		break;
	case 6:
		reply_done(flow.reader.conn, 5);
		break;
	case 7:
		core_turn(flow.core);
		break;
	default:
		reader_take(&flow.reader, 1 + random_below(r, random_chance(r, 3) ? 20 : 4000));
		core_turn(flow.core);
		break;
	}
}

/* Everybody gets credit and is read until the end. */
static void finish(void)
{
	struct subscription *s;

	flow_exit();
	for (int i = 0; !list_is_empty(&flow.reader.conn->subscriptions); i++) {
		cr_assert_lt(i, 10000, "wedged");
		list_for_each (s, &flow.reader.conn->subscriptions, conn_link)
			if (s->state == SUBSCRIPTION_OPEN)
				subscription_give_credit(s, 100000);
		reader_drain(&flow.reader, flow.core);
	}
	reader_drain(&flow.reader, flow.core);
}

static void check_end(uint64_t seed, uint64_t n_subscriptions)
{
	for (uint64_t id = 1; id <= n_subscriptions; id++) {
		const struct reader_subscription *s = &flow.reader.subscriptions[id];

		cr_assert(s->is_closed, "seed %lu: subscription %lu is not closed", seed, id);
		if (s->cause == REDD__V1__CLOSED__CAUSE__TOO_SLOW)
			continue;
		for (uint32_t i = 1; i <= 2; i++) {
			cr_assert(s->streams[i].has_ended, "seed %lu", seed);
			cr_assert_eq(s->streams[i].data + s->streams[i].gaps, flow.written[i],
				     "seed %lu: subscription %lu stream %u", seed, id, i);
		}
	}
	cr_assert_eq(buf_size(&flow.reader.in), 0, "seed %lu", seed);
}

Test(conn_send_model, P1_random_writes_reads_and_credit_lose_and_double_nothing)
{
	for (uint64_t seed = 1; seed <= place_rounds(60); seed++) {
		struct random r = { seed };

		memset(flow.written, 0, sizeof(flow.written));
		flow_open_port(2);
		for (int step = 0; step < 1500; step++)
			random_step(&r);
		finish();
		check_end(seed, flow.reader.conn->last_subscription);
		reader_close(&flow.reader);
		conn_close(flow.reader.conn);
		reader_open(&flow.reader, flow.core);
		core_turn(flow.core);
		port_forget(flow.port);
	}
}
