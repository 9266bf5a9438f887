/* P13: a door outlives the broker, with all that was said when it was made and with who came
 * through it; and it ends as it would have. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/lib/census.h"
#include "tests/lib/death.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

static struct redd_port *shared, *private;
static struct redd_delegated made;

static struct redd_port *hanging(const char *name, const char *label)
{
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_label labels[] = { { "job", label } };
	const struct redd_descriptor in = { .fd = 0 };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .name = name,
					      .labels = labels,
					      .n_labels = label ? 1 : 0,
					      .descriptors = &in,
					      .n_descriptors = 1 };

	return scene_spawn(&o, NULL);
}

static void begin(void)
{
	death_begin();
	shared = hanging("shared", "17");
	private = hanging("private", NULL);
	made.door = -1;
}

static void end(void)
{
	fd_close(made.door);
	scene_kill(shared);
	scene_kill(private);
	scene_end();
}

TestSuite(resume_doors, .init = begin, .fini = end, .timeout = 60);

static void make(const struct redd_delegate_options *o)
{
	cr_assert_eq(redd_delegate(scene.r, o, &made), 0, "%s", redd_last_error(scene.r)->message);
}

static void make_writer(uint64_t duration_ms, bool with_session)
{
	make(&(struct redd_delegate_options){ .ports = &shared,
					      .n_ports = 1,
					      .rights = { .write = true },
					      .duration_ms = duration_ms,
					      .with_session = with_session });
}

static int try_to_enter(struct redd *r)
{
	char socket[16];
	const struct redd_connect_options o = { .socket = socket };

	snprintf(socket, sizeof(socket), "fd:%d", made.door);
	return redd_connect(r, &o);
}

static struct redd *enter(void)
{
	struct redd *r = redd_new();

	cr_assert_eq(try_to_enter(r), 0, "%s", redd_last_error(r)->message);
	return r;
}

/* One that goes into a connection whose death is not known yet is in doubt. */
static int write_into(struct redd_port *port)
{
	int r = redd_write(port, "x", 1, NULL, NULL);

	return r == -ENOTCONN ? redd_write(port, "x", 1, NULL, NULL) : r;
}

static int write_to(struct redd *r, const char *name)
{
	struct redd_port *port;
	int e = redd_port_find(r, name, &port);

	if (e < 0)
		return e;
	e = write_into(port);
	redd_port_free(port);
	return e;
}

static void expect_its_rights(struct redd *r)
{
	struct redd_port *port;

	cr_expect_eq(write_to(r, "shared"), 0, "%s", redd_last_error(r)->message);
	cr_expect_eq(write_to(r, "private"), -ENOENT);
	cr_assert_eq(redd_port_find(r, "shared", &port), 0);
	cr_expect_eq(redd_signal(port, SIGTERM, REDD_LEADER, NULL), -EPERM);
	redd_port_free(port);
	cr_expect_lt(redd_shutdown(r, 0), 0);
	cr_expect_eq(redd_last_error(r)->code, REDD_PERMISSION_DENIED);
}

Test(resume_doors, P13_P14_who_came_through_is_back_with_the_same_rights)
{
	struct redd *inside, *later;

	make_writer(0, false);
	inside = enter();
	expect_its_rights(inside);
	for (unsigned i = 0; i < 3; i++) {
		death_now();
		expect_its_rights(inside);
		later = enter();
		expect_its_rights(later);
		redd_free(later);
	}
	redd_free(inside);
}

/* The keeper stands still, so nobody takes the dead one's place: the knock waits at the door. */
Test(resume_doors, P13_who_knocks_while_no_broker_runs_is_let_in)
{
	char socket[16];
	const struct redd_connect_options o = { .socket = socket };
	struct redd *inside = redd_new();
	struct outcome connected = { 0 };

	make_writer(0, false);
	snprintf(socket, sizeof(socket), "fd:%d", made.door);
	kill(scene.service.pid, SIGSTOP);
	death_now();
	cr_assert_eq(redd_connect_start(inside, &o, outcome_call(&connected)), 0);
	cr_assert_eq(redd_run_once(inside, 0), 0);
	kill(scene.service.pid, SIGCONT);
	cr_assert_eq(outcome_wait(&connected, inside, 20000), 0);
	cr_assert_eq(connected.result, 0, "%s", redd_last_error(inside)->message);
	expect_its_rights(inside);
	redd_free(inside);
}

Test(resume_doors, P13_P14_a_selector_is_followed_still)
{
	const struct redd_label any[] = { { "job", NULL } };
	struct redd_port *more;
	struct redd *inside;

	make(&(struct redd_delegate_options){
		.labels = any, .n_labels = 1, .rights = { .write = true } });
	inside = enter();
	death_now();
	expect_its_rights(inside);
	more = hanging("more", "18");
	cr_expect_eq(write_to(inside, "more"), 0);
	redd_free(inside);
	scene_kill(more);
}

/* What was spawned through it belongs to its sessions, in a lease as in life. */
Test(resume_doors, P13_what_was_spawned_through_it_has_its_owner_still)
{
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0 };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .name = "inner",
					      .descriptors = &in,
					      .n_descriptors = 1 };
	struct redd_port *port, *makers;
	struct redd_waited waited;
	struct redd *inside;

	make(&(struct redd_delegate_options){
		.rights = { .write = true, .signal = true, .manage = true }, .spawn = true });
	inside = enter();
	cr_assert_eq(redd_spawn(inside, &o, &port), 0, "%s", redd_last_error(inside)->message);
	cr_assert_eq(redd_lease(port, NULL, NULL), 0);
	cr_assert_eq(redd_port_by_id(scene.r, redd_port_id(port), &makers), 0);
	death_now();
	cr_expect_eq(write_into(makers), -EBUSY, "%s", redd_last_error(scene.r)->message);
	cr_expect_eq(write_into(port), 0, "%s", redd_last_error(inside)->message);
	cr_expect_eq(write_to(inside, "inner"), 0, "its name is the door's still");
	cr_expect_eq(write_to(inside, "shared"), -ENOENT);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_TREE, NULL), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 20000, &waited), 0);
	cr_expect_eq(redd_forget(port), 0, "%s", redd_last_error(inside)->message);
	redd_port_free(makers);
	redd_free(inside);
}

/* --- its beginning --------------------------------------------------------------------------- */

/* Whoever is told of a door has one that works. True: the broker died of it. */
static bool make_with_death_at(const char *call, unsigned nth)
{
	const struct redd_delegate_options o = { .ports = &shared,
						 .n_ports = 1,
						 .rights = { .write = true } };
	struct death death;
	bool died;
	int r;

	death_at(&death, call, nth);
	r = redd_delegate(scene.r, &o, &made);
	for (int i = 0; i < 10 && death_broker() == death.broker; i++)
		redd_run_once(scene.r, 20);
	cr_assert_eq(redd_ping(scene.r), 0);
	died = death_over(&death);
	cr_expect(r == 0 || (died && r == -ENOTCONN), "%s %u: %s", call, nth,
		  redd_last_error(scene.r)->message);
	if (r < 0)
		return died;
	if (died) {
		struct redd *inside = enter();

		expect_its_rights(inside);
		redd_free(inside);
	}
	made.door = fd_close(made.door);
	return died;
}

/* The keeper is told last that nobody has it any more. */
static void await_fds(pid_t pid, int n)
{
	int64_t until = scene_now_ms() + place_patience_ms(20000);

	while (census_fds(pid) > n && scene_now_ms() < until)
		redd_run_once(scene.r, 20);
	cr_expect_leq(census_fds(pid), n, "of a door that nobody has");
}

Test(resume_doors, P13_who_has_a_door_can_use_it_whatever_its_broker_died_of)
{
	static const char *const calls[] = {
		"socketpair", "memfd_create", "ftruncate", "pwrite64",
		"fcntl",      "sendmsg",      "close",	   "epoll_ctl"
	};
	int before = census_fds(scene.service.pid);

	death_needs_tracing();
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		for (unsigned nth = 1; nth < 8 && make_with_death_at(calls[i], nth); nth++)
			;
	await_fds(scene.service.pid, before);
}

/* --- its end --------------------------------------------------------------------------------- */

static void expect_ended(struct redd *inside)
{
	int64_t until = scene_now_ms() + place_patience_ms(20000);
	struct redd *late = redd_new();

	while (redd_run_once(inside, 100) == 0)
		cr_assert_lt(scene_now_ms(), until, "who came through is there still");
	redd_free(inside);
	while (try_to_enter(late) == 0) {
		redd_disconnect(late);
		cr_assert_lt(scene_now_ms(), until, "the door is open still");
	}
	redd_free(late);
}

Test(resume_doors, P13_P14_its_time_goes_on_while_no_broker_runs)
{
	uint64_t duration = (uint64_t)place_span_ms(1500);
	int64_t from = scene_now_ms();
	struct redd *inside;

	make_writer(duration, false);
	inside = enter();
	death_now();
	expect_its_rights(inside);
	expect_ended(inside);
	cr_expect_geq(scene_now_ms() - from, (int64_t)duration);
}

Test(resume_doors, P13_P14_its_maker_may_revoke_it_still)
{
	struct redd *inside;

	make_writer(0, false);
	inside = enter();
	death_now();
	expect_its_rights(inside);
	cr_expect_eq(redd_revoke_delegation(scene.r, made.delegation), 0, "%s",
		     redd_last_error(scene.r)->message);
	expect_ended(inside);
	death_now();
	cr_expect_eq(redd_ping(scene.r), 0);
	cr_expect_eq(redd_revoke_delegation(scene.r, made.delegation), -ENOENT, "it came back");
}

/* One that has nothing else is waited for, for the door's sake. */
Test(resume_doors, P13_one_that_ends_with_a_session_does_so)
{
	const struct redd_label any[] = { { "job", NULL } };
	const struct redd_delegate_options o = {
		.labels = any, .n_labels = 1, .rights = { .write = true }, .with_session = true
	};
	struct redd *maker = service_connect(&scene.service), *inside;

	cr_assert_eq(redd_delegate(maker, &o, &made), 0, "%s", redd_last_error(maker)->message);
	inside = enter();
	death_now();
	expect_its_rights(inside);
	cr_expect_eq(redd_ping(maker), 0);
	expect_its_rights(inside);
	redd_free(maker);
	expect_ended(inside);
}

Test(resume_doors, P13_one_whose_maker_does_not_come_back_is_closed)
{
	struct redd_connect_options once = { .socket = scene.service.socket, .no_reconnect = true };
	const struct redd_label any[] = { { "job", NULL } };
	const struct redd_delegate_options o = {
		.labels = any, .n_labels = 1, .rights = { .write = true }, .with_session = true
	};
	struct redd *maker = redd_new(), *inside;

	cr_assert_eq(redd_connect(maker, &once), 0);
	cr_assert_eq(redd_delegate(maker, &o, &made), 0, "%s", redd_last_error(maker)->message);
	inside = enter();
	death_now();
	cr_expect_eq(redd_ping(scene.r), 0, "the ports' owner is back");
	expect_its_rights(inside);
	expect_ended(inside);
	redd_free(maker);
}

Test(resume_doors, P11_one_that_nobody_has_any_more_leaves_nothing)
{
	struct redd *inside;

	make_writer(0, false);
	inside = enter();
	made.door = fd_close(made.door);
	death_now();
	expect_its_rights(inside); /* by a copy of the library's */
	redd_free(inside);
	make_writer(0, false);
	death_now();
	made.door = fd_close(made.door);
	cr_expect_eq(redd_ping(scene.r), 0);
}

/* Each costs keeper and broker two descriptors for a moment, and us one. */
static unsigned how_many(void)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	return (unsigned)MIN((rlim_t)DELEGATIONS_MAX, limit.rlim_cur / 4);
}

Test(resume_doors, P13_as_many_as_there_may_be_are_taken_up)
{
	static struct redd_delegated doors[DELEGATIONS_MAX];
	const struct redd_delegate_options o = { .rights = { .write = true }, .spawn = true };
	unsigned n = how_many();

	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(redd_delegate(scene.r, &o, &doors[i]), 0, "%u: %s", i,
			     redd_last_error(scene.r)->message);
	death_now();
	for (unsigned i = 0; i < n; i++) {
		made = doors[i];
		redd_free(enter());
		made.door = fd_close(made.door);
	}
}
