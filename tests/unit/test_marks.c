/* Busy and free as subscriptions are told of it: a state that is true once all is told, and costs a
 * client that does not read nothing. */
#include "broker/marks.h"

#include <criterion/criterion.h>
#include <unistd.h>

#include "broker/conn.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/stream.h"
#include "broker/subscription.h"
#include "proto/base/fd.h"
#include "tests/lib/core.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/reader.h"

static struct core *core;
static struct reader_client reader;
static struct port *port;
static struct stream *input;
static int child = -1; /* reads the input */

static void init(void)
{
	core = core_open();
	reader_open(&reader, core);
	port = core_port(core, reader.conn, &(struct core_port){ .has_input = true }, &child);
	input = port_stream(port, 0);
}

static void fini(void)
{
	reader_close(&reader);
	child = fd_close(child);
	core_close(core);
}

TestSuite(marks, .timeout = 60, .init = init, .fini = fini);

static struct reader_subscription *subscribe(bool marks)
{
	const struct subscription_options o = { .overflow = CURSOR_MAY_DROP, .marks = marks };
	struct subscription *s = NULL;
	const char *reason = NULL;

	cr_assert_eq(subscription_new(&s, reader.conn, port, &o, &reason), 0, "%s", reason);
	return &reader.subscriptions[s->id];
}

static const char bytes[KIB(64)];

/* As req_input.c does it. False: the input does not take it. */
static bool feed(size_t size)
{
	if (input->in.is_failed || input_push(&input->in.queue, bytes, size, 0, NULL, NULL))
		return false;
	stream_write(input);
	return true;
}

static bool is_busy(void)
{
	return input_is_busy(&input->in.queue);
}

static void fill(void)
{
	while (!is_busy())
		cr_assert(feed(KIB(16)));
}

static size_t child_reads(size_t most)
{
	static char space[KIB(64)];
	ssize_t n = read(child, space, MIN(most, sizeof(space)));

	core_turn(core);
	return n > 0 ? (size_t)n : 0;
}

static void empty(void)
{
	while (child_reads(KIB(64)) || input_queued(&input->in.queue))
		;
}

Test(marks, S46_busy_is_told_and_then_free_to_who_asked)
{
	struct reader_subscription *asks = subscribe(true), *other = subscribe(false);

	feed(100);
	reader_drain(&reader, core);
	cr_assert_eq(asks->n_marks, 0, "the pipe took it");
	fill();
	reader_drain(&reader, core);
	cr_assert(asks->is_busy[0] && asks->n_marks == 1);
	while (is_busy())
		child_reads(1000);
	reader_drain(&reader, core);
	cr_assert(!asks->is_busy[0] && asks->n_marks == 2);
	cr_assert_eq(other->n_marks, 0);
}

Test(marks, S46_who_asks_while_it_is_busy_is_told_at_once)
{
	struct reader_subscription *asks;

	fill();
	asks = subscribe(true);
	reader_drain(&reader, core);
	cr_assert(asks->is_busy[0] && asks->n_marks == 1);
}

Test(marks, P7_what_changes_while_nobody_reads_is_told_once_or_not_at_all)
{
	struct reader_subscription *asks = subscribe(true);
	size_t before;

	reader.conn->is_choked = true; /* its socket is full */
	before = buf_size(&reader.conn->control);
	for (unsigned i = place_rounds(1000); i > 0; i--) {
		fill();
		core_turn(core);
		empty();
	}
	cr_assert_eq(buf_size(&reader.conn->control), before, "a client that does not read pays");
	cr_assert(list_is_empty(&reader.conn->marks), "it is as it was told");
	fill();
	reader.conn->is_choked = false;
	conn_wake(reader.conn);
	reader_drain(&reader, core);
	cr_assert(asks->is_busy[0] && asks->n_marks == 1);
}

Test(marks, S47_an_input_that_fails_or_ends_is_free)
{
	struct reader_subscription *asks = subscribe(true);

	fill();
	reader_drain(&reader, core);
	cr_assert(asks->is_busy[0]);
	child = fd_close(child);
	core_until(core, input->in.is_failed);
	reader_drain(&reader, core);
	cr_assert_not(asks->is_busy[0]);
	core_port_exit(core, port, 0);
	reader_drain(&reader, core);
	cr_assert(asks->is_closed && asks->n_marks == 2);
}

Test(marks, S46_the_last_marks_come_before_closed)
{
	struct reader_subscription *asks = subscribe(true);

	fill();
	reader_drain(&reader, core);
	reader.conn->is_choked = true;
	core_port_exit(core, port, 0); /* although the child's end is open: it is over */
	core_turns(core, 3);
	reader.conn->is_choked = false;
	conn_wake(reader.conn);
	reader_drain(&reader, core);
	cr_assert(asks->is_closed && !asks->is_busy[0]);
	cr_assert_eq(asks->n_marks, 2);
}

Test(marks, what_is_unsubscribed_is_told_nothing_more)
{
	struct reader_subscription *asks = subscribe(true);

	reader.conn->is_choked = true;
	fill();
	core_turns(core, 2);
	cr_assert_not(list_is_empty(&reader.conn->marks));
	subscription_end(conn_subscription(reader.conn, 1), SUBSCRIPTION_UNSUBSCRIBED);
	cr_assert(list_is_empty(&reader.conn->marks));
	cr_assert(list_is_empty(&port->marks));
	reader.conn->is_choked = false;
	conn_wake(reader.conn);
	reader_drain(&reader, core);
	cr_assert(asks->is_closed && asks->n_marks == 0);
}

/* --- a model --------------------------------------------------------------------------------- */

/* Whatever happens, and however little is read meanwhile: what was told last is true once all is
 * told. The reader itself sees to it that nothing is told twice, or behind Closed. */
static void step(struct random *r)
{
	switch (random_below(r, 6)) {
	case 0:
	case 1:
		feed(random_below(r, random_chance(r, 4) ? KIB(64) : 3000));
		break;
	case 2:
	case 3:
		child_reads(random_below(r, KIB(32)));
		break;
	case 4:
		core_turn(core);
		break;
	default:
		reader_take(&reader, 1 + random_below(r, 40));
	}
}

Test(marks, P7_the_state_that_was_told_last_is_the_true_one)
{
	const unsigned rounds = place_rounds(60);
	struct random r = { 20260412 };
	struct reader_subscription *asks = subscribe(true);
	unsigned told;

	for (unsigned round = 0; round < rounds; round++) {
		told = asks->n_marks;
		for (int i = 0; i < 200; i++)
			step(&r);
		cr_assert_leq(asks->n_marks - told, 200);
		reader_drain(&reader, core);
		cr_assert_eq(asks->is_busy[0], is_busy(), "round %u", round);
	}
	cr_assert_gt(asks->n_marks, rounds / 4);
}
