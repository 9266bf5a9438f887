/* List, Watch and Inspect: what can be seen of ports, and that nothing is missed between a list and
 * a watch (P7, P15). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define PORTS	  REDD__V1__MESSAGE__BODY_PORTS
#define WATCHING  REDD__V1__MESSAGE__BODY_WATCHING
#define LIFE	  REDD__V1__MESSAGE__BODY_LIFE
#define WAITED	  REDD__V1__MESSAGE__BODY_WAITED
#define DONE	  REDD__V1__MESSAGE__BODY_DONE
#define RANGE	  REDD__V1__CODE__OUT_OF_RANGE
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

TestSuite(watch, .init = set_up, .fini = tear_down, .timeout = 90);

static uint64_t ended_make(const char *more)
{
	uint64_t port = ask_spawn(&peer, "exit", more);
	Redd__V1__Message *m =
		ask(&peer, "wait { port { id: %llu } until: CLOSED }", (unsigned long long)port);

	cr_assert_eq(m->body_case, WAITED, "%s", ask_text(m));
	return port;
}

/* --- List ------------------------------------------------------------------------------------ */

/* How many ports that list has, all pages together; each page holds at most `limit` of them, by
 * rising ids. */
static unsigned list_count(const char *more, unsigned limit)
{
	uint64_t after = 0;
	unsigned n = 0;
	bool goes_on = true;

	while (goes_on) {
		Redd__V1__Message *m = ask(&peer, "list { after: %llu limit: %u %s }",
					   (unsigned long long)after, limit, more);

		cr_assert_eq(m->body_case, PORTS, "%s", ask_text(m));
		cr_assert_leq(m->ports->n_ports, limit);
		for (size_t i = 0; i < m->ports->n_ports; i++, n++) {
			cr_assert_gt(m->ports->ports[i]->port, after, "not by rising ids");
			after = m->ports->ports[i]->port;
		}
		goes_on = m->ports->more;
		cr_assert(!goes_on || m->ports->n_ports > 0, "an empty page that goes on");
	}
	return n;
}

Test(watch, P15_lists_come_in_pages_of_any_size)
{
	enum { N = 23 };
	uint64_t ports[N];

	for (int i = 0; i < N; i++)
		ports[i] = ended_make("");
	for (unsigned limit = 1; limit <= N + 1; limit += 3)
		cr_expect_eq(list_count("", limit), N, "pages of %u", limit);
	cr_expect_eq(list_count("details: true", 1000), N);
	ask_end(&peer, ports[11]);
	cr_expect_eq(list_count("", 4), N - 1);
	for (int i = 0; i < N; i++)
		if (i != 11)
			ask_end(&peer, ports[i]);
}

Test(watch, P15_lists_are_selected_by_labels_and_states)
{
	uint64_t ports[] = {
		ask_spawn(&peer, "hang", "labels { key: \"job\" value: \"a\" }"),
		ask_spawn(&peer, "hang",
			  "labels { key: \"job\" value: \"b\" } labels { key: \"x\" }"),
		ended_make("labels { key: \"job\" value: \"a\" }"),
		ended_make(""),
	};
	static const struct {
		const char *selector;
		unsigned n;
	} cases[] = {
		{ "", 4 },
		{ "labels { key: \"job\" }", 3 },
		{ "labels { key: \"job\" value: \"a\" }", 2 },
		{ "labels { key: \"job\" value: \"\" }", 0 },
		{ "labels { key: \"x\" value: \"\" }", 1 },
		{ "labels { key: \"job\" value: \"b\" } labels { key: \"x\" }", 1 },
		{ "labels { key: \"job\" value: \"a\" } labels { key: \"x\" }", 0 },
		{ "labels { key: \"no\" }", 0 },
		{ "states: RUNNING", 2 },
		{ "states: ENDED", 2 },
		{ "states: STARTING states: DRAINING", 0 },
		{ "states: RUNNING states: ENDED states: ENDED", 4 },
		{ "states: ENDED labels { key: \"job\" }", 1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_eq(list_count(cases[i].selector, 10), cases[i].n, "%s",
			     cases[i].selector);
	for (int i = 0; i < 4; i++)
		ask_end(&peer, ports[i]);
}

/* --- Watch ----------------------------------------------------------------------------------- */

static const Redd__V1__Life *life_next(struct peer *p)
{
	Redd__V1__Message *m = ask_event(p, LIFE);

	cr_assert_not_null(m);
	return m->life;
}

Test(watch, P15_the_life_of_a_port_comes_in_order)
{
	static const Redd__V1__Life__What order[] = { REDD__V1__LIFE__WHAT__STARTED,
						      REDD__V1__LIFE__WHAT__EXITED,
						      REDD__V1__LIFE__WHAT__CLOSED,
						      REDD__V1__LIFE__WHAT__FORGOTTEN };
	struct peer watcher;
	uint64_t port, last;
	Redd__V1__Message *m;

	ask_greet(&watcher, service.socket);
	m = ask(&watcher, "watch { }");
	cr_assert_eq(m->body_case, WATCHING, "%s", ask_text(m));
	last = m->watching->sequence;
	port = ask_spawn(&peer, "exit", "args: \"5\" name: \"watched\"");
	ask_end(&peer, port);
	for (int i = 0; i < 4; i++) {
		const Redd__V1__Life *life = life_next(&watcher);

		cr_expect_eq(life->what, order[i]);
		cr_expect_eq(life->port, port);
		cr_expect_eq(life->sequence, ++last);
		cr_expect_gt(life->time_ns, 0);
		cr_expect(life->name.len == 7 && !memcmp(life->name.data, "watched", 7));
		cr_expect((life->exit != NULL) == (i == 1 || i == 2));
		cr_expect(!life->exit || life->exit->code == 5);
	}
	peer_close(&watcher);
}

/* Ports come and go while one is listed and then watched: each is in the list, or told. */
Test(watch, P15_nothing_is_missed_between_list_and_watch)
{
	enum { BEFORE = 8, BETWEEN = 8, BEHIND = 8, N = BEFORE + BETWEEN + BEHIND };
	uint64_t ports[N];
	bool seen[N] = { false };
	unsigned n = 0;
	Redd__V1__Message *m;
	uint64_t sequence;
	struct peer p;

	ask_greet(&p, service.socket);
	for (int i = 0; i < BEFORE; i++)
		ports[n++] = ended_make("");
	m = ask(&p, "list { }");
	sequence = m->ports->sequence;
	for (size_t i = 0; i < m->ports->n_ports; i++)
		for (int j = 0; j < BEFORE; j++)
			seen[j] |= ports[j] == m->ports->ports[i]->port;
	for (int i = 0; i < BETWEEN; i++)
		ports[n++] = ended_make("");
	m = ask(&p, "watch { after: %llu }", (unsigned long long)sequence);
	cr_assert_eq(m->body_case, WATCHING, "%s", ask_text(m));
	for (int i = 0; i < BEHIND; i++)
		ports[n++] = ended_make("");
	for (unsigned told = 0; told < (BETWEEN + BEHIND) * 3; told++) {
		const Redd__V1__Life *life = life_next(&p);

		cr_expect_eq(life->sequence, ++sequence, "one is missing");
		for (unsigned j = 0; j < n; j++)
			seen[j] |= ports[j] == life->port;
	}
	for (unsigned j = 0; j < n; j++) {
		cr_expect(seen[j], "port %u was missed", j);
		ask_end(&peer, ports[j]);
	}
	peer_close(&p);
}

Test(watch, P15_S75_a_watch_is_selected_by_labels_and_ends)
{
	Redd__V1__Message *m = ask(&peer, "watch { labels { key: \"job\" value: \"a\" } }");
	uint64_t watch, ports[2];

	cr_assert_eq(m->body_case, WATCHING, "%s", ask_text(m));
	watch = m->watching->watch;
	ports[0] = ask_spawn(&peer, "hang", "labels { key: \"job\" value: \"b\" }");
	ask_send(&peer, "spawn { program: \"%s\" labels { key: \"job\" value: \"a\" } }",
		 place_prog("hang"));
	ports[1] = life_next(&peer)->port;
	cr_expect_neq(ports[1], ports[0]);
	m = ask(&peer, "unwatch { watch: %llu }", (unsigned long long)watch);
	cr_expect_eq(m->body_case, DONE, "%s", ask_text(m));
	m = ask(&peer, "unwatch { watch: %llu }", (unsigned long long)watch);
	cr_expect(ask_is_error(m, NOT_FOUND), "%s", ask_text(m));
	ask_end(&peer, ports[0]);
	ask_end(&peer, ports[1]);
	cr_assert_eq(ask_send_as(&peer, 9000, "ping { }"), 0);
	cr_assert_eq(peer_recv(&peer, 10000, &m), 0);
	cr_expect_eq(m->reply_to, 9000, "an event of a watch that has ended: %s", ask_text(m));
}

Test(watch, P15_more_watches_than_a_connection_may_have_are_refused)
{
	Redd__V1__Message *m;

	for (unsigned i = 0; i < CONN_WATCHES; i++)
		cr_assert_eq(ask(&peer, "watch { }")->body_case, WATCHING);
	m = ask(&peer, "watch { }");
	cr_expect(ask_is_error(m, REDD__V1__CODE__RESOURCE_EXHAUSTED), "%s", ask_text(m));
	cr_expect_eq(ask(&peer, "unwatch { watch: 7 }")->body_case, DONE);
	cr_expect_eq(ask(&peer, "watch { }")->body_case, WATCHING);
}

/* More events than are kept, while nobody reads: what is gone is told, and the rest follows. */
Test(watch, P7_a_watch_that_is_too_slow_is_told_what_it_missed)
{
	unsigned n = EVENTS_KEPT / 4 + 2500; /* four events each; some wait in the socket */
	uint64_t first, last, missed = 0;
	Redd__V1__Message *m;
	struct peer slow;

	if (place_patience_ms(1) > 1)
		cr_skip_test("so many spawns take too long in a slow run");
	ask_greet(&slow, service.socket);
	m = ask(&slow, "watch { }");
	first = m->watching->sequence;
	for (unsigned i = 0; i < n; i += 50) {
		for (unsigned j = 0; j < 50; j++)
			ask_send(&peer, "spawn { program: \"%s\" retention_ms: 0 }",
				 place_prog("tiny"));
		for (unsigned j = 0; j < 50; j++) /* in the order in which they run */
			cr_assert_eq(peer_recv(&peer, 20000, &m), 0);
	}
	m = ask(&peer, "watch { after: %llu }", (unsigned long long)first);
	cr_expect(ask_is_error(m, RANGE), "%s", ask_text(m));
	last = ask(&peer, "list { }")->ports->sequence;
	while (first < last) {
		const Redd__V1__Life *life = life_next(&slow);

		if (life->what == REDD__V1__LIFE__WHAT__MISSED)
			missed += life->sequence - first;
		else
			cr_assert_eq(life->sequence, first + 1, "events are missing unsaid");
		first = life->sequence;
	}
	cr_expect_gt(missed, 0, "nothing was missed: the test is too small");
	peer_close(&slow);
}

/* --- Inspect --------------------------------------------------------------------------------- */

Test(watch, P7_inspect_tells_who_holds_the_child_back)
{
	struct peer reader;
	uint64_t port = ask_spawn(&peer, "zeros",
				  "args: \"100000000\" name: \"big\" directory: \"/\" "
				  "labels { key: \"k\" value: \"v\" } log_size: 65536");
	const Redd__V1__PortInfo *info;
	const Redd__V1__SubscriptionInfo *s;
	Redd__V1__Message *m;

	cr_assert_eq(peer_open(&reader, service.socket), 0);
	cr_assert_eq(ask(&reader, "hello { version: 1 client: \"a reader\" }")->body_case,
		     REDD__V1__MESSAGE__BODY_WELCOME);
	m = ask(&reader, "subscribe { port { name: \"big\" } streams: 1 credit: 5000 start { from: "
			 "NOW } overflow: OVERFLOW_BLOCK }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	do {
		m = ask(&peer, "inspect { port { name: \"big\" } }");
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
		info = m->port_info;
		cr_assert_eq(info->n_subscriptions, 1);
		s = info->subscriptions[0];
	} while (!s->blocking);
	cr_expect_str_eq(s->client, "a reader");
	cr_expect_eq(s->overflow, REDD__V1__OVERFLOW__OVERFLOW_BLOCK);
	cr_expect_eq(s->n_offsets, 1);
	cr_expect_eq(s->offsets[0]->stream, 1);
	cr_expect_lt(s->credit, 65);
	cr_expect_geq(s->lag, 60000);
	cr_expect_leq(s->lag, 65536);
	cr_expect_eq(s->skipped, 0);
	cr_expect_eq(info->state, REDD__V1__PORT_STATE__RUNNING);
	cr_expect_eq(info->n_labels, 1);
	cr_expect_eq(info->n_args, 1);
	cr_expect(info->directory.len == 1 && info->directory.data[0] == '/');
	for (size_t i = 0; i < info->n_streams; i++)
		cr_expect_eq(info->streams[i]->held, info->streams[i]->stream == 1);
	peer_close(&reader);
	ask_end(&peer, port);
}
