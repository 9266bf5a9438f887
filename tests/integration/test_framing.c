/* Records against a real broker: lines and packets out, packets in. How they are cut, whatever the
 * sizes, is in tests/unit/test_framing_model.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/packet.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define LOG  65536u /* the smallest log */
#define MEBI 1048576u
#define WAIT 30000
#define MOST 1500u /* of a packet of tests/progs/packets.c, but for its number */

TestSuite(framing, .init = scene_begin, .fini = scene_end, .timeout = 60);

static const struct redd_descriptor stdin_pipe = { .fd = 0, .kind = REDD_PIPE };

static struct redd_framing packets_of(uint32_t header)
{
	return (struct redd_framing){ .cut = REDD_PACKETS, .header = header };
}

static void expect_data(const struct collect *c, const void *data, size_t size)
{
	const struct collect_stream *s = collect_stream(c, 1);

	cr_assert_str_eq(c->wrong, "");
	cr_assert_eq(s->size, size, "%zu bytes, not %zu", s->size, size);
	cr_assert_arr_eq(collect_text(c, 1), data, size);
}

/* A command of the shell, read in one go. */
static void expect_cut(const char *command, struct redd_framing f, const void *data, size_t size)
{
	struct redd_spawn_options o = { .shell = command };
	struct collect c;

	collect_init(&c);
	c.marks = true;
	c.watch.framing = f;
	cr_assert_eq(collect_run(&c, scene.r, &o, WAIT), 0);
	expect_data(&c, data, size);
	collect_deinit(&c);
}

#define EXPECT_CUT(command, f, text) expect_cut(command, f, text, sizeof(text) - 1)

/* --- lines ----------------------------------------------------------------------------------- */

Test(framing, S36_lines_lose_their_newline_and_tell_how_they_end)
{
	const struct redd_framing lines = { .cut = REDD_LINES, .maximum = 8 };

	EXPECT_CUT("printf 'one\\n\\ntwo\\rthr\\r\\n\\0\\n'", lines, "one||two\rthr\r|\0|");
	EXPECT_CUT("printf '01234567\\n012345678\\n0123456789abcdefg\\nend'", lines,
		   "01234567|01234567/8|01234567/89abcdef/g|end$");
	EXPECT_CUT("printf '01234567'", lines, "01234567$");
	EXPECT_CUT("printf '\\n\\n'", lines, "||");
	EXPECT_CUT(":", lines, "");
}

Test(framing, S36_a_partial_line_waits_for_more)
{
	struct redd_port *port;
	struct collect raw;

	collect_init(&raw);
	scene.c.marks = true;
	scene.c.watch.framing.cut = REDD_LINES;
	port = scene_steered("printf par; " SCENE_WAIT "; printf 'tial\\nrest'", &scene.c);
	scene_subscribe(port, &raw);
	cr_assert_eq(collect_wait_bytes(&raw, scene.r, 1, 3, WAIT), 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_outputs, 0);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_eq(collect_wait(&raw, scene.r, WAIT), 0);
	expect_data(&scene.c, "partial|rest$", 13);
	cr_expect_str_eq(collect_text(&raw, 1), "partial\nrest");
	collect_deinit(&raw);
	scene_forget(port);
}

Test(framing, S36_a_line_without_end_passes_through_a_small_log)
{
	static const struct redd_framing framings[] = { { .cut = REDD_LINES, .maximum = 1u << 30 },
							{ .cut = REDD_LINES } };
	struct redd_spawn_options o = { .log_size = LOG };
	unsigned size = place_rounds(16) * 256 << 10;

	o.shell = scene_text("head -c %u /dev/zero; echo", size);
	for (int i = 0; i < 4; i++) {
		const struct collect_stream *s;
		struct collect c;

		collect_init(&c);
		c.drop_data = true;
		c.watch.framing = framings[i / 2];
		c.watch.overflow = i % 2 ? REDD_DROP : REDD_BLOCK;
		cr_assert_eq(collect_run(&c, scene.r, &o, WAIT), 0);
		s = collect_stream(&c, 1);
		cr_expect_str_eq(c.wrong, "");
		cr_expect_eq(s->end.total, size + 1);
		cr_expect(i % 2 || s->n_records == (i / 2 ? size / 65536 : 1), "%u records",
			  s->n_records);
		collect_deinit(&c);
	}
}

static const char *is_line(struct collect *c, const char *data, size_t size)
{
	char expected[16];

	if (!c->n_expected && size <= 8)
		c->n_expected = (unsigned)atoi(data);
	snprintf(expected, sizeof(expected), "%u", c->n_expected++);
	return size == strlen(expected) && !memcmp(data, expected, size) ? NULL : "not the next";
}

Test(framing, P1_lines_begin_behind_what_the_log_has_lost)
{
	static const enum redd_start starts[] = { REDD_FROM_BEGINNING, REDD_FROM_LAST_BYTES,
						  REDD_FROM_LAST_LINES };
	static const unsigned counts[] = { LOG / 6, 1001 / 6,
					   1001 }; /* newline included: 6 bytes */
	struct redd_spawn_options o = { .shell = "seq 1 50000", .log_size = LOG };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
	for (int i = 0; i < 3; i++) {
		struct collect c;

		collect_init(&c);
		c.starts_anywhere = true;
		c.on_record = is_line;
		c.watch.framing.cut = REDD_LINES;
		c.watch.from = starts[i];
		c.watch.count = 1001;
		scene_subscribe(port, &c);
		cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
		cr_expect_str_eq(c.wrong, "", "%d: %s", i, c.wrong);
		cr_expect_eq(c.n_expected, 50001);
		cr_expect_eq(collect_stream(&c, 1)->n_records, counts[i], "%d: %u lines", i,
			     collect_stream(&c, 1)->n_records);
		collect_deinit(&c);
	}
	scene_forget(port);
}

/* --- packets out ----------------------------------------------------------------------------- */

Test(framing, S35_many_in_one_read_and_one_in_many_are_the_same)
{
	EXPECT_CUT("printf '\\2hi\\0\\5there\\0\\1!'", packets_of(1), "hi||there||!|");
	EXPECT_CUT("printf '\\0\\2hi\\0\\0\\0\\5the'", packets_of(2), "hi||the$");
	EXPECT_CUT("printf '\\0\\0\\0\\2hi\\0\\0\\0'", packets_of(4), "hi|$");
}

Test(framing, S35_a_header_and_its_body_come_byte_by_byte)
{
	static const char *const pieces[] = {
		"\\0", "\\0\\0", "\\3a", "b", "c\\0\\0\\0\\0", "\\0"
	};
	const struct redd_write_options next = { .other_stream = true,
						 .stream = 3,
						 .header = REDD_HEADER_NONE };
	struct redd_port *port;
	uint64_t total = 0;
	struct collect raw;

	collect_init(&raw);
	scene.c.marks = true;
	scene.c.watch.framing = packets_of(4);
	port = scene_steered("while read x <&3; do printf \"$x\"; done", &scene.c);
	raw.watch.framing.cut = REDD_RAW;
	scene_subscribe(port, &raw);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		/* read(1) of the shell takes one backslash away. */
		const char *line = scene_text("%s\n", pieces[i]);
		char doubled[64];
		size_t n = 0;

		for (; *line; line++) {
			if (*line == '\\')
				doubled[n++] = '\\';
			doubled[n++] = *line;
		}
		cr_assert_eq(redd_write(port, doubled, n, &next, NULL), 0);
		total += i == 1 ? 2 : i == 2 ? 2 : i == 4 ? 5 : 1;
		cr_assert_eq(collect_wait_bytes(&raw, scene.r, 1, total, WAIT), 0);
		cr_assert_eq(collect_stream(&scene.c, 1)->n_outputs, i > 4 ? 2 : i > 3 ? 2 : 0);
	}
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	expect_data(&scene.c, "abc||$", 6);
	collect_deinit(&raw);
	scene_forget(port);
}

Test(framing, S40_a_header_that_is_none_ends_that_subscription_alone)
{
	struct redd_spawn_options o = { .shell = "printf '\\0\\2hi\\0\\0GET / HTTP'; exit 3" };
	struct redd_port *port;
	struct collect raw;

	collect_init(&raw);
	scene.c.marks = true;
	scene.c.watch.framing = (struct redd_framing){ REDD_PACKETS, 1000, 2 };
	scene.c.watch.streams = (const uint32_t[]){ 1 };
	scene.c.watch.n_streams = 1;
	port = scene_spawn(&o, &scene.c);
	scene_subscribe(port, &raw);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_eq(collect_wait(&raw, scene.r, WAIT), 0);
	expect_data(&scene.c, "hi||", 4);
	cr_expect_eq(scene.c.closed.cause, REDD_BAD_RECORD);
	cr_expect_eq(scene.c.closed.bad_stream, 1);
	cr_expect_eq(scene.c.closed.bad_offset, 6);
	cr_expect_eq(collect_stream(&raw, 1)->end.total, 16);
	cr_expect_str_eq(raw.wrong, "");
	cr_expect_eq(redd_exit_status(&raw.exit), 3);
	collect_deinit(&raw);
	scene_forget(port);
}

Test(framing, S34_a_packet_larger_than_the_log_passes_through_it)
{
	struct redd_spawn_options o = { .log_size = LOG };
	unsigned size = place_rounds(16) * 256 << 10;

	o.shell = scene_text("printf '\\0\\%03o\\0\\0'; head -c %u /dev/zero; "
			     "printf '\\0\\0\\0\\2ok'",
			     size >> 16, size);
	for (int i = 0; i < 2; i++) {
		const struct collect_stream *s;
		struct collect c;

		collect_init(&c);
		c.drop_data = true;
		c.watch.framing = packets_of(4);
		c.watch.window = i ? 3000 : 0;
		cr_assert_eq(collect_run(&c, scene.r, &o, WAIT), 0);
		s = collect_stream(&c, 1);
		cr_expect_str_eq(c.wrong, "");
		cr_expect_eq(s->end.total, size + 10);
		cr_expect_eq(s->n_records, 2);
		cr_expect_geq(s->n_parts, size / (i ? 3000 : 65536) - 1);
		collect_deinit(&c);
	}
}

/* --- where packets begin --------------------------------------------------------------------- */

static const char *is_packet(struct collect *c, const char *data, size_t size)
{
	int n = packet_number(data, size, MOST);

	if (n < 0)
		return "not a whole packet";
	if (c->n_expected && c->n_expected != (unsigned)n)
		return "not the next packet";
	c->n_expected = (unsigned)n + 1;
	return NULL;
}

/* Behind a gap any packet may come. */
static void (*plain_gap)(struct redd_subscription *, const struct redd_gap *, void *);
static void gap_restarts(struct redd_subscription *s, const struct redd_gap *g, void *user)
{
	((struct collect *)user)->n_expected = 0;
	plain_gap(s, g, user);
}

static void expect_packets(struct collect *c)
{
	c->on_record = is_packet;
	c->starts_anywhere = true;
	plain_gap = c->watch.handler.on_gap;
	c->watch.handler.on_gap = gap_restarts;
}

static struct redd_port *spawn_packets(uint32_t header, unsigned count, struct redd_framing f,
				       struct collect *c)
{
	const char *const argv[] = { place_prog("packets"), scene_text("%u", header),
				     scene_text("%u", count), scene_text("%u", MOST), NULL };
	struct redd_spawn_options o = { .argv = argv, .log_size = LOG, .framing = f };

	return scene_spawn(&o, c);
}

static void wait_closed(struct redd_port *port)
{
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0);
}

Test(framing, P1_packets_of_a_port_that_declares_them_begin_behind_what_is_lost)
{
	static const enum redd_start starts[] = { REDD_FROM_BEGINNING, REDD_FROM_LAST_BYTES };
	struct redd_port *port = spawn_packets(2, 1000, packets_of(2), NULL);

	wait_closed(port);
	for (int i = 0; i < 2; i++) {
		const struct collect_stream *s;
		struct collect c;

		collect_init(&c);
		expect_packets(&c);
		c.watch.from = starts[i];
		c.watch.count = 20000;
		scene_subscribe(port, &c);
		cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
		cr_expect_str_eq(c.wrong, "", "%d: %s", i, c.wrong);
		cr_expect_eq(c.n_expected, 1000, "the last one came, whole");
		s = collect_stream(&c, 1);
		cr_expect(i ? s->n_gaps == 0 : s->n_gaps == 1 && s->gap[0].offset == 0);
		cr_expect_geq(s->end.seen, (i ? 20000 : LOG) - MOST - 512, "%llu",
			      (unsigned long long)s->end.seen);
		collect_deinit(&c);
	}
	scene_forget(port);
}

/* Credit comes so late that the log runs over. */
Test(framing, P1_a_slow_reader_of_packets_goes_on_with_a_whole_one)
{
	struct redd_subscription *s;
	struct redd_port *port;

	expect_packets(&scene.c);
	scene.c.watch.overflow = REDD_DROP;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 2000;
	port = spawn_packets(4, 1000, packets_of(4), &scene.c);
	s = redd_port_subscription(port);
	wait_closed(port);
	cr_assert_eq(redd_credit(s, 1u << 30), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(scene.c.n_expected, 1000);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 1);
	cr_expect_eq(collect_stream(&scene.c, 1)->gap[0].cause, REDD_GAP_SLOW);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_aborted, 1);
	scene_forget(port);
}

Test(framing, P15_packets_have_no_last_lines)
{
	struct redd_port *port = spawn_packets(2, 1000, packets_of(2), NULL);
	struct redd_subscribe_options o = { .from = REDD_FROM_LAST_LINES, .count = 1 };
	struct redd_subscription *s;

	wait_closed(port);
	cr_expect_eq(redd_subscribe(port, &o, &s), -EBADFD);
	cr_expect(strstr(redd_last_error(scene.r)->message, "no lines"), "%s",
		  redd_last_error(scene.r)->message);
	scene_forget(port);
}

Test(framing, P15_packets_that_nobody_noted_begin_only_where_a_client_says_so)
{
	struct redd_port *port = spawn_packets(2, 1000, (struct redd_framing){ 0 }, NULL);
	struct redd_stream_offset at = { 1, 0 };
	struct redd_subscription *s;
	struct collect c;

	wait_closed(port);
	for (int from = REDD_FROM_BEGINNING; from <= REDD_FROM_LAST_LINES; from++) {
		struct redd_subscribe_options o = { .framing = packets_of(2),
						    .from = (enum redd_start)from,
						    .count = 100,
						    .streams = &at.stream,
						    .n_streams = 1 };

		cr_expect_eq(redd_subscribe(port, &o, &s), -EBADFD, "from %d", from);
		cr_expect_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
	}
	for (unsigned n = 0; n < 980; n++)
		at.offset += 2 + packet_size(n, MOST);
	collect_init(&c);
	expect_packets(&c);
	c.watch.framing = packets_of(2);
	c.watch.from = REDD_FROM_OFFSET;
	c.watch.offsets = &at;
	c.watch.n_offsets = 1;
	c.watch.streams = &at.stream;
	c.watch.n_streams = 1;
	scene_subscribe(port, &c);
	cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
	cr_expect_str_eq(c.wrong, "");
	cr_expect_eq(collect_stream(&c, 1)->n_records, 20);
	collect_deinit(&c);
	scene_forget(port);
}

Test(framing, P1_three_subscriptions_see_one_stream_each_in_its_own_way)
{
	static const char said[] = "\0\3a\nb\0\1c";
	struct redd_spawn_options o = {
		.shell = "read x <&3; printf '\\0\\3a\\nb\\0\\1c'; echo e >&2",
		.descriptors = &(struct redd_descriptor){ .fd = 3, .direction = REDD_INPUT },
		.n_descriptors = 1,
		.framing = packets_of(2)
	};
	const enum redd_cut cuts[] = { REDD_CUT_DEFAULT, REDD_RAW, REDD_LINES };
	struct redd_ports *ports;
	struct redd_port *port = scene_spawn(&o, NULL);
	struct collect c[3];

	for (int i = 0; i < 3; i++) {
		collect_init(&c[i]);
		c[i].marks = true;
		c[i].watch.framing.cut = cuts[i];
		scene_subscribe(port, &c[i]);
	}
	cr_assert_eq(redd_inspect(port, &ports), 0);
	cr_expect_eq(ports->ports[0].framing.cut, REDD_PACKETS);
	cr_expect_eq(ports->ports[0].framing.header, 2);
	cr_expect_eq(ports->ports[0].framing.maximum, 65535);
	redd_ports_free(ports);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(collect_wait(&c[i], scene.r, WAIT), 0);
	expect_data(&c[0], "a\nb|c|", 6);
	expect_data(&c[1], said, 8);
	expect_data(&c[2], "\0\3a|b\0\1c$", 9);
	cr_expect_str_eq(collect_text(&c[0], 2), "e\n", "stderr is text, whatever the port speaks");
	for (int i = 0; i < 3; i++)
		collect_deinit(&c[i]);
	scene_forget(port);
}

/* --- packets in ------------------------------------------------------------------------------ */

/* Through a cat and back: what comes is what was sent, packet by packet. */
static void echo_packets(uint32_t header, const size_t *sizes, size_t n)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	struct redd_spawn_options o = { .argv = argv,
					.descriptors = &stdin_pipe,
					.n_descriptors = 1,
					.framing = packets_of(header) };
	size_t total = 0, used = 0, count = 0;
	struct redd_port *port;
	char *expected;
	struct collect c;

	for (size_t i = 0; i < n; i++)
		total += sizes[i] + 1;
	expected = malloc(total);
	cr_assert_not_null(expected);
	collect_init(&c);
	c.marks = true;
	port = scene_spawn(&o, &c);
	for (size_t i = 0; i < n; i++) {
		char *body = expected + used;

		if (header < 4 && sizes[i] >> 8 * header)
			continue;
		for (size_t k = 0; k < sizes[i]; k++)
			body[k] = (char)(k * 7 + i);
		cr_assert_eq(redd_write_start(port, body, sizes[i], NULL, NULL), 0);
		body[sizes[i]] = '|';
		used += sizes[i] + 1;
		count++;
		while (redd_queued(scene.r) > MEBI)
			cr_assert_eq(redd_run_once(scene.r, -1), 0);
	}
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&c, scene.r, WAIT), 0);
	cr_expect_eq(collect_stream(&c, 1)->n_records, count);
	expect_data(&c, expected, used);
	free(expected);
	collect_deinit(&c);
	scene_forget(port);
}

Test(framing, S34_S81_packets_around_every_power_of_two_come_back_as_they_went)
{
	static const size_t sizes[] = { 0,     1,     10,     15,    16,    17,	  31,	 32,
					33,    63,    64,     65,    127,   128,  129,	 254,
					255,   256,   257,    511,   512,   513,  1023,	 1024,
					1025,  2047,  2048,   4095,  4096,  4097, 8191,	 8192,
					8193,  0,     16384,  32767, 32768, 0,	  65535, 65536,
					65537, 70000, 131072, 0 };

	for (uint32_t header = 1; header <= 4; header *= 2)
		echo_packets(header, sizes, sizeof(sizes) / sizeof(sizes[0]));
}

Test(framing, S41_a_body_too_long_for_its_header_hurts_nobody)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	struct redd_spawn_options o = { .argv = argv,
					.descriptors = &stdin_pipe,
					.n_descriptors = 1,
					.framing = packets_of(1) };
	const struct redd_write_options plain = { .header = REDD_HEADER_NONE },
					again = { .at_offset = true, .offset = 256 },
					wider = { .header = 2 };
	static char body[256];
	struct redd_written w;
	struct redd_port *port;

	scene.c.watch.framing.cut = REDD_RAW;
	port = scene_spawn(&o, &scene.c);
	memset(body, 'x', sizeof(body));
	cr_expect_eq(redd_write(port, body, 256, NULL, NULL), -EMSGSIZE);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_INVALID_ARGUMENT);
	cr_assert_eq(redd_write(port, body, 255, NULL, &w), 0);
	cr_expect(w.offset == 0 && w.size == 256, "the header counts");
	for (int i = 0; i < 2; i++) { /* the second one is a repeat */
		cr_assert_eq(redd_write(port, "hi", 2, &again, &w), 0);
		cr_expect(w.offset == 256 && w.size == 3);
	}
	cr_expect_eq(redd_write_all(port, "x", 1, &wider, NULL), -EINVAL);
	cr_assert_eq(redd_write(port, "w", 1, &wider, &w), 0);
	cr_assert_eq(redd_write(port, "raw", 3, &plain, &w), 0);
	cr_expect(w.offset == 262 && w.size == 3);
	cr_assert_eq(redd_write_all(port, "all", 3, NULL, NULL), 0);
	cr_assert_eq(redd_write(port, "", 0, NULL, &w), 0);
	cr_expect(w.offset == 268 && w.size == 1, "an empty packet is one");
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->size, 269);
	cr_expect_arr_eq(collect_text(&scene.c, 1) + 255, "x\2hi\0\1wrawall", 14);
	scene_forget(port);
}

Test(framing, S41_a_packet_repeated_behind_the_close_is_answered_as_the_first_one)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	struct redd_spawn_options o = { .argv = argv,
					.descriptors = &stdin_pipe,
					.n_descriptors = 1,
					.framing = packets_of(4) };
	const struct redd_write_options first = { .at_offset = true, .offset = 0 },
					last = { .at_offset = true, .offset = 6, .close = true };
	struct redd_written w;
	struct redd_port *port;

	scene.c.watch.framing.cut = REDD_RAW;
	port = scene_spawn(&o, &scene.c);
	for (int i = 0; i < 2; i++) { /* the second ones are repeats */
		cr_assert_eq(redd_write(port, "hi", 2, &first, &w), 0);
		cr_expect(w.offset == 0 && w.size == 6, "%llu", (unsigned long long)w.size);
		cr_assert_eq(redd_write(port, "", 0, &last, &w), 0);
		cr_expect(w.offset == 6 && w.size == 4, "%llu", (unsigned long long)w.size);
	}
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->size, 10);
	scene_forget(port);
}
