#include "proto/codec.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/random.h"
#include "tests/lib/wire.h"

static struct arena arena;
static struct buf out, in;

static void init(void)
{
	arena_init(&arena);
	buf_init(&out, 4u << 20);
	buf_init(&in, 4u << 20);
}

static void fini(void)
{
	arena_deinit(&arena);
	buf_deinit(&out);
	buf_deinit(&in);
}

TestSuite(codec, .timeout = 30, .init = init, .fini = fini);

/* Takes the one frame in `out` apart. */
static const uint8_t *body(size_t *ret_size)
{
	size_t prefix;

	cr_assert_eq(frame_parse(buf_head(&out), buf_size(&out), SIZE_MAX, &prefix, ret_size), 0);
	cr_assert_eq(prefix + *ret_size, buf_size(&out));
	return buf_head(&out) + prefix;
}

/* --- whole messages -------------------------------------------------------------------------- */

Test(codec, a_request_comes_back_as_it_was_packed)
{
	Redd__V1__Ping ping = REDD__V1__PING__INIT;
	Redd__V1__Request request = REDD__V1__REQUEST__INIT, *back;
	const char *reason;
	const uint8_t *data;
	size_t size;

	ping.has_data = true;
	ping.data = (ProtobufCBinaryData){ 5, (uint8_t *)"a\0b\xff\n" };
	request.has_id = true;
	request.id = 1u << 20;
	request.body_case = REDD__V1__REQUEST__BODY_PING;
	request.ping = &ping;
	cr_assert_eq(codec_pack(&out, &request.base, FRAME_MAX_DEFAULT), 0);
	data = body(&size);
	cr_assert_eq(codec_unpack_request(&arena, data, size, &back, &reason), 0);
	cr_assert_eq(back->id, request.id);
	cr_assert_eq(back->body_case, REDD__V1__REQUEST__BODY_PING);
	cr_assert_eq(back->ping->data.len, 5);
	cr_assert_arr_eq(back->ping->data.data, "a\0b\xff\n", 5);
}

Test(codec, an_unpacked_message_does_not_refer_to_the_frame)
{
	Redd__V1__Request *back;
	const char *reason;

	wire_bytes(&in, 18,
		   "\x0a\x03"
		   "abc",
		   5);
	cr_assert_eq(codec_unpack_request(&arena, buf_head(&in), buf_size(&in), &back, &reason), 0);
	memset(buf_head(&in), 0xee, buf_size(&in));
	cr_assert_arr_eq(back->ping->data.data, "abc", 3);
}

Test(codec, a_refusal_names_field_place_and_remedy)
{
	Redd__V1__Request *request = (void *)&in;
	Redd__V1__Message *message = (void *)&in;
	const char *reason;

	wire_number(&in, 1, 9);
	wire_bytes(&in, 3,
		   "\x12\x03"
		   "a\0b",
		   5);
	cr_assert_eq(codec_unpack_request(&arena, buf_head(&in), buf_size(&in), &request, &reason),
		     CODEC_E_REFUSED);
	cr_assert_str_eq(reason, "spawn.args (at byte 4) holds a NUL byte, where the system would "
				 "take it to end; remove the NUL");
	cr_assert_eq(request, (void *)&in, "outputs are written on success only");
	cr_assert_eq(codec_unpack_message(&arena, buf_head(&in), buf_size(&in), &message, &reason),
		     CODEC_E_REFUSED);
	cr_assert_not_null(strstr(reason, "reply_to") ?: strstr(reason, "welcome"), "%s", reason);
}

Test(codec, an_empty_body_is_an_empty_message)
{
	Redd__V1__Request *request;
	const char *reason;
	uint8_t nothing = 0;

	cr_assert_eq(codec_unpack_request(&arena, &nothing, 0, &request, &reason), 0);
	cr_assert_not(request->has_id);
	cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY__NOT_SET);
}

static Redd__V1__Message pong_of(Redd__V1__Pong *pong, uint8_t *data, size_t size)
{
	Redd__V1__Message message = REDD__V1__MESSAGE__INIT;

	*pong = (Redd__V1__Pong)REDD__V1__PONG__INIT;
	pong->has_data = true;
	pong->data = (ProtobufCBinaryData){ size, data };
	message.body_case = REDD__V1__MESSAGE__BODY_PONG;
	message.pong = pong;
	return message;
}

Test(codec, a_message_longer_than_the_frame_is_not_packed_at_all)
{
	static uint8_t data[1000];
	Redd__V1__Pong pong;
	Redd__V1__Message message = pong_of(&pong, data, sizeof(data));
	size_t size = protobuf_c_message_get_packed_size(&message.base);

	cr_assert_eq(codec_pack(&out, &message.base, size - 1), CODEC_E_LONG);
	cr_assert_eq(buf_size(&out), 0);
	cr_assert_eq(codec_pack(&out, &message.base, size), 0);
	cr_assert_eq(buf_size(&out), size + 2);
}

Test(codec, a_full_buffer_takes_nothing_of_a_message)
{
	static uint8_t data[100];
	Redd__V1__Pong pong;
	Redd__V1__Message message = pong_of(&pong, data, sizeof(data));

	buf_deinit(&out);
	buf_init(&out, 150);
	cr_assert_eq(codec_pack(&out, &message.base, FRAME_MAX_DEFAULT), 0);
	size_t before = buf_size(&out);
	cr_assert_eq(codec_pack(&out, &message.base, FRAME_MAX_DEFAULT), CODEC_E_FULL);
	cr_assert_eq(buf_size(&out), before);
}

Test(codec, random_messages_survive_unpack_pack_unpack)
{
	const uint64_t seed = 20240504;
	struct random r = { seed };

	for (int round = 0; round < 5000; round++) {
		Redd__V1__Message *first;
		const char *reason;
		uint8_t again[65536], *packed;
		size_t size;

		buf_consume(&in, buf_size(&in));
		wire_random(&in, &redd__v1__message__descriptor, &r);
		if (!buf_size(&in))
			continue;
		cr_assert_eq(
			codec_unpack_message(&arena, buf_head(&in), buf_size(&in), &first, &reason),
			0, "seed %lu round %d: %s", seed, round, reason);
		buf_consume(&out, buf_size(&out));
		cr_assert_eq(codec_pack(&out, &first->base, sizeof(again)), 0);
		packed = (uint8_t *)body(&size);
		memcpy(again, packed, size);
		cr_assert_eq(codec_unpack_message(&arena, again, size, &first, &reason), 0);
		buf_consume(&out, buf_size(&out));
		cr_assert_eq(codec_pack(&out, &first->base, sizeof(again)), 0);
		packed = (uint8_t *)body(&size);
		cr_assert_arr_eq(packed, again, size, "seed %lu round %d", seed, round);
	}
}

/* --- output ---------------------------------------------------------------------------------- */

static struct codec_output random_output(struct random *r)
{
	return (struct codec_output){ .subscription = random_number(r),
				      .port = random_number(r),
				      .stream = (uint32_t)random_number(r),
				      .offset = random_number(r),
				      .consumed = random_number(r),
				      .record = (int)random_below(r, 5) - 1,
				      .size = random_below(r, 600) };
}

static void pack_output(const struct codec_output *o, const uint8_t *data)
{
	Redd__V1__Output output = REDD__V1__OUTPUT__INIT;
	Redd__V1__Message message = REDD__V1__MESSAGE__INIT;

	output.has_subscription = output.has_port = output.has_stream = true;
	output.has_offset = output.has_consumed = output.has_data = true;
	output.has_record = o->record >= 0;
	output.subscription = o->subscription;
	output.port = o->port;
	output.stream = o->stream;
	output.offset = o->offset;
	output.consumed = o->consumed;
	output.record = (Redd__V1__Output__Record)(o->record >= 0 ? o->record : 0);
	output.data = (ProtobufCBinaryData){ o->size, (uint8_t *)data };
	message.body_case = REDD__V1__MESSAGE__BODY_OUTPUT;
	message.output = &output;
	buf_consume(&out, buf_size(&out));
	cr_assert_eq(codec_pack(&out, &message.base, FRAME_MAX_HIGHEST), 0);
}

static void assert_same_output(const struct codec_output *a, const struct codec_output *b)
{
	cr_assert_eq(a->subscription, b->subscription);
	cr_assert_eq(a->port, b->port);
	cr_assert_eq(a->stream, b->stream);
	cr_assert_eq(a->offset, b->offset);
	cr_assert_eq(a->consumed, b->consumed);
	cr_assert_eq(a->record, b->record);
	cr_assert_eq(a->size, b->size);
}

Test(codec, the_output_prefix_is_what_the_generated_packer_writes)
{
	const uint64_t seed = 20240505;
	struct random r = { seed };
	uint8_t data[600];

	random_fill(&r, data, sizeof(data));
	for (int round = 0; round < 50000; round++) {
		struct codec_output o = random_output(&r), viewed;
		uint8_t prefix[CODEC_OUTPUT_PREFIX_MAX];
		size_t n = codec_output_prefix(prefix, &o), size;
		const uint8_t *frame, *bytes;

		pack_output(&o, data);
		cr_assert_eq(buf_size(&out), n + o.size, "seed %lu round %d", seed, round);
		cr_assert_arr_eq(buf_head(&out), prefix, n, "seed %lu round %d", seed, round);
		frame = body(&size);
		cr_assert_eq(codec_view_output(frame, size, &viewed, &bytes), 0);
		assert_same_output(&o, &viewed);
		cr_assert_eq(bytes, frame + size - o.size);
	}
}

Test(codec, the_longest_output_prefix_has_room)
{
	struct codec_output o = { UINT64_MAX, UINT64_MAX, UINT32_MAX,	    UINT64_MAX,
				  UINT64_MAX, INT32_MAX,  FRAME_MAX_HIGHEST };
	uint8_t prefix[CODEC_OUTPUT_PREFIX_MAX];

	cr_assert_leq(codec_output_prefix(prefix, &o), sizeof(prefix));
}

/* --- write ----------------------------------------------------------------------------------- */

static struct codec_write random_write(struct random *r, uint8_t name[NAME_MAX_SIZE])
{
	struct codec_write w = { .id = random_number(r) | 1,
				 .by = (enum codec_by)(1 + random_below(r, 3)),
				 .has_stream = random_chance(r, 2),
				 .has_offset = random_chance(r, 2),
				 .no_wait = random_chance(r, 2),
				 .close = random_chance(r, 2),
				 .has_header = random_chance(r, 2),
				 .force = random_chance(r, 2),
				 .batch = random_chance(r, 2) ? (uint32_t)random_next(r) : 0,
				 .size = random_below(r, 600) };

	if (w.by == CODEC_BY_NAME) {
		w.name = name;
		w.name_size = random_below(r, NAME_MAX_SIZE + 1);
		random_fill(r, name, NAME_MAX_SIZE);
		for (size_t i = 0; i < NAME_MAX_SIZE; i++)
			name[i] |= !name[i];
	} else {
		w.number = random_number(r);
	}
	w.stream = w.has_stream ? (uint32_t)random_number(r) : 0;
	w.offset = w.has_offset ? random_number(r) : 0;
	w.header = w.has_header ? (uint32_t)random_number(r) : 0;
	return w;
}

static void pack_write(const struct codec_write *w, const uint8_t *data)
{
	Redd__V1__PortRef ref = REDD__V1__PORT_REF__INIT;
	Redd__V1__Write write = REDD__V1__WRITE__INIT;
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;

	ref.by_case = (Redd__V1__PortRef__ByCase)w->by;
	if (w->by == CODEC_BY_NAME)
		ref.name = (ProtobufCBinaryData){ w->name_size, (uint8_t *)w->name };
	else if (w->by == CODEC_BY_ID)
		ref.id = w->number;
	else
		ref.spawn = w->number;
	write.port = &ref;
	write.has_stream = w->has_stream;
	write.stream = w->stream;
	write.has_offset = w->has_offset;
	write.offset = w->offset;
	write.has_no_wait = write.no_wait = w->no_wait;
	write.has_close = write.close = w->close;
	write.has_header = w->has_header;
	write.header = w->header;
	write.has_force = write.force = w->force;
	write.has_batch = w->batch != 0;
	write.batch = w->batch;
	write.has_data = true;
	write.data = (ProtobufCBinaryData){ w->size, (uint8_t *)data };
	request.has_id = true;
	request.id = w->id;
	request.body_case = REDD__V1__REQUEST__BODY_WRITE;
	request.write = &write;
	buf_consume(&out, buf_size(&out));
	cr_assert_eq(codec_pack(&out, &request.base, FRAME_MAX_HIGHEST), 0);
}

static void assert_same_write(const struct codec_write *a, const struct codec_write *b)
{
	cr_assert_eq(a->id, b->id);
	cr_assert_eq(a->by, b->by);
	cr_assert_eq(a->number, b->number);
	cr_assert_eq(a->name_size, b->name_size);
	cr_assert(!a->name_size || !memcmp(a->name, b->name, a->name_size));
	cr_assert_eq(a->stream, b->stream);
	cr_assert_eq(a->offset, b->offset);
	cr_assert(a->has_stream == b->has_stream && a->has_offset == b->has_offset);
	cr_assert(a->has_header == b->has_header && a->header == b->header);
	cr_assert(a->no_wait == b->no_wait && a->close == b->close && a->force == b->force &&
		  a->batch == b->batch);
	cr_assert_eq(a->size, b->size);
}

Test(codec, the_write_prefix_is_what_the_generated_packer_writes)
{
	const uint64_t seed = 20240506;
	struct random r = { seed };
	uint8_t data[600], name[NAME_MAX_SIZE];

	random_fill(&r, data, sizeof(data));
	for (int round = 0; round < 50000; round++) {
		struct codec_write w = random_write(&r, name), viewed;
		uint8_t prefix[CODEC_WRITE_PREFIX_MAX];
		size_t n = codec_write_prefix(prefix, &w), size;
		const uint8_t *frame;

		pack_write(&w, data);
		cr_assert_eq(buf_size(&out), n + w.size, "seed %lu round %d", seed, round);
		cr_assert_arr_eq(buf_head(&out), prefix, n, "seed %lu round %d", seed, round);
		frame = body(&size);
		cr_assert_eq(codec_view_write(frame, size, &viewed), 0, "seed %lu round %d", seed,
			     round);
		assert_same_write(&w, &viewed);
		cr_assert_eq(viewed.data, frame + size - w.size);
	}
}

Test(codec, the_longest_write_prefix_has_room)
{
	uint8_t name[NAME_MAX_SIZE], prefix[CODEC_WRITE_PREFIX_MAX];
	struct codec_write w = { .id = UINT64_MAX,
				 .by = CODEC_BY_NAME,
				 .name = name,
				 .name_size = sizeof(name),
				 .stream = UINT32_MAX,
				 .offset = UINT64_MAX,
				 .has_stream = true,
				 .has_offset = true,
				 .no_wait = true,
				 .close = true,
				 .has_header = true,
				 .header = UINT32_MAX,
				 .force = true,
				 .batch = UINT32_MAX,
				 .size = FRAME_MAX_HIGHEST };

	memset(name, 'n', sizeof(name));
	cr_assert_leq(codec_write_prefix(prefix, &w), sizeof(prefix));
}

/* --- views ----------------------------------------------------------------------------------- */

static void assert_other_write(const char *why)
{
	struct codec_write w;

	cr_assert_eq(codec_view_write(buf_head(&in), buf_size(&in), &w), CODEC_E_OTHER, "%s", why);
	buf_consume(&in, buf_size(&in));
}

Test(codec, a_view_of_anything_but_the_one_form_is_left_to_the_general_way)
{
	static const char port[] = "\x0a\x02\x08\x05", data[] = "\x7a\x01x";

	wire_bytes(&in, 4, "\x0a\x02\x08\x05\x7a\x01x", 7);
	assert_other_write("no id");
	wire_number(&in, 1, 0);
	wire_bytes(&in, 4, "\x0a\x02\x08\x05\x7a\x01x", 7);
	assert_other_write("id 0");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, data, 3);
	assert_other_write("no port");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, port, 4);
	assert_other_write("no data");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, "\x7a\x01x\x0a\x02\x08\x05", 7);
	assert_other_write("data first");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, "\x0a\x02\x08\x05\x20\x00\x7a\x01x", 9);
	assert_other_write("a flag sent as false");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, "\x0a\x02\x08\x05\x40\x00\x7a\x01x", 9);
	assert_other_write("a batch sent as 0");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, "\x0a\x04\x08\x05\x08\x06\x7a\x01x", 9);
	assert_other_write("two ids");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4,
		   "\x0a\x05\x12\x03"
		   "a\0b\x7a\x01x",
		   10);
	assert_other_write("a name with a NUL");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, "\x0a\x02\x08\x05\x7a\x02x", 7);
	assert_other_write("data over the end");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 4, "\x0a\x02\x08\x05\x7a\x01x", 7);
	wire_number(&in, 99, 1);
	assert_other_write("something behind");
	wire_number(&in, 1, 1);
	wire_bytes(&in, 3, "\x0a\x02\x08\x05\x7a\x01x", 7);
	assert_other_write("another request");
}

/* Whatever a view takes, the general way takes too, with the same values. */
static unsigned check_views(uint64_t seed, int round)
{
	Redd__V1__Request *request;
	Redd__V1__Message *message;
	struct codec_output o;
	struct codec_write w;
	const uint8_t *data;
	const char *reason;
	unsigned taken = 0;

	if (!codec_view_write(buf_head(&in), buf_size(&in), &w)) {
		cr_assert_eq(codec_unpack_request(&arena, buf_head(&in), buf_size(&in), &request,
						  &reason),
			     0, "seed %lu round %d: %s", seed, round, reason);
		cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_WRITE);
		cr_assert_eq(request->id, w.id);
		cr_assert_eq((int)request->write->port->by_case, (int)w.by);
		cr_assert_eq(request->write->data.len, w.size);
		cr_assert_eq(request->write->has_offset, w.has_offset);
		cr_assert_eq(request->write->offset, w.offset);
		cr_assert_eq(request->write->has_header, w.has_header);
		cr_assert_eq(request->write->header, w.header);
		taken++;
	}
	if (!codec_view_output(buf_head(&in), buf_size(&in), &o, &data)) {
		cr_assert_eq(codec_unpack_message(&arena, buf_head(&in), buf_size(&in), &message,
						  &reason),
			     0, "seed %lu round %d: %s", seed, round, reason);
		cr_assert_eq(message->body_case, REDD__V1__MESSAGE__BODY_OUTPUT);
		cr_assert_eq(message->output->offset, o.offset);
		cr_assert_eq(message->output->stream, o.stream);
		cr_assert_eq(message->output->data.len, o.size);
		cr_assert_eq(message->output->has_record, o.record >= 0);
		taken++;
	}
	return taken;
}

Test(codec, views_of_damaged_frames_agree_with_the_general_way)
{
	const uint64_t seed = 20240507;
	struct random r = { seed };
	uint8_t data[600] = { 0 }, name[NAME_MAX_SIZE];
	unsigned taken = 0;

	for (int round = 0; round < 50000; round++) {
		const uint8_t *frame;
		size_t size;

		if (round % 2) {
			struct codec_write w = random_write(&r, name);

			pack_write(&w, data);
		} else {
			struct codec_output o = random_output(&r);

			pack_output(&o, data);
		}
		frame = body(&size);
		buf_consume(&in, buf_size(&in));
		buf_append(&in, frame, size);
		wire_mutate(&in, &r);
		if (buf_size(&in))
			taken += check_views(seed, round);
	}
	cr_assert_gt(taken, 10000, "damage to data and numbers leaves a legal frame");
}
