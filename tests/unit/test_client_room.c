/* Blocking calls that wait for room to send while the broker dies: what they name is named anew. A
 * thread is the next broker. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>

#include "tests/lib/comeback.h"
#include "tests/lib/fake.h"
#include "tests/lib/told.h"

TestSuite(client_room, .timeout = 30);

static struct fake f;

static Redd__V1__Request *wait_heard(void)
{
	Redd__V1__Request *m;

	while (!(m = fake_heard(&f)))
		poll(NULL, 0, 1);
	return m;
}

/* Makes room for a few, answers what is asked, and returns with the request that waited for it. */
static Redd__V1__Request *take_over(void)
{
	Redd__V1__Request *m;
	int n = 0;

	while (!fake_accept(&f))
		poll(NULL, 0, 1);
	fake_welcome_to(&f, wait_heard()->id, 0);
	for (;;) {
		m = wait_heard();
		if (m->body_case == REDD__V1__REQUEST__BODY_SUBSCRIBE)
			fake_subscribed(&f, m->id, 1, 7, 1, 0);
		else if (m->body_case != REDD__V1__REQUEST__BODY_PING)
			return m;
		else if (n++ < 10)
			fake_pong(&f, m->id);
	}
}

/* No more calls may wait. */
static void fill(void)
{
	while (redd_ping_start(f.r, NULL) == 0)
		fake_settle(&f);
}

static void on_spawned(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)user;
	cr_assert(result == 0 && reply);
	while (redd_ping_start(r, NULL) == 0)
		;
}

static uint64_t named; /* what the request named */

static void *hears_a_signal(void *unused)
{
	Redd__V1__Request *m = take_over();
	Redd__V1__Message answer = fake_reply(m->id, REDD__V1__MESSAGE__BODY_SIGNALLED);
	Redd__V1__Signalled signalled = REDD__V1__SIGNALLED__INIT;

	if (m->body_case == REDD__V1__REQUEST__BODY_SIGNAL &&
	    m->signal->port->by_case == REDD__V1__PORT_REF__BY_ID)
		named = m->signal->port->id;
	answer.signalled = &signalled;
	fake_say(&f, &answer);
	return unused;
}

Test(client_room, P13_a_port_whose_spawn_was_another_connections_is_named_by_its_id)
{
	static const char *const argv[] = { "x", NULL };
	const struct redd_spawn_options o = { .argv = argv };
	struct redd_call spawned = { .done = on_spawned };
	struct redd_port *port;
	pthread_t next;

	comeback_serve(&f, NULL);
	cr_assert_eq(redd_spawn_start(f.r, &o, &port, &spawned), 0);
	fake_settle(&f);
	fill();
	/* The answer makes room for one, which is taken at once; it is this broker's last. */
	fake_started(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_SPAWN)->id, 9, 0);
	fake_die(&f);
	cr_assert_eq(pthread_create(&next, NULL, hears_a_signal, NULL), 0);
	cr_assert_eq(redd_signal(port, 15, REDD_LEADER, NULL), 0);
	pthread_join(next, NULL);
	cr_assert_eq(named, 9);
	fake_close(&f);
}

static void *hears_an_unsubscribe(void *unused)
{
	Redd__V1__Request *m = take_over();

	if (m->body_case == REDD__V1__REQUEST__BODY_UNSUBSCRIBE)
		named = m->unsubscribe->subscription;
	fake_done(&f, m->id);
	return unused;
}

Test(client_room, P13_a_subscription_is_ended_by_the_number_that_it_has_then)
{
	struct redd_port *port;
	pthread_t next;

	comeback_serve(&f, NULL);
	port = comeback_spawn(&f, false);
	fill();
	while (fake_heard(&f))
		;
	fake_die(&f);
	cr_assert_eq(pthread_create(&next, NULL, hears_an_unsubscribe, NULL), 0);
	cr_assert_eq(redd_unsubscribe(redd_port_subscription(port)), 0);
	pthread_join(next, NULL);
	cr_assert_eq(named, 7);
	fake_close(&f);
}
