/* A connection that is lost comes back, at whatever point it was cut, and output goes on; a
 * successor that lies is found out, and who cannot come back is told. What becomes of requests is
 * in test_client_repeat.c. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/lib/comeback.h"
#include "tests/lib/fake.h"
#include "tests/lib/told.h"

TestSuite(client_reconnect, .timeout = 30);

static struct fake f;

/* --- output ---------------------------------------------------------------------------------- */

Test(client_reconnect, P13_output_goes_on_where_it_was_and_the_proof_with_it)
{
	comeback_serve(&f, NULL);
	comeback_spawn(&f, true);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	comeback_welcome(&f);
	comeback_resume(&f, 3);
	fake_output(&f, 1, 3, "def", 3);
	fake_end_with(&f, 1, 6, XXH3_64bits("abcdef", 6));
	fake_exited(&f, 7);
	fake_closed(&f);
	told_expect(&f, "o1@0:abc away back o1@3:def e1=6 x7 c0 ");
	cr_assert(told.end.verified);
	cr_assert_eq(told.closed_result, 0);
	fake_close(&f);
}

Test(client_reconnect, P13_what_was_told_is_not_told_again)
{
	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_exited(&f, 7);
	fake_end(&f, 1, 3); /* and dies before Closed */
	fake_settle(&f);
	comeback_welcome(&f);
	comeback_resume(&f, 3);
	fake_exited(&f, 7);
	fake_end(&f, 1, 3);
	fake_closed(&f);
	told_expect(&f, "o1@0:abc x7 e1=3 away back c0 ");
	cr_assert_eq(told.closed_result, 0);
	fake_close(&f);
}

Test(client_reconnect, P13_half_a_frame_is_dropped_and_comes_whole)
{
	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_bytes(&f, "\x40\x7a\x3e", 3); /* and no more of it */
	fake_settle(&f);
	comeback_welcome(&f);
	comeback_resume(&f, 3);
	fake_gap(&f, 1, 3, 10);
	fake_output(&f, 1, 10, "z", 1);
	told_expect(&f, "o1@0:abc away back g1:3-10 o1@10:z ");
	fake_close(&f);
}

Test(client_reconnect, P1_a_successor_that_doubles_or_loses_bytes_is_found_out)
{
	static const struct {
		uint64_t starts, next, total;
	} lies[] = { { 2, 2, 6 }, { 4, 4, 6 }, { 3, 2, 6 }, { 3, 4, 6 }, { 3, 3, 7 }, { 3, 3, 5 } };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		told = (struct told){ 0 };
		comeback_serve(&f, NULL);
		comeback_spawn(&f, false);
		fake_output(&f, 1, 0, "abc", 3);
		fake_settle(&f);
		comeback_welcome(&f);
		fake_subscribed(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE)->id, 1, 1,
				1, lies[i].starts);
		fake_output(&f, 1, lies[i].next, "def", 3);
		fake_end(&f, 1, lies[i].total);
		fake_closed(&f);
		cr_assert_eq(fake_settle(&f), 0);
		cr_expect_eq(told.end_result, -EBADMSG, "lie %zu", i);
		cr_expect_eq(told.closed_result, -EBADMSG, "lie %zu", i);
		fake_close(&f);
	}
}

Test(client_reconnect, P1_a_stream_that_is_shorter_than_it_was_is_data_lost)
{
	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	comeback_welcome(&f);
	fake_error(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE)->id,
		   REDD__V1__CODE__OUT_OF_RANGE, 0, "not reached");
	told_expect(&f, "o1@0:abc away back c100 ");
	cr_assert_eq(told.closed_result, -EBADMSG);
	fake_close(&f);
}

Test(client_reconnect, credit_that_was_given_by_hand_is_counted_over_the_loss)
{
	struct redd_subscribe_options o = { .handler = told_handler,
					    .credit_mode = REDD_CREDIT_MANUAL,
					    .window = 1000 };
	struct redd_subscription *s;
	struct redd_port *port;
	Redd__V1__Request *m;

	comeback_serve(&f, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, NULL), 0);
	fake_settle(&f);
	fake_subscribed(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE)->id, 1, 1, 1, 0);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	m = fake_back(&f);
	cr_assert_eq(redd_credit(s, 50), 0, "while it is away");
	fake_welcome_to(&f, m->id, 0);
	fake_settle(&f);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE);
	cr_assert_eq(m->subscribe->credit, 1000 - 3 - EVENT_CREDIT + 50);
	cr_assert_eq(redd_credit(s, 7), 0, "while it is asked for again");
	fake_subscribed(&f, m->id, 1, 5, 1, 3);
	fake_settle(&f);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_CREDIT);
	cr_assert_eq(m->credit->bytes, 7);
	cr_assert_eq(m->credit->subscription, 5);
	fake_close(&f);
}

Test(client_reconnect, P13_a_second_death_on_the_way_back_changes_nothing)
{
	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	fake_back(&f); /* said Hello, and the successor died of it */
	comeback_welcome(&f);
	comeback_next(&f,
		      REDD__V1__REQUEST__BODY_SUBSCRIBE); /* and the next one over the Subscribe */
	comeback_welcome(&f);
	comeback_resume(&f, 3);
	fake_output(&f, 1, 3, "d", 1);
	told_expect(&f, "o1@0:abc away back away back o1@3:d ");
	fake_close(&f);
}

/* To who begins anew only what is busy is told. */
Test(client_reconnect, P13_an_input_that_was_busy_is_free_unless_it_is_told_again)
{
	struct redd_subscribe_options o = { .handler = told_handler };
	struct redd_subscription *s;
	struct redd_port *port;

	o.handler.on_marks = told_marks;
	comeback_serve(&f, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, NULL), 0);
	fake_settle(&f);
	fake_subscribed(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE)->id, 1, 1, 1, 0);
	fake_marks(&f, 0, true, 9000);
	fake_marks(&f, 3, true, 9000);
	fake_marks(&f, 4, true, 9000);
	fake_marks(&f, 3, false, 10);
	fake_settle(&f);
	comeback_welcome(&f);
	comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE); /* and it dies of it */
	comeback_welcome(&f);
	comeback_resume(&f, 0);
	fake_marks(&f, 4, true, 8000);
	fake_settle(&f);
	comeback_welcome(&f);
	comeback_resume(&f, 0);
	told_expect(&f, "m0:busy:9000 m3:busy:9000 m4:busy:9000 m3:free:10 away back away back "
			"m0:free:0 m4:free:0 m4:busy:8000 away back m4:free:0 ");
	fake_close(&f);
}

/* --- no way back ----------------------------------------------------------------------------- */

Test(client_reconnect, a_service_that_was_started_anew_is_another_one)
{
	Redd__V1__Request *hello;

	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	hello = fake_back(&f);
	fake_welcome_to(&f, hello->id, 1);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(told.text, "away c100 lost ");
	cr_assert(strstr(redd_last_error(f.r)->message, "anew"), "%s",
		  redd_last_error(f.r)->message);
	fake_close(&f);
}

Test(client_reconnect, a_session_that_has_ended_is_the_end_for_who_had_ports_in_it)
{
	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	fake_error(&f, fake_back(&f)->id, REDD__V1__CODE__NOT_FOUND, 0, "no such session");
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(told.text, "away c100 lost ");
	cr_assert(strstr(redd_last_error(f.r)->message, "session"), "%s",
		  redd_last_error(f.r)->message);
	fake_close(&f);
	/* Who only looked on loses nothing with it. */
	comeback_serve(&f, NULL);
	fake_error(&f, fake_back(&f)->id, REDD__V1__CODE__NOT_FOUND, 0, "no such session");
	fake_settle(&f);
	fake_welcome_to(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_HELLO)->id, 0);
	cr_assert_eq(fake_settle(&f), 0);
	fake_close(&f);
}

Test(client_reconnect, who_does_not_come_back_in_time_is_lost)
{
	struct redd_connect_options o = { .reconnect_ms = 60 };
	struct redd_call ping = comeback_call(0);

	comeback_serve(&f, &o);
	cr_assert_eq(redd_ping_start(f.r, &ping), 0);
	fake_settle(&f);
	fake_vanish(&f);
	while (redd_run_once(f.r, -1) == 0)
		;
	cr_assert_str_eq(told.text, "away lost ");
	cr_assert_eq(comeback.results[0], -ENOTCONN);
	fake_close(&f);
}

Test(client_reconnect, bye_is_meant_unless_it_says_when_to_come_back)
{
	for (int i = 0; i < 2; i++) {
		Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
		Redd__V1__Bye bye = REDD__V1__BYE__INIT;
		Redd__V1__Error e = REDD__V1__ERROR__INIT;

		told = (struct told){ 0 };
		comeback_serve(&f, NULL);
		e.has_code = true;
		e.code = REDD__V1__CODE__UNAVAILABLE;
		e.has_retry_after_ms = i == 1;
		e.retry_after_ms = 1;
		bye.error = &e;
		m.body_case = REDD__V1__MESSAGE__BODY_BYE;
		m.bye = &bye;
		fake_say(&f, &m);
		fake_die(&f);
		cr_assert_eq(fake_settle(&f), i ? 0 : -ENOTCONN);
		if (i)
			comeback_welcome(&f);
		cr_assert_str_eq(told.text, i ? "away back " : "lost ");
		fake_close(&f);
	}
}

Test(client_reconnect, disconnect_and_free_end_it)
{
	int before = fd_count();
	struct redd_call ping = comeback_call(0);

	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	cr_assert_eq(redd_ping_start(f.r, &ping), 0);
	fake_die(&f);
	fake_settle(&f);
	redd_disconnect(f.r);
	cr_assert_eq(comeback.results[0], -ENOTCONN);
	cr_assert_str_eq(told.text, "away c100 ");
	cr_assert_eq(redd_dispatch(f.r), -ENOTCONN);
	fake_close(&f);
	comeback_serve(&f, NULL);
	comeback_spawn(&f, false);
	fake_die(&f);
	fake_settle(&f);
	fake_close(&f);
	cr_assert_eq(fd_count(), before);
}

Test(client_reconnect, who_does_not_want_it_is_lost_at_once)
{
	struct redd_connect_options o = { .no_reconnect = true };

	comeback_serve(&f, &o);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(told.text, "lost ");
	fake_close(&f);
}

/* The limit of a blocking call is one for room in the queue, too. */
Test(client_reconnect, who_waits_for_room_while_it_is_away_has_a_limit)
{
	static char data[60000];
	struct redd_connect_options o = { .queue_max = 1, .call_timeout_ms = 50 };
	struct redd_port *port;

	comeback_serve(&f, &o);
	port = comeback_spawn(&f, false);
	fake_vanish(&f);
	fake_settle(&f);
	while (redd_write_start(port, data, sizeof(data), NULL, NULL) == 0)
		;
	cr_assert_eq(redd_write(port, data, sizeof(data), NULL, NULL), -ETIMEDOUT);
	cr_assert_str_eq(told.text, "away ");
	fake_close(&f);
}

/* Writes that wait are bounded, and a kill is not refused for them. */
Test(client_reconnect, P15_what_is_kept_for_a_repeat_is_bounded)
{
	static char data[60000];
	struct redd_connect_options o = { .queue_max = 2 << 20 };
	struct redd_port *port;
	size_t taken = 0;
	int e;

	comeback_serve(&f, &o);
	port = comeback_spawn(&f, false);
	fake_die(&f);
	fake_settle(&f);
	while ((e = redd_write_start(port, data, sizeof(data), NULL, NULL)) == 0)
		taken += sizeof(data);
	cr_assert_eq(e, -EAGAIN);
	cr_assert(taken >= 2 << 20 && taken < 3 << 20, "%zu", taken);
	cr_assert_eq(redd_signal_start(port, 9, REDD_TREE, NULL), 0);
	fake_close(&f);
}
