/* Clients that ask for much that comes later, and do not read it when it does (P7, P15): thousands
 * of Expects that match at once, each with 32 KiB of what matched. What the broker keeps of their
 * answers is charged as it comes: it stays below its memory-max, who has no quota left is told so
 * and goes, and who reads gets all of his. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define BOUND	      (32l << 20)
#define BOUND_TEXT    "33554432"
#define CONSTANT      (24l << 20) /* what redd-broker(8) says comes on top */
#define CLIENTS	      14
#define EXPECTS	      150 /* of each, answered with 65 MiB in all ... */
#define EXPECTS_LEAST 95  /* ... and 41 MiB: more than the bound all the same */
#define PORTS	      3	  /* as a stream takes STREAM_EXPECTS */
#define OF_SOCKETS    (256l << 10)
#define EXHAUSTED     REDD__V1__CODE__RESOURCE_EXHAUSTED
#define MATCHED	      REDD__V1__MESSAGE__BODY_MATCHED
#define WAIT	      20000

static struct service service;
static struct peer owner, clients[CLIENTS];
static uint64_t ports[PORTS];

static void set_up(void)
{
	static const char *const args[] = { "--memory-max", BOUND_TEXT, NULL };
	const struct service_options o = { .args = args, .quiet = true };

	cr_assert_eq(service_start(&service, &o), 0);
	ask_greet(&owner, service.socket);
	for (int i = 0; i < PORTS; i++)
		ports[i] = ask_spawn(&owner, "cat", "descriptors { fd: 0 kind: KIND_PIPE }");
}

static void tear_down(void)
{
	for (int i = 0; i < PORTS; i++)
		ask_end(&owner, ports[i]);
	peer_close(&owner);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(hostile_answers, .init = set_up, .fini = tear_down, .timeout = 120);

/* Under valgrind a regular expression takes its time. */
static int n_expects(void)
{
	return place_valgrind() ? EXPECTS_LEAST : EXPECTS;
}

/* All are there when this returns. */
static void expect_much(struct peer *p, uint64_t port, int n)
{
	ask_greet(p, service.socket);
	for (int i = 0; i < n; i++)
		ask_send(p, "expect { port { id: %llu } patterns { regex: \"a+b\" } }",
			 (unsigned long long)port);
	cr_assert_eq(ask(p, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
}

static void match(uint64_t port)
{
	Redd__V1__Message *m;

	ask_send(&owner, "write { port { id: %llu } data: \"a\"*33000 }", (unsigned long long)port);
	m = ask(&owner, "write { port { id: %llu } data: \"b\" }", (unsigned long long)port);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WRITTEN, "%s", ask_text(m));
}

static uint64_t metric(const char *name)
{
	Redd__V1__Message *m = ask(&owner, "stats { }");

	for (size_t i = 0; i < m->statistics->n_metrics; i++)
		if (!strcmp(m->statistics->metrics[i]->name, name))
			return m->statistics->metrics[i]->value;
	cr_assert_fail("no metric %s", name);
	return 0;
}

/* Reads what was kept, until the client has all of it or has heard that it must go. */
static long drain(struct peer *p, int n, bool *ret_refused)
{
	Redd__V1__Message *m;
	long bytes = 0;

	*ret_refused = false;
	while (n && peer_recv(p, WAIT, &m) == 0) {
		if (m->body_case == REDD__V1__MESSAGE__BODY_BYE) {
			cr_expect_eq(m->bye->error->code, EXHAUSTED, "%s", ask_text(m));
			*ret_refused = true;
			return bytes;
		}
		cr_assert_eq(m->body_case, MATCHED, "%s", ask_text(m));
		bytes += (long)m->matched->data.len;
		n--;
	}
	*ret_refused = n; /* it came too late for its Bye */
	return bytes;
}

static void expect_bound(void)
{
	struct census census;

	if (place_patience_ms(1) > 1)
		return; /* a tool's own memory */
	cr_assert_eq(census_take(service.pid, &census), 0);
	cr_expect_leq(census_pss(census.broker), BOUND + CONSTANT, "%ld bytes",
		      census_pss(census.broker));
}

Test(hostile_answers, P15_those_to_requests_that_waited_are_charged)
{
	int refused = 0;
	long kept = 0;
	bool is_refused;

	for (int i = 0; i < CLIENTS; i++)
		expect_much(&clients[i], ports[i % PORTS], n_expects());
	for (int i = 0; i < PORTS; i++)
		match(ports[i]);
	while (metric("redd_expects_waiting"))
		;
	expect_bound();
	for (int i = 0; i < CLIENTS; i++) {
		kept += drain(&clients[i], n_expects(), &is_refused);
		refused += is_refused;
		peer_close(&clients[i]);
	}
	cr_expect_leq(kept, BOUND + CLIENTS * OF_SOCKETS);
	cr_expect_gt(refused, 0);
}

Test(hostile_answers, P15_who_reads_gets_all_of_them)
{
	bool is_refused;

	expect_much(&clients[0], ports[0], n_expects());
	match(ports[0]);
	cr_expect_eq(drain(&clients[0], n_expects(), &is_refused),
		     (long)n_expects() * EXPECT_DATA_MAX);
	cr_expect_not(is_refused);
	peer_close(&clients[0]);
}
