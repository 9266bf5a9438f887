/* Output against a real broker: every byte with its offset (P1), from the very first one (P2), the
 * end as a proof (P3), and subscriptions that come late.
 *
 * Slow readers are in test_slow.c, the many quick commands in test_quick.c.
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

#define LOG    65536u /* the smallest log */
#define MEBI   1048576u
#define WAIT   30000
#define BLOCKS "read x <&3 || :" /* the shell waits until descriptor 3, an input, is closed */

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

/* A command of the shell whose descriptor 3 is an input of the port: closing it lets the command go
 * on behind BLOCKS. */
static struct redd_port *spawn_steered(const char *command, uint32_t log_size, struct collect *c)
{
	const struct redd_descriptor in = { .fd = 3, .kind = REDD_PIPE, .direction = REDD_INPUT };
	struct redd_spawn_options o = {
		.shell = command, .descriptors = &in, .n_descriptors = 1, .log_size = log_size
	};

	return scene_spawn(&o, c);
}

static const char *pattern_command(uint64_t size, const char *before, const char *after)
{
	static char command[1024];

	snprintf(command, sizeof(command), "%s%s %llu%s", before, place_prog("pattern"),
		 (unsigned long long)size, after);
	return command;
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

Test(output, P1_three_streams_at_once_keep_their_bytes_apart)
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

Test(output, P3_an_end_comes_while_the_program_goes_on)
{
	struct redd_port *port = spawn_steered(
		"echo said; echo err >&2; exec >&- 2>&-; " BLOCKS "; exit 7", 0, &scene.c);
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

/* --- late subscriptions ---------------------------------------------------------------------- */

/* A port that has said 0123456789 and waits; "tail" comes when its descriptor 3 is closed. */
static struct redd_port *spawn_ten_and_wait(void)
{
	struct redd_port *port =
		spawn_steered("printf 0123456789; " BLOCKS "; printf tail", 0, NULL);
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT);

	while (scene_stream(port, 1).total < 10)
		cr_assert_lt(scene_now_ms(), deadline);
	scene.c.starts_anywhere = true;
	return port;
}

static void finish(struct redd_port *port)
{
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	scene_forget(port);
}

Test(output, P1_a_late_subscription_from_the_beginning_gets_all)
{
	struct redd_port *port = spawn_ten_and_wait();

	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->first, 0);
	cr_assert_str_eq(collect_text(&scene.c, 1), "0123456789tail");
}

Test(output, P1_a_late_subscription_from_now_gets_what_comes)
{
	struct redd_port *port = spawn_ten_and_wait();

	scene.c.watch.from = REDD_FROM_NOW;
	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->first, 10);
	cr_assert_str_eq(collect_text(&scene.c, 1), "tail");
	cr_assert_eq(collect_stream(&scene.c, 1)->end.skipped, 10);
	cr_assert_eq(collect_stream(&scene.c, 1)->end.total, 14);
}

Test(output, P1_a_late_subscription_starts_at_any_offset)
{
	struct redd_port *port = spawn_ten_and_wait();
	const struct redd_stream_offset at = { 1, 7 };

	scene.c.watch.from = REDD_FROM_OFFSET;
	scene.c.watch.offsets = &at;
	scene.c.watch.n_offsets = 1;
	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->first, 7);
	cr_assert_str_eq(collect_text(&scene.c, 1), "789tail");
}

Test(output, P1_an_offset_ahead_of_the_stream_is_refused)
{
	struct redd_port *port = spawn_ten_and_wait();
	struct redd_stream_offset at = { 1, 11 };
	struct redd_subscription *s;

	scene.c.watch.from = REDD_FROM_OFFSET;
	scene.c.watch.offsets = &at;
	scene.c.watch.n_offsets = 1;
	cr_assert_eq(redd_subscribe(port, &scene.c.watch, &s), -ERANGE);
	cr_assert_eq(redd_last_error(scene.r)->code, REDD_OUT_OF_RANGE);
	cr_assert_neq(redd_last_error(scene.r)->message[0], '\0');
	at.offset = 10;
	collect_deinit(&scene.c);
	scene.c.n_closed = 0; /* the refusal was told as a close */
	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_str_eq(collect_text(&scene.c, 1), "tail");
}

Test(output, P1_the_last_bytes_are_had)
{
	struct redd_port *port = spawn_ten_and_wait();

	scene.c.watch.from = REDD_FROM_LAST_BYTES;
	scene.c.watch.count = 4;
	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->first, 6);
	cr_assert_str_eq(collect_text(&scene.c, 1), "6789tail");
}

Test(output, P1_more_last_bytes_than_there_are_is_all)
{
	struct redd_port *port = spawn_ten_and_wait();

	scene.c.watch.from = REDD_FROM_LAST_BYTES;
	scene.c.watch.count = UINT64_MAX;
	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_str_eq(collect_text(&scene.c, 1), "0123456789tail");
}

static void expect_last_lines(struct redd_port *port, uint64_t count, const char *text)
{
	struct collect c;

	collect_init(&c);
	c.starts_anywhere = true;
	c.watch.from = REDD_FROM_LAST_LINES;
	c.watch.count = count;
	scene_subscribe(port, &c);
	cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
	cr_expect_str_eq(c.wrong, "");
	cr_expect_str_eq(collect_text(&c, 1), text, "last %llu lines: \"%s\"",
			 (unsigned long long)count, collect_text(&c, 1));
	collect_deinit(&c);
}

Test(output, P1_the_last_lines_are_had_after_the_end)
{
	struct redd_port *port = scene_shell("printf 'one\\ntwo\\n\\nfour\\nfive'", &scene.c);

	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	expect_last_lines(port, 0, "");
	expect_last_lines(port, 1, "five");
	expect_last_lines(port, 2, "four\nfive");
	expect_last_lines(port, 3, "\nfour\nfive");
	expect_last_lines(port, 5, "one\ntwo\n\nfour\nfive");
	expect_last_lines(port, 1000, "one\ntwo\n\nfour\nfive");
	scene_forget(port);
}

Test(output, P1_a_line_whose_newline_is_there_is_the_last_one)
{
	struct redd_port *port = scene_shell("printf 'one\\ntwo\\n'", &scene.c);

	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	expect_last_lines(port, 1, "two\n");
	expect_last_lines(port, 2, "one\ntwo\n");
	scene_forget(port);
}

Test(output, P1_after_the_end_every_start_works_and_the_end_is_told_again)
{
	struct redd_port *port = scene_shell("printf 0123456789; exit 3", &scene.c);
	static const struct {
		enum redd_start from;
		uint64_t value;
		const char *text;
	} cases[] = {
		{ REDD_FROM_BEGINNING, 0, "0123456789" }, { REDD_FROM_NOW, 0, "" },
		{ REDD_FROM_OFFSET, 4, "456789" },	  { REDD_FROM_OFFSET, 10, "" },
		{ REDD_FROM_LAST_BYTES, 3, "789" },
	};

	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct redd_stream_offset at = { 1, cases[i].value };
		struct collect c;

		collect_init(&c);
		c.starts_anywhere = true;
		c.watch.from = cases[i].from;
		c.watch.count = cases[i].value;
		c.watch.offsets = &at;
		c.watch.n_offsets = cases[i].from == REDD_FROM_OFFSET;
		scene_subscribe(port, &c);
		cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
		cr_expect_str_eq(c.wrong, "");
		cr_expect_str_eq(collect_text(&c, 1), cases[i].text);
		cr_expect_eq(collect_stream(&c, 1)->end.total, 10);
		cr_expect_eq(c.n_exited, 1);
		cr_expect_eq(redd_exit_status(&c.closed.exit), 3);
		collect_deinit(&c);
	}
	scene_forget(port);
}

/* --- before the log -------------------------------------------------------------------------- */

/* Waits for the end of a port that filled its log many times over, and subscribes. Returns the
 * oldest offset that the log still has. */
static uint64_t subscribe_behind_the_log(struct redd_port *port)
{
	struct redd_waited waited;
	uint64_t oldest;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	oldest = scene_stream(port, 1).oldest;
	cr_assert_eq(oldest, MEBI - LOG, "the log keeps its size in newest bytes");
	scene.c.patterned = scene.c.starts_anywhere = true;
	scene_subscribe(port, &scene.c);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	return oldest;
}

static void expect_gap(const struct collect_stream *s, uint64_t offset, uint64_t end,
		       enum redd_gap_cause cause)
{
	cr_assert_eq(s->n_gaps, 1);
	cr_expect_eq(s->gap[0].offset, offset, "gap from %llu",
		     (unsigned long long)s->gap[0].offset);
	cr_expect_eq(s->gap[0].end, end, "gap to %llu", (unsigned long long)s->gap[0].end);
	cr_expect_eq(s->gap[0].cause, cause);
}

Test(output, P1_what_the_log_has_lost_is_a_gap_with_its_exact_range)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI, "exec ", ""),
					.log_size = LOG };
	struct redd_port *port = scene_spawn(&o, NULL);
	uint64_t oldest = subscribe_behind_the_log(port);
	const struct collect_stream *s = collect_stream(&scene.c, 1);

	expect_gap(s, 0, oldest, REDD_GAP_BEFORE_LOG);
	cr_expect_eq(s->size, LOG);
	cr_expect_eq(s->end.total, MEBI);
	cr_expect_eq(s->end.gaps + s->end.seen, MEBI);
	scene_forget(port);
}

Test(output, P1_an_offset_behind_the_log_begins_with_a_gap_from_there)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI, "exec ", ""),
					.log_size = LOG };
	struct redd_port *port = scene_spawn(&o, NULL);
	const struct redd_stream_offset at = { 1, 12345 };
	uint64_t oldest;

	scene.c.watch.from = REDD_FROM_OFFSET;
	scene.c.watch.offsets = &at;
	scene.c.watch.n_offsets = 1;
	oldest = subscribe_behind_the_log(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->first, 12345);
	expect_gap(collect_stream(&scene.c, 1), 12345, oldest, REDD_GAP_BEFORE_LOG);
	scene_forget(port);
}

Test(output, P1_a_late_subscription_while_bytes_flow_misses_none)
{
	/* Each comes at another moment of the flow; all must see it from the oldest byte on. */
	struct collect c[8];
	struct redd_spawn_options o = { .shell = pattern_command(8 * MEBI, "exec ", ""),
					.hold_unread = true };
	struct redd_port *port = scene_spawn(&o, NULL);

	for (int i = 0; i < 8; i++) {
		collect_init(&c[i]);
		c[i].patterned = c[i].drop_data = true;
		c[i].watch.overflow = REDD_BLOCK;
		scene_subscribe(port, &c[i]);
		cr_assert_eq(
			collect_wait_bytes(&c[i], scene.r, 1, MEBI * (unsigned)(i + 1) / 2, WAIT),
			0);
	}
	for (int i = 0; i < 8; i++) {
		const struct collect_stream *s = collect_stream(&c[i], 1);

		cr_assert_eq(collect_wait(&c[i], scene.r, WAIT), 0);
		cr_expect_str_eq(c[i].wrong, "", "%d: %s", i, c[i].wrong);
		cr_expect_eq(s->end.total, 8 * MEBI);
		cr_expect_leq(s->n_gaps, 1);
		cr_expect(s->n_gaps == 0 || s->gap[0].cause == REDD_GAP_BEFORE_LOG);
		collect_deinit(&c[i]);
	}
	scene_forget(port);
}

/* --- unread ---------------------------------------------------------------------------------- */

Test(output, P1_a_port_that_holds_unread_output_waits_for_its_first_reader)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI, "exec ", ""),
					.log_size = LOG,
					.hold_unread = true };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct redd_stream_info info;

	scene_wait_held(port, 1);
	info = scene_stream(port, 1);
	cr_expect_eq(info.total, LOG);
	cr_expect_eq(info.oldest, 0);
	scene.c.patterned = scene.c.drop_data = true;
	scene_subscribe(port, &scene.c);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
	cr_assert_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	cr_assert_eq(collect_stream(&scene.c, 1)->end.seen, MEBI);
	scene_forget(port);
}

Test(output, P1_a_port_without_readers_runs_on_and_keeps_the_newest)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI, "exec ", ""),
					.log_size = LOG };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	cr_assert_eq(waited.streams[0].total, MEBI);
	cr_assert_eq(redd_exit_status(&waited.exit), 0);
	scene_forget(port);
}

/* --- unsubscribe ----------------------------------------------------------------------------- */

Test(output, P4_what_is_unsubscribed_ends_with_closed_and_the_port_goes_on)
{
	struct redd_port *port =
		spawn_steered("printf before; " BLOCKS "; printf after", 0, &scene.c);

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
	struct redd_port *port = spawn_steered(BLOCKS "; seq 1 20000", 0, &scene.c);
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
