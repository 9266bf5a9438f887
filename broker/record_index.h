/* Where the packets of a stream begin: a sparse index that is kept as bytes come into a log whose
 * port declared packets. It lies in the log's shared memory, so that a successor goes on with it.
 *
 * The log is divided into RECORD_SEGMENTS equal segments; of each the first record that begins in
 * it is known, but perhaps for the oldest, of which a part has gone. An entry that belongs to an
 * older round of the ring shows that by its own value.
 */
#ifndef REDD_RECORD_INDEX_H
#define REDD_RECORD_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#define RECORD_SEGMENTS 256u

/* In shared memory; all zero: none is kept. One writer, which stores whole words: `next` last, so
 * that feeding again from there after a death gives the same. */
struct record_index {
	uint32_t header;  /* bytes of a packet's length: 1, 2 or 4; 0: no index */
	uint32_t maximum; /* a length above it is no header */
	uint32_t shift;	  /* a segment has 1 << shift bytes */
	uint32_t is_bad;  /* at `next` stands no header: nothing behind it can be told */
	uint64_t last;	  /* where the record began that was begun last */
	uint64_t next;	  /* where the next one begins; it may be ahead of the stream */
	uint64_t starts[RECORD_SEGMENTS];
};

/* For a log of `size` bytes, a power of two from RECORD_SEGMENTS on, at offset 0. */
void record_index_init(struct record_index *ix, uint32_t size, uint32_t header, uint32_t maximum);

/* One that an earlier process left for a log of that size and tail: it can be gone on with. */
bool record_index_is_sound(const struct record_index *ix, uint32_t size, uint64_t tail);

/* Bytes up to `head` are there. `data` is the byte at ix->next, looked at only when that is below
 * head and the index not bad; the bytes from there on must still be in the log. */
void record_index_feed(struct record_index *ix, const uint8_t *data, uint64_t head);

/* The first start known at or behind `from`; it may be ahead of the stream, whose head is `head`.
 * False: there is none, because of is_bad. */
bool record_index_find(const struct record_index *ix, uint64_t from, uint64_t head, uint64_t *ret);

/* The length that a header of 1, 2 or 4 bytes gives. */
uint32_t record_length(const uint8_t *data, uint32_t header);

#endif
