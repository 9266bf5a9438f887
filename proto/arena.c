/* An arena is one block that is kept from frame to frame and, for a frame that needs more, a second
 * one of just the size that is left of the cap. So memory is asked for at most twice a frame, and
 * waste is at most ARENA_KEEP.
 *
 * Invariant: kept[kept_used..] and extra[extra_used..] are zero, so nothing is zeroed when it is
 * handed out; the reset zeroes what was used of `kept` and drops `extra`.
 */
#include "proto/arena.h"

#include <stdlib.h>
#include <string.h>

static void *allocator_alloc(void *data, size_t size)
{
	return arena_alloc(data, size);
}

static void allocator_free(void *data, void *pointer)
{
	(void)data;
	(void)pointer;
}

void arena_init(struct arena *a)
{
	*a = (struct arena){ .allocator = { allocator_alloc, allocator_free, a } };
}

void arena_deinit(struct arena *a)
{
	free(a->kept);
	free(a->extra);
	arena_init(a);
}

void arena_reset(struct arena *a, size_t cap)
{
	if (a->kept_used)
		memset(a->kept, 0, a->kept_used);
	free(a->extra);
	a->extra = NULL;
	a->kept_used = a->extra_size = a->extra_used = a->used = 0;
	a->cap = cap;
	a->over_cap = a->out_of_memory = false;
}

static void *take(uint8_t *block, size_t *used, size_t cost)
{
	void *p = block + *used;

	*used += cost;
	return p;
}

static void *alloc_from_kept(struct arena *a, size_t cost)
{
	if (!a->kept)
		a->kept = calloc(1, ARENA_KEEP);
	return a->kept ? take(a->kept, &a->kept_used, cost) : NULL;
}

static void *alloc_from_extra(struct arena *a, size_t cost)
{
	if (!a->extra) {
		/* All that may still be asked for: it never has to grow. */
		a->extra_size = a->cap - a->used;
		a->extra = calloc(1, a->extra_size);
	}
	return a->extra ? take(a->extra, &a->extra_used, cost) : NULL;
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t cost = size ? ARENA_COST(size) : ARENA_ALIGN;
	void *p;

	if (cost < size || cost > a->cap - a->used) {
		a->over_cap = true;
		return NULL;
	}
	if (cost <= ARENA_KEEP - a->kept_used)
		p = alloc_from_kept(a, cost);
	else
		p = alloc_from_extra(a, cost);
	if (!p) {
		a->out_of_memory = true;
		return NULL;
	}
	a->used += cost;
	return p;
}

ProtobufCAllocator *arena_allocator(struct arena *a)
{
	return &a->allocator;
}
