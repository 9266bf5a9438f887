#include "broker/alarm.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/cleanup.h"
#include "tests/lib/countdown.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

#define BELLS 300

/* An alarm with what the test knows of it. */
struct bell {
	struct alarm alarm;
	bool is_set;
	uint64_t at_ms;
	unsigned n_rung;
	int again; /* sets itself anew for now, so many times */
	struct bell *sets, *stops;
};

static uv_loop_t loop;
static struct alarms alarms;
static struct bell bells[BELLS];
static uint64_t last_ms; /* at_ms of the one that rang last */
static char order[64];
static size_t n_order;

static void on_ring(struct alarm *a);

static void init(void)
{
	cr_assert_eq(uv_loop_init(&loop), 0);
	cr_assert_eq(alarms_init(&alarms, &loop), 0);
	for (int i = 0; i < BELLS; i++)
		alarm_init(&bells[i].alarm, on_ring);
}

static void fini(void)
{
	alarms_close(&alarms);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&loop), 0, "a handle is left open");
}

TestSuite(alarm, .timeout = 20, .init = init, .fini = fini);

static void set(struct bell *b, uint64_t delay_ms)
{
	cr_assert_eq(alarm_set(&alarms, &b->alarm, delay_ms), 0);
	b->is_set = true;
	b->at_ms = uv_now(&loop) + delay_ms;
}

static void stop(struct bell *b)
{
	alarm_stop(&alarms, &b->alarm);
	b->is_set = false;
}

static void on_ring(struct alarm *a)
{
	struct bell *b = container_of(a, struct bell, alarm);

	cr_assert(b->is_set, "bell %d rings and is not set", (int)(b - bells));
	cr_assert(!alarm_is_set(a));
	cr_assert_leq(b->at_ms, uv_now(&loop), "rings too early");
	cr_assert_geq(b->at_ms, last_ms, "one that was due later rang before");
	last_ms = b->at_ms;
	b->is_set = false;
	b->n_rung++;
	if (n_order < sizeof(order) - 1)
		order[n_order++] = (char)('a' + (b - bells) % 26);
	if (b->again && b->again--)
		set(b, 0);
	if (b->sets)
		set(b->sets, 0);
	if (b->stops)
		stop(b->stops);
}

/* The heap's own promises, and the model's: who is set is in it once. */
static void check(void)
{
	size_t n = 0;

	for (size_t i = 1; i <= alarms.n; i++) {
		cr_assert_eq(alarms.heap[i]->place, i);
		if (i > 1)
			cr_assert_leq(alarms.heap[i / 2]->at_ms, alarms.heap[i]->at_ms);
	}
	for (int i = 0; i < BELLS; i++) {
		cr_assert_eq(alarm_is_set(&bells[i].alarm), bells[i].is_set, "bell %d", i);
		if (bells[i].is_set)
			cr_assert_eq(bells[i].alarm.at_ms, bells[i].at_ms, "bell %d", i);
		n += bells[i].is_set;
	}
	cr_assert_eq(alarms.n, n);
}

/* Until none is set; the loop sleeps until the next one is due, so a timer that was forgotten is a
 * test that runs into its timeout. */
static void run_out(void)
{
	while (alarms.n)
		uv_run(&loop, UV_RUN_ONCE);
}

Test(alarm, rings_once_and_not_before_its_time)
{
	uint64_t begin;

	uv_update_time(&loop);
	begin = uv_hrtime();
	set(&bells[0], 30);
	run_out();
	cr_assert_eq(bells[0].n_rung, 1);
	cr_assert_geq(uv_hrtime() - begin, 28 * 1000000ull); /* uv_now() is cut to whole ms */
	check();
}

Test(alarm, sooner_ones_ring_first_whenever_they_were_set)
{
	set(&bells[2], 20);
	set(&bells[0], 0);
	set(&bells[1], 10);
	run_out();
	cr_assert_str_eq(order, "abc");
}

Test(alarm, of_those_due_at_once_the_one_set_first_rings_first)
{
	for (int i = 0; i < 9; i++)
		set(&bells[i], 5);
	run_out();
	cr_assert_str_eq(order, "abcdefghi");
}

Test(alarm, a_stopped_one_does_not_ring_and_may_be_stopped_again)
{
	stop(&bells[0]);
	set(&bells[0], 0);
	set(&bells[1], 0);
	stop(&bells[0]);
	stop(&bells[0]);
	run_out();
	cr_assert_eq(bells[0].n_rung, 0);
	cr_assert_eq(bells[1].n_rung, 1);
}

Test(alarm, set_again_it_is_moved_later_and_sooner)
{
	set(&bells[0], 0);
	set(&bells[0], 10);
	set(&bells[1], 3600 * 1000);
	set(&bells[1], 1);
	run_out();
	cr_assert_str_eq(order, "ba");
	cr_assert_eq(bells[0].n_rung, 1);
}

Test(alarm, one_that_sets_itself_for_now_rings_once_a_turn_and_starves_nobody)
{
	bells[0].again = 1000;
	for (int i = 0; i < 5; i++)
		set(&bells[i], 0);
	uv_run(&loop, UV_RUN_NOWAIT);
	cr_assert_str_eq(order, "abcde");
	check();
	while (bells[0].n_rung < 5) {
		unsigned before = bells[0].n_rung;

		uv_run(&loop, UV_RUN_NOWAIT);
		cr_assert_leq(bells[0].n_rung, before + 1);
	}
	bells[0].again = 0;
	stop(&bells[0]);
}

Test(alarm, while_one_rings_others_are_stopped_and_set)
{
	bells[0].stops = &bells[1];
	bells[2].sets = &bells[3];
	for (int i = 0; i < 3; i++)
		set(&bells[i], 0);
	uv_run(&loop, UV_RUN_NOWAIT);
	cr_assert_str_eq(order, "ac", "b was stopped, d waits for the next turn");
	check();
	run_out();
	cr_assert_str_eq(order, "acd");
}

Test(alarm, an_alarm_is_freed_when_it_was_stopped)
{
	struct alarm *a = malloc(sizeof(*a));

	alarm_init(a, on_ring);
	cr_assert_eq(alarm_set(&alarms, a, 0), 0);
	set(&bells[0], 0);
	alarm_stop(&alarms, a);
	free(a);
	run_out();
	cr_assert_eq(bells[0].n_rung, 1);
}

Test(alarm, random_sets_stops_and_moves_equal_the_model)
{
	uint64_t seed = 20260101;
	struct random r = { seed };

	for (unsigned step = 0; step < place_rounds(20000); step++) {
		struct bell *b = &bells[random_below(&r, BELLS)];

		switch (random_below(&r, 4)) {
		case 0:
			stop(b);
			break;
		case 1:
			set(b, random_below(&r, 8));
			break;
		default:
			set(b, random_number(&r) % 100000);
			break;
		}
		if (random_chance(&r, 50))
			uv_run(&loop, UV_RUN_NOWAIT);
		check();
		last_ms = 0; /* later sets may be due before what rang */
	}
	for (int i = 0; i < BELLS; i++)
		if (bells[i].is_set)
			set(&bells[i], random_below(&r, 20));
	run_out();
	check();
}

Test(alarm, any_of_very_many_is_stopped_without_a_search)
{
	enum { MANY = 50000 };
	struct alarm *many = calloc(MANY, sizeof(*many));
	size_t before;
	struct random r = { 7 };

	for (int i = 0; i < MANY; i++) {
		alarm_init(&many[i], on_ring);
		cr_assert_eq(alarm_set(&alarms, &many[i], 1 + random_below(&r, 100000)), 0);
	}
	before = alarms.n;
	for (int i = 0; i < MANY; i += 2)
		alarm_stop(&alarms, &many[i]);
	cr_assert_eq(before - alarms.n, MANY / 2);
	for (int i = 1; i < MANY; i += 2)
		alarm_stop(&alarms, &many[i]);
	cr_assert_eq(alarms.n, 0);
	free(many);
}

Test(alarm, without_memory_nothing_is_set_and_what_is_set_can_still_be_moved)
{
	int i = 0, r = 0;

	countdown_arm(COUNTDOWN_MALLOC, 2, ENOMEM); /* the first place is made, the next is not */
	for (; i < BELLS && r == 0; i++) {
		r = alarm_set(&alarms, &bells[i].alarm, 1000);
		bells[i].is_set = r == 0;
		bells[i].at_ms = uv_now(&loop) + 1000;
	}
	cr_assert(countdown_off());
	cr_assert_eq(r, -ENOMEM);
	check();
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	set(&bells[0], 500);
	cr_assert(!countdown_off());
	check();
	for (int k = 0; k < BELLS; k++)
		stop(&bells[k]);
}
