/* What a ring is made of: for ring.c and ring_pool.c only. */
#ifndef REDD_RING_PRIVATE_H
#define REDD_RING_PRIVATE_H

#include "broker/ring.h"
#include "broker/ring_memory.h"

struct ring {
	struct ring_memory memory;
	struct ring_pool *pool;
	struct list link; /* in the pool: in use, or free */
	uint32_t number;
	bool is_shared;
	/* Ours count; the header's copies are for others. */
	uint64_t head, tail;
	uint64_t tail_before;	   /* between begin and end: tail if nothing is written after all */
	size_t begun;		   /* between begin and end: the size that was asked for */
	struct checksum *checksum; /* owned; NULL: none is kept */
	struct list pins;	   /* by offset */
};

/* Offset 0, no bytes, no pins. 0 or -ENOMEM. */
int ring_reset(struct ring *r, bool checksum);

/* Continues what the header says; the memory was checked by ring_memory_adopt(). 0, RING_E_BAD or
 * -ENOMEM. */
int ring_resume(struct ring *r);

/* Calls rescue() of every pin below `offset`. */
void ring_rescue_below(struct ring *r, uint64_t offset);

#endif
