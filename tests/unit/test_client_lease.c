/* What a program hears of the end of its leases. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "tests/lib/comeback.h"
#include "tests/lib/fake.h"
#include "tests/lib/told.h"

static struct fake f;
static struct redd_port *port;

static void on_lease_end(struct redd *r, uint64_t of, uint64_t lease, enum redd_lease_end why,
			 void *user)
{
	(void)r;
	(void)user;
	told_note("%llu:%llu=%d ", (unsigned long long)of, (unsigned long long)lease, why);
}

static void say_leased(uint64_t reply_to, uint64_t lease, Redd__V1__Leased__Cause cause)
{
	Redd__V1__Message m = fake_reply(reply_to, REDD__V1__MESSAGE__BODY_LEASED);
	Redd__V1__Leased l = REDD__V1__LEASED__INIT;

	l.has_port = l.has_lease = l.has_cause = true;
	l.port = 4;
	l.lease = lease;
	l.cause = cause;
	m.leased = &l;
	fake_say(&f, &m);
}

static void take_lease(uint64_t lease)
{
	cr_assert_eq(redd_lease_start(port, NULL, NULL), 0);
	fake_settle(&f);
	say_leased(comeback_next(&f, REDD__V1__REQUEST__BODY_LEASE)->id, lease,
		   REDD__V1__LEASED__CAUSE__HELD);
	fake_settle(&f);
}

static void begin(void)
{
	comeback_serve(&f, NULL);
	redd_on_lease_end(f.r, on_lease_end, NULL);
	cr_assert_eq(redd_port_by_id(f.r, 4, &port), 0);
	take_lease(70);
}

static void end(void)
{
	fake_close(&f);
}

TestSuite(client_lease, .init = begin, .fini = end, .timeout = 30);

Test(client_lease, who_loses_it_hears_why)
{
	say_leased(0, 70, REDD__V1__LEASED__CAUSE__TAKEN);
	told_expect(&f, "4:70=2 ");
	take_lease(71);
	say_leased(0, 71, REDD__V1__LEASED__CAUSE__EXPIRED);
	told_expect(&f, "4:70=2 4:71=3 ");
}

/* Comes back to its session and asks; holder: whose lease it is then, 0: nobody's. */
static void come_back_to(uint64_t holder)
{
	Redd__V1__PortInfo port_info = REDD__V1__PORT_INFO__INIT;
	Redd__V1__LeaseInfo lease = REDD__V1__LEASE_INFO__INIT;
	Redd__V1__ClaimInfo claim = REDD__V1__CLAIM_INFO__INIT;
	Redd__V1__Request *request;
	Redd__V1__Message m;

	comeback_welcome(&f);
	fake_settle(&f);
	request = comeback_next(&f, REDD__V1__REQUEST__BODY_INSPECT);
	cr_expect_eq(request->inspect->port->id, 4);
	m = fake_reply(request->id, REDD__V1__MESSAGE__BODY_PORT_INFO);
	claim.has_lease = port_info.has_port = true;
	claim.lease = holder;
	port_info.port = 4;
	lease.holder = &claim;
	port_info.lease = holder ? &lease : NULL;
	m.port_info = &port_info;
	fake_say(&f, &m);
	fake_settle(&f);
}

Test(client_lease, P13_who_comes_back_to_his_session_has_it)
{
	come_back_to(70);
	told_expect(&f, "away back ");
	come_back_to(70);
	told_expect(&f, "away back away back ");
}

Test(client_lease, P13_who_comes_back_hears_that_it_ended_meanwhile)
{
	come_back_to(0);
	told_expect(&f, "away back 4:70=5 ");
	take_lease(71);
	come_back_to(72);
	told_expect(&f, "away back 4:70=5 away back 4:71=5 ");
	comeback_welcome(&f);
	fake_settle(&f);
	cr_expect_null(fake_heard(&f), "there is nothing to ask for");
}

Test(client_lease, P13_who_comes_back_hears_that_it_went_with_its_port)
{
	comeback_welcome(&f);
	fake_settle(&f);
	fake_error(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_INSPECT)->id,
		   REDD__V1__CODE__NOT_FOUND, 0, "no such port");
	told_expect(&f, "away back 4:70=5 ");
}

/* The second loss comes before the answer. */
Test(client_lease, P13_who_is_lost_again_asks_again)
{
	comeback_welcome(&f);
	fake_settle(&f);
	comeback_next(&f, REDD__V1__REQUEST__BODY_INSPECT);
	come_back_to(0);
	told_expect(&f, "away back away back 4:70=5 ");
}

static void come_back_without_session(void)
{
	fake_error(&f, fake_back(&f)->id, REDD__V1__CODE__NOT_FOUND, 0, "no such session");
	fake_settle(&f);
	fake_welcome_to(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_HELLO)->id, 0);
	fake_settle(&f);
}

Test(client_lease, P13_who_comes_back_too_late_hears_that_it_is_lost)
{
	struct redd_port *again;

	cr_assert_eq(redd_port_by_id(f.r, 4, &again), 0);
	come_back_without_session();
	told_expect(&f, "away back 4:70=5 ");
	come_back_without_session();
	told_expect(&f, "away back 4:70=5 away back ");
}

Test(client_lease, what_was_given_back_is_not_lost)
{
	struct redd_port *again;

	cr_assert_eq(redd_port_by_id(f.r, 4, &again), 0);
	cr_assert_eq(redd_release_start(again, 0, NULL), 0);
	fake_settle(&f);
	fake_done(&f, comeback_next(&f, REDD__V1__REQUEST__BODY_RELEASE)->id);
	fake_settle(&f);
	come_back_without_session();
	told_expect(&f, "away back ");
}

Test(client_lease, one_of_a_port_that_has_a_name_is_told_of_once)
{
	cr_assert_eq(redd_port_by_name(f.r, "p", &port), 0);
	take_lease(71);
	say_leased(0, 71, REDD__V1__LEASED__CAUSE__TAKEN);
	told_expect(&f, "4:71=2 ");
	come_back_without_session();
	told_expect(&f, "4:71=2 away back ");
	take_lease(72);
	come_back_without_session();
	told_expect(&f, "4:71=2 away back away back 4:72=5 ");
}

static void free_port(struct redd *r, uint64_t of, uint64_t lease, enum redd_lease_end why,
		      void *user)
{
	on_lease_end(r, of, lease, why, user);
	redd_port_free(TAKE(port));
}

Test(client_lease, a_callback_may_free_the_port)
{
	redd_on_lease_end(f.r, free_port, NULL);
	come_back_without_session();
	told_expect(&f, "away back 4:70=5 ");
}
