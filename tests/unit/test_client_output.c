/* Subscriptions: what comes, in which order, what is missing, and what it costs. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "proto/limits.h"
#include "tests/lib/fake.h"

TestSuite(client_output, .timeout = 20);

/* All that a subscription heard, in a line: "o1@0:abc g1:3-5 e1=8 x7 c0". */
struct heard {
	char text[4096];
	int end_result, closed_result;
	struct redd_exit exit;
	struct redd_stream_end end;
};

static struct heard heard;

static void note(const char *format, ...)
{
	size_t used = strlen(heard.text);
	va_list args;

	va_start(args, format);
	vsnprintf(heard.text + used, sizeof(heard.text) - used, format, args);
	va_end(args);
}

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	cr_assert(user == &heard && o->consumed == o->size);
	cr_assert_not_null(redd_subscription_port(s));
	note("o%u@%llu:%.*s ", o->stream, (unsigned long long)o->offset, (int)o->size,
	     (const char *)o->data);
}

static void on_gap(struct redd_subscription *s, const struct redd_gap *g, void *user)
{
	(void)s;
	(void)user;
	note("g%u:%llu-%llu ", g->stream, (unsigned long long)g->offset,
	     (unsigned long long)g->end);
}

static void on_end(struct redd_subscription *s, const struct redd_stream_end *e, void *user)
{
	(void)s;
	(void)user;
	note("e%u=%llu ", e->stream, (unsigned long long)e->total);
	heard.end_result = e->result;
	heard.end = *e;
}

static void on_exited(struct redd_subscription *s, const struct redd_exit *e, void *user)
{
	(void)s;
	(void)user;
	note("x%d ", redd_exit_status(e));
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	(void)s;
	(void)user;
	note("c%d ", c->cause);
	heard.closed_result = c->result;
	heard.exit = c->exit;
}

static void on_marks(struct redd_subscription *s, const struct redd_marks *m, void *user)
{
	(void)s;
	(void)user;
	note("m%u:%s:%llu ", m->stream, m->busy ? "busy" : "free", (unsigned long long)m->queued);
}

static const struct redd_handler handler = {
	.user = &heard,
	.on_output = on_output,
	.on_gap = on_gap,
	.on_end = on_end,
	.on_exited = on_exited,
	.on_closed = on_closed,
};

/* A subscription with id 1 to port 1, from offset 0 of stream 1. */
static struct redd_subscription *subscribe(struct fake *f, struct redd_subscribe_options *o)
{
	const bool wants_marks = o->handler.on_marks != NULL;
	struct redd_subscription *s;
	const Redd__V1__Request *request;
	struct redd_port *port;

	heard = (struct heard){ 0 };
	o->handler = handler;
	o->handler.on_marks = wants_marks ? on_marks : NULL;
	cr_assert_eq(redd_port_by_id(f->r, 1, &port), 0);
	fake_subscribed(f, 2, 1, 1, 1, 0);
	cr_assert_eq(redd_subscribe(port, o, &s), 0, "%s", redd_last_error(f->r)->message);
	request = fake_heard(f);
	cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_SUBSCRIBE);
	cr_assert_eq(request->subscribe->marks, wants_marks);
	cr_assert_eq(redd_subscription_id(s), 1);
	return s;
}

static void expect(struct fake *f, const char *text)
{
	cr_assert_eq(fake_settle(f), 0);
	cr_assert_str_eq(heard.text, text);
}

/* --- the promise ----------------------------------------------------------------------------- */

Test(client_output, P1_P3_P4_bytes_gaps_ends_exit_and_close_come_as_they_were_sent)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_output(&f, 1, 0, "abc", 3);
	fake_exited(&f, 7);
	fake_gap(&f, 1, 3, 5);
	fake_output(&f, 1, 5, "xyz", 3);
	fake_end(&f, 1, 8);
	fake_closed(&f);
	expect(&f, "o1@0:abc x7 g1:3-5 o1@5:xyz e1=8 c0 ");
	cr_assert(heard.end_result == 0 && heard.closed_result == 0);
	cr_assert(heard.end.seen == 6 && heard.end.gaps == 2 && heard.end.skipped == 0);
	cr_assert(heard.exit.state == REDD_EXIT_CODE && heard.exit.code == 7);
	fake_close(&f);
}

Test(client_output, S46_marks_are_asked_for_by_their_handler_and_handed_to_it)
{
	struct redd_subscribe_options o = { .handler = { .on_marks = on_marks } };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_marks(&f, 0, true, 9000);
	fake_output(&f, 1, 0, "abc", 3);
	fake_marks(&f, 0, false, 4000);
	fake_end(&f, 1, 3);
	fake_closed(&f);
	expect(&f, "m0:busy:9000 o1@0:abc m0:free:4000 e1=3 c0 ");
	fake_close(&f);
}

Test(client_output, marks_that_nobody_asked_for_do_no_harm)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_marks(&f, 0, true, 9000);
	fake_end(&f, 1, 0);
	fake_closed(&f);
	fake_marks(&f, 0, false, 0);
	expect(&f, "e1=0 c0 ");
	fake_close(&f);
}

Test(client_output, nothing_follows_the_close)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_end(&f, 1, 0);
	fake_closed(&f);
	fake_output(&f, 1, 0, "late", 4);
	fake_closed(&f);
	expect(&f, "e1=0 c0 ");
	fake_close(&f);
}

/* --- lies ------------------------------------------------------------------------------------ */

static void short_total(struct fake *f)
{
	fake_output(f, 1, 0, "abc", 3);
	fake_end(f, 1, 2);
}

static void long_total(struct fake *f)
{
	fake_output(f, 1, 0, "abc", 3);
	fake_end(f, 1, 4);
}

static void hole(struct fake *f)
{
	fake_output(f, 1, 0, "abc", 3);
	fake_output(f, 1, 4, "e", 1);
	fake_end(f, 1, 5);
}

static void twice(struct fake *f)
{
	fake_output(f, 1, 0, "abc", 3);
	fake_output(f, 1, 2, "c", 1);
	fake_end(f, 1, 3);
}

Test(client_output, P3_a_total_that_does_not_add_up_is_told_with_end_and_close)
{
	void (*const lies[])(struct fake *) = { short_total, long_total, hole, twice };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct redd_subscribe_options o = { 0 };
		struct fake f;

		fake_open(&f);
		subscribe(&f, &o);
		lies[i](&f);
		cr_assert_eq(fake_settle(&f), 0);
		cr_assert_eq(heard.end_result, -EBADMSG, "lie %zu", i);
		cr_assert_not_null(strstr(redd_last_error(f.r)->message, "stream 1"));
		cr_assert_eq(redd_last_error(f.r)->code, REDD_DATA_LOSS);
		fake_closed(&f);
		cr_assert_eq(fake_settle(&f), 0);
		cr_assert_eq(heard.closed_result, -EBADMSG, "lie %zu", i);
		fake_close(&f);
	}
}

Test(client_output, a_close_before_the_end_is_not_believed)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_output(&f, 1, 0, "abc", 3);
	fake_closed(&f);
	expect(&f, "o1@0:abc c0 ");
	cr_assert_eq(heard.closed_result, -EBADMSG);
	fake_close(&f);
}

/* The end of stream 1 with a checksum. */
static void end_with(struct fake *f, uint64_t total, uint64_t xxh3)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__StreamEnd e = REDD__V1__STREAM_END__INIT;

	e.has_subscription = e.has_stream = e.has_total = e.has_xxh3 = true;
	e.subscription = 1;
	e.stream = 1;
	e.total = total;
	e.xxh3 = xxh3;
	m.body_case = REDD__V1__MESSAGE__BODY_STREAM_END;
	m.stream_end = &e;
	fake_say(f, &m);
}

Test(client_output, P3_a_checksum_is_compared_when_asked_for)
{
	for (int verify = 0; verify < 2; verify++) {
		for (int right = 0; right < 2; right++) {
			struct redd_subscribe_options o = { .verify = verify };
			struct fake f;

			fake_open(&f);
			subscribe(&f, &o);
			fake_output(&f, 1, 0, "abc", 3);
			end_with(&f, 3, XXH3_64bits("abc", 3) + !right);
			cr_assert_eq(fake_settle(&f), 0);
			cr_assert_eq(heard.end.verified, verify && right);
			cr_assert_eq(heard.end_result, verify && !right ? -EBADMSG : 0);
			fake_close(&f);
		}
	}
}

Test(client_output, an_exit_that_makes_no_sense_is_unknown_never_a_number)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_exited(&f, 256);
	expect(&f, "x-1 ");
	fake_close(&f);
}

Test(client_output, a_lost_connection_leaves_the_exit_unknown_with_a_reason)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_output(&f, 1, 0, "abc", 3);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(heard.text, "o1@0:abc c100 ");
	cr_assert_eq(heard.closed_result, -ENOTCONN);
	cr_assert_eq(heard.exit.state, REDD_EXIT_UNKNOWN);
	cr_assert_not_null(strstr(heard.exit.reason, "lost"));
	cr_assert_eq(redd_exit_status(&heard.exit), -1);
	fake_close(&f);
}

Test(client_output, an_exit_that_was_told_survives_the_loss)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	fake_exited(&f, 3);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert(heard.exit.state == REDD_EXIT_CODE && heard.exit.code == 3);
	fake_close(&f);
}

Test(client_output, a_wait_that_loses_the_connection_invents_nothing)
{
	struct redd_port *port;
	struct redd_waited w;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	fake_die(&f);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, -1, &w), -ENOTCONN);
	cr_assert_eq(w.exit.state, REDD_EXIT_UNKNOWN);
	cr_assert_not_null(w.exit.reason);
	fake_close(&f);
}

/* --- where it starts ------------------------------------------------------------------------- */

Test(client_output, a_late_start_counts_what_lies_before_as_skipped)
{
	struct redd_stream_offset at = { 1, 100 };
	struct redd_subscribe_options o = {
		.handler = handler, .from = REDD_FROM_OFFSET, .offsets = &at, .n_offsets = 1
	};
	struct redd_subscription *s;
	Redd__V1__Request *request;
	struct redd_port *port;
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	fake_subscribed(&f, 2, 1, 1, 1, 100);
	fake_output(&f, 1, 100, "x", 1);
	cr_assert_eq(redd_subscribe(port, &o, &s), 0);
	request = fake_heard(&f);
	cr_assert_eq(request->subscribe->start->from, REDD__V1__START__FROM__OFFSET);
	cr_assert_eq(request->subscribe->start->offsets[0]->offset, 100);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(redd_subscription_offset(s, 1), 101);
	cr_assert_eq(redd_subscription_offset(s, 2), 0);
	fake_end(&f, 1, 101);
	expect(&f, "o1@100:x e1=101 ");
	cr_assert(heard.end.skipped == 100 && heard.end_result == 0);
	fake_close(&f);
}

/* --- credit ---------------------------------------------------------------------------------- */

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

Test(client_output, automatic_credit_is_given_back_by_halves)
{
	struct redd_subscribe_options o = { .window = 1000 };
	struct fake f;
	char data[400] = { 0 };

	fake_open(&f);
	subscribe(&f, &o);
	fake_output(&f, 1, 0, data, 400);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 0);
	fake_output(&f, 1, 400, data, 400);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 800 + 2 * EVENT_CREDIT);
	fake_close(&f);
}

Test(client_output, manual_credit_is_the_programs_own)
{
	struct redd_subscribe_options o = { .credit_mode = REDD_CREDIT_MANUAL, .window = 10 };
	struct redd_subscription *s;
	struct fake f;

	fake_open(&f);
	s = subscribe(&f, &o);
	fake_output(&f, 1, 0, "0123456789", 10);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 0);
	cr_assert_eq(redd_credit(s, 74), 0);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(credit(&f), 74);
	fake_close(&f);
}

Test(client_output, credit_that_does_not_fit_the_queue_is_paid_later)
{
	struct redd_connect_options c = { .queue_max = 1 << 20 };
	struct redd_subscribe_options o = { .window = 2 };
	static const char data[60 << 10];
	struct redd_port *port;
	struct fake f;
	uint64_t sum = 0, cost = 0;
	Redd__V1__Request *request;

	fake_open_with(&f, &c);
	subscribe(&f, &o);
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

/* --- leaving --------------------------------------------------------------------------------- */

Test(client_output, a_freed_subscription_is_deaf_and_the_broker_is_told)
{
	struct redd_subscribe_options o = { 0 };
	Redd__V1__Request *request;
	struct redd_subscription *s;
	struct fake f;

	fake_open(&f);
	s = subscribe(&f, &o);
	redd_subscription_free(s);
	fake_output(&f, 1, 0, "abc", 3);
	fake_exited(&f, 0);
	expect(&f, "");
	request = fake_heard(&f);
	cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_UNSUBSCRIBE);
	cr_assert_eq(request->unsubscribe->subscription, 1);
	fake_done(&f, request->id);
	fake_closed(&f);
	fake_output(&f, 1, 3, "abc", 3);
	expect(&f, "");
	fake_close(&f);
}

Test(client_output, freed_before_its_answer_it_is_ended_with_it)
{
	struct redd_subscribe_options o = { .handler = handler };
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
	cr_assert_str_eq(heard.text, "");
	fake_close(&f);
}

static void free_own(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	(void)o;
	(void)user;
	note("freed ");
	redd_port_free(redd_subscription_port(s));
}

Test(client_output, a_callback_may_free_its_own_subscription_and_port)
{
	struct redd_subscribe_options o = { .handler = { .on_output = free_own } };
	struct redd_subscription *s;
	struct redd_port *port;
	struct fake f;

	heard = (struct heard){ 0 };
	fake_open(&f);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	fake_subscribed(&f, 2, 1, 1, 1, 0);
	fake_output(&f, 1, 0, "abc", 3);
	fake_output(&f, 1, 3, "def", 3);
	fake_closed(&f);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, NULL), 0);
	expect(&f, "freed ");
	fake_close(&f);
}

static void free_in_close(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	(void)c;
	(void)user;
	note("closed ");
	redd_subscription_free(s);
}

Test(client_output, a_subscription_may_be_freed_in_its_last_callback_however_it_ends)
{
	for (int die = 0; die < 2; die++) {
		struct redd_subscribe_options o = { .handler = { .on_closed = free_in_close } };
		struct redd_subscription *s;
		struct redd_port *port;
		struct fake f;

		heard = (struct heard){ 0 };
		fake_open(&f);
		cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
		fake_subscribed(&f, 2, 1, 1, 1, 0);
		cr_assert_eq(redd_subscribe(port, &o, &s), 0);
		if (die)
			fake_die(&f);
		else
			fake_closed(&f);
		fake_settle(&f);
		cr_assert_str_eq(heard.text, "closed ");
		fake_close(&f);
	}
}

Test(client_output, a_refused_subscription_is_told_by_the_call_and_the_last_callback)
{
	struct redd_subscribe_options o = { .handler = handler };
	struct redd_subscription *s = NULL;
	struct redd_port *port;
	struct fake f;

	heard = (struct heard){ 0 };
	fake_open(&f);
	cr_assert_eq(redd_port_by_name(f.r, "gone", &port), 0);
	fake_error(&f, 2, REDD__V1__CODE__NOT_FOUND, 0, "no such port");
	cr_assert_eq(redd_subscribe(port, &o, &s), -ENOENT);
	cr_assert_null(s);
	cr_assert_str_eq(heard.text, "c101 ");
	cr_assert_eq(heard.closed_result, -ENOENT);
	cr_assert_str_eq(redd_last_error(f.r)->message, "no such port");
	fake_close(&f);
}

Test(client_output, more_streams_than_a_port_can_have_break_nothing)
{
	struct redd_subscribe_options o = { 0 };
	struct fake f;

	fake_open(&f);
	subscribe(&f, &o);
	heard.text[0] = '\0';
	for (uint32_t stream = 1; stream <= 40; stream++)
		fake_output(&f, stream, 0, "x", 1);
	cr_assert_eq(fake_settle(&f), 0);
	fake_closed(&f);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(heard.closed_result, -EBADMSG);
	fake_close(&f);
}

Test(client_output, finishing_waits_for_the_last_byte_and_can_be_asked_again)
{
	struct redd_subscribe_options o = { 0 };
	struct redd_subscription *s;
	struct redd_closed closed;
	struct fake f;

	fake_open(&f);
	s = subscribe(&f, &o);
	fake_exited(&f, 4);
	fake_output(&f, 1, 0, "abc", 3);
	fake_end(&f, 1, 3);
	fake_closed(&f);
	cr_assert_eq(redd_finish(s, &closed), 0);
	cr_assert_str_eq(heard.text, "x4 o1@0:abc e1=3 c0 ");
	cr_assert(closed.exit.code == 4 && closed.cause == REDD_PORT_CLOSED);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_eq(redd_finish(s, NULL), 0);
	fake_close(&f);
}

Test(client_output, finishing_tells_what_is_missing_or_lost)
{
	for (int lose = 0; lose < 2; lose++) {
		struct redd_subscribe_options o = { 0 };
		struct redd_subscription *s;
		struct redd_closed closed;
		struct fake f;

		fake_open(&f);
		s = subscribe(&f, &o);
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

Test(client_output, finishing_what_a_callback_frees_is_cancelled)
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
