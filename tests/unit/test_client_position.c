/* Writes that were sent and not answered when the broker died: repeated where they went, or in
 * doubt. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/lib/revive.h"

TestSuite(client_position, .timeout = 30);

static struct redd_port *packet_port(uint32_t header)
{
	return revive_spawn_with((struct redd_spawn_options){
		.framing = { .cut = REDD_PACKETS, .header = header },
	});
}

/* --- packets --------------------------------------------------------------------------------- */

Test(client_position, P9_packets_are_repeated_where_their_headers_are)
{
	static const uint32_t headers[] = { 1, 2, 4 };

	for (size_t i = 0; i < 3; i++) {
		const uint32_t h = headers[i];
		struct redd_port *port;

		revive_serve();
		port = packet_port(h);
		revive_write(port, "abc", NULL, 0);
		revive_write(port, "", NULL, 1);
		revive_write(port, "de", NULL, 2);
		revive();
		revive_heard_write(0);
		revive_heard_write(3 + h);
		revive_heard_write(3 + 2 * h);
		fake_close(&revived);
	}
}

Test(client_position, P9_a_header_that_a_write_states_is_the_one_that_counts)
{
	const struct redd_write_options none = { .header = REDD_HEADER_NONE },
					two = { .header = 2 };
	struct redd_port *port;

	revive_serve();
	port = packet_port(4);
	revive_write(port, "abc", &none, 0);
	revive_write(port, "de", &two, 1);
	revive_write(port, "f", NULL, 2);
	revive_write(port, "g", NULL, 3);
	revive();
	revive_heard_write(0);
	revive_heard_write(3);
	revive_heard_write(7);
	revive_heard_write(12);
	fake_close(&revived);
}

Test(client_position, P9_a_packet_that_no_header_can_say_was_refused)
{
	static char data[256];
	const struct redd_write_options three = { .header = 3 };
	struct redd_port *port;

	revive_serve();
	port = packet_port(1);
	cr_assert_eq(redd_write_start(port, data, sizeof(data), NULL, revive_call(0)), 0);
	revive_write(port, "abc", &three, 1);
	revive_write(port, "abc", NULL, 2);
	revive();
	revive_heard_write(0);
	revive_heard_write(0);
	revive_heard_write(0);
	fake_close(&revived);
}

/* Whoever did not spawn the port learns its framing by an answer, or is in doubt. */
Test(client_position, P9_who_does_not_know_the_framing_does_not_reckon)
{
	const struct redd_write_options four = { .header = 4 };
	struct redd_port *port;

	revive_serve();
	port = revive_port(7);
	revive_write(port, "abc", &four, 0);
	fake_settle(&revived);
	fake_written(&revived, HEARD(WRITE)->id, 10, 7);
	fake_settle(&revived);
	cr_assert_eq(revive_results[0], 0);
	revive_write(port, "abc", NULL, 1);
	revive_write(port, "de", NULL, 2);
	revive();
	revive_heard_nothing();
	cr_assert_eq(revive_results[1], -ENOTCONN);
	cr_assert_eq(revive_results[2], -ENOTCONN);

	revive_write(port, "abc", NULL, 3);
	fake_settle(&revived);
	fake_written(&revived, HEARD(WRITE)->id, 20, 7);
	fake_settle(&revived);
	redd_port_free(port);
	port = revive_port(7);
	revive_write(port, "abc", NULL, 3);
	fake_settle(&revived);
	fake_written(&revived, HEARD(WRITE)->id, 27, 7);
	fake_settle(&revived);
	revive_write(port, "abc", NULL, 4);
	fake_settle(&revived);
	revive();
	revive_heard_write(34);
	fake_close(&revived);
}

/* --- where the inputs are -------------------------------------------------------------------- */

Test(client_position, P9_inspect_tells_where_a_strangers_input_is_and_what_headers_it_has)
{
	struct redd_port *port;

	revive_serve();
	port = revive_port(1);
	revive_inspect(port, &(struct revive_seen){ .first = 50, .header = 2 });
	revive_write(port, "abc", NULL, 0);
	revive();
	revive_heard_write(50);
	fake_close(&revived);
}

Test(client_position, P9_the_default_input_is_the_first_also_beside_a_terminal)
{
	struct redd_port *port;

	revive_serve();
	port = revive_port(1);
	revive_inspect(port, &(struct revive_seen){ .terminal = true, .first = 50, .typed = 60 });
	revive_write(port, "abc", NULL, 0);
	revive();
	revive_heard_write(50);
	fake_close(&revived);
}

/* It is counted there, and its place is not told. */
Test(client_position, P9_inspect_behind_a_write_under_way_does_not_tell_its_place)
{
	struct redd_port *port;

	revive_serve();
	port = revive_port(1);
	revive_write(port, "abc", NULL, 0);
	fake_settle(&revived);
	HEARD(WRITE);
	revive_inspect(port, &(struct revive_seen){ .first = 53 });
	revive();
	revive_heard_nothing();
	cr_assert_eq(revive_results[0], -ENOTCONN);
	fake_close(&revived);
}

Test(client_position, P9_what_others_wrote_shows_in_inspect)
{
	struct redd_port *port;

	revive_serve();
	port = revive_spawn();
	revive_write(port, "abc", NULL, 0);
	fake_settle(&revived);
	HEARD(WRITE);
	revive_inspect(port, &(struct revive_seen){ .first = 3 + 5 });
	revive();
	revive_heard_nothing();
	cr_assert_eq(revive_results[0], -ENOTCONN);
	fake_close(&revived);
}

Test(client_position, P9_one_input_by_two_names_is_in_doubt)
{
	const struct redd_write_options by_number = { .other_stream = true, .stream = 0 };
	struct redd_port *port;

	revive_serve();
	port = revive_spawn();
	revive_write(port, "abc", NULL, 0);
	revive_write(port, "de", &by_number, 1);
	revive();
	revive_heard_nothing();
	cr_assert(revive_results[0] == -ENOTCONN && revive_results[1] == -ENOTCONN);
	fake_close(&revived);
}

/* A spawn under a token of the program's may be an old one's. */
/* One handle does not see what went through the other, be that there still or not. */
Test(client_position, P9_one_input_by_two_handles_is_in_doubt)
{
	for (int freed = 0; freed < 2; freed++) {
		struct redd_port *port, *same, *other;

		revive_serve();
		port = revive_spawn();
		same = revive_port(1);
		other = revive_port(2);
		revive_write(same, "abcd", NULL, 0);
		revive_write(other, "abcd", NULL, 1);
		fake_settle(&revived);
		fake_written(&revived, HEARD(WRITE)->id, 0, 4);
		fake_written(&revived, HEARD(WRITE)->id, 7, 4);
		fake_settle(&revived);
		if (freed)
			redd_port_free(same);
		revive_write(port, "efg", NULL, 2);
		revive_write(other, "efg", NULL, 3);
		revive();
		revive_heard_write(11);
		revive_heard_nothing();
		cr_assert_eq(revive_results[2], -ENOTCONN);
		/* An answer shows where it is, as long as nobody else writes. */
		revive_write(port, "h", NULL, 4);
		fake_settle(&revived);
		fake_written(&revived, HEARD(WRITE)->id, 7, 1);
		fake_settle(&revived);
		revive_write(port, "i", NULL, 5);
		revive();
		revive_heard_write(11);
		if (freed)
			revive_heard_write(8);
		revive_heard_nothing();
		fake_close(&revived);
	}
}

Test(client_position, P9_a_port_that_may_be_old_does_not_begin_at_zero)
{
	struct redd_spawn_options o = { .token = "job", .token_size = 3 };
	static const char *const argv[] = { "x", NULL };
	struct redd_port *port;

	revive_serve();
	o.argv = argv;
	cr_assert_eq(redd_spawn_start(revived.r, &o, &port, NULL), 0);
	revive_write(port, "abc", NULL, 0);
	revive();
	fake_started(&revived, HEARD(SPAWN)->id, 2, 0);
	fake_settle(&revived);
	revive_heard_nothing();
	cr_assert_eq(revive_results[0], -ENOTCONN);
	redd_port_free(port);
	port = revive_spawn_with(o);
	revive_write(port, "abc", NULL, 1);
	revive();
	revive_heard_write(0);
	fake_close(&revived);
}

Test(client_position, P9_a_write_that_is_being_given_up_is_in_doubt_and_what_follows_it)
{
	struct redd_port *port;
	struct redd_call *call = revive_call(1);

	revive_serve();
	port = revive_spawn();
	revive_write(port, "abc", NULL, 0);
	cr_assert_eq(redd_write_start(port, "de", 2, NULL, call), 0);
	revive_write(port, "f", NULL, 2);
	cr_assert_eq(redd_cancel_start(revived.r, call->request, revive_call(3)), 0);
	revive();
	revive_heard_write(0);
	HEARD(CANCEL);
	revive_heard_nothing();
	cr_assert(revive_results[0] == 1 && revive_results[1] == -ENOTCONN &&
		  revive_results[2] == -ENOTCONN);
	fake_close(&revived);
}

/* How much of it is in the pipe is not known, so nothing behind it is reckoned, until an answer
 * tells. */
Test(client_position, P9_a_repeat_that_is_refused_leaves_a_doubt)
{
	struct redd_port *port;

	revive_serve();
	port = revive_spawn();
	revive_write(port, "abc", NULL, 0);
	revive();
	fake_error(&revived, HEARD(WRITE)->id, REDD__V1__CODE__DATA_LOSS, 0, "over this write");
	fake_settle(&revived);
	cr_assert_eq(revive_results[0], -EBADMSG);
	revive_write(port, "de", NULL, 1);
	revive();
	revive_heard_nothing();
	cr_assert_eq(revive_results[1], -ENOTCONN);
	revive_write(port, "f", NULL, 2);
	fake_settle(&revived);
	fake_written(&revived, HEARD(WRITE)->id, 1, 1);
	fake_settle(&revived);
	revive_write(port, "g", NULL, 3);
	revive();
	revive_heard_write(2);
	fake_close(&revived);
}

/* --- expect ---------------------------------------------------------------------------------- */

static void expect_of(struct redd_port *port, const struct redd_expect_options *o, size_t i)
{
	cr_assert_eq(redd_expect_start(port, o, 60000, revive_call(i)), 0, "%s",
		     redd_last_error(revived.r)->message);
	cr_assert_eq(fake_settle(&revived), 0);
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
	fake_say(&revived, &m);
	cr_assert_eq(fake_settle(&revived), 0, "%s", redd_last_error(revived.r)->message);
}

static const struct redd_expect_options login = { .idle_ms = 5, .data = "login\n", .data_size = 6 };

Test(client_position, P9_what_an_expect_wrote_is_in_front_of_the_next_write)
{
	struct redd_port *port;

	revive_serve();
	port = packet_port(2);
	expect_of(port, &login, 0);
	say_matched(HEARD(EXPECT)->id, 0, 8);
	cr_assert_eq(revive_results[0], 0);
	revive_write(port, "abc", NULL, 1);
	revive();
	revive_heard_write(8);
	fake_close(&revived);
}

Test(client_position, P9_an_expect_that_was_over_before_its_write_leaves_a_doubt)
{
	struct redd_port *port;

	revive_serve();
	port = revive_spawn();
	for (int refused = 0; refused < 2; refused++) {
		uint64_t id;

		expect_of(port, &login, 0);
		id = HEARD(EXPECT)->id;
		if (refused)
			fake_error(&revived, id, REDD__V1__CODE__CANCELLED, 0, "given up");
		else
			say_matched(id, 0, 0);
		fake_settle(&revived);
		cr_assert_eq(revive_results[0], refused ? -ECANCELED : 0);
		revive_write(port, "abc", NULL, 1);
		revive();
		revive_heard_nothing();
		cr_assert_eq(revive_results[1], -ENOTCONN);
	}
	revive_write(port, "de", NULL, 2);
	fake_settle(&revived);
	fake_written(&revived, HEARD(WRITE)->id, 9, 2);
	fake_settle(&revived);
	revive_write(port, "f", NULL, 3);
	revive();
	revive_heard_write(11);
	fake_close(&revived);
}

Test(client_position, what_is_said_of_an_expects_write_reaches_the_broker)
{
	const struct redd_write_options how = { .header = REDD_HEADER_NONE, .force = true };
	struct redd_expect_options o = login;
	const Redd__V1__Write *w;

	o.write = &how;
	revive_serve();
	expect_of(packet_port(2), &o, 0);
	w = HEARD(EXPECT)->expect->write;
	cr_assert(w->has_header && w->header == 0 && w->has_force && w->force);
	fake_close(&revived);
}

Test(client_position, P9_what_follows_an_expect_that_is_in_doubt_is_too)
{
	struct redd_port *port;

	revive_serve();
	port = revive_spawn();
	revive_write(port, "abc", NULL, 0);
	expect_of(port, &login, 1);
	revive_write(port, "de", NULL, 2);
	revive();
	revive_heard_write(0);
	revive_heard_nothing();
	cr_assert(revive_results[0] == 1 && revive_results[1] == -ENOTCONN &&
		  revive_results[2] == -ENOTCONN);
	fake_close(&revived);
}
