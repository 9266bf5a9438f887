/* The broker's own numbers are the schema's, since they are cast into it; and what is packed with
 * them comes out of the generated code as it was meant. */
#include "broker/reply.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/conn.h"
#include "broker/holding.h"
#include "broker/cursor.h"
#include "broker/events.h"
#include "broker/life.h"
#include "broker/port.h"
#include "broker/req.h"
#include "broker/stream.h"
#include "broker/subscription.h"
#include "helper/link.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/core.h"

TestSuite(reply, .timeout = 20);

/* --- numbers --------------------------------------------------------------------------------- */

struct pair {
	int ours;
	const char *theirs;
};

/* Every value of the schema's enum has its pair, but for those in `without`. */
static void check(const ProtobufCEnumDescriptor *schema, const struct pair *pairs, size_t n,
		  const char *without)
{
	for (size_t i = 0; i < n; i++) {
		const ProtobufCEnumValue *v =
			protobuf_c_enum_descriptor_get_value_by_name(schema, pairs[i].theirs);

		cr_assert_not_null(v, "%s has no %s", schema->name, pairs[i].theirs);
		cr_assert_eq(v->value, pairs[i].ours, "%s: %d is not %d", v->name, pairs[i].ours,
			     v->value);
	}
	for (unsigned k = 0; k < schema->n_values; k++) {
		const char *name = schema->values[k].name;
		bool known = strstr(without, name);

		for (size_t i = 0; i < n; i++)
			known |= !strcmp(pairs[i].theirs, name);
		cr_assert(known, "%s.%s is not known to the broker", schema->name, name);
	}
}

#define CHECK(schema, without, ...)                                                          \
	do {                                                                                 \
		const struct pair pairs[] = { __VA_ARGS__ };                                 \
		check(&redd__v1__##schema##__descriptor, pairs, ARRAY_SIZE(pairs), without); \
	} while (0)

Test(reply, codes_are_the_schemas)
{
	CHECK(code, "OK UNKNOWN DATA_LOSS", { REPLY_CANCELLED, "CANCELLED" },
	      { REPLY_INVALID_ARGUMENT, "INVALID_ARGUMENT" },
	      { REPLY_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED" }, { REPLY_NOT_FOUND, "NOT_FOUND" },
	      { REPLY_ALREADY_EXISTS, "ALREADY_EXISTS" },
	      { REPLY_PERMISSION_DENIED, "PERMISSION_DENIED" },
	      { REPLY_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED" },
	      { REPLY_FAILED_PRECONDITION, "FAILED_PRECONDITION" }, { REPLY_ABORTED, "ABORTED" },
	      { REPLY_OUT_OF_RANGE, "OUT_OF_RANGE" }, { REPLY_UNIMPLEMENTED, "UNIMPLEMENTED" },
	      { REPLY_INTERNAL, "INTERNAL" }, { REPLY_UNAVAILABLE, "UNAVAILABLE" },
	      { REPLY_UNAUTHENTICATED, "UNAUTHENTICATED" });
}

Test(reply, stages_are_the_schemas)
{
	CHECK(stage, "", { LINK_STAGE_NONE, "STAGE_NONE" }, { LINK_STAGE_REQUEST, "STAGE_REQUEST" },
	      { LINK_STAGE_CLONE, "STAGE_CLONE" }, { LINK_STAGE_SETUP, "STAGE_SETUP" },
	      { LINK_STAGE_SESSION, "STAGE_SESSION" }, { LINK_STAGE_CGROUP, "STAGE_CGROUP" },
	      { LINK_STAGE_TERMINAL, "STAGE_TERMINAL" },
	      { LINK_STAGE_DESCRIPTORS, "STAGE_DESCRIPTORS" },
	      { LINK_STAGE_LIMITS, "STAGE_LIMITS" }, { LINK_STAGE_GROUPS, "STAGE_GROUPS" },
	      { LINK_STAGE_USER, "STAGE_USER" }, { LINK_STAGE_DIRECTORY, "STAGE_DIRECTORY" },
	      { LINK_STAGE_FILES, "STAGE_FILES" }, { LINK_STAGE_SANDBOX, "STAGE_SANDBOX" },
	      { LINK_STAGE_EXEC, "STAGE_EXEC" });
}

Test(reply, causes_are_the_schemas)
{
	CHECK(gap__cause, "UNKNOWN_CAUSE", { CURSOR_GAP_BEFORE_LOG, "BEFORE_LOG" },
	      { CURSOR_GAP_SLOW, "SLOW" }, { CURSOR_GAP_STALLED, "STALLED" },
	      { CURSOR_GAP_ABANDONED, "ABANDONED" });
	CHECK(stream_end__cause, "", { STREAM_END_OF_FILE, "END_OF_FILE" }, { STREAM_IDLE, "IDLE" },
	      { STREAM_LIMIT, "LIMIT" }, { STREAM_READ_ERROR, "READ_ERROR" },
	      { STREAM_BROKER_STOPPED, "BROKER_STOPPED" }, { STREAM_CLOSED, "CLOSED" });
	CHECK(closed__cause, "", { SUBSCRIPTION_PORT_CLOSED, "PORT_CLOSED" },
	      { SUBSCRIPTION_UNSUBSCRIBED, "UNSUBSCRIBED" }, { SUBSCRIPTION_TOO_SLOW, "TOO_SLOW" },
	      { SUBSCRIPTION_FORGOTTEN, "FORGOTTEN" }, { SUBSCRIPTION_BAD_RECORD, "BAD_RECORD" },
	      { SUBSCRIPTION_REVOKED, "REVOKED" });
}

Test(reply, framing_is_the_schemas)
{
	CHECK(framing__cut, "", { FRAMING_RAW, "RAW" }, { FRAMING_LINES, "LINES" },
	      { FRAMING_PACKETS, "PACKETS" });
	CHECK(output__record, "", { FRAMING_PART, "PART" }, { FRAMING_END, "END" },
	      { FRAMING_CUT, "CUT" }, { FRAMING_UNTERMINATED, "UNTERMINATED" });
}

Test(reply, rights_are_the_schemas)
{
	CHECK(leased__cause, "", { HOLDING_HELD, "HELD" }, { HOLDING_RELEASED, "RELEASED" },
	      { HOLDING_TAKEN, "TAKEN" }, { HOLDING_EXPIRED, "EXPIRED" },
	      { HOLDING_REVOKED, "REVOKED" });
	CHECK(grant_to, "", { GRANT_TO_UID, "GRANT_UID" }, { GRANT_TO_GID, "GRANT_GID" },
	      { GRANT_TO_EVERYONE, "GRANT_EVERYONE" });
}

Test(reply, states_of_ports_and_exits_are_the_schemas)
{
	CHECK(port_state, "", { PORT_STARTING, "STARTING" }, { PORT_RUNNING, "RUNNING" },
	      { PORT_DRAINING, "DRAINING" }, { PORT_ENDED, "ENDED" });
	CHECK(port_kind, "", { PORT_IS_PROCESS, "PORT_PROCESS" }, { PORT_IS_FILE, "PORT_FILE" },
	      { PORT_IS_DESCRIPTORS, "PORT_DESCRIPTORS" });
	CHECK(orphan, "", { PORT_ORPHAN_KILL, "ORPHAN_KILL" },
	      { PORT_ORPHAN_CLOSE_INPUT, "ORPHAN_CLOSE_INPUT" },
	      { PORT_ORPHAN_KEEP, "ORPHAN_KEEP" }, { PORT_ORPHAN_KEEP_FOR, "ORPHAN_KEEP_FOR" });
	CHECK(exit__state, "", { EXIT_STATE_UNKNOWN, "UNKNOWN_STATE" }, { EXIT_STATE_CODE, "CODE" },
	      { EXIT_STATE_SIGNAL, "SIGNAL" });
	CHECK(life__what, "UNKNOWN_EVENT MISSED", { EVENT_STARTED, "STARTED" },
	      { EVENT_EXITED, "EXITED" }, { EVENT_CLOSED, "CLOSED" },
	      { EVENT_FORGOTTEN, "FORGOTTEN" }, { EVENT_GRANTED, "GRANTED" },
	      { EVENT_REVOKED, "REVOKED" });
}

Test(reply, what_a_subscription_asks_for_is_the_schemas)
{
	CHECK(overflow, "OVERFLOW_DEFAULT", { CURSOR_MAY_BLOCK, "OVERFLOW_BLOCK" },
	      { CURSOR_MAY_DROP, "OVERFLOW_DROP" }, { CURSOR_MAY_CANCEL, "OVERFLOW_CANCEL" });
	CHECK(start__from, "", { CURSOR_FROM_BEGINNING, "BEGINNING" }, { CURSOR_FROM_NOW, "NOW" },
	      { CURSOR_FROM_OFFSET, "OFFSET" }, { CURSOR_FROM_LAST_BYTES, "LAST_BYTES" },
	      { CURSOR_FROM_LAST_LINES, "LAST_LINES" });
}

/* --- messages -------------------------------------------------------------------------------- */

static struct core *core;
static struct conn *conn;
static int client;
static struct arena arena;

static void init(void)
{
	core = core_open();
	conn = core_connect(core, &client);
	arena_init(&arena);
}

static void fini(void)
{
	arena_deinit(&arena);
	close(client);
	core_close(core);
}

TestSuite(reply_messages, .timeout = 20, .init = init, .fini = fini);

/* The one message in the buffer; the buffer is empty then. */
static Redd__V1__Message *unpack(struct buf *b)
{
	Redd__V1__Message *m = NULL;
	size_t prefix, length;
	const char *reason = "";

	cr_assert_eq(frame_parse(buf_head(b), buf_size(b), FRAME_MAX_DEFAULT, &prefix, &length), 0);
	cr_assert_eq(buf_size(b), prefix + length, "one message");
	cr_assert_eq(codec_unpack_message(&arena, buf_head(b) + prefix, length, &m, &reason), 0,
		     "%s", reason);
	buf_consume(b, buf_size(b));
	return m;
}

Test(reply_messages, an_error_is_escaped_cut_and_has_its_errno)
{
	char text[2000];
	Redd__V1__Message *m;

	reply_error(conn, 9, REPLY_NOT_FOUND, ENOENT, "no \x1b[31m%s\n", "port");
	m = unpack(&conn->control);
	cr_assert_eq(m->reply_to, 9);
	cr_assert_eq(m->error->code, REDD__V1__CODE__NOT_FOUND);
	cr_assert_eq(m->error->sys_errno, ENOENT);
	cr_assert_str_eq(m->error->message, "no \\x1b[31mport\\x0a");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	reply_error(conn, 10, REPLY_INTERNAL, 0, "%s", text);
	m = unpack(&conn->control);
	cr_assert(!m->error->has_sys_errno);
	cr_assert_lt(strlen(m->error->message), 600);
}

Test(reply_messages, a_failed_spawn_tells_its_stage_and_when_to_try_again)
{
	Redd__V1__Message *m;

	reply_spawn_failed(conn, 3, REPLY_RESOURCE_EXHAUSTED, LINK_STAGE_CLONE, EAGAIN, 250, "no");
	m = unpack(&conn->control);
	cr_assert_eq(m->error->stage, REDD__V1__STAGE__STAGE_CLONE);
	cr_assert_eq(m->error->retry_after_ms, 250);
	reply_spawn_failed(conn, 3, REPLY_NOT_FOUND, LINK_STAGE_EXEC, ENOENT, 0, "no");
	m = unpack(&conn->control);
	cr_assert(!m->error->has_retry_after_ms);
}

/* No number is invented: what nobody knows is not sent. */
Test(reply_messages, an_exit_has_the_fields_of_its_state_and_no_others)
{
	struct exit_record e = {
		.state = EXIT_STATE_UNKNOWN, .code = 3, .signal = 9, .user_us = 7
	};
	Redd__V1__Exit m = REDD__V1__EXIT__INIT;

	reply_fill_exit(&m, &e);
	cr_assert(m.has_state && !m.has_code && !m.has_signal && !m.has_core && !m.has_user_us);
	e.state = EXIT_STATE_CODE;
	m = (Redd__V1__Exit)REDD__V1__EXIT__INIT;
	reply_fill_exit(&m, &e);
	cr_assert(m.has_code && !m.has_signal && m.has_user_us);
	cr_assert_eq(m.code, 3);
	e.state = EXIT_STATE_SIGNAL;
	m = (Redd__V1__Exit)REDD__V1__EXIT__INIT;
	reply_fill_exit(&m, &e);
	cr_assert(!m.has_code && m.has_signal && m.has_core);
	cr_assert_eq(m.signal, 9);
}

Test(reply_messages, an_answer_longer_than_the_frame_becomes_an_error)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT, *answer;
	Redd__V1__Pong pong = REDD__V1__PONG__INIT;
	static uint8_t data[FRAME_MAX_LOWEST];

	conn->frame_max = FRAME_MAX_LOWEST;
	pong.has_data = true;
	pong.data = (ProtobufCBinaryData){ sizeof(data), data };
	m.body_case = REDD__V1__MESSAGE__BODY_PONG;
	m.pong = &pong;
	reply_message(conn, 5, &m);
	answer = unpack(&conn->control);
	cr_assert_eq(answer->reply_to, 5);
	cr_assert_eq(answer->error->code, REDD__V1__CODE__RESOURCE_EXHAUSTED);
}

/* Answers are never dropped, so a client that asks and never reads has to go. */
Test(reply_messages, a_client_that_takes_no_answers_is_disconnected)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Pong pong = REDD__V1__PONG__INIT;
	static uint8_t data[FRAME_MAX_DEFAULT / 2];

	pong.has_data = true;
	pong.data = (ProtobufCBinaryData){ sizeof(data), data };
	m.body_case = REDD__V1__MESSAGE__BODY_PONG;
	m.pong = &pong;
	for (int i = 0; i < 20 && conn->state == CONN_OPEN; i++)
		reply_message(conn, 5, &m);
	cr_assert_eq(conn->state, CONN_LEAVING, "not at once: callers still hold it");
	close(client);
	core_until(core, core->b.n_conns == 0);
	client = dup(0);
}

Test(reply_messages, nobody_is_told_nothing)
{
	reply_done(NULL, 1);
	reply_error(NULL, 1, REPLY_INTERNAL, 0, "x");
	conn->state = CONN_LEAVING;
	reply_done(conn, 1);
	cr_assert_eq(buf_size(&conn->control), 0, "Bye was the last word");
	conn->state = CONN_OPEN;
}

Test(reply_messages, who_is_turned_away_is_told_why)
{
	struct buf b;
	Redd__V1__Message *m;
	uint8_t *space;
	int pair[2];
	ssize_t n;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	reply_refuse_connection(pair[0], REPLY_UNAVAILABLE, "come again");
	buf_init(&b, KIB(16));
	cr_assert_eq(buf_reserve(&b, 4096, &space), 0);
	n = recv(pair[1], space, 4096, MSG_DONTWAIT);
	cr_assert_gt(n, 0);
	buf_commit(&b, (size_t)n);
	m = unpack(&b);
	cr_assert_eq(m->bye->error->code, REDD__V1__CODE__UNAVAILABLE);
	cr_assert_str_eq(m->bye->error->message, "come again");
	buf_deinit(&b);
	close(pair[1]);
	reply_refuse_connection(pair[0], REPLY_UNAVAILABLE, "nobody hears that");
	close(pair[0]);
}
