/* A connection that is lost comes back, at whatever point it was cut; and a successor that lies is
 * found out. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/lib/fake.h"

TestSuite(client_reconnect, .timeout = 30);

/* All that was told, in a line: "o1@0:abc e1=3 x7 c0", "away", "back", "lost". */
struct heard {
	char text[4096];
	int end_result, closed_result;
	bool verified;
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
	(void)s;
	(void)user;
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
	heard.verified = e->verified;
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
}

static void on_reconnect(struct redd *r, enum redd_reconnect what, void *user)
{
	(void)user;
	cr_assert_eq(redd_fd(r) >= 0, what == REDD_BACK);
	note(what == REDD_BACK ? "back " : "away ");
}

static void on_lost(struct redd *r, const struct redd_error *why, void *user)
{
	(void)r;
	(void)user;
	cr_assert_eq(why->result, -ENOTCONN);
	note("lost ");
}

static void on_life(struct redd_watch *w, const struct redd_life *l, void *user)
{
	(void)w;
	(void)user;
	note("l%d@%llu ", l->what, (unsigned long long)l->sequence);
}

static const struct redd_handler handler = {
	.on_output = on_output,
	.on_gap = on_gap,
	.on_end = on_end,
	.on_exited = on_exited,
	.on_closed = on_closed,
};

/* What became of started calls, by their user pointers. */
static int results[8], n_results;

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	cr_assert_eq(result < 0, reply == NULL);
	results[(size_t)user] = result;
	n_results++;
}

static struct redd_call call_of(size_t i)
{
	results[i] = 1;
	return (struct redd_call){ .done = on_done, .user = (void *)i };
}

/* --- tools ----------------------------------------------------------------------------------- */

static struct fake f;

static void open_service(struct redd_connect_options *o)
{
	fake_serve(&f, o);
	redd_on_reconnect(f.r, on_reconnect, NULL);
	redd_on_lost(f.r, on_lost, NULL);
}

static void serve(void)
{
	struct redd_connect_options o = { 0 };

	open_service(&o);
}

/* The broker dies and its successor has said Welcome. */
static void die_and_welcome(void)
{
	Redd__V1__Request *hello = fake_back(&f);

	cr_assert_eq(hello->hello->session.len, 16);
	cr_assert_str_eq((char *)hello->hello->session.data, "fedcba987654321");
	fake_welcome_to(&f, hello->id, 0);
	cr_assert_eq(fake_settle(&f), 0);
}

/* The next request, which must be of that kind. */
static Redd__V1__Request *heard_next(Redd__V1__Request__BodyCase kind)
{
	Redd__V1__Request *m = fake_heard(&f);

	cr_assert_not_null(m, "nothing was asked");
	cr_assert_eq(m->body_case, kind, "asked for %d, not %d", m->body_case, kind);
	return m;
}

/* A running port with a subscription from its beginning, both number 1. */
static struct redd_port *spawn(bool verify)
{
	static const char *const argv[] = { "x", NULL };
	struct redd_subscribe_options watch = { .handler = handler, .verify = verify };
	struct redd_spawn_options o = { .argv = argv, .subscribe = &watch };
	struct redd_port *port;

	cr_assert_eq(redd_spawn_start(f.r, &o, &port, NULL), 0);
	cr_assert_eq(fake_settle(&f), 0);
	fake_started(&f, heard_next(REDD__V1__REQUEST__BODY_SPAWN)->id, 1, 1);
	cr_assert_eq(fake_settle(&f), 0);
	return port;
}

/* The subscription is asked for again from there, and that is granted. */
static void resumed_at(uint64_t offset)
{
	Redd__V1__Request *m = heard_next(REDD__V1__REQUEST__BODY_SUBSCRIBE);
	const Redd__V1__Start *start = m->subscribe->start;

	cr_assert_eq(m->subscribe->port->id, 1);
	cr_assert_eq(start->from, REDD__V1__START__FROM__OFFSET);
	cr_assert(start->n_offsets ? start->offsets[0]->offset == offset : offset == 0);
	fake_subscribed(&f, m->id, 1, 1, 1, offset);
}

static void told(const char *expected)
{
	cr_assert_eq(fake_settle(&f), 0, "%s", redd_last_error(f.r)->message);
	cr_assert_str_eq(heard.text, expected);
}

/* --- output ---------------------------------------------------------------------------------- */

Test(client_reconnect, P13_output_goes_on_where_it_was_and_the_proof_with_it)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__StreamEnd e = REDD__V1__STREAM_END__INIT;

	serve();
	spawn(true);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	die_and_welcome();
	resumed_at(3);
	fake_output(&f, 1, 3, "def", 3);
	e.has_subscription = e.has_stream = e.has_total = e.has_xxh3 = true;
	e.subscription = e.stream = 1;
	e.total = 6;
	e.xxh3 = XXH3_64bits("abcdef", 6);
	m.body_case = REDD__V1__MESSAGE__BODY_STREAM_END;
	m.stream_end = &e;
	fake_say(&f, &m);
	fake_exited(&f, 7);
	fake_closed(&f);
	told("o1@0:abc away back o1@3:def e1=6 x7 c0 ");
	cr_assert(heard.verified);
	cr_assert_eq(heard.closed_result, 0);
	fake_close(&f);
}

Test(client_reconnect, P13_what_was_told_is_not_told_again)
{
	serve();
	spawn(false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_exited(&f, 7);
	fake_end(&f, 1, 3); /* and dies before Closed */
	fake_settle(&f);
	die_and_welcome();
	resumed_at(3);
	fake_exited(&f, 7);
	fake_end(&f, 1, 3);
	fake_closed(&f);
	told("o1@0:abc x7 e1=3 away back c0 ");
	cr_assert_eq(heard.closed_result, 0);
	fake_close(&f);
}

Test(client_reconnect, P13_half_a_frame_is_dropped_and_comes_whole)
{
	serve();
	spawn(false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_bytes(&f, "\x40\x7a\x3e", 3); /* and no more of it */
	fake_settle(&f);
	die_and_welcome();
	resumed_at(3);
	fake_gap(&f, 1, 3, 10);
	fake_output(&f, 1, 10, "z", 1);
	told("o1@0:abc away back g1:3-10 o1@10:z ");
	fake_close(&f);
}

Test(client_reconnect, P1_a_successor_that_doubles_or_loses_bytes_is_found_out)
{
	static const struct {
		uint64_t starts, next, total;
	} lies[] = { { 2, 2, 6 }, { 4, 4, 6 }, { 3, 2, 6 }, { 3, 4, 6 }, { 3, 3, 7 }, { 3, 3, 5 } };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		heard = (struct heard){ 0 };
		serve();
		spawn(false);
		fake_output(&f, 1, 0, "abc", 3);
		fake_settle(&f);
		die_and_welcome();
		fake_subscribed(&f, heard_next(REDD__V1__REQUEST__BODY_SUBSCRIBE)->id, 1, 1, 1,
				lies[i].starts);
		fake_output(&f, 1, lies[i].next, "def", 3);
		fake_end(&f, 1, lies[i].total);
		fake_closed(&f);
		cr_assert_eq(fake_settle(&f), 0);
		cr_expect_eq(heard.end_result, -EBADMSG, "lie %zu", i);
		cr_expect_eq(heard.closed_result, -EBADMSG, "lie %zu", i);
		fake_close(&f);
	}
}

Test(client_reconnect, P1_a_stream_that_is_shorter_than_it_was_is_data_lost)
{
	serve();
	spawn(false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	die_and_welcome();
	fake_error(&f, heard_next(REDD__V1__REQUEST__BODY_SUBSCRIBE)->id,
		   REDD__V1__CODE__OUT_OF_RANGE, 0, "not reached");
	told("o1@0:abc away back c100 ");
	cr_assert_eq(heard.closed_result, -EBADMSG);
	fake_close(&f);
}

Test(client_reconnect, credit_that_was_given_by_hand_is_counted_over_the_loss)
{
	struct redd_subscribe_options o = { .handler = handler,
					    .credit_mode = REDD_CREDIT_MANUAL,
					    .window = 1000 };
	struct redd_subscription *s;
	struct redd_port *port;
	Redd__V1__Request *m;

	serve();
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, NULL), 0);
	fake_settle(&f);
	fake_subscribed(&f, heard_next(REDD__V1__REQUEST__BODY_SUBSCRIBE)->id, 1, 1, 1, 0);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	m = fake_back(&f);
	cr_assert_eq(redd_credit(s, 50), 0, "while it is away");
	fake_welcome_to(&f, m->id, 0);
	fake_settle(&f);
	m = heard_next(REDD__V1__REQUEST__BODY_SUBSCRIBE);
	cr_assert_eq(m->subscribe->credit, 1000 - 3 - EVENT_CREDIT + 50);
	cr_assert_eq(redd_credit(s, 7), 0, "while it is asked for again");
	fake_subscribed(&f, m->id, 1, 5, 1, 3);
	fake_settle(&f);
	m = heard_next(REDD__V1__REQUEST__BODY_CREDIT);
	cr_assert_eq(m->credit->bytes, 7);
	cr_assert_eq(m->credit->subscription, 5);
	fake_close(&f);
}

Test(client_reconnect, P13_a_second_death_on_the_way_back_changes_nothing)
{
	serve();
	spawn(false);
	fake_output(&f, 1, 0, "abc", 3);
	fake_settle(&f);
	fake_back(&f); /* said Hello, and the successor died of it */
	die_and_welcome();
	heard_next(REDD__V1__REQUEST__BODY_SUBSCRIBE); /* and the next one over the Subscribe */
	die_and_welcome();
	resumed_at(3);
	fake_output(&f, 1, 3, "d", 1);
	told("o1@0:abc away back away back o1@3:d ");
	fake_close(&f);
}

/* --- requests -------------------------------------------------------------------------------- */

Test(client_reconnect, P13_before_welcome_everything_goes_out_anew)
{
	struct redd_call ping = call_of(0);
	struct redd_connect_options o = { 0 };

	open_service(&o);
	redd_disconnect(f.r);
	fake_die(&f);
	heard = (struct heard){ 0 };
	cr_assert_eq(redd_connect_start(
			     f.r,
			     &(struct redd_connect_options){
				     .socket = strcat(strcpy((char[4100]){ 0 }, f.directory), "/s"),
			     },
			     NULL),
		     0);
	cr_assert_eq(redd_ping_start(f.r, &ping), 0);
	fake_settle(&f);
	fake_back(&f); /* took the connection, and died without a word */
	fake_welcome_to(&f, fake_back(&f)->id, 0);
	fake_settle(&f);
	{
		Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
		Redd__V1__Pong pong = REDD__V1__PONG__INIT;

		m.has_reply_to = true;
		m.reply_to = heard_next(REDD__V1__REQUEST__BODY_PING)->id;
		m.body_case = REDD__V1__MESSAGE__BODY_PONG;
		m.pong = &pong;
		fake_say(&f, &m);
	}
	fake_settle(&f);
	cr_assert_eq(results[0], 0);
	fake_close(&f);
}

Test(client_reconnect, P13_a_spawn_is_repeated_under_its_token_with_all_behind_it)
{
	static const char *const argv[] = { "x", NULL };
	const struct redd_spawn_options o = { .argv = argv };
	struct redd_call spawned = call_of(0), written = call_of(1);
	Redd__V1__Request *m;
	struct redd_port *port;
	uint8_t token[16];
	uint64_t id;

	serve();
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, &spawned), 0);
	cr_assert_eq(redd_write_start(port, "in", 2, NULL, &written), 0);
	fake_settle(&f);
	m = heard_next(REDD__V1__REQUEST__BODY_SPAWN);
	id = m->id;
	cr_assert_eq(m->spawn->token.len, 16);
	memcpy(token, m->spawn->token.data, 16);
	die_and_welcome();
	m = heard_next(REDD__V1__REQUEST__BODY_SPAWN);
	cr_assert_eq(m->id, id);
	cr_assert_eq(memcmp(m->spawn->token.data, token, 16), 0);
	fake_started(&f, id, 9, 0);
	m = heard_next(REDD__V1__REQUEST__BODY_WRITE);
	cr_assert_eq(m->write->port->spawn, id);
	cr_assert(m->write->has_offset && m->write->offset == 0);
	fake_settle(&f);
	cr_assert_eq(results[0], 0);
	die_and_welcome();
	m = heard_next(REDD__V1__REQUEST__BODY_WRITE);
	cr_assert_eq(m->write->port->id, 9, "the request that spawned it is the old connection's");
	fake_written(&f, m->id, 0, 2);
	fake_settle(&f);
	cr_assert_eq(results[1], 0);
	fake_close(&f);
}

Test(client_reconnect, P13_writes_are_repeated_at_their_offsets)
{
	struct redd_call calls[3] = { call_of(0), call_of(1), call_of(2) };
	struct redd_write_options hurried = { .no_wait = true };
	struct redd_port *port;
	Redd__V1__Request *m;

	serve();
	port = spawn(false);
	redd_write_start(port, "abcd", 4, NULL, &calls[0]);
	redd_write_start(port, "efg", 3, &hurried, &calls[1]);
	redd_write_start(port, "hi", 2, NULL, &calls[2]);
	fake_settle(&f);
	fake_written(&f, heard_next(REDD__V1__REQUEST__BODY_WRITE)->id, 0, 4);
	fake_settle(&f);
	cr_assert_eq(n_results, 1);
	die_and_welcome();
	resumed_at(0);
	m = heard_next(REDD__V1__REQUEST__BODY_WRITE);
	cr_assert(m->write->has_offset && m->write->offset == 4 && !m->write->no_wait);
	fake_written(&f, m->id, 4, 3);
	m = heard_next(REDD__V1__REQUEST__BODY_WRITE);
	cr_assert(m->write->has_offset && m->write->offset == 7);
	fake_written(&f, m->id, 7, 2);
	fake_settle(&f);
	cr_assert(n_results == 3 && !results[1] && !results[2]);
	fake_close(&f);
}

/* A write whose place nobody knows, and a signal: told as in doubt, and never sent twice. */
Test(client_reconnect, P13_what_cannot_be_repeated_is_in_doubt)
{
	struct redd_call calls[4] = { call_of(0), call_of(1), call_of(2), call_of(3) };
	struct redd_port *port, *ours;

	serve();
	ours = spawn(false);
	cr_assert_eq(redd_port_by_id(f.r, 2, &port), 0);
	redd_write_start(port, "abcd", 4, NULL, &calls[0]);
	redd_signal_start(port, 15, REDD_LEADER, &calls[1]);
	/* Somebody else has written in between. */
	redd_write_start(ours, "ab", 2, NULL, NULL);
	fake_settle(&f);
	heard_next(REDD__V1__REQUEST__BODY_WRITE);
	heard_next(REDD__V1__REQUEST__BODY_SIGNAL);
	fake_written(&f, heard_next(REDD__V1__REQUEST__BODY_WRITE)->id, 5, 2);
	redd_write_start(ours, "cd", 2, NULL, &calls[2]);
	fake_settle(&f);
	fake_die(&f);
	fake_settle(&f);
	cr_assert_eq(n_results, 3);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(results[i], -ENOTCONN);
	cr_assert_eq(redd_signal_start(port, 2, REDD_LEADER, &calls[3]), 0, "away: it waits");
	die_and_welcome();
	resumed_at(0);
	cr_assert_eq(heard_next(REDD__V1__REQUEST__BODY_SIGNAL)->signal->signal, 2);
	cr_assert_null(fake_heard(&f));
	fake_close(&f);
}

Test(client_reconnect, P13_a_repeat_that_finds_it_done_has_done_it)
{
	struct redd_call calls[3] = { call_of(0), call_of(1), call_of(2) };
	struct redd_port *port;

	serve();
	cr_assert_eq(redd_port_by_id(f.r, 2, &port), 0);
	redd_close_start(port, 0, &calls[0]);
	redd_forget_start(port, &calls[1]);
	redd_wait_start(port, REDD_UNTIL_EXITED, 60000, &calls[2]);
	fake_settle(&f);
	die_and_welcome();
	fake_error(&f, heard_next(REDD__V1__REQUEST__BODY_CLOSE)->id,
		   REDD__V1__CODE__FAILED_PRECONDITION, EPIPE, "was closed before");
	fake_error(&f, heard_next(REDD__V1__REQUEST__BODY_FORGET)->id, REDD__V1__CODE__NOT_FOUND, 0,
		   "no such port");
	cr_assert_leq(heard_next(REDD__V1__REQUEST__BODY_WAIT)->wait->timeout_ms, 60000);
	fake_settle(&f);
	cr_assert(n_results == 2 && !results[0] && !results[1]);
	/* A first one that is refused the same way was not done. */
	redd_forget_start(port, &calls[1]);
	fake_settle(&f);
	fake_error(&f, heard_next(REDD__V1__REQUEST__BODY_FORGET)->id, REDD__V1__CODE__NOT_FOUND, 0,
		   "no such port");
	fake_settle(&f);
	cr_assert_eq(results[1], -ENOENT);
	fake_close(&f);
}

Test(client_reconnect, an_unsubscribe_has_come_about_with_the_connection)
{
	struct redd_call done = call_of(0);
	struct redd_port *port;

	serve();
	port = spawn(false);
	cr_assert_eq(redd_unsubscribe_start(redd_port_subscription(port), &done), 0);
	fake_settle(&f);
	fake_die(&f);
	fake_settle(&f);
	cr_assert_str_eq(heard.text, "c1 away ");
	cr_assert_eq(results[0], 0);
	die_and_welcome();
	cr_assert_null(fake_heard(&f), "and is not asked for again");
	fake_close(&f);
}

Test(client_reconnect, P13_a_watch_goes_on_behind_its_last_event)
{
	struct redd_watch_options o = { .on_life = on_life };
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Watching w = REDD__V1__WATCHING__INIT;
	Redd__V1__Request *request;
	struct redd_watch *watch;

	serve();
	cr_assert_eq(redd_watch_start(f.r, &o, &watch, NULL), 0);
	fake_settle(&f);
	w.has_watch = w.has_sequence = m.has_reply_to = true;
	w.watch = 3;
	w.sequence = 40;
	m.reply_to = heard_next(REDD__V1__REQUEST__BODY_WATCH)->id;
	m.body_case = REDD__V1__MESSAGE__BODY_WATCHING;
	m.watching = &w;
	fake_say(&f, &m);
	fake_settle(&f);
	die_and_welcome();
	request = heard_next(REDD__V1__REQUEST__BODY_WATCH);
	cr_assert(request->watch->has_after && request->watch->after == 40);
	/* That is not known any more: it is said, and the watch begins from now. */
	fake_error(&f, request->id, REDD__V1__CODE__OUT_OF_RANGE, 0, "too old");
	fake_settle(&f);
	request = heard_next(REDD__V1__REQUEST__BODY_WATCH);
	cr_assert_not(request->watch->has_after);
	m.reply_to = request->id;
	fake_say(&f, &m);
	told("away back l5@40 ");
	fake_close(&f);
}

/* --- no way back ----------------------------------------------------------------------------- */

Test(client_reconnect, a_service_that_was_started_anew_is_another_one)
{
	Redd__V1__Request *hello;

	serve();
	spawn(false);
	hello = fake_back(&f);
	fake_welcome_to(&f, hello->id, 1);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(heard.text, "away c100 lost ");
	cr_assert(strstr(redd_last_error(f.r)->message, "anew"), "%s",
		  redd_last_error(f.r)->message);
	fake_close(&f);
}

Test(client_reconnect, a_session_that_has_ended_is_the_end_for_who_had_ports_in_it)
{
	serve();
	spawn(false);
	fake_error(&f, fake_back(&f)->id, REDD__V1__CODE__NOT_FOUND, 0, "no such session");
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(heard.text, "away c100 lost ");
	cr_assert(strstr(redd_last_error(f.r)->message, "session"), "%s",
		  redd_last_error(f.r)->message);
	fake_close(&f);
	/* Who only looked on loses nothing with it. */
	serve();
	fake_error(&f, fake_back(&f)->id, REDD__V1__CODE__NOT_FOUND, 0, "no such session");
	fake_settle(&f);
	fake_welcome_to(&f, heard_next(REDD__V1__REQUEST__BODY_HELLO)->id, 0);
	cr_assert_eq(fake_settle(&f), 0);
	fake_close(&f);
}

Test(client_reconnect, who_does_not_come_back_in_time_is_lost)
{
	struct redd_connect_options o = { .reconnect_ms = 60 };
	struct redd_call ping = call_of(0);

	open_service(&o);
	cr_assert_eq(redd_ping_start(f.r, &ping), 0);
	fake_settle(&f);
	fake_vanish(&f);
	while (redd_run_once(f.r, -1) == 0)
		;
	cr_assert_str_eq(heard.text, "away lost ");
	cr_assert_eq(results[0], -ENOTCONN);
	fake_close(&f);
}

Test(client_reconnect, bye_is_meant_unless_it_says_when_to_come_back)
{
	for (int i = 0; i < 2; i++) {
		Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
		Redd__V1__Bye bye = REDD__V1__BYE__INIT;
		Redd__V1__Error e = REDD__V1__ERROR__INIT;

		heard = (struct heard){ 0 };
		serve();
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
			die_and_welcome();
		cr_assert_str_eq(heard.text, i ? "away back " : "lost ");
		fake_close(&f);
	}
}

Test(client_reconnect, disconnect_and_free_end_it)
{
	int before = fd_count();
	struct redd_call ping = call_of(0);

	serve();
	spawn(false);
	cr_assert_eq(redd_ping_start(f.r, &ping), 0);
	fake_die(&f);
	fake_settle(&f);
	redd_disconnect(f.r);
	cr_assert_eq(results[0], -ENOTCONN);
	cr_assert_str_eq(heard.text, "away c100 ");
	cr_assert_eq(redd_dispatch(f.r), -ENOTCONN);
	fake_close(&f);
	serve();
	spawn(false);
	fake_die(&f);
	fake_settle(&f);
	fake_close(&f);
	cr_assert_eq(fd_count(), before);
}

Test(client_reconnect, who_does_not_want_it_is_lost_at_once)
{
	struct redd_connect_options o = { .no_reconnect = true };

	open_service(&o);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	cr_assert_str_eq(heard.text, "lost ");
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

	open_service(&o);
	port = spawn(false);
	fake_die(&f);
	fake_settle(&f);
	while ((e = redd_write_start(port, data, sizeof(data), NULL, NULL)) == 0)
		taken += sizeof(data);
	cr_assert_eq(e, -EAGAIN);
	cr_assert(taken >= 2 << 20 && taken < 3 << 20, "%zu", taken);
	cr_assert_eq(redd_signal_start(port, 9, REDD_TREE, NULL), 0);
	fake_close(&f);
}
