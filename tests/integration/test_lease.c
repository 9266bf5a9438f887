/* Leases of a port's input: one session writes, the others are refused or wait in turn (section 10
 * of PROTOCOL.md); and writers without a lease do not shut each other out (P9, P15). */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define PRECONDITION REDD__V1__CODE__FAILED_PRECONDITION
#define LEASED	     REDD__V1__MESSAGE__BODY_LEASED
#define WRITTEN	     REDD__V1__MESSAGE__BODY_WRITTEN
#define DONE	     REDD__V1__MESSAGE__BODY_DONE
#define ID(id)	     ((unsigned long long)(id))

static struct service service;
static struct peer a, b, c;
static uint64_t port;

static void come(struct peer *p)
{
	ask_greet(p, service.socket);
}

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	come(&a);
	come(&b);
	come(&c);
	port = ask_spawn(
		&c, "cat",
		"descriptors { fd: 0 kind: KIND_PIPE } orphan: ORPHAN_KEEP input_bound: 65536");
}

static void tear_down(void)
{
	ask_end(&c, port);
	peer_close(&a);
	peer_close(&b);
	peer_close(&c);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(lease, .init = set_up, .fini = tear_down, .timeout = 120);

static uint64_t lease(struct peer *p, const char *more)
{
	Redd__V1__Message *m = ask(p, "lease { port { id: %llu } %s }", ID(port), more);

	cr_assert_eq(m->body_case, LEASED, "%s", ask_text(m));
	cr_assert_eq(m->leased->port, port);
	return m->leased->lease;
}

static bool writes(struct peer *p)
{
	Redd__V1__Message *m = ask(p, "write { port { id: %llu } data: \"x\" }", ID(port));

	if (m->body_case == WRITTEN)
		return true;
	cr_assert(ask_is_error(m, PRECONDITION) && m->error->sys_errno == EBUSY, "%s", ask_text(m));
	return false;
}

static void expect_lost(struct peer *p, Redd__V1__Leased__Cause cause)
{
	Redd__V1__Message *m = ask_event(p, LEASED);

	cr_assert_not_null(m);
	cr_expect_eq(m->reply_to, 0);
	cr_expect_eq(m->leased->port, port);
	cr_expect_eq(m->leased->cause, cause);
}

Test(lease, only_its_session_writes_and_closes)
{
	uint64_t id = lease(&a, "");
	Redd__V1__Message *m;

	cr_expect(writes(&a));
	cr_expect_not(writes(&b));
	m = ask(&b, "close { port { id: %llu } }", ID(port));
	cr_expect(ask_is_error(m, PRECONDITION) && m->error->sys_errno == EBUSY, "%s", ask_text(m));
	m = ask(&b, "lease { port { id: %llu } }", ID(port));
	cr_expect(ask_is_error(m, PRECONDITION) && m->error->sys_errno == EBUSY, "%s", ask_text(m));
	cr_expect_eq(lease(&a, ""), id, "whoever has it keeps it");
	m = ask(&b, "inspect { port { id: %llu } }", ID(port));
	cr_assert_not_null(m->port_info->lease);
	cr_expect_eq(m->port_info->lease->holder->lease, id);
	cr_expect_not(m->port_info->lease->has_left_ms);
	cr_expect(ask_is_error(ask(&b, "release { port { id: %llu } }", ID(port)), PRECONDITION));
	cr_expect_eq(ask(&a, "release { port { id: %llu } }", ID(port))->body_case, DONE);
	cr_expect(writes(&b));
	m = ask(&b, "inspect { port { id: %llu } }", ID(port));
	cr_expect_null(m->port_info->lease);
}

Test(lease, those_who_wait_get_it_in_turn_or_by_name)
{
	Redd__V1__Message *m;
	uint64_t wait_b, wait_c, claim_c;

	lease(&a, "");
	wait_b = ask_send(&b, "lease { port { id: %llu } wait: true }", ID(port));
	ask(&b, "ping { }");
	wait_c = ask_send(&c, "lease { port { id: %llu } wait: true }", ID(port));
	ask(&c, "ping { }");
	cr_expect(ask_is_error(ask(&b, "lease { port { id: %llu } wait: true }", ID(port)),
			       PRECONDITION));
	m = ask(&a, "inspect { port { id: %llu } }", ID(port));
	cr_assert_eq(m->port_info->lease->n_waiting, 2);
	claim_c = m->port_info->lease->waiting[1]->lease;
	cr_expect(ask_is_error(ask(&a, "release { port { id: %llu } to: 4711 }", ID(port)),
			       REDD__V1__CODE__NOT_FOUND));
	/* Handed over past b, to c; then b's turn comes. */
	cr_expect_eq(
		ask(&a, "release { port { id: %llu } to: %llu }", ID(port), ID(claim_c))->body_case,
		DONE);
	m = ask_answer(&c, wait_c);
	cr_assert_eq(m->body_case, LEASED, "%s", ask_text(m));
	cr_expect_eq(m->leased->lease, claim_c);
	cr_expect(writes(&c));
	cr_expect_not(writes(&a));
	cr_expect_not(writes(&b));
	cr_expect_eq(ask(&c, "release { port { id: %llu } }", ID(port))->body_case, DONE);
	cr_expect_eq(ask_answer(&b, wait_b)->body_case, LEASED);
	/* One that waits may give up. */
	wait_c = ask_send(&c, "lease { port { id: %llu } wait: true }", ID(port));
	cr_expect_eq(ask(&c, "cancel { request: %llu }", ID(wait_c))->body_case, DONE);
	m = ask(&a, "inspect { port { id: %llu } }", ID(port));
	cr_expect_eq(m->port_info->lease->n_waiting, 0);
}

Test(lease, it_ends_by_force_by_time_and_with_its_session)
{
	struct peer second;
	uint64_t wait;

	lease(&a, "");
	lease(&b, "force: true");
	expect_lost(&a, REDD__V1__LEASED__CAUSE__TAKEN);
	cr_expect_not(writes(&a));
	lease(&b, "duration_ms: 50");
	expect_lost(&b, REDD__V1__LEASED__CAUSE__EXPIRED);
	cr_expect(writes(&a));
	/* One that dies, with others waiting: nobody is kept. */
	lease(&b, "");
	come(&second);
	wait = ask_send(&second, "lease { port { id: %llu } wait: true duration_ms: 3600000 }",
			ID(port));
	ask(&second, "ping { }");
	peer_close(&b);
	cr_expect_eq(ask_answer(&second, wait)->body_case, LEASED);
	cr_expect_not(writes(&a));
	peer_close(&second);
	wait = ask_send(&c, "lease { port { id: %llu } wait: true }", ID(port));
	cr_expect_eq(ask_answer(&c, wait)->body_case, LEASED);
	come(&b);
}

Test(lease, P15_what_makes_no_sense_is_refused)
{
	Redd__V1__Message *m;

	m = ask(&a, "lease { port { id: %llu } wait: true force: true }", ID(port));
	cr_expect(ask_is_error(m, REDD__V1__CODE__INVALID_ARGUMENT), "%s", ask_text(m));
	m = ask(&a, "lease { port { id: %llu } duration_ms: 18446744073709551615 }", ID(port));
	cr_expect(ask_is_error(m, REDD__V1__CODE__INVALID_ARGUMENT), "%s", ask_text(m));
	cr_expect(ask_is_error(ask(&a, "lease { }"), REDD__V1__CODE__INVALID_ARGUMENT));
	cr_expect_eq(ask(&a, "close { port { id: %llu } }", ID(port))->body_case,
		     REDD__V1__MESSAGE__BODY_CLOSE_DONE);
	m = ask(&a, "lease { port { id: %llu } }", ID(port));
	cr_expect(ask_is_error(m, PRECONDITION), "%s", ask_text(m));
}

/* Whoever has it may keep it for as long as he likes: it is worth nothing any more. */
Test(lease, S47_who_waits_for_it_is_told_when_there_is_nothing_left_to_write_to)
{
	static const char *const ends[] = { "close { port { id: %llu } }",
					    "signal { port { id: %llu } signal: 9 }" };
	Redd__V1__Message *m;

	for (int i = 0; i < 2; i++) {
		uint64_t wait,
			hang = ask_spawn(&c, "hang", "descriptors { fd: 0 kind: KIND_PIPE }");

		m = ask(&a, "lease { port { id: %llu } }", ID(hang));
		cr_assert_eq(m->body_case, LEASED, "%s", ask_text(m));
		wait = ask_send(&b, "lease { port { id: %llu } wait: true }", ID(hang));
		ask(&b, "ping { }");
		ask_send(&a, ends[i], ID(hang));
		m = ask_answer(&b, wait);
		cr_expect(ask_is_error(m, PRECONDITION) && m->error->sys_errno == EPIPE, "%s",
			  ask_text(m));
		m = ask(&b, "inspect { port { id: %llu } }", ID(hang));
		cr_expect_eq(m->port_info->lease->n_waiting, 0);
		ask_end(&c, hang);
	}
}

/* What was queued before a hand-over is written whole, and before what comes after. */
Test(lease, P9_what_was_queued_is_written_whole_before_the_next_holders)
{
	static char block[KIB(4) + 1];
	uint64_t ids[8], late, n = 0;
	Redd__V1__Message *m;

	ask_stop(&a, port);
	lease(&a, "");
	memset(block, 'a', KIB(4));
	do {
		ids[n++ % 8] =
			ask_send(&a, "write { port { id: %llu } data: \"%s\" }", ID(port), block);
		m = ask(&a, "inspect { port { id: %llu } }", ID(port));
	} while (m->port_info->streams[0]->queued < KIB(16));
	late = m->port_info->streams[0]->total + m->port_info->streams[0]->queued;
	peer_close(&a); /* its holder is gone: the queue is not */
	m = ask(&b, "lease { port { id: %llu } wait: true }", ID(port));
	cr_assert_eq(m->body_case, LEASED, "%s", ask_text(m));
	ids[0] = ask_send(&b, "write { port { id: %llu } data: \"end\" close: true }", ID(port));
	m = ask(&b, "subscribe { port { id: %llu } streams: 1 start { from: NOW } }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	ask(&c, "signal { port { id: %llu } signal: %d }", ID(port), SIGCONT);
	m = ask_answer(&b, ids[0]);
	cr_assert_eq(m->body_case, WRITTEN, "%s", ask_text(m));
	cr_expect_eq(m->written->offset, late);
	m = ask(&c, "wait { port { id: %llu } until: CLOSED }", ID(port));
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WAITED);
	for (size_t i = 0; i < m->waited->n_streams; i++)
		if (m->waited->streams[i]->stream <= 1)
			cr_expect_eq(m->waited->streams[i]->total, late + 3);
	come(&a);
}

/* --- without one ----------------------------------------------------------------------------- */

Test(lease, P9_a_flooding_writer_does_not_shut_the_others_out)
{
	static char block[KIB(4) + 1];
	Redd__V1__Message *m;
	uint64_t small;

	ask_stop(&a, port);
	memset(block, 'a', KIB(4));
	do {
		uint64_t id =
			ask_send(&a, "write { port { id: %llu } data: \"%s\" }", ID(port), block);

		ask_send(&a, "ping { }");
		m = ask_event(&a, REDD__V1__MESSAGE__BODY_PONG);
		(void)id;
		m = ask(&b, "inspect { port { id: %llu } }", ID(port));
	} while (m->port_info->streams[0]->queued + KIB(4) <= 65536);
	m = ask(&a, "write { port { id: %llu } data: \"%s\" }", ID(port), block);
	cr_assert(ask_is_error(m, REDD__V1__CODE__RESOURCE_EXHAUSTED), "%s", ask_text(m));
	small = ask_send(&b, "write { port { id: %llu } data: \"small\" }", ID(port));
	m = ask(&b, "write { port { id: %llu } data: \"more\" }", ID(port));
	cr_expect(ask_is_error(m, REDD__V1__CODE__RESOURCE_EXHAUSTED), "%s", ask_text(m));
	ask(&b, "signal { port { id: %llu } signal: %d }", ID(port), SIGCONT);
	m = ask_answer(&b, small);
	cr_expect_eq(m->body_case, WRITTEN, "%s", ask_text(m));
}

/* A session that has something to come back to keeps its lease for a while. */
Test(lease, a_session_that_comes_back_has_it_still)
{
	struct redd_connect_options o = { .socket = service.socket };
	struct redd *r = redd_new();
	struct redd_port *mine, *cat;
	const char *const argv[] = { place_prog("hang"), NULL };
	struct redd_spawn_options spawn = { .argv = argv, .orphan = REDD_ORPHAN_KEEP };
	uint8_t session[16];
	uint64_t id, hang;

	cr_assert_eq(redd_connect(r, &o), 0);
	cr_assert_eq(redd_spawn(r, &spawn, &mine), 0);
	hang = redd_port_id(mine);
	cr_assert_eq(redd_port_by_id(r, port, &cat), 0);
	cr_assert_eq(redd_lease(cat, NULL, &id), 0, "%s", redd_last_error(r)->message);
	memcpy(session, redd_welcome(r)->session, sizeof(session));
	redd_port_free(mine);
	redd_port_free(cat);
	redd_disconnect(r);
	cr_expect_not(writes(&b));
	o.session = session;
	cr_assert_eq(redd_connect(r, &o), 0, "%s", redd_last_error(r)->message);
	cr_assert_eq(redd_port_by_id(r, port, &cat), 0);
	cr_expect_eq(redd_write(cat, "x", 1, NULL, NULL), 0, "%s", redd_last_error(r)->message);
	cr_expect_eq(redd_release(cat, 0), 0);
	cr_expect(writes(&b));
	cr_expect_lt(redd_release(cat, 0), 0, "it has none");
	redd_free(r);
	ask_end(&c, hang);
}
