/* Subscriptions: what comes, in which order, and what is missing, whatever the broker says. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "tests/lib/fake.h"
#include "tests/lib/told.h"

TestSuite(client_output, .timeout = 20);

/* --- the promise ----------------------------------------------------------------------------- */

Test(client_output, P1_P3_P4_bytes_gaps_ends_exit_and_close_come_as_they_were_sent)
{
	struct fake f;

	told_open(&f);
	fake_output(&f, 1, 0, "abc", 3);
	fake_exited(&f, 7);
	fake_gap(&f, 1, 3, 5);
	fake_output(&f, 1, 5, "xyz", 3);
	fake_end(&f, 1, 8);
	fake_closed(&f);
	told_expect(&f, "o1@0:abc x7 g1:3-5 o1@5:xyz e1=8 c0 ");
	cr_assert(told.end_result == 0 && told.closed_result == 0);
	cr_assert(told.end.seen == 6 && told.end.gaps == 2 && told.end.skipped == 0);
	cr_assert(told.exit.state == REDD_EXIT_CODE && told.exit.code == 7);
	fake_close(&f);
}

Test(client_output, S46_marks_are_asked_for_by_their_handler_and_handed_to_it)
{
	struct redd_subscribe_options o = { .handler = { .on_marks = told_marks } };
	struct fake f;

	fake_open(&f);
	told_subscribe(&f, &o);
	fake_marks(&f, 0, true, 9000);
	fake_output(&f, 1, 0, "abc", 3);
	fake_marks(&f, 0, false, 4000);
	fake_end(&f, 1, 3);
	fake_closed(&f);
	told_expect(&f, "m0:busy:9000 o1@0:abc m0:free:4000 e1=3 c0 ");
	fake_close(&f);
}

Test(client_output, marks_that_nobody_asked_for_do_no_harm)
{
	struct fake f;

	told_open(&f);
	fake_marks(&f, 0, true, 9000);
	fake_end(&f, 1, 0);
	fake_closed(&f);
	fake_marks(&f, 0, false, 0);
	told_expect(&f, "e1=0 c0 ");
	fake_close(&f);
}

Test(client_output, nothing_follows_the_close)
{
	struct fake f;

	told_open(&f);
	fake_end(&f, 1, 0);
	fake_closed(&f);
	fake_output(&f, 1, 0, "late", 4);
	fake_closed(&f);
	told_expect(&f, "e1=0 c0 ");
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
		struct fake f;

		told_open(&f);
		lies[i](&f);
		cr_assert_eq(fake_settle(&f), 0);
		cr_assert_eq(told.end_result, -EBADMSG, "lie %zu", i);
		cr_assert_not_null(strstr(redd_last_error(f.r)->message, "stream 1"));
		cr_assert_eq(redd_last_error(f.r)->code, REDD_DATA_LOSS);
		fake_closed(&f);
		cr_assert_eq(fake_settle(&f), 0);
		cr_assert_eq(told.closed_result, -EBADMSG, "lie %zu", i);
		fake_close(&f);
	}
}

Test(client_output, a_close_before_the_end_is_not_believed)
{
	struct fake f;

	told_open(&f);
	fake_output(&f, 1, 0, "abc", 3);
	fake_closed(&f);
	told_expect(&f, "o1@0:abc c0 ");
	cr_assert_eq(told.closed_result, -EBADMSG);
	fake_close(&f);
}

Test(client_output, P3_a_checksum_is_compared_when_asked_for)
{
	for (int verify = 0; verify < 2; verify++) {
		for (int right = 0; right < 2; right++) {
			struct redd_subscribe_options o = { .verify = verify };
			struct fake f;

			fake_open(&f);
			told_subscribe(&f, &o);
			fake_output(&f, 1, 0, "abc", 3);
			fake_end_with(&f, 1, 3, XXH3_64bits("abc", 3) + !right);
			cr_assert_eq(fake_settle(&f), 0);
			cr_assert_eq(told.end.verified, verify && right);
			cr_assert_eq(told.end_result, verify && !right ? -EBADMSG : 0);
			fake_close(&f);
		}
	}
}

Test(client_output, an_exit_that_makes_no_sense_is_unknown_never_a_number)
{
	struct fake f;

	told_open(&f);
	fake_exited(&f, 256);
	told_expect(&f, "x-1 ");
	fake_close(&f);
}

Test(client_output, a_lost_connection_leaves_the_exit_unknown_with_a_reason)
{
	struct fake f;

	told_open(&f);
	fake_output(&f, 1, 0, "abc", 3);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(told.text, "o1@0:abc c100 ");
	cr_assert_eq(told.closed_result, -ENOTCONN);
	cr_assert_eq(told.exit.state, REDD_EXIT_UNKNOWN);
	cr_assert_not_null(strstr(told.exit.reason, "lost"));
	cr_assert_eq(redd_exit_status(&told.exit), -1);
	fake_close(&f);
}

Test(client_output, an_exit_that_was_told_survives_the_loss)
{
	struct fake f;

	told_open(&f);
	fake_exited(&f, 3);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert(told.exit.state == REDD_EXIT_CODE && told.exit.code == 3);
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
		.handler = told_handler, .from = REDD_FROM_OFFSET, .offsets = &at, .n_offsets = 1
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
	told_expect(&f, "o1@100:x e1=101 ");
	cr_assert(told.end.skipped == 100 && told.end_result == 0);
	fake_close(&f);
}
