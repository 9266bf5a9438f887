/* One allocation for a struct and all it points to. The same code runs twice: first without memory,
 * when every take only counts and gives NULL, then with it.
 */
#ifndef REDD_CLIENT_BLOCK_H
#define REDD_CLIENT_BLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct block {
	uint8_t *data; /* NULL: measuring */
	size_t used;
	size_t size;
};

/* Zeroed room for n items; NULL while measuring. */
static inline void *block_take(struct block *b, size_t n, size_t item)
{
	size_t size = (n * item + 7) & ~(size_t)7;
	uint8_t *p = b->data ? b->data + b->used : NULL;

	b->used += size;
	return p;
}

static inline const char *block_bytes(struct block *b, const void *data, size_t size)
{
	char *p = block_take(b, size + 1, 1);

	if (p && size)
		memcpy(p, data, size);
	return p;
}

/* NULL is kept as an empty string, so that a reader needs no check. */
static inline const char *block_string(struct block *b, const char *s)
{
	return block_bytes(b, s, s ? strlen(s) : 0);
}

/* Allocates what was measured. 0, or -1 without memory. The block is the caller's to free(). */
static inline int block_make(struct block *b)
{
	b->size = b->used;
	b->used = 0;
	b->data = calloc(1, b->size);
	return b->data ? 0 : -1;
}

/* What was taken first. */
static inline void *block_start(const struct block *b)
{
	return b->data;
}

#endif
