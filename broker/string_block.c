/* Strings one after another; grows by doubling. */
#include "broker/string_block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/err.h"

#define CAPACITY_LOWEST 256u

void string_block_init(struct string_block *b)
{
	*b = (struct string_block){ 0 };
}

void string_block_deinit(struct string_block *b)
{
	free(b->data);
	string_block_init(b);
}

int string_block_reserve(struct string_block *b, size_t size)
{
	size_t wanted, capacity;
	char *data;

	if (__builtin_add_overflow(b->size, size, &wanted) || wanted > SIZE_MAX / 2)
		return err_begin(-ENOMEM);
	if (wanted <= b->capacity)
		return 0;
	capacity = MAX(MAX(wanted, 2 * b->capacity), (size_t)CAPACITY_LOWEST);
	data = realloc(b->data, capacity);
	if (!data)
		return err_begin(-ENOMEM);
	b->data = data;
	b->capacity = capacity;
	return 0;
}

static void put(struct string_block *b, const void *text, size_t size)
{
	if (size)
		memcpy(b->data + b->size, text, size);
	b->size += size;
}

int string_block_add_parts(struct string_block *b, const void *first, size_t first_size,
			   const char *middle, const void *last, size_t last_size)
{
	size_t middle_size = strlen(middle);
	int r = string_block_reserve(b, first_size + middle_size + last_size + 1);

	if (r)
		return err_pass(r);
	put(b, first, first_size);
	put(b, middle, middle_size);
	put(b, last, last_size);
	put(b, "", 1);
	b->count++;
	return 0;
}

int string_block_add(struct string_block *b, const void *text, size_t size)
{
	return string_block_add_parts(b, text, size, "", NULL, 0);
}

const char *string_block_next(const struct string_block *b, const char *at)
{
	const char *next = at ? at + strlen(at) + 1 : b->data;

	return next && next < b->data + b->size ? next : NULL;
}
