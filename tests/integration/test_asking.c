/* Stats, Wait, Ping and Cancel: what is asked for and answered, at once or when it is time (P4, P9,
 * P15). */
#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "tests/lib/ask.h"
#include "tests/lib/measure.h"
#include "tests/lib/service.h"

#define WAITED	  REDD__V1__MESSAGE__BODY_WAITED
#define DONE	  REDD__V1__MESSAGE__BODY_DONE
#define CANCELLED REDD__V1__CODE__CANCELLED
#define NOT_FOUND REDD__V1__CODE__NOT_FOUND

static struct service service;
static struct peer peer;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	ask_greet(&peer, service.socket);
}

static void tear_down(void)
{
	peer_close(&peer);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(asking, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- Stats ----------------------------------------------------------------------------------- */

static uint64_t metric(const char *name)
{
	Redd__V1__Message *m = ask(&peer, "stats { }");

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STATISTICS, "%s", ask_text(m));
	for (size_t i = 0; i < m->statistics->n_metrics; i++)
		if (!strcmp(m->statistics->metrics[i]->name, name))
			return m->statistics->metrics[i]->value;
	cr_assert_fail("there is no %s", name);
	return 0;
}

static bool name_is_valid(const char *name)
{
	for (const char *c = name; *c; c++)
		if (!islower((unsigned char)*c) && *c != '_' && !isdigit((unsigned char)*c))
			return false;
	return !strncmp(name, "redd_", 5) && !strstr(name, "__");
}

Test(asking, P15_stats_are_named_as_openmetrics_wants_them)
{
	Redd__V1__Message *m = ask(&peer, "stats { }");

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STATISTICS, "%s", ask_text(m));
	cr_assert_gt(m->statistics->n_metrics, 15);
	for (size_t i = 0; i < m->statistics->n_metrics; i++) {
		const Redd__V1__Metric *metric = m->statistics->metrics[i];
		const char *total = strstr(metric->name, "_total");
		bool is_counter = metric->type == REDD__V1__METRIC__TYPE__COUNTER;

		cr_expect(name_is_valid(metric->name), "%s", metric->name);
		cr_expect_eq(is_counter, total && !total[6], "%s", metric->name);
		cr_expect(metric->help && strlen(metric->help) > 5, "%s", metric->name);
		for (size_t j = 0; j < i; j++)
			cr_expect_str_neq(metric->name, m->statistics->metrics[j]->name);
	}
}

Test(asking, P15_counters_move_with_what_they_count)
{
	static const struct {
		const char *name;
		uint64_t by;
	} moves[] = { { "redd_spawned_total", 1 },     { "redd_exited_total", 1 },
		      { "redd_input_bytes_total", 7 }, { "redd_output_bytes_total", 7 },
		      { "redd_events_total", 3 },      { "redd_ports", 1 } };
	enum { N = sizeof(moves) / sizeof(moves[0]) };
	uint64_t before[N], failed = metric("redd_spawns_failed_total"), port;
	Redd__V1__Message *m;

	for (int i = 0; i < N; i++)
		before[i] = metric(moves[i].name);
	port = ask_spawn(&peer, "cat", "descriptors { fd: 0 kind: KIND_PIPE }");
	ask(&peer, "write { port { id: %llu } data: \"1234567\" close: true }",
	    (unsigned long long)port);
	ask(&peer, "wait { port { id: %llu } until: CLOSED }", (unsigned long long)port);
	for (int i = 0; i < N; i++)
		cr_expect_eq(metric(moves[i].name), before[i] + moves[i].by, "%s", moves[i].name);
	m = ask(&peer, "spawn { program: \"/no/such\" }");
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	cr_expect_eq(metric("redd_spawns_failed_total"), failed + 1);
	ask_end(&peer, port);
}

/* --- Wait, Ping, Cancel ---------------------------------------------------------------------- */

Test(asking, P4_wait_answers_at_the_exit_the_end_or_its_time)
{
	uint64_t port = ask_spawn(&peer, "cat", "descriptors { fd: 0 kind: KIND_PIPE }");
	double begin = measure_now();
	uint64_t exited, closed;
	Redd__V1__Message *m;

	m = ask(&peer, "wait { port { id: %llu } timeout_ms: 200 }", (unsigned long long)port);
	cr_expect(ask_is_error(m, REDD__V1__CODE__DEADLINE_EXCEEDED), "%s", ask_text(m));
	cr_expect_geq((measure_now() - begin) * 1000, 199);
	exited = ask_send(&peer, "wait { port { id: %llu } }", (unsigned long long)port);
	closed = ask_send(&peer, "wait { port { id: %llu } until: CLOSED timeout_ms: 60000 }",
			  (unsigned long long)port);
	ask_send(&peer, "write { port { id: %llu } data: \"abc\" close: true }",
		 (unsigned long long)port);
	m = ask_answer(&peer, exited);
	cr_assert_eq(m->body_case, WAITED, "%s", ask_text(m));
	cr_expect_eq(m->waited->exit->state, REDD__V1__EXIT__STATE__CODE);
	m = ask_answer(&peer, closed);
	cr_assert_eq(m->body_case, WAITED, "%s", ask_text(m));
	for (size_t i = 0; i < m->waited->n_streams; i++)
		cr_expect_eq(m->waited->streams[i]->total,
			     m->waited->streams[i]->stream == 2 ? 0 : 3);
	m = ask(&peer, "wait { port { id: %llu } timeout_ms: 0 }", (unsigned long long)port);
	cr_expect_eq(m->body_case, WAITED, "%s", ask_text(m));
	ask_end(&peer, port);
}

Test(asking, P15_a_wait_for_a_port_that_is_forgotten_ends)
{
	uint64_t port = ask_spawn(&peer, "hang", "retention_ms: 0"), wait;
	Redd__V1__Message *m;

	wait = ask_send(&peer, "wait { port { id: %llu } until: CLOSED }",
			(unsigned long long)port);
	ask_send(&peer, "signal { port { id: %llu } signal: 9 }", (unsigned long long)port);
	m = ask_answer(&peer, wait);
	cr_expect_eq(m->body_case, WAITED, "%s", ask_text(m));
}

Test(asking, P15_ping_comes_back_with_its_data)
{
	Redd__V1__Message *m = ask(&peer, "ping { data: \"\\x00\\xffabc\" }");

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PONG, "%s", ask_text(m));
	cr_expect(m->pong->data.len == 5 && !memcmp(m->pong->data.data,
						    "\x00\xff"
						    "abc",
						    5));
	m = ask(&peer, "ping { data: \"x\"*64 }");
	cr_expect_eq(m->pong->data.len, 64);
	cr_expect_not(ask(&peer, "ping { }")->pong->has_data);
}

Test(asking, P15_a_wait_that_is_cancelled_says_so)
{
	uint64_t port = ask_spawn(&peer, "hang", ""), wait, cancel;
	Redd__V1__Message *m;

	wait = ask_send(&peer, "wait { port { id: %llu } timeout_ms: 60000 }",
			(unsigned long long)port);
	cancel = ask_send(&peer, "cancel { request: %llu }", (unsigned long long)wait);
	m = ask_answer(&peer, wait);
	cr_expect(ask_is_error(m, CANCELLED), "%s", ask_text(m));
	cr_expect_eq(ask_answer(&peer, cancel)->body_case, DONE);
	m = ask(&peer, "cancel { request: %llu }", (unsigned long long)wait);
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	ask_end(&peer, port);
}

/* A pipe is filled by the first write; the second one waits whole, and can be taken back. */
Test(asking, P9_a_write_that_waits_can_be_cancelled_and_one_that_has_begun_cannot)
{
	uint64_t port = ask_spawn(&peer, "hang", "descriptors { fd: 0 kind: KIND_PIPE }");
	uint64_t first, second, cancel;
	Redd__V1__Message *m;

	first = ask_send(&peer, "write { port { id: %llu } data: \"x\"*100000 }",
			 (unsigned long long)port);
	second = ask_send(&peer, "write { port { id: %llu } data: \"y\"*100 }",
			  (unsigned long long)port);
	cancel = ask_send(&peer, "cancel { request: %llu }", (unsigned long long)second);
	m = ask_answer(&peer, second);
	cr_expect(ask_is_error(m, CANCELLED), "%s", ask_text(m));
	cr_expect_eq(ask_answer(&peer, cancel)->body_case, DONE);
	m = ask(&peer, "cancel { request: %llu }", (unsigned long long)first);
	cr_expect(ask_is_error(m, REDD__V1__CODE__FAILED_PRECONDITION), "%s", ask_text(m));
	ask_send(&peer, "signal { port { id: %llu } signal: 9 }", (unsigned long long)port);
	m = ask_answer(&peer, first);
	cr_expect(ask_is_error(m, REDD__V1__CODE__FAILED_PRECONDITION), "%s", ask_text(m));
	cr_expect_eq(m->error->sys_errno, EPIPE);
	ask_end(&peer, port);
}
