/* The codec: what is taken packs and comes back the same; what a view takes the general way takes
 * too, with the same values.
 */
#include "proto/codec.h"

#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "tests/fuzz/fuzz.h"

static struct arena first, second;

/* Packed, and the body of it unpacked again and packed: the same bytes. */
static void check_packs(const ProtobufCMessage *message,
			int (*unpack)(struct arena *a, const uint8_t *data, size_t size,
				      ProtobufCMessage **ret))
{
	ProtobufCMessage *again;
	size_t prefix, length;
	struct buf one, two;

	buf_init(&one, SIZE_MAX / 2);
	buf_init(&two, SIZE_MAX / 2);
	FUZZ_CHECK(codec_pack(&one, message, UINT32_MAX) == 0);
	FUZZ_CHECK(!frame_parse(buf_head(&one), buf_size(&one), UINT32_MAX, &prefix, &length));
	FUZZ_CHECK(prefix + length == buf_size(&one));
	FUZZ_CHECK(unpack(&second, buf_head(&one) + prefix, length, &again) == 0);
	FUZZ_CHECK(codec_pack(&two, again, UINT32_MAX) == 0);
	FUZZ_CHECK(buf_size(&one) == buf_size(&two));
	FUZZ_CHECK(!memcmp(buf_head(&one), buf_head(&two), buf_size(&one)));
	buf_deinit(&one);
	buf_deinit(&two);
}

static int unpack_request(struct arena *a, const uint8_t *data, size_t size, ProtobufCMessage **ret)
{
	Redd__V1__Request *request;
	const char *reason;
	int r = codec_unpack_request(a, data, size, &request, &reason);

	if (r)
		FUZZ_CHECK(r == CODEC_E_REFUSED && strlen(reason) > 20);
	else
		*ret = &request->base;
	return r;
}

static int unpack_message(struct arena *a, const uint8_t *data, size_t size, ProtobufCMessage **ret)
{
	Redd__V1__Message *message;
	const char *reason;
	int r = codec_unpack_message(a, data, size, &message, &reason);

	if (r)
		FUZZ_CHECK(r == CODEC_E_REFUSED && strlen(reason) > 20);
	else
		*ret = &message->base;
	return r;
}

static void check_port(const struct codec_write *w, const Redd__V1__PortRef *port)
{
	FUZZ_CHECK((int)port->by_case == (int)w->by);
	if (w->by == CODEC_BY_NAME)
		FUZZ_CHECK(port->name.len == w->name_size &&
			   (!w->name_size || !memcmp(port->name.data, w->name, w->name_size)));
	else
		FUZZ_CHECK((w->by == CODEC_BY_ID ? port->id : port->spawn) == w->number);
}

static void check_write(const struct codec_write *w, const Redd__V1__Request *request)
{
	const Redd__V1__Write *write = request->write;

	FUZZ_CHECK(request->body_case == REDD__V1__REQUEST__BODY_WRITE && request->id == w->id);
	check_port(w, write->port);
	FUZZ_CHECK(write->has_stream == w->has_stream && write->stream == w->stream);
	FUZZ_CHECK(write->has_offset == w->has_offset && write->offset == w->offset);
	FUZZ_CHECK(write->has_header == w->has_header && write->header == w->header);
	FUZZ_CHECK(write->no_wait == w->no_wait && write->close == w->close);
	FUZZ_CHECK(write->has_data && write->data.len == w->size);
	FUZZ_CHECK(!w->size || !memcmp(write->data.data, w->data, w->size));
}

static void check_output(const struct codec_output *o, const uint8_t *data,
			 const Redd__V1__Message *message)
{
	const Redd__V1__Output *output = message->output;

	FUZZ_CHECK(message->body_case == REDD__V1__MESSAGE__BODY_OUTPUT && !message->has_reply_to);
	FUZZ_CHECK(output->subscription == o->subscription && output->port == o->port);
	FUZZ_CHECK(output->stream == o->stream && output->offset == o->offset);
	FUZZ_CHECK(output->consumed == o->consumed);
	FUZZ_CHECK(output->has_record == (o->record >= 0));
	FUZZ_CHECK(!output->has_record || (int)output->record == o->record);
	FUZZ_CHECK(output->data.len == o->size);
	FUZZ_CHECK(!o->size || !memcmp(output->data.data, data, o->size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_copy(data, size);
	ProtobufCMessage *message = NULL;
	struct codec_output output;
	struct codec_write write;
	const uint8_t *bytes;
	int r;

	arena_init(&first);
	arena_init(&second);
	r = unpack_request(&first, copy, size, &message);
	if (codec_view_write(copy, size, &write) == 0) {
		FUZZ_CHECK(r == 0);
		check_write(&write, (Redd__V1__Request *)message);
	}
	if (r == 0)
		check_packs(message, unpack_request);
	r = unpack_message(&first, copy, size, &message);
	if (codec_view_output(copy, size, &output, &bytes) == 0) {
		FUZZ_CHECK(r == 0);
		check_output(&output, bytes, (Redd__V1__Message *)message);
	}
	if (r == 0)
		check_packs(message, unpack_message);
	arena_deinit(&first);
	arena_deinit(&second);
	free(copy);
	return 0;
}
