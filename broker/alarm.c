/* A binary heap by time, and by the order in which they were set among those of one time; each
 * alarm knows its place in it, so that stopping one takes no search.
 *
 * A turn rings what was due and set when it began. An alarm that sets itself again and again for
 * now must not keep the loop from its other work: libuv runs a timer that is started for now from
 * within its own callback at once, so what is set meanwhile is at least a millisecond away.
 */
#include "broker/alarm.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base/cleanup.h"
#include "proto/base/err.h"
#include "proto/limits.h"

static void on_timer(uv_timer_t *timer);

int alarms_init(struct alarms *as, uv_loop_t *loop)
{
	*as = (struct alarms){ 0 };
	as->timer.data = as;
	return uv_timer_init(loop, &as->timer);
}

void alarms_close(struct alarms *as)
{
	uv_close((uv_handle_t *)&as->timer, NULL);
	free(TAKE(as->heap));
	as->n = as->capacity = 0;
}

void alarm_init(struct alarm *a, void (*ring)(struct alarm *a))
{
	*a = (struct alarm){ .ring = ring };
}

static void heap_put(struct alarms *as, size_t place, struct alarm *a)
{
	as->heap[place] = a;
	a->place = place;
}

static bool is_before(const struct alarm *a, const struct alarm *b)
{
	return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void heap_up(struct alarms *as, size_t place)
{
	struct alarm *a = as->heap[place];

	for (; place > 1 && is_before(a, as->heap[place / 2]); place /= 2)
		heap_put(as, place, as->heap[place / 2]);
	heap_put(as, place, a);
}

static void heap_down(struct alarms *as, size_t place)
{
	struct alarm *a = as->heap[place];
	size_t child;

	for (; (child = place * 2) <= as->n; place = child) {
		if (child < as->n && is_before(as->heap[child + 1], as->heap[child]))
			child++;
		if (is_before(a, as->heap[child]))
			break;
		heap_put(as, place, as->heap[child]);
	}
	heap_put(as, place, a);
}

static int heap_grow(struct alarms *as)
{
	size_t capacity = as->capacity ? as->capacity * 2 : 64;
	struct alarm **heap = realloc(as->heap, (capacity + 1) * sizeof(*heap));

	if (!heap)
		return err_begin(-ENOMEM);
	as->heap = heap;
	as->capacity = capacity;
	return 0;
}

/* The timer follows the first alarm; with none it is stopped. */
static void timer_follow(struct alarms *as, uint64_t at_least_ms)
{
	uint64_t now = uv_now(as->timer.loop);

	if (as->n == 0)
		uv_timer_stop(&as->timer);
	else
		uv_timer_start(&as->timer, on_timer,
			       MAX(as->heap[1]->at_ms, now + at_least_ms) - now, 0);
}

static void heap_take(struct alarms *as, struct alarm *a)
{
	size_t place = a->place;
	struct alarm *last = as->heap[as->n--];

	a->place = 0;
	if (last == a)
		return;
	heap_put(as, place, last);
	heap_up(as, place);
	heap_down(as, last->place);
}

int alarm_set(struct alarms *as, struct alarm *a, uint64_t delay_ms)
{
	int r;

	if (a->place)
		heap_take(as, a);
	if (as->n == as->capacity) {
		r = heap_grow(as);
		if (r < 0)
			return err_pass(r);
	}
	a->at_ms = uv_now(as->timer.loop) + delay_ms;
	a->order = ++as->last_order;
	heap_put(as, ++as->n, a);
	heap_up(as, as->n);
	if (as->heap[1] == a && !as->is_ringing)
		timer_follow(as, 0);
	return 0;
}

void alarm_stop(struct alarms *as, struct alarm *a)
{
	if (a->place)
		heap_take(as, a);
}

static void on_timer(uv_timer_t *timer)
{
	struct alarms *as = timer->data;
	uint64_t now = uv_now(timer->loop), newest = as->last_order;
	unsigned n = 0;
	struct alarm *a;

	as->is_ringing = true;
	while (as->n && (a = as->heap[1])->at_ms <= now && a->order <= newest &&
	       n++ < ALARMS_A_TURN) {
		heap_take(as, a);
		a->ring(a);
	}
	as->is_ringing = false;
	timer_follow(as, n > ALARMS_A_TURN ? 0 : 1);
}
