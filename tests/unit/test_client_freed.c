/* Callbacks free what they are about, and what others are about, wherever they are called from: on
 * the loss, on the way back, and in the midst of a blocking call. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/codec.h"
#include "tests/lib/revive.h"

TestSuite(client_freed, .timeout = 30);

/* Its subscription is number `id` too. */
static struct redd_subscription *subscribe(uint64_t id, const struct redd_subscribe_options *o)
{
	struct redd_subscription *s;

	cr_assert_eq(redd_subscribe_start(revive_port(id), o, &s, NULL), 0);
	fake_settle(&revived);
	fake_subscribed(&revived, HEARD(SUBSCRIBE)->id, id, id, 1, 0);
	cr_assert_eq(fake_settle(&revived), 0);
	return s;
}

/* The first part of a packet, with its header. */
static void say_part(uint64_t subscription)
{
	const struct codec_output o = { .subscription = subscription,
					.port = subscription,
					.stream = 1,
					.consumed = 5,
					.record = REDD__V1__OUTPUT__RECORD__PART,
					.size = 1 };
	uint8_t prefix[CODEC_OUTPUT_PREFIX_MAX];

	fake_bytes(&revived, prefix, codec_output_prefix(prefix, &o));
	fake_bytes(&revived, "x", 1);
}

static int n_closed;

/* Frees all of a list, in which it stands itself. */
static void free_all(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct redd_subscription **list = user;

	(void)s;
	(void)c;
	n_closed++;
	for (; *list; list++) {
		redd_subscription_free(*list);
		*list = NULL;
	}
}

static void free_it(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	(void)c;
	(void)user;
	n_closed++;
	redd_subscription_free(s);
}

/* --- on the way back ------------------------------------------------------------------------- */

Test(client_freed, who_is_told_that_a_subscription_is_not_resumed_frees_it_and_others)
{
	struct redd_subscription *list[4] = { NULL };
	const struct redd_subscribe_options o = { .handler = { .on_closed = free_all,
							       .user = list } };

	revive_serve();
	for (uint64_t id = 1; id <= 3; id++) {
		list[id - 1] = subscribe(id, &o);
		say_part(id);
	}
	subscribe(4, &o);
	revive();
	cr_assert_eq(n_closed, 1, "the others were freed before they were told");
	cr_assert_eq(HEARD(SUBSCRIBE)->subscribe->port->id, 4);
	cr_assert_null(fake_heard(&revived));
	fake_close(&revived);
}

Test(client_freed, each_frees_itself_and_all_are_told)
{
	const struct redd_subscribe_options o = { .handler = { .on_closed = free_it } };

	revive_serve();
	for (uint64_t id = 1; id <= 4; id++) {
		subscribe(id, &o);
		if (id % 2)
			say_part(id);
	}
	revive();
	cr_assert_eq(n_closed, 2);
	for (uint64_t id = 2; id <= 4; id += 2)
		cr_assert_eq(HEARD(SUBSCRIBE)->subscribe->port->id, id);
	fake_close(&revived);
}

static void say_welcome(uint64_t to, uint32_t frame_max)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Welcome w = REDD__V1__WELCOME__INIT;
	const struct redd_welcome *before = redd_welcome(revived.r);

	w.has_frame_max = w.has_session = w.has_instance = m.has_reply_to = true;
	w.frame_max = frame_max;
	w.session = (ProtobufCBinaryData){ 16, (uint8_t *)before->session };
	w.instance = (ProtobufCBinaryData){ 16, (uint8_t *)before->instance };
	m.reply_to = to;
	m.body_case = REDD__V1__MESSAGE__BODY_WELCOME;
	m.welcome = &w;
	fake_say(&revived, &m);
}

static void ping_instead(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)reply;
	(void)user;
	cr_assert_eq(result, -EMSGSIZE);
	cr_assert_eq(redd_ping_start(r, NULL), 0);
}

Test(client_freed, what_is_started_when_the_last_call_is_given_up_goes_out)
{
	static char data[100000];
	struct redd_call call = { .done = ping_instead };
	uint64_t hello;

	revive_serve();
	hello = fake_back(&revived)->id;
	cr_assert_eq(redd_write_start(revive_port(1), data, sizeof(data), NULL, &call), 0);
	say_welcome(hello, FRAME_MAX_LOWEST);
	cr_assert_eq(fake_settle(&revived), 0, "%s", redd_last_error(revived.r)->message);
	HEARD(PING);
	fake_close(&revived);
}

/* --- in the midst of a blocking call --------------------------------------------------------- */

Test(client_freed, a_subscription_that_is_refused_is_freed_when_that_is_told)
{
	const struct redd_subscribe_options o = { .handler = { .on_closed = free_it } };
	struct redd_subscription *s = NULL;
	struct redd_port *port;

	fake_open(&revived);
	port = revive_port(1);
	fake_error(&revived, 2, REDD__V1__CODE__NOT_FOUND, 0, "no such port");
	cr_assert_eq(redd_subscribe(port, &o, &s), -ENOENT);
	cr_assert_null(s);
	cr_assert_eq(n_closed, 1);
	fake_close(&revived);
}

static void closed_early(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	(void)c;
	redd_port_free(redd_subscription_port(s));
	*(bool *)user = true;
}

Test(client_freed, what_ended_and_was_freed_before_the_call_returns_is_not_returned)
{
	bool is_closed = false;
	const struct redd_subscribe_options o = { .handler = { .on_closed = closed_early,
							       .user = &is_closed } };
	static const char *const argv[] = { "x", NULL };
	const struct redd_spawn_options spawn = { .argv = argv, .subscribe = &o };
	struct redd_subscription *s = NULL;
	struct redd_port *port;

	fake_open(&revived);
	port = revive_port(1);
	fake_subscribed(&revived, 2, 1, 1, 1, 0);
	fake_closed(&revived);
	cr_assert_eq(redd_subscribe(port, &o, &s), -ECANCELED);
	cr_assert(is_closed && !s);
	is_closed = false;
	port = NULL;
	fake_started(&revived, 3, 1, 1);
	fake_closed(&revived);
	cr_assert_eq(redd_spawn(revived.r, &spawn, &port), -ECANCELED);
	cr_assert(is_closed && !port);
	fake_close(&revived);
}

static void free_watch(struct redd_watch *w, const struct redd_life *life, void *user)
{
	(void)life;
	(void)user;
	n_closed++;
	redd_watch_free(w);
}

Test(client_freed, a_watch_frees_itself_before_it_is_returned)
{
	const struct redd_watch_options o = { .on_life = free_watch };
	struct redd_watch *watch = NULL;

	fake_open(&revived);
	fake_watching(&revived, 2, 3, 50);
	fake_life(&revived, 3, REDD__V1__LIFE__WHAT__STARTED, 51);
	cr_assert_eq(redd_watch(revived.r, &o, &watch), -ECANCELED);
	cr_assert(n_closed == 1 && !watch);
	fake_close(&revived);
}

static void free_port(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	(void)result;
	(void)reply;
	redd_port_free(user);
}

Test(client_freed, a_port_is_freed_between_two_of_its_writes)
{
	static char data[256 << 10];
	struct redd_call call = { .done = free_port };
	uint64_t taken;

	fake_open(&revived);
	call.user = revive_port(1);
	cr_assert_eq(redd_ping_start(revived.r, &call), 0);
	fake_error(&revived, 2, REDD__V1__CODE__INTERNAL, 0, "whatever");
	fake_written(&revived, 3, 0, 128 << 10);
	fake_die(&revived); /* the second finds no connection, nor does it find the port */
	cr_assert_eq(redd_write_all(call.user, data, sizeof(data), NULL, &taken), -ENOTCONN);
	cr_assert_eq(taken, 128 << 10);
	fake_close(&revived);
}

/* --- on the loss ----------------------------------------------------------------------------- */

static void free_when_away(struct redd *r, enum redd_reconnect what, void *user)
{
	(void)r;
	cr_assert_eq(what, REDD_AWAY);
	redd_subscription_free(user);
}

Test(client_freed, a_subscription_that_is_waited_for_is_freed_while_it_is_away)
{
	const struct redd_subscribe_options o = { 0 };
	struct redd_subscription *s;
	struct redd_closed closed;

	revive_serve();
	s = subscribe(1, &o);
	redd_on_reconnect(revived.r, free_when_away, s);
	fake_die(&revived);
	cr_assert_eq(redd_finish(s, &closed), -ECANCELED);
	fake_close(&revived);
}

Test(client_freed, a_subscription_that_is_to_end_is_freed_when_it_is_lost)
{
	const struct redd_subscribe_options o = { .handler = { .on_closed = free_it } };
	struct redd_connect_options connect = { .reconnect_ms = 20 };
	struct redd_subscription *s;

	fake_serve(&revived, &connect);
	s = subscribe(1, &o);
	fake_vanish(&revived);
	fake_settle(&revived);
	cr_assert_eq(redd_unsubscribe(s), -ECANCELED);
	cr_assert_eq(n_closed, 1);
	fake_close(&revived);
}
