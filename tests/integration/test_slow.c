/* Readers that do not keep up: what block, drop and cancel do, exactly; credit of any size, down to
 * a byte at a time; and that who holds back is found and moved on.
 *
 * The way to be slow on purpose is credit: a subscription with MANUAL credit gets what was given
 * and then nothing, whatever the machine does.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/laggard.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

#define WAIT 30000

TestSuite(slow, .init = scene_begin, .fini = scene_end, .timeout = 60);

/* A mebibyte into the smallest log; the subscription stops behind LAGGARD_FIRST bytes. */
static struct redd_port *spawn_mebibyte(enum redd_overflow overflow, uint32_t stall_ms)
{
	const char *const argv[] = { place_prog("pattern"), "1048576", NULL };
	const struct redd_spawn_options o = { .argv = argv, .log_size = LAGGARD_LOG };

	laggard_watch(overflow, stall_ms);
	return scene_spawn(&o, &scene.c);
}

/* --- drop, cancel, block --------------------------------------------------------------------- */

Test(slow, P1_a_dropping_reader_is_told_exactly_what_it_missed)
{
	struct redd_port *port = spawn_mebibyte(REDD_DROP, 0);
	const struct collect_stream *s;

	scene_wait_closed(port);
	cr_assert_eq(scene.c.n_closed, 0);
	laggard_catch_up(port);
	s = collect_stream(&scene.c, 1);
	cr_assert_eq(s->n_gaps, 1, "a reader that stays away gets one gap, not many");
	laggard_expect_gap(&s->gap[0], LAGGARD_FIRST, LAGGARD_SIZE - LAGGARD_LOG, REDD_GAP_SLOW);
	cr_expect_eq(s->size, LAGGARD_FIRST + LAGGARD_LOG);
	cr_expect_eq(s->end.total, LAGGARD_SIZE);
	cr_expect_eq(s->end.seen + s->end.gaps, LAGGARD_SIZE);
	scene_forget(port);
}

Test(slow, P1_a_reader_that_asked_for_it_is_cancelled_when_it_is_overtaken)
{
	laggard_is_cancelled(spawn_mebibyte(REDD_CANCEL, 0));
}

Test(slow, P7_a_blocking_reader_holds_the_child_back_and_loses_nothing)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, 0);
	struct redd_ports *info;
	struct redd_waited waited;

	scene_wait_held(port, 1);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited), -ETIMEDOUT);
	cr_assert_eq(redd_inspect(port, &info), 0);
	cr_assert_eq(info->ports[0].n_subscriptions, 1);
	cr_expect(info->ports[0].subscriptions[0].blocking, "Inspect says who holds it back");
	cr_expect_eq(info->ports[0].subscriptions[0].lag, LAGGARD_LOG);
	cr_expect(info->ports[0].subscriptions[0].has_credit);
	cr_expect_eq(info->ports[0].subscriptions[0].credit, 0);
	redd_ports_free(info);
	cr_expect_eq(collect_stream(&scene.c, 1)->next, LAGGARD_FIRST);
	laggard_catch_up(port);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, LAGGARD_SIZE);
	scene_forget(port);
}

Test(slow, P7_when_the_blocking_reader_leaves_the_child_goes_on)
{
	laggard_leaves(spawn_mebibyte(REDD_BLOCK, 0));
}

Test(slow, P7_when_the_blocking_readers_client_is_gone_the_child_goes_on)
{
	const char *const argv[] = { place_prog("pattern"), "1048576", NULL };
	const struct redd_spawn_options o = { .argv = argv, .log_size = LAGGARD_LOG };
	struct redd *other = service_connect(&scene.service);
	struct redd_port *port, *theirs;
	struct redd_subscription *s;

	cr_assert_not_null(other);
	port = scene_spawn(&o, NULL);
	cr_assert_eq(redd_port_by_id(other, redd_port_id(port), &theirs), 0);
	scene.c.watch.overflow = REDD_BLOCK;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = 1;
	redd_subscribe(theirs, &scene.c.watch, &s); /* before, while or after it writes */
	redd_free(other);
	scene_wait_closed(port);
	scene_forget(port);
}

/* --- stalled --------------------------------------------------------------------------------- */

Test(slow, P7_a_blocking_reader_without_progress_is_moved_to_drop_and_told_so)
{
	laggard_is_moved_to_drop(spawn_mebibyte(REDD_BLOCK, 200));
}

Test(slow, P7_progress_keeps_a_blocking_reader_from_being_moved)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, (uint32_t)place_patience_ms(2000));

	/* A kibibyte at a time: many times slower than the child, but never without progress. */
	while (!scene.c.n_closed) {
		uint64_t before = collect_stream(&scene.c, 1)->next;

		cr_assert_eq(redd_credit(redd_port_subscription(port), 8192 + EVENT_CREDIT), 0);
		while (!scene.c.n_closed && collect_stream(&scene.c, 1)->next == before &&
		       before < LAGGARD_SIZE)
			cr_assert_eq(redd_run_once(scene.r, WAIT), 0);
		if (before == LAGGARD_SIZE)
			cr_assert_eq(redd_run_once(scene.r, WAIT), 0);
	}
	cr_assert_str_eq(scene.c.wrong, "");
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	scene_forget(port);
}

/* Two that block, one of them far behind and one close to it: when the first goes on, the second is
 * what holds the child back, and its time must run too. */
Test(slow, P7_of_two_blocking_readers_each_is_found_to_stall)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, 300);
	struct collect second;
	struct redd_subscription *s;

	collect_init(&second);
	second.patterned = true;
	second.watch = scene.c.watch;
	second.watch.handler.user = &second;
	second.watch.window = LAGGARD_FIRST + 500 + EVENT_CREDIT;
	cr_assert_eq(redd_subscribe(port, &second.watch, &s), 0);
	scene_wait_held(port, 1);
	cr_assert_eq(redd_credit(redd_port_subscription(port), 1ull << 40), 0);
	scene_wait_closed(port);
	cr_assert_eq(redd_credit(s, 1ull << 40), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_eq(collect_wait(&second, scene.r, WAIT), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_str_eq(second.wrong, "");
	cr_assert_eq(collect_stream(&second, 1)->n_gaps, 1);
	cr_expect_eq(collect_stream(&second, 1)->gap[0].cause, REDD_GAP_STALLED);
	collect_deinit(&second);
	scene_forget(port);
}

/* Its stdout is held back; what it is then told of stderr is progress, but not for ever. */
Test(slow, P7_a_reader_that_stalls_on_one_stream_is_moved_though_it_was_told_of_another)
{
	char command[512];
	const struct redd_descriptor steer = { .fd = 3,
					       .kind = REDD_PIPE,
					       .direction = REDD_INPUT };
	const struct redd_spawn_options o = {
		.shell = command, .descriptors = &steer, .n_descriptors = 1, .log_size = LAGGARD_LOG
	};
	struct redd_port *port;

	snprintf(command, sizeof(command), "(read x <&3; echo err >&2) & exec %s 1048576 2>&-",
		 place_prog("pattern"));
	scene.c.drop_data = true;
	scene.c.watch.overflow = REDD_BLOCK;
	scene.c.watch.stall_ms = 500;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = LAGGARD_FIRST + EVENT_CREDIT;
	port = scene_spawn(&o, &scene.c);
	scene_wait_held(port, 1);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	while (scene_stream(port, 2).total < 4)
		;
	cr_assert_eq(redd_credit(redd_port_subscription(port), 1 + EVENT_CREDIT), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 2, 1, WAIT), 0);
	scene_wait_closed(port);
	laggard_catch_up(port);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.total, LAGGARD_SIZE);
	cr_expect_eq(collect_stream(&scene.c, 1)->gap[0].cause, REDD_GAP_STALLED);
	scene_forget(port);
}

/* --- credit ---------------------------------------------------------------------------------- */

/* What the broker has spent of what it was given: each event costs its data and 64. */
static uint64_t spent(const struct collect *c)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < c->n_streams; i++) {
		const struct collect_stream *s = &c->streams[i];

		sum += s->end.seen && s->ended ? s->end.seen : s->next - s->first - s->gaps;
		sum += EVENT_CREDIT * (uint64_t)(s->n_outputs + s->n_gaps + s->ended);
	}
	return sum;
}

/* Gives credit at random, and never more than a few hundred bytes, until all was told. An event
 * must come whenever there is credit for one; none may come without. */
static void feed_with_crumbs(struct collect *c, struct redd_subscription *s, uint64_t given,
			     struct random *random)
{
	while (!c->n_closed) {
		uint64_t more = 1 + random_below(random, 1u << random_below(random, 10));

		if (given - spent(c) < EVENT_CREDIT + 1) {
			cr_assert_eq(redd_credit(s, more), 0);
			given += more;
			continue;
		}
		for (uint64_t before = spent(c); !c->n_closed && spent(c) == before;) {
			int64_t begin = scene_now_ms();

			cr_assert_eq(redd_run_once(scene.r, place_patience_ms(WAIT)), 0);
			cr_assert_lt(scene_now_ms() - begin, place_patience_ms(WAIT),
				     "nothing comes though there is credit for it");
		}
		cr_assert_leq(spent(c), given, "more came than was allowed");
	}
	cr_assert_str_eq(c->wrong, "");
	if (c->watch.overflow != REDD_CANCEL)
		cr_assert_eq(c->closed.cause, REDD_PORT_CLOSED);
}

static void crumbs_round(uint64_t seed)
{
	const char *const argv[] = { place_prog("pattern"), "90000", "7001", "1", "2", "7", NULL };
	const struct redd_descriptor seven = { .fd = 7, .kind = REDD_PIPE };
	struct redd_spawn_options o = {
		.argv = argv, .descriptors = &seven, .n_descriptors = 1, .log_size = LAGGARD_LOG
	};
	struct random random = { seed };
	struct redd_port *port;
	struct collect c;

	collect_init(&c);
	c.patterned = c.drop_data = true;
	c.watch.overflow = (enum redd_overflow)(REDD_BLOCK + random_below(&random, 3));
	c.watch.credit_mode = REDD_CREDIT_MANUAL;
	c.watch.window = 1 + random_below(&random, 200);
	port = scene_spawn(&o, &c);
	feed_with_crumbs(&c, redd_port_subscription(port), c.watch.window, &random);
	cr_assert(c.n_streams == 3 || c.closed.cause == REDD_TOO_SLOW);
	for (size_t i = 0; i < 3 && c.closed.cause == REDD_PORT_CLOSED; i++)
		cr_assert_eq(c.streams[i].end.total, 90000);
	for (size_t i = 0; i < 3 && c.watch.overflow == REDD_BLOCK; i++)
		cr_assert_eq(c.streams[i].end.seen, 90000);
	collect_deinit(&c);
	scene_forget(port);
}

Test(slow, P7_no_sequence_of_tiny_credits_wedges_or_is_overdrawn)
{
	for (uint64_t seed = 1; seed <= place_rounds(25); seed++) {
		fprintf(stderr, "crumbs: seed %llu\n", (unsigned long long)seed);
		crumbs_round(seed);
	}
}

Test(slow, P7_one_unread_subscription_does_not_stall_another_of_the_connection)
{
	struct redd_port *port = spawn_mebibyte(REDD_DROP, 0);
	struct collect other;

	collect_init(&other);
	cr_assert_eq(collect_prog(&other, scene.r, "pattern", "3000000", NULL), 0);
	cr_expect_str_eq(other.wrong, "");
	cr_expect_eq(collect_stream(&other, 1)->end.seen, 3000000);
	collect_deinit(&other);
	scene_wait_closed(port);
	laggard_catch_up(port);
	scene_forget(port);
}

Test(slow, P7_credit_without_measure_does_not_overflow)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, 0);

	for (int i = 0; i < 3; i++)
		cr_assert_eq(redd_credit(redd_port_subscription(port), UINT64_MAX), 0);
	laggard_catch_up(port);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, LAGGARD_SIZE);
	scene_forget(port);
}

Test(slow, P7_every_event_costs_its_minimum_of_credit)
{
	/* An event of one byte costs 65. */
	const char *const argv[] = { place_prog("say"), "0123456789", NULL };
	const struct redd_spawn_options o = { .argv = argv };
	const uint32_t one = 1;
	struct redd_port *port;

	scene.c.watch.streams = &one;
	scene.c.watch.n_streams = 1;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = EVENT_CREDIT; /* enough for an event, not for a byte of data */
	port = scene_spawn(&o, &scene.c);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT),
			       &(struct redd_waited){ 0 }),
		     0);
	cr_assert_eq(collect_stream(&scene.c, 1)->n_outputs, 0);
	for (unsigned i = 1; i <= 11; i++) {
		cr_assert_eq(redd_credit(redd_port_subscription(port), i == 1 ? 1 : 65), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, i, WAIT), 0);
		cr_assert_eq(collect_stream(&scene.c, 1)->next, i);
		cr_assert_eq(collect_stream(&scene.c, 1)->n_outputs, i);
	}
	laggard_catch_up(port);
	scene_forget(port);
}
