/* Memory of one unpacked frame: handed out from the front of a block, zeroed, never given back one
 * by one, all dropped by the next reset. What is handed out is capped; what is kept from one frame
 * to the next is at most ARENA_KEEP bytes.
 *
 *	arena_reset(&a, need);
 *	m = protobuf_c_message_unpack(type, arena_allocator(&a), size, data);
 *	... use m ...                 // never protobuf_c_message_free_unpacked()
 *	arena_reset(&a, 0);           // a large frame's memory goes back now
 */
#ifndef REDD_ARENA_H
#define REDD_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_KEEP  65536u
#define ARENA_ALIGN 8u

/* What an allocation of `size` bytes takes from the cap. */
#define ARENA_COST(size) (((size_t)(size) + ARENA_ALIGN - 1) & ~((size_t)ARENA_ALIGN - 1))

/* Must not move once arena_allocator() was asked for: the allocator points back at it. */
struct arena {
	uint8_t *kept; /* ARENA_KEEP bytes, owned, made when first needed */
	size_t kept_used;
	uint8_t *extra; /* the rest of the cap when `kept` is too small, owned */
	size_t extra_size;
	size_t extra_used;
	size_t cap;
	size_t used;	    /* handed out since the last reset, rounded as ARENA_COST() */
	bool over_cap;	    /* an allocation was refused because of the cap */
	bool out_of_memory; /* an allocation was refused by the system */
	ProtobufCAllocator allocator;
};

void arena_init(struct arena *a);
void arena_deinit(struct arena *a);

/* Drops all that was handed out and sets the cap for what comes: at most `cap` bytes, each
 * allocation counted as ARENA_COST(). */
void arena_reset(struct arena *a, size_t cap);

/* Zeroed memory aligned to ARENA_ALIGN, valid until the next reset. NULL when the cap would be
 * passed (over_cap is set) or there is no memory (out_of_memory is set). */
void *arena_alloc(struct arena *a, size_t size);

/* For protobuf-c. Its free does nothing. Valid as long as the arena. */
ProtobufCAllocator *arena_allocator(struct arena *a);

#endif
