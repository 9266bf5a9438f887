/* P13: a lease outlives the broker: nobody else writes meanwhile, and it ends as it would have. */
#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

#include "tests/lib/death.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

static struct redd *other;
static struct redd_port *mine, *others; /* the port as scene.r and as the other one has it */

static void begin(void)
{
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0 };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .orphan = REDD_ORPHAN_KEEP,
					      .descriptors = &in,
					      .n_descriptors = 1 };

	death_begin();
	mine = scene_spawn(&o, NULL);
	other = service_connect(&scene.service);
	cr_assert_eq(redd_port_by_id(other, redd_port_id(mine), &others), 0);
}

static void end(void)
{
	redd_free(other);
	scene_kill(mine);
	scene_end();
}

TestSuite(resume_lease, .init = begin, .fini = end, .timeout = 60);

/* One that goes into a connection whose death is not known yet is in doubt, as others write, too.
 */
static int write_to(struct redd_port *port)
{
	int r = redd_write(port, "x", 1, NULL, NULL);

	return r == -ENOTCONN ? redd_write(port, "x", 1, NULL, NULL) : r;
}

Test(resume_lease, P13_its_holder_is_the_only_writer_still)
{
	uint64_t before, after;

	cr_assert_eq(redd_lease(mine, NULL, &before), 0);
	for (unsigned i = 0; i < 3; i++) {
		death_now();
		cr_expect_eq(write_to(others), -EBUSY, "%u: before its holder is back", i);
		cr_expect_eq(write_to(mine), 0, "%s", redd_last_error(scene.r)->message);
		cr_expect_eq(write_to(others), -EBUSY);
	}
	cr_expect_eq(redd_lease(mine, NULL, &after), 0);
	cr_expect_eq(after, before, "it is the same one");
	cr_expect_eq(redd_release(mine, 0), 0);
	cr_expect_eq(write_to(others), 0);
	death_now();
	cr_expect_eq(write_to(others), 0, "what was given back is not restored");
}

/* It has nothing to come back to but the lease. */
Test(resume_lease, P13_one_who_has_no_port_has_it_still)
{
	cr_assert_eq(redd_lease(others, NULL, NULL), 0);
	death_now();
	cr_expect_eq(write_to(mine), -EBUSY);
	cr_expect_eq(write_to(others), 0, "%s", redd_last_error(other)->message);
	cr_expect_eq(write_to(mine), -EBUSY);
	redd_free(other);
	other = NULL;
	cr_expect_eq(redd_lease(mine, &(struct redd_lease_options){ .wait = true }, NULL), 0);
	cr_expect_eq(write_to(mine), 0);
}

Test(resume_lease, P13_its_time_goes_on_while_no_broker_runs)
{
	const struct redd_lease_options o = { .duration_ms = (uint64_t)place_span_ms(1000) };
	const struct redd_lease_options turn = { .wait = true };
	struct outcome waits = { 0 };
	int64_t from = scene_now_ms();

	cr_assert_eq(redd_lease(mine, &o, NULL), 0);
	cr_assert_eq(redd_lease_start(others, &turn, outcome_call(&waits)), 0);
	cr_assert_geq(redd_run_once(other, 0), 0);
	death_now();
	cr_assert_eq(outcome_wait(&waits, other, 20000), 0);
	cr_expect_eq(waits.result, 0);
	cr_expect_geq(scene_now_ms() - from, (int64_t)o.duration_ms);
	cr_expect_eq(write_to(mine), -EBUSY);
	cr_expect_eq(write_to(others), 0);
}

static void on_lease_end(struct redd *r, uint64_t port, uint64_t lease, enum redd_lease_end why,
			 void *user)
{
	(void)r, (void)port, (void)lease;
	*(enum redd_lease_end *)user = why;
}

Test(resume_lease, P13_who_comes_back_hears_that_another_took_it)
{
	const struct redd_lease_options force = { .force = true };
	enum redd_lease_end why = 0;

	redd_on_lease_end(scene.r, on_lease_end, &why);
	cr_assert_eq(redd_lease(mine, NULL, NULL), 0);
	death_now();
	cr_assert_eq(redd_lease(others, &force, NULL), 0, "%s", redd_last_error(other)->message);
	cr_assert_eq(redd_ping(scene.r), 0);
	while (!why)
		cr_assert_eq(redd_run_once(scene.r, 100), 0);
	cr_expect_eq(why, REDD_LEASE_ABANDONED);
	cr_expect_eq(write_to(mine), -EBUSY);
	cr_expect_eq(redd_lease(mine, &force, NULL), 0);
	why = 0;
	death_now();
	cr_expect_eq(write_to(mine), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	cr_expect_eq(why, 0);
}

/* Others wait for it no longer than for any session, and in turn. */
Test(resume_lease, P13_a_holder_that_does_not_come_back_keeps_nobody)
{
	struct redd_connect_options once = { .socket = scene.service.socket, .no_reconnect = true };
	const struct redd_lease_options turn = { .wait = true };
	struct redd *holder = redd_new();
	struct redd_port *port;

	cr_assert_eq(redd_connect(holder, &once), 0);
	cr_assert_eq(redd_port_by_id(holder, redd_port_id(mine), &port), 0);
	cr_assert_eq(redd_lease(port, NULL, NULL), 0);
	death_now();
	cr_expect_eq(write_to(mine), -EBUSY);
	cr_expect_eq(redd_lease(mine, &turn, NULL), 0, "%s", redd_last_error(scene.r)->message);
	cr_expect_eq(write_to(mine), 0);
	cr_expect_eq(write_to(others), -EBUSY);
	redd_free(holder);
}
