/* What becomes of requests when the connection is lost and comes back: repeated, done already, or
 * in doubt. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/comeback.h"
#include "tests/lib/fake.h"
#include "tests/lib/told.h"

TestSuite(client_repeat, .timeout = 30);

static struct fake f;

/* On its way to a broker that has not said anything yet. */
static void begin_to_connect(void)
{
	struct redd_connect_options o = { 0 };
	char socket[4100];

	comeback_serve(&f, &o);
	redd_disconnect(f.r);
	fake_die(&f);
	told = (struct told){ 0 };
	o.socket = strcat(strcpy(socket, f.directory), "/s");
	cr_assert_eq(redd_connect_start(f.r, &o, NULL), 0);
}

Test(client_repeat, P13_before_welcome_everything_goes_out_anew)
{
	struct redd_call ping = comeback_call(0);

	begin_to_connect();
	cr_assert_eq(redd_ping_start(f.r, &ping), 0);
	fake_settle(&f);
	fake_back(&f); /* took the connection, and died without a word */
	fake_welcome_to(&f, fake_back(&f)->id, 0);
	fake_settle(&f);
	fake_pong(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_PING)->id);
	fake_settle(&f);
	cr_assert_eq(comeback.results[0], 0);
	fake_close(&f);
}

/* They may be what the first connection was lost over; and nothing passes them. */
Test(client_repeat, P13_descriptors_wait_for_the_welcome_of_a_second_try)
{
	struct redd_call adopted = comeback_call(0), ping = comeback_call(1);
	struct redd_port *port;
	uint64_t hello;
	int in[2];

	begin_to_connect();
	cr_assert_eq(pipe(in), 0);
	cr_assert_eq(redd_adopt_start(
			     f.r, &(struct redd_adopt_options){ .reads = true, .read_fd = in[0] },
			     &port, &adopted),
		     0);
	cr_assert_eq(redd_ping_start(f.r, &ping), 0);
	fake_settle(&f);
	fake_back(&f); /* with them; and died without a word */
	hello = fake_back(&f)->id;
	fake_settle(&f);
	cr_assert_null(fake_heard(&f), "they came with Hello again");
	cr_assert_neq(redd_timeout(f.r), 0, "it waits busily");
	fake_welcome_to(&f, hello, 0);
	fake_settle(&f);
	fake_started(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_OPEN)->id, 1, 0);
	fake_pong(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_PING)->id);
	fake_settle(&f);
	cr_assert(!comeback.results[0] && !comeback.results[1]);
	close(in[0]);
	close(in[1]);
	fake_close(&f);
}

Test(client_repeat, P13_a_spawn_is_repeated_under_its_token_with_all_behind_it)
{
	static const char *const argv[] = { "x", NULL };
	const struct redd_spawn_options o = { .argv = argv };
	struct redd_call spawned = comeback_call(0), written = comeback_call(1);
	Redd__V1__Request *m;
	struct redd_port *port;
	uint8_t token[16];
	uint64_t id;

	comeback_serve(&f, NULL);
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, &spawned), 0);
	cr_assert_eq(redd_write_start(port, "in", 2, NULL, &written), 0);
	fake_settle(&f);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_SPAWN);
	id = m->id;
	cr_assert_eq(m->spawn->token.len, 16);
	memcpy(token, m->spawn->token.data, 16);
	comeback_welcome(&f);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_SPAWN);
	cr_assert_eq(m->id, id);
	cr_assert_eq(memcmp(m->spawn->token.data, token, 16), 0);
	fake_started(&f, id, 9, 0);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_WRITE);
	cr_assert_eq(m->write->port->spawn, id);
	cr_assert(m->write->has_offset && m->write->offset == 0);
	fake_settle(&f);
	cr_assert_eq(comeback.results[0], 0);
	comeback_welcome(&f);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_WRITE);
	cr_assert_eq(m->write->port->id, 9, "the request that spawned it is the old connection's");
	fake_written(&f, m->id, 0, 2);
	fake_settle(&f);
	cr_assert_eq(comeback.results[1], 0);
	fake_close(&f);
}

Test(client_repeat, P13_writes_are_repeated_at_their_offsets)
{
	struct redd_call calls[3] = { comeback_call(0), comeback_call(1), comeback_call(2) };
	struct redd_write_options hurried = { .no_wait = true };
	struct redd_port *port;
	Redd__V1__Request *m;

	comeback_serve(&f, NULL);
	port = comeback_spawn(&f, false);
	redd_write_start(port, "abcd", 4, NULL, &calls[0]);
	redd_write_start(port, "efg", 3, &hurried, &calls[1]);
	redd_write_start(port, "hi", 2, NULL, &calls[2]);
	fake_settle(&f);
	fake_written(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_WRITE)->id, 0, 4);
	fake_settle(&f);
	cr_assert_eq(comeback.n_results, 1);
	comeback_welcome(&f);
	comeback_resume(&f, 0);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_WRITE);
	cr_assert(m->write->has_offset && m->write->offset == 4 && !m->write->no_wait);
	fake_written(&f, m->id, 4, 3);
	m = comeback_next(&f, REDD__V1__REQUEST__BODY_WRITE);
	cr_assert(m->write->has_offset && m->write->offset == 7);
	fake_written(&f, m->id, 7, 2);
	fake_settle(&f);
	cr_assert(comeback.n_results == 3 && !comeback.results[1] && !comeback.results[2]);
	fake_close(&f);
}

/* More than the queue takes at once goes out as soon as the socket has taken that, whether the
 * broker answers or not. */
Test(client_repeat, P13_a_queue_that_is_full_on_the_way_back_holds_nothing_up_for_good)
{
	struct redd_connect_options small = { .frame_max = 65536, .queue_max = 1 };
	static char text[4000];
	struct redd_pattern patterns[15];
	struct redd_expect_options o = { .patterns = patterns, .n_patterns = 15, .has_from = true };
	struct redd_call pinged = comeback_call(0);
	struct redd_port *port;

	memset(text, 'x', sizeof(text));
	for (int i = 0; i < 15; i++)
		patterns[i] = (struct redd_pattern){ .text = text, .size = sizeof(text) };
	comeback_serve(&f, &small);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(redd_expect_start(port, &o, -1, NULL), 0);
		fake_settle(&f);
	}
	cr_assert_eq(redd_ping_start(f.r, &pinged), 0);
	fake_settle(&f);
	comeback_welcome(&f);
	while (redd_timeout(f.r) == 0 || redd_events(f.r) & POLLOUT)
		cr_assert_eq(redd_dispatch(f.r), 0);
	for (int i = 0; i < 2; i++)
		comeback_next(&f, REDD__V1__REQUEST__BODY_EXPECT);
	comeback_next(&f, REDD__V1__REQUEST__BODY_PING);
	fake_close(&f);
}

/* A write whose place nobody knows, and a signal: told as in doubt, and never sent twice. */
Test(client_repeat, P13_what_cannot_be_repeated_is_in_doubt)
{
	struct redd_call calls[4] = { comeback_call(0), comeback_call(1), comeback_call(2),
				      comeback_call(3) };
	struct redd_port *port, *ours;

	comeback_serve(&f, NULL);
	ours = comeback_spawn(&f, false);
	cr_assert_eq(redd_port_by_id(f.r, 2, &port), 0);
	redd_write_start(port, "abcd", 4, NULL, &calls[0]);
	redd_signal_start(port, 15, REDD_LEADER, &calls[1]);
	/* Somebody else has written in between. */
	redd_write_start(ours, "ab", 2, NULL, NULL);
	fake_settle(&f);
	comeback_next(&f, REDD__V1__REQUEST__BODY_WRITE);
	comeback_next(&f, REDD__V1__REQUEST__BODY_SIGNAL);
	fake_written(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_WRITE)->id, 5, 2);
	redd_write_start(ours, "cd", 2, NULL, &calls[2]);
	fake_settle(&f);
	fake_die(&f);
	fake_settle(&f);
	cr_assert_eq(comeback.n_results, 3);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(comeback.results[i], -ENOTCONN);
	cr_assert_eq(redd_signal_start(port, 2, REDD_LEADER, &calls[3]), 0, "away: it waits");
	comeback_welcome(&f);
	comeback_resume(&f, 0);
	cr_assert_eq(comeback_next(&f, REDD__V1__REQUEST__BODY_SIGNAL)->signal->signal, 2);
	cr_assert_null(fake_heard(&f));
	fake_close(&f);
}

Test(client_repeat, P13_a_repeat_that_finds_it_done_has_done_it)
{
	struct redd_call calls[3] = { comeback_call(0), comeback_call(1), comeback_call(2) };
	struct redd_port *port;

	comeback_serve(&f, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 2, &port), 0);
	redd_close_start(port, 0, &calls[0]);
	redd_forget_start(port, &calls[1]);
	redd_wait_start(port, REDD_UNTIL_EXITED, 60000, &calls[2]);
	fake_settle(&f);
	comeback_welcome(&f);
	fake_error(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_CLOSE)->id,
		   REDD__V1__CODE__FAILED_PRECONDITION, EPIPE, "was closed before");
	fake_error(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_FORGET)->id,
		   REDD__V1__CODE__NOT_FOUND, 0, "no such port");
	cr_assert_leq(comeback_next(&f, REDD__V1__REQUEST__BODY_WAIT)->wait->timeout_ms, 60000);
	fake_settle(&f);
	cr_assert(comeback.n_results == 2 && !comeback.results[0] && !comeback.results[1]);
	/* A first one that is refused the same way was not done. */
	redd_forget_start(port, &calls[1]);
	fake_settle(&f);
	fake_error(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_FORGET)->id,
		   REDD__V1__CODE__NOT_FOUND, 0, "no such port");
	fake_settle(&f);
	cr_assert_eq(comeback.results[1], -ENOENT);
	fake_close(&f);
}

static void begin_unsubscribe(void)
{
	struct redd_call done = comeback_call(0);
	struct redd_port *port;

	comeback_serve(&f, NULL);
	port = comeback_spawn(&f, false);
	cr_assert_eq(redd_unsubscribe_start(redd_port_subscription(port), &done), 0);
	fake_settle(&f);
}

Test(client_repeat, an_unsubscribe_has_come_about_with_the_connection)
{
	begin_unsubscribe();
	fake_die(&f);
	fake_settle(&f);
	cr_assert_str_eq(told.text, "c1 away ");
	cr_assert_eq(comeback.results[0], 0);
	comeback_welcome(&f);
	cr_assert_null(fake_heard(&f), "and is not asked for again");
	fake_close(&f);
}

/* The answer goes ahead of the end, which the connection took along. */
Test(client_repeat, P13_an_unsubscribe_that_was_answered_is_not_taken_back)
{
	begin_unsubscribe();
	fake_done(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_UNSUBSCRIBE)->id);
	fake_output(&f, 1, 0, "abc", 3);
	told_expect(&f, "o1@0:abc ");
	cr_assert_eq(comeback.results[0], 0);
	comeback_welcome(&f);
	told_expect(&f, "o1@0:abc c1 away back ");
	cr_assert_null(fake_heard(&f), "it is asked for again");
	fake_close(&f);
}

/* Numbers of subscriptions are a connection's. */
Test(client_repeat, one_that_is_over_is_not_taken_for_another_that_has_its_number_now)
{
	struct redd_subscribe_options o = { .handler = told_handler };
	struct redd_subscription *other;
	struct redd_port *port;

	comeback_serve(&f, NULL);
	port = comeback_spawn(&f, false);
	fake_closed(&f);
	told_expect(&f, "c0 ");
	comeback_welcome(&f);
	cr_assert_eq(redd_subscribe_start(port, &o, &other, NULL), 0);
	fake_settle(&f);
	fake_subscribed(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_SUBSCRIBE)->id, 1, 1, 1, 0);
	fake_settle(&f);
	cr_assert_eq(redd_unsubscribe_start(redd_port_subscription(port), NULL), 0);
	fake_settle(&f);
	cr_assert_neq(
		comeback_next(&f, REDD__V1__REQUEST__BODY_UNSUBSCRIBE)->unsubscribe->subscription,
		redd_subscription_id(other));
	fake_close(&f);
}

static void on_life(struct redd_watch *w, const struct redd_life *l, void *user)
{
	(void)w;
	(void)user;
	told_note("l%d@%llu ", l->what, (unsigned long long)l->sequence);
}

static void begin_watch(void)
{
	struct redd_watch_options o = { .on_life = on_life };
	struct redd_watch *watch;

	comeback_serve(&f, NULL);
	cr_assert_eq(redd_watch_start(f.r, &o, &watch, NULL), 0);
	fake_settle(&f);
}

Test(client_repeat, P13_a_watch_goes_on_behind_its_last_event)
{
	Redd__V1__Request *request;

	begin_watch();
	fake_watching(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH)->id, 3, 40);
	fake_settle(&f);
	comeback_welcome(&f);
	request = comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH);
	cr_assert(request->watch->has_after && request->watch->after == 40);
	/* That is not known any more: the watch begins from now, and it is said up to where. */
	fake_error(&f, request->id, REDD__V1__CODE__OUT_OF_RANGE, 0, "too old");
	fake_settle(&f);
	request = comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH);
	cr_assert_not(request->watch->has_after);
	fake_watching(&f, request->id, 3, 47);
	fake_life(&f, 3, REDD__V1__LIFE__WHAT__CLOSED, 48);
	told_expect(&f, "away back l5@47 l3@48 ");
	fake_close(&f);
}

/* What it has asked for from the beginning and was not told yet. */
Test(client_repeat, P13_a_watch_of_all_that_was_goes_on_where_it_is)
{
	struct redd_watch_options o = { .on_life = on_life, .has_after = true };
	Redd__V1__Request *request;
	struct redd_watch *watch;

	comeback_serve(&f, NULL);
	cr_assert_eq(redd_watch_start(f.r, &o, &watch, NULL), 0);
	fake_settle(&f);
	fake_watching(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH)->id, 3, 40);
	fake_settle(&f);
	comeback_welcome(&f);
	request = comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH);
	cr_assert(request->watch->has_after && request->watch->after == 0);
	fake_watching(&f, request->id, 3, 40);
	fake_life(&f, 3, REDD__V1__LIFE__WHAT__STARTED, 1);
	fake_settle(&f);
	comeback_welcome(&f);
	request = comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH);
	cr_assert(request->watch->has_after && request->watch->after == 1);
	cr_assert_eq(redd_watch_sequence(watch), 40);
	told_expect(&f, "away back l1@1 away back ");
	fake_close(&f);
}

/* The successor dies over the second request, too: before its answer, and after a refusal. */
Test(client_repeat, P13_a_watch_goes_on_after_deaths_on_the_way_back)
{
	Redd__V1__Request *request;

	begin_watch();
	comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH);
	comeback_welcome(&f);
	fake_watching(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH)->id, 3, 40);
	fake_settle(&f);
	cr_assert_null(fake_heard(&f), "asked for twice");
	for (int i = 0; i < 3; i++) {
		comeback_welcome(&f);
		request = comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH);
		cr_assert(request->watch->has_after && request->watch->after == 40);
		cr_assert_null(fake_heard(&f), "asked for twice");
	}
	fake_error(&f, request->id, REDD__V1__CODE__OUT_OF_RANGE, 0, "too old");
	fake_settle(&f);
	for (int i = 0; i < 2; i++) {
		cr_assert_not(comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH)->watch->has_after);
		cr_assert_null(fake_heard(&f), "asked for twice");
		comeback_welcome(&f);
	}
	fake_watching(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_WATCH)->id, 5, 50);
	fake_life(&f, 5, REDD__V1__LIFE__WHAT__CLOSED, 51);
	told_expect(&f, "away back away back away back away back away back away back l5@50 "
			"l3@51 ");
	fake_close(&f);
}
