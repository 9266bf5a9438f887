/* A connection over a socket pair, in a broker that has nothing but what a connection needs. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/pending.h"
#include "broker/reply.h"

static struct broker *b;
static struct conn *conn;
static int peer = -1;

static void set_up(void)
{
	struct quota_limits limits[QUOTA_LEVELS];
	int pair[2];

	b = calloc(1, sizeof(*b));
	cr_assert_not_null(b);
	for (int i = 0; i < QUOTA_LEVELS; i++)
		limits[i] = quota_limits_default((enum quota_level)i);
	list_init(&b->conns);
	list_init(&b->sessions);
	list_init(&b->watching);
	arena_init(&b->arena);
	list_init(&b->delegations);
	waits_init(&b->waits);
	buf_init(&b->small, KIB(16));
	policy_init(&b->policy, geteuid());
	cr_assert_eq(uv_loop_init(&b->loop), 0);
	cr_assert_eq(turn_init(&b->turn, &b->loop), 0);
	cr_assert_eq(alarms_init(&b->alarms, &b->loop), 0);
	cr_assert_eq(quota_new(limits, &b->quota), 0);
	cr_assert_eq(events_new(0, &b->events), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(conn_new(b, 0, pair[0]), 0);
	peer = pair[1];
	conn = list_first(&b->conns, struct conn, link);
	conn->state = CONN_OPEN; /* as if Hello had been said */
}

static void tear_down(void)
{
	if (!list_is_empty(&b->conns))
		conn_close(conn);
	turn_close(&b->turn);
	alarms_close(&b->alarms);
	uv_run(&b->loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&b->loop), 0);
	quota_free(b->quota);
	events_free(b->events);
	buf_deinit(&b->small);
	arena_deinit(&b->arena);
	close(peer);
	free(b);
}

TestSuite(conn, .init = set_up, .fini = tear_down, .timeout = 20);

/* Pins the control lane: nothing more fits. */
static void fill_control(void)
{
	conn->control.cap = buf_size(&conn->control);
}

Test(conn, one_that_does_not_take_its_answers_goes_but_not_from_within_an_answer)
{
	struct pending *waits, *other;

	cr_assert_eq(pending_new(&waits, conn, NULL, PENDING_WAIT_EXITED, 1), 0);
	cr_assert_eq(pending_new(&other, conn, NULL, PENDING_WAIT_EXITED, 2), 0);
	fill_control();
	cr_assert_eq(alarm_set(&b->alarms, &waits->alarm, 0), 0);
	cr_assert_eq(alarm_set(&b->alarms, &other->alarm, 0), 0);
	while (!list_is_empty(&b->conns))
		uv_run(&b->loop, UV_RUN_ONCE);
	cr_assert_eq(b->n_conns, 0);
}

Test(conn, a_last_word_that_does_not_fit_leaves_without_it)
{
	fill_control();
	conn_leave(conn, REPLY_UNAVAILABLE, "the service is shut down");
	cr_assert_eq(conn->state, CONN_LEAVING);
	while (!list_is_empty(&b->conns))
		uv_run(&b->loop, UV_RUN_ONCE);
}
