/* A bad neighbourhood (P7, P15): a thousand subscribers of one port, by the socket and by shared
 * memory, some stopped and some killed; a thousand clients that never read, floods, and queues of
 * spawns beside a polite client; and everything that could make the broker grow past its
 * memory-max.
 *
 * Times are compared with those of the same polite client alone, in the same run, less what a
 * process without redd suffers from the same neighbour; the best of several rounds counts, as other
 * load comes and goes. That the loop's turns are short is told by
 * the broker itself, in processor time, so a busy machine does not matter there. */
#include <criterion/criterion.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/measure.h"
#include "tests/lib/nuisance.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define WAIT 60000

TestSuite(nuisances, .init = scene_begin, .fini = scene_end, .timeout = 120);

/* Timing is judged in plain runs only: elsewhere a tool's own costs are what is seen. */
static bool is_plain(void)
{
	return place_patience_ms(1) == 1;
}

static uint64_t stat_of(const char *name)
{
	struct redd_metrics *m;
	uint64_t value = UINT64_MAX;

	cr_assert_eq(redd_stats(scene.r, &m), 0);
	for (size_t i = 0; i < m->n_metrics; i++)
		if (!strcmp(m->metrics[i].name, name))
			value = m->metrics[i].value;
	redd_metrics_free(m);
	cr_assert_neq(value, UINT64_MAX, "no metric %s", name);
	return value;
}

/* --- a thousand subscribers ------------------------------------------------------------------ */

#define CLIENTS	  100
#define EACH	  9 /* subscriptions of a client */
#define STOPPED	  50
#define KILLED	  50
#define SIZE	  (512u << 10)
#define LOG	  (64u << 10)
#define ALL	  (CLIENTS + STOPPED + KILLED)
#define IS_KILLED (CLIENTS + STOPPED) /* the first of them */

struct client {
	struct redd *r;
	struct redd_port *port;
	struct collect c[EACH];
	int n;
};

static struct client clients[ALL];

/* Every other one, of a client's as well as of the clients that have only one. */
static bool is_shared(const struct client *k)
{
	return (k - clients + k->n) % 2;
}

static void client_join(struct client *k, uint64_t port, int n, enum redd_overflow overflow)
{
	k->r = service_connect(&scene.service);
	cr_assert_not_null(k->r);
	cr_assert_eq(redd_port_by_id(k->r, port, &k->port), 0);
	for (k->n = 0; k->n < n; k->n++) {
		struct collect *c = &k->c[k->n];

		collect_init(c);
		c->drop_data = c->watch.verify = true;
		c->watch.overflow = overflow;
		c->watch.shared = is_shared(k);
		if (overflow == REDD_DROP && !c->watch.shared)
			c->watch.credit_mode = REDD_CREDIT_NONE;
		cr_assert_eq(redd_subscription_is_shared(scene_subscribe(k->port, c)),
			     c->watch.shared);
	}
}

static void client_leave(struct client *k)
{
	while (k->n)
		collect_deinit(&k->c[--k->n]);
	redd_free(k->r);
	k->r = NULL;
}

/* Dispatches whoever of the first n is ready. Returns how many subscriptions are still open. */
static int clients_turn(int n)
{
	struct pollfd fds[ALL];
	int open = 0, timeout = 1000, due[ALL];

	for (int i = 0; i < n; i++) {
		fds[i] = (struct pollfd){ redd_fd(clients[i].r), redd_events(clients[i].r), 0 };
		due[i] = redd_timeout(clients[i].r);
		if (due[i] >= 0)
			timeout = due[i] < timeout ? due[i] : timeout;
	}
	poll(fds, (nfds_t)n, timeout);
	for (int i = 0; i < n; i++) {
		if (fds[i].revents || (due[i] >= 0 && due[i] <= timeout))
			cr_assert_eq(redd_dispatch(clients[i].r), 0);
		for (int j = 0; j < clients[i].n; j++)
			open += !clients[i].c[j].n_closed;
	}
	return open;
}

static void client_check(const struct client *k, bool is_whole)
{
	for (int j = 0; j < k->n; j++) {
		const struct collect_stream *s = collect_stream(&k->c[j], 1);

		cr_expect_str_eq(k->c[j].wrong, "", "%s", k->c[j].wrong);
		cr_expect_eq(s->end.total, SIZE);
		cr_expect_eq(s->end.seen + s->end.gaps, SIZE);
		cr_expect(!is_whole || (s->end.verified && !s->n_gaps));
	}
}

static struct redd_port *spawn_waiting_pattern(void)
{
	const char *command =
		scene_text("read x; exec %s %u", place_prog("pattern"), (unsigned)SIZE);
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = { .shell = command,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .log_size = LOG,
					      .checksum = true };

	return scene_spawn(&o, NULL);
}

Test(nuisances, P7_a_thousand_subscribers_see_the_same_while_fifty_are_stopped_and_fifty_killed)
{
	struct redd_port *port = spawn_waiting_pattern();
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT);
	int killed = 0;

	for (int i = 0; i < ALL; i++)
		client_join(&clients[i], redd_port_id(port), i < CLIENTS ? EACH : 1,
			    i < CLIENTS ? REDD_BLOCK : REDD_DROP);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	while (clients_turn(CLIENTS)) {
		cr_assert_lt(scene_now_ms(), deadline, "not all came to the end");
		while (killed < KILLED && collect_stream(&clients[0].c[0], 1)->next > SIZE / 3)
			client_leave(&clients[IS_KILLED + killed++]);
	}
	cr_assert_eq(killed, KILLED, "they were killed in the middle");
	while (clients_turn(CLIENTS + STOPPED)) /* the stopped ones go on */
		cr_assert_lt(scene_now_ms(), deadline, "the stopped did not come to the end");
	for (int i = 0; i < CLIENTS + STOPPED; i++) {
		client_check(&clients[i], i < CLIENTS);
		client_leave(&clients[i]);
	}
	scene_forget(port);
}

/* --- bad neighbours -------------------------------------------------------------------------- */

#define SPAWNS	      60
#define ROUNDS	      4
#define MOST	      2.0 /* times as long as alone: what is aimed at */
#define GENEROUS      2	  /* other load, on both processors that a neighbour keeps busy */
#define MORE_GENEROUS 4	  /* the broker itself is what is kept busy */
#define TURN_US	      10000
#define RSS_MOST      (64l << 20)

/* The middle of n spawns, in milliseconds. */
static double polite_middle(unsigned n)
{
	static double times[SPAWNS];

	cr_assert_eq(polite_spawns(scene.r, n, times), 0);
	return measure_part(times, n, 0.5);
}

/* The same without redd: what is the system's, which shares the processors out, and not ours. */
static double raw_middle(unsigned n)
{
	static double times[SPAWNS];

	cr_assert_eq(polite_raw_spawns(n, times), 0);
	return measure_part(times, n, 0.5);
}

static void beside(enum nuisance_kind kind, double most)
{
	unsigned n = place_rounds(SPAWNS);
	struct nuisance nuisance;
	struct census census;
	double best = 1e9, ratio, raw;

	for (unsigned i = 0; i < place_rounds(ROUNDS) && best > MOST; i++) {
		double alone = polite_middle(n), raw_alone = raw_middle(n);

		cr_assert_eq(nuisance_start(&nuisance, kind, &scene.service), 0);
		ratio = polite_middle(n) / alone;
		raw = raw_middle(n) / raw_alone;
		ratio /= raw > 1 ? raw : 1;
		best = ratio < best ? ratio : best;
		cr_assert_eq(census_take(scene.service.pid, &census), 0);
		cr_assert_eq(nuisance_stop(&nuisance), 0, "%s", nuisance_name(kind));
	}
	if (!is_plain())
		return;
	cr_expect_lt(best, most, "%s: %.1f times as long", nuisance_name(kind), best);
	cr_expect_leq(stat_of("redd_loop_turn_max_us"), 2 * TURN_US, "%s", nuisance_name(kind));
	cr_expect_leq(census.broker_rss, RSS_MOST, "%s: %ld bytes", nuisance_name(kind),
		      census.broker_rss);
}

/* What a nuisance spawned is killed with it; its ports are kept for a while. */
static void forget_all(void)
{
	struct redd_ports *ports;
	size_t n;

	do {
		cr_assert_eq(redd_list(scene.r, NULL, &ports), 0);
		n = ports->n_ports;
		for (size_t i = 0; i < n; i++) {
			struct redd_port *port;
			struct redd_waited waited;

			cr_assert_eq(redd_port_by_id(scene.r, ports->ports[i].port, &port), 0);
			if (redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited) ==
			    0)
				redd_forget(port);
			redd_port_free(port);
		}
		redd_ports_free(ports);
	} while (n);
}

Test(nuisances, P7_a_thousand_clients_that_never_read_delay_nobody)
{
	beside(NUISANCE_NEVER_READERS, MOST * GENEROUS);
	forget_all();
}

Test(nuisances, P7_a_flooding_child_delays_nobody)
{
	beside(NUISANCE_FLOOD, MOST * GENEROUS);
	forget_all();
}

Test(nuisances, P7_a_flooding_writer_delays_nobody)
{
	beside(NUISANCE_WRITER, MOST * GENEROUS);
	forget_all();
}

Test(nuisances, P7_requests_without_end_delay_nobody_for_long)
{
	beside(NUISANCE_REQUESTS, MOST * MORE_GENEROUS);
	forget_all();
}

/* Bulk gives way to spawns, but not for ever, and nothing of it is lost. */
Test(nuisances, P2_P7_a_flood_comes_to_its_end_whole_while_another_client_spawns_without_end)
{
	const char *size = place_rounds(64) < 64 ? "4194304" : "67108864";
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.argv = (const char *const[]){ place_prog("pattern"), size, NULL },
		.checksum = true,
	};
	struct redd *other = service_connect(&scene.service);
	struct redd_port *port;
	double time;
	unsigned n = 0;

	cr_assert_not_null(other);
	scene.c.drop_data = scene.c.watch.verify = true;
	port = scene_spawn(&o, &scene.c);
	for (; !scene.c.n_closed; n++) {
		cr_assert_eq(polite_spawns(other, 1, &time), 0);
		cr_assert_geq(redd_run_once(scene.r, 0), 0);
	}
	cr_expect_gt(n, 0);
	cr_expect_str_eq(scene.c.wrong, "", "%s", scene.c.wrong);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.total, strtoull(size, NULL, 10));
	cr_expect(collect_stream(&scene.c, 1)->end.verified);
	redd_free(other);
	scene_forget(port);
}

/* --- spawns ---------------------------------------------------------------------------------- */

#define QUEUE 1000

static void hog_send(struct peer *hog)
{
	struct buf all;
	char text[PATH_MAX + 64];

	ask_greet(hog, scene.service.socket);
	buf_init(&all, 1u << 20);
	snprintf(text, sizeof(text), "spawn { program: \"%s\" retention_ms: 0 }",
		 place_prog("tiny"));
	for (uint64_t i = 0; i < QUEUE; i++)
		ask_pack(&all, 100 + i, text);
	cr_assert_eq(peer_send(hog, buf_head(&all), buf_size(&all)), 0);
	buf_deinit(&all);
}

static void hog_finish(struct peer *hog)
{
	for (uint64_t i = 0; i < QUEUE; i++) {
		Redd__V1__Message *m;

		cr_assert_eq(peer_recv(hog, WAIT, &m), 0);
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_STARTED, "%s", ask_text(m));
	}
	peer_close(hog);
}

/* The forker is stopped until a thousand spawns of one client wait, and then one of another client.
 * Returns how many were started until that one was over. */
static uint64_t queue_round(void)
{
	struct redd_subscribe_options watch = { .size = sizeof(watch) };
	const char *const argv[] = { place_prog("tiny"), NULL };
	const struct redd_spawn_options o = { .argv = argv, .subscribe = &watch };
	struct census census;
	struct redd_port *port;
	struct peer hog;
	uint64_t before = stat_of("redd_spawned_total"), started;

	cr_assert_eq(census_take(scene.service.pid, &census), 0);
	kill(census.forker, SIGSTOP);
	hog_send(&hog);
	while (stat_of("redd_spawns_waiting") < QUEUE - LINE_IN_FLIGHT)
		;
	cr_assert_eq(redd_spawn_start(scene.r, &o, &port, NULL), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	kill(census.forker, SIGCONT);
	cr_assert_eq(redd_finish(redd_port_subscription(port), NULL), 0);
	started = stat_of("redd_spawned_total") - before;
	hog_finish(&hog);
	scene_forget(port);
	return started;
}

Test(nuisances, P7_a_thousand_spawns_of_one_client_are_not_in_front_of_another_ones)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < ROUNDS && least > QUEUE / 4; i++) {
		uint64_t started = queue_round();

		least = started < least ? started : least;
	}
	cr_expect_leq(least, QUEUE / 4, "%llu were started before it was over",
		      (unsigned long long)least);
	forget_all();
}
