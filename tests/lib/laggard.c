/* Owns nothing: the laggard is the scene's subscription. */
#include "tests/lib/laggard.h"

#include <criterion/criterion.h>

#include "proto/limits.h"
#include "tests/lib/scene.h"

void laggard_watch(enum redd_overflow overflow, uint32_t stall_ms)
{
	scene.c.patterned = true;
	scene.c.watch.overflow = overflow;
	scene.c.watch.stall_ms = stall_ms;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = LAGGARD_FIRST + EVENT_CREDIT;
}

void laggard_catch_up(struct redd_port *port)
{
	cr_assert_eq(redd_credit(redd_port_subscription(port), 1ull << 40), 0);
	scene_finish(&scene.c);
	cr_assert_eq(scene.c.closed.result, 0);
}

void laggard_expect_gap(const struct redd_gap *gap, uint64_t offset, uint64_t end,
			enum redd_gap_cause cause)
{
	cr_expect_eq(gap->offset, offset, "gap from %llu", (unsigned long long)gap->offset);
	cr_expect_eq(gap->end, end, "gap to %llu", (unsigned long long)gap->end);
	cr_expect_eq(gap->cause, cause, "gap for %d", (int)gap->cause);
}

/* --- whole cases ----------------------------------------------------------------------------- */

void laggard_is_cancelled(struct redd_port *port)
{
	scene_finish(&scene.c);
	cr_expect_eq(scene.c.closed.cause, REDD_TOO_SLOW);
	cr_expect_eq(collect_stream(&scene.c, 1)->next, LAGGARD_FIRST);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	scene_wait_closed(port);
	scene_forget(port);
}

void laggard_is_moved_to_drop(struct redd_port *port)
{
	const struct collect_stream *s;

	scene_wait_closed(port);
	laggard_catch_up(port);
	s = collect_stream(&scene.c, 1);
	cr_assert_eq(s->n_gaps, 1);
	laggard_expect_gap(&s->gap[0], LAGGARD_FIRST, LAGGARD_SIZE - LAGGARD_LOG, REDD_GAP_STALLED);
	scene_forget(port);
}

void laggard_leaves(struct redd_port *port)
{
	scene_wait_held(port, 1);
	redd_subscription_free(redd_port_subscription(port));
	scene_wait_closed(port);
	scene_forget(port);
}
