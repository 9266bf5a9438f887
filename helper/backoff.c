#include "helper/backoff.h"

int64_t backoff_died(struct backoff *b, int64_t now_ms, bool *ret_news)
{
	uint32_t place = b->n_deaths++ % RESTART_DEATHS_MAX;
	bool was_degraded = b->is_degraded;
	uint32_t oldest = b->n_deaths % RESTART_DEATHS_MAX;

	b->deaths_ms[place] = now_ms;
	b->is_degraded = b->n_deaths >= RESTART_DEATHS_MAX &&
			 now_ms - b->deaths_ms[oldest] < (int64_t)RESTART_WINDOW_MS;
	*ret_news = b->is_degraded != was_degraded;
	return now_ms + (b->is_degraded ? BACKOFF_RETRY_MS : 0);
}
