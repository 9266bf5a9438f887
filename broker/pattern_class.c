/* Escapes and classes: what stands for one byte. */
#include "broker/pattern.h"

/* --- escapes --------------------------------------------------------------------------------- */

static int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind "\x": HH or {HH}. */
static int escape_hex(struct parser *p, uint8_t *ret)
{
	bool braces = parser_accept(p, "{");
	unsigned value = 0, n = 0;

	for (; n < 2 && hex_digit(parser_peek(p)) >= 0; n++)
		value = value * 16 + (unsigned)hex_digit(p->text[p->at++]);
	if (n == 0 || (braces && !parser_accept(p, "}")))
		return parser_refuse(p, p->at, "needs one or two hexadecimal digits behind \\x");
	*ret = (uint8_t)value;
	return 0;
}

int pattern_escape(struct parser *p, uint8_t *ret)
{
	static const char letters[] = "nrtfvae", bytes[] = "\n\r\t\f\v\a\x1b";
	const char *known;
	size_t at = p->at;
	int c = parser_peek(p);

	if (c < 0)
		return parser_refuse(p, at, "ends with a lone backslash");
	p->at++;
	if (c == 'x')
		return escape_hex(p, ret);
	known = c ? strchr(letters, c) : NULL;
	if (known)
		c = bytes[known - letters];
	else if (c >= '1' && c <= '9')
		return parser_refuse(
			p, at, "has a back reference, which no search of a stream can follow");
	else if (c == '0')
		return parser_refuse(p, at, "has an octal escape; write \\x and two digits");
	else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return parser_refuse(
			p, at, "has an escape that is not known; see redd(1) for those that are");
	*ret = (uint8_t)c;
	return 0;
}

/* --- classes --------------------------------------------------------------------------------- */

/* "[:alpha:]" inside of a class. */
static int class_named(struct parser *p, struct byte_set *s)
{
	size_t at = p->at, n = 0;
	bool inverted;

	p->at += 2;
	inverted = parser_accept(p, "^");
	while (p->at + n < p->size && p->text[p->at + n] != ':')
		n++;
	if (!byte_set_named(s, (const char *)p->text + p->at, n, inverted))
		return parser_refuse(
			p, at, "has a class of a name that is not known, such as [:alpha:] is");
	p->at += n;
	return parser_accept(p, ":]") ? 0 : parser_refuse(p, at, "has a [: without its :]");
}

/* One element: a byte into *ret_byte, or a set that is joined, and *ret_byte is -1. */
static int class_element(struct parser *p, struct byte_set *s, int *ret_byte)
{
	struct byte_set set;
	uint8_t byte;
	int r;

	*ret_byte = -1;
	if (p->size - p->at >= 2 && !memcmp(p->text + p->at, "[:", 2))
		return class_named(p, s);
	if (!parser_accept(p, "\\")) {
		*ret_byte = p->text[p->at++];
		return 0;
	}
	if (parser_has(p) && byte_set_of_letter(&set, p->text[p->at])) {
		p->at++;
		byte_set_join(s, &set);
		return 0;
	}
	if (parser_accept(p, "b")) {
		*ret_byte = '\b';
		return 0;
	}
	r = pattern_escape(p, &byte);
	*ret_byte = byte;
	return r;
}

/* Behind an element: the rest of a range, if it is one. */
static int class_range(struct parser *p, struct byte_set *s, int low)
{
	size_t at = p->at;
	int high = low, r = 0;

	if (low >= 0 && p->size - p->at >= 2 && p->text[p->at] == '-' &&
	    p->text[p->at + 1] != ']') {
		p->at++;
		r = class_element(p, s, &high);
	}
	if (r)
		return r;
	if (low >= 0 && high < low)
		return parser_refuse(p, at, "has a range in a class that does not rise");
	if (low >= 0)
		byte_set_add(s, (unsigned)low, (unsigned)high);
	return 0;
}

int pattern_class(struct parser *p)
{
	size_t at = p->at - 1;
	bool inverted = parser_accept(p, "^"), first = true;
	struct byte_set s = { { 0 } };
	int r = 0, low;

	for (; parser_has(p) && (first || parser_peek(p) != ']') && !r; first = false) {
		r = class_element(p, &s, &low);
		if (!r)
			r = class_range(p, &s, low);
	}
	if (r)
		return r;
	if (!parser_accept(p, "]"))
		return parser_refuse(p, at, "has a [ without its ]");
	if (p->ignore_case)
		byte_set_fold(&s);
	if (inverted)
		byte_set_invert(&s);
	return program_add_set(p->program, &s);
}
