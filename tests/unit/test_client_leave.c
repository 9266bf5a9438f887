/* How subscriptions end: refused, freed at whatever moment, or finished. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "tests/lib/fake.h"
#include "tests/lib/told.h"

TestSuite(client_leave, .timeout = 20);

Test(client_leave, a_freed_subscription_is_deaf_and_the_broker_is_told)
{
	Redd__V1__Request *request;
	struct redd_subscription *s;
	struct fake f;

	s = told_open(&f);
	redd_subscription_free(s);
	fake_output(&f, 1, 0, "abc", 3);
	fake_exited(&f, 0);
	told_expect(&f, "");
	request = fake_heard(&f);
	cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_UNSUBSCRIBE);
	cr_assert_eq(request->unsubscribe->subscription, 1);
	fake_done(&f, request->id);
	fake_closed(&f);
	fake_output(&f, 1, 3, "abc", 3);
	told_expect(&f, "");
	fake_close(&f);
}

Test(client_leave, freed_before_its_answer_it_is_ended_with_it)
{
	struct redd_subscribe_options o = { .handler = told_handler };
	struct redd_subscription *s;
	Redd__V1__Request *request;
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, NULL), 0);
	redd_subscription_free(s);
	redd_port_free(port);
	fake_subscribed(&f, 2, 1, 1, 1, 0);
	fake_output(&f, 1, 0, "abc", 3);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(fake_heard(&f)->body_case, REDD__V1__REQUEST__BODY_SUBSCRIBE);
	request = fake_heard(&f);
	cr_assert(request && request->body_case == REDD__V1__REQUEST__BODY_UNSUBSCRIBE);
	cr_assert_str_eq(told.text, "");
	fake_close(&f);
}

static void free_own(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	(void)o;
	(void)user;
	told_note("freed ");
	redd_port_free(redd_subscription_port(s));
}

Test(client_leave, a_callback_may_free_its_own_subscription_and_port)
{
	struct redd_subscribe_options o = { .handler = { .on_output = free_own } };
	struct redd_subscription *s;
	struct redd_port *port;
	struct fake f;

	told = (struct told){ 0 };
	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	fake_subscribed(&f, 2, 1, 1, 1, 0);
	fake_output(&f, 1, 0, "abc", 3);
	fake_output(&f, 1, 3, "def", 3);
	fake_closed(&f);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, NULL), 0);
	told_expect(&f, "freed ");
	fake_close(&f);
}

static void free_in_close(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	(void)c;
	(void)user;
	told_note("closed ");
	redd_subscription_free(s);
}

Test(client_leave, a_subscription_may_be_freed_in_its_last_callback_however_it_ends)
{
	for (int die = 0; die < 2; die++) {
		struct redd_subscribe_options o = { .handler = { .on_closed = free_in_close } };
		struct redd_subscription *s;
		struct redd_port *port;
		struct fake f;

		told = (struct told){ 0 };
		fake_open(&f);
		cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
		fake_subscribed(&f, 2, 1, 1, 1, 0);
		cr_assert_eq(redd_subscribe(port, &o, &s), 0);
		if (die)
			fake_die(&f);
		else
			fake_closed(&f);
		fake_settle(&f);
		cr_assert_str_eq(told.text, "closed ");
		fake_close(&f);
	}
}

Test(client_leave, a_refused_subscription_is_told_by_the_call_and_the_last_callback)
{
	struct redd_subscribe_options o = { .handler = told_handler };
	struct redd_subscription *s = NULL;
	struct redd_port *port;
	struct fake f;

	told = (struct told){ 0 };
	fake_open(&f);
	cr_assert_eq(redd_port_by_name(f.r, "gone", &port), 0);
	fake_error(&f, 2, REDD__V1__CODE__NOT_FOUND, 0, "no such port");
	cr_assert_eq(redd_subscribe(port, &o, &s), -ENOENT);
	cr_assert_null(s);
	cr_assert_str_eq(told.text, "c101 ");
	cr_assert_eq(told.closed_result, -ENOENT);
	cr_assert_str_eq(redd_last_error(f.r)->message, "no such port");
	fake_close(&f);
}

Test(client_leave, more_streams_than_a_port_can_have_break_nothing)
{
	struct fake f;

	told_open(&f);
	told.text[0] = '\0';
	for (uint32_t stream = 1; stream <= 40; stream++)
		fake_output(&f, stream, 0, "x", 1);
	cr_assert_eq(fake_settle(&f), 0);
	fake_closed(&f);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(told.closed_result, -EBADMSG);
	fake_close(&f);
}

Test(client_leave, P3_finishing_waits_for_the_last_byte_and_can_be_asked_again)
{
	struct redd_subscription *s;
	struct redd_closed closed;
	struct fake f;

	s = told_open(&f);
	fake_exited(&f, 4);
	fake_output(&f, 1, 0, "abc", 3);
	fake_end(&f, 1, 3);
	fake_closed(&f);
	cr_assert_eq(redd_finish(s, &closed), 0);
	cr_assert_str_eq(told.text, "x4 o1@0:abc e1=3 c0 ");
	cr_assert(closed.exit.code == 4 && closed.cause == REDD_PORT_CLOSED);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_eq(redd_finish(s, NULL), 0);
	fake_close(&f);
}

Test(client_leave, P3_finishing_tells_what_is_missing_or_lost)
{
	for (int lose = 0; lose < 2; lose++) {
		struct redd_subscription *s;
		struct redd_closed closed;
		struct fake f;

		s = told_open(&f);
		if (lose)
			fake_die(&f);
		else
			fake_closed(&f);
		cr_assert_eq(redd_finish(s, &closed), lose ? -ENOTCONN : -EBADMSG);
		cr_assert_eq(closed.cause, lose ? REDD_CLOSED_LOST : REDD_PORT_CLOSED);
		cr_assert_eq(closed.exit.state, REDD_EXIT_UNKNOWN);
		fake_close(&f);
	}
}

static void free_it(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	(void)o;
	(void)user;
	redd_subscription_free(s);
}

Test(client_leave, finishing_what_a_callback_frees_is_cancelled)
{
	struct redd_subscribe_options o = { .handler = { .on_output = free_it } };
	struct redd_subscription *s;
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	fake_subscribed(&f, 2, 1, 1, 1, 0);
	cr_assert_eq(redd_subscribe(port, &o, &s), 0);
	fake_output(&f, 1, 0, "abc", 3);
	cr_assert_eq(redd_finish(s, NULL), -ECANCELED);
	fake_close(&f);
}

/* Not a byte more goes into the queue, but what the library owes. */
Test(client_leave, a_queue_that_is_full_to_the_brim_still_takes_an_unsubscribe)
{
	static char data[1 << 20];
	struct redd_subscription *s;
	const Redd__V1__Request *m;
	struct redd_port *port;
	size_t size = sizeof(data) / 2;
	struct fake f;

	s = told_open(&f);
	port = redd_subscription_port(s);
	while (redd_queued(f.r) < 3u << 20)
		cr_assert_eq(redd_write_start(port, data, sizeof(data) - 100, NULL, NULL), 0);
	for (; size > 100; size--)
		if (redd_write_start(port, data, size, NULL, NULL) == 0)
			break;
	redd_subscription_free(s);
	do {
		fake_settle(&f);
		m = fake_heard(&f);
	} while (redd_queued(f.r) || (m && m->body_case == REDD__V1__REQUEST__BODY_WRITE));
	cr_assert(m && m->body_case == REDD__V1__REQUEST__BODY_UNSUBSCRIBE);
	fake_close(&f);
}
