/* A service with little memory to give (memory-max), and clients that try everything to make it
 * take more: logs, input that nobody reads, halves of frames, large spawns, connections. All of it
 * is refused in the end, with a reason; the broker stays below its bound and a constant; who was
 * there before and asks for nothing goes on; and when they have gone, all is as before. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define EXHAUSTED   REDD__V1__CODE__RESOURCE_EXHAUSTED
#define BOUND	    (32l << 20)
#define BOUND_TEXT  "33554432"
#define CONSTANT    (24l << 20) /* what redd-broker(8) says comes on top */
#define LOGS	    5		/* of 4 MiB */
#define INPUTS	    4		/* of up to 4 MB */
#define HALVES	    32		/* frames of a mebibyte, not whole */
#define CONNECTIONS 600

static struct service service;
static struct peer peer, halves[HALVES], others[CONNECTIONS];

static void set_up(void)
{
	static const char *const args[] = { "--memory-max", BOUND_TEXT, NULL };
	const struct service_options o = { .args = args, .quiet = true };

	cr_assert_eq(service_start(&service, &o), 0);
	ask_greet(&peer, service.socket);
}

static void tear_down(void)
{
	peer_close(&peer);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(memory, .init = set_up, .fini = tear_down, .timeout = 120);

static void expect_bound(const char *what)
{
	struct census census;
	long pss;

	cr_assert_eq(ask(&peer, "ping { }")->body_case, REDD__V1__MESSAGE__BODY_PONG);
	if (place_patience_ms(1) > 1)
		return; /* a tool's own memory */
	cr_assert_eq(census_take(service.pid, &census), 0);
	pss = census_pss(census.broker);
	cr_expect_leq(pss, BOUND + CONSTANT, "with %s the broker has %ld bytes", what, pss);
}

/* Writes 4 MiB and stays. Returns when all of it has come, or its log was refused. */
static uint64_t log_make(void)
{
	Redd__V1__Message *m =
		ask(&peer, "spawn { shell: \"%s 4194304; exec %s\" log_size: 4194304 }",
		    place_prog("zeros"), place_prog("hang"));
	uint64_t port;
	bool is_over = false;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	for (port = m->started->port; !is_over;) {
		m = ask(&peer, "inspect { port { id: %llu } }", (unsigned long long)port);
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO);
		for (size_t i = 0; i < m->port_info->n_streams; i++)
			is_over |= m->port_info->streams[i]->total >= 4194304 ||
				   m->port_info->streams[i]->ended;
	}
	return port;
}

/* Fills its input until that is refused, at most 4 MB. True: for want of memory. */
static bool input_fill(uint64_t port)
{
	for (int i = 0; i < 7; i++) {
		Redd__V1__Message *m;
		uint64_t id = ask_send(&peer, "write { port { id: %llu } data: \"x\"*500000 }",
				       (unsigned long long)port);

		ask_send(&peer, "ping { }"); /* a Write that is taken is not answered */
		cr_assert_eq(peer_recv(&peer, 20000, &m), 0);
		if (m->reply_to != id)
			continue;
		cr_expect(ask_is_error(m, EXHAUSTED), "%s", ask_text(m));
		cr_expect_not_null(strstr(m->error->message, "memory"), "%s", ask_text(m));
		cr_expect(m->error->has_retry_after_ms, "time helps");
		cr_assert_eq(peer_recv(&peer, 20000, &m), 0);
		return true;
	}
	return false;
}

/* Sends most of a frame. False: was told that there is no room for it. */
static bool half_send(struct peer *p)
{
	static const uint8_t half[900000] = { 0x08, 0x01 };
	Redd__V1__Message *m;

	ask_greet(p, service.socket);
	if (peer_send_prefix(p, FRAME_MAX_DEFAULT) || peer_send(p, half, sizeof(half)))
		return false; /* it was closed while we wrote */
	m = NULL;
	ask(&peer, "ping { }");
	return peer_recv(p, 1, &m) == PEER_E_TIMEOUT;
}

static unsigned halves_send(void)
{
	unsigned n = 0;

	while (n < HALVES && half_send(&halves[n]))
		n++;
	cr_expect_lt(n, HALVES, "%u halves of a mebibyte were taken", n);
	return n + 1;
}

/* How many more clients are welcome. */
static unsigned connect_all(void)
{
	unsigned n = 0;

	while (n < CONNECTIONS) {
		Redd__V1__Message *m = NULL;

		cr_assert_eq(peer_open(&others[n], service.socket), 0);
		ask_send_as(&others[n], 1, "hello { version: 1 }");
		cr_assert_eq(peer_recv(&others[n++], 20000, &m), 0);
		if (m->body_case == REDD__V1__MESSAGE__BODY_WELCOME)
			continue;
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_BYE);
		cr_expect_eq(m->bye->error->code, EXHAUSTED);
		cr_expect_not_null(strstr(m->bye->error->message, "memory"));
		return n;
	}
	cr_expect(false, "%u clients were welcome", n);
	return n;
}

Test(memory, P15_nothing_makes_the_broker_larger_than_its_bound)
{
	uint64_t logs[LOGS], inputs[INPUTS];
	unsigned n_halves, n_others;
	Redd__V1__Message *m;
	bool is_full = false;

	for (int i = 0; i < INPUTS; i++)
		inputs[i] = ask_spawn(&peer, "hang",
				      "descriptors { fd: 0 kind: KIND_PIPE } input_bound: 4000000");
	for (int i = 0; i < LOGS; i++)
		logs[i] = log_make();
	expect_bound("logs");
	for (int i = 0; i < INPUTS && !is_full; i++)
		is_full = input_fill(inputs[i]);
	cr_expect(is_full, "all input was taken");
	expect_bound("input");
	m = ask(&peer, "spawn { program: \"/no/such\" args*100000: \"word\" }");
	cr_expect(ask_is_error(m, EXHAUSTED), "%s", ask_text(m));
	n_halves = halves_send();
	expect_bound("halves of frames");
	n_others = connect_all();
	expect_bound("connections");

	while (n_others)
		peer_close(&others[--n_others]);
	while (n_halves)
		peer_close(&halves[--n_halves]);
	for (int i = 0; i < INPUTS; i++)
		ask_end(&peer, inputs[i]);
	for (int i = 0; i < LOGS; i++)
		ask_end(&peer, logs[i]);
	ask_end(&peer, ask_spawn(&peer, "hang", ""));
}
