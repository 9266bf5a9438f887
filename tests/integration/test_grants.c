/* Rights that an owner gives to others (P14): what they allow, that nothing else is, and that
 * taking them back ends at once what hung on them. Two sockets of one uid are two principals. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/narrow.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define NOT_FOUND REDD__V1__CODE__NOT_FOUND
#define DENIED	  REDD__V1__CODE__PERMISSION_DENIED
#define INVALID	  REDD__V1__CODE__INVALID_ARGUMENT
#define DONE	  REDD__V1__MESSAGE__BODY_DONE
#define ID(id)	  ((unsigned long long)(id))

static struct service service;
static struct peer owner, friend;
static struct narrow narrow;
static uint64_t port;

static void set_up(void)
{
	narrow_start(&narrow, &service);
	ask_greet(&owner, service.socket);
	ask_greet(&friend, narrow.socket);
	port = ask_spawn(
		&owner, "cat",
		"name: \"mine\" descriptors { fd: 0 kind: KIND_PIPE } labels { key: \"k\" }");
}

static void tear_down(void)
{
	if (port)
		ask_end(&owner, port);
	peer_close(&friend);
	peer_close(&owner);
	cr_assert_eq(service_finish(&service), 0);
	narrow_remove(&narrow);
}

TestSuite(grants, .init = set_up, .fini = tear_down, .timeout = 120);

static uint64_t grant(const char *rights)
{
	Redd__V1__Message *m =
		ask(&owner, "grant { port { id: %llu } to: GRANT_UID number: %u rights { %s } }",
		    ID(port), (unsigned)geteuid(), rights);

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_GRANTED, "%s", ask_text(m));
	return m->granted->grant;
}

static void take_back(uint64_t id)
{
	Redd__V1__Message *m = ask(&owner, "revoke { grant: %llu }", ID(id));

	cr_assert_eq(m->body_case, DONE, "%s", ask_text(m));
}

static const struct {
	const char *request;
	const char *right; /* that it needs */
} verbs[] = {
	{ "inspect { port { id: %llu } }", "see" },
	{ "wait { port { id: %llu } timeout_ms: 0 }", "see" },
	{ "subscribe { port { id: %llu } }", "read" },
	{ "write { port { id: %llu } data: \"x\" }", "write" },
	{ "lease { port { id: %llu } }", "write" },
	{ "signal { port { id: %llu } signal: 0 }", "signal" },
	{ "signal { port { id: %llu } signal: 0 target: TARGET_TREE }", "signal" },
	{ "resize { port { id: %llu } size { rows: 1 } }", "resize" },
	{ "forget { port { id: %llu } }", "manage" },
	{ "grant { port { id: %llu } to: GRANT_EVERYONE rights { see: true } }", "manage" },
	{ "subscribe { port { id: %llu } overflow: OVERFLOW_BLOCK }", "block" },
	{ "revoke { port { id: %llu } }", "manage" }, /* last: what it takes back is its own */
};

/* Whether it is allowed: that it does not work for other reasons is none of ours. */
static void expect_verbs(const char *right)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		char text[256];
		bool blocks = !strcmp(verbs[i].right, "block");
		bool may = !strcmp(verbs[i].right, "see") || !strcmp(verbs[i].right, right);
		Redd__V1__Message *m;

		snprintf(text, sizeof(text), verbs[i].request, ID(port));
		m = ask(&friend, "%s", text);
		if (blocks)
			may = false; /* needs read as well; below */
		cr_expect_eq(ask_is_error(m, DENIED), !may, "%s with %s: %s", text, right,
			     ask_text(m));
		cr_expect_not(ask_is_error(m, NOT_FOUND), "%s: %s", text, ask_text(m));
		if (m->body_case == REDD__V1__MESSAGE__BODY_LEASED)
			ask(&friend, "release { port { id: %llu } }", ID(port));
	}
}

Test(grants, P14_each_right_allows_its_verbs_and_no_others)
{
	static const char *const rights[] = { "see",	"read",	  "write", "signal",
					      "resize", "manage", "block" };

	cr_assert(ask_is_error(ask(&friend, "inspect { port { id: %llu } }", ID(port)), NOT_FOUND));
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s: true", rights[i]);
		grant(text);
		expect_verbs(rights[i]);
		cr_assert_eq(ask(&owner, "revoke { port { id: %llu } }", ID(port))->body_case,
			     DONE);
		cr_assert(ask_is_error(ask(&friend, "inspect { port { id: %llu } }", ID(port)),
				       NOT_FOUND));
	}
	grant("read: true block: true");
	cr_expect_eq(
		ask(&friend, "subscribe { port { id: %llu } overflow: OVERFLOW_BLOCK }", ID(port))
			->body_case,
		REDD__V1__MESSAGE__BODY_SUBSCRIBED);
	/* Names are a principal's own: nobody can be lured by one. */
	cr_expect(ask_is_error(ask(&friend, "inspect { port { name: \"mine\" } }"), NOT_FOUND));
}

Test(grants, P14_streams_narrow_reading_and_writing)
{
	Redd__V1__Message *m;

	grant("read: true streams: 2");
	cr_expect(ask_is_error(ask(&friend, "subscribe { port { id: %llu } streams: 1 }", ID(port)),
			       DENIED));
	cr_expect(ask_is_error(
		ask(&friend, "subscribe { port { id: %llu } streams: 2 streams: 1 }", ID(port)),
		DENIED));
	m = ask(&friend, "subscribe { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	cr_assert_eq(m->subscribed->n_starts, 1);
	cr_expect_eq(m->subscribed->starts[0]->stream, 2);
	cr_expect(ask_is_error(ask(&friend, "write { port { id: %llu } data: \"x\" }", ID(port)),
			       DENIED));
	/* A second one adds to it. */
	grant("write: true streams: 0");
	m = ask(&friend, "write { port { id: %llu } data: \"x\" }", ID(port));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_WRITTEN, "%s", ask_text(m));
	cr_expect(ask_is_error(ask(&friend, "subscribe { port { id: %llu } streams: 1 }", ID(port)),
			       DENIED));
}

Test(grants, P15_what_makes_no_sense_is_refused_with_the_reason)
{
	static const char *const wrong[] = {
		"to: GRANT_UID number: 5 rights { }",
		"to: GRANT_UID number: 5",
		"to: GRANT_UID rights { see: true }",
		"to: GRANT_EVERYONE number: 5 rights { see: true }",
		"to: 7 number: 5 rights { see: true }",
		"to: GRANT_UID number: 5 rights { read: true streams: 9 }",
		"to: GRANT_UID number: 5 rights { see: true streams: 1 }",
		"to: GRANT_EVERYONE rights { see: true } duration_ms: 18446744073709551615",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		Redd__V1__Message *m =
			ask(&owner, "grant { port { id: %llu } %s }", ID(port), wrong[i]);

		cr_expect(ask_is_error(m, INVALID), "%s: %s", wrong[i], ask_text(m));
	}
	cr_expect(ask_is_error(ask(&owner, "revoke { }"), INVALID));
	cr_expect(ask_is_error(ask(&owner, "revoke { grant: 1 delegation: 2 }"), INVALID));
	cr_expect(ask_is_error(ask(&owner, "revoke { grant: 4711 }"), NOT_FOUND));
	for (unsigned i = 0; i < GRANTS_MAX; i++)
		grant("see: true");
	cr_expect(ask_is_error(ask(&owner,
				   "grant { port { id: %llu } to: GRANT_EVERYONE "
				   "rights { see: true } }",
				   ID(port)),
			       REDD__V1__CODE__RESOURCE_EXHAUSTED));
}

Test(grants, P14_nobody_gives_more_than_he_has)
{
	Redd__V1__Message *m;
	uint64_t managed = grant("manage: true read: true streams: 1");

	m = ask(&friend,
		"grant { port { id: %llu } to: GRANT_UID number: 9 rights { write: true } }",
		ID(port));
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	m = ask(&friend,
		"grant { port { id: %llu } to: GRANT_UID number: 9 rights { read: true } }",
		ID(port));
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	m = ask(&friend,
		"grant { port { id: %llu } to: GRANT_UID number: 9 rights { read: true streams: 1 "
		"} }",
		ID(port));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_GRANTED, "%s", ask_text(m));
	/* Inspect tells grants to those who manage. */
	m = ask(&friend, "inspect { port { id: %llu } }", ID(port));
	cr_assert_eq(m->port_info->n_grants, 2, "%s", ask_text(m));
	cr_expect_eq(m->port_info->grants[0]->grant, managed);
	cr_expect(m->port_info->grants[0]->rights->manage);
	cr_expect_eq(m->port_info->grants[1]->number, 9);
	cr_expect_eq(m->port_info->grants[1]->rights->n_streams, 1);
	take_back(managed);
	grant("see: true");
	m = ask(&friend, "inspect { port { id: %llu } }", ID(port));
	cr_expect_eq(m->port_info->n_grants, 0);
}

/* Bytes that wait for the input, when none of them are on their way any more. */
static uint64_t queue_at_rest(void)
{
	uint64_t before, now = UINT64_MAX;

	do {
		before = now;
		now = ask(&owner, "inspect { port { id: %llu } }", ID(port))
			      ->port_info->streams[0]
			      ->queued;
	} while (now != before);
	return now;
}

Test(grants, P14_a_revocation_ends_at_once_what_hung_on_it)
{
	Redd__V1__Message *m;
	uint64_t id, waits, writes, leases, subscription;

	id = grant("read: true write: true");
	m = ask(&friend, "subscribe { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED);
	subscription = m->subscribed->subscription;
	waits = ask_send(&friend, "wait { port { id: %llu } }", ID(port));
	/* The process is stopped, so its pipe fills, and what is behind that waits. */
	ask_stop(&owner, port);
	for (;;) {
		static char block[KIB(4) + 1];

		memset(block, 'o', sizeof(block) - 1);
		ask_send(&owner, "write { port { id: %llu } data: \"%s\" }", ID(port), block);
		if (queue_at_rest() >= 3 * KIB(4))
			break;
	}
	writes = ask_send(&friend, "write { port { id: %llu } data: \"never\" }", ID(port));
	ask(&friend, "ping { }"); /* it is taken before the other connection's lease */
	cr_assert_eq(ask(&owner, "lease { port { id: %llu } }", ID(port))->body_case,
		     REDD__V1__MESSAGE__BODY_LEASED);
	leases = ask_send(&friend, "lease { port { id: %llu } wait: true }", ID(port));
	ask(&friend, "ping { }");
	take_back(id);
	m = ask_event(&friend, REDD__V1__MESSAGE__BODY_ERROR);
	for (unsigned seen = 0; seen != 7; m = ask_event(&friend, REDD__V1__MESSAGE__BODY_ERROR)) {
		cr_assert(m && ask_is_error(m, DENIED), "%u seen, %s", seen,
			  m ? ask_text(m) : "nothing");
		seen |= m->reply_to == waits	? 1
			: m->reply_to == writes ? 2
			: m->reply_to == leases ? 4
						: 8;
		cr_assert_lt(seen, 8);
		if (seen == 7)
			break;
	}
	m = ask_event(&friend, REDD__V1__MESSAGE__BODY_CLOSED);
	cr_assert(m && m->closed->subscription == subscription);
	cr_expect_eq(m->closed->cause, REDD__V1__CLOSED__CAUSE__REVOKED);
	ask(&owner, "release { port { id: %llu } }", ID(port));
	ask(&owner, "signal { port { id: %llu } signal: %d }", ID(port), SIGCONT);
	/* The owner's own go on, and what was revoked is not among them. */
	m = ask(&owner, "close { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_CLOSE_DONE, "%s", ask_text(m));
	cr_expect_eq(m->close_done->offset % KIB(4), 0);
}

static void grant_for_a_while(void)
{
	Redd__V1__Message *m =
		ask(&owner,
		    "grant { port { id: %llu } to: GRANT_EVERYONE rights { read: true } "
		    "duration_ms: %d }",
		    ID(port), place_span_ms(1500));

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_GRANTED, "%s", ask_text(m));
}

Test(grants, P14_a_grant_ends_by_itself_when_its_time_is_up)
{
	Redd__V1__Message *m;

	grant_for_a_while();
	m = ask(&friend, "subscribe { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	m = ask(&owner, "inspect { port { id: %llu } }", ID(port));
	cr_expect(m->port_info->n_grants == 1 && m->port_info->grants[0]->has_left_ms);
	m = ask_event(&friend, REDD__V1__MESSAGE__BODY_CLOSED);
	cr_assert(m && m->closed->cause == REDD__V1__CLOSED__CAUSE__REVOKED);
	cr_expect(ask_is_error(ask(&friend, "inspect { port { id: %llu } }", ID(port)), NOT_FOUND));
	m = ask(&owner, "inspect { port { id: %llu } }", ID(port));
	cr_expect_eq(m->port_info->n_grants, 0);
}

static void expect_life(Redd__V1__Life__What what)
{
	Redd__V1__Message *m = ask_event(&friend, REDD__V1__MESSAGE__BODY_LIFE);

	cr_assert_not_null(m);
	cr_expect_eq(m->life->what, what, "%d", m->life->what);
	cr_expect_eq(m->life->port, port);
}

Test(grants, P14_lists_and_watches_follow_what_is_granted)
{
	uint64_t one, two;
	Redd__V1__Message *m;

	cr_assert_eq(ask(&friend, "watch { labels { key: \"k\" } }")->body_case,
		     REDD__V1__MESSAGE__BODY_WATCHING);
	one = grant("see: true");
	expect_life(REDD__V1__LIFE__WHAT__GRANTED);
	m = ask(&friend, "list { }");
	cr_assert_eq(m->ports->n_ports, 1);
	cr_expect_eq(m->ports->ports[0]->port, port);
	two = grant("read: true");
	take_back(one); /* the other one shows it still */
	expect_life(REDD__V1__LIFE__WHAT__GRANTED);
	take_back(two);
	expect_life(REDD__V1__LIFE__WHAT__REVOKED);
	cr_assert_eq(ask(&friend, "list { }")->ports->n_ports, 0);
	/* Nothing of its end. */
	ask_end(&owner, port);
	port = 0;
	m = ask(&friend, "ping { data: \"x\" }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PONG);
	m = ask(&friend, "watch { after: 0 }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WATCHING);
	cr_assert_eq(ask(&friend, "stats { }")->body_case, REDD__V1__MESSAGE__BODY_STATISTICS);
}

Test(grants, P14_what_a_manager_gives_does_not_outlast_his_own_right)
{
	Redd__V1__Message *m =
		ask(&owner,
		    "grant { port { id: %llu } to: GRANT_UID number: %u rights { manage: true } "
		    "duration_ms: 3600000 }",
		    ID(port), (unsigned)geteuid());

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_GRANTED, "%s", ask_text(m));
	m = ask(&friend, "grant { port { id: %llu } to: GRANT_UID number: 9 rights { see: true } }",
		ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_GRANTED, "%s", ask_text(m));
	m = ask(&friend, "inspect { port { id: %llu } }", ID(port));
	cr_assert_eq(m->port_info->n_grants, 2);
	cr_expect(m->port_info->grants[1]->has_left_ms);
	cr_expect_leq(m->port_info->grants[1]->left_ms, 3600000);
}

/* A door gives what its maker has just now. */
Test(grants, P14_what_was_passed_on_goes_with_the_grant)
{
	uint64_t id = grant("read: true write: true streams: 0 streams: 1");
	Redd__V1__Message *m =
		ask(&friend, "delegate { ports { id: %llu } rights { signal: true } }", ID(port));
	struct peer through;
	int door;

	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	m = ask(&friend, "delegate { ports { id: %llu } rights { read: true } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DELEGATED, "%s", ask_text(m));
	door = peer_take_fd(&friend);
	cr_assert_eq(peer_knock(&through, door), 0);
	cr_assert_eq(peer_hello(&through), 0);
	m = ask(&through, "subscribe { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	cr_expect_eq(m->subscribed->n_starts, 1);
	m = ask(&through, "write { port { id: %llu } data: \"x\" }", ID(port));
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	take_back(id);
	m = ask_event(&through, REDD__V1__MESSAGE__BODY_CLOSED);
	cr_assert(m && m->closed->cause == REDD__V1__CLOSED__CAUSE__REVOKED);
	m = ask(&through, "inspect { port { id: %llu } }", ID(port));
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	peer_close(&through);
	close(door);
}

/* --- all that have a label ------------------------------------------------------------------- */

Test(grants, signals_and_waits_reach_what_has_the_labels_and_may_be_reached)
{
	uint64_t mine[2], theirs, wait;
	Redd__V1__Message *m;

	for (int i = 0; i < 2; i++)
		mine[i] = ask_spawn(&owner, "hang", "labels { key: \"job\" value: \"17\" }");
	theirs = ask_spawn(&friend, "hang", "labels { key: \"job\" value: \"17\" }");
	m = ask(&owner, "signal { labels { key: \"job\" value: \"18\" } signal: 0 }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "%s", ask_text(m));
	cr_expect_eq(m->signalled->count, 0);
	cr_expect(ask_is_error(ask(&owner, "wait { labels { key: \"job\" value: \"18\" } }"),
			       NOT_FOUND));
	cr_expect(ask_is_error(ask(&owner, "signal { port { id: 1 } labels { key: \"job\" } }"),
			       INVALID));
	cr_expect(ask_is_error(ask(&owner, "wait { port { id: 1 } labels { key: \"job\" } }"),
			       INVALID));
	cr_expect(ask_is_error(ask(&owner, "signal { labels { key: \"job\" } signal: 65 }"),
			       INVALID));
	cr_expect(ask_is_error(ask(&owner, "wait { labels { key: \"job\" } timeout_ms: 0 }"),
			       REDD__V1__CODE__DEADLINE_EXCEEDED));
	wait = ask_send(&owner, "wait { labels { key: \"job\" } }");
	m = ask(&owner, "signal { labels { key: \"job\" value: \"17\" } signal: 9 }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "%s", ask_text(m));
	cr_expect_eq(m->signalled->count, 2);
	m = ask_answer(&owner, wait);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	cr_expect(m->waited->port == mine[0] || m->waited->port == mine[1]);
	cr_expect_eq(m->waited->exit->signal, SIGKILL);
	m = ask(&friend, "signal { port { id: %llu } signal: 0 }", ID(theirs));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "another's was hit");
	for (int i = 0; i < 2; i++)
		ask_end(&owner, mine[i]);
	ask_end(&friend, theirs);
}

/* --- what hangs on a right -------------------------------------------------------------------- */

Test(grants, P14_a_wait_by_labels_is_not_answered_by_anothers_port)
{
	uint64_t theirs = ask_spawn(&friend, "hang", "labels { key: \"job\" }");
	uint64_t mine = ask_spawn(&owner, "hang", "labels { key: \"job\" }");
	uint64_t wait, ping;
	Redd__V1__Message *m;

	ask_send(&friend, "wait { labels { key: \"job\" } }");
	ask(&friend, "ping { }");
	wait = ask_send(&owner, "wait { labels { key: \"job\" } }");
	m = ask(&owner, "signal { port { id: %llu } signal: 9 }", ID(mine));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "%s", ask_text(m));
	m = ask_answer(&owner, wait);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED, "%s", ask_text(m));
	cr_expect_eq(m->waited->port, mine);
	ping = ask_send(&friend, "ping { }");
	cr_assert_eq(peer_recv(&friend, 10000, &m), 0);
	cr_expect_eq(m->reply_to, ping, "the other's wait is over: %s", ask_text(m));
	ask_end(&friend, theirs);
	ask_end(&owner, mine);
}

Test(grants, P14_without_the_right_to_block_nobody_blocks)
{
	uint64_t block;
	Redd__V1__Message *m;

	grant("read: true");
	m = ask(&friend, "expect { port { id: %llu } patterns { text: \"x\" } block: true }",
		ID(port));
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
	block = grant("block: true");
	m = ask(&friend, "subscribe { port { id: %llu } overflow: OVERFLOW_BLOCK }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	take_back(block);
	m = ask_event(&friend, REDD__V1__MESSAGE__BODY_CLOSED);
	cr_assert(m && m->closed->cause == REDD__V1__CLOSED__CAUSE__REVOKED);
}

Test(grants, P14_a_lease_goes_with_the_right_to_write)
{
	uint64_t write = grant("write: true");
	Redd__V1__Message *m = ask(&friend, "lease { port { id: %llu } }", ID(port));

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_LEASED, "%s", ask_text(m));
	take_back(write);
	m = ask(&owner, "write { port { id: %llu } data: \"x\" }", ID(port));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_WRITTEN, "%s", ask_text(m));
}

/* --- a broker's death ------------------------------------------------------------------------ */

Test(grants, P13_grants_survive_the_broker)
{
	struct census census;
	uint64_t id = grant("read: true streams: 1"), kept;
	Redd__V1__Message *m;

	kept = ask_spawn(&owner, "hang", "orphan: ORPHAN_KEEP");
	m = ask(&owner, "grant { port { id: %llu } to: GRANT_EVERYONE rights { signal: true } }",
		ID(kept));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_GRANTED, "%s", ask_text(m));
	id = m->granted->grant;
	cr_assert_eq(census_take(service.pid, &census), 0);
	cr_assert_eq(kill(census.broker, SIGKILL), 0);
	cr_assert_eq(peer_expect_end(&friend, 20000), 0);
	peer_close(&friend);
	peer_close(&owner);
	ask_greet(&friend, narrow.socket);
	ask_greet(&owner, service.socket);
	m = ask(&friend, "signal { port { id: %llu } signal: 0 }", ID(kept));
	cr_expect_eq(m->body_case, REDD__V1__MESSAGE__BODY_SIGNALLED, "%s", ask_text(m));
	m = ask(&owner, "inspect { port { id: %llu } }", ID(kept));
	cr_assert_eq(m->port_info->n_grants, 1);
	cr_expect_eq(m->port_info->grants[0]->grant, id);
	/* Ids are never used again. */
	m = ask(&owner, "grant { port { id: %llu } to: GRANT_EVERYONE rights { see: true } }",
		ID(kept));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_GRANTED);
	cr_expect_gt(m->granted->grant, id);
	take_back(id);
	cr_expect(ask_is_error(ask(&friend, "signal { port { id: %llu } signal: 0 }", ID(kept)),
			       DENIED));
	ask_end(&owner, kept);
}

/* The next broker takes the place of the one that dies, and both clients have come back to it. */
static void next_broker(void)
{
	struct census census;

	cr_assert_eq(census_take(service.pid, &census), 0);
	cr_assert_eq(kill(census.broker, SIGKILL), 0);
	cr_assert_eq(peer_expect_end(&friend, 20000), 0);
	cr_assert_eq(peer_expect_end(&owner, 20000), 0);
	peer_close(&friend);
	peer_close(&owner);
	ask_greet(&friend, narrow.socket);
	ask_greet(&owner, service.socket);
}

Test(grants, P13_what_was_taken_back_stays_so_in_the_next_broker)
{
	uint64_t id = grant("read: true"), kept = grant("see: true");
	Redd__V1__Message *m;

	take_back(id);
	next_broker();
	m = ask(&owner, "inspect { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
	cr_assert_eq(m->port_info->n_grants, 1);
	cr_expect_eq(m->port_info->grants[0]->grant, kept);
	m = ask(&friend, "subscribe { port { id: %llu } }", ID(port));
	cr_expect(ask_is_error(m, DENIED), "%s", ask_text(m));
}

Test(grants, P13_a_grant_ends_at_its_time_in_the_next_broker)
{
	Redd__V1__Message *m;

	grant_for_a_while();
	next_broker();
	m = ask(&friend, "subscribe { port { id: %llu } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	m = ask_event(&friend, REDD__V1__MESSAGE__BODY_CLOSED);
	cr_assert(m && m->closed->cause == REDD__V1__CLOSED__CAUSE__REVOKED);
}
