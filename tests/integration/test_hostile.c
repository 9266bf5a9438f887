/* Bytes that are no protocol: each ends its own connection, with a Bye that says why, and nobody
 * else's stream notices (P7, P15). And what is odd but legal is taken. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/lib/ask.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"
#include "tests/lib/text.h"
#include "tests/lib/wire.h"

#define ROOM   (4u << 20)
#define SPAWN  3 /* fields of Request */
#define HELLO  2
#define PING   18
#define WAITED REDD__V1__MESSAGE__BODY_WAITED

static struct service service;
static struct neighbour neighbour;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
}

static void tear_down(void)
{
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(hostile, .init = set_up, .fini = tear_down, .timeout = 60);

/* The next thing to come is a Bye that tells a person what was wrong, and then the end. */
static void expect_bye(struct peer *p, Redd__V1__Code code, const char *word, const char *what)
{
	Redd__V1__Message *m = ask_event(p, REDD__V1__MESSAGE__BODY_BYE);

	cr_expect_not_null(m, "%s: no Bye", what);
	if (!m)
		return;
	cr_expect_eq(m->bye->error->code, code, "%s: %s", what, ask_text(m));
	cr_expect_null(ask_check_error(m->bye->error), "%s: %s", what, ask_text(m));
	cr_expect(strstr(m->bye->error->message, word), "%s: no '%s' in %s", what, word,
		  ask_text(m));
	cr_expect_eq(peer_expect_end(p, 10000), 0, "%s: it stays open", what);
}

/* --- lengths --------------------------------------------------------------------------------- */

static const struct {
	const char *bytes, *word;
	size_t size;
} lengths[] = {
	{ "\x81\x80\x40", "frame_max", 3 }, /* 1 MiB and 1 */
	{ "\xff\xff\xff\xff\x0f", "frame_max", 5 },
	{ "\xff\xff\xff\xff\x10", "length", 5 },
	{ "\xff\xff\xff\xff\x7f", "length", 5 },
	{ "\x80\x80\x80\x80\x80\x00", "length", 6 },
	{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "length", 10 },
};

Test(hostile, P15_lengths_that_are_none_or_too_large)
{
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct peer p;

		ask_greet(&p, service.socket);
		cr_assert_eq(peer_send(&p, lengths[i].bytes, lengths[i].size), 0);
		expect_bye(&p, REDD__V1__CODE__INVALID_ARGUMENT, lengths[i].word, "length");
		peer_close(&p);
	}
}

/* --- bodies ---------------------------------------------------------------------------------- */

static const struct {
	const char *what, *bytes;
	size_t size;
	const char *word;
} bodies[] = {
	{ "a cut tag", "\x80", 1, "field" },
	{ "a cut number", "\x08\x80", 2, "number" },
	{ "a long number", "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12, "number" },
	{ "a number of 65 bits", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, "number" },
	{ "field 0", "\x00\x01", 2, "field" },
	{ "a tag of 33 bits", "\xf8\xff\xff\xff\x1f\x01", 6, "field" },
	{ "a group", "\x0b\x0c", 2, "group" },
	{ "wire type 6", "\x0e\x00", 2, "wire type" },
	{ "id as text", "\x0a\x01x", 3, "another type" },
	{ "hello as a number", "\x08\x02\x10\x01", 4, "another type" },
	{ "a list past its end", "\x08\x02\x12\x05\x08", 5, "past the end" },
	{ "an argument past its message", "\x08\x02\x1a\x03\x12\x05x", 7, "past the end" },
	{ "hello twice", "\x08\x02\x12\x00\x12\x00", 6, "second choice" },
	{ "hello and ping", "\x08\x02\x12\x00\x92\x01\x00", 7, "second choice" },
	{ "an environment twice", "\x08\x02\x1a\x06\x42\x00\x42\x00\x42\x00", 10, "twice" },
	{ "two names of one port", "\x08\x02\x5a\x06\x0a\x04\x08\x01\x18\x01", 10,
	  "second choice" },
	{ "text with a NUL", "\x08\x02\x12\x05\x12\x03x\x00y", 9, "NUL" },
	{ "text that is not UTF-8", "\x08\x02\x12\x04\x12\x02\xc3\x28", 8, "UTF-8" },
	{ "a program with a NUL", "\x08\x02\x1a\x05\x0a\x03x\x00y", 9, "NUL" },
	{ "no id", "\x92\x01\x00", 3, "id" },
	{ "id 0", "\x08\x00\x92\x01\x00", 5, "id" },
	{ "a spawn without an id", "\x1a\x03\x0a\x01x", 5, "id" },
	{ "a cut packed list", "\x08\x02\x62\x03\x12\x01\x80", 7, "packed" },
};

static void send_body(struct peer *p, const void *body, size_t size)
{
	uint8_t prefix[FRAME_PREFIX_MAX];

	cr_assert_eq(peer_send(p, prefix, frame_prefix(prefix, size)), 0);
	cr_assert_eq(peer_send(p, body, size), 0);
}

Test(hostile, P15_S64_bodies_that_are_not_the_protocol)
{
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct peer p;

		ask_greet(&p, service.socket);
		send_body(&p, bodies[i].bytes, bodies[i].size);
		expect_bye(&p, REDD__V1__CODE__INVALID_ARGUMENT, bodies[i].word, bodies[i].what);
		peer_close(&p);
	}
}

/* --- bombs ----------------------------------------------------------------------------------- */

static void repeat(struct buf *out, const void *piece, size_t size, size_t n)
{
	while (n-- > 0)
		cr_assert_eq(buf_append(out, piece, size), 0);
}

/* Submessage `number` of a request around `inner`, which is consumed. */
static void wrap(struct buf *out, uint32_t number, struct buf *take_inner)
{
	wire_number(out, 1, 7);
	wire_bytes(out, number, buf_head(take_inner), buf_size(take_inner));
	buf_deinit(take_inner);
}

static void make_fields(struct buf *out)
{
	struct buf inner;

	buf_init(&inner, ROOM);
	repeat(&inner, "\x12\x00", 2, SCAN_FIELDS_MAX);
	wrap(out, SPAWN, &inner);
}

static void make_empty_parts(struct buf *out)
{
	struct buf inner;

	buf_init(&inner, ROOM);
	repeat(&inner, "\x4a\x00", 2, 120000);
	wrap(out, SPAWN, &inner);
}

static void make_unknown(struct buf *out)
{
	wire_number(out, 1, 7);
	repeat(out, "\xf8\x7f\x01", 3, SCAN_UNKNOWN_MAX + 1);
}

static void make_merge(struct buf *out)
{
	wire_number(out, 1, 7);
	repeat(out, "\x1a\x02\x42\x00", 4, 200000);
}

static void make_inner_merge(struct buf *out)
{
	struct buf inner;

	buf_init(&inner, ROOM);
	repeat(&inner, "\x42\x04\x12\x02x=", 6, 150000);
	wrap(out, SPAWN, &inner);
}

static const struct {
	const char *what, *word;
	void (*make)(struct buf *out);
} bombs[] = {
	{ "more fields than any request has", "field", make_fields },
	{ "many nearly empty parts", "memory", make_empty_parts },
	{ "unknown fields", "unknown", make_unknown },
	{ "one request many times", "second choice", make_merge },
	{ "one part many times", "twice", make_inner_merge },
};

Test(hostile, P15_frames_that_cost_more_than_they_weigh)
{
	for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
		struct buf body;
		struct peer p;

		ask_greet(&p, service.socket);
		buf_init(&body, ROOM);
		bombs[i].make(&body);
		send_body(&p, buf_head(&body), buf_size(&body));
		expect_bye(&p, REDD__V1__CODE__INVALID_ARGUMENT, bombs[i].word, bombs[i].what);
		buf_deinit(&body);
		peer_close(&p);
	}
}

/* --- odd, but legal -------------------------------------------------------------------------- */

static void expect_pong(struct peer *p, uint64_t id, const char *what)
{
	Redd__V1__Message *m = NULL;

	cr_assert_eq(peer_answer(p, id, 10000, &m), 0, "%s", what);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PONG, "%s: %s", what, ask_text(m));
}

Test(hostile, P15_what_is_odd_but_legal_is_taken)
{
	struct peer p;
	struct buf nest;

	ask_greet(&p, service.socket);
	cr_assert_eq(peer_send(&p, "\0\0\0\0\0", 5), 0); /* frames that mean nothing */
	cr_assert_eq(peer_send(&p, "\x85\x80\x00\x08\x02\x92\x01\x00", 8), 0);
	expect_pong(&p, 2, "a padded length");
	cr_assert_eq(peer_send(&p, "\x07\x08\x09\x08\x03\x92\x01\x00", 8), 0);
	expect_pong(&p, 3, "an id that comes twice");
	cr_assert_eq(peer_send(&p, "\x05\x92\x01\x00\x08\x04", 6), 0);
	expect_pong(&p, 4, "the id at the end");
	buf_init(&nest, ROOM);
	wire_number(&nest, 1, 5);
	wire_tag(&nest, PING, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED);
	wire_varint(&nest, 0);
	for (uint32_t i = 0; i < SCAN_UNKNOWN_MAX; i++)
		wire_bytes(&nest, 1000 + i, "\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a\x0a", 12);
	send_body(&p, buf_head(&nest), buf_size(&nest));
	expect_pong(&p, 5, "as many unknown fields as may be, nested to no end");
	buf_deinit(&nest);
	peer_close(&p);
}

static const char session[] =
	"spawn { shell: \"cat; exit 3\" descriptors { fd: 0 kind: KIND_PIPE } "
	"subscribe { } retention_ms: 0 }";

/* A whole session, to be sent in any pieces: Hello, Spawn, Write, Close, Wait. */
static void session_pack(struct buf *out)
{
	buf_init(out, ROOM);
	ask_pack(out, 1, "hello { version: 1 client: \"pieces\" }");
	ask_pack(out, 2, session);
	ask_pack(out, 3, "write { port { spawn: 2 } data: \"some input\\n\" }");
	ask_pack(out, 4, "close { port { spawn: 2 } }");
	ask_pack(out, 5, "wait { port { spawn: 2 } until: CLOSED }");
}

static void session_send_in_pieces(size_t piece)
{
	Redd__V1__Message *m;
	struct buf bytes;
	struct peer p;

	session_pack(&bytes);
	cr_assert_eq(peer_open(&p, service.socket), 0);
	for (size_t at = 0; at < buf_size(&bytes); at += piece)
		cr_assert_eq(
			peer_send(&p, buf_head(&bytes) + at,
				  piece < buf_size(&bytes) - at ? piece : buf_size(&bytes) - at),
			0);
	buf_deinit(&bytes);
	cr_assert_eq(ask_answer(&p, 2)->body_case, REDD__V1__MESSAGE__BODY_STARTED);
	m = ask_event(&p, REDD__V1__MESSAGE__BODY_OUTPUT);
	cr_assert(m && m->output->data.len == 11 &&
		  !memcmp(m->output->data.data, "some input\n", 11));
	m = ask_answer(&p, 5);
	cr_assert_eq(m->body_case, WAITED, "%s", ask_text(m));
	cr_assert_eq(m->waited->exit->code, 3);
	peer_close(&p);
}

Test(hostile, P15_a_session_may_come_in_pieces_of_any_size)
{
	for (size_t piece = 1; piece < 40; piece += place_rounds(39) < 39 ? 13 : 1)
		session_send_in_pieces(piece);
	session_send_in_pieces(ROOM);
}

Test(hostile, P15_ten_thousand_requests_in_one_piece_are_all_answered_in_order)
{
	unsigned n = place_rounds(10000);
	struct buf bytes;
	struct peer p;

	ask_greet(&p, service.socket);
	buf_init(&bytes, ROOM);
	for (unsigned i = 0; i < n; i++)
		ask_pack(&bytes, 100 + i, "ping { }");
	cr_assert_eq(peer_send(&p, buf_head(&bytes), buf_size(&bytes)), 0);
	for (unsigned i = 0; i < n; i++) {
		Redd__V1__Message *m;

		cr_assert_eq(peer_recv(&p, 10000, &m), 0);
		cr_assert_eq(m->reply_to, 100 + i);
	}
	buf_deinit(&bytes);
	peer_close(&p);
}

/* --- half of something ----------------------------------------------------------------------- */

Test(hostile, P7_half_a_frame_and_a_hangup_at_every_byte)
{
	struct buf bytes;

	session_pack(&bytes);
	for (size_t cut = 0; cut <= buf_size(&bytes); cut++) {
		struct peer p;

		cr_assert_eq(peer_open(&p, service.socket), 0);
		cr_assert_eq(peer_send(&p, buf_head(&bytes), cut), 0);
		peer_close(&p);
	}
	neighbour_wait(&neighbour, 10);
	buf_deinit(&bytes);
}

Test(hostile, P15_half_a_hello_and_silence_is_told_after_two_seconds)
{
	struct peer peers[14];
	struct buf bytes;

	session_pack(&bytes);
	for (size_t i = 0; i < 14; i++) {
		cr_assert_eq(peer_open(&peers[i], service.socket), 0);
		cr_assert_eq(peer_send(&peers[i], buf_head(&bytes), i), 0);
	}
	for (size_t i = 0; i < 14; i++) {
		expect_bye(&peers[i], REDD__V1__CODE__DEADLINE_EXCEEDED, "Hello", "silence");
		peer_close(&peers[i]);
	}
	buf_deinit(&bytes);
}

Test(hostile, P7_a_hundred_connections_with_half_a_frame_hold_up_nobody)
{
	enum { N = 100 };
	static struct peer peers[N];

	for (int i = 0; i < N; i++) {
		ask_greet(&peers[i], service.socket);
		cr_assert_eq(peer_send_prefix(&peers[i], FRAME_MAX_DEFAULT), 0);
		cr_assert_eq(peer_send(&peers[i], "\x08", 1), 0);
	}
	neighbour_wait(&neighbour, 10);
	for (int i = 0; i < N; i++)
		peer_close(&peers[i]);
}
