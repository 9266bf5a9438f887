/* Requests with one thing wrong in them, a row for each field of redd.proto that can be (Spawn's
 * are in test_bad_spawn.c): the answer says what, at once, and nothing else changes; a neighbour's
 * stream does not notice. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/lib/ask.h"
#include "tests/lib/places.h"
#include "tests/lib/refusals.h"
#include "tests/lib/wire.h"

#define INVALID	     REDD__V1__CODE__INVALID_ARGUMENT
#define NOT_FOUND    REDD__V1__CODE__NOT_FOUND
#define PRECONDITION REDD__V1__CODE__FAILED_PRECONDITION
#define RANGE	     REDD__V1__CODE__OUT_OF_RANGE
#define DEADLINE     REDD__V1__CODE__DEADLINE_EXCEEDED
#define UNKNOWN	     REDD__V1__CODE__UNIMPLEMENTED

TestSuite(bad_input, .init = refusals_begin, .fini = refusals_end, .timeout = 60);

/* The same reference to a port in every request that has one. */
#define REFERENCES(request, more)                                                                 \
	{ request " { " more " }", INVALID, 0, "names no port" },                                 \
		{ request " { port { } " more " }", INVALID, 0, "names no port" },                \
		{ request " { port { id: 0 } " more " }", NOT_FOUND, 0, "no such port" },         \
		{ request " { port { id: 999999 } " more " }", NOT_FOUND, 0, "no such port" },    \
		{ request " { port { id: 18446744073709551615 } " more " }", NOT_FOUND, 0,        \
		  "no such port" },                                                               \
		{ request " { port { name: \"\" } " more " }", NOT_FOUND, 0, "no such port" },    \
		{ request " { port { name: \"nobody\" } " more " }", NOT_FOUND, 0,                \
		  "no such port" },                                                               \
		{ request " { port { name: \"run\" } " more " }", NOT_FOUND, 0, "no such port" }, \
		{ request " { port { name: \"x\"*5000 } " more " }", NOT_FOUND, 0,                \
		  "no such port" },                                                               \
		{ request " { port { spawn: 0 } " more " }", NOT_FOUND, 0, "no such port" },      \
	{                                                                                         \
		request " { port { spawn: 999999 } " more " }", NOT_FOUND, 0, "no such port"      \
	}

static const struct refusal references[] = {
	REFERENCES("write", "data: \"x\""),
	REFERENCES("write", "data: \"x\" close: true offset: 0"),
	REFERENCES("close", ""),
	REFERENCES("signal", "signal: 0"),
	REFERENCES("resize", "size { }"),
	REFERENCES("subscribe", ""),
	REFERENCES("wait", ""),
	REFERENCES("inspect", ""),
	REFERENCES("forget", ""),
};

Test(bad_input, P15_S73_S84_a_port_that_is_not_named_or_not_there)
{
	refusals_check(&refusals.peer, REFUSALS(references));
}

static const struct refusal input[] = {
	{ "write { port { name: \"runs\" } stream: 1 data: \"x\" }", PRECONDITION, 0, "input" },
	{ "write { port { name: \"runs\" } stream: 9 data: \"x\" }", PRECONDITION, 0, "input" },
	{ "write { port { name: \"runs\" } stream: 1024 data: \"x\" }", PRECONDITION, 0, "input" },
	{ "write { port { name: \"runs\" } stream: 4294967295 data: \"x\" }", PRECONDITION, 0,
	  "input" },
	{ "write { port { name: \"runs\" } offset: 1 data: \"x\" }", RANGE, 0, "offset" },
	{ "write { port { name: \"runs\" } offset: 18446744073709551615 data: \"xy\" }", RANGE, 0,
	  "offset" },
	{ "write { port { name: \"runs\" } header: 3 data: \"x\" }", INVALID, 0, "header" },
	{ "write { port { name: \"runs\" } header: 4294967295 }", INVALID, 0, "header" },
	{ "write { port { name: \"runs\" } header: 1 data: \"x\"*256 }", INVALID, EMSGSIZE, "256" },
	{ "write { port { name: \"runs\" } header: 2 data: \"x\"*65536 }", INVALID, EMSGSIZE,
	  "65536" },
	{ "write { port { name: \"shut\" } data: \"x\" }", PRECONDITION, EPIPE, "closed" },
	{ "write { port { name: \"shut\" } data: \"x\" close: true }", PRECONDITION, EPIPE,
	  "closed" },
	{ "write { port { name: \"shut\" } close: true }", PRECONDITION, EPIPE, "closed" },
	{ "write { port { name: \"ended\" } data: \"x\" }", PRECONDITION, EPIPE, "ended" },
	{ "write { port { name: \"tty\" } stream: 0 data: \"x\" }", PRECONDITION, 0, "input" },
	{ "close { port { name: \"runs\" } stream: 1 }", PRECONDITION, 0, "input" },
	{ "close { port { name: \"runs\" } stream: 77 }", PRECONDITION, 0, "input" },
	{ "close { port { name: \"shut\" } }", PRECONDITION, EPIPE, "closed" },
	{ "close { port { name: \"ended\" } }", PRECONDITION, EPIPE, "ended" },
	{ "resize { port { name: \"runs\" } size { rows: 1 } }", PRECONDITION, ENOTTY, "terminal" },
	{ "resize { port { name: \"ended\" } size { } }", PRECONDITION, ENOTTY, "terminal" },
	{ "resize { port { name: \"tty\" } }", INVALID, 0, "size" },
	{ "resize { port { name: \"tty\" } size { rows: 65536 } }", INVALID, 0, "65535" },
	{ "resize { port { name: \"tty\" } size { columns: 65536 } }", INVALID, 0, "65535" },
	{ "resize { port { name: \"tty\" } size { x_pixels: 65536 } }", INVALID, 0, "65535" },
	{ "resize { port { name: \"tty\" } size { y_pixels: 4294967295 } }", INVALID, 0, "65535" },
};

Test(bad_input, P15_S49_write_close_and_resize)
{
	refusals_check(&refusals.peer, REFUSALS(input));
}

static const struct refusal signals[] = {
	{ "signal { port { name: \"runs\" } signal: 65 }", INVALID, 0, "signal" },
	{ "signal { port { name: \"runs\" } signal: 4294967295 }", INVALID, 0, "signal" },
	{ "signal { port { name: \"runs\" } signal: 0 target: 3 }", INVALID, 0, "target" },
	{ "signal { port { name: \"runs\" } signal: 15 target: -1 }", INVALID, 0, "target" },
	{ "signal { port { name: \"ended\" } signal: 15 }", PRECONDITION, ESRCH, "ended" },
	{ "signal { port { name: \"ended\" } signal: 0 target: TARGET_GROUP }", PRECONDITION, ESRCH,
	  "ended" },
	{ "forget { port { name: \"runs\" } }", PRECONDITION, EBUSY, "running" },
	{ "forget { port { name: \"tty\" } }", PRECONDITION, EBUSY, "running" },
	{ "wait { port { name: \"runs\" } until: 2 }", INVALID, 0, "until" },
	{ "wait { port { name: \"runs\" } until: -1 }", INVALID, 0, "until" },
	{ "wait { port { name: \"runs\" } timeout_ms: 0 }", DEADLINE, 0, "running" },
	{ "wait { port { name: \"runs\" } until: CLOSED timeout_ms: 0 }", DEADLINE, 0, "running" },
	{ "wait { port { name: \"runs\" } timeout_ms: 1 }", DEADLINE, 0, "time" },
};

#define RUNS "expect { port { name: \"runs\" } "

static const struct refusal expects[] = {
	REFERENCES("expect", "patterns { text: \"x\" }"),
	{ RUNS "stream: 0 }", INVALID, 0, "no output" },
	{ RUNS "stream: 7 }", INVALID, 0, "no output" },
	{ RUNS "from: 1000 }", RANGE, 0, "1000" },
	{ RUNS "patterns { } }", INVALID, 0, "neither" },
	{ RUNS "patterns { text: \"\" } }", INVALID, 0, "empty" },
	{ RUNS "patterns { text: \"ok\" } patterns { regex: \"(a\" } }", INVALID, 0,
	  "patterns[1], at byte 0" },
	{ RUNS "patterns { regex: \"a\\x00(?=b)\" } }", INVALID, 0, "look-around" },
	{ RUNS "patterns { text: \"x\"*4097 } }", INVALID, 0, "4096" },
	{ RUNS "patterns { regex: \"((a{999}){999}){999}\" } }", INVALID, 0, "large" },
	{ RUNS "patterns*33 { text: \"x\" } }", INVALID, 0, "32" },
	{ RUNS "write { stream: 5 data: \"x\" } }", PRECONDITION, 0, "no such input" },
	{ RUNS "write { offset: 7 data: \"x\" } }", RANGE, 0, "offset" },
	{ "expect { port { name: \"shut\" } write { data: \"x\" } }", PRECONDITION, EPIPE,
	  "closed" },
};

Test(bad_input, P15_expect)
{
	refusals_check(&refusals.peer, REFUSALS(expects));
}

Test(bad_input, P15_signal_wait_and_forget)
{
	refusals_check(&refusals.peer, REFUSALS(signals));
}

/* Who looks for a tree is a process of its own, which may be too slow where everything is: then the
 * answer is to try again. */
Test(bad_input, P15_a_tree_of_which_nobody_is_left)
{
	Redd__V1__Message *m;
	int tries = place_patience_ms(1);

	do
		m = ask(&refusals.peer,
			"signal { port { name: \"ended\" } signal: 9 target: TARGET_TREE }");
	while (ask_is_error(m, REDD__V1__CODE__UNAVAILABLE) && --tries > 0);
	cr_assert(ask_is_error(m, PRECONDITION), "%s", ask_text(m));
	cr_assert_eq(m->error->sys_errno, ESRCH);
}

static const struct refusal outputs[] = {
	{ "subscribe { port { name: \"runs\" } streams: 0 }", INVALID, 0, "output" },
	{ "subscribe { port { name: \"runs\" } streams: 3 }", INVALID, 0, "output" },
	{ "subscribe { port { name: \"runs\" } streams: 1 streams: 1 }", INVALID, 0, "twice" },
	{ "subscribe { port { name: \"runs\" } streams*17: 1 }", INVALID, 0, "streams" },
	{ "subscribe { port { name: \"runs\" } streams*100000: 1 }", INVALID, 0, "streams" },
	{ "subscribe { port { name: \"runs\" } overflow: 4 }", INVALID, 0, "overflow" },
	{ "subscribe { port { name: \"runs\" } overflow: -1 }", INVALID, 0, "overflow" },
	{ "subscribe { port { name: \"runs\" } framing { maximum: 9 } }", INVALID, 0, "maximum" },
	{ "subscribe { port { name: \"runs\" } framing { header: 0 } }", INVALID, 0, "header" },
	{ "subscribe { port { name: \"runs\" } framing { cut: LINES header: 4 } }", INVALID, 0,
	  "header" },
	{ "subscribe { port { name: \"runs\" } framing { cut: LINES maximum: 0 } }", INVALID, 0,
	  "maximum" },
	{ "subscribe { port { name: \"runs\" } framing { cut: LINES maximum: 1073741825 } }",
	  INVALID, 0, "maximum" },
	{ "subscribe { port { name: \"runs\" } framing { cut: PACKETS } }", INVALID, 0, "header" },
	{ "subscribe { port { name: \"runs\" } framing { cut: PACKETS header: 3 } }", INVALID, 0,
	  "header" },
	{ "subscribe { port { name: \"runs\" } framing { cut: 3 } }", INVALID, 0, "cut" },
	{ "subscribe { port { name: \"runs\" } start { from: 5 } }", INVALID, 0, "from" },
	{ "subscribe { port { name: \"runs\" } start { from: -1 } }", INVALID, 0, "from" },
	{ "subscribe { port { name: \"runs\" } start { from: OFFSET offsets { stream: 1 offset: 99 "
	  "} } }",
	  RANGE, 0, "offset" },
	{ "subscribe { port { name: \"runs\" } start { from: OFFSET offsets { stream: 1 offset: "
	  "18446744073709551615 } } }",
	  RANGE, 0, "offset" },
	{ "subscribe { port { name: \"runs\" } start { from: OFFSET offsets { stream: 7 offset: 0 "
	  "} } }",
	  INVALID, 0, "offsets" },
	{ "subscribe { port { name: \"runs\" } start { from: OFFSET offsets*17 { stream: 1 } } }",
	  INVALID, 0, "offsets" },
	{ "unsubscribe { }", NOT_FOUND, 0, "subscription" },
	{ "unsubscribe { subscription: 99 }", NOT_FOUND, 0, "subscription" },
	{ "credit { subscription: 99 bytes: 1 }", NOT_FOUND, 0, "subscription" },
	{ "credit { bytes: 18446744073709551615 }", NOT_FOUND, 0, "subscription" },
};

Test(bad_input, P15_subscribe_unsubscribe_and_credit)
{
	refusals_check(&refusals.peer, REFUSALS(outputs));
}

#define SELECTORS(request)                                                                      \
	{ request " { labels { } }", INVALID, 0, "key" },                                       \
		{ request " { labels { key: \"\" } }", INVALID, 0, "key" },                     \
		{ request " { labels { key: \"a b\" } }", INVALID, 0, "key" },                  \
		{ request " { labels { key: \"k\"*64 } }", INVALID, 0, "63" },                  \
		{ request " { labels { key: \"k\" value: \"\\n\" } }", INVALID, 0, "control" }, \
		{ request " { labels { key: \"k\" value: \"v\"*256 } }", INVALID, 0, "255" },   \
		{ request " { labels*2 { key: \"k\" } }", INVALID, 0, "same key" },             \
	{                                                                                       \
		request " { labels*33 { key: \"k#\" } }", INVALID, 0, "32"                      \
	}

static const struct refusal asking[] = {
	SELECTORS("list"),
	SELECTORS("watch"),
	{ "list { limit: 0 }", INVALID, 0, "limit" },
	{ "list { limit: 1001 }", INVALID, 0, "limit" },
	{ "list { limit: 4294967295 }", INVALID, 0, "limit" },
	{ "list { states: 4 }", INVALID, 0, "states" },
	{ "list { states: RUNNING states: -1 }", INVALID, 0, "states" },
	{ "watch { after: 999999 }", RANGE, 0, "sequence" },
	{ "watch { after: 18446744073709551615 }", RANGE, 0, "sequence" },
	{ "unwatch { }", NOT_FOUND, 0, "watch" },
	{ "unwatch { watch: 5 }", NOT_FOUND, 0, "watch" },
	{ "ping { data: \"x\"*65 }", INVALID, 0, "64" },
	{ "ping { data: \"x\"*1000000 }", INVALID, 0, "64" },
	{ "shutdown { drain_ms: 60001 }", INVALID, 0, "60000" },
	{ "shutdown { drain_ms: 4294967295 }", INVALID, 0, "60000" },
	{ "cancel { }", NOT_FOUND, 0, "waits" },
	{ "cancel { request: 999999 }", NOT_FOUND, 0, "waits" },
	{ "hello { version: 1 }", PRECONDITION, 0, "Hello" },
	{ "hello { version: 7 session: \"x\"*16 }", PRECONDITION, 0, "Hello" },
	{ "", UNKNOWN, 0, "request" },
};

Test(bad_input, P15_list_watch_ping_and_the_rest)
{
	refusals_check(&refusals.peer, REFUSALS(asking));
}

/* Before its Hello a connection may try again after each of these. */
static const struct refusal greetings[] = {
	{ "hello { version: 2 }", UNKNOWN, 0, "version" },
	{ "hello { version: 0 }", UNKNOWN, 0, "version" },
	{ "hello { version: 1 frame_max: 0 }", INVALID, 0, "frame_max" },
	{ "hello { version: 1 frame_max: 65535 }", INVALID, 0, "frame_max" },
	{ "hello { version: 1 frame_max: 16777217 }", INVALID, 0, "frame_max" },
	{ "hello { version: 1 client: \"n\"*65 }", INVALID, 0, "64" },
	{ "hello { version: 1 session: \"s\"*16 }", NOT_FOUND, 0, "session" },
	{ "hello { version: 1 session: \"s\"*15 }", NOT_FOUND, 0, "session" },
	{ "hello { version: 1 session: \"\" }", NOT_FOUND, 0, "session" },
	{ "hello { version: 1 session: \"s\"*100000 }", NOT_FOUND, 0, "session" },
	{ "ping { }", REDD__V1__CODE__UNAUTHENTICATED, 0, "Hello" },
	{ "spawn { program: \"/bin/true\" }", REDD__V1__CODE__UNAUTHENTICATED, 0, "Hello" },
	{ "write { port { id: 1 } data: \"x\" }", REDD__V1__CODE__UNAUTHENTICATED, 0, "Hello" },
	{ "shutdown { }", REDD__V1__CODE__UNAUTHENTICATED, 0, "Hello" },
	{ "", UNKNOWN, 0, "request" },
};

Test(bad_input, P15_a_hello_that_is_wrong_or_does_not_come_first)
{
	struct peer late;

	cr_assert_eq(peer_open(&late, refusals.service.socket), 0);
	for (size_t i = 0; i < sizeof(greetings) / sizeof(greetings[0]); i++) {
		const struct refusal *row = &greetings[i];
		Redd__V1__Message *m;

		cr_assert_eq(ask_send_as(&late, i + 10, row->request), 0);
		m = ask_answer(&late, i + 10);
		cr_expect(ask_is_error(m, row->code), "%s: %s", row->request, ask_text(m));
		cr_expect(m->error && strstr(m->error->message, row->word), "%s: %s", row->request,
			  ask_text(m));
	}
	cr_assert_eq(peer_hello(&late), 0);
	peer_close(&late);
}

Test(bad_input, P15_an_id_that_waits_cannot_be_used_again)
{
	static const char *const requests[] = {
		"ping { }",
		"wait { port { name: \"runs\" } }",
		"write { port { name: \"runs\" } data: \"x\" }",
		"spawn { program: \"/bin/true\" }",
		"subscribe { port { name: \"runs\" } }",
		"list { }",
		"cancel { request: 500 }",
		"credit { subscription: 1 }",
		"",
	};
	Redd__V1__Message *m;

	cr_assert_eq(
		ask_send_as(&refusals.peer, 500, "wait { port { name: \"runs\" } until: EXITED }"),
		0);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		cr_assert_eq(ask_send_as(&refusals.peer, 500, requests[i]), 0);
		m = ask_answer(&refusals.peer, 500);
		cr_expect(ask_is_error(m, INVALID), "%s: %s", requests[i], ask_text(m));
		cr_expect(m->error && strstr(m->error->message, "id"), "%s", ask_text(m));
	}
	m = ask(&refusals.peer, "cancel { request: 500 }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DONE, "%s", ask_text(m));
	cr_assert_eq(ask_send_as(&refusals.peer, 500, "ping { }"), 0);
	cr_assert_eq(ask_answer(&refusals.peer, 500)->body_case, REDD__V1__MESSAGE__BODY_PONG);
}

Test(bad_input, P15_what_is_not_known_is_unimplemented_or_ignored)
{
	static const uint32_t numbers[] = { 29, 30, 38, 40, 41, 1000, 536870911 };
	struct buf frame;
	Redd__V1__Message *m;

	buf_init(&frame, 1 << 20);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint64_t id = ++refusals.peer.last_id;
		struct buf body;

		buf_init(&body, 1 << 20);
		wire_number(&body, 1, id);
		wire_text(&body, numbers[i], "\x08\x01");
		wire_varint(&frame, buf_size(&body));
		cr_assert_eq(buf_append(&frame, buf_head(&body), buf_size(&body)), 0);
		buf_deinit(&body);
		cr_assert_eq(peer_send(&refusals.peer, buf_head(&frame), buf_size(&frame)), 0);
		buf_consume(&frame, buf_size(&frame));
		m = ask_answer(&refusals.peer, id);
		cr_expect(ask_is_error(m, UNKNOWN), "%u: %s", numbers[i], ask_text(m));
	}
	/* The same beside a request that is known, and inside of it. */
	cr_assert_eq(peer_send(&refusals.peer, "\x0a\x08\xe7\x07\x92\x01\x00\xc2\x02\x01x\x00", 12),
		     0);
	cr_assert_eq(ask_answer(&refusals.peer, 999)->body_case, REDD__V1__MESSAGE__BODY_PONG);
	cr_assert_eq(peer_send(&refusals.peer, "\x0a\x08\xe8\x07\x92\x01\x04\x4a\x02hi", 11), 0);
	cr_assert_eq(ask_answer(&refusals.peer, 1000)->body_case, REDD__V1__MESSAGE__BODY_PONG);
	buf_deinit(&frame);
}
