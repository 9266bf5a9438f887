#include "proto/scan.h"

#include <criterion/criterion.h>
#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/arena.h"
#include "proto/base/buf.h"
#include "proto/base/cleanup.h"
#include "proto/redd.pb-c.h"
#include "proto/schema.h"
#include "proto/utf8.h"
#include "tests/lib/wire.h"

#define REQUEST (&redd__v1__request__descriptor)
#define MESSAGE (&redd__v1__message__descriptor)

/* Numbers of redd.proto that are used below. */
enum { HELLO = 2, SPAWN = 3, WRITE = 4, PING = 18, SPAWN_ARGS = 2, SPAWN_LABELS = 27 };

static struct buf frame, inner;
static struct scan_result result;
static struct arena arena;

static void init(void)
{
	buf_init(&frame, 32u << 20);
	buf_init(&inner, 32u << 20);
	arena_init(&arena);
}

static void fini(void)
{
	buf_deinit(&frame);
	buf_deinit(&inner);
	arena_deinit(&arena);
}

TestSuite(scan, .timeout = 30, .init = init, .fini = fini);

static int scan(void)
{
	uint8_t nothing = 0;

	return scan_message(REQUEST, buf_size(&frame) ? buf_head(&frame) : &nothing,
			    buf_size(&frame), &result);
}

/* Puts what is in `inner` into the frame as field `number`. */
static void close_inner(uint32_t number)
{
	wire_bytes(&frame, number, buf_head(&inner), buf_size(&inner));
	buf_consume(&inner, buf_size(&inner));
}

static const char *path(void)
{
	static char text[128];

	return scan_path(REQUEST, &result, text, sizeof(text));
}

#define ASSERT_REFUSED(want_path, want_word)                                               \
	do {                                                                               \
		cr_assert_eq(scan(), SCAN_E_REFUSED);                                      \
		cr_assert_str_eq(path(), want_path);                                       \
		cr_assert_not_null(strstr(result.reason, want_word), "%s", result.reason); \
	} while (0)

static void assert_unpacks(const ProtobufCMessageDescriptor *type)
{
	arena_reset(&arena, result.arena);
	cr_assert_not_null(protobuf_c_message_unpack(type, arena_allocator(&arena),
						     buf_size(&frame), buf_head(&frame)),
			   "passed the scan and did not unpack");
	cr_assert_leq(arena.used, result.arena);
}

/* --- legal frames ---------------------------------------------------------------------------- */

Test(scan, an_empty_message_passes)
{
	cr_assert_eq(scan(), 0);
}

static void put_environment(int n, size_t size)
{
	struct buf environment;
	char text[128];

	buf_init(&environment, 32u << 20);
	wire_text(&inner, 1, "/bin/env");
	for (int i = 0; i < n; i++) {
		memset(text, 'x', sizeof(text));
		text[1] = '=';
		wire_bytes(&environment, 4, text, size);
	}
	wire_bytes(&inner, 8, buf_head(&environment), buf_size(&environment));
	buf_deinit(&environment);
	wire_number(&frame, 1, 77);
	close_inner(SPAWN);
}

Test(scan, a_spawn_with_20000_long_variables_passes)
{
	put_environment(20000, 107);
	cr_assert_eq(scan(), 0, "%s", result.reason);
	assert_unpacks(REQUEST);
}

Test(scan, a_spawn_with_20000_short_variables_passes)
{
	put_environment(20000, 3);
	cr_assert_eq(scan(), 0, "%s", result.reason);
	assert_unpacks(REQUEST);
}

Test(scan, a_hundred_thousand_arguments_of_one_letter_pass)
{
	for (int i = 0; i < 100000; i++)
		wire_text(&inner, SPAWN_ARGS, "x");
	close_inner(SPAWN);
	cr_assert_eq(scan(), 0, "%s", result.reason);
	assert_unpacks(REQUEST);
}

Test(scan, a_write_of_data_with_any_byte_passes)
{
	uint8_t data[256];

	for (int i = 0; i < 256; i++)
		data[i] = (uint8_t)i;
	wire_bytes(&inner, 15, data, sizeof(data));
	close_inner(WRITE);
	cr_assert_eq(scan(), 0);
}

Test(scan, a_scalar_that_comes_twice_passes)
{
	wire_number(&frame, 1, 5);
	wire_number(&frame, 1, 6);
	cr_assert_eq(scan(), 0);
}

Test(scan, lists_of_numbers_pass_packed_and_not)
{
	wire_number(&inner, 18, 1000);
	wire_bytes(&inner, 18, "\x05\xff\x7f", 3);
	wire_bytes(&inner, 18, "", 0);
	wire_number(&inner, 18, 1001);
	close_inner(SPAWN);
	cr_assert_eq(scan(), 0);
	assert_unpacks(REQUEST);
}

Test(scan, random_legal_frames_pass_and_unpack_within_what_was_told)
{
	const uint64_t seed = 20240502;
	struct random r = { seed };
	size_t told = 0, used = 0;

	for (int round = 0; round < 20000; round++) {
		const ProtobufCMessageDescriptor *type = round % 2 ? REQUEST : MESSAGE;

		buf_consume(&frame, buf_size(&frame));
		wire_random(&frame, type, &r);
		if (!buf_size(&frame))
			continue;
		cr_assert_eq(scan_message(type, buf_head(&frame), buf_size(&frame), &result), 0,
			     "seed %lu round %d: %s", seed, round, result.reason);
		assert_unpacks(type);
		told += result.arena;
		used += arena.used;
	}
	cr_assert_leq(told, used + used / 10, "what is told must be near to what is used");
}

/* --- refusals -------------------------------------------------------------------------------- */

Test(scan, a_length_over_the_end_is_refused)
{
	wire_tag(&inner, SPAWN_ARGS, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED);
	wire_varint(&inner, 100);
	close_inner(SPAWN);
	ASSERT_REFUSED("spawn.args", "past the end");
	cr_assert_eq(result.offset, 2);
}

Test(scan, every_cut_of_a_frame_is_refused_or_ends_between_fields)
{
	size_t size, passed = 0;

	wire_number(&frame, 1, 300);
	wire_text(&inner, 1, "/bin/true");
	close_inner(SPAWN);
	size = buf_size(&frame);
	for (size_t cut = 0; cut < size; cut++)
		passed += !scan_message(REQUEST, buf_head(&frame), cut, &result);
	cr_assert_eq(passed, 2, "nothing at all, and the id alone");
}

Test(scan, a_length_or_tag_of_more_than_five_bytes_is_refused)
{
	buf_append(&frame, "\x12\x80\x80\x80\x80\x80\x00", 7);
	ASSERT_REFUSED("hello", "past the end");
	buf_consume(&frame, buf_size(&frame));
	buf_append(&frame, "\x88\x80\x80\x80\x80\x00\x00", 7);
	ASSERT_REFUSED("0", "beginning of a field");
}

Test(scan, field_number_zero_is_refused)
{
	buf_append(&frame, "\x00\x00", 2);
	ASSERT_REFUSED("0", "beginning of a field");
	buf_consume(&frame, buf_size(&frame));
	buf_append(&frame, "\x80\x00\x00", 3);
	ASSERT_REFUSED("0", "beginning of a field");
}

Test(scan, groups_and_unknown_wire_types_are_refused)
{
	for (int wire = 0; wire < 8; wire++) {
		static const uint8_t value[8];

		buf_consume(&frame, buf_size(&frame));
		wire_tag(&frame, 99, (ProtobufCWireType)wire);
		buf_append(&frame, value, wire == 1 ? 8 : wire == 5 ? 4 : 1);
		if (wire == 0 || wire == 1 || wire == 2 || wire == 5)
			cr_assert_eq(scan(), 0, "wire type %d", wire);
		else
			ASSERT_REFUSED("99", "group");
	}
}

Test(scan, a_known_field_of_another_type_is_refused)
{
	wire_bytes(&frame, 1, "x", 1);
	ASSERT_REFUSED("id", "another type");
	buf_consume(&frame, buf_size(&frame));
	wire_number(&frame, SPAWN, 1);
	ASSERT_REFUSED("spawn", "another type");
}

Test(scan, numbers_of_more_than_64_bits_are_refused)
{
	buf_append(&frame, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
	cr_assert_eq(scan(), 0, "the largest number");
	buf_consume(&frame, buf_size(&frame));
	buf_append(&frame, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11);
	ASSERT_REFUSED("id", "64 bits");
	buf_consume(&frame, buf_size(&frame));
	buf_append(&frame, "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12);
	ASSERT_REFUSED("id", "64 bits");
}

Test(scan, a_packed_list_with_a_broken_number_is_refused)
{
	wire_bytes(&inner, 18, "\x01\x80", 2);
	close_inner(SPAWN);
	ASSERT_REFUSED("spawn.groups", "packed");
}

Test(scan, a_second_submessage_is_refused)
{
	wire_bytes(&inner, 8, "", 0);
	wire_bytes(&inner, 8, "", 0);
	close_inner(SPAWN);
	ASSERT_REFUSED("spawn.environment", "twice");
}

Test(scan, a_second_choice_of_a_oneof_is_refused)
{
	wire_bytes(&frame, HELLO, "", 0);
	wire_bytes(&frame, PING, "", 0);
	ASSERT_REFUSED("ping", "second choice");
	buf_consume(&frame, buf_size(&frame));
	wire_bytes(&frame, PING, "", 0);
	wire_bytes(&frame, PING, "", 0);
	ASSERT_REFUSED("ping", "second choice");
}

Test(scan, nul_is_refused_in_what_the_system_reads_and_in_no_data)
{
	unsigned refused = 0, data = 0;

	for (uint32_t number = 1; number < 64; number++) {
		const ProtobufCFieldDescriptor *field =
			schema_field(&redd__v1__spawn__descriptor, number);

		if (!field || field->type != PROTOBUF_C_TYPE_BYTES)
			continue;
		buf_consume(&frame, buf_size(&frame));
		wire_bytes(&inner, number, "a\0b", 3);
		close_inner(SPAWN);
		if (number == 30)
			data += scan() == 0;
		else
			refused += scan() == SCAN_E_REFUSED && strstr(result.reason, "NUL") != NULL;
	}
	cr_assert_eq(data, 1, "token is data");
	cr_assert_eq(refused, 8,
		     "program args argv0 shell search_path directory "
		     "client_directory name");
}

Test(scan, text_with_a_nul_or_that_is_not_utf8_is_refused)
{
	wire_bytes(&inner, 2, "a\0b", 3);
	close_inner(HELLO);
	ASSERT_REFUSED("hello.client", "NUL");
	buf_consume(&frame, buf_size(&frame));
	wire_bytes(&inner, 2, "a\xff", 2);
	close_inner(HELLO);
	ASSERT_REFUSED("hello.client", "UTF-8");
}

/* Puts the frame into field 9 of a frame. */
static void nest(void)
{
	wire_bytes(&inner, 9, buf_head(&frame), buf_size(&frame));
	buf_consume(&frame, buf_size(&frame));
	buf_append(&frame, buf_head(&inner), buf_size(&inner));
	buf_consume(&inner, buf_size(&inner));
}

/* A type that holds itself: redd.proto has none, and that none is ever reached too deep is not to
 * depend on that. */
static ProtobufCFieldDescriptor self_field = { .name = "self",
					       .id = 9,
					       .label = PROTOBUF_C_LABEL_OPTIONAL,
					       .type = PROTOBUF_C_TYPE_MESSAGE,
					       .offset = sizeof(ProtobufCMessage) };
static const ProtobufCIntRange self_ranges[] = { { 9, 0 }, { 0, 1 } };
static ProtobufCMessageDescriptor self_type = { .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
						.name = "self",
						.sizeof_message = sizeof(ProtobufCMessage) + 8,
						.n_fields = 1,
						.fields = &self_field,
						.n_field_ranges = 1,
						.field_ranges = self_ranges };

Test(scan, nesting_is_followed_to_the_limit_and_not_beyond)
{
	const uint8_t nothing = 0;

	self_field.descriptor = &self_type;
	for (unsigned depth = 0; depth < 1000; depth++) {
		int r;

		if (depth > 0)
			nest();
		r = scan_message(&self_type, buf_size(&frame) ? buf_head(&frame) : &nothing,
				 buf_size(&frame), &result);
		cr_assert_eq(r, depth < SCAN_DEPTH_MAX ? 0 : SCAN_E_REFUSED, "depth %u", depth);
	}
	cr_assert_eq(result.n_path, SCAN_DEPTH_MAX);
}

Test(scan, as_many_unknown_fields_as_allowed_pass_and_one_more_is_refused)
{
	for (unsigned i = 0; i < SCAN_UNKNOWN_MAX; i++)
		wire_number(&frame, 1000 + i, i);
	cr_assert_eq(scan(), 0);
	assert_unpacks(REQUEST);
	wire_bytes(&frame, PING, "\x10\x01", 2);
	ASSERT_REFUSED("ping.2", "unknown");
}

Test(scan, as_many_fields_as_allowed_pass_and_one_more_is_refused)
{
	for (unsigned i = 1; i < SCAN_FIELDS_MAX; i++)
		wire_bytes(&inner, SPAWN_ARGS, "", 0);
	wire_bytes(&frame, SPAWN, buf_head(&inner), buf_size(&inner));
	cr_assert_eq(scan(), 0, "%s", result.reason);
	assert_unpacks(REQUEST);
	wire_number(&frame, 1, 1);
	ASSERT_REFUSED("id", "too many");
}

Test(scan, a_frame_that_would_need_too_much_memory_is_refused)
{
	for (int i = 0; i < 100000; i++)
		wire_bytes(&inner, SPAWN_LABELS, "", 0);
	close_inner(SPAWN);
	ASSERT_REFUSED("", "memory");
	cr_assert_gt(result.arena, ARENA_FLOOR);
}

Test(scan, reasons_are_sentences_that_can_be_shown)
{
	const uint64_t seed = 31;
	struct random r = { seed };
	unsigned refused = 0;

	for (int round = 0; round < 20000; round++) {
		char text[64];

		buf_consume(&frame, buf_size(&frame));
		wire_random(&frame, REQUEST, &r);
		wire_mutate(&frame, &r);
		if (!scan())
			continue;
		refused++;
		cr_assert_not_null(strstr(result.reason, "send") ?: strstr(result.reason, "generate") ?: strstr(result.reason, "NUL") ?:
				   strstr(result.reason, "UTF-8") ?: strstr(result.reason, "pack"),
				   "says what to do: %s", result.reason);
		scan_path(REQUEST, &result, text, sizeof(text));
		for (const char *c = text; *c; c++)
			cr_assert(*c > ' ' && *c < 0x7f, "seed %lu round %d", seed, round);
	}
	cr_assert_gt(refused, 1000);
}

Test(scan, what_passes_unpacks_and_what_does_not_unpack_is_refused)
{
	const uint64_t seed = 20240503;
	struct random r = { seed };
	unsigned passed = 0;

	for (int round = 0; round < 50000; round++) {
		const ProtobufCMessageDescriptor *type = round % 2 ? REQUEST : MESSAGE;

		buf_consume(&frame, buf_size(&frame));
		wire_random(&frame, type, &r);
		wire_mutate(&frame, &r);
		if (!buf_size(&frame) ||
		    scan_message(type, buf_head(&frame), buf_size(&frame), &result))
			continue;
		assert_unpacks(type);
		passed++;
	}
	cr_assert_gt(passed, 5000, "most mutations of data and numbers are legal");
}

/* --- cost ------------------------------------------------------------------------------------ */

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Scan and unpack, the best of five: how fast the machine is just now is not what is tested. */
static double cost_ms(void)
{
	double best = 1e9;

	for (int i = 0; i < 5; i++) {
		double start = cpu_ms();

		if (!scan())
			assert_unpacks(REQUEST);
		best = best < cpu_ms() - start ? best : cpu_ms() - start;
	}
	return best;
}

static const struct kind {
	const char *what;
	uint32_t request, field;
	const char *bytes;
	size_t size;
} kinds[] = {
	{ "empty arguments", SPAWN, SPAWN_ARGS, "", 0 },
	{ "one-letter arguments", SPAWN, SPAWN_ARGS, "x", 1 },
	{ "empty labels", SPAWN, SPAWN_LABELS, "", 0 },
	{ "small labels", SPAWN, SPAWN_LABELS, "\x0a\x00\x12\x00", 4 },
	{ "empty descriptors", SPAWN, 9, "", 0 },
	{ "packed groups", SPAWN, 18, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16 },
	{ "empty packed lists", SPAWN, 18, "", 0 },
	{ "features", HELLO, 4, "h\xc3\xa9", 3 },
	{ "unknown fields", HELLO, 500, "", 0 },
};

static void put_many(const struct kind *kind, size_t n)
{
	buf_consume(&frame, buf_size(&frame));
	for (size_t i = 0; i < n; i++)
		wire_bytes(&inner, kind->field, kind->bytes, kind->size);
	close_inner(kind->request);
}

/* Fills the frame with as many as pass, a mebibyte of them at most; a sixteenth less is as good. */
static void put_most(const struct kind *kind)
{
	size_t few = 0, many = (1u << 20) / (kind->size + 2);

	while (few + few / 16 + 1 < many) {
		size_t n = (few + many) / 2;

		put_many(kind, n);
		if (scan())
			many = n;
		else
			few = n;
	}
	put_many(kind, few);
}

/* The bound is that of a build without optimisation, under valgrind, on a busy machine; what it
 * guards against took seconds in any. */
Test(scan, no_frame_of_a_mebibyte_takes_long)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t budget;
		double ms;

		put_most(&kinds[i]);
		ms = cost_ms();
		cr_assert_eq(scan(), 0, "%s: %s", kinds[i].what, result.reason);
		budget = MAX(ARENA_FLOOR, ARENA_FACTOR * buf_size(&frame));
		cr_assert_leq(arena.used, budget, "%s", kinds[i].what);
		cr_assert_lt(ms, 500, "%s: %g ms", kinds[i].what, ms);
		fprintf(stderr, "%-22s %4zu KiB on the wire, %5zu KiB unpacked, %.2f ms\n",
			kinds[i].what, buf_size(&frame) / 1024, arena.used / 1024, ms);
	}
}

/* --- UTF-8 ----------------------------------------------------------------------------------- */

static size_t encode(uint8_t out[4], uint32_t c)
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		out[i] = (uint8_t)(0x80 | (c & 0x3f));
	out[0] = (uint8_t)((0xf00 >> n) | c);
	return n;
}

Test(scan, utf8_takes_every_character_and_no_surrogate)
{
	for (uint32_t c = 0; c < 0x140000; c++) {
		uint8_t out[4];
		size_t n = encode(out, c);
		bool legal = c < 0xd800 || (c > 0xdfff && c < 0x110000);

		cr_assert_eq(utf8_is_valid(out, n), legal, "U+%04X", c);
		if (n > 1)
			cr_assert_not(utf8_is_valid(out, n - 1), "U+%04X cut", c);
	}
}

Test(scan, utf8_takes_no_longer_form_than_needed)
{
	cr_assert_not(utf8_is_valid((const uint8_t *)"\xc0\x80", 2));
	cr_assert_not(utf8_is_valid((const uint8_t *)"\xc1\xbf", 2));
	cr_assert_not(utf8_is_valid((const uint8_t *)"\xe0\x9f\xbf", 3));
	cr_assert_not(utf8_is_valid((const uint8_t *)"\xf0\x8f\xbf\xbf", 4));
	cr_assert_not(utf8_is_valid((const uint8_t *)"\xf5\x80\x80\x80", 4));
	cr_assert(utf8_is_valid((const uint8_t *)"eight by\xc3\xa9 and more ascii", 25));
	cr_assert_not(utf8_is_valid((const uint8_t *)"eight by\xc3 and more ascii", 24));
}

/* --- what the scan takes for granted of the schema ------------------------------------------- */

static void check_type(const ProtobufCMessageDescriptor *type, unsigned depth)
{
	cr_assert_lt(depth, SCAN_DEPTH_MAX, "%s", type->name);
	cr_assert_leq(type->n_fields, 128, "%s", type->name);
	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];

		cr_assert_eq(schema_field(type, field->id), field, "%s.%s", type->name,
			     field->name);
		cr_assert_null(field->default_value, "%s.%s", type->name, field->name);
		cr_assert_neq(field->label, PROTOBUF_C_LABEL_REQUIRED);
		if (field->type == PROTOBUF_C_TYPE_MESSAGE)
			check_type(field->descriptor, depth + 1);
	}
	for (uint32_t number = 0; number < 2000; number++)
		if (schema_field(type, number))
			cr_assert_eq(schema_field(type, number)->id, number);
}

Test(scan, the_schema_is_what_the_scan_takes_it_for)
{
	check_type(REQUEST, 0);
	check_type(MESSAGE, 0);
}
