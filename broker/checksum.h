/* XXH3 64 bits: of a stream piece by piece, with a state that another process can go on from; and
 * of a piece of memory at once.
 */
#ifndef REDD_CHECKSUM_H
#define REDD_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/cleanup.h"

struct checksum;

/* A state in plain numbers, without pointers: fit for shared memory. */
struct checksum_state {
	uint64_t total; /* bytes summed up */
	uint64_t sums[8];
	uint64_t n_stripes;
	uint32_t n_buffered;
	uint32_t pad;
	uint8_t buffer[256];
};

/* Changes whenever a saved state of one build cannot be loaded by another. Never 0. */
uint32_t checksum_layout(void);

/* Of no bytes. 0 or -ENOMEM. */
int checksum_new(struct checksum **ret);
void checksum_free(struct checksum *c);
DEFINE_CLEANUP(struct checksum, checksum_free)

void checksum_add(struct checksum *c, const void *data, size_t size);

/* XXH3_64bits of all bytes added. */
uint64_t checksum_value(const struct checksum *c);

void checksum_save(const struct checksum *c, struct checksum_state *ret);

#define CHECKSUM_E_BAD 1 /* a state that contradicts itself: nothing was changed */
int checksum_load(struct checksum *c, const struct checksum_state *state);

/* Of one piece, with a seed. */
uint64_t checksum_hash(const void *data, size_t size, uint64_t seed);

#endif
