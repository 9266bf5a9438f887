/* A rate: so many a second on average, so many at once. */
#ifndef REDD_TOKEN_BUCKET_H
#define REDD_TOKEN_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct token_bucket_rate {
	uint32_t per_second; /* 0: no limit */
	uint32_t burst;	     /* most at once; at least 1 */
};

/* Zeroed it is full at time 0. */
struct token_bucket {
	uint64_t spent_milli; /* thousandths of a token that have not come back yet */
	uint64_t at_ms;	      /* when that was true */
};

/* Milliseconds until one token can be taken; 0: now. */
uint32_t token_bucket_wait_ms(const struct token_bucket *b, struct token_bucket_rate rate,
			      uint64_t now_ms);

/* Takes one; only when token_bucket_wait_ms() said 0. A now_ms before an earlier one counts as
 * that.
 */
void token_bucket_take(struct token_bucket *b, struct token_bucket_rate rate, uint64_t now_ms);

#endif
