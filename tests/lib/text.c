/* A reader by recursive descent over the text; what it reads goes out at once by tests/lib/wire.h,
 * so that it may say what no message struct could hold. State: the place in the text and the count
 * of the repetition that is going on. */
#include "tests/lib/text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "proto/schema.h"
#include "tests/lib/wire.h"

#define NAME_SIZE 64
#define ROOM	  (64u << 20)

struct text {
	const char *start, *at;
	unsigned long count; /* what # stands for */
};

static void fields_read(struct text *t, struct buf *out, const ProtobufCMessageDescriptor *type);

static void __attribute__((noreturn)) mistake(const struct text *t, const char *what)
{
	fprintf(stderr, "text: %s at: %.60s\n   of: %.400s\n", what, t->at, t->start);
	abort();
}

static bool is_next(struct text *t, char c)
{
	t->at += strspn(t->at, " \t\n");
	if (*t->at != c)
		return false;
	t->at++;
	return true;
}

static void name_read(struct text *t, char ret[NAME_SIZE])
{
	size_t n = 0;

	t->at += strspn(t->at, " \t\n");
	while ((isalnum((unsigned char)*t->at) || *t->at == '_') && n < NAME_SIZE - 1)
		ret[n++] = *t->at++;
	ret[n] = '\0';
	if (!n)
		mistake(t, "a name is missing");
}

static unsigned long times_read(struct text *t)
{
	char *end;
	unsigned long n = 1;

	if (is_next(t, '*')) {
		n = strtoul(t->at, &end, 0);
		t->at = end;
	}
	return n;
}

static void put(struct buf *out, const void *data, size_t size)
{
	if (buf_append(out, data, size))
		abort();
}

static void escape_read(struct text *t, struct buf *out)
{
	unsigned byte = (unsigned char)*t->at++;
	int n = 0;

	if (byte == 'n')
		byte = '\n';
	if (byte == 'x' && sscanf(t->at, "%2x%n", &byte, &n) == 1)
		t->at += n;
	put(out, &(uint8_t){ (uint8_t)byte }, 1);
}

/* Behind the opening quote. */
static void string_read(struct text *t, struct buf *out)
{
	char count[24];

	while (*t->at != '"') {
		char c = *t->at++;

		if (!c)
			mistake(t, "the text has no end");
		if (c == '\\')
			escape_read(t, out);
		else if (c == '#')
			put(out, count, (size_t)snprintf(count, sizeof(count), "%lu", t->count));
		else
			put(out, &c, 1);
	}
	t->at++;
}

static void string_pack(struct text *t, struct buf *out, const ProtobufCFieldDescriptor *field)
{
	struct buf one, all;

	if (!is_next(t, '"'))
		mistake(t, "a text is missing");
	buf_init(&one, ROOM);
	buf_init(&all, ROOM);
	string_read(t, &one);
	for (unsigned long n = times_read(t); n > 0; n--)
		put(&all, buf_head(&one), buf_size(&one));
	wire_bytes(out, field->id, buf_head(&all), buf_size(&all));
	buf_deinit(&one);
	buf_deinit(&all);
}

static uint64_t word_value(struct text *t, const ProtobufCFieldDescriptor *field)
{
	const ProtobufCEnumValue *value;
	char name[NAME_SIZE];

	name_read(t, name);
	if (field->type == PROTOBUF_C_TYPE_BOOL)
		return !strcmp(name, "true");
	if (field->type != PROTOBUF_C_TYPE_ENUM)
		mistake(t, "a number is missing");
	value = protobuf_c_enum_descriptor_get_value_by_name(field->descriptor, name);
	if (!value)
		mistake(t, "no such value");
	return (uint64_t)(int64_t)value->value;
}

static uint64_t number_read(struct text *t, const ProtobufCFieldDescriptor *field)
{
	uint64_t value;
	char *end;

	t->at += strspn(t->at, " \t\n");
	if (is_next(t, '#'))
		return t->count;
	if (isalpha((unsigned char)*t->at))
		return word_value(t, field);
	/* A negative one comes out as the ten bytes that a negative int32 has. */
	value = *t->at == '-' ? (uint64_t)strtoll(t->at, &end, 0) : strtoull(t->at, &end, 0);
	if (end == t->at)
		mistake(t, "a value is missing");
	t->at = end;
	return value;
}

static void scalar_pack(struct text *t, struct buf *out, const ProtobufCFieldDescriptor *field)
{
	if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES) {
		string_pack(t, out, field);
	} else if (schema_wire(field->type) == PROTOBUF_C_WIRE_TYPE_VARINT) {
		wire_number(out, field->id, number_read(t, field));
	} else {
		uint64_t value = number_read(t, field);

		wire_tag(out, field->id, schema_wire(field->type));
		put(out, &value, 8);
	}
}

static void message_pack(struct text *t, struct buf *out, const ProtobufCFieldDescriptor *field)
{
	struct buf inner;

	if (field->type != PROTOBUF_C_TYPE_MESSAGE || !is_next(t, '{'))
		mistake(t, "a message is missing");
	buf_init(&inner, ROOM);
	fields_read(t, &inner, field->descriptor);
	if (!is_next(t, '}'))
		mistake(t, "a } is missing");
	wire_bytes(out, field->id, buf_head(&inner), buf_size(&inner));
	buf_deinit(&inner);
}

static void field_read(struct text *t, struct buf *out, const ProtobufCMessageDescriptor *type)
{
	const ProtobufCFieldDescriptor *field;
	unsigned long times, outer = t->count;
	const char *value;
	char name[NAME_SIZE];
	bool is_scalar;

	name_read(t, name);
	field = protobuf_c_message_descriptor_get_field_by_name(type, name);
	if (!field)
		mistake(t, "no such field before");
	times = times_read(t);
	is_scalar = is_next(t, ':');
	value = t->at;
	for (unsigned long i = 0; i < times; i++) {
		t->at = value;
		t->count = times > 1 ? i : outer;
		if (is_scalar)
			scalar_pack(t, out, field);
		else
			message_pack(t, out, field);
	}
	t->count = outer;
}

static void fields_read(struct text *t, struct buf *out, const ProtobufCMessageDescriptor *type)
{
	for (;;) {
		t->at += strspn(t->at, " \t\n");
		if (!*t->at || *t->at == '}')
			return;
		field_read(t, out, type);
	}
}

void text_pack(struct buf *out, const ProtobufCMessageDescriptor *type, const char *text)
{
	struct text t = { text, text, 0 };

	fields_read(&t, out, type);
	if (*t.at)
		mistake(&t, "too much");
}

void text_pack_request(struct buf *out, uint64_t id, const char *text)
{
	uint8_t prefix[FRAME_PREFIX_MAX];
	struct buf body;

	buf_init(&body, 64u << 20);
	if (id)
		wire_number(&body, 1, id);
	text_pack(&body, &redd__v1__request__descriptor, text);
	if (buf_append(out, prefix, frame_prefix(prefix, buf_size(&body))) ||
	    buf_append(out, buf_head(&body), buf_size(&body)))
		abort();
	buf_deinit(&body);
}
