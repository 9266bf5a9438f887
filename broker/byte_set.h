/* A set of bytes, as a class of a regular expression is one. Pure. */
#ifndef REDD_BROKER_BYTE_SET_H
#define REDD_BROKER_BYTE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct byte_set {
	uint64_t bits[4];
};

static inline bool byte_set_has(const struct byte_set *s, uint8_t byte)
{
	return s->bits[byte >> 6] >> (byte & 63) & 1;
}

/* From low to high, both included and below 256. */
void byte_set_add(struct byte_set *s, unsigned low, unsigned high);
void byte_set_invert(struct byte_set *s);
void byte_set_join(struct byte_set *s, const struct byte_set *other);

/* Adds the other form of every ASCII letter that is in it. */
void byte_set_fold(struct byte_set *s);

/* \d, \w, \s; with a capital letter all others. False: the letter is none of them. */
bool byte_set_of_letter(struct byte_set *ret, uint8_t letter);

/* Adds what "alpha", "digit" ... of n bytes stand for, or all others. False: no such name. */
bool byte_set_named(struct byte_set *s, const char *name, size_t n, bool inverted);

#endif
