/* What was sent and not answered when the broker died: repeated so that nothing is done twice and
 * nothing is left out, or in doubt and told so. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/codec.h"
#include "tests/lib/fake.h"

TestSuite(client_repeat, .timeout = 30);

static struct fake f;

/* --- tools ----------------------------------------------------------------------------------- */

static void serve(void)
{
	struct redd_connect_options o = { 0 };

	fake_serve(&f, &o);
}

/* The broker dies over all that was asked, and its successor has said Welcome. */
static void die_and_welcome(void)
{
	fake_settle(&f);
	while (fake_heard(&f))
		;
	fake_welcome_to(&f, fake_back(&f)->id, 0);
	cr_assert_eq(fake_settle(&f), 0, "%s", redd_last_error(f.r)->message);
}

/* The next request, which must be of that kind. */
static Redd__V1__Request *heard_next(Redd__V1__Request__BodyCase kind)
{
	Redd__V1__Request *m = fake_heard(&f);

	cr_assert_not_null(m, "nothing was asked");
	cr_assert_eq(m->body_case, kind, "asked for %d, not %d", m->body_case, kind);
	return m;
}

#define HEARD(kind) heard_next(REDD__V1__REQUEST__BODY_##kind)

static void heard_nothing(void)
{
	Redd__V1__Request *m = fake_heard(&f);

	cr_assert_null(m, "%d was asked for", m ? (int)m->body_case : 0);
}

/* A running port, number 1, of which the client knows no more than its options say. */
static struct redd_port *spawn_with(struct redd_spawn_options o)
{
	static const char *const argv[] = { "x", NULL };
	struct redd_port *port;

	o.argv = argv;
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, NULL), 0, "%s",
		     redd_last_error(f.r)->message);
	cr_assert_eq(fake_settle(&f), 0);
	fake_started(&f, HEARD(SPAWN)->id, 1, 0);
	cr_assert_eq(fake_settle(&f), 0);
	return port;
}

static struct redd_port *spawn(void)
{
	return spawn_with((struct redd_spawn_options){ 0 });
}

static struct redd_port *packet_port(uint32_t header)
{
	return spawn_with((struct redd_spawn_options){
		.framing = { .cut = REDD_PACKETS, .header = header },
	});
}

static struct redd_port *port_by_id(uint64_t id)
{
	struct redd_port *port;

	cr_assert_eq(redd_port_by_id(f.r, id, &port), 0);
	return port;
}

/* What became of started calls, by number; 1: nothing yet. */
static int results[16];
static struct redd_reply replies[16];

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	cr_assert_eq(results[(size_t)user], 1, "told twice");
	results[(size_t)user] = result;
	if (reply)
		replies[(size_t)user] = *reply;
}

static struct redd_call *call_of(size_t i)
{
	static struct redd_call calls[16];

	results[i] = 1;
	calls[i] = (struct redd_call){ .done = on_done, .user = (void *)i };
	return &calls[i];
}

static void write_of(struct redd_port *port, const char *text,
		     const struct redd_write_options *options, size_t i)
{
	cr_assert_eq(redd_write_start(port, text, strlen(text), options, call_of(i)), 0, "%s",
		     redd_last_error(f.r)->message);
}

/* The next request is a Write, at that offset. */
static void repeated_at(uint64_t offset)
{
	const Redd__V1__Write *w = HEARD(WRITE)->write;

	cr_assert(w->has_offset, "'%.*s' has no offset", (int)w->data.len, (char *)w->data.data);
	cr_assert_eq(w->offset, offset, "'%.*s' goes to %llu", (int)w->data.len,
		     (char *)w->data.data, (unsigned long long)w->offset);
}

/* --- packets --------------------------------------------------------------------------------- */

Test(client_repeat, P9_packets_are_repeated_where_their_headers_are)
{
	static const uint32_t headers[] = { 1, 2, 4 };

	for (size_t i = 0; i < 3; i++) {
		const uint32_t h = headers[i];
		struct redd_port *port;

		serve();
		port = packet_port(h);
		write_of(port, "abc", NULL, 0);
		write_of(port, "", NULL, 1);
		write_of(port, "de", NULL, 2);
		die_and_welcome();
		repeated_at(0);
		repeated_at(3 + h);
		repeated_at(3 + 2 * h);
		fake_close(&f);
	}
}

Test(client_repeat, P9_a_header_that_a_write_states_is_the_one_that_counts)
{
	const struct redd_write_options none = { .header = REDD_HEADER_NONE },
					two = { .header = 2 };
	struct redd_port *port;

	serve();
	port = packet_port(4);
	write_of(port, "abc", &none, 0);
	write_of(port, "de", &two, 1);
	write_of(port, "f", NULL, 2);
	write_of(port, "g", NULL, 3);
	die_and_welcome();
	repeated_at(0);
	repeated_at(3);
	repeated_at(7);
	repeated_at(12);
	fake_close(&f);
}

Test(client_repeat, P9_a_packet_that_no_header_can_say_was_refused)
{
	static char data[256];
	const struct redd_write_options three = { .header = 3 };
	struct redd_port *port;

	serve();
	port = packet_port(1);
	cr_assert_eq(redd_write_start(port, data, sizeof(data), NULL, call_of(0)), 0);
	write_of(port, "abc", &three, 1);
	write_of(port, "abc", NULL, 2);
	die_and_welcome();
	repeated_at(0);
	repeated_at(0);
	repeated_at(0);
	fake_close(&f);
}

/* Whoever did not spawn the port learns its framing by an answer, or is in doubt. */
Test(client_repeat, P9_who_does_not_know_the_framing_does_not_reckon)
{
	const struct redd_write_options four = { .header = 4 };
	struct redd_port *port;

	serve();
	port = port_by_id(7);
	write_of(port, "abc", &four, 0);
	fake_settle(&f);
	fake_written(&f, HEARD(WRITE)->id, 10, 7);
	fake_settle(&f);
	cr_assert_eq(results[0], 0);
	write_of(port, "abc", NULL, 1);
	write_of(port, "de", NULL, 2);
	die_and_welcome();
	heard_nothing();
	cr_assert_eq(results[1], -ENOTCONN);
	cr_assert_eq(results[2], -ENOTCONN);

	write_of(port, "abc", NULL, 3);
	fake_settle(&f);
	fake_written(&f, HEARD(WRITE)->id, 20, 7);
	fake_settle(&f);
	redd_port_free(port);
	port = port_by_id(7);
	write_of(port, "abc", NULL, 3);
	fake_settle(&f);
	fake_written(&f, HEARD(WRITE)->id, 27, 7);
	fake_settle(&f);
	write_of(port, "abc", NULL, 4);
	fake_settle(&f);
	die_and_welcome();
	repeated_at(34);
	fake_close(&f);
}

/* --- where the inputs are -------------------------------------------------------------------- */

struct seen {
	bool terminal;
	uint32_t header;
	uint64_t first, typed; /* accepted by input 0, by the terminal */
};

static void say_inspected(uint64_t id, const struct seen *seen)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__PortInfo p = REDD__V1__PORT_INFO__INIT;
	Redd__V1__Framing framing = REDD__V1__FRAMING__INIT;
	Redd__V1__StreamInfo streams[2] = { REDD__V1__STREAM_INFO__INIT,
					    REDD__V1__STREAM_INFO__INIT };
	Redd__V1__StreamInfo *list[2] = { &streams[0], &streams[1] };

	for (int i = 0; i < 2; i++) {
		streams[i].has_stream = streams[i].has_direction = true;
		streams[i].direction = REDD__V1__DIRECTION__DIRECTION_INPUT;
		streams[i].has_total = streams[i].has_queued = true;
	}
	streams[0].total = seen->first;
	streams[1].stream = REDD_TERMINAL;
	streams[1].total = seen->typed;
	framing.has_cut = framing.has_header = true;
	framing.cut = REDD__V1__FRAMING__CUT__PACKETS;
	framing.header = seen->header;
	p.has_port = p.has_terminal = true;
	p.port = 1;
	p.terminal = seen->terminal;
	p.framing = seen->header ? &framing : NULL;
	p.n_streams = seen->terminal ? 2 : 1;
	p.streams = list;
	m.has_reply_to = true;
	m.reply_to = id;
	m.body_case = REDD__V1__MESSAGE__BODY_PORT_INFO;
	m.port_info = &p;
	fake_say(&f, &m);
}

static void inspect(struct redd_port *port, const struct seen *seen)
{
	cr_assert_eq(redd_inspect_start(port, NULL), 0);
	fake_settle(&f);
	say_inspected(HEARD(INSPECT)->id, seen);
	cr_assert_eq(fake_settle(&f), 0);
}

Test(client_repeat, P9_inspect_tells_where_a_strangers_input_is_and_what_headers_it_has)
{
	struct redd_port *port;

	serve();
	port = port_by_id(1);
	inspect(port, &(struct seen){ .first = 50, .header = 2 });
	write_of(port, "abc", NULL, 0);
	die_and_welcome();
	repeated_at(50);
	fake_close(&f);
}

Test(client_repeat, P9_the_default_input_is_the_first_also_beside_a_terminal)
{
	struct redd_port *port;

	serve();
	port = port_by_id(1);
	inspect(port, &(struct seen){ .terminal = true, .first = 50, .typed = 60 });
	write_of(port, "abc", NULL, 0);
	die_and_welcome();
	repeated_at(50);
	fake_close(&f);
}

/* It is counted there, and its place is not told. */
Test(client_repeat, P9_inspect_behind_a_write_under_way_does_not_tell_its_place)
{
	struct redd_port *port;

	serve();
	port = port_by_id(1);
	write_of(port, "abc", NULL, 0);
	fake_settle(&f);
	HEARD(WRITE);
	inspect(port, &(struct seen){ .first = 53 });
	die_and_welcome();
	heard_nothing();
	cr_assert_eq(results[0], -ENOTCONN);
	fake_close(&f);
}

Test(client_repeat, P9_what_others_wrote_shows_in_inspect)
{
	struct redd_port *port;

	serve();
	port = spawn();
	write_of(port, "abc", NULL, 0);
	fake_settle(&f);
	HEARD(WRITE);
	inspect(port, &(struct seen){ .first = 3 + 5 });
	die_and_welcome();
	heard_nothing();
	cr_assert_eq(results[0], -ENOTCONN);
	fake_close(&f);
}

Test(client_repeat, P9_one_input_by_two_names_is_in_doubt)
{
	const struct redd_write_options by_number = { .other_stream = true, .stream = 0 };
	struct redd_port *port;

	serve();
	port = spawn();
	write_of(port, "abc", NULL, 0);
	write_of(port, "de", &by_number, 1);
	die_and_welcome();
	heard_nothing();
	cr_assert(results[0] == -ENOTCONN && results[1] == -ENOTCONN);
	fake_close(&f);
}

/* A spawn under a token of the program's may be an old one's. */
Test(client_repeat, P9_a_port_that_may_be_old_does_not_begin_at_zero)
{
	struct redd_spawn_options o = { .token = "job", .token_size = 3 };
	static const char *const argv[] = { "x", NULL };
	struct redd_port *port;

	serve();
	o.argv = argv;
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, NULL), 0);
	write_of(port, "abc", NULL, 0);
	die_and_welcome();
	fake_started(&f, HEARD(SPAWN)->id, 2, 0);
	fake_settle(&f);
	heard_nothing();
	cr_assert_eq(results[0], -ENOTCONN);
	redd_port_free(port);
	port = spawn_with(o);
	write_of(port, "abc", NULL, 1);
	die_and_welcome();
	repeated_at(0);
	fake_close(&f);
}

Test(client_repeat, P9_a_write_that_is_being_given_up_is_in_doubt_and_what_follows_it)
{
	struct redd_port *port;
	struct redd_call *call = call_of(1);

	serve();
	port = spawn();
	write_of(port, "abc", NULL, 0);
	cr_assert_eq(redd_write_start(port, "de", 2, NULL, call), 0);
	write_of(port, "f", NULL, 2);
	cr_assert_eq(redd_cancel_start(f.r, call->request, call_of(3)), 0);
	die_and_welcome();
	repeated_at(0);
	HEARD(CANCEL);
	heard_nothing();
	cr_assert(results[0] == 1 && results[1] == -ENOTCONN && results[2] == -ENOTCONN);
	fake_close(&f);
}

/* How much of it is in the pipe is not known, so nothing behind it is reckoned, until an answer
 * tells. */
Test(client_repeat, P9_a_repeat_that_is_refused_leaves_a_doubt)
{
	struct redd_port *port;

	serve();
	port = spawn();
	write_of(port, "abc", NULL, 0);
	die_and_welcome();
	fake_error(&f, HEARD(WRITE)->id, REDD__V1__CODE__DATA_LOSS, 0, "over this write");
	fake_settle(&f);
	cr_assert_eq(results[0], -EBADMSG);
	write_of(port, "de", NULL, 1);
	die_and_welcome();
	heard_nothing();
	cr_assert_eq(results[1], -ENOTCONN);
	write_of(port, "f", NULL, 2);
	fake_settle(&f);
	fake_written(&f, HEARD(WRITE)->id, 1, 1);
	fake_settle(&f);
	write_of(port, "g", NULL, 3);
	die_and_welcome();
	repeated_at(2);
	fake_close(&f);
}

/* --- expect ---------------------------------------------------------------------------------- */

static void expect_of(struct redd_port *port, const struct redd_expect_options *o, size_t i)
{
	cr_assert_eq(redd_expect_start(port, o, 60000, call_of(i)), 0, "%s",
		     redd_last_error(f.r)->message);
	cr_assert_eq(fake_settle(&f), 0);
}

/* With what it wrote, unless the size is 0. */
static void say_matched(uint64_t id, uint64_t offset, uint64_t size)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Matched matched = REDD__V1__MATCHED__INIT;
	Redd__V1__Written written = REDD__V1__WRITTEN__INIT;

	written.has_offset = written.has_size = true;
	written.offset = offset;
	written.size = size;
	matched.has_what = true;
	matched.what = REDD__V1__MATCHED__WHAT__IDLE;
	matched.written = size ? &written : NULL;
	m.has_reply_to = true;
	m.reply_to = id;
	m.body_case = REDD__V1__MESSAGE__BODY_MATCHED;
	m.matched = &matched;
	fake_say(&f, &m);
	cr_assert_eq(fake_settle(&f), 0, "%s", redd_last_error(f.r)->message);
}

static const struct redd_expect_options login = { .idle_ms = 5, .data = "login\n", .data_size = 6 };

Test(client_repeat, P9_what_an_expect_wrote_is_in_front_of_the_next_write)
{
	struct redd_port *port;

	serve();
	port = packet_port(2);
	expect_of(port, &login, 0);
	say_matched(HEARD(EXPECT)->id, 0, 8);
	cr_assert_eq(results[0], 0);
	write_of(port, "abc", NULL, 1);
	die_and_welcome();
	repeated_at(8);
	fake_close(&f);
}

Test(client_repeat, P9_an_expect_that_was_over_before_its_write_leaves_a_doubt)
{
	struct redd_port *port;

	serve();
	port = spawn();
	for (int refused = 0; refused < 2; refused++) {
		uint64_t id;

		expect_of(port, &login, 0);
		id = HEARD(EXPECT)->id;
		if (refused)
			fake_error(&f, id, REDD__V1__CODE__CANCELLED, 0, "given up");
		else
			say_matched(id, 0, 0);
		fake_settle(&f);
		cr_assert_eq(results[0], refused ? -ECANCELED : 0);
		write_of(port, "abc", NULL, 1);
		die_and_welcome();
		heard_nothing();
		cr_assert_eq(results[1], -ENOTCONN);
	}
	write_of(port, "de", NULL, 2);
	fake_settle(&f);
	fake_written(&f, HEARD(WRITE)->id, 9, 2);
	fake_settle(&f);
	write_of(port, "f", NULL, 3);
	die_and_welcome();
	repeated_at(11);
	fake_close(&f);
}

Test(client_repeat, what_is_said_of_an_expects_write_reaches_the_broker)
{
	const struct redd_write_options how = { .header = REDD_HEADER_NONE, .force = true };
	struct redd_expect_options o = login;
	const Redd__V1__Write *w;

	o.write = &how;
	serve();
	expect_of(packet_port(2), &o, 0);
	w = HEARD(EXPECT)->expect->write;
	cr_assert(w->has_header && w->header == 0 && w->has_force && w->force);
	fake_close(&f);
}

/* --- what is done twice when it is asked for twice ------------------------------------------- */

#define CALLS 12

static const struct redd_grant_options to_all = { .to = REDD_GRANT_EVERYONE,
						  .rights = { .read = true } };

/* Whatever would be done once more, or would not be the same. How many they were. */
static size_t ask_once(struct redd_port *port)
{
	const struct redd_delegate_options door = { .ports = &port,
						    .n_ports = 1,
						    .rights = { .read = true } };
	const struct redd_expect_options writes = {
		.idle_ms = 5, .has_from = true, .data = "x", .data_size = 1
	};
	const struct redd_expect_options from_now = { .idle_ms = 5 };
	size_t n = 0;

	cr_assert_eq(redd_expect_start(port, &writes, 60000, call_of(n++)), 0);
	cr_assert_eq(redd_expect_start(port, &from_now, 60000, call_of(n++)), 0);
	cr_assert_eq(redd_grant_start(port, &to_all, call_of(n++)), 0);
	cr_assert_eq(redd_delegate_start(f.r, &door, call_of(n++)), 0);
	cr_assert_eq(redd_revoke_grant_start(f.r, 8, call_of(n++)), 0);
	cr_assert_eq(redd_revoke_delegation_start(f.r, 9, call_of(n++)), 0);
	cr_assert_eq(redd_release_start(port, 0, call_of(n++)), 0);
	cr_assert_eq(redd_signal_start(port, 15, REDD_LEADER, call_of(n++)), 0);
	return n;
}

Test(client_repeat, P13_what_would_be_done_twice_is_in_doubt)
{
	size_t n;

	serve();
	n = ask_once(spawn());
	die_and_welcome();
	heard_nothing();
	for (size_t i = 0; i < n; i++)
		cr_expect_eq(results[i], -ENOTCONN, "call %zu", i);
	fake_close(&f);
}

Test(client_repeat, P13_what_never_left_goes_out)
{
	struct redd_port *port;
	Redd__V1__Request *hello;
	size_t n;

	serve();
	port = spawn();
	hello = fake_back(&f);
	n = ask_once(port);
	fake_welcome_to(&f, hello->id, 0);
	cr_assert_eq(fake_settle(&f), 0);
	for (size_t i = 0; i < n; i++) {
		cr_expect_eq(results[i], 1, "call %zu", i);
		cr_assert_not_null(fake_heard(&f), "call %zu", i);
	}
	fake_close(&f);
}

/* A port that was named by its spawn has got its id; the request that spawned it was another
 * connection's. */
static void named_by_id(const Redd__V1__PortRef *ref)
{
	cr_assert_not_null(ref);
	cr_assert_eq(ref->by_case, REDD__V1__PORT_REF__BY_ID);
	cr_assert_eq(ref->id, 1);
}

static const struct redd_expect_options from_three = { .idle_ms = 5, .has_from = true, .from = 3 };

static void ask_again(struct redd_port *port)
{
	const struct redd_subscribe_options o = { 0 };
	struct redd_subscription *s;

	cr_assert_eq(redd_expect_start(port, &from_three, 60000, call_of(0)), 0);
	cr_assert_eq(redd_lease_start(port, NULL, call_of(1)), 0);
	cr_assert_eq(redd_revoke_all_start(port, call_of(2)), 0);
	cr_assert_eq(redd_resize_start(port, &(struct redd_terminal){ 0 }, call_of(3)), 0);
	cr_assert_eq(redd_wait_start(port, REDD_UNTIL_CLOSED, 60000, call_of(4)), 0);
	cr_assert_eq(redd_inspect_start(port, call_of(5)), 0);
	cr_assert_eq(redd_forget_start(port, call_of(6)), 0);
	cr_assert_eq(redd_close_start(port, REDD_STREAM_DEFAULT, call_of(7)), 0);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, call_of(8)), 0);
}

static void heard_again(void)
{
	const Redd__V1__Expect *expect = HEARD(EXPECT)->expect;

	named_by_id(expect->port);
	cr_assert(expect->has_from && expect->from == 3);
	named_by_id(HEARD(LEASE)->lease->port);
	named_by_id(HEARD(REVOKE)->revoke->port);
	named_by_id(HEARD(RESIZE)->resize->port);
	named_by_id(HEARD(WAIT)->wait->port);
	named_by_id(HEARD(INSPECT)->inspect->port);
	named_by_id(HEARD(FORGET)->forget->port);
	named_by_id(HEARD(CLOSE)->close->port);
	named_by_id(HEARD(SUBSCRIBE)->subscribe->port);
	heard_nothing();
}

Test(client_repeat, P13_what_is_the_same_once_more_is_asked_again_by_the_ports_id)
{
	static const char *const argv[] = { "x", NULL };
	const struct redd_spawn_options o = { .argv = argv };
	struct redd_port *port;

	serve();
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, NULL), 0);
	ask_again(port);
	fake_settle(&f);
	fake_started(&f, HEARD(SPAWN)->id, 1, 0);
	die_and_welcome();
	heard_again();
	for (size_t i = 0; i <= 8; i++)
		cr_expect_eq(results[i], 1, "call %zu", i);
	fake_close(&f);
}

/* There was no room for it on the connection whose Spawn it names. */
Test(client_repeat, P13_a_delegation_names_its_ports_by_id)
{
	static const char *const argv[] = { "x", NULL };
	static char data[1 << 19];
	const struct redd_spawn_options o = { .argv = argv };
	struct redd_delegate_options door = { .n_ports = 1, .rights = { .read = true } };
	Redd__V1__Request *m = NULL;
	struct redd_port *port;

	serve();
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, NULL), 0);
	for (int i = 0; i < 6; i++)
		cr_assert_eq(redd_write_start(port, data, sizeof(data), NULL, NULL), 0);
	door.ports = &port;
	cr_assert_eq(redd_delegate_start(f.r, &door, call_of(0)), 0);
	redd_dispatch(f.r);
	fake_started(&f, HEARD(SPAWN)->id, 1, 0);
	redd_dispatch(f.r);
	cr_assert_eq(redd_port_id(port), 1);
	fake_welcome_to(&f, fake_back(&f)->id, 0);
	while (!m || m->body_case != REDD__V1__REQUEST__BODY_DELEGATE) {
		cr_assert_eq(redd_run_once(f.r, 1), 0);
		cr_assert_eq(results[0], 1);
		m = fake_heard(&f);
	}
	named_by_id(m->delegate->ports[0]);
	fake_close(&f);
}

Test(client_repeat, P13_an_expect_has_less_time_left)
{
	struct redd_port *port;
	const Redd__V1__Expect *expect;
	int64_t begin;

	serve();
	port = spawn();
	cr_assert_eq(redd_expect_start(port, &from_three, 1, call_of(0)), 0);
	for (begin = clock_ms(); clock_ms() <= begin;)
		redd_run_once(f.r, 1);
	die_and_welcome();
	expect = HEARD(EXPECT)->expect;
	cr_assert(expect->has_timeout_ms && expect->timeout_ms == 0);
	fake_close(&f);
}

/* An end is said to a terminal, and what comes next reads behind it. */
Test(client_repeat, P13_the_end_of_a_terminals_input_is_not_said_twice)
{
	const struct redd_write_options closing = { .close = true };
	struct redd_port *ports[3];

	serve();
	ports[0] = spawn_with((struct redd_spawn_options){
		.terminal = &(struct redd_terminal){ 0 },
	});
	ports[1] = port_by_id(2);
	inspect(ports[1], &(struct seen){ .terminal = true });
	ports[2] = port_by_id(3);
	cr_assert_eq(redd_close_start(ports[0], REDD_STREAM_DEFAULT, call_of(0)), 0);
	write_of(ports[0], "abc", &closing, 1);
	cr_assert_eq(redd_close_start(ports[1], REDD_STREAM_DEFAULT, call_of(2)), 0);
	cr_assert_eq(redd_close_start(ports[1], REDD_TERMINAL, call_of(3)), 0);
	cr_assert_eq(redd_close_start(ports[2], REDD_STREAM_DEFAULT, call_of(4)), 0);
	cr_assert_eq(redd_close_start(ports[2], 0, call_of(5)), 0);
	cr_assert_eq(redd_close_whole_start(ports[2], false, call_of(6)), 0);
	die_and_welcome();
	cr_assert(HEARD(CLOSE)->close->has_stream);
	cr_assert(HEARD(CLOSE)->close->whole);
	heard_nothing();
	for (size_t i = 0; i < 7; i++)
		cr_expect_eq(results[i], i < 5 ? -ENOTCONN : 1, "call %zu", i);
	fake_close(&f);
}

Test(client_repeat, P13_an_end_without_data_that_was_said_is_not_refused)
{
	const struct redd_write_options closing = { .close = true };
	struct redd_port *port;

	serve();
	port = spawn();
	write_of(port, "", &closing, 0);
	die_and_welcome();
	fake_error(&f, HEARD(WRITE)->id, REDD__V1__CODE__FAILED_PRECONDITION, EPIPE, "closed");
	fake_settle(&f);
	cr_assert_eq(results[0], 0);
	fake_close(&f);
}

Test(client_repeat, P9_what_follows_an_expect_that_is_in_doubt_is_too)
{
	struct redd_port *port;

	serve();
	port = spawn();
	write_of(port, "abc", NULL, 0);
	expect_of(port, &login, 1);
	write_of(port, "de", NULL, 2);
	die_and_welcome();
	repeated_at(0);
	heard_nothing();
	cr_assert(results[0] == 1 && results[1] == -ENOTCONN && results[2] == -ENOTCONN);
	fake_close(&f);
}

/* --- records --------------------------------------------------------------------------------- */

static int n_closed;

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	(void)s;
	(void)user;
	cr_assert_eq(c->cause, REDD_CLOSED_LOST);
	n_closed++;
}

/* Of subscription 1, stream 1. */
static void say_record(uint64_t offset, uint64_t left_out, int record, const char *data)
{
	const struct codec_output o = { .subscription = 1,
					.port = 1,
					.stream = 1,
					.offset = offset,
					.consumed = strlen(data) + left_out,
					.record = record,
					.size = strlen(data) };
	uint8_t prefix[CODEC_OUTPUT_PREFIX_MAX];

	fake_bytes(&f, prefix, codec_output_prefix(prefix, &o));
	fake_bytes(&f, data, o.size);
}

/* Cut as the port was spawned, whoever spawned it: what comes tells how. */
static void subscribe(enum redd_cut cut)
{
	const struct redd_subscribe_options o = {
		.handler = { .on_closed = on_closed },
		.framing = { .cut = cut, .header = cut == REDD_PACKETS ? 2 : 0 }
	};
	struct redd_subscription *s;

	cr_assert_eq(redd_subscribe_start(port_by_id(1), &o, &s, NULL), 0);
	fake_settle(&f);
	fake_subscribed(&f, HEARD(SUBSCRIBE)->id, 1, 1, 1, 0);
	fake_settle(&f);
}

static void resumed_at(uint64_t offset)
{
	const Redd__V1__Start *start = HEARD(SUBSCRIBE)->subscribe->start;

	cr_assert(start->n_offsets == 1 && start->offsets[0]->offset == offset);
}

Test(client_repeat, P13_inside_of_a_line_a_subscription_goes_on)
{
	static const enum redd_cut cuts[] = { REDD_CUT_DEFAULT, REDD_LINES };

	for (size_t i = 0; i < 2; i++) {
		serve();
		subscribe(cuts[i]);
		say_record(0, 1, REDD__V1__OUTPUT__RECORD__END, "one");
		say_record(4, 0, REDD__V1__OUTPUT__RECORD__PART, "two");
		die_and_welcome();
		cr_assert_eq(n_closed, 0);
		resumed_at(7);
		fake_close(&f);
	}
}

Test(client_repeat, P13_inside_of_a_packet_a_subscription_ends)
{
	static const enum redd_cut cuts[] = { REDD_CUT_DEFAULT, REDD_PACKETS };

	for (size_t i = 0; i < 2; i++) {
		n_closed = 0;
		serve();
		subscribe(cuts[i]);
		say_record(0, 2, REDD__V1__OUTPUT__RECORD__PART, "");
		say_record(2, 0, REDD__V1__OUTPUT__RECORD__PART, "two");
		die_and_welcome();
		cr_assert_eq(n_closed, 1);
		heard_nothing();
		fake_close(&f);
	}
}

Test(client_repeat, P13_between_two_packets_a_subscription_goes_on)
{
	serve();
	subscribe(REDD_CUT_DEFAULT);
	say_record(0, 2, REDD__V1__OUTPUT__RECORD__PART, "one");
	say_record(5, 0, REDD__V1__OUTPUT__RECORD__END, "two");
	die_and_welcome();
	cr_assert_eq(n_closed, 0);
	resumed_at(8);
	fake_close(&f);
}
