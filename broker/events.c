/* The newest life events. Event number n stands in slot n modulo EVENTS_KEPT, so finding one is no
 * search and the oldest gives way by being overwritten. The memory is touched only as events come.
 */
#include "broker/events.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/err.h"

struct events {
	uint64_t newest;
	uint64_t n_kept;
	struct event ring[EVENTS_KEPT];
};

int events_new(uint64_t after, struct events **ret)
{
	struct events *e = calloc(1, sizeof(*e));

	if (!e)
		return err_begin(-ENOMEM);
	e->newest = after;
	*ret = e;
	return 0;
}

void events_free(struct events *e)
{
	size_t i;

	if (!e)
		return;
	for (i = 0; i < MIN(e->n_kept, EVENTS_KEPT); i++) {
		struct event *event = &e->ring[(e->newest - i) % EVENTS_KEPT];

		event->labels = labels_unref(event->labels);
		event->grants = grants_unref(event->grants);
	}
	free(e);
}

uint64_t events_add(struct events *e, const struct event *event)
{
	struct event *slot = &e->ring[++e->newest % EVENTS_KEPT];
	struct labels *before = slot->labels;
	struct grants *grants_before = slot->grants;

	assert(event->n_holders <= HOLDERS_MAX);
	*slot = *event;
	slot->sequence = e->newest;
	slot->labels = labels_ref(event->labels);
	slot->grants = grants_ref(event->grants);
	labels_unref(before);
	grants_unref(grants_before);
	e->n_kept = MIN(e->n_kept + 1, (uint64_t)EVENTS_KEPT);
	return e->newest;
}

uint64_t events_newest(const struct events *e)
{
	return e->newest;
}

uint64_t events_oldest(const struct events *e)
{
	return e->newest - e->n_kept + 1;
}

int events_get(const struct events *e, uint64_t sequence, const struct event **ret)
{
	if (sequence > e->newest)
		return EVENTS_E_AHEAD;
	if (sequence < events_oldest(e))
		return EVENTS_E_GONE;
	*ret = &e->ring[sequence % EVENTS_KEPT];
	return 0;
}
