/* Life, number and cost of all rings.
 *
 * Invariants: `bytes` is the sum of the sizes of all memfds, in use or free, and never above
 * RINGS_BYTES_MAX; so there are never more than RING_NUMBERS_MAX memfds. A number is taken from the
 * making of a memfd to its end. Free rings have the default size, were never shared, and are at
 * most RINGS_POOLED; they give way when the bytes are needed.
 *
 * Making a memfd with its maps costs about a tenth of a spawn: that is why free ones are kept.
 */
#include "broker/ring_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/ring_private.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

struct ring_pool {
	struct list used;
	struct list free; /* the one freed last is first: its memory is warm */
	uint32_t n_free;
	uint32_t n_rings;
	uint64_t bytes;
	uint64_t numbers[RING_NUMBERS_MAX / 64]; /* bit set: taken */
	struct ring_pool_observer observer;
};

_Static_assert(RING_NUMBERS_MAX % 64 == 0, "numbers fill whole words");

int ring_pool_new(struct ring_pool **ret)
{
	struct ring_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return err_begin(-ENOMEM);
	list_init(&pool->used);
	list_init(&pool->free);
	*ret = pool;
	return 0;
}

void ring_pool_observe(struct ring_pool *pool, const struct ring_pool_observer *observer)
{
	pool->observer = *observer;
}

/* --- numbers --------------------------------------------------------------------------------- */

/* There is one: see the invariant. */
static uint32_t number_take(struct ring_pool *pool)
{
	uint32_t word = 0, bit;

	while (pool->numbers[word] == UINT64_MAX)
		word++;
	bit = (uint32_t)__builtin_ctzll(~pool->numbers[word]);
	pool->numbers[word] |= UINT64_C(1) << bit;
	return word * 64 + bit;
}

static bool number_is_free(const struct ring_pool *pool, uint32_t number)
{
	return number < RING_NUMBERS_MAX && !(pool->numbers[number / 64] >> number % 64 & 1);
}

static void number_set(struct ring_pool *pool, uint32_t number)
{
	pool->numbers[number / 64] |= UINT64_C(1) << number % 64;
}

static void number_clear(struct ring_pool *pool, uint32_t number)
{
	pool->numbers[number / 64] &= ~(UINT64_C(1) << number % 64);
}

/* --- making and ending ----------------------------------------------------------------------- */

/* A ring without memory: not counted yet. */
static struct ring *ring_alloc(struct ring_pool *pool)
{
	struct ring *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->memory.fd = -1;
	r->pool = pool;
	list_init(&r->link);
	list_init(&r->pins);
	return r;
}

/* Takes half-built ones, which were not counted. */
static void ring_dealloc(struct ring *r)
{
	ring_memory_drop(&r->memory);
	checksum_free(r->checksum);
	free(r);
}
DEFINE_CLEANUP(struct ring, ring_dealloc)

static void pool_count(struct ring_pool *pool, struct ring *r)
{
	list_append(&pool->used, &r->link);
	pool->bytes += r->memory.size;
	pool->n_rings++;
}

static void pool_end(struct ring_pool *pool, struct ring *r)
{
	uint32_t number = r->number;

	list_remove(&r->link);
	pool->bytes -= r->memory.size;
	pool->n_rings--;
	ring_dealloc(r);
	if (pool->observer.dropped)
		pool->observer.dropped(pool->observer.userdata, number);
	number_clear(pool, number);
}

/* Ends free rings, the coldest first, until `size` more bytes are within the bound. */
static int pool_make_room(struct ring_pool *pool, uint32_t size)
{
	while (pool->bytes + size > RINGS_BYTES_MAX) {
		if (list_is_empty(&pool->free))
			return RING_E_QUOTA;
		pool->n_free--;
		pool_end(pool, list_entry(pool->free.prev, struct ring, link));
	}
	return 0;
}

static int pool_make(struct ring_pool *pool, uint32_t size, bool checksum, struct ring **ret)
{
	_cleanup_(ring_deallocp) struct ring *r = NULL;
	int e = pool_make_room(pool, size);

	if (e)
		return e;
	r = ring_alloc(pool);
	if (!r)
		return err_begin(-ENOMEM);
	e = ring_memory_make(size, &r->memory);
	if (e)
		return err_pass(e);
	e = ring_reset(r, checksum);
	if (e)
		return err_pass(e);
	r->number = number_take(pool);
	pool_count(pool, r);
	if (pool->observer.made)
		pool->observer.made(pool->observer.userdata, r->number, r->memory.fd, size);
	*ret = TAKE(r);
	return 0;
}

static int pool_reuse(struct ring_pool *pool, bool checksum, struct ring **ret)
{
	struct ring *r = list_first(&pool->free, struct ring, link);
	int e = ring_reset(r, checksum);

	if (e)
		return err_pass(e);
	list_remove(&r->link);
	list_append(&pool->used, &r->link);
	pool->n_free--;
	*ret = r;
	return 0;
}

uint32_t ring_round_size(uint32_t size)
{
	if (size <= RING_LOWEST)
		return RING_LOWEST;
	if (size >= RING_HIGHEST)
		return RING_HIGHEST;
	return 1u << (32 - __builtin_clz(size - 1));
}

int ring_new(struct ring_pool *pool, uint32_t size, bool checksum, struct ring **ret)
{
	uint32_t rounded = ring_round_size(size);

	if (rounded == RING_DEFAULT && !list_is_empty(&pool->free))
		return pool_reuse(pool, checksum, ret);
	return pool_make(pool, rounded, checksum, ret);
}

void ring_free(struct ring *r)
{
	struct ring_pool *pool;

	if (!r)
		return;
	pool = r->pool;
	ring_rescue_below(r, UINT64_MAX);
	if (r->is_shared || r->memory.size != RING_DEFAULT || pool->n_free >= RINGS_POOLED) {
		pool_end(pool, r);
		return;
	}
	list_remove(&r->link);
	list_prepend(&pool->free, &r->link);
	pool->n_free++;
}

int ring_adopt(struct ring_pool *pool, uint32_t number, int take_memfd, struct ring **ret)
{
	_cleanup_(fd_closep) int fd = take_memfd;
	_cleanup_(ring_deallocp) struct ring *r = NULL;
	int e;

	if (!number_is_free(pool, number))
		return RING_E_BAD;
	r = ring_alloc(pool);
	if (!r)
		return err_begin(-ENOMEM);
	e = ring_memory_adopt(TAKE_FD(fd), &r->memory);
	if (!e)
		e = pool_make_room(pool, r->memory.size);
	if (!e)
		e = ring_resume(r);
	if (e)
		return err_pass(e);
	r->number = number;
	number_set(pool, number);
	pool_count(pool, r);
	if (r->memory.is_copy && pool->observer.made)
		pool->observer.made(pool->observer.userdata, number, r->memory.fd, r->memory.size);
	*ret = TAKE(r);
	return 0;
}

void ring_pool_free(struct ring_pool *pool)
{
	if (!pool)
		return;
	assert(list_is_empty(&pool->used));
	while (!list_is_empty(&pool->free))
		pool_end(pool, list_first(&pool->free, struct ring, link));
	free(pool);
}

/* --- statistics ------------------------------------------------------------------------------ */

uint64_t ring_pool_bytes(const struct ring_pool *pool)
{
	return pool->bytes;
}

uint64_t ring_pool_bytes_free(const struct ring_pool *pool)
{
	return (uint64_t)pool->n_free * RING_DEFAULT;
}

uint32_t ring_pool_count(const struct ring_pool *pool)
{
	return pool->n_rings;
}
