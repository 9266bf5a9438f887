#include "broker/pace.h"

#include <string.h>

static void pace_drop(struct pace *p, uint32_t at, uint32_t n)
{
	p->n -= n;
	memmove(&p->marks[at], &p->marks[at + n], (p->n - at) * sizeof(p->marks[0]));
}

/* Marks before the newest that is at or before `oldest` tell nothing any more. */
static void pace_forget(struct pace *p, uint64_t oldest)
{
	uint32_t gone = 0;

	while (gone + 1 < p->n && p->marks[gone + 1].offset <= oldest)
		gone++;
	pace_drop(p, 0, gone);
}

/* Of the pairs 0 1, 2 3, ... one is within an eighth of the whole time: the closest of all pairs is
 * no further apart. */
static void pace_join_closest(struct pace *p)
{
	uint64_t least = UINT64_MAX;
	uint32_t at = 0;

	for (uint32_t i = 0; i + 1 < p->n; i++) {
		uint64_t apart = p->marks[i + 1].last_ms - p->marks[i].first_ms;

		if (apart < least) {
			least = apart;
			at = i;
		}
	}
	p->marks[at].last_ms = p->marks[at + 1].last_ms;
	pace_drop(p, at + 1, 1);
}

void pace_note(struct pace *p, uint64_t offset, uint64_t oldest, uint64_t now_ms)
{
	if (p->n && p->marks[p->n - 1].last_ms == now_ms)
		return;
	if (p->n == PACE_MARKS)
		pace_forget(p, oldest);
	if (p->n == PACE_MARKS)
		pace_join_closest(p);
	p->marks[p->n].offset = offset;
	p->marks[p->n].first_ms = p->marks[p->n].last_ms = now_ms;
	p->n++;
}

uint64_t pace_age(const struct pace *p, uint64_t offset, uint64_t now_ms)
{
	uint32_t i = p->n;

	while (i && p->marks[i - 1].offset > offset)
		i--;
	return i ? now_ms - p->marks[i - 1].first_ms : 0;
}
