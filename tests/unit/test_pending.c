#include "broker/pending.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

#include "broker/conn.h"
#include "broker/port.h"
#include "proto/codec.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"

static struct core *core;
static struct conn *conn;
static struct port *port;
static int client, child[2];

static void init(void)
{
	core = core_open();
	conn = core_connect(core, &client);
	port = core_port(core, conn, &(struct core_port){ .n_outputs = 1, .has_input = true },
			 child);
}

static void fini(void)
{
	close(client);
	close(child[0]);
	close(child[1]);
	core_close(core);
}

TestSuite(pending, .timeout = 20, .init = init, .fini = fini);

static struct pending *make(uint64_t request)
{
	struct pending *p = NULL;

	cr_assert_eq(pending_new(&p, conn, port, PENDING_WAIT_EXITED, request), 0);
	return p;
}

Test(pending, is_found_by_its_request_while_it_waits)
{
	struct pending *a = make(1), *b = make(UINT64_MAX);

	cr_assert_eq(pending_find(conn, 1), a);
	cr_assert_eq(pending_find(conn, UINT64_MAX), b);
	cr_assert_null(pending_find(conn, 2));
	cr_assert_eq(conn->n_pendings, 2);
	pending_free(a);
	cr_assert_null(pending_find(conn, 1));
	cr_assert_eq(conn->n_pendings, 1);
	pending_free(b);
	cr_assert(list_is_empty(&port->pendings));
}

Test(pending, one_id_waits_once_on_a_connection)
{
	struct pending *p = NULL;
	int other_client;
	struct conn *other = core_connect(core, &other_client);

	make(7);
	cr_assert_eq(pending_new(&p, conn, NULL, PENDING_WRITE, 7), PENDING_E_EXISTS);
	cr_assert_null(p);
	cr_assert_eq(pending_new(&p, other, port, PENDING_WRITE, 7), 0, "ids are a connection's");
	pending_free(p);
	close(other_client);
}

Test(pending, no_more_than_the_bound_wait)
{
	struct pending *p = NULL, *first = make(1);

	for (uint64_t i = 2; i <= CONN_PENDING_MAX; i++)
		make(i);
	cr_assert_eq(pending_new(&p, conn, port, PENDING_WRITE, 0), PENDING_E_TOO_MANY);
	pending_free(first);
	cr_assert_eq(pending_new(&p, conn, port, PENDING_WRITE, 5000), 0);
}

Test(pending, it_needs_no_port_and_no_memory_that_is_not_there)
{
	struct pending *p = NULL;

	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(pending_new(&p, conn, port, PENDING_SIGNAL, 1), -ENOMEM);
	cr_assert(countdown_off());
	cr_assert_eq(conn->n_pendings, 0);
	cr_assert_eq(pending_new(&p, conn, NULL, PENDING_SIGNAL, 1), 0);
	pending_free(p);
}

Test(pending, a_connection_that_goes_takes_its_own_and_leaves_what_it_wrote)
{
	struct pending *p = NULL;
	struct stream *s = port_stream(port, 0);
	struct input_item *item;
	int other_client;
	struct conn *other = core_connect(core, &other_client);

	cr_assert_eq(pending_new(&p, other, port, PENDING_WRITE, 1), 0);
	cr_assert_eq(input_push(&s->in.queue, "abc", 3, 0, p, &item), 0);
	p->item = item;
	make(1);
	conn_close(other);
	cr_assert_null(item->cookie, "nobody waits for it any more");
	cr_assert_eq(input_queued(&s->in.queue), 3, "it will be written");
	cr_assert_not_null(pending_find(conn, 1));
	cr_assert(list_first(&port->pendings, struct pending, port_link) == pending_find(conn, 1));
	close(other_client);
}

/* The next message that the client got, if there is one. */
static Redd__V1__Message *heard(struct arena *arena)
{
	static uint8_t bytes[65536];
	static size_t size, at;
	Redd__V1__Message *m = NULL;
	size_t prefix, length;
	const char *reason;
	ssize_t n = read(client, bytes + size, sizeof(bytes) - size);

	size += n > 0 ? (size_t)n : 0;
	if (at == size || frame_parse(bytes + at, size - at, FRAME_MAX_DEFAULT, &prefix, &length))
		return NULL;
	cr_assert_eq(codec_unpack_message(arena, bytes + at + prefix, length, &m, &reason), 0);
	at += prefix + length;
	return m;
}

Test(pending, a_wait_whose_time_is_up_is_answered_and_gone)
{
	struct pending *p = make(3), *other = make(4);
	struct arena arena;
	Redd__V1__Message *m;

	arena_init(&arena);
	cr_assert_eq(alarm_set(&core->b.alarms, &p->alarm, 10), 0);
	cr_assert_eq(alarm_set(&core->b.alarms, &other->alarm, 10), 0);
	pending_free(other); /* and does not ring */
	core_until(core, !pending_find(conn, 3));
	core_turns(core, 2);
	m = heard(&arena);
	cr_assert_not_null(m);
	cr_assert_eq(m->reply_to, 3);
	cr_assert_eq(m->error->code, REDD__V1__CODE__DEADLINE_EXCEEDED);
	cr_assert_null(heard(&arena));
	cr_assert(list_is_empty(&port->pendings));
	arena_deinit(&arena);
}

/* From the port's side: what can never come is answered when the port goes. */
Test(pending, a_port_that_goes_answers_those_who_wait_for_it)
{
	struct arena arena;
	Redd__V1__Message *m;

	arena_init(&arena);
	make(3);
	make(4);
	port_forget(port);
	port = NULL;
	core_turns(core, 2);
	for (uint64_t id = 3; id <= 4; id++) {
		m = heard(&arena);
		cr_assert_not_null(m);
		cr_assert_eq(m->reply_to, id);
		cr_assert_eq(m->error->code, REDD__V1__CODE__ABORTED);
	}
	cr_assert_eq(conn->n_pendings, 0);
	arena_deinit(&arena);
}
