/* Owns the strace that is to kill a broker, until death_await() or death_over(). */
#include "tests/lib/death.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

void death_begin_with(const char *const *args)
{
	const struct service_options o = { .quiet = true, .args = args };

	cr_assert_eq(service_start(&scene.service, &o), 0);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
	collect_init(&scene.c);
}

void death_begin(void)
{
	death_begin_with(NULL);
}

pid_t death_broker(void)
{
	pid_t pid;

	while (!(pid = census_child(scene.service.pid, "redd-broker")))
		;
	return pid;
}

pid_t death_now(void)
{
	pid_t pid = death_broker();

	cr_assert_eq(kill(pid, SIGKILL), 0);
	return pid;
}

void death_await_next(pid_t before)
{
	while (death_broker() == before)
		;
}

void death_needs_tracing(void)
{
	if (place_valgrind())
		cr_skip_test("a program under valgrind cannot be traced");
}

void death_at(struct death *d, const char *call, unsigned nth)
{
	d->broker = death_broker();
	cr_assert_eq(inject_start(&d->inject, d->broker,
				  scene_text("%s:signal=KILL:when=%u", call, nth)),
		     0);
}

void death_await(struct death *d)
{
	while (death_broker() == d->broker)
		cr_assert_geq(redd_run_once(scene.r, 10), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	death_over(d);
}

bool death_over(struct death *d)
{
	cr_assert_eq(inject_stop(&d->inject), 0);
	return death_broker() != d->broker;
}
