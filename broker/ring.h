/* The log of one output stream: a ring that keeps the newest bytes of the stream, addressed by the
 * absolute offset of each byte since the port was opened.
 *
 *	tail <= offset < head      the bytes that are kept; head - tail <= size
 *
 * The bytes lie in a memfd, a header page in front (struct ring_header, ring_memory.h), mapped
 * twice back to back, so that every kept range and every free range is contiguous. One writer, this
 * process; a successor reads the same memory with ring_adopt() of ring_pool.h, a client that was
 * handed the memfd reads it too. Rings come from a pool and go back there (ring_pool.h).
 */
#ifndef REDD_RING_H
#define REDD_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/list.h"

struct record_index;
struct ring;
struct ring_pool;

#define RING_E_QUOTA 1 /* the pool's bytes are used up: nothing was made */
#define RING_E_BAD   2 /* not a ring, or one that contradicts itself */

/* Makes or reuses a ring of `size` bytes, rounded up to a power of two within RING_LOWEST and
 * RING_HIGHEST; it is empty and starts at offset 0. 0, RING_E_QUOTA or a negative errno. The caller
 * owns *ret, ring_free() gives it back. The pool must outlive it. */
int ring_new(struct ring_pool *pool, uint32_t size, bool checksum, struct ring **ret);

/* Rescues all pins, then gives the ring to its pool. NULL is harmless. */
void ring_free(struct ring *r);
DEFINE_CLEANUP(struct ring, ring_free)

/* The size that ring_new() makes of a wish. */
uint32_t ring_round_size(uint32_t size);

/* The memfd, owned by the ring: sealed against resizing, closed on exec. */
int ring_fd(const struct ring *r);

/* Number of the memfd in its pool: below RING_NUMBERS_MAX, unique among the pool's memfds, the same
 * for as long as the memfd is there (over reuse too). */
uint32_t ring_number(const struct ring *r);

uint64_t ring_head(const struct ring *r); /* bytes written so far: the stream's total */
uint64_t ring_tail(const struct ring *r); /* the oldest byte that is kept */
uint32_t ring_size(const struct ring *r);

/* The memfd is about to be handed to a client: it is sealed, so that only this process's maps can
 * change it, and will not be reused. 0 or a negative errno, and then it must not be handed out. */
int ring_share(struct ring *r);

/* For who reads the shared memory (proto/shared.h): nothing comes behind head; the writer waits
 * until a reader has passed that offset, 0: it does not. What is looked at next is no older. */
void ring_set_ended(struct ring *r);
void ring_set_waiting(struct ring *r, uint64_t offset);

/* Keeps an index of packets with such headers (record_index.h) from now on. Before the first byte.
 */
void ring_keep_index(struct ring *r, uint32_t header, uint32_t maximum);

/* NULL: none is kept. Valid as long as the ring. */
const struct record_index *ring_index(const struct ring *r);

/* Where the next `size` bytes go: one contiguous place; size is at most ring_size(), and half of
 * that where an index is kept: the start of a header that was split must still be there. What the
 * bytes will overwrite is given up *first*: pins there are rescued, then the new tail is published.
 * So ask for as many bytes as are known to come (FIONREAD, ioctl_pipe(2)), not for more: what is
 * asked for and not written is kept after all, but only from ring_write_end() on. Always followed
 * by ring_write_end(). May call rescue(). */
uint8_t *ring_write_begin(struct ring *r, size_t size);

/* Says that the first `written` of those bytes are there (0 when the read failed): checksum, then
 * head. Bytes of the place behind `written` must not have been touched. */
void ring_write_end(struct ring *r, size_t written);

/* Copies data of any size in, in pieces where it is larger than the ring. May call rescue(). */
void ring_write(struct ring *r, const void *data, size_t size);

/* The byte at `offset` (tail <= offset <= head), contiguous up to head. Valid until the next
 * ring_write_begin() gives it up: see pins. */
const uint8_t *ring_at(const struct ring *r, uint64_t offset);

/* XXH3_64bits of all bytes since offset 0; only with ring_has_checksum(). */
bool ring_has_checksum(const struct ring *r);
uint64_t ring_checksum(const struct ring *r);

/* Offset where the last `lines` lines start; a last line without its newline counts as one. Not
 * before tail, nor at the rest of a line whose beginning is gone, unless there is nothing else. 0
 * lines: head. */
uint64_t ring_find_last_lines(const struct ring *r, uint64_t lines);

/* Keeps an eye on the bytes from `offset` on that somebody still points at (a half-sent frame):
 * just before they are overwritten the pin is taken off and rescue(pin) is called, which copies
 * them out with ring_at(). rescue() may unpin other pins of the ring and may pin at or behind the
 * new tail; it must not write. */
struct ring_pin {
	struct list link; /* private */
	uint64_t offset;
	void (*rescue)(struct ring_pin *pin);
};

/* The pin belongs to the caller and stays where it is until ring_unpin() or rescue(). `offset` and
 * `rescue` are set before; tail <= offset <= head. */
void ring_pin(struct ring *r, struct ring_pin *pin);

/* Harmless when it is not pinned, if list_init() was called on its link. */
void ring_unpin(struct ring_pin *pin);

#endif
