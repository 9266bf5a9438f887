/* A bucket that leaks what was spent: `per_second` thousandths of a token a millisecond come back.
 * Whole numbers only, so nothing is lost to rounding however often it is asked.
 */
#include "broker/token_bucket.h"

#include "proto/base/cleanup.h"

#define TOKEN 1000u /* thousandths */

static uint64_t spent_at(const struct token_bucket *b, struct token_bucket_rate rate,
			 uint64_t now_ms)
{
	uint64_t elapsed = now_ms > b->at_ms ? now_ms - b->at_ms : 0;
	uint64_t back;

	if (__builtin_mul_overflow(elapsed, (uint64_t)rate.per_second, &back))
		return 0;
	return b->spent_milli > back ? b->spent_milli - back : 0;
}

uint32_t token_bucket_wait_ms(const struct token_bucket *b, struct token_bucket_rate rate,
			      uint64_t now_ms)
{
	uint64_t most = (uint64_t)MAX(rate.burst, 1u) * TOKEN;
	uint64_t spent, wait_ms;

	if (rate.per_second == 0)
		return 0;
	spent = spent_at(b, rate, now_ms) + TOKEN;
	if (spent <= most)
		return 0;
	wait_ms = (spent - most + rate.per_second - 1) / rate.per_second;
	return (uint32_t)MIN(wait_ms, (uint64_t)UINT32_MAX);
}

void token_bucket_take(struct token_bucket *b, struct token_bucket_rate rate, uint64_t now_ms)
{
	if (rate.per_second == 0)
		return;
	b->spent_milli = spent_at(b, rate, now_ms) + TOKEN;
	b->at_ms = MAX(b->at_ms, now_ms);
}
