/* What one of many readers of a stream costs when it comes or goes: as much as one of few. Measured
 * in processor time, eight times as many against few: about eight times as long where each costs
 * the same, 64 times where each looks at all others. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "broker/subscription.h"
#include "tests/lib/core.h"
#include "tests/lib/places.h"

#define FEW    2000u
#define MANY   (8 * FEW)
#define RATIO  28 /* between 8 and 64, nearer to neither */
#define ROUNDS 3

static struct core *core;
static struct conn *reader;
static struct port *port;
static int client, child;
static struct subscription *subscriptions[MANY];

static void set_up(void)
{
	core = core_open();
	reader = core_connect(core, &client);
	port = core_port(core, reader, &(struct core_port){ .n_outputs = 1 }, &child);
}

static void tear_down(void)
{
	close(client);
	close(child);
	core_close(core);
}

TestSuite(many_readers, .init = set_up, .fini = tear_down, .timeout = 120);

static struct stream *output(void)
{
	return port->streams[0];
}

static uint64_t clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Without credit, so that it stays where it begins. */
static struct subscription *subscribe(enum cursor_overflow overflow, uint64_t offset)
{
	const struct subscription_options o = { .from = CURSOR_FROM_OFFSET,
						.n_offsets = 1,
						.offsets = { offset },
						.offset_streams = { 1 },
						.overflow = overflow,
						.credit = { .is_limited = true } };
	struct subscription *s;
	const char *reason;

	cr_assert_eq(subscription_new(&s, reader, port, &o, &reason), 0);
	return s;
}

/* Those without an end of their own. */
static void come_and_go(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		subscriptions[i] = subscribe(CURSOR_MAY_DROP, 0);
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(conn_subscription(reader, subscriptions[i]->id), subscriptions[i]);
	for (unsigned i = 0; i < n; i++)
		subscription_free(subscriptions[i]);
}

/* Behind one that every byte was promised to. */
static void go_from_a_port_that_has_ended(unsigned n)
{
	struct subscription *last;

	for (unsigned i = 0; i < n; i++)
		subscriptions[i] = subscribe(CURSOR_MAY_DROP, 0);
	last = subscribe(CURSOR_MAY_BLOCK, 0);
	port->state = PORT_ENDED;
	for (unsigned i = 0; i < n; i++)
		subscription_free(subscriptions[i]);
	port->state = PORT_RUNNING;
	subscription_free(last);
}

/* Each is a byte ahead of the one before, and all of them hold the stream back. */
static void go_from_a_stream_that_is_held(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		subscriptions[i] = subscribe(CURSOR_MAY_BLOCK, i);
	cr_assert_eq(write(child, "x", 1), 1);
	core_until(core, output()->out.is_held);
	for (unsigned i = 0; i < n; i++) {
		cr_assert(output()->out.is_held);
		subscription_free(subscriptions[i]);
	}
}

static uint64_t fastest_us(void (*run)(unsigned n), unsigned n)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t begin = clock_us();

		run(n);
		best = MIN(best, clock_us() - begin);
	}
	return best;
}

static void expect_linear(void (*run)(unsigned n))
{
	uint64_t few = fastest_us(run, FEW), many = fastest_us(run, MANY);

	cr_expect_lt(many, few * RATIO, "%llu us for %u, %llu us for %u", (unsigned long long)few,
		     FEW, (unsigned long long)many, MANY);
}

Test(many_readers, each_costs_the_same_to_come_and_to_go)
{
	expect_linear(come_and_go);
}

Test(many_readers, each_costs_the_same_to_go_from_a_port_that_has_ended)
{
	expect_linear(go_from_a_port_that_has_ended);
}

Test(many_readers, each_costs_the_same_to_go_from_a_stream_that_is_held)
{
	static char data[RING_LOWEST];
	struct subscription *guard = subscribe(CURSOR_MAY_BLOCK, 0);
	ssize_t n;

	for (size_t sent = 0; sent < sizeof(data); sent += (size_t)MAX(n, 0)) {
		n = write(child, data, sizeof(data) - sent);
		core_turn(core);
	}
	core_until(core, stream_total(output()) == sizeof(data));
	expect_linear(go_from_a_stream_that_is_held);
	subscription_free(guard);
}

/* --- what is counted ------------------------------------------------------------------------- */

Test(many_readers, those_that_may_block_are_counted_as_they_come_go_and_stall)
{
	struct subscription *s[4];

	for (int i = 0; i < 4; i++)
		s[i] = subscribe(i % 2 ? CURSOR_MAY_DROP : CURSOR_MAY_BLOCK, 0);
	cr_expect_eq(output()->out.n_blockers, 2);
	cr_expect_eq(port->n_needing, 2);
	s[0]->stall.ring(&s[0]->stall);
	cr_expect_eq(output()->out.n_blockers, 1);
	cr_expect_eq(port->n_needing, 1);
	cr_expect_eq(slowest_first(&output()->out.slowest), &s[2]->readers[0].floor);
	subscription_end(s[2], SUBSCRIPTION_UNSUBSCRIBED);
	cr_expect_eq(output()->out.n_blockers, 0);
	cr_expect_eq(port->n_needing, 0);
	for (int i = 0; i < 4; i++)
		subscription_free(s[i]);
	cr_expect_eq(output()->out.n_blockers, 0);
}
