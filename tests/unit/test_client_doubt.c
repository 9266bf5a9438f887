/* Requests that were sent and not answered when the broker died: asked again where that does
 * nothing twice, by what names their port now; else in doubt. And subscriptions inside of a record.
 */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/limits.h"
#include "tests/lib/revive.h"

TestSuite(client_doubt, .timeout = 30);

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

	cr_assert_eq(redd_expect_start(port, &writes, 60000, revive_call(n++)), 0);
	cr_assert_eq(redd_expect_start(port, &from_now, 60000, revive_call(n++)), 0);
	cr_assert_eq(redd_grant_start(port, &to_all, revive_call(n++)), 0);
	cr_assert_eq(redd_delegate_start(revived.r, &door, revive_call(n++)), 0);
	cr_assert_eq(redd_revoke_grant_start(revived.r, 8, revive_call(n++)), 0);
	cr_assert_eq(redd_revoke_delegation_start(revived.r, 9, revive_call(n++)), 0);
	cr_assert_eq(redd_release_start(port, 0, revive_call(n++)), 0);
	cr_assert_eq(redd_signal_start(port, 15, REDD_LEADER, revive_call(n++)), 0);
	return n;
}

Test(client_doubt, P13_what_would_be_done_twice_is_in_doubt)
{
	size_t n;

	revive_serve();
	n = ask_once(revive_spawn());
	revive();
	revive_heard_nothing();
	for (size_t i = 0; i < n; i++)
		cr_expect_eq(revive_results[i], -ENOTCONN, "call %zu", i);
	fake_close(&revived);
}

Test(client_doubt, P13_what_never_left_goes_out)
{
	struct redd_port *port;
	Redd__V1__Request *hello;
	size_t n;

	revive_serve();
	port = revive_spawn();
	hello = fake_back(&revived);
	n = ask_once(port);
	fake_welcome_to(&revived, hello->id, 0);
	cr_assert_eq(fake_settle(&revived), 0);
	for (size_t i = 0; i < n; i++) {
		cr_expect_eq(revive_results[i], 1, "call %zu", i);
		cr_assert_not_null(fake_heard(&revived), "call %zu", i);
	}
	fake_close(&revived);
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

	cr_assert_eq(redd_expect_start(port, &from_three, 60000, revive_call(0)), 0);
	cr_assert_eq(redd_lease_start(port, NULL, revive_call(1)), 0);
	cr_assert_eq(redd_revoke_all_start(port, revive_call(2)), 0);
	cr_assert_eq(redd_resize_start(port, &(struct redd_terminal){ 0 }, revive_call(3)), 0);
	cr_assert_eq(redd_wait_start(port, REDD_UNTIL_CLOSED, 60000, revive_call(4)), 0);
	cr_assert_eq(redd_inspect_start(port, revive_call(5)), 0);
	cr_assert_eq(redd_forget_start(port, revive_call(6)), 0);
	cr_assert_eq(redd_close_start(port, REDD_STREAM_DEFAULT, revive_call(7)), 0);
	cr_assert_eq(redd_subscribe_start(port, &o, &s, revive_call(8)), 0);
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
	revive_heard_nothing();
}

Test(client_doubt, P13_what_is_the_same_once_more_is_asked_again_by_the_ports_id)
{
	static const char *const argv[] = { "x", NULL };
	const struct redd_spawn_options o = { .argv = argv };
	struct redd_port *port;

	revive_serve();
	cr_assert_eq(redd_spawn_start(revived.r, &o, &port, NULL), 0);
	ask_again(port);
	fake_settle(&revived);
	fake_started(&revived, HEARD(SPAWN)->id, 1, 0);
	revive();
	heard_again();
	for (size_t i = 0; i <= 8; i++)
		cr_expect_eq(revive_results[i], 1, "call %zu", i);
	fake_close(&revived);
}

/* There was no room for it on the connection whose Spawn it names. */
Test(client_doubt, P13_a_delegation_names_its_ports_by_id)
{
	static const char *const argv[] = { "x", NULL };
	static char data[1 << 19];
	const struct redd_spawn_options o = { .argv = argv };
	struct redd_delegate_options door = { .n_ports = 1, .rights = { .read = true } };
	Redd__V1__Request *m = NULL;
	struct redd_port *port;

	revive_serve();
	cr_assert_eq(redd_spawn_start(revived.r, &o, &port, NULL), 0);
	for (int i = 0; i < 6; i++)
		cr_assert_eq(redd_write_start(port, data, sizeof(data), NULL, NULL), 0);
	door.ports = &port;
	cr_assert_eq(redd_delegate_start(revived.r, &door, revive_call(0)), 0);
	redd_dispatch(revived.r);
	fake_started(&revived, HEARD(SPAWN)->id, 1, 0);
	redd_dispatch(revived.r);
	cr_assert_eq(redd_port_id(port), 1);
	fake_welcome_to(&revived, fake_back(&revived)->id, 0);
	while (!m || m->body_case != REDD__V1__REQUEST__BODY_DELEGATE) {
		cr_assert_eq(redd_run_once(revived.r, 1), 0);
		cr_assert_eq(revive_results[0], 1);
		m = fake_heard(&revived);
	}
	named_by_id(m->delegate->ports[0]);
	fake_close(&revived);
}

Test(client_doubt, P13_an_expect_has_less_time_left)
{
	struct redd_port *port;
	const Redd__V1__Expect *expect;
	int64_t begin;

	revive_serve();
	port = revive_spawn();
	cr_assert_eq(redd_expect_start(port, &from_three, 1, revive_call(0)), 0);
	for (begin = clock_ms(); clock_ms() <= begin;)
		redd_run_once(revived.r, 1);
	revive();
	expect = HEARD(EXPECT)->expect;
	cr_assert(expect->has_timeout_ms && expect->timeout_ms == 0);
	fake_close(&revived);
}

/* An end is said to a terminal, and what comes next reads behind it. */
Test(client_doubt, P13_the_end_of_a_terminals_input_is_not_said_twice)
{
	const struct redd_write_options closing = { .close = true };
	struct redd_port *ports[3];

	revive_serve();
	ports[0] = revive_spawn_with((struct redd_spawn_options){
		.terminal = &(struct redd_terminal){ 0 },
	});
	ports[1] = revive_port(2);
	revive_inspect(ports[1], &(struct revive_seen){ .terminal = true });
	ports[2] = revive_port(3);
	cr_assert_eq(redd_close_start(ports[0], REDD_STREAM_DEFAULT, revive_call(0)), 0);
	revive_write(ports[0], "abc", &closing, 1);
	cr_assert_eq(redd_close_start(ports[1], REDD_STREAM_DEFAULT, revive_call(2)), 0);
	cr_assert_eq(redd_close_start(ports[1], REDD_TERMINAL, revive_call(3)), 0);
	cr_assert_eq(redd_close_start(ports[2], REDD_STREAM_DEFAULT, revive_call(4)), 0);
	cr_assert_eq(redd_close_start(ports[2], 0, revive_call(5)), 0);
	cr_assert_eq(redd_close_whole_start(ports[2], false, revive_call(6)), 0);
	revive();
	cr_assert(HEARD(CLOSE)->close->has_stream);
	cr_assert(HEARD(CLOSE)->close->whole);
	revive_heard_nothing();
	for (size_t i = 0; i < 7; i++)
		cr_expect_eq(revive_results[i], i < 5 ? -ENOTCONN : 1, "call %zu", i);
	fake_close(&revived);
}

Test(client_doubt, P13_an_end_without_data_that_was_said_is_not_refused)
{
	const struct redd_write_options closing = { .close = true };
	struct redd_port *port;

	revive_serve();
	port = revive_spawn();
	revive_write(port, "", &closing, 0);
	revive();
	fake_error(&revived, HEARD(WRITE)->id, REDD__V1__CODE__FAILED_PRECONDITION, EPIPE,
		   "closed");
	fake_settle(&revived);
	cr_assert_eq(revive_results[0], 0);
	fake_close(&revived);
}

/* Its offset makes it longer than a frame. */
Test(client_doubt, P13_a_write_that_cannot_be_repeated_for_its_length_is_in_doubt)
{
	static char data[FRAME_MAX_DEFAULT];
	struct redd_port *port;
	size_t size = sizeof(data);

	revive_serve();
	port = revive_spawn();
	cr_assert_eq(redd_write_start(port, data, 20000, NULL, NULL), 0);
	fake_settle(&revived);
	fake_written(&revived, HEARD(WRITE)->id, 0, 20000);
	fake_settle(&revived);
	while (redd_write_start(port, data, size, NULL, revive_call(0)) == -EMSGSIZE)
		size--;
	revive();
	revive_heard_nothing();
	cr_assert_eq(revive_results[0], -ENOTCONN);
	fake_close(&revived);
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

	fake_bytes(&revived, prefix, codec_output_prefix(prefix, &o));
	fake_bytes(&revived, data, o.size);
}

/* Cut as the port was spawned, whoever spawned it: what comes tells how. */
static void subscribe(enum redd_cut cut)
{
	const struct redd_subscribe_options o = {
		.handler = { .on_closed = on_closed },
		.framing = { .cut = cut, .header = cut == REDD_PACKETS ? 2 : 0 }
	};
	struct redd_subscription *s;

	cr_assert_eq(redd_subscribe_start(revive_port(1), &o, &s, NULL), 0);
	fake_settle(&revived);
	fake_subscribed(&revived, HEARD(SUBSCRIBE)->id, 1, 1, 1, 0);
	fake_settle(&revived);
}

static void resumed_at(uint64_t offset)
{
	const Redd__V1__Start *start = HEARD(SUBSCRIBE)->subscribe->start;

	cr_assert(start->n_offsets == 1 && start->offsets[0]->offset == offset);
}

Test(client_doubt, P13_inside_of_a_line_a_subscription_goes_on)
{
	static const enum redd_cut cuts[] = { REDD_CUT_DEFAULT, REDD_LINES };

	for (size_t i = 0; i < 2; i++) {
		revive_serve();
		subscribe(cuts[i]);
		say_record(0, 1, REDD__V1__OUTPUT__RECORD__END, "one");
		say_record(4, 0, REDD__V1__OUTPUT__RECORD__PART, "two");
		revive();
		cr_assert_eq(n_closed, 0);
		resumed_at(7);
		fake_close(&revived);
	}
}

Test(client_doubt, P13_inside_of_a_packet_a_subscription_ends)
{
	static const enum redd_cut cuts[] = { REDD_CUT_DEFAULT, REDD_PACKETS };

	for (size_t i = 0; i < 2; i++) {
		n_closed = 0;
		revive_serve();
		subscribe(cuts[i]);
		say_record(0, 2, REDD__V1__OUTPUT__RECORD__PART, "");
		say_record(2, 0, REDD__V1__OUTPUT__RECORD__PART, "two");
		revive();
		cr_assert_eq(n_closed, 1);
		revive_heard_nothing();
		fake_close(&revived);
	}
}

Test(client_doubt, P13_between_two_packets_a_subscription_goes_on)
{
	revive_serve();
	subscribe(REDD_CUT_DEFAULT);
	say_record(0, 2, REDD__V1__OUTPUT__RECORD__PART, "one");
	say_record(5, 0, REDD__V1__OUTPUT__RECORD__END, "two");
	revive();
	cr_assert_eq(n_closed, 0);
	resumed_at(8);
	fake_close(&revived);
}
