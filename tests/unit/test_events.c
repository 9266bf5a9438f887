#include "broker/events.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/lib/countdown.h"

static struct events *events;

static void init(void)
{
	cr_assert_eq(events_new(100, &events), 0);
}

static void fini(void)
{
	events_free(events);
}

TestSuite(events, .timeout = 20, .init = init, .fini = fini);

Test(events, numbers_rise_by_one_from_where_they_were_told_to)
{
	struct event event = { .what = EVENT_STARTED, .port = 7 };
	const struct event *got;

	cr_assert_eq(events_newest(events), 100);
	cr_assert_eq(events_oldest(events), 101);
	cr_assert_eq(events_get(events, 100, &got), EVENTS_E_GONE);
	cr_assert_eq(events_get(events, 101, &got), EVENTS_E_AHEAD);
	cr_assert_eq(events_add(events, &event), 101);
	cr_assert_eq(events_add(events, &event), 102);
	cr_assert_eq(events_newest(events), 102);
	cr_assert_eq(events_oldest(events), 101);
	cr_assert_eq(events_get(events, 102, &got), 0);
	cr_assert_eq(got->sequence, 102);
	cr_assert_eq(got->port, 7);
}

Test(events, the_newest_are_kept_and_older_ones_are_told_as_gone)
{
	struct event event = { .what = EVENT_CLOSED };
	const uint64_t n = 2 * EVENTS_KEPT + 5;
	const struct event *got;

	for (uint64_t i = 1; i <= n; i++) {
		event.port = i;
		events_add(events, &event);
	}
	cr_assert_eq(events_oldest(events), 100 + n - EVENTS_KEPT + 1);
	cr_assert_eq(events_get(events, events_oldest(events) - 1, &got), EVENTS_E_GONE);
	cr_assert_eq(events_get(events, 0, &got), EVENTS_E_GONE);
	cr_assert_eq(events_get(events, UINT64_MAX, &got), EVENTS_E_AHEAD);
	for (uint64_t s = events_oldest(events); s <= events_newest(events); s++) {
		cr_assert_eq(events_get(events, s, &got), 0);
		cr_assert_eq(got->sequence, s);
		cr_assert_eq(got->port, s - 100);
	}
}

Test(events, all_that_was_told_is_kept)
{
	struct event event = { .what = EVENT_CLOSED, .pid = 5, .n_holders = 2 };
	const struct event *got;

	strcpy(event.name, "web");
	event.holders[0] = 11;
	event.holders[1] = 12;
	event.exit.state = EXIT_STATE_SIGNAL;
	event.owner.uid = 1000;
	cr_assert_eq(events_get(events, events_add(events, &event), &got), 0);
	cr_assert_str_eq(got->name, "web");
	cr_assert_eq(got->holders[1], 12);
	cr_assert_eq(got->exit.state, EXIT_STATE_SIGNAL);
	cr_assert_eq(got->owner.uid, 1000);
}

Test(events, labels_live_as_long_as_an_event_that_has_them)
{
	const struct label pair = { "a", 1, "b", 1 };
	struct event event = { .what = EVENT_STARTED };
	const struct event *got;
	const char *reason;

	cr_assert_eq(labels_new(&pair, 1, &event.labels, &reason), 0);
	events_add(events, &event);
	event.labels = labels_unref(event.labels);
	cr_assert_eq(events_get(events, 101, &got), 0);
	cr_assert_str_eq(labels_get(got->labels, "a"), "b");
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		events_add(events, &event);
}

Test(events, want_of_memory_is_told)
{
	struct events *e;

	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(events_new(0, &e), -ENOMEM);
	cr_assert(countdown_off());
}
