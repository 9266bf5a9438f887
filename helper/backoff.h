/* When a program that died may be started again. Pure. */
#ifndef REDD_HELPER_BACKOFF_H
#define REDD_HELPER_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/limits.h"

#define BACKOFF_RETRY_MS 1000u

struct backoff {
	int64_t deaths_ms[RESTART_DEATHS_MAX]; /* times of the last ones, a ring */
	uint32_t n_deaths;		       /* in all */
	bool is_degraded;
};

/* Counts a death at now_ms that was the program's own doing (one by SIGKILL is not: somebody
 * else's, and the next start is as good as any); returns when to start again: now, or
 * BACKOFF_RETRY_MS later after RESTART_DEATHS_MAX such deaths in RESTART_WINDOW_MS. *ret_news is
 * true when is_degraded has changed. */
int64_t backoff_died(struct backoff *b, int64_t now_ms, bool *ret_news);

#endif
