/* Bulk that gives way: who waits, for how long, and who does not. The loop never runs here, so its
 * time is what the test says it is, and the alarm rings when the test has come to it. */
#include "broker/yield.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"

#define PROCESSORS 4

static uv_loop_t loop;
static struct turn turn;
static struct alarms alarms;
static struct yield yield;
static int load_fd;

struct flow {
	struct yield_flow flow;
	struct job job;
	unsigned n_runs, n_waits;
};

static struct flow flows[2];

static void on_job(struct job *job)
{
	container_of(job, struct flow, job)->n_runs++;
}

/* So many processes want to run. */
static void say_load(unsigned n)
{
	char text[64];
	int size = snprintf(text, sizeof(text), "0.20 0.18 0.12 %u/80 11206\n", n);

	cr_assert_eq(ftruncate(load_fd, 0), 0);
	cr_assert_eq(pwrite(load_fd, text, (size_t)size, 0), size);
}

static void init(void)
{
	cr_assert_eq(uv_loop_init(&loop), 0);
	loop.time = 1000000;
	cr_assert_eq(turn_init(&turn, &loop), 0);
	cr_assert_eq(alarms_init(&alarms, &loop), 0);
	load_fd = memfd_create("load", MFD_CLOEXEC);
	cr_assert_geq(load_fd, 0);
	say_load(PROCESSORS);
	yield_init(&yield, &loop, &alarms, &turn);
	yield_start(&yield, load_fd, PROCESSORS);
	for (size_t i = 0; i < ARRAY_SIZE(flows); i++) {
		flows[i] = (struct flow){ 0 };
		job_init(&flows[i].job, on_job);
	}
}

static void fini(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(flows); i++)
		job_cancel(&flows[i].job);
	yield_end(&yield);
	turn_close(&turn);
	alarms_close(&alarms);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&loop), 0, "a handle is left open");
}

TestSuite(yield, .timeout = 10, .init = init, .fini = fini);

/* Its job's turn. True: it waits. */
static bool runs(struct flow *f, uint64_t bytes)
{
	if (yield_waits(&yield, &f->flow, &f->job)) {
		f->n_waits++;
		return true;
	}
	yield_moved(&yield, &f->flow, bytes);
	return false;
}

/* Whoever was let go has its turn. */
static void others_run(uint64_t bytes)
{
	for (size_t i = 0; i < ARRAY_SIZE(flows); i++) {
		bool is_due = job_waits(&flows[i].job) && list_is_empty(&yield.waiting);

		if (!is_due)
			continue;
		job_cancel(&flows[i].job);
		flows[i].n_runs++;
		runs(&flows[i], bytes);
	}
}

static void pass_ms(unsigned ms)
{
	while (ms--) {
		loop.time++;
		if (alarm_is_set(&yield.alarm) && yield.alarm.at_ms <= loop.time) {
			alarm_stop(&alarms, &yield.alarm);
			yield.alarm.ring(&yield.alarm);
		}
		others_run(YIELD_BYTES);
	}
}

static void make_bulk(struct flow *f)
{
	cr_assert(!runs(f, YIELD_BYTES));
	cr_assert(f->flow.is_bulk);
}

Test(yield, bulk_waits_for_a_spawn_as_long_as_its_window)
{
	make_bulk(&flows[0]);
	cr_expect(!runs(&flows[0], YIELD_BYTES), "nobody spawns");
	yield_to_spawn(&yield);
	cr_assert(runs(&flows[0], YIELD_BYTES));
	pass_ms(YIELD_WINDOW_MS - 1);
	cr_expect_eq(flows[0].n_runs, 0);
	pass_ms(1);
	cr_expect_eq(flows[0].n_runs, 1);
	cr_expect(!runs(&flows[0], YIELD_BYTES));
	cr_expect_eq(yield_held_ms(&yield), YIELD_WINDOW_MS);
}

Test(yield, who_moves_little_never_waits)
{
	yield_to_spawn(&yield);
	for (int i = 0; i < 1000; i++) {
		cr_assert(!runs(&flows[0], YIELD_BYTES / 20));
		pass_ms(1);
		yield_to_spawn(&yield);
	}
}

Test(yield, who_moved_much_and_then_little_waits_no_more)
{
	make_bulk(&flows[0]);
	pass_ms(YIELD_LOOK_MS);
	cr_assert(!runs(&flows[0], 1));
	pass_ms(YIELD_LOOK_MS);
	cr_assert(!runs(&flows[0], 1));
	yield_to_spawn(&yield);
	cr_expect(!runs(&flows[0], 1));
}

Test(yield, silence_is_not_bulk)
{
	make_bulk(&flows[0]);
	loop.time += YIELD_LOOK_MS + 1;
	yield_to_spawn(&yield);
	cr_expect(!runs(&flows[0], 1), "a prompt long after a flood");
	make_bulk(&flows[0]);
	cr_expect(runs(&flows[0], 1));
}

/* How little it moved while it was held back does not count. */
Test(yield, who_is_let_go_moves_once_however_little_that_is)
{
	make_bulk(&flows[0]);
	yield.wanted_until_ms = UINT64_MAX;
	cr_assert(runs(&flows[0], 0));
	for (unsigned step = 0; step < 5; step++) {
		loop.time += YIELD_STEP_MS;
		alarm_stop(&alarms, &yield.alarm);
		yield.alarm.ring(&yield.alarm);
		cr_assert(list_is_empty(&yield.waiting));
		job_cancel(&flows[0].job);
		cr_expect(!runs(&flows[0], 1), "it was let go");
		cr_expect(runs(&flows[0], 1), "and waits again");
	}
}

Test(yield, one_that_waits_may_be_let_go_alone)
{
	make_bulk(&flows[0]);
	make_bulk(&flows[1]);
	yield_to_spawn(&yield);
	cr_assert(runs(&flows[0], YIELD_BYTES) && runs(&flows[1], YIELD_BYTES));
	yield_hurry(&yield, &flows[0].flow, &flows[0].job);
	cr_expect_not(list_is_empty(&yield.waiting));
	job_cancel(&flows[0].job);
	cr_expect(!runs(&flows[0], YIELD_BYTES));
	yield_hurry(&yield, &flows[0].flow, &flows[0].job);
	cr_expect_not(job_waits(&flows[0].job), "it did not wait");
}

Test(yield, nobody_waits_while_a_processor_is_to_spare)
{
	make_bulk(&flows[0]);
	say_load(PROCESSORS - 1);
	yield_to_spawn(&yield);
	cr_expect(!runs(&flows[0], YIELD_BYTES));
	say_load(PROCESSORS);
	cr_expect(runs(&flows[0], YIELD_BYTES), "looked at once more");
}

Test(yield, nobody_waits_where_the_load_is_not_known)
{
	make_bulk(&flows[0]);
	yield_to_spawn(&yield);
	cr_assert_eq(ftruncate(load_fd, 0), 0);
	cr_expect(!runs(&flows[0], YIELD_BYTES), "empty");
	cr_assert_eq(pwrite(load_fd, "nonsense", 8, 0), 8);
	cr_expect(!runs(&flows[0], YIELD_BYTES), "nonsense");
	yield.load_fd = -1;
	cr_expect(!runs(&flows[0], YIELD_BYTES), "none");
	yield.load_fd = load_fd;
}

Test(yield, P7_each_moves_once_in_a_step)
{
	make_bulk(&flows[0]);
	make_bulk(&flows[1]);
	yield_to_spawn(&yield);
	cr_assert(runs(&flows[0], YIELD_BYTES) && runs(&flows[1], YIELD_BYTES));
	for (unsigned ms = 0; ms < 5 * YIELD_STEP_MS; ms++) {
		pass_ms(1);
		yield_to_spawn(&yield);
		/* Who moved has more at once. */
		for (int i = 0; i < 2; i++)
			if (!job_waits(&flows[i].job))
				cr_assert(runs(&flows[i], YIELD_BYTES));
	}
	for (int i = 0; i < 2; i++)
		cr_expect(flows[i].n_runs == 4 || flows[i].n_runs == 5, "%u", flows[i].n_runs);
}

/* Somebody spawns without end: how long is held back at a time, and in the long run. */
Test(yield, P7_it_waits_for_half_of_the_time_at_most)
{
	const unsigned all_ms = 100000;
	unsigned longest = 0, shortest = all_ms, held = 0;

	make_bulk(&flows[0]);
	for (unsigned ms = 0; ms < all_ms; ms++) {
		yield_to_spawn(&yield);
		if (!job_waits(&flows[0].job))
			runs(&flows[0], YIELD_BYTES);
		if (!yield.is_holding && held)
			shortest = MIN(shortest, held);
		held = yield.is_holding ? held + 1 : 0;
		longest = MAX(longest, held);
		pass_ms(1);
	}
	cr_expect_leq(longest, YIELD_MOST_MS, "%u", longest);
	cr_expect_geq(shortest, YIELD_LEAST_MS, "%u", shortest);
	cr_expect_leq(yield_held_ms(&yield), all_ms / YIELD_PART + YIELD_MOST_MS);
	cr_expect_geq(yield_held_ms(&yield), all_ms / YIELD_PART - YIELD_MOST_MS, "%llu",
		      (unsigned long long)yield_held_ms(&yield));
}

Test(yield, one_that_is_cancelled_while_it_waits_never_runs)
{
	make_bulk(&flows[0]);
	yield_to_spawn(&yield);
	cr_assert(runs(&flows[0], YIELD_BYTES));
	job_cancel(&flows[0].job);
	yield.wanted_until_ms = UINT64_MAX;
	pass_ms(2 * YIELD_STEP_MS);
	cr_expect_eq(flows[0].n_runs, 0);
	cr_expect(!yield.is_holding, "for nobody");
}

Test(yield, at_the_end_all_go_on_and_nobody_waits)
{
	make_bulk(&flows[0]);
	yield_to_spawn(&yield);
	cr_assert(runs(&flows[0], YIELD_BYTES));
	yield_end(&yield);
	others_run(YIELD_BYTES);
	cr_expect_eq(flows[0].n_runs, 1);
	yield_to_spawn(&yield);
	cr_expect(!runs(&flows[0], YIELD_BYTES));
}
