/* Subscriptions that come late: from the beginning, from now, from an offset, from the last bytes
 * or lines, while the port runs and after its end. What the log has lost by then is a gap with its
 * exact range, in its place (P1).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define LOG  65536u /* the smallest log */
#define MEBI 1048576u
#define WAIT 30000

static const char *pattern_command(uint64_t size)
{
	return scene_text("exec %s %llu", place_prog("pattern"), (unsigned long long)size);
}

TestSuite(late, .init = scene_begin, .fini = scene_end, .timeout = 60);

/* --- late subscriptions ---------------------------------------------------------------------- */

/* A port that has said 0123456789 and waits; "tail" comes when its descriptor 3 is closed. */
static struct redd_port *spawn_ten_and_wait(void)
{
	struct redd_port *port =
		scene_steered("printf 0123456789; " SCENE_WAIT "; printf tail", NULL);
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

Test(late, P1_a_late_subscription_from_the_beginning_gets_all)
{
	struct redd_port *port = spawn_ten_and_wait();

	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->first, 0);
	cr_assert_str_eq(collect_text(&scene.c, 1), "0123456789tail");
}

Test(late, P1_a_late_subscription_from_now_gets_what_comes)
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

Test(late, P1_a_late_subscription_starts_at_any_offset)
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

Test(late, P1_an_offset_ahead_of_the_stream_is_refused)
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

Test(late, P1_the_last_bytes_are_had)
{
	struct redd_port *port = spawn_ten_and_wait();

	scene.c.watch.from = REDD_FROM_LAST_BYTES;
	scene.c.watch.count = 4;
	scene_subscribe(port, &scene.c);
	finish(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->first, 6);
	cr_assert_str_eq(collect_text(&scene.c, 1), "6789tail");
}

Test(late, P1_more_last_bytes_than_there_are_is_all)
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

Test(late, P1_the_last_lines_are_had_after_the_end)
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

Test(late, P1_a_line_whose_newline_is_there_is_the_last_one)
{
	struct redd_port *port = scene_shell("printf 'one\\ntwo\\n'", &scene.c);

	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	expect_last_lines(port, 1, "two\n");
	expect_last_lines(port, 2, "one\ntwo\n");
	scene_forget(port);
}

Test(late, P1_after_the_end_every_start_works_and_the_end_is_told_again)
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

Test(late, P1_what_the_log_has_lost_is_a_gap_with_its_exact_range)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI), .log_size = LOG };
	struct redd_port *port = scene_spawn(&o, NULL);
	uint64_t oldest = subscribe_behind_the_log(port);
	const struct collect_stream *s = collect_stream(&scene.c, 1);

	expect_gap(s, 0, oldest, REDD_GAP_BEFORE_LOG);
	cr_expect_eq(s->size, LOG);
	cr_expect_eq(s->end.total, MEBI);
	cr_expect_eq(s->end.gaps + s->end.seen, MEBI);
	scene_forget(port);
}

Test(late, P1_an_offset_behind_the_log_begins_with_a_gap_from_there)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI), .log_size = LOG };
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

Test(late, P1_a_late_subscription_while_bytes_flow_misses_none)
{
	/* Each comes at another moment of the flow; all must see it from the oldest byte on. */
	struct collect c[8];
	struct redd_spawn_options o = { .shell = pattern_command(8 * MEBI), .hold_unread = true };
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

Test(late, P1_a_port_that_holds_unread_output_waits_for_its_first_reader)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI),
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

Test(late, P1_a_port_without_readers_runs_on_and_keeps_the_newest)
{
	struct redd_spawn_options o = { .shell = pattern_command(MEBI), .log_size = LOG };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	cr_assert_eq(waited.streams[0].total, MEBI);
	cr_assert_eq(redd_exit_status(&waited.exit), 0);
	scene_forget(port);
}
