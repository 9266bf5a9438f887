/* Grants, doors and leases as libredd asks for them, and what it makes of lies. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "tests/lib/fake.h"

TestSuite(client_sharing, .timeout = 20);

static struct redd_port *port_of(struct fake *f, uint64_t id)
{
	struct redd_port *port;

	cr_assert_eq(redd_port_by_id(f->r, id, &port), 0);
	return port;
}

Test(client_sharing, a_grant_says_all_that_is_given)
{
	const uint32_t streams[] = { 1, 2 };
	struct redd_grant_options o = {
		.to = REDD_GRANT_GID,
		.number = 5,
		.rights = { .read = true, .block = true, .streams = streams, .n_streams = 2 },
		.duration_ms = 9
	};
	Redd__V1__Request *heard;
	struct fake f;

	fake_open(&f);
	fake_error(&f, 2, REDD__V1__CODE__PERMISSION_DENIED, EPERM, "not yours to give at all");
	cr_expect_eq(redd_grant(port_of(&f, 7), &o, NULL), -EPERM);
	heard = fake_heard(&f);
	cr_assert_eq(heard->body_case, REDD__V1__REQUEST__BODY_GRANT);
	cr_expect_eq(heard->grant->port->id, 7);
	cr_expect_eq(heard->grant->to, REDD__V1__GRANT_TO__GRANT_GID);
	cr_expect_eq(heard->grant->number, 5);
	cr_expect(heard->grant->rights->read && heard->grant->rights->block);
	cr_expect_not(heard->grant->rights->write || heard->grant->rights->manage);
	cr_assert_eq(heard->grant->rights->n_streams, 2);
	cr_expect_eq(heard->grant->rights->streams[1], 2);
	cr_expect_eq(heard->grant->duration_ms, 9);
	fake_close(&f);
}

Test(client_sharing, for_everyone_there_is_no_number)
{
	struct redd_grant_options o = { .to = REDD_GRANT_EVERYONE, .rights.see = true };
	struct fake f;

	fake_open(&f);
	cr_assert_eq(redd_grant_start(port_of(&f, 7), &o, NULL), 0);
	fake_settle(&f);
	cr_expect_not(fake_heard(&f)->grant->has_number);
	fake_close(&f);
}

Test(client_sharing, an_answer_without_its_door_is_a_lie)
{
	struct redd_delegate_options o = { .spawn = true, .rights.see = true };
	Redd__V1__Delegated delegated = REDD__V1__DELEGATED__INIT;
	Redd__V1__Message m = fake_reply(2, REDD__V1__MESSAGE__BODY_DELEGATED);
	struct redd_delegated door;
	struct fake f;

	fake_open(&f);
	m.delegated = &delegated;
	fake_say(&f, &m);
	cr_expect_eq(redd_delegate(f.r, &o, &door), -EPROTO);
	fake_close(&f);
}

Test(client_sharing, what_makes_no_sense_is_refused_here)
{
	struct redd_delegate_options o = { .rights.see = true };
	struct redd_port *theirs, *many[REDD_DELEGATION_PORTS + 1];
	struct redd_delegated door;
	struct redd_waited waited;
	struct fake f, other;

	fake_open(&f);
	fake_open(&other);
	theirs = port_of(&other, 1);
	o.ports = &theirs;
	o.n_ports = 1;
	cr_expect_eq(redd_delegate(f.r, &o, &door), -EINVAL);
	for (size_t i = 0; i <= REDD_DELEGATION_PORTS; i++)
		many[i] = port_of(&f, 1);
	o.ports = many;
	o.n_ports = REDD_DELEGATION_PORTS + 1;
	cr_expect_eq(redd_delegate(f.r, &o, &door), -EINVAL);
	cr_expect_eq(redd_signal_labels(f.r, NULL, 0, 9, REDD_LEADER, NULL), -EINVAL);
	cr_expect_eq(redd_wait_labels(f.r, NULL, 0, REDD_UNTIL_EXITED, -1, &waited), -EINVAL);
	fake_settle(&f);
	cr_expect_null(fake_heard(&f), "nothing was sent");
	fake_close(&other);
	fake_close(&f);
}

Test(client_sharing, a_lease_that_ends_is_no_surprise)
{
	Redd__V1__Leased leased = REDD__V1__LEASED__INIT;
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	struct fake f;

	fake_open(&f);
	m.body_case = REDD__V1__MESSAGE__BODY_LEASED;
	m.leased = &leased;
	leased.has_cause = true;
	leased.cause = REDD__V1__LEASED__CAUSE__TAKEN;
	fake_say(&f, &m);
	fake_done(&f, 2);
	cr_expect_eq(redd_release(port_of(&f, 7), 3), 0);
	cr_expect_eq(fake_heard(&f)->release->to, 3);
	fake_close(&f);
}
