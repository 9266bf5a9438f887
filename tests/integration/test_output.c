/* Output against a real broker: every byte with its offset (P1), from the very first one (P2), the
 * end as a proof (P3).
 *
 * Late subscriptions are in test_late.c, slow readers in test_slow.c, the many quick commands in
 * test_quick.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define LOG  65536u /* the smallest log */
#define MEBI 1048576u
#define WAIT 30000

TestSuite(output, .init = scene_begin, .fini = scene_end, .timeout = 60);

static uint64_t pattern_checksum(uint64_t size)
{
	uint8_t *data = malloc(size ? size : 1);
	uint64_t hash;

	cr_assert_not_null(data);
	pattern_fill(data, size, 0);
	hash = XXH3_64bits(data, size);
	free(data);
	return hash;
}

/* --- P1: order, offsets ---------------------------------------------------------------------- */

Test(output, P1_sizes_around_every_buffer_arrive_exactly)
{
	static const uint64_t sizes[] = { 0,	 1,	4095,	4096,	4097,	65535,	65536,
					  65537, 70000, 131072, 262143, 262144, 262145, 300001 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct collect c;
		char size[32];

		collect_init(&c);
		c.patterned = c.drop_data = true;
		snprintf(size, sizeof(size), "%llu", (unsigned long long)sizes[i]);
		cr_assert_eq(collect_prog(&c, scene.r, "pattern", size, NULL), 0);
		cr_expect_str_eq(c.wrong, "", "%s bytes: %s", size, c.wrong);
		cr_expect_eq(collect_stream(&c, 1)->end.total, sizes[i]);
		cr_expect_eq(collect_stream(&c, 1)->end.seen, sizes[i]);
		cr_expect_eq(redd_exit_status(&c.exit), 0);
		collect_deinit(&c);
	}
}

/* The program gives back what it gets while it gets it: with both pipes full nobody waits for ever.
 */
Test(output, P1_S33_what_is_echoed_while_both_sides_are_full_comes_back_whole)
{
	static const size_t sizes[] = { 1, 43755, 77777, 100000, 3000000 };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	uint8_t *data = malloc(3000000);

	pattern_fill(data, 3000000, 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct redd_port *port;
		uint64_t taken;

		collect_deinit(&scene.c);
		collect_init(&scene.c);
		scene.c.patterned = scene.c.drop_data = true;
		port = scene_spawn(&o, &scene.c);
		cr_assert_eq(redd_write_all(port, data, sizes[i], NULL, &taken), 0);
		cr_expect_eq(taken, sizes[i]);
		cr_assert_eq(redd_close(port, 0, NULL), 0);
		cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
		cr_expect_str_eq(scene.c.wrong, "");
		cr_expect_eq(collect_stream(&scene.c, 1)->end.total, sizes[i]);
		scene_forget(port);
	}
	free(data);
}

Test(output, P1_chunks_of_odd_sizes_arrive_in_order)
{
	static const char *const chunks[] = { "1", "7", "333", "4097", "65535" };

	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
		struct collect c;

		collect_init(&c);
		c.patterned = c.drop_data = true;
		cr_assert_eq(collect_prog(&c, scene.r, "pattern", "99991", chunks[i], NULL), 0);
		cr_expect_str_eq(c.wrong, "", "chunks of %s: %s", chunks[i], c.wrong);
		cr_expect_eq(collect_stream(&c, 1)->end.total, 99991);
		collect_deinit(&c);
	}
}

Test(output, P1_S32_three_streams_at_once_keep_their_bytes_apart)
{
	const char *const argv[] = {
		place_prog("pattern"), "3000000", "5003", "1", "2", "7", NULL
	};
	const struct redd_descriptor seven = { .fd = 7, .kind = REDD_PIPE };
	struct redd_spawn_options o = { .argv = argv, .descriptors = &seven, .n_descriptors = 1 };
	static const uint32_t streams[] = { 1, 2, 7 };

	scene.c.patterned = scene.c.drop_data = true;
	cr_assert_eq(collect_run(&scene.c, scene.r, &o, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(scene.c.n_streams, 3);
	for (size_t i = 0; i < 3; i++) {
		cr_expect_eq(collect_stream(&scene.c, streams[i])->end.total, 3000000);
		cr_expect_eq(collect_stream(&scene.c, streams[i])->end.cause, REDD_END_OF_FILE);
	}
}

Test(output, P1_a_subscription_to_one_stream_gets_that_one_alone)
{
	const char *const argv[] = { place_prog("say"), "x", "1", "2", NULL };
	struct redd_spawn_options o = { .argv = argv };
	const uint32_t two = 2;

	scene.c.watch.streams = &two;
	scene.c.watch.n_streams = 1;
	cr_assert_eq(collect_run(&scene.c, scene.r, &o, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(scene.c.n_streams, 1);
	cr_assert_str_eq(collect_text(&scene.c, 2), "x\n");
}

Test(output, P1_two_descriptors_on_one_pipe_share_one_stream_in_order)
{
	const struct redd_descriptor same = { .fd = 2, .kind = REDD_SAME, .same_as = 1 };
	struct redd_spawn_options o = { .shell = "echo 1; echo 2 >&2; echo 3; echo 4 >&2",
					.descriptors = &same,
					.n_descriptors = 1 };

	cr_assert_eq(collect_run(&scene.c, scene.r, &o, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_str_eq(collect_text(&scene.c, 1), "1\n2\n3\n4\n");
	cr_assert_eq(scene.c.n_streams, 1);
}

Test(output, P1_a_hundred_mebibytes_arrive_whole)
{
	unsigned mebibytes = place_rounds(100);
	char size[32];

	scene.c.patterned = scene.c.drop_data = true;
	snprintf(size, sizeof(size), "%u", mebibytes * MEBI);
	cr_assert_eq(collect_prog(&scene.c, scene.r, "pattern", size, NULL), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(collect_stream(&scene.c, 1)->end.total, (uint64_t)mebibytes * MEBI);
	cr_assert_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
}

/* --- P3: the end as a proof ------------------------------------------------------------------ */

Test(output, P3_the_checksum_is_that_of_all_bytes_in_events_and_in_answers)
{
	const char *const argv[] = { place_prog("pattern"), "700001", "4096", "1", NULL };
	struct redd_spawn_options o = { .argv = argv, .checksum = true };
	const uint64_t hash = pattern_checksum(700001);
	struct redd_waited waited;
	struct redd_port *port;

	scene.c.watch.verify = scene.c.patterned = scene.c.drop_data = true;
	port = scene_spawn(&o, &scene.c);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_expect(collect_stream(&scene.c, 1)->end.verified);
	cr_expect(collect_stream(&scene.c, 1)->end.has_xxh3);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.xxh3, hash);
	cr_expect(collect_stream(&scene.c, 2)->end.has_xxh3);
	cr_expect_eq(collect_stream(&scene.c, 2)->end.xxh3, XXH3_64bits(NULL, 0),
		     "a stream without a byte has a checksum too");
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, -1, &waited), 0);
	cr_assert_eq(waited.n_streams, 2);
	cr_expect_eq(waited.streams[0].stream, 1);
	cr_expect_eq(waited.streams[0].total, 700001);
	cr_expect(waited.streams[0].ended);
	cr_expect(waited.streams[0].has_xxh3);
	cr_expect_eq(waited.streams[0].xxh3, hash);
	scene_forget(port);
}

Test(output, P3_the_checksum_covers_bytes_that_the_log_has_lost)
{
	const char *const argv[] = { place_prog("pattern"), "1048576", NULL };
	struct redd_spawn_options o = { .argv = argv, .checksum = true, .log_size = LOG };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	scene.c.watch.verify = scene.c.patterned = true;
	scene_subscribe(port, &scene.c);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_expect_eq(collect_stream(&scene.c, 1)->end.xxh3, pattern_checksum(1048576));
	cr_expect_not(collect_stream(&scene.c, 1)->end.verified, "what is missing proves nothing");
	scene_forget(port);
}

Test(output, P3_without_being_asked_for_there_is_no_checksum)
{
	cr_assert_eq(collect_prog(&scene.c, scene.r, "say", "x", NULL), 0);
	cr_assert_not(collect_stream(&scene.c, 1)->end.has_xxh3);
	cr_assert_eq(collect_stream(&scene.c, 1)->end.result, 0);
}

Test(output, P3_S38_an_end_comes_while_the_program_goes_on)
{
	struct redd_port *port = scene_steered(
		"echo said; echo err >&2; exec >&- 2>&-; " SCENE_WAIT "; exit 7", &scene.c);
	struct redd_waited waited;

	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, UINT64_MAX, WAIT), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 2, UINT64_MAX, WAIT), 0);
	cr_expect(collect_stream(&scene.c, 1)->ended);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.total, 5);
	cr_expect_eq(scene.c.n_exited, 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited), -ETIMEDOUT);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_str_eq(collect_text(&scene.c, 1), "said\n");
	cr_assert_str_eq(collect_text(&scene.c, 2), "err\n");
	cr_assert_eq(redd_exit_status(&scene.c.exit), 7);
	scene_forget(port);
}

/* --- unsubscribe ----------------------------------------------------------------------------- */

Test(output, P4_what_is_unsubscribed_ends_with_closed_and_the_port_goes_on)
{
	struct redd_port *port =
		scene_steered("printf before; " SCENE_WAIT "; printf after", &scene.c);

	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6, WAIT), 0);
	cr_assert_eq(redd_unsubscribe(redd_port_subscription(port)), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(scene.c.closed.cause, REDD_UNSUBSCRIBED);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_forget(port);
	cr_assert_eq(scene.c.n_closed, 1);
	cr_assert_str_eq(collect_text(&scene.c, 1), "before");
}

Test(output, P2_subscriptions_of_one_client_see_the_same_bytes_independently)
{
	struct redd_port *port = scene_steered(SCENE_WAIT "; seq 1 20000", &scene.c);
	struct collect others[16];

	for (int i = 0; i < 16; i++) {
		collect_init(&others[i]);
		others[i].watch.window = 1000u + (unsigned)i * 977;
		scene_subscribe(port, &others[i]);
	}
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_eq(collect_stream(&scene.c, 1)->size, 108894);
	for (int i = 0; i < 16; i++) {
		cr_assert_eq(collect_wait(&others[i], scene.r, WAIT), 0);
		cr_expect_str_eq(others[i].wrong, "");
		cr_expect(!strcmp(collect_text(&others[i], 1), collect_text(&scene.c, 1)));
		collect_deinit(&others[i]);
	}
	scene_forget(port);
}
