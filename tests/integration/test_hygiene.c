/* P11: nothing is left behind when a port is gone: no descriptor, process, zombie, mapping or byte
 * of memory; a child has nothing that was not given to it, whoever starts beside it; and a service
 * with nothing to do does nothing. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/burst.h"
#include "tests/lib/census.h"
#include "tests/lib/childstate.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

TestSuite(hygiene, .init = scene_begin, .fini = scene_end, .timeout = 120);

static bool is_slow(void)
{
	return place_rounds(2) < 2;
}

static void run(struct burst *b)
{
	cr_assert_eq(burst_run(b, 1, 30000), 0);
	cr_assert_eq(b->n_over, b->total);
}

/* As at the start, with our client. */
static void settles(void)
{
	struct census with_client = scene.service.start;

	with_client.clients++;
	with_client.broker_fds += with_client.broker_fds >= 0;
	cr_expect_eq(service_settle_as(&scene.service, &with_client), 0);
}

/* --- memory ---------------------------------------------------------------------------------- */

struct figures {
	long broker_rss, broker_maps, keeper_rss, keeper_maps, forker_rss, forker_maps;
};

static struct figures figures_take(void)
{
	const struct census *c = &scene.service.start;

	return (struct figures){ census_rss(c->broker), census_maps(c->broker),
				 census_rss(c->keeper), census_maps(c->keeper),
				 census_rss(c->forker), census_maps(c->forker) };
}

static void is_flat(const char *what, long before, long after, long allowed)
{
	cr_expect_leq(after - before, allowed, "%s: %ld -> %ld", what, before, after);
}

static void memory_is_flat(const struct figures *a, const struct figures *b)
{
	is_flat("broker rss", a->broker_rss, b->broker_rss, 512 << 10);
	is_flat("keeper rss", a->keeper_rss, b->keeper_rss, 128 << 10);
	is_flat("forker rss", a->forker_rss, b->forker_rss, 128 << 10);
}

/* But for a pool of logs that fills, 64 of them with 3 mappings each, and the forker's 272 places
 * for children, each of which is split by a guard page when it is first used. */
static void mappings_are_flat(const struct figures *a, const struct figures *b)
{
	is_flat("broker mappings", a->broker_maps, b->broker_maps, 64 * 3);
	is_flat("keeper mappings", a->keeper_maps, b->keeper_maps, 0);
	is_flat("forker mappings", a->forker_maps, b->forker_maps, 272 * 2);
}

/* The first ones fill what is kept: life events, pools, and the tables of ports, of which each
 * place is used once before the first is used again. */
Test(hygiene, P11_memory_is_flat_over_twenty_thousand_spawns)
{
	const char *const argv[] = { place_prog("tiny"), NULL };
	struct burst warm = {
		.r = scene.r, .argv = argv, .total = place_rounds(17000), .in_flight = 64
	};
	struct burst b = {
		.r = scene.r, .argv = argv, .total = place_rounds(20000), .in_flight = 64
	};
	struct figures before, after;

	run(&warm);
	cr_assert_eq(redd_ping(scene.r), 0);
	before = figures_take();
	run(&b);
	cr_assert_eq(redd_ping(scene.r), 0);
	after = figures_take();
	cr_expect_eq(b.n_good, b.total);
	if (is_slow())
		return;
	memory_is_flat(&before, &after);
	mappings_are_flat(&before, &after);
}

/* Logs, queues, terminals, sockets, failures: all that a port may have. */
static void prepare_mixed(struct burst *b, unsigned number, struct redd_spawn_options *o)
{
	static const struct redd_descriptor in = { .fd = 0 },
					    both = { .fd = 5, .kind = REDD_SOCKET };
	static const struct redd_terminal terminal = { .rows = 24, .columns = 80 };
	static const char *const missing[] = { "/no/such/program", NULL };
	static const struct redd_label label = { .key = "k", .value = "v" };
	static char names[BURST_IN_FLIGHT_MAX * 2][32];

	(void)b;
	o->argv = NULL;
	o->shell = "echo out; echo err >&2";
	o->labels = &label;
	o->n_labels = number % 3 == 0;
	switch (number % 8) {
	case 0:
		o->terminal = &terminal;
		break;
	case 1:
		o->descriptors = &in;
		o->n_descriptors = 1;
		break;
	case 2:
		o->descriptors = &both;
		o->n_descriptors = 1;
		break;
	case 3:
		o->shell = NULL;
		o->argv = missing;
		break;
	case 4:
		o->directory = "/no/such/directory";
		break;
	case 5:
		o->name = names[number % (BURST_IN_FLIGHT_MAX * 2)];
		snprintf(names[number % (BURST_IN_FLIGHT_MAX * 2)], 32, "name%u", number);
		break;
	case 6:
		o->checksum = true;
		o->log_size = 1 << 20;
		break;
	default:
		o->timeout_ms = 60000;
		break;
	}
}

Test(hygiene, P11_nothing_is_left_of_ports_of_every_sort)
{
	struct burst warm = {
		.r = scene.r, .total = place_rounds(1500), .in_flight = 32, .prepare = prepare_mixed
	};
	struct burst b = warm;
	struct figures before, after;

	run(&warm);
	settles();
	before = figures_take();
	b.total = place_rounds(3000) / 8 * 8; /* two of each eight are refused */
	run(&b);
	cr_expect_eq(b.n_failed, b.total / 4, "%u of %u", b.n_failed, b.total);
	cr_expect_eq(b.n_good, b.total - b.n_failed);
	settles();
	after = figures_take();
	mappings_are_flat(&before, &after);
}

/* Clients come and go, with what they had. */
Test(hygiene, P11_S75_nothing_is_left_of_clients_that_vanish)
{
	for (unsigned i = 0; i < place_rounds(100); i++) {
		struct redd *r = service_connect(&scene.service);
		const struct redd_descriptor in = { .fd = 0 };
		const char *const argv[] = { place_prog("hang"), NULL };
		struct redd_spawn_options o = {
			.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
		};
		struct redd_port *port;
		struct outcome write;

		cr_assert_not_null(r);
		o.retention_ms = 0;
		o.set = REDD_SET_RETENTION;
		cr_assert_eq(redd_spawn_start(r, &o, &port, NULL), 0);
		if (i % 2)
			cr_assert_eq(redd_write_start(port, "x", 1, NULL, outcome_call(&write)), 0);
		if (i % 4 < 2)
			cr_assert_eq(redd_ping(r), 0);
		redd_free(r); /* orphans are killed */
	}
	settles();
}

/* --- descriptors ----------------------------------------------------------------------------- */

#define AT_ONCE 64

/* Each says which descriptors it has, while others are started before and behind it. */
Test(hygiene, P11_S21_a_child_has_nothing_of_those_that_start_beside_it)
{
	static const char expected[] = "fds=3\nfd[0]=pipe r \nfd[1]=pipe w \nfd[2]=pipe w \n";
	const char *const argv[] = { place_prog("state"), "fds", NULL };
	const struct redd_descriptor in = { .fd = 0 };
	struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	static struct collect c[AT_ONCE];
	struct redd_port *ports[AT_ONCE];

	for (unsigned round = 0; round < place_rounds(20); round++) {
		for (int i = 0; i < AT_ONCE; i++) {
			collect_init(&c[i]);
			o.subscribe = &c[i].watch;
			cr_assert_eq(redd_spawn_start(scene.r, &o, &ports[i], NULL), 0);
		}
		for (int i = 0; i < AT_ONCE; i++) {
			cr_assert_eq(collect_wait(&c[i], scene.r, 20000), 0);
			cr_expect_str_eq(collect_text(&c[i], 1), expected, "%s",
					 collect_text(&c[i], 1));
			collect_deinit(&c[i]);
			cr_assert_eq(redd_forget(ports[i]), 0);
			redd_port_free(ports[i]);
		}
	}
}

/* What it inherits of those who started it, and what they gave it. */
Test(hygiene, P11_broker_and_forker_have_no_more_than_they_need)
{
	const struct census *c = &scene.service.start;

	if (place_valgrind())
		cr_skip_test("valgrind keeps descriptors of its own in each process");
	cr_expect_leq(c->forker_fds, 8, "%d", c->forker_fds);
	cr_expect_leq(c->keeper_fds, 24, "%d", c->keeper_fds);
	cr_expect_leq(c->broker_fds, 24, "%d", c->broker_fds);
}

/* --- nothing to do --------------------------------------------------------------------------- */

/* A descriptor that stays ready, or a timer that comes back at once, costs a processor. */
static void is_idle(const char *when)
{
	const struct census *c = &scene.service.start;
	long ticks = census_cpu_ticks(c->keeper) + census_cpu_ticks(c->broker) +
		     census_cpu_ticks(c->forker);
	struct redd_port *port = scene_shell("exec sleep 0.5", NULL);
	struct redd_waited end;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 20000, &end), 0);
	ticks = census_cpu_ticks(c->keeper) + census_cpu_ticks(c->broker) +
		census_cpu_ticks(c->forker) - ticks;
	if (!place_valgrind())
		cr_expect_leq(ticks, 10, "%s: %ld ticks of %ld a second", when, ticks,
			      sysconf(_SC_CLK_TCK));
	scene_forget(port);
}

Test(hygiene, P11_a_service_with_nothing_to_do_does_nothing)
{
	const struct redd_descriptor d[] = { { .fd = 0 }, { .fd = 5, .kind = REDD_SOCKET } };
	const char *const argv[] = { place_prog("hang"), NULL };
	const struct redd_spawn_options hang = {
		.size = sizeof(hang), .argv = argv, .descriptors = d, .n_descriptors = 2
	};
	struct redd_port *ended[20], *living[20];

	is_idle("empty");
	for (int i = 0; i < 20; i++) {
		ended[i] = scene_shell("echo said", NULL);
		cr_assert_eq(
			redd_wait(ended[i], REDD_UNTIL_CLOSED, 20000, &(struct redd_waited){ 0 }),
			0);
	}
	is_idle("with ports that have ended");
	for (int i = 0; i < 20; i++)
		living[i] = scene_spawn(&hang, NULL);
	is_idle("with ports that live");
	for (int i = 0; i < 20; i++) {
		scene_kill(living[i]);
		scene_forget(ended[i]);
	}
	is_idle("empty again");
}

/* --- strangers ------------------------------------------------------------------------------- */

/* Orphans come to the service: they are reaped, and are nobody's exit. */
Test(hygiene, P11_orphans_that_come_to_the_service_are_reaped)
{
	unsigned rounds = place_rounds(20);

	for (unsigned i = 0; i < rounds; i++) {
		struct redd_port *port = scene_shell(
			"i=0; while [ $i -lt 20 ]; do (exec >&- 2>&-; sh -c 'exit 3' &) ; "
			"i=$((i + 1)); done; exit 7",
			&scene.c);

		cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
		cr_expect_eq(redd_exit_status(&scene.c.exit), 7);
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
	settles();
}
