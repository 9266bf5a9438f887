/* What a frame may cost the loop that serves everybody (P7): 5 ms of processor time, however it is
 * made. Measured on the broker itself, so that a busy machine does not matter, the least of several
 * rounds; and by a neighbour's round trips while such frames come without a pause. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/measure.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"
#include "tests/lib/text.h"
#include "tests/lib/wire.h"

#define ROOM	 (4u << 20)
#define MOST_MS	 5.0
#define GENEROUS 4 /* a slower machine than ours, and caches that others use too */
#define ROUNDS	 5

static struct service service;
static struct census census;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	cr_assert_eq(census_take(service.pid, &census), 0);
}

static void tear_down(void)
{
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(costs, .init = set_up, .fini = tear_down, .timeout = 120);

/* Each close to the largest frame, and legal or not. Programs do not exist, so that nothing is left
 * to be cleaned up. */
static const char *const frames[] = {
	"spawn { program: \"/no/such\" args*131000: \"\" }",
	"spawn { program: \"/no/such\" args*100000: \"word\" }",
	"spawn { program: \"/no/such\" args: \"x\"*1000000 }",
	"spawn { program: \"/no/such\" environment { set*45000: \"VARIABLE_#=#\" } }",
	"spawn { program: \"/no/such\" environment { from: CLIENT client*45000: \"VARIABLE_#=#\" } "
	"}",
	"spawn { program: \"/no/such\" environment { from: CLIENT client*30000: \"V#=#\" "
	"unset*30000: \"V#\" set*30000: \"V#=x\" } }",
	"spawn { program: \"/no/such\" environment { set*130000: \"A=\" } }",
	"spawn { program: \"x\" search_path: \":\"*1000000 }",
	"spawn { program: \"x\" search_path: \"/d:\"*300000 }",
	"spawn { program: \"x\" search_path: \"d\"*1000000 }",
	"spawn { program: \"/no/such\" token: \"t\" args*100000: \"word\" }",
	"spawn { program: \"/no/such\" groups*130000: 1 }",
	"spawn { program: \"/no/such\" descriptors*40000 { fd: 1 kind: KIND_PASSED } }",
	"spawn { program: \"/no/such\" descriptors*60000 { fd: 7 } }",
	"spawn { program: \"/no/such\" limits*60000 { name: \"core\" } }",
	"spawn { program: \"/no/such\" limits { name: \"n\"*1000000 soft: 1 } }",
	"spawn { program: \"/no/such\" labels*60000 { key: \"k#\" } }",
	"spawn { program: \"/no/such\" labels { key: \"k\" value: \"v\"*1000000 } }",
	"spawn { program: \"/no/such\" name: \"n\"*1000000 }",
	"spawn { program: \"/no/such\" subscribe { streams*130000: 1 } }",
	"spawn { program: \"/no/such\" subscribe { start { from: OFFSET offsets*60000 { } } } }",
	"subscribe { port { id: 1 } streams*130000: 1 }",
	"inspect { port { name: \"n\"*1000000 } }",
	"list { states*130000: RUNNING }",
	"list { labels*60000 { key: \"k#\" value: \"v\" } details: true }",
	"watch { labels*60000 { key: \"k#\" } }",
	"write { port { id: 1 } data: \"x\"*1000000 }",
	"ping { data: \"x\"*1000000 }",
	"cancel { request: 1 }",
	"stats { }",
	"list { details: true }",
};

static struct peer *greet(struct peer *p)
{
	ask_greet(p, service.socket);
	return p;
}

/* Milliseconds that one such frame costs, with its answer (or Bye). */
static double frame_cost(const struct buf *frame)
{
	struct peer p;
	Redd__V1__Message *m;
	double before = (greet(&p), measure_cpu_ms(census.broker));

	cr_assert_eq(peer_send(&p, buf_head(frame), buf_size(frame)), 0);
	cr_assert_eq(peer_recv(&p, 20000, &m), 0);
	peer_close(&p);
	return measure_cpu_ms(census.broker) - before;
}

static void cost_check(const char *what, const struct buf *frame)
{
	double least = 1e9;

	for (unsigned i = 0; i < place_rounds(ROUNDS); i++) {
		double ms = frame_cost(frame);

		least = ms < least ? ms : least;
	}
	cr_expect_lt(least, MOST_MS * GENEROUS * place_patience_ms(1), "%.100s: %.1f ms", what,
		     least);
	if (getenv("REDD_SHOW_COSTS"))
		fprintf(stderr, "%7.2f ms %8zu bytes %.90s\n", least, buf_size(frame), what);
}

Test(costs, P7_no_frame_costs_the_loop_more_than_five_milliseconds)
{
	if (measure_cpu_ms(census.broker) < 0)
		cr_skip_test("the kernel does not tell processor times (CONFIG_SCHED_INFO)");
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		struct buf frame;

		buf_init(&frame, ROOM);
		ask_pack(&frame, 7, frames[i]);
		cr_assert_leq(buf_size(&frame), FRAME_MAX_DEFAULT + FRAME_PREFIX_MAX, "%s",
			      frames[i]);
		cost_check(frames[i], &frame);
		buf_deinit(&frame);
	}
}

/* A body of `n` times the same bytes, behind an id, up to the largest frame. */
static void frame_fill(struct buf *out, const char *head, size_t head_size, const char *piece,
		       size_t size)
{
	size_t n = (FRAME_MAX_DEFAULT - head_size) / size;

	wire_varint(out, head_size + n * size);
	cr_assert_eq(buf_append(out, head, head_size), 0);
	while (n-- > 0)
		cr_assert_eq(buf_append(out, piece, size), 0);
}

static const struct {
	const char *what, *head, *piece;
	size_t head_size, size;
} bombs[] = {
	{ "ids", "", "\x08\x01", 0, 2 },
	{ "long ids", "", "\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00", 0, 11 },
	{ "hellos", "\x08\x01", "\x12\x00", 2, 2 },
	{ "unknown fields", "\x08\x01", "\xf8\x7f\x01", 2, 3 },
	{ "unknown long fields", "\x08\x01",
	  "\xfa\x7f\x40"
	  "0123456789012345678901234567890123456789"
	  "012345678901234567890123",
	  2, 67 },
	{ "empty arguments", "\x08\x01\x1a\xf8\xff\x3f", "\x12\x00", 6, 2 },
	{ "empty descriptors", "\x08\x01\x1a\xf8\xff\x3f", "\x4a\x00", 6, 2 },
	{ "environments", "\x08\x01\x1a\xf8\xff\x3f", "\x42\x00", 6, 2 },
	{ "packed groups", "\x08\x01\x1a\xf8\xff\x3f\x92\x01\xf2\xff\x3f", "\x01", 11, 1 },
	{ "packed states", "\x08\x01\x62\xf8\xff\x3f\x12\xf4\xff\x3f", "\x01", 10, 1 },
	{ "zeros", "", "\0", 0, 1 },
	{ "high bits", "", "\xff", 0, 1 },
};

Test(costs, P7_no_bomb_costs_the_loop_more_than_five_milliseconds)
{
	if (measure_cpu_ms(census.broker) < 0)
		cr_skip_test("the kernel does not tell processor times (CONFIG_SCHED_INFO)");
	for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
		struct buf frame;

		buf_init(&frame, ROOM);
		frame_fill(&frame, bombs[i].head, bombs[i].head_size, bombs[i].piece,
			   bombs[i].size);
		cost_check(bombs[i].what, &frame);
		buf_deinit(&frame);
	}
}

/* --- many of them ---------------------------------------------------------------------------- */

/* The whole list again and again from several clients that read their answers, until the neighbour
 * has had its share of round trips. */
static void flood(struct neighbour *n, const struct buf *all)
{
	enum { CLIENTS = 4 };
	struct peer peers[CLIENTS];
	unsigned long rounds = place_rounds(50);

	for (int i = 0; i < CLIENTS; i++)
		greet(&peers[i]);
	for (unsigned long i = 0; i < rounds; i++) {
		for (int j = 0; j < CLIENTS; j++)
			cr_assert_eq(peer_send(&peers[j], buf_head(all), buf_size(all)), 0);
		for (int j = 0; j < CLIENTS; j++)
			cr_assert_eq(ask_answer(&peers[j], 9)->reply_to, 9);
	}
	neighbour_wait(n, 1);
	for (int i = 0; i < CLIENTS; i++)
		peer_close(&peers[i]);
}

Test(costs, P7_a_flood_of_small_and_dear_requests_delays_nobody)
{
	static const char *const requests[] = {
		"list { details: true }",
		"stats { }",
		"inspect { port { name: \"nobody\" } }",
		"spawn { program: \"x\" search_path: \":\"*20000 }",
		"spawn { program: \"/no/such\" groups*20000: 1 }",
		"list { states*20000: RUNNING }",
	};
	struct neighbour neighbour;
	struct buf all;

	buf_init(&all, ROOM);
	for (int i = 0; i < 6; i++)
		for (int j = 0; j < 10; j++)
			ask_pack(&all, 5, requests[i]);
	ask_pack(&all, 9, "ping { }");
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
	flood(&neighbour, &all);
	buf_deinit(&all);
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
	cr_assert_lt(neighbour.middle_ms, place_patience_ms(100), "%.1f ms", neighbour.middle_ms);
}
