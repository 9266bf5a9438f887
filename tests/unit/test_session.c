#include "broker/session.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "broker/conn.h"
#include "broker/delegation.h"
#include "broker/holding.h"
#include "broker/port.h"
#include "broker/rights.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"
#include "tests/lib/places.h"

static struct core *core;
static struct conn *conn;
static struct session *session;
static int client, spare[2]; /* client's ends */
static int child[8], n_child;

static void init(void)
{
	core = core_open();
	conn = core_connect(core, &client);
	cr_assert_eq(session_new(&session, &core->b, conn), 0);
	conn->session = session;
	spare[0] = spare[1] = -1;
}

static void fini(void)
{
	close(client);
	close(spare[0]);
	close(spare[1]);
	while (n_child)
		close(child[--n_child]);
	core_close(core);
}

TestSuite(session, .timeout = 20, .init = init, .fini = fini);

static struct port *port_with(enum port_orphan orphan, uint32_t orphan_ms)
{
	struct core_port o = {
		.has_input = true, .session = session, .orphan = orphan, .orphan_ms = orphan_ms
	};
	struct port *p = core_port(core, conn, &o, &child[n_child]);

	n_child++;
	return p;
}

static unsigned n_sessions(void)
{
	struct session *s;
	unsigned n = 0;

	list_for_each (s, &core->b.sessions, link)
		n++;
	return n;
}

static unsigned n_errands(void)
{
	struct list *l;
	unsigned n = 0;

	for (l = core->b.errands.next; l != &core->b.errands; l = l->next)
		n++;
	return n;
}

/* --- ids ------------------------------------------------------------------------------------- */

Test(session, P14_is_found_by_its_id_and_its_principal_only)
{
	struct principal other = conn->who;
	uint8_t id[SESSION_ID_SIZE];

	memcpy(id, session->id, sizeof(id));
	cr_assert_eq(session_find(&core->b, &conn->who, id, sizeof(id)), session);
	for (unsigned bit = 0; bit < 8 * sizeof(id); bit++) {
		id[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_null(session_find(&core->b, &conn->who, id, sizeof(id)));
		id[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t size = 0; size < sizeof(id); size++)
		cr_assert_null(session_find(&core->b, &conn->who, id, size));
	cr_assert_null(session_find(&core->b, &conn->who, id, sizeof(id) + 1));
	other.uid++;
	cr_assert_null(session_find(&core->b, &other, id, sizeof(id)));
	other = conn->who;
	other.listener = 1;
	cr_assert_null(session_find(&core->b, &other, id, sizeof(id)));
}

Test(session, ids_are_random)
{
	struct conn *next = core_connect(core, &spare[0]);
	struct session *s;

	cr_assert_eq(session_new(&s, &core->b, next), 0);
	next->session = s;
	cr_assert(memcmp(s->id, session->id, sizeof(s->id)));
}

Test(session, without_memory_there_is_none)
{
	struct session *s = NULL;

	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(session_new(&s, &core->b, conn), -ENOMEM);
	cr_assert(countdown_off());
	cr_assert_eq(n_sessions(), 1);
}

Test(session, one_of_an_earlier_broker_is_made_once_and_belongs_to_nobody_yet)
{
	uint8_t id[SESSION_ID_SIZE] = "0123456789abcde", nobody[SESSION_ID_SIZE] = { 0 };
	struct session *s = session_restore(&core->b, id, &conn->who);

	cr_assert_not_null(s);
	cr_assert_null(s->conn);
	cr_assert_eq(session_restore(&core->b, id, &conn->who), s);
	cr_assert_eq(session_find(&core->b, &conn->who, id, sizeof(id)), s);
	cr_assert_null(session_restore(&core->b, nobody, &conn->who));
	session_check(s); /* it has no port */
	cr_assert_eq(n_sessions(), 1);
}

static struct session *earlier_holder(struct port *p, uint64_t until_ms)
{
	uint8_t id[SESSION_ID_SIZE] = "0123456789abcde";
	struct session *s = session_restore(&core->b, id, &conn->who);

	holding_resume(p, s, 7, until_ms);
	return s;
}

Test(session, P13_one_of_an_earlier_broker_is_there_as_long_as_its_leases)
{
	struct port *a = port_with(PORT_ORPHAN_KEEP, 0), *b = port_with(PORT_ORPHAN_KEEP, 0);
	struct port *c = port_with(PORT_ORPHAN_KEEP, 0);
	struct session *s = earlier_holder(a, uv_now(&core->b.loop) + 20);

	earlier_holder(b, 0);
	earlier_holder(c, 0);
	cr_expect(!lease_admits(&a->lease, session) && !lease_admits(&b->lease, session));
	core_until(core, lease_admits(&a->lease, session));
	cr_expect_eq(n_sessions(), 2);
	holding_end(b, HOLDING_EXPIRED, NULL, true);
	cr_expect_eq(n_sessions(), 2);
	cr_expect_eq(c->holder, s);
	core_port_exit(core, c, 0);
	port_forget(c);
	cr_expect_eq(n_sessions(), 1);
}

Test(session, one_of_an_earlier_broker_whose_lease_is_taken_by_force_is_over)
{
	struct port *p = port_with(PORT_ORPHAN_KEEP, 0);

	earlier_holder(p, 0);
	holding_begin(p, session, 8, 0);
	cr_expect_eq(n_sessions(), 1);
	cr_expect(lease_admits(&p->lease, session));
}

Test(session, P13_who_comes_back_to_a_lease_has_it_to_its_end)
{
	struct port *p = port_with(PORT_ORPHAN_KEEP, 0);
	struct session *s = earlier_holder(p, 0);
	struct conn *next = core_connect(core, &spare[0]);

	session_attach(s, next);
	next->session = s;
	cr_expect(!alarm_is_set(&p->lease_end));
	conn_close(next);
	cr_expect_eq(n_sessions(), 1, "it had nothing else to come back to");
	cr_expect(lease_admits(&p->lease, session));
}

/* --- who came through a door ----------------------------------------------------------------- */

static struct delegation *door_to(const struct port *p, int *ret_door)
{
	struct delegation_options o = { .ports = { p->id },
					.n_ports = 1,
					.rights = RIGHT_WRITE | RIGHT_SEE };
	struct delegation *d;
	const char *reason;

	cr_assert_eq(delegation_new(&d, conn, &o, ret_door, &reason), 0);
	return d;
}

static struct session *earlier_holder_through(const struct delegation *d, struct port *p)
{
	uint8_t id[SESSION_ID_SIZE] = "0123456789abcde";
	struct session *s = session_restore(&core->b, id, &d->who);

	holding_resume(p, s, 7, 0);
	return s;
}

Test(session, P13_who_came_through_a_door_keeps_a_lease_while_others_rights_change)
{
	struct port *p = port_with(PORT_ORPHAN_KEEP, 0);
	struct delegation *d = door_to(p, &spare[0]);
	struct grant grant = { .rights = RIGHT_WRITE, .to = GRANT_TO_EVERYONE };

	cr_assert_eq(rights_grant(p, &grant), 0);
	earlier_holder_through(d, p);
	cr_assert(rights_revoke(p, grant.id));
	cr_expect_not(lease_admits(&p->lease, session));
	cr_expect_eq(n_sessions(), 2);
	delegations_end_all(&core->b);
}

Test(session, P14_an_absent_ones_lease_ends_with_the_door_it_came_through)
{
	struct port *p = port_with(PORT_ORPHAN_KEEP, 0), *q = port_with(PORT_ORPHAN_KEEP, 0);
	struct port *others = port_with(PORT_ORPHAN_KEEP, 0);
	struct delegation *d = door_to(p, &spare[0]), *other = door_to(others, &spare[1]);

	earlier_holder_through(d, p);
	earlier_holder_through(d, q);
	earlier_holder_through(other, others);
	delegation_end(d, "revoked");
	cr_expect(lease_admits(&p->lease, session));
	cr_expect(lease_admits(&q->lease, session));
	cr_expect_not(lease_admits(&others->lease, session));
	cr_expect_eq(n_sessions(), 2);
	delegations_end_all(&core->b);
}

/* --- the end of a connection ----------------------------------------------------------------- */

Test(session, goes_with_its_connection_when_it_has_no_port)
{
	conn_close(conn);
	cr_assert_eq(n_sessions(), 0);
}

Test(session, stays_until_its_last_port_is_gone)
{
	struct port *a = port_with(PORT_ORPHAN_KEEP, 0), *b = port_with(PORT_ORPHAN_KEEP, 0);

	conn_close(conn);
	cr_assert_eq(n_sessions(), 1);
	cr_assert(a->is_orphaned && b->is_orphaned);
	core_port_exit(core, a, 0);
	cr_assert_eq(a->state, PORT_ENDED);
	port_forget(a);
	cr_assert_eq(n_sessions(), 1);
	core_port_exit(core, b, 0);
	port_forget(b);
	cr_assert_eq(n_sessions(), 0);
}

Test(session, a_kept_port_does_not_notice)
{
	struct port *p = port_with(PORT_ORPHAN_KEEP, 0);

	conn_close(conn);
	core_turns(core, 3);
	cr_assert_eq(p->state, PORT_RUNNING);
	cr_assert_eq(n_errands(), 0, "nobody is sent to kill it");
	cr_assert(!alarm_is_set(&p->orphan));
	cr_assert(!input_is_closed(&port_stream(p, 0)->in.queue));
}

Test(session, a_port_to_be_killed_is_killed_as_a_tree)
{
	struct port *p = port_with(PORT_ORPHAN_KILL, 0);

	conn_close(conn);
	cr_assert_eq(n_errands(), 1);
	cr_assert_not_null(p->killer);
	core_port_exit(core, p, 9);
	cr_assert_eq(p->state, PORT_ENDED);
}

Test(session, a_port_whose_input_is_to_be_closed_gets_what_was_queued_first)
{
	struct port *p = port_with(PORT_ORPHAN_CLOSE_INPUT, 0);
	struct stream *in = port_stream(p, 0);
	char text[8] = "";

	cr_assert_eq(input_push(&in->in.queue, "last", 4, 0, NULL, NULL), 0);
	conn_close(conn);
	core_turns(core, 3);
	cr_assert(input_is_closed(&in->in.queue));
	cr_assert_eq(read(child[0], text, sizeof(text)), 4);
	cr_assert_str_eq(text, "last");
	cr_assert_eq(read(child[0], text, sizeof(text)), 0, "end of file");
	cr_assert_eq(p->state, PORT_RUNNING);
}

Test(session, a_port_kept_for_a_time_is_killed_when_it_is_over)
{
	struct port *p = port_with(PORT_ORPHAN_KEEP_FOR, 30);

	conn_close(conn);
	cr_assert_eq(n_errands(), 0);
	cr_assert(alarm_is_set(&p->orphan));
	core_until(core, p->killer);
	cr_assert_eq(n_errands(), 1);
}

Test(session, a_port_that_has_ended_is_left_alone)
{
	struct port *p = port_with(PORT_ORPHAN_KILL, 0);

	core_port_exit(core, p, 0);
	cr_assert_eq(p->state, PORT_ENDED);
	conn_close(conn);
	cr_assert_eq(n_errands(), 0);
	cr_assert_eq(p->state, PORT_ENDED, "its log stays until its retention is over");
}

/* --- coming back ----------------------------------------------------------------------------- */

Test(session, a_client_that_comes_back_calls_off_what_was_to_come)
{
	struct port *p = port_with(PORT_ORPHAN_KEEP_FOR, 60000);
	struct conn *next;

	conn_close(conn);
	cr_assert(p->is_orphaned);
	next = core_connect(core, &spare[0]);
	session_attach(session, next);
	next->session = session;
	cr_assert(!p->is_orphaned);
	cr_assert(!alarm_is_set(&p->orphan));
	conn_close(next);
	cr_assert(p->is_orphaned && alarm_is_set(&p->orphan), "and it begins anew");
	cr_assert_eq(n_sessions(), 1);
}

Test(session, a_take_over_ends_the_old_connection_and_no_port)
{
	struct port *p = port_with(PORT_ORPHAN_KILL, 0);
	struct conn *next = core_connect(core, &spare[0]);
	char bytes[256];

	session_attach(session, next);
	next->session = session;
	cr_assert_null(conn->session);
	cr_assert_eq(conn->state, CONN_LEAVING);
	core_turns(core, 3);
	cr_assert_gt(read(client, bytes, sizeof(bytes)), 0, "Bye");
	cr_assert_eq(read(client, bytes, sizeof(bytes)), 0);
	cr_assert_eq(n_errands(), 0);
	cr_assert_eq(p->state, PORT_RUNNING);
	cr_assert(!p->is_orphaned);
	cr_assert_eq(session->conn, next);
	conn_close(next);
	cr_assert_eq(n_errands(), 1, "now its client has gone");
}

Test(session, taken_over_again_and_again_it_is_one)
{
	struct conn *now = conn;

	port_with(PORT_ORPHAN_KEEP, 0);
	for (int i = 0; i < 50; i++) {
		struct conn *next;

		close(spare[i % 2]);
		next = core_connect(core, &spare[i % 2]);
		if (i % 3)
			conn_close(now);
		session_attach(session, next);
		next->session = session;
		now = next;
		core_turn(core);
	}
	cr_assert_eq(n_sessions(), 1);
	cr_assert_eq(session->conn, now);
}

/* --- many ports ------------------------------------------------------------------------------ */

#define MANY 1500u

static struct port *many[MANY];

static void make_many(void)
{
	struct core_port o = { .session = session, .orphan = PORT_ORPHAN_KILL };

	for (unsigned i = 0; i < MANY; i++)
		many[i] = core_port(core, conn, &o, NULL);
	core_ignore_keeper(core);
}

static unsigned count_orphans(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MANY; i++)
		n += many[i]->is_orphaned;
	return n;
}

Test(session, P7_one_with_many_ports_ends_in_no_long_turn)
{
	struct core_cost cost = { 0 };

	make_many();
	core_cost_begin(&cost);
	conn_close(conn);
	core_cost_end(&cost);
	while (count_orphans() < MANY)
		core_cost_turn(&cost, core);
	cr_expect_lt(cost.worst, cost.all / 3, "a turn of %.1f ms, of %.1f in all", cost.worst,
		     cost.all);
}

Test(session, who_is_back_before_all_ports_know_has_them_all)
{
	make_many();
	session_detach(session);
	cr_assert_lt(count_orphans(), MANY);
	core_turn(core);
	session_attach(session, conn);
	core_turns(core, 3);
	cr_expect_eq(count_orphans(), 0);
}

Test(session, ports_may_go_before_they_know)
{
	make_many();
	session_detach(session);
	cr_assert_lt(count_orphans(), MANY);
	for (unsigned i = 0; i < MANY; i++) {
		core_port_exit(core, many[i], 0);
		port_forget(many[i]);
	}
	cr_expect(list_is_empty(&core->b.sessions), "it went with the last one");
	conn->session = NULL;
}
