/* The connection: made, greeted, lost, and lied to. Where it is made to is in test_client_socket.c.
 */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "proto/base/fd.h"
#include "proto/frame.h"
#include "tests/lib/fake.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/wire.h"

TestSuite(client_connect, .timeout = 20);

static int n_lost, n_done, last_result;

static void on_lost(struct redd *r, const struct redd_error *why, void *user)
{
	(void)r;
	(void)user;
	cr_assert_eq(why->result, -ENOTCONN);
	n_lost++;
}

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	(void)user;
	cr_assert_eq(result < 0, reply == NULL);
	n_done++;
	last_result = result;
}

/* --- good path ------------------------------------------------------------------------------- */

Test(client_connect, hello_tells_who_we_are_and_welcome_what_we_may)
{
	struct redd_connect_options o = { .client = "tester", .frame_max = 2 << 20 };
	Redd__V1__Request *hello;
	struct fake f;
	char socket[32];

	fake_pair(&f, socket);
	o.socket = socket;
	fake_welcome(&f, 2 << 20);
	cr_assert_null(redd_welcome(f.r));
	cr_assert_eq(redd_connect(f.r, &o), 0);
	hello = fake_heard(&f);
	cr_assert_eq(hello->id, 1);
	cr_assert_eq(hello->body_case, REDD__V1__REQUEST__BODY_HELLO);
	cr_assert_eq(hello->hello->version, 1);
	cr_assert_str_eq(hello->hello->client, "tester");
	cr_assert_eq(hello->hello->frame_max, 2u << 20);
	cr_assert_str_eq(redd_welcome(f.r)->broker, "fake 1");
	cr_assert_eq(redd_welcome(f.r)->frame_max, 2u << 20);
	cr_assert_eq(redd_welcome(f.r)->uid, 4711);
	cr_assert_str_eq((const char *)redd_welcome(f.r)->session, "fedcba987654321");
	fake_close(&f);
}

Test(client_connect, requests_may_follow_hello_before_its_answer)
{
	struct redd_connect_options o = { 0 };
	struct redd_call call = { .done = on_done };
	struct fake f;
	char socket[32];

	fake_pair(&f, socket);
	o.socket = socket;
	cr_assert_eq(redd_connect_start(f.r, &o, &call), 0);
	cr_assert_eq(redd_ping_start(f.r, &call), 0);
	cr_assert_eq(call.request, 2);
	cr_assert_eq(redd_events(f.r), POLLIN | POLLOUT);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(redd_events(f.r), POLLIN);
	cr_assert_eq(fake_heard(&f)->body_case, REDD__V1__REQUEST__BODY_HELLO);
	cr_assert_eq(fake_heard(&f)->body_case, REDD__V1__REQUEST__BODY_PING);
	cr_assert_eq(n_done, 0);
	fake_welcome(&f, 0);
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(n_done, 1);
	fake_close(&f);
}

Test(client_connect, a_refused_request_gives_errno_code_and_sentence)
{
	struct fake f;
	const struct redd_error *e;

	fake_open(&f);
	fake_error(&f, 2, REDD__V1__CODE__NOT_FOUND, 0, "there is\nnone");
	cr_assert_eq(redd_ping(f.r), -ENOENT);
	e = redd_last_error(f.r);
	cr_assert(e->from_broker && e->code == REDD_NOT_FOUND && e->sys_errno == 0);
	cr_assert_str_eq(e->message, "there is?none", "no control character may pass");
	fake_error(&f, 3, REDD__V1__CODE__INTERNAL, EMFILE, NULL);
	cr_assert_eq(redd_ping(f.r), -EMFILE);
	cr_assert_str_eq(redd_last_error(f.r)->message, "INTERNAL");
	fake_close(&f);
}

Test(client_connect, a_code_that_nobody_knows_is_still_a_failure)
{
	struct fake f;

	fake_open(&f);
	fake_error(&f, 2, (Redd__V1__Code)99, -7, "new");
	cr_assert_eq(redd_ping(f.r), -EIO);
	fake_error(&f, 3, REDD__V1__CODE__OK, 0, "not ok");
	cr_assert_eq(redd_ping(f.r), -EIO);
	fake_close(&f);
}

Test(client_connect, every_code_has_a_name_and_an_errno)
{
	struct fake f;

	fake_open(&f);
	for (int code = 1; code <= 16; code++) {
		fake_error(&f, (uint64_t)code + 1, (Redd__V1__Code)code, 0, "no");
		cr_assert_lt(redd_ping(f.r), 0);
		cr_assert_eq((int)redd_last_error(f.r)->code, code);
		cr_assert_str_eq(
			redd_code_name((enum redd_code)code),
			protobuf_c_enum_descriptor_get_value(&redd__v1__code__descriptor, code)
				->name);
	}
	cr_assert_str_eq(redd_code_name((enum redd_code)17), "UNKNOWN");
	cr_assert_str_eq(redd_stage_name((enum redd_stage)99), "unknown");
	fake_close(&f);
}

/* --- lies ------------------------------------------------------------------------------------ */

/* What the broker says ends the connection; every call and on_lost hear of it once. */
static void expect_loss(struct fake *f)
{
	struct redd_call call = { .done = on_done };

	n_lost = n_done = 0;
	redd_on_lost(f->r, on_lost, NULL);
	cr_assert_eq(redd_ping_start(f->r, &call), 0);
	cr_assert_eq(redd_ping_start(f->r, &call), 0);
	cr_assert_eq(fake_settle(f), -ENOTCONN);
	cr_assert(n_lost == 1 && n_done == 2 && last_result == -ENOTCONN);
	cr_assert_eq(redd_fd(f->r), -1);
	cr_assert_eq(redd_ping(f->r), -ENOTCONN);
	cr_assert_eq(redd_dispatch(f->r), -ENOTCONN);
	cr_assert(strlen(redd_last_error(f->r)->message) > 10);
	cr_assert_eq(n_lost, 1);
}

static void say_too_long(struct fake *f)
{
	fake_bytes(f, "\xff\xff\xff\xff\x07", 5);
}

static void say_no_prefix(struct fake *f)
{
	fake_bytes(f, "\xff\xff\xff\xff\xff\xff", 6);
}

static void say_rubbish(struct fake *f)
{
	fake_bytes(f, "\x05\xff\xff\xff\xff\xff", 6);
}

static void answer_nobody(struct fake *f)
{
	fake_done(f, 77);
}

static void answer_wrongly(struct fake *f)
{
	fake_done(f, 2); /* to a Ping */
}

static void close_in_a_frame(struct fake *f)
{
	fake_bytes(f, "\x05\x08", 2);
	fake_die(f);
}

static void say_bye(struct fake *f)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Bye b = REDD__V1__BYE__INIT;
	Redd__V1__Error e = REDD__V1__ERROR__INIT;

	e.has_code = true;
	e.code = REDD__V1__CODE__UNAVAILABLE;
	e.message = (char *)"going down for good reasons";
	b.error = &e;
	m.body_case = REDD__V1__MESSAGE__BODY_BYE;
	m.bye = &b;
	fake_say(f, &m);
	fake_die(f);
}

Test(client_connect, every_broken_word_of_the_broker_ends_the_connection)
{
	void (*const lies[])(struct fake *) = { say_too_long,  say_no_prefix,  say_rubbish,
						answer_nobody, answer_wrongly, close_in_a_frame,
						say_bye,       fake_die };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct fake f;
		struct redd_call call = { .done = NULL };

		fake_open(&f);
		/* Request 2, so that its answer can be wrong. */
		cr_assert_eq(redd_ping_start(f.r, &call), 0);
		cr_assert_eq(fake_settle(&f), 0);
		lies[i](&f);
		expect_loss(&f);
		if (lies[i] == say_bye)
			cr_assert_str_eq(redd_last_error(f.r)->message,
					 "going down for good reasons");
		fake_close(&f);
	}
}

Test(client_connect, half_a_frame_and_silence_does_not_hang_a_limited_call)
{
	struct redd_connect_options o = { .call_timeout_ms = 50 };
	struct fake f;

	fake_open_with(&f, &o);
	fake_bytes(&f, "\x05\x08", 2);
	cr_assert_eq(redd_ping(f.r), -ETIMEDOUT);
	fake_close(&f);
}

Test(client_connect, a_late_answer_belongs_to_nobody_and_hurts_nobody)
{
	struct redd_connect_options o = { .call_timeout_ms = 50 };
	struct fake f;

	fake_open_with(&f, &o);
	cr_assert_eq(redd_ping(f.r), -ETIMEDOUT);
	fake_error(&f, 2, REDD__V1__CODE__INTERNAL, 0, "late");
	fake_error(&f, 3, REDD__V1__CODE__NOT_FOUND, 0, "in time");
	cr_assert_eq(redd_ping(f.r), -ENOENT);
	fake_close(&f);
}

Test(client_connect, a_silent_broker_is_given_up)
{
	struct redd_connect_options o = { .connect_timeout_ms = 50 };
	struct fake f;
	char socket[32];

	fake_pair(&f, socket);
	o.socket = socket;
	cr_assert_eq(redd_connect(f.r, &o), -ENOTCONN);
	cr_assert_not_null(strstr(redd_last_error(f.r)->message, "does not answer"));
	fake_close(&f);
}

Test(client_connect, a_refused_hello_is_the_connects_result)
{
	struct redd_connect_options o = { 0 };
	struct fake f;
	char socket[32];

	fake_pair(&f, socket);
	o.socket = socket;
	fake_error(&f, 1, REDD__V1__CODE__PERMISSION_DENIED, 0, "not you");
	cr_assert_eq(redd_connect(f.r, &o), -EACCES);
	cr_assert_str_eq(redd_last_error(f.r)->message, "not you");
	cr_assert_eq(redd_ping(f.r), -ENOTCONN);
	fake_close(&f);
}

Test(client_connect, random_bytes_never_do_more_than_end_the_connection)
{
	struct random rnd = { 42 };

	for (int round = 0; round < 300; round++) {
		uint8_t bytes[512];
		struct fake f;

		fake_open(&f);
		redd_ping_start(f.r, NULL);
		random_fill(&rnd, bytes, sizeof(bytes));
		bytes[0] = (uint8_t)random_below(&rnd, 100);
		fake_bytes(&f, bytes, sizeof(bytes));
		fake_settle(&f);
		fake_die(&f);
		cr_assert_eq(fake_settle(&f), -ENOTCONN, "seed 42 round %d", round);
		fake_close(&f);
	}
}

/* What a broker could say, and the same with bytes changed, cut, repeated or put in between. */
Test(client_connect, mutated_messages_never_do_more_than_end_the_connection)
{
	const uint64_t seed = 4711;
	struct random rnd = { seed };

	for (unsigned round = 0; round < place_rounds(2000); round++) {
		struct redd_subscribe_options o = { .verify = true };
		struct redd_subscription *s;
		struct redd_port *port;
		uint8_t prefix[FRAME_PREFIX_MAX];
		struct buf body;
		struct fake f;

		fake_open(&f);
		cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
		fake_subscribed(&f, 2, 1, 1, 1, 0);
		cr_assert_eq(redd_subscribe(port, &o, &s), 0);
		redd_list_start(f.r, NULL, NULL);
		redd_wait_start(port, REDD_UNTIL_CLOSED, -1, NULL);
		buf_init(&body, MIB(1));
		wire_random(&body, &redd__v1__message__descriptor, &rnd);
		if (random_chance(&rnd, 2))
			wire_mutate(&body, &rnd);
		if (buf_size(&body) < KIB(64)) {
			fake_bytes(&f, prefix, frame_prefix(prefix, buf_size(&body)));
			fake_bytes(&f, buf_head(&body), buf_size(&body));
		}
		buf_deinit(&body);
		fake_settle(&f);
		fake_die(&f);
		cr_assert_eq(fake_settle(&f), -ENOTCONN, "seed %llu round %u",
			     (unsigned long long)seed, round);
		fake_close(&f);
	}
}

/* --- use ------------------------------------------------------------------------------------- */

static void block_inside(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct redd_call call = { .done = on_done };

	(void)result;
	(void)reply;
	(void)user;
	cr_assert_eq(redd_ping(r), -EDEADLK);
	cr_assert_eq(redd_dispatch(r), -EDEADLK);
	cr_assert_eq(redd_run_once(r, 0), -EDEADLK);
	cr_assert_eq(redd_ping_start(r, &call), 0, "starting is allowed");
	n_done++;
}

Test(client_connect, a_callback_may_start_calls_but_not_wait)
{
	struct redd_call call = { .done = block_inside };
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_ping_start(f.r, &call), 0);
	fake_error(&f, 2, REDD__V1__CODE__UNKNOWN, 0, "x");
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert_eq(n_done, 1);
	fake_error(&f, 3, REDD__V1__CODE__UNKNOWN, 0, "y");
	cr_assert_eq(fake_settle(&f), 0);
	cr_assert(n_done == 2 && last_result == -EIO);
	fake_close(&f);
}

Test(client_connect, calls_without_answers_are_bounded)
{
	struct fake f;
	unsigned n = 0;
	int e;

	fake_open(&f);
	while ((e = redd_ping_start(f.r, NULL)) == 0)
		n++;
	cr_assert_eq(e, -EAGAIN);
	cr_assert_eq(n, CONN_PENDING_MAX);
	fake_close(&f);
}

Test(client_connect, the_queue_is_bounded_and_nothing_is_half_taken)
{
	struct redd_connect_options o = { .queue_max = 1 << 20 };
	static const char data[100 << 10];
	struct redd_port *port;
	struct fake f;
	int e, n = 0;
	size_t before;

	fake_open_with(&f, &o);
	cr_assert_eq(redd_port_by_id(f.r, 1, &port), 0);
	while ((e = redd_write_start(port, data, sizeof(data), NULL, NULL)) == 0)
		n++;
	cr_assert_eq(e, -EAGAIN);
	before = redd_queued(f.r);
	cr_assert(before >= 1 << 20 && before < 2 << 20, "%zu bytes are queued", before);
	for (int heard = 0; heard < n;) {
		Redd__V1__Request *request = fake_heard(&f);

		cr_assert_eq(redd_dispatch(f.r), 0);
		if (!request)
			continue;
		cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_WRITE);
		cr_assert_eq(request->write->data.len, sizeof(data));
		heard++;
	}
	cr_assert_eq(redd_queued(f.r), 0);
	cr_assert_eq(redd_write_start(port, data, sizeof(data), NULL, NULL), 0);
	fake_close(&f);
}

Test(client_connect, disconnecting_ends_calls_without_on_lost)
{
	struct redd_call call = { .done = on_done };
	struct fake f;

	fake_open(&f);
	redd_on_lost(f.r, on_lost, NULL);
	cr_assert_eq(redd_ping_start(f.r, &call), 0);
	redd_disconnect(f.r);
	cr_assert(n_done == 1 && last_result == -ENOTCONN && n_lost == 0);
	redd_disconnect(f.r);
	fake_close(&f);
}

Test(client_connect, a_lost_handle_can_be_connected_again_once_its_ports_are_freed)
{
	struct redd_connect_options o = { 0 };
	struct redd_port *port;
	struct fake f, g;
	char socket[32];

	fake_open(&f);
	cr_assert_eq(redd_port_by_name(f.r, "x", &port), 0);
	cr_assert_eq(redd_connect(f.r, &o), -EISCONN);
	fake_die(&f);
	cr_assert_eq(fake_settle(&f), -ENOTCONN);
	fake_pair(&g, socket);
	o.socket = socket;
	/* Ids go on: the second Hello is not request 1. */
	fake_error(&g, 2, REDD__V1__CODE__NOT_FOUND, 0, "no such session");
	cr_assert_eq(redd_connect(f.r, &o), -EBUSY);
	redd_port_free(port);
	cr_assert_eq(redd_connect(f.r, &o), -ENOENT);
	fake_close(&g);
	fake_close(&f);
}

Test(client_connect, a_handle_leaves_no_descriptor)
{
	int before = fd_count();
	struct fake f;

	fake_open(&f);
	fake_close(&f);
	cr_assert_eq(fd_count(), before);
}
