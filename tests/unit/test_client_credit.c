/* Credit of subscriptions: what the client gives back, and when, and that a loss of the connection
 * neither drops nor doubles any. */
#include "client/client.h"

#include <criterion/criterion.h>

#include "proto/limits.h"
#include "tests/lib/comeback.h"
#include "tests/lib/fake.h"
#include "tests/lib/told.h"

TestSuite(client_credit, .timeout = 20);

/* Sum of the credit that the client has given. */
static uint64_t credit(struct fake *f)
{
	Redd__V1__Request *request;
	uint64_t sum = 0;

	while ((request = fake_heard(f))) {
		cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_CREDIT);
		cr_assert_eq(request->id, 0);
		cr_assert_eq(request->credit->subscription, 1);
		sum += request->credit->bytes;
	}
	return sum;
}

Test(client_credit, automatic_credit_is_given_back_by_halves)
{
	struct redd_subscribe_options o = { .window = 1000 };
	struct fake f;
	char data[400] = { 0 };

	fake_open(&f);
	told_subscribe(&f, &o);
	fake_output(&f, 1, 0, data, 400);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 0);
	fake_output(&f, 1, 400, data, 400);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 800 + 2 * EVENT_CREDIT);
	fake_close(&f);
}

Test(client_credit, manual_credit_is_the_programs_own)
{
	struct redd_subscribe_options o = { .credit_mode = REDD_CREDIT_MANUAL, .window = 10 };
	struct redd_subscription *s;
	struct fake f;

	fake_open(&f);
	s = told_subscribe(&f, &o);
	fake_output(&f, 1, 0, "0123456789", 10);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 0);
	cr_assert_eq(redd_credit(s, 74), 0);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 74);
	fake_close(&f);
}

Test(client_credit, credit_that_does_not_fit_the_queue_is_paid_later)
{
	struct redd_connect_options c = { .queue_max = 1 << 20 };
	struct redd_subscribe_options o = { .window = 2 };
	static const char data[60 << 10];
	struct redd_port *port;
	struct fake f;
	uint64_t sum = 0, cost = 0;
	Redd__V1__Request *request;

	fake_open_with(&f, &c);
	told_subscribe(&f, &o);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	while (redd_write_start(port, data, sizeof(data), NULL, NULL) == 0)
		;
	for (uint64_t i = 0; i < 20000; i++) {
		fake_output(&f, 1, i, "x", 1);
		cost += 1 + EVENT_CREDIT;
		if (i % 100 == 0)
			cr_assert_eq(fake_settle(&f), 0);
	}
	for (int quiet = 0; quiet < 3;) {
		cr_assert_eq(fake_settle(&f), 0);
		request = fake_heard(&f);
		quiet = request ? 0 : quiet + 1;
		if (request && request->body_case == REDD__V1__REQUEST__BODY_CREDIT)
			sum += request->credit->bytes;
	}
	cr_assert_eq(sum, cost, "%llu of %llu", (unsigned long long)sum, (unsigned long long)cost);
	fake_close(&f);
}

/* --- over a loss ----------------------------------------------------------------------------- */

static struct fake f;

/* A subscription that has so much credit, which the program gives. */
static struct redd_subscription *begin(uint64_t window)
{
	struct redd_subscribe_options o = { .handler = told_handler,
					    .credit_mode = REDD_CREDIT_MANUAL,
					    .window = window };
	struct redd_subscription *s;
	struct redd_port *port;

	comeback_serve(&f, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, NULL), 0);
	fake_settle(&f);
	fake_subscribed(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE)->id, 1, 1, 1, 0);
	cr_assert_eq(fake_settle(&f), 0);
	return s;
}

/* It is asked for again with so much. */
static uint64_t asked_with(uint64_t bytes)
{
	Redd__V1__Request *m = comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE);

	cr_assert_eq(m->subscribe->credit, bytes, "%llu, not %llu",
		     (unsigned long long)m->subscribe->credit, (unsigned long long)bytes);
	return m->id;
}

Test(client_credit, P13_what_is_given_on_the_way_back_is_given_once)
{
	struct redd_subscription *s = begin(1000);

	comeback_welcome(&f);
	asked_with(1000);
	cr_assert_eq(redd_credit(s, 7), 0, "while it is asked for again");
	comeback_welcome(&f);
	fake_subscribed(&f, asked_with(1007), 1, 5, 1, 0);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_null(fake_heard(&f));
	fake_close(&f);
}

/* The end of a stream has its price each time. */
Test(client_credit, P13_an_end_that_is_told_again_is_not_the_programs_to_pay)
{
	begin(3 + 3 * EVENT_CREDIT); /* for the output and two ends */
	fake_output(&f, 1, 0, "abc", 3);
	fake_end(&f, 1, 3);
	told_expect(&f, "o1@0:abc e1=3 ");
	for (int i = 0; i < 2; i++) {
		comeback_welcome(&f);
		fake_subscribed(&f, asked_with(2 * EVENT_CREDIT), 1, 1, 1, 3);
		fake_end(&f, 1, 3);
		cr_assert_eq(fake_settle(&f), 0);
	}
	fake_end(&f, 2, 0);
	fake_closed(&f);
	told_expect(&f, "o1@0:abc e1=3 away back away back e2=0 c0 ");
	fake_close(&f);
}
