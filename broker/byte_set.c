#include "broker/byte_set.h"

#include <string.h>

#include "proto/base/cleanup.h"

void byte_set_add(struct byte_set *s, unsigned low, unsigned high)
{
	for (unsigned c = low; c <= high; c++)
		s->bits[c >> 6] |= 1ull << (c & 63);
}

void byte_set_invert(struct byte_set *s)
{
	for (int i = 0; i < 4; i++)
		s->bits[i] = ~s->bits[i];
}

void byte_set_join(struct byte_set *s, const struct byte_set *other)
{
	for (int i = 0; i < 4; i++)
		s->bits[i] |= other->bits[i];
}

void byte_set_fold(struct byte_set *s)
{
	for (unsigned c = 'a'; c <= 'z'; c++) {
		unsigned other = c ^ 0x20;

		if (byte_set_has(s, (uint8_t)c) || byte_set_has(s, (uint8_t)other)) {
			byte_set_add(s, c, c);
			byte_set_add(s, other, other);
		}
	}
}

/* Ranges, as pairs of their first and last byte. */
static const struct {
	const char *name;
	const char *ranges;
} classes[] = {
	{ "alpha", "azAZ" },
	{ "digit", "09" },
	{ "alnum", "azAZ09" },
	{ "upper", "AZ" },
	{ "lower", "az" },
	{ "space", "\t\r  " },
	{ "blank", "\t\t  " },
	{ "punct", "!/:@[`{~" },
	{ "print", " ~" },
	{ "graph", "!~" },
	{ "word", "azAZ09__" },
	{ "xdigit", "09afAF" },
	{ "cntrl", "\x01\x1f\x7f\x7f" },
};

static void set_ranges(struct byte_set *s, const char *ranges)
{
	for (; *ranges; ranges += 2)
		byte_set_add(s, (uint8_t)ranges[0], (uint8_t)ranges[1]);
}

bool byte_set_of_letter(struct byte_set *ret, uint8_t letter)
{
	*ret = (struct byte_set){ { 0 } };
	switch (letter | 0x20) {
	case 'd':
		set_ranges(ret, "09");
		break;
	case 'w':
		set_ranges(ret, "azAZ09__");
		break;
	case 's':
		set_ranges(ret, "\t\r  ");
		break;
	default:
		return false;
	}
	if (letter < 'a')
		byte_set_invert(ret);
	return true;
}

bool byte_set_named(struct byte_set *s, const char *name, size_t n, bool inverted)
{
	struct byte_set named = { { 0 } };
	size_t i = 0;

	while (i < ARRAY_SIZE(classes) &&
	       (strlen(classes[i].name) != n || memcmp(classes[i].name, name, n) != 0))
		i++;
	if (i == ARRAY_SIZE(classes))
		return false;
	set_ranges(&named, classes[i].ranges);
	if (!strcmp(classes[i].name, "cntrl"))
		byte_set_add(&named, 0, 0);
	if (inverted)
		byte_set_invert(&named);
	byte_set_join(s, &named);
	return true;
}
