/* A byte queue with a cap: bytes are appended at the end and consumed from the front. It grows with
 * what was really put in, never with what somebody announced, and gives memory back when it is
 * empty.
 */
#ifndef REDD_BASE_BUF_H
#define REDD_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;	 /* start of the memory, owned */
	size_t start;	 /* first byte that was not consumed */
	size_t end;	 /* one past the last */
	size_t capacity; /* of the memory */
	size_t cap;	 /* most bytes that may ever wait */
};

#define BUF_E_FULL 1 /* the cap would be passed: nothing was taken */

void buf_init(struct buf *b, size_t cap);
void buf_deinit(struct buf *b);

static inline size_t buf_size(const struct buf *b)
{
	return b->end - b->start;
}

/* The first byte; NULL when nothing was ever put in. */
static inline uint8_t *buf_head(const struct buf *b)
{
	return b->data ? b->data + b->start : NULL;
}

/* Makes room for at least `size` more bytes behind the end and tells where. The pointer holds until
 * the next call. 0, BUF_E_FULL or -ENOMEM. */
int buf_reserve(struct buf *b, size_t size, uint8_t **ret_space);

/* Says that `size` bytes were written into the reserved space. */
void buf_commit(struct buf *b, size_t size);

/* Copies data to the end. 0, BUF_E_FULL or -ENOMEM. */
int buf_append(struct buf *b, const void *data, size_t size);

/* Drops `size` bytes (not more than there are) from the front. */
void buf_consume(struct buf *b, size_t size);

#endif
