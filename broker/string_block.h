/* NUL-terminated strings one after another in one piece of memory, as the helper's link wants them
 * and as environ(7) is laid out.
 */
#ifndef REDD_STRING_BLOCK_H
#define REDD_STRING_BLOCK_H

#include <stddef.h>
#include <stdint.h>

struct string_block {
	char *data;  /* owned */
	size_t size; /* bytes, NULs included */
	size_t capacity;
	uint32_t count; /* strings */
};

/* Zeroed is empty too. */
void string_block_init(struct string_block *b);
void string_block_deinit(struct string_block *b);

/* Room for `size` more bytes without another allocation. 0 or -ENOMEM. */
int string_block_reserve(struct string_block *b, size_t size);

/* Appends one string of `size` bytes (none of them NUL) and its NUL. 0 or -ENOMEM. */
int string_block_add(struct string_block *b, const void *text, size_t size);

/* Appends one string made of three parts (any of them may be empty). 0 or -ENOMEM. */
int string_block_add_parts(struct string_block *b, const void *first, size_t first_size,
			   const char *middle, const void *last, size_t last_size);

/* The string after `at`, or the first one when at is NULL; NULL at the end. */
const char *string_block_next(const struct string_block *b, const char *at);

#endif
