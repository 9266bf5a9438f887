/* P9: each Write is taken whole or refused whole, in the order of acceptance, never mixed with
 * another; its answer says where its bytes went. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/measure.h"
#include "tests/lib/outcome.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

TestSuite(input, .init = scene_begin, .fini = scene_end, .timeout = 60);

/* --- tools ----------------------------------------------------------------------------------- */

static const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };

/* One of tests/progs with a pipe as stdin. */
static struct redd_port *feed(const char *prog, struct redd_spawn_options o)
{
	const char *argv[] = { place_prog(prog), NULL };

	o.argv = argv;
	o.descriptors = &in;
	o.n_descriptors = 1;
	return scene_spawn(&o, &scene.c);
}

static int write_at(struct redd_port *port, const char *text, uint64_t offset,
		    struct redd_written *ret)
{
	const struct redd_write_options o = { .size = sizeof(o),
					      .at_offset = true,
					      .offset = offset };

	return redd_write(port, text, strlen(text), &o, ret);
}

static uint64_t queued(struct redd_port *port)
{
	return scene_stream(port, 0).queued;
}

/* More than any pipe takes, so that it stays queued before a child that does not read. */
static char block[256 * 1024];

/* --- many writers ---------------------------------------------------------------------------- */

#define WRITERS	   8
#define IN_FLIGHT  4
#define LARGEST	   30000
#define STAMP_SIZE 12

/* In front of each message: who, which, how long; then a pattern of its own. */
struct stamp {
	uint32_t writer, sequence, size;
};

struct writer {
	struct redd *r;
	struct redd_port *port;
	struct random random;
	uint32_t n_sent, n_answered;
	struct outcome outcomes[IN_FLIGHT];
	uint64_t *offsets; /* by sequence, as answered */
	uint32_t *sizes;
};

static void message_make(uint8_t *out, const struct stamp *s)
{
	memcpy(out, s, STAMP_SIZE);
	pattern_fill(out + STAMP_SIZE, s->size - STAMP_SIZE,
		     (uint64_t)s->writer << 40 | (uint64_t)s->sequence << 20);
}

static void writer_send(struct writer *w, uint32_t number)
{
	static uint8_t message[LARGEST + STAMP_SIZE];
	struct stamp s = { number, w->n_sent, 0 };
	uint64_t most = random_chance(&w->random, 4) ? LARGEST : 200;

	s.size = STAMP_SIZE + (uint32_t)random_below(&w->random, most);
	message_make(message, &s);
	w->sizes[w->n_sent] = s.size;
	cr_assert_eq(redd_write_start(w->port, message, s.size, NULL,
				      outcome_call(&w->outcomes[w->n_sent % IN_FLIGHT])),
		     0);
	w->n_sent++;
}

static void writer_take(struct writer *w)
{
	const struct outcome *o = &w->outcomes[w->n_answered % IN_FLIGHT];

	cr_assert_eq(o->result, 0, "%d", o->result);
	cr_assert_eq(o->reply.written.size, w->sizes[w->n_answered]);
	w->offsets[w->n_answered++] = o->reply.written.offset;
}

/* Keeps IN_FLIGHT writes under way until `rounds` are through. True when they are. */
static bool writer_turn(struct writer *w, uint32_t number, uint32_t rounds)
{
	while (w->n_answered < w->n_sent && w->outcomes[w->n_answered % IN_FLIGHT].n)
		writer_take(w);
	while (w->n_sent < rounds && w->n_sent - w->n_answered < IN_FLIGHT)
		writer_send(w, number);
	return w->n_answered == rounds;
}

static void writers_run(struct writer *w, uint32_t rounds)
{
	struct pollfd fds[WRITERS + 1];
	bool is_over = false;

	while (!is_over) {
		is_over = true;
		for (uint32_t i = 0; i < WRITERS; i++) {
			is_over &= writer_turn(&w[i], i, rounds);
			fds[i] = (struct pollfd){ redd_fd(w[i].r), redd_events(w[i].r), 0 };
		}
		fds[WRITERS] = (struct pollfd){ redd_fd(scene.r), redd_events(scene.r), 0 };
		if (is_over)
			break;
		cr_assert_gt(poll(fds, WRITERS + 1, place_patience_ms(20000)), 0);
		for (uint32_t i = 0; i < WRITERS; i++)
			cr_assert_eq(redd_dispatch(w[i].r), 0);
		cr_assert_eq(redd_dispatch(scene.r), 0);
	}
}

/* Every message stands where its answer said, whole, and each writer's in their order. */
static void messages_check(const struct writer *w, uint32_t rounds)
{
	const struct collect_stream *out = collect_stream(&scene.c, 1);
	uint32_t next[WRITERS] = { 0 };
	size_t at = 0;

	while (at < out->size) {
		struct stamp s;

		memcpy(&s, out->data + at, STAMP_SIZE);
		cr_assert_lt(s.writer, WRITERS, "at %zu stands no message", at);
		cr_assert_eq(s.sequence, next[s.writer]++);
		cr_assert_eq(w[s.writer].sizes[s.sequence], s.size);
		cr_assert_eq(w[s.writer].offsets[s.sequence], at);
		cr_assert_leq(at + s.size, out->size);
		cr_assert_eq(pattern_match((const uint8_t *)out->data + at + STAMP_SIZE,
					   s.size - STAMP_SIZE,
					   (uint64_t)s.writer << 40 | (uint64_t)s.sequence << 20),
			     s.size - STAMP_SIZE, "message %u of %u", s.sequence, s.writer);
		at += s.size;
	}
	for (int i = 0; i < WRITERS; i++)
		cr_expect_eq(next[i], rounds);
}

Test(input, P9_S42_writes_of_many_clients_never_mix)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	uint32_t rounds = place_rounds(2000);
	struct writer w[WRITERS] = { 0 };

	for (uint32_t i = 0; i < WRITERS; i++) {
		w[i].r = service_connect(&scene.service);
		cr_assert_not_null(w[i].r);
		cr_assert_eq(redd_port_by_id(w[i].r, redd_port_id(port), &w[i].port), 0);
		w[i].random.state = 7919 * (i + 1);
		w[i].offsets = calloc(rounds, sizeof(*w[i].offsets));
		w[i].sizes = calloc(rounds, sizeof(*w[i].sizes));
	}
	writers_run(w, rounds);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	messages_check(w, rounds);
	for (int i = 0; i < WRITERS; i++) {
		redd_free(w[i].r);
		free(w[i].offsets);
		free(w[i].sizes);
	}
	scene_forget(port);
}

Test(input, P9_pipelined_writes_follow_each_other)
{
	enum { N = 1000 };
	static struct outcome outcomes[N];
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	uint64_t total, next = 0;
	char text[32];

	for (int i = 0; i < N; i++) {
		int n = snprintf(text, sizeof(text), "%d\n", i);

		cr_assert_eq(
			redd_write_start(port, text, (size_t)n, NULL, outcome_call(&outcomes[i])),
			0);
	}
	cr_assert_eq(outcomes_wait(outcomes, N, scene.r, 20000), 0);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(outcomes[i].result, 0);
		cr_assert_eq(outcomes[i].reply.written.offset, next);
		cr_assert(outcomes[i].reply.written.exact);
		next += outcomes[i].reply.written.size;
	}
	cr_assert_eq(redd_close(port, 0, &total), 0);
	cr_expect_eq(total, next);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->size, next);
	scene_forget(port);
}

Test(input, P9_S12_a_spawn_its_writes_and_its_close_go_in_one_packet)
{
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_write_options last = { .size = sizeof(last), .close = true };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.descriptors = &in,
					.n_descriptors = 1,
					.subscribe = &scene.c.watch };
	struct outcome spawned, first, second, closed;
	struct redd_port *port;

	cr_assert_eq(redd_spawn_start(scene.r, &o, &port, outcome_call(&spawned)), 0);
	cr_assert_eq(redd_write_start(port, "one ", 4, NULL, outcome_call(&first)), 0);
	cr_assert_eq(redd_write_start(port, "two", 3, &last, outcome_call(&second)), 0);
	cr_assert_eq(redd_write_start(port, "late", 4, NULL, outcome_call(&closed)), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_str_eq(collect_text(&scene.c, 1), "one two");
	cr_expect_eq(spawned.result | first.result | second.result, 0);
	cr_expect_eq(second.reply.written.offset, 4);
	cr_expect_eq(closed.result, -EPIPE, "behind a close nothing is taken");
	scene_forget(port);
}

/* --- offsets --------------------------------------------------------------------------------- */

Test(input, P9_a_repeated_write_is_recognised_by_its_offset)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	struct redd *other = service_connect(&scene.service);
	struct redd_port *there;
	struct redd_written w;

	cr_assert_eq(redd_port_by_id(other, redd_port_id(port), &there), 0);
	for (int again = 0; again < 3; again++) {
		cr_assert_eq(write_at(port, "first ", 0, &w), 0);
		cr_expect_eq(w.offset, 0);
		cr_expect_eq(w.size, 6);
	}
	for (int again = 0; again < 3; again++) {
		cr_assert_eq(write_at(again ? there : port, "second", 6, &w), 0);
		cr_expect_eq(w.offset, 6);
		cr_expect_eq(w.size, 6);
	}
	cr_assert_eq(write_at(there, "first ", 0, &w), 0, "an older one is known too");
	cr_assert_eq(write_at(port, "rst se", 2, &w), 0, "and any part of what was written");
	redd_free(other);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "first second");
	scene_forget(port);
}

static void out_of_range(struct redd_port *port, const char *text, uint64_t offset)
{
	cr_expect_eq(write_at(port, text, offset, NULL), -ERANGE, "%llu",
		     (unsigned long long)offset);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_OUT_OF_RANGE);
}

Test(input, P9_a_write_at_a_wrong_offset_changes_nothing)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });

	out_of_range(port, "ahead", 1);
	cr_assert_eq(write_at(port, "12345", 0, NULL), 0);
	out_of_range(port, "ahead", 6);
	out_of_range(port, "far", UINT64_MAX - 3);
	out_of_range(port, "wraps around", UINT64_MAX);
	cr_assert_eq(write_at(port, "678", 5, NULL), 0);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "12345678");
	scene_forget(port);
}

/* A client whose connection was lost cannot know how much was taken, and need not. */
Test(input, P9_of_a_repeat_that_was_taken_in_part_only_the_rest_is_written)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	struct redd_written written;

	cr_assert_eq(write_at(port, "12345", 0, NULL), 0);
	cr_assert_eq(write_at(port, "45678", 3, &written), 0);
	cr_expect(written.offset == 3 && written.size == 5, "as if it had been the first");
	cr_assert_eq(write_at(port, "12345678", 0, &written), 0);
	cr_expect(written.offset == 0 && written.size == 8);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "12345678");
	cr_assert_eq(write_at(port, "678", 5, &written), 0, "closed, and known all the same");
	cr_expect_eq(written.offset, 5);
	scene_forget(port);
}

/* What waits is accepted too: repeated, it is answered when the first one is. */
Test(input, P9_a_write_that_waits_is_recognised_as_well)
{
	struct redd_port *port = feed("hang", (struct redd_spawn_options){ 0 });
	struct redd_write_options at = { .size = sizeof(at), .at_offset = true };
	struct outcome first, again, part, wrong;

	cr_assert_eq(redd_write_start(port, block, sizeof(block), &at, outcome_call(&first)), 0);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), &at, outcome_call(&again)), 0);
	at.offset = sizeof(block) - 10;
	cr_assert_eq(redd_write_start(port, block, 10, &at, outcome_call(&part)), 0);
	at.offset = sizeof(block) + 1;
	cr_assert_eq(redd_write_start(port, block, 11, &at, outcome_call(&wrong)), 0);
	cr_assert_eq(outcome_wait(&wrong, scene.r, 20000), 0);
	cr_expect_eq(wrong.result, -ERANGE);
	cr_expect_lt(queued(port), sizeof(block), "taken once, and a part is in the pipe");
	cr_expect_eq(first.n + again.n + part.n, 0, "they wait");
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	cr_assert_eq(outcome_wait(&first, scene.r, 20000), 0);
	cr_assert_eq(outcome_wait(&again, scene.r, 20000), 0);
	cr_assert_eq(outcome_wait(&part, scene.r, 20000), 0);
	cr_expect_eq(first.result, -EPIPE);
	cr_expect_eq(again.result, -EPIPE);
	cr_expect_eq(part.result, -EPIPE);
	scene_forget(port);
}

Test(input, P9_a_repeat_of_what_waits_is_answered_with_the_same_offset)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	struct redd_write_options at = { .size = sizeof(at), .at_offset = true, .offset = 2 };
	struct outcome first, again, part;

	cr_assert_eq(redd_write(port, "ab", 2, NULL, NULL), 0);
	cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), &at, outcome_call(&first)), 0);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), &at, outcome_call(&again)), 0);
	at.offset = 100;
	cr_assert_eq(redd_write_start(port, block, 1000, &at, outcome_call(&part)), 0);
	cr_assert_eq(redd_signal(port, SIGCONT, REDD_LEADER, NULL), 0);
	cr_assert_eq(outcome_wait(&first, scene.r, 20000), 0);
	cr_assert_eq(outcome_wait(&again, scene.r, 20000), 0);
	cr_assert_eq(outcome_wait(&part, scene.r, 20000), 0);
	cr_expect_eq(first.reply.written.offset, 2);
	cr_expect_eq(again.reply.written.offset, 2);
	cr_expect_eq(again.reply.written.size, sizeof(block));
	cr_expect_eq(part.reply.written.offset, 100);
	cr_expect_eq(part.reply.written.size, 1000);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->size, sizeof(block) + 2);
	scene_forget(port);
}

Test(input, P9_a_repeat_with_close_is_answered_as_the_first_one)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	struct redd_write_options o = { .size = sizeof(o), .at_offset = true, .close = true };
	struct redd_written w;

	cr_assert_eq(write_at(port, "abcd", 0, NULL), 0);
	cr_assert_eq(write_at(port, "efgh", 4, NULL), 0);
	cr_assert_eq(redd_write(port, "abcd", 4, &o, &w), 0);
	cr_expect_eq(w.offset, 0, "%llu", (unsigned long long)w.offset);
	cr_expect_eq(w.size, 4);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "abcdefgh");
	scene_forget(port);
}

/* --- bounds ---------------------------------------------------------------------------------- */

Test(input, P9_what_does_not_fit_is_refused_whole)
{
	struct redd_port *port = feed("hang", (struct redd_spawn_options){ 0 });
	struct outcome fits[4];
	struct outcome over;
	uint64_t before;

	cr_expect_eq(redd_port_input_window(port), 1 << 20);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(
			redd_write_start(port, block, sizeof(block), NULL, outcome_call(&fits[i])),
			0);
	before = queued(port);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, outcome_call(&over)), 0);
	cr_assert_eq(outcome_wait(&over, scene.r, 20000), 0);
	cr_expect_eq(over.result, -EAGAIN);
	cr_expect_eq(over.code, REDD_RESOURCE_EXHAUSTED);
	cr_expect_eq(queued(port), before, "nothing of it was taken");
	cr_expect_eq(fits[0].n + fits[1].n + fits[2].n + fits[3].n, 0);
	scene_kill(port);
}

Test(input, P9_an_empty_queue_takes_any_write)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ .input_bound = 10 });
	struct redd_written w;

	cr_expect_eq(redd_port_input_window(port), 10);
	cr_assert_eq(redd_write(port, block, sizeof(block), NULL, &w), 0);
	cr_expect_eq(w.size, sizeof(block));
	scene_kill(port);
}

Test(input, P9_S45_no_wait_is_refused_while_the_input_is_busy)
{
	struct redd_spawn_options marks = { .input_high = 100, .input_low = 50 };
	const struct redd_write_options no_wait = { .size = sizeof(no_wait), .no_wait = true };
	struct redd_port *port = feed("hang", marks);
	struct outcome fill, waits;

	cr_assert_eq(redd_write(port, "x", 1, &no_wait, NULL), 0, "the pipe took it");
	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, outcome_call(&fill)), 0);
	cr_expect_eq(redd_write(port, "x", 1, &no_wait, NULL), -EAGAIN);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_RESOURCE_EXHAUSTED);
	cr_expect(scene_stream(port, 0).busy);
	cr_assert_eq(redd_write_start(port, "x", 1, NULL, outcome_call(&waits)), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	cr_expect_eq(waits.n, 0, "without no_wait it waits");
	scene_kill(port);
}

Test(input, P9_a_port_that_reads_again_is_free_again)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	const struct redd_write_options no_wait = { .size = sizeof(no_wait), .no_wait = true };
	struct outcome fill[4];

	cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(
			redd_write_start(port, block, sizeof(block), NULL, outcome_call(&fill[i])),
			0);
	cr_expect_eq(redd_write(port, "x", 1, &no_wait, NULL), -EAGAIN);
	cr_assert_eq(redd_signal(port, SIGCONT, REDD_LEADER, NULL), 0);
	cr_assert_eq(outcomes_wait(fill, 4, scene.r, 20000), 0);
	cr_expect_eq(redd_write(port, "x", 1, &no_wait, NULL), 0);
	cr_expect_eq(queued(port), 0);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->size, 4 * sizeof(block) + 1);
	scene_forget(port);
}

Test(input, P9_a_waiting_write_holds_nothing_up_behind_it)
{
	struct redd_port *port = feed("hang", (struct redd_spawn_options){ 0 });
	struct outcome waits;
	double begin = measure_now();

	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, outcome_call(&waits)), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	cr_assert_eq(outcome_wait(&waits, scene.r, 20000), 0);
	cr_expect_eq(waits.result, -EPIPE);
	cr_expect_lt(measure_now() - begin, place_patience_ms(2000) / 1e3);
	scene_forget(port);
}

Test(input, P15_an_empty_write_is_answered_in_its_place)
{
	struct redd_port *port = feed("cat", (struct redd_spawn_options){ 0 });
	struct redd_written w;

	cr_assert_eq(redd_write(port, "abc", 3, NULL, NULL), 0);
	cr_assert_eq(redd_write(port, "", 0, NULL, &w), 0);
	cr_expect_eq(w.offset, 3);
	cr_expect_eq(w.size, 0);
	scene_kill(port);
}
