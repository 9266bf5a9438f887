/* Patient writes: what is refused for want of room comes again, in its order, and nothing that was
 * started behind it comes before. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/handles.h"
#include "tests/lib/comeback.h"
#include "tests/lib/fake.h"

static struct fake f;
static struct redd_port *port;
static char told[256];	   /* the data and the result of each write that ended */
static bool states_offset; /* the last write that the broker heard of */

static void set_up(void)
{
	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
}

static void tear_down(void)
{
	cr_assert_eq(f.r->patience.n_waiting + f.r->patience.n_sent, 0);
	fake_close(&f);
}

TestSuite(client_patience, .timeout = 30);

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	size_t used = strlen(told);

	(void)r;
	(void)reply;
	snprintf(told + used, sizeof(told) - used, "%s=%d ", (const char *)user, result);
}

/* One byte, which is its name too. */
static void write_byte(const char *byte)
{
	const struct redd_write_options o = { .patient = true };
	struct redd_call call = { .done = on_done, .user = (void *)byte };

	cr_assert_eq(redd_write_start(port, byte, 1, &o, &call), 0);
}

/* The next one that the broker hears of is this. */
static void hears(const char *byte, uint64_t id, uint32_t batch)
{
	Redd__V1__Request *m;

	while (!(m = fake_heard(&f)))
		cr_assert_eq(redd_run_once(f.r, -1), 0);
	cr_assert_eq(m->body_case, REDD__V1__REQUEST__BODY_WRITE);
	cr_assert(m->write->data.len == 1 && m->write->data.data[0] == (uint8_t)*byte, "%s", byte);
	cr_assert_eq(m->id, id);
	cr_assert_eq(m->write->batch, batch, "%s: %u", byte, m->write->batch);
	states_offset = m->write->has_offset;
}

static void hears_no_more(void)
{
	fake_settle(&f);
	cr_assert_null(fake_heard(&f));
}

static void refuse(uint64_t id)
{
	fake_error(&f, id, REDD__V1__CODE__RESOURCE_EXHAUSTED, EAGAIN, "full");
}

static void three_are_refused(void)
{
	write_byte("a");
	write_byte("b");
	write_byte("c");
	hears("a", 2, 1);
	hears("b", 3, 1);
	hears("c", 4, 1);
	for (uint64_t id = 2; id <= 4; id++)
		refuse(id);
	fake_settle(&f);
	cr_assert_str_eq(told, "");
}

Test(client_patience, what_is_refused_comes_again_in_its_order, .init = set_up, .fini = tear_down)
{
	three_are_refused();
	write_byte("d"); /* 5: it must not be the first that there is room for */
	hears("a", 2, 2);
	hears_no_more();
	fake_written(&f, 2, 0, 1);
	hears("b", 3, 2);
	hears("c", 4, 2);
	hears_no_more();
	fake_written(&f, 3, 1, 1);
	fake_written(&f, 4, 2, 1);
	hears("d", 5, 2);
	write_byte("e"); /* none waits any more: it goes out as ever */
	hears("e", 6, 2);
	fake_written(&f, 5, 3, 1);
	fake_written(&f, 6, 4, 1);
	fake_settle(&f);
	cr_assert_str_eq(told, "a=0 b=0 c=0 d=0 e=0 ");
}

Test(client_patience, what_is_refused_again_is_tried_alone_and_later, .init = set_up,
     .fini = tear_down)
{
	three_are_refused();
	for (uint32_t batch = 2; batch < 6; batch++) {
		hears("a", 2, batch);
		hears_no_more();
		refuse(2);
		fake_settle(&f);
		cr_assert_gt(redd_timeout(f.r), 0, "at once");
	}
	hears("a", 2, 6);
	fake_written(&f, 2, 0, 1);
	hears("b", 3, 6);
	hears("c", 4, 6);
	refuse(3); /* and c with it */
	refuse(4);
	hears("b", 3, 7);
	fake_written(&f, 3, 1, 1);
	hears("c", 4, 7);
	fake_written(&f, 4, 2, 1);
	fake_settle(&f);
	cr_assert_str_eq(told, "a=0 b=0 c=0 ");
}

Test(client_patience, what_is_refused_for_good_ends, .init = set_up, .fini = tear_down)
{
	write_byte("a");
	write_byte("b");
	fake_error(&f, 2, REDD__V1__CODE__FAILED_PRECONDITION, EPIPE, "closed");
	refuse(3); /* being of its batch */
	hears("a", 2, 1);
	hears("b", 3, 1);
	hears("b", 3, 2);
	fake_error(&f, 3, REDD__V1__CODE__FAILED_PRECONDITION, EPIPE, "closed");
	fake_settle(&f);
	cr_assert_str_eq(told, "a=-32 b=-32 ");
}

Test(client_patience, P13_a_loss_sends_all_again_in_one_batch)
{
	comeback_serve(&f, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	three_are_refused();
	comeback_welcome(&f);
	hears("a", 2, 2);
	hears("b", 3, 2);
	hears("c", 4, 2);
	for (uint64_t id = 2; id <= 4; id++)
		fake_written(&f, id, id - 2, 1);
	fake_settle(&f);
	cr_assert_str_eq(told, "a=0 b=0 c=0 ");
	tear_down();
}

/* What was on its way behind it was refused as well, though that was not told any more: none states
 * the offset at which it would have been if none had been refused. */
Test(client_patience, P13_what_is_behind_a_refused_one_is_not_taken_for_written)
{
	comeback_serve(&f, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	write_byte("x");
	hears("x", 2, 1);
	fake_written(&f, 2, 0, 1); /* so offsets can be reckoned */
	fake_settle(&f);
	write_byte("a");
	write_byte("b");
	hears("a", 3, 1);
	hears("b", 4, 1);
	refuse(3);
	fake_settle(&f);
	comeback_welcome(&f);
	hears("a", 3, 2);
	cr_assert_not(states_offset);
	hears("b", 4, 2);
	cr_assert_not(states_offset);
	fake_written(&f, 3, 1, 1);
	fake_written(&f, 4, 2, 1);
	fake_settle(&f);
	cr_assert_str_eq(told, "x=0 a=0 b=0 ");
	tear_down();
}

/* What was taken before it may be answered behind it, and others of its batch are still to be
 * refused: until then none goes out. */
Test(client_patience, none_goes_out_before_a_refused_batch_is_answered, .init = set_up,
     .fini = tear_down)
{
	write_byte("x");
	write_byte("a");
	write_byte("b");
	hears("x", 2, 1);
	hears("a", 3, 1);
	hears("b", 4, 1);
	refuse(3);
	fake_written(&f, 2, 0, 1);
	fake_settle(&f);
	write_byte("c");
	for (int i = 0; i < 3; i++) { /* longer than the pause */
		redd_run_once(f.r, 20);
		hears_no_more();
	}
	refuse(4);
	hears("a", 3, 2);
	hears_no_more();
	fake_written(&f, 3, 1, 1);
	hears("b", 4, 2);
	hears("c", 5, 2);
	fake_written(&f, 4, 2, 1);
	fake_written(&f, 5, 3, 1);
	fake_settle(&f);
	cr_assert_str_eq(told, "x=0 a=0 b=0 c=0 ");
}

Test(client_patience, P13_a_repetition_in_parts_waits_likewise)
{
	comeback_serve(&f, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 3, &port), 0);
	port->window = 4096; /* so none can have been refused for that */
	write_byte("x");
	hears("x", 2, 1);
	fake_written(&f, 2, 0, 1);
	fake_settle(&f);
	write_byte("a");
	write_byte("b");
	hears("a", 3, 1);
	hears("b", 4, 1);
	comeback_welcome(&f);
	hears("a", 3, 1);
	hears("b", 4, 1);
	cr_assert(states_offset);
	refuse(3);
	fake_settle(&f);
	f.r->away.is_resuming = true; /* as if not all had gone out in one turn */
	write_byte("c");
	hears_no_more();
	refuse(4);
	hears("a", 3, 2);
	hears_no_more();
	fake_written(&f, 3, 1, 1);
	hears("b", 4, 2);
	hears("c", f.r->calls.last_id, 2);
	fake_written(&f, 4, 2, 1);
	fake_written(&f, f.r->calls.last_id, 3, 1);
	fake_settle(&f);
	cr_assert_str_eq(told, "x=0 a=0 b=0 c=0 ");
	tear_down();
}
