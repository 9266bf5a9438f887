/* The one place that knows the library's inner state. It is compiled in (XXH_INLINE_ALL): a shared
 * library may have another layout than the header told.
 *
 * A state that comes from shared memory is checked before the library indexes with it: how much is
 * buffered, how many stripes of the block are done, and that short streams lie in the buffer whole.
 */
#include "broker/checksum.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/base/err.h"

#define CHECKSUM_LAYOUT 1u /* of struct checksum_state */

/* Only a name for the library's state, which wants more alignment than malloc(3) gives. */
struct checksum {
	XXH3_state_t xxh;
};

_Static_assert(sizeof(((struct checksum_state *)0)->buffer) == XXH3_INTERNALBUFFER_SIZE,
	       "the whole buffer is saved: the end of it counts when little is buffered");

uint32_t checksum_layout(void)
{
	return XXH_VERSION_NUMBER << 8 | CHECKSUM_LAYOUT;
}

int checksum_new(struct checksum **ret)
{
	XXH3_state_t *xxh = XXH3_createState();

	if (!xxh)
		return err_begin(-ENOMEM);
	memset(xxh, 0, sizeof(*xxh));
	XXH3_64bits_reset(xxh);
	*ret = (struct checksum *)xxh;
	return 0;
}

void checksum_free(struct checksum *c)
{
	if (c)
		XXH3_freeState(&c->xxh);
}

void checksum_add(struct checksum *c, const void *data, size_t size)
{
	XXH3_64bits_update(&c->xxh, data, size);
}

uint64_t checksum_value(const struct checksum *c)
{
	return XXH3_64bits_digest(&c->xxh);
}

void checksum_save(const struct checksum *c, struct checksum_state *ret)
{
	ret->total = c->xxh.totalLen;
	memcpy(ret->sums, c->xxh.acc, sizeof(ret->sums));
	ret->n_stripes = c->xxh.nbStripesSoFar;
	ret->n_buffered = c->xxh.bufferedSize;
	ret->pad = 0;
	memcpy(ret->buffer, c->xxh.buffer, sizeof(ret->buffer));
}

static bool state_is_sound(const struct checksum_state *s, size_t stripes_per_block)
{
	if (s->n_buffered > sizeof(s->buffer) || s->n_stripes >= stripes_per_block)
		return false;
	if (s->total <= sizeof(s->buffer))
		return s->n_buffered == s->total;
	return s->n_buffered > 0;
}

int checksum_load(struct checksum *c, const struct checksum_state *state)
{
	struct checksum_state copy = *state; /* it may be changed by others while we look */

	if (!state_is_sound(&copy, c->xxh.nbStripesPerBlock))
		return CHECKSUM_E_BAD;
	XXH3_64bits_reset(&c->xxh);
	c->xxh.totalLen = copy.total;
	memcpy(c->xxh.acc, copy.sums, sizeof(copy.sums));
	c->xxh.nbStripesSoFar = copy.n_stripes;
	c->xxh.bufferedSize = copy.n_buffered;
	memcpy(c->xxh.buffer, copy.buffer, sizeof(copy.buffer));
	return 0;
}

uint64_t checksum_hash(const void *data, size_t size, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, size, seed);
}
