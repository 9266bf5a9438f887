/* What was sent and not answered when a broker is killed: with the next one the child has it once
 * and in its place, or whoever sent it is told that nobody knows. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/death.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

static struct random dice;

/* Its log would be one line a death. */
static void begin(void)
{
	dice.state = (uint64_t)getpid() ^ (uint64_t)scene_now_ms();
	fprintf(stderr, "repeat: seed %llu\n", (unsigned long long)dice.state);
	death_begin();
}

TestSuite(repeat, .init = begin, .fini = scene_end, .timeout = 180);

/* --- tools ----------------------------------------------------------------------------------- */

/* A cat that reads when its descriptor 3 is closed. */
static struct redd_port *spawn_cat(struct redd_framing framing)
{
	const struct redd_descriptor inputs[] = {
		{ .fd = 0 },
		{ .fd = 3, .direction = REDD_INPUT },
	};
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = SCENE_WAIT "; exec cat",
					      .descriptors = inputs,
					      .n_descriptors = 2,
					      .framing = framing };

	scene.c.watch.framing.cut = REDD_RAW;
	return scene_spawn(&o, &scene.c);
}

/* Until so many are in the pipe: about when it is full, which depends on how its pages are used. */
static void fill_pipe(struct outcome *o, size_t n, int n_in_pipe)
{
	int n_done = 0;

	while (n_done < n_in_pipe) {
		cr_assert_eq(redd_run_once(scene.r, -1), 0);
		n_done = 0;
		for (size_t i = 0; i < n; i++)
			n_done += o[i].n;
	}
}

static void cat_ends(struct redd_port *port)
{
	cr_assert_eq(redd_close(port, REDD_STREAM_DEFAULT, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 30000), 0);
	cr_assert_str_eq(scene.c.wrong, "");
}

/* --- packets --------------------------------------------------------------------------------- */

Test(repeat, P9_packets_are_whole_whoever_dies)
{
	enum { N = 20, SIZE = 10000 };
	struct redd_port *port =
		spawn_cat((struct redd_framing){ .cut = REDD_PACKETS, .header = 4 });
	struct outcome o[N];
	static char data[SIZE];
	const char *got;

	memset(o, 0, sizeof(o));
	for (int i = 0; i < N; i++) {
		memset(data, 'a' + i, SIZE);
		cr_assert_eq(redd_write_start(port, data, SIZE, NULL, outcome_call(&o[i])), 0);
	}
	fill_pipe(o, N, 4);
	death_now();
	cr_assert_eq(redd_close(port, 3, NULL), 0, "%s", redd_last_error(scene.r)->message);
	cr_assert_eq(outcomes_wait(o, N, scene.r, 30000), 0);
	cat_ends(port);
	cr_assert_eq(collect_stream(&scene.c, 1)->size, N * (4 + SIZE));
	got = collect_text(&scene.c, 1);
	for (int i = 0; i < N; i++, got += 4 + SIZE) {
		cr_assert_eq(o[i].result, 0, "write %d", i);
		cr_assert_eq(memcmp(got, "\0\0\x27\x10", 4), 0, "header %d", i);
		cr_assert(got[4] == 'a' + i && !memcmp(got + 4, got + 5, SIZE - 1), "data %d", i);
	}
	scene_forget(port);
}

/* --- expect ---------------------------------------------------------------------------------- */

Test(repeat, P9_an_expect_writes_once)
{
	const struct redd_pattern never = { .text = "never" };
	const struct redd_expect_options o = { .size = sizeof(o),
					       .patterns = &never,
					       .n_patterns = 1,
					       .data = "pay 100\n",
					       .data_size = 8 };
	struct redd_port *port = spawn_cat((struct redd_framing){ 0 });
	struct outcome expect = { 0 };

	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(redd_expect_start(port, &o, -1, outcome_call(&expect)), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 8, 30000), 0);
	death_now();
	cr_assert_eq(outcome_wait(&expect, scene.r, 30000), 0);
	cr_expect_eq(expect.result, -ENOTCONN);
	cat_ends(port);
	cr_expect_str_eq(collect_text(&scene.c, 1), "pay 100\n");
	scene_forget(port);
}

Test(repeat, P13_an_expect_behind_its_spawn_goes_on)
{
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0 };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	const struct redd_pattern pattern = { .text = "hello" };
	const struct redd_expect_options begin_at = {
		.size = sizeof(begin_at), .patterns = &pattern, .n_patterns = 1, .has_from = true
	};
	struct outcome spawned = { 0 }, expect = { 0 };
	struct redd_port *port;

	cr_assert_eq(redd_spawn_start(scene.r, &o, &port, outcome_call(&spawned)), 0);
	cr_assert_eq(redd_expect_start(port, &begin_at, -1, outcome_call(&expect)), 0);
	cr_assert_eq(outcome_wait(&spawned, scene.r, 30000), 0);
	death_now();
	cr_assert_eq(redd_write(port, "hello\n", 6, NULL, NULL), 0);
	cr_assert_eq(outcome_wait(&expect, scene.r, 30000), 0);
	cr_expect_eq(expect.result, 0, "%s", redd_last_error(scene.r)->message);
	cr_assert_eq(redd_close(port, REDD_STREAM_DEFAULT, NULL), 0);
	scene_forget(port);
}

/* --- everything ------------------------------------------------------------------------------ */

#define OPS 60

/* Each writes its number so many times. */
static struct op {
	size_t size;
	bool is_expect, is_over, has_written;
	int result;
} ops[OPS];
static int n_over;

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct op *op = user;

	(void)r;
	op->is_over = true;
	op->result = result;
	op->has_written = result == 0 && (!op->is_expect || reply->matched->has_written);
	n_over++;
}

static void op_start(struct redd_port *port, struct op *op)
{
	static char data[20000];
	struct redd_call call = { .done = on_done, .user = op };
	struct redd_write_options how = { .size = sizeof(how), .no_wait = random_chance(&dice, 4) };
	struct redd_expect_options expect = { .size = sizeof(expect), .idle_ms = 1, .data = data };

	*op = (struct op){ .size = 1 + random_below(&dice, sizeof(data)),
			   .is_expect = random_chance(&dice, 8) };
	memset(data, 1 + (int)(op - ops), op->size);
	expect.data_size = op->size;
	if (random_chance(&dice, 12))
		cr_assert_eq(redd_inspect_start(port, NULL), 0);
	if (op->is_expect)
		cr_assert_eq(redd_expect_start(port, &expect, -1, &call), 0);
	else
		cr_assert_eq(redd_write_start(port, data, op->size, &how, &call), 0);
}

/* How many of them are in the child's input: what was answered, all; what was refused, none; what
 * is in doubt, or was over before it was written, some. And all in their order. */
static void judge_ops(void)
{
	const struct collect_stream *out = collect_stream(&scene.c, 1);
	size_t at = 0;

	for (int i = 0; i < OPS; i++) {
		const struct op *op = &ops[i];
		size_t n = 0;

		for (; out && at < out->size && out->data[at] == 1 + i; at++)
			n++;
		cr_assert_leq(n, op->size, "%d was written twice", i);
		if (op->has_written)
			cr_assert_eq(n, op->size, "%d has %zu of %zu", i, n, op->size);
		if (op->result == -EAGAIN)
			cr_assert_eq(n, 0, "%d was refused", i);
	}
	cr_assert_eq(at, out ? out->size : 0, "out of order");
}

Test(repeat, P9_whatever_was_under_way_is_in_the_input_once_or_in_doubt)
{
	unsigned rounds = place_rounds(16);

	for (unsigned round = 0; round < rounds; round++) {
		struct redd_port *port = spawn_cat((struct redd_framing){ 0 });
		int opens_at = (int)random_below(&dice, OPS);

		n_over = 0;
		for (int i = 0; i < OPS; i++) {
			op_start(port, &ops[i]);
			if (i == opens_at)
				cr_assert_eq(redd_close_start(port, 3, NULL), 0);
			if (random_chance(&dice, 3))
				cr_assert_eq(redd_run_once(scene.r, 1), 0);
			if (random_chance(&dice, OPS / 3))
				death_now();
		}
		death_now();
		while (n_over < OPS)
			cr_assert_eq(redd_run_once(scene.r, place_patience_ms(30000)), 0);
		cat_ends(port);
		judge_ops();
		scene_forget(port);
		collect_deinit(&scene.c);
		collect_init(&scene.c);
	}
}

/* --- one step --------------------------------------------------------------------------------- */

/* Whether the bytes of a small write are in the pipe is not known when its broker dies over it. */
Test(repeat, P13_a_write_that_its_broker_died_over_is_told_to_be_in_doubt)
{
	struct redd_port *port;
	struct outcome written;
	struct death death;

	death_needs_tracing();
	port = spawn_cat((struct redd_framing){ 0 });
	cr_assert_eq(redd_write(port, "a", 1, NULL, NULL), 0);
	death_at(&death, "writev", 1);
	cr_assert_eq(redd_write_start(port, "b", 1, NULL, outcome_call(&written)), 0);
	death_await(&death);
	cr_assert_eq(outcome_wait(&written, scene.r, 30000), 0);
	cr_expect_eq(written.code, REDD_DATA_LOSS, "%d", written.result);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cat_ends(port);
	cr_expect_str_eq(collect_text(&scene.c, 1), "a");
	scene_forget(port);
}
