#include "client/cli/json.h"

#include <inttypes.h>
#include <string.h>

/* Length of the UTF-8 character at p, or 0 when it is none (overlong, surrogate, too large, cut).
 */
static size_t utf8_length(const unsigned char *p, size_t size)
{
	static const unsigned lowest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
	unsigned c;

	if (n == 0 || n > size)
		return 0;
	c = p[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c < lowest[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

/* Writes one character; returns how many bytes it took. */
static size_t put_character(FILE *f, const unsigned char *p, size_t size)
{
	size_t n;

	if (p[0] == '"' || p[0] == '\\') {
		fputc('\\', f);
		fputc(p[0], f);
		return 1;
	}
	if (p[0] < 0x20 || p[0] == 0x7f) {
		fprintf(f, "\\u%04x", p[0]);
		return 1;
	}
	if (p[0] < 0x80) {
		fputc(p[0], f);
		return 1;
	}
	n = utf8_length(p, size);
	if (!n) {
		fprintf(f, "\\udc%02x", p[0]);
		return 1;
	}
	fwrite(p, 1, n, f);
	return n;
}

static void put_text(FILE *f, const void *data, size_t size)
{
	const unsigned char *p = data;

	fputc('"', f);
	for (size_t i = 0; i < size;)
		i += put_character(f, p + i, size - i);
	fputc('"', f);
}

static void begin(struct json *j, const char *key)
{
	if (j->comma)
		fputc(',', j->file);
	j->comma = true;
	if (key) {
		put_text(j->file, key, strlen(key));
		fputc(':', j->file);
	}
}

static void open_with(struct json *j, const char *key, char c)
{
	begin(j, key);
	fputc(c, j->file);
	j->comma = false;
}

static void close_with(struct json *j, char c)
{
	fputc(c, j->file);
	j->comma = true;
}

void json_object(struct json *j, const char *key)
{
	open_with(j, key, '{');
}

void json_object_end(struct json *j)
{
	close_with(j, '}');
}

void json_array(struct json *j, const char *key)
{
	open_with(j, key, '[');
}

void json_array_end(struct json *j)
{
	close_with(j, ']');
}

void json_bytes(struct json *j, const char *key, const void *data, size_t size)
{
	begin(j, key);
	put_text(j->file, data, size);
}

void json_string(struct json *j, const char *key, const char *s)
{
	if (s) {
		json_bytes(j, key, s, strlen(s));
		return;
	}
	begin(j, key);
	fputs("null", j->file);
}

void json_number(struct json *j, const char *key, int64_t n)
{
	begin(j, key);
	fprintf(j->file, "%" PRId64, n);
}

void json_unsigned(struct json *j, const char *key, uint64_t n)
{
	begin(j, key);
	fprintf(j->file, "%" PRIu64, n);
}

void json_bool(struct json *j, const char *key, bool b)
{
	begin(j, key);
	fputs(b ? "true" : "false", j->file);
}

void json_line(struct json *j)
{
	fputc('\n', j->file);
	j->comma = false;
}
