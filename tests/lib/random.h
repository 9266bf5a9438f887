/* Random numbers that can be had again: the same seed gives the same ones everywhere (splitmix64).
 * A test prints its seed when it fails. */
#ifndef TESTS_LIB_RANDOM_H
#define TESTS_LIB_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random {
	uint64_t state;
};

static inline uint64_t random_next(struct random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 to n - 1. */
static inline uint64_t random_below(struct random *r, uint64_t n)
{
	return random_next(r) % n;
}

static inline bool random_chance(struct random *r, unsigned one_in)
{
	return random_below(r, one_in) == 0;
}

/* Of any size from 0 to 64 bits, each size equally often, and the ends of each size more often than
 * the middle: what breaks is at the ends. */
static inline uint64_t random_number(struct random *r)
{
	unsigned bits = (unsigned)random_below(r, 65);
	uint64_t top = bits == 0 ? 0 : UINT64_MAX >> (64 - bits);

	switch (random_below(r, 4)) {
	case 0:
		return top;
	case 1:
		return top + 1;
	default:
		return random_next(r) & top;
	}
}

static inline void random_fill(struct random *r, uint8_t *out, size_t size)
{
	for (size_t i = 0; i < size; i++)
		out[i] = (uint8_t)random_next(r);
}

#endif
