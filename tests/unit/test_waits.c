/* Waits by labels, of many clients: how many there may be, that a port's end is told to each, and
 * that looking through all of them takes no turn of the loop for itself. */
#include "broker/waits.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/pending.h"
#include "broker/req.h"
#include "proto/base/fd.h"
#include "tests/lib/alike.h"
#include "tests/lib/core.h"
#include "tests/lib/places.h"

#define CONNS (SELECTED_WAITS_PER_UID / CONN_SELECTED_WAITS)
#define PORTS 32

static struct core *core;
static struct conn *conns[CONNS + 1];
static int fds[CONNS + 1];

static void set_up(void)
{
	core = core_open();
	for (unsigned i = 0; i <= CONNS; i++)
		conns[i] = core_connect(core, &fds[i]);
}

static void tear_down(void)
{
	fd_close_many(fds, CONNS + 1);
	core_close(core);
}

TestSuite(waits, .init = set_up, .fini = tear_down, .timeout = 60);

static struct port *port_make(const char *last)
{
	struct port *p = core_port(core, conns[0], &(struct core_port){ 0 }, NULL);

	p->options.labels = alike_labels(last);
	return p;
}

static bool wait_for(struct conn *c, uint64_t id, const char *last)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Wait m = REDD__V1__WAIT__INIT;
	struct alike_selector selector;

	alike_selector(&selector, last);
	m.n_labels = LABELS_MAX;
	m.labels = selector.pointers;
	m.until = REDD__V1__WAIT__UNTIL__CLOSED;
	request.id = id;
	request.wait = &m;
	cr_assert_eq(req_wait(c, &request), 0);
	return pending_find(c, id);
}

static void wait_by_all(const char *last)
{
	for (unsigned i = 0; i < CONNS; i++)
		for (uint64_t id = 1; id <= CONN_SELECTED_WAITS; id++)
			cr_assert(wait_for(conns[i], id, last));
	cr_assert_eq(core->b.waits.n_selected, SELECTED_WAITS_PER_UID);
}

/* Its end is told to the broker, which has not looked at it yet. */
static void say_exited(struct port *p)
{
	struct link_exited m = { .head = { LINK_EXITED, sizeof(m) } };
	struct iovec iov = { &m, sizeof(m) };

	m.id = (struct link_spawn_id){ p->process.id, p->process.slot, p->process.attempt };
	cr_assert_eq(sendmsg(core->keeper, &(struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 }, 0),
		     (ssize_t)sizeof(m));
}

Test(waits, P15_there_are_so_many_of_a_connection_and_of_a_user)
{
	struct port *p = port_make("a");

	wait_by_all("a");
	cr_expect_not(wait_for(conns[0], 100, "a"), "of a connection");
	cr_expect_not(wait_for(conns[CONNS], 1, "a"), "of a user");
	cr_expect_geq(quota_used(conns[0]->uid_account, QUOTA_MEMORY),
		      SELECTED_WAITS_PER_UID * QUOTA_WEIGHT_WATCH);
	pending_free(pending_find(conns[0], 7));
	cr_expect(wait_for(conns[CONNS], 2, "a"), "one has gone");
	port_forget(p);
}

Test(waits, P15_for_one_port_there_are_so_many)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Wait m = REDD__V1__WAIT__INIT;
	Redd__V1__PortRef ref = REDD__V1__PORT_REF__INIT;
	struct port *p = port_make("a");

	ref.by_case = REDD__V1__PORT_REF__BY_ID;
	ref.id = p->id;
	m.port = &ref;
	request.wait = &m;
	for (unsigned i = 0; i <= PORT_WAITS_MAX; i++) {
		request.id = 1 + i / CONNS;
		cr_assert_eq(req_wait(conns[i % CONNS], &request), 0);
	}
	cr_expect_eq(p->n_waits, PORT_WAITS_MAX);
	say_exited(p);
	core_until(core, p->n_waits == 0);
	port_forget(p);
}

Test(waits, a_port_stays_until_all_have_been_told)
{
	struct port *p = port_make("a");

	wait_by_all("a");
	p->options.retention_ms = 0;
	say_exited(p);
	core_until(core, core->b.ports.n == 0);
	cr_expect_eq(core->b.waits.n_selected, 0);
	for (unsigned i = 0; i < CONNS; i++)
		cr_expect(list_is_empty(&conns[i]->pendings));
}

Test(waits, one_that_is_given_up_is_told_first)
{
	struct port *p = port_make("a");

	wait_by_all("a");
	port_set_state(p, PORT_DRAINING);
	p->has_exited = true;
	port_check(p);
	cr_assert(port_look_is_due(&p->look));
	cr_assert_eq(p->look.n_left, UINT_MAX, "nothing was looked at from within");
	port_forget(p);
	cr_expect_eq(core->b.waits.n_selected, 0);
}

/* All compare all labels with each port's, and only the last differs. */
Test(waits, P7_looking_through_many_takes_no_long_turn)
{
	struct port *p = port_make("a"), *others[PORTS];
	struct core_cost cost = { 0 };

	for (unsigned i = 0; i < PORTS; i++)
		others[i] = port_make("b");
	wait_by_all("a");
	for (unsigned i = 0; i < PORTS; i++)
		say_exited(others[i]);
	do
		core_cost_turn(&cost, core);
	while (!others[PORTS - 1]->has_exited || !list_is_empty(&core->b.waits.ports));
	cr_expect_lt(cost.worst, cost.all / 10, "a turn of %.1f ms, of %.1f in all", cost.worst,
		     cost.all);
	cr_expect_eq(core->b.waits.n_selected, SELECTED_WAITS_PER_UID, "one was told of another's");
	for (unsigned i = 0; i < PORTS; i++)
		port_forget(others[i]);
	say_exited(p);
	core_until(core, !core->b.waits.n_selected);
	port_forget(p);
}
