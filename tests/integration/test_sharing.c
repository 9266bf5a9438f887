/* Subscriptions by shared memory: every promise as by the socket (P1 to P5, P13), and when they go
 * by the socket after all. Readers that do not keep up are in test_sharing_slow.c, clients that
 * write what they like into the memory in test_sharing_hostile.c.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/lib/narrow.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define LOG  65536u
#define MEBI 1048576u
#define WAIT 30000

TestSuite(sharing, .init = scene_begin_shared, .fini = scene_end, .timeout = 120);

static struct redd_port *spawn_pattern(const char *size, bool checksum)
{
	const char *const argv[] = { place_prog("pattern"), size, NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .log_size = LOG, .checksum = checksum
	};

	scene.c.patterned = scene.c.drop_data = true;
	return scene_spawn(&o, &scene.c);
}

/* --- order, ends ----------------------------------------------------------------------------- */

Test(sharing, P1_P2_P3_sizes_around_every_buffer_arrive_exactly)
{
	static const char *const sizes[] = { "0",     "1",     "4097",	 "65535",
					     "65536", "65537", "262145", "5000011" };
	int before = fd_count();

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct redd_port *port;

		collect_deinit(&scene.c);
		collect_init(&scene.c);
		scene.c.watch.shared = scene.c.watch.verify = true;
		port = spawn_pattern(sizes[i], true);
		cr_expect(redd_subscription_is_shared(redd_port_subscription(port)));
		scene_finish(&scene.c);
		cr_expect_eq(scene.c.closed.cause, REDD_PORT_CLOSED);
		cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, strtoull(sizes[i], NULL, 10));
		cr_expect(collect_stream(&scene.c, 1)->end.verified);
		cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
		scene_forget(port);
	}
	cr_expect_eq(fd_count(), before, "descriptors that came are closed");
}

/* Small pieces, each of which finds the reader asleep, of two streams; written for somebody who
 * waits for each, as a prompt does. */
Test(sharing, P1_a_reader_that_sleeps_is_woken_for_every_piece)
{
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = "while read x; do echo \"$x\"; echo \"$x\" >&2; done",
		.descriptors = &in,
		.n_descriptors = 1
	};
	struct redd_port *port = scene_spawn(&o, &scene.c);
	unsigned rounds = place_rounds(300);

	for (unsigned i = 1; i <= rounds; i++) {
		cr_assert_eq(redd_write(port, "12345\n", 6, NULL, NULL), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6 * i, WAIT), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 2, 6 * i, WAIT), 0);
	}
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_finish(&scene.c);
	cr_expect_eq(collect_stream(&scene.c, 2)->end.total, 6 * rounds);
	scene_forget(port);
}

Test(sharing, P4_P5_the_exit_and_what_is_left_in_the_pipe_are_told_as_ever)
{
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = "sleep 1000 & echo hi; exit 3",
					      .drain_ms = 100,
					      .set = REDD_SET_DRAIN };
	struct redd_port *port = scene_spawn(&o, &scene.c);
	struct redd_signalled signalled;

	scene_finish(&scene.c);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 3);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hi\n");
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_IDLE);
	cr_expect_geq(scene.c.closed.n_holders, 1);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_TREE, &signalled), 0);
	scene_forget(port);
}

Test(sharing, P1_late_subscriptions_start_where_they_ask_to)
{
	static const struct {
		enum redd_start from;
		uint64_t count, first, gaps;
	} cases[] = { { REDD_FROM_BEGINNING, 0, 0, MEBI - LOG },
		      { REDD_FROM_NOW, 0, MEBI, 0 },
		      { REDD_FROM_LAST_BYTES, 777, MEBI - 777, 0 },
		      { REDD_FROM_OFFSET, 0, 5, MEBI - LOG - 5 } };
	const struct redd_stream_offset five = { .stream = 1, .offset = 5 };
	struct redd_port *port;

	scene.c.watch.overflow = REDD_DROP;
	port = spawn_pattern("1048576", true);
	scene_wait_closed(port);
	scene_finish(&scene.c);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct redd_subscription *s;
		struct collect c;

		collect_init(&c);
		c.patterned = c.drop_data = c.starts_anywhere = true;
		c.watch.shared = true;
		c.watch.from = cases[i].from;
		c.watch.count = cases[i].count;
		c.watch.offsets = &five;
		c.watch.n_offsets = cases[i].from == REDD_FROM_OFFSET;
		c.watch.streams = (const uint32_t[]){ 1 };
		c.watch.n_streams = 1;
		cr_assert_eq(redd_subscribe(port, &c.watch, &s), 0);
		scene_finish(&c);
		cr_expect(redd_subscription_is_shared(s), "case %zu", i);
		cr_expect_eq(collect_stream(&c, 1)->first, cases[i].first, "case %zu", i);
		cr_expect_eq(collect_stream(&c, 1)->gaps, cases[i].gaps, "case %zu", i);
		if (cases[i].gaps)
			cr_expect_eq(collect_stream(&c, 1)->gap[0].cause, REDD_GAP_BEFORE_LOG);
		cr_expect_eq(collect_stream(&c, 1)->end.total, MEBI);
		redd_subscription_free(s);
		collect_deinit(&c);
	}
	scene_forget(port);
}

/* --- leaving --------------------------------------------------------------------------------- */

Test(sharing, an_unsubscribed_one_is_closed_and_a_callback_may_free_its_own)
{
	struct redd_port *port = scene_steered("echo 1; " SCENE_WAIT, &scene.c);

	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 2, WAIT), 0);
	cr_assert_eq(redd_unsubscribe(redd_port_subscription(port)), 0);
	scene_finish(&scene.c);
	cr_expect_eq(scene.c.closed.cause, REDD_UNSUBSCRIBED);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_forget(port);
}

static void free_it(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	unsigned *n = user;

	(void)o;
	++*n;
	redd_subscription_free(s);
}

Test(sharing, a_callback_may_free_its_own_subscription)
{
	unsigned n = 0;
	struct redd_port *port;

	scene.c.watch.handler = (struct redd_handler){ .on_output = free_it, .user = &n };
	port = spawn_pattern("1048576", false);
	scene_wait_closed(port);
	cr_expect_eq(n, 1);
	scene_forget(port);
}

/* --- by the socket after all ----------------------------------------------------------------- */

Test(sharing, more_than_may_be_shared_go_by_the_socket)
{
	struct redd_port *port = scene_steered(SCENE_WAIT "; echo on", NULL);
	unsigned n_shared = 0, n_done = 0;
	struct redd_subscription **all;

	all = calloc(SHARED_PER_CONN + 10, sizeof(all[0]));
	for (unsigned i = 0; i < SHARED_PER_CONN + 10; i++) {
		const struct redd_subscribe_options o = { .size = sizeof(o), .shared = true };

		cr_assert_eq(redd_subscribe(port, &o, &all[i]), 0);
		n_shared += redd_subscription_is_shared(all[i]);
	}
	cr_expect_eq(n_shared, SHARED_PER_CONN);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	for (unsigned i = 0; i < SHARED_PER_CONN + 10; i++) {
		n_done += !redd_finish(all[i], NULL) && redd_subscription_offset(all[i], 1) == 3;
		redd_subscription_free(all[i]);
	}
	cr_expect_eq(n_done, SHARED_PER_CONN + 10);
	free(all);
	scene_forget(port);
}

Test(sharing, a_client_without_free_descriptors_goes_by_the_socket)
{
	struct redd_port *port = scene_steered(SCENE_WAIT "; echo hi", NULL);
	struct rlimit limit, few;
	struct redd_subscription *s;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	few.rlim_cur = 0;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	cr_assert_eq(redd_subscribe(port, &scene.c.watch, &s), 0);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect_not(redd_subscription_is_shared(s));
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_finish(&scene.c);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hi\n");
	redd_subscription_free(s);
	scene_forget(port);
}

static struct narrow narrow;

static void narrow_begin(void)
{
	struct service through;

	narrow_start(&narrow, &scene.service);
	through = scene.service;
	strcpy(through.socket, narrow.socket);
	scene.r = service_connect(&through);
	cr_assert_not_null(scene.r);
	collect_init(&scene.c);
	scene.c.watch.shared = true;
}

static void narrow_end(void)
{
	scene_end();
	narrow_remove(&narrow);
}

Test(sharing_narrow, P14_a_listener_that_passes_no_descriptors_shares_nothing, .init = narrow_begin,
     .fini = narrow_end, .timeout = 60)
{
	struct redd_port *port;

	cr_assert_not(redd_welcome(scene.r)->descriptors);
	port = spawn_pattern("300000", false);
	cr_expect_not(redd_subscription_is_shared(redd_port_subscription(port)));
	scene_finish(&scene.c);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, 300000);
	scene_forget(port);
}

/* --- the broker dies ------------------------------------------------------------------------- */

static struct redd_port *spawn_cat(void)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .orphan = REDD_ORPHAN_KEEP,
					      .checksum = true };

	return scene_spawn(&o, &scene.c);
}

/* Another one is there when this returns. */
static void broker_dies(void)
{
	pid_t broker;

	while (!(broker = census_child(scene.service.pid, "redd-broker")))
		;
	cr_assert_eq(kill(broker, SIGKILL), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
}

/* What was shared goes on by the socket; a new one is shared. */
Test(sharing, P13_when_the_broker_dies_nothing_is_missing_and_a_new_one_is_shared)
{
	struct redd_port *port;
	struct redd_subscription *s;
	struct collect again;

	scene.c.watch.shared = scene.c.watch.verify = true;
	port = spawn_cat();
	for (unsigned round = 1; round <= 3; round++) {
		cr_assert_eq(redd_write(port, "hello ", 6, NULL, NULL), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6 * round, WAIT), 0);
		broker_dies();
		collect_init(&again);
		again.watch.shared = true;
		cr_assert_eq(redd_subscribe(port, &again.watch, &s), 0);
		cr_expect(redd_subscription_is_shared(s));
		cr_assert_eq(collect_wait_bytes(&again, scene.r, 1, 6 * round, WAIT), 0);
		cr_expect_str_eq(again.wrong, "");
		redd_subscription_free(s);
		collect_deinit(&again);
	}
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_finish(&scene.c);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hello hello hello ");
	cr_expect(collect_stream(&scene.c, 1)->end.verified);
	scene_forget(port);
}

/* As long as it is shared, credit by hand is counted on this side. */
Test(sharing, P13_credit_by_hand_is_not_lost_when_the_broker_dies)
{
	struct redd_port *port;

	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 6 + EVENT_CREDIT;
	port = spawn_cat();
	cr_assert(redd_subscription_is_shared(redd_port_subscription(port)));
	cr_assert_eq(redd_write(port, "hello ", 6, NULL, NULL), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6, WAIT), 0);
	/* For as much again, and two ends. */
	cr_assert_eq(redd_credit(redd_port_subscription(port), 6 + 3 * EVENT_CREDIT), 0);
	broker_dies();
	cr_assert_eq(redd_write(port, "hello ", 6, NULL, NULL), 0);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	scene_finish(&scene.c);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hello hello ");
	scene_forget(port);
}
