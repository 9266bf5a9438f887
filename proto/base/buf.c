#include "proto/base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/err.h"

#define BUF_KEEP 16384u /* an empty queue keeps no more memory than this */

void buf_init(struct buf *b, size_t cap)
{
	*b = (struct buf){ .cap = cap };
}

void buf_deinit(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ .cap = b->cap };
}

static int buf_grow(struct buf *b, size_t need)
{
	size_t capacity = b->capacity ? b->capacity : 256;
	uint8_t *data;

	while (capacity < need)
		capacity *= 2;
	data = malloc(capacity);
	if (!data)
		return err_begin(-ENOMEM);
	if (buf_size(b))
		memcpy(data, buf_head(b), buf_size(b));
	b->end -= b->start;
	b->start = 0;
	free(b->data);
	b->data = data;
	b->capacity = capacity;
	return 0;
}

int buf_reserve(struct buf *b, size_t size, uint8_t **ret_space)
{
	size_t used = buf_size(b);
	int r;

	if (size > b->cap || used > b->cap - size)
		return BUF_E_FULL;
	if (b->capacity - b->end < size) {
		if (b->capacity >= used + size && b->start >= used) {
			/* Far enough consumed: move what is left to the front. */
			memcpy(b->data, buf_head(b), used);
			b->start = 0;
			b->end = used;
		} else {
			r = buf_grow(b, used + size);
			if (r < 0)
				return err_pass(r);
		}
	}
	*ret_space = b->data + b->end;
	return 0;
}

void buf_commit(struct buf *b, size_t size)
{
	assert(size <= b->capacity - b->end);
	b->end += size;
}

int buf_append(struct buf *b, const void *data, size_t size)
{
	uint8_t *space;
	int r = buf_reserve(b, size, &space);

	if (r)
		return r;
	if (size)
		memcpy(space, data, size);
	buf_commit(b, size);
	return 0;
}

void buf_consume(struct buf *b, size_t size)
{
	assert(size <= buf_size(b));
	b->start += size;
	if (b->start != b->end)
		return;
	b->start = b->end = 0;
	if (b->capacity > BUF_KEEP) {
		free(b->data);
		b->data = NULL;
		b->capacity = 0;
	}
}
