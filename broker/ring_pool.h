/* All rings of the service: how many bytes they take together, which are free for reuse, and the
 * number of each memfd.
 */
#ifndef REDD_RING_POOL_H
#define REDD_RING_POOL_H

#include <stdint.h>

#include "broker/ring.h"
#include "proto/limits.h"

/* Numbers of memfds are below this. */
#define RING_NUMBERS_MAX (RINGS_BYTES_MAX / RING_LOWEST)

/* 0 or -ENOMEM. All rings must have been freed before the pool is. NULL is harmless. */
int ring_pool_new(struct ring_pool **ret);
void ring_pool_free(struct ring_pool *pool);
DEFINE_CLEANUP(struct ring_pool, ring_pool_free)

/* Who keeps duplicates of the memfds learns of each: made() when a new one is there (not when one
 * is reused or adopted, but when one that was adopted had to be replaced, under the same number),
 * dropped() before its number may be used again. Neither may call the pool.
 * Both may be NULL. */
struct ring_pool_observer {
	void (*made)(void *userdata, uint32_t number, int memfd, uint32_t size);
	void (*dropped)(void *userdata, uint32_t number);
	void *userdata;
};
void ring_pool_observe(struct ring_pool *pool, const struct ring_pool_observer *observer);

/* Takes over a ring that a predecessor wrote: magic, version, sizes, seals and the relation of head
 * and tail are checked before anything is believed. A checksum whose state is not of this library's
 * layout is given up (ring_has_checksum() says so), the ring is not. One that was handed to a
 * client cannot be written any more: it is copied into a fresh memfd of the same number. 0;
 * RING_E_BAD (also: the number is taken or too large); RING_E_QUOTA; or a negative errno.
 * take_memfd is consumed in every case. */
int ring_adopt(struct ring_pool *pool, uint32_t number, int take_memfd, struct ring **ret);

/* For statistics: bytes of all memfds, of those that wait for reuse, and the number of memfds. */
uint64_t ring_pool_bytes(const struct ring_pool *pool);
uint64_t ring_pool_bytes_free(const struct ring_pool *pool);
uint32_t ring_pool_count(const struct ring_pool *pool);

#endif
