/* A binary heap by time; each alarm knows its place in it, so that stopping one takes no search. */
#include "broker/alarm.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/base/cleanup.h"
#include "proto/base/err.h"

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

static void heap_up(struct alarms *as, size_t place)
{
	struct alarm *a = as->heap[place];

	for (; place > 1 && as->heap[place / 2]->at_ms > a->at_ms; place /= 2)
		heap_put(as, place, as->heap[place / 2]);
	heap_put(as, place, a);
}

static void heap_down(struct alarms *as, size_t place)
{
	struct alarm *a = as->heap[place];
	size_t child;

	for (; (child = place * 2) <= as->n; place = child) {
		if (child < as->n && as->heap[child + 1]->at_ms < as->heap[child]->at_ms)
			child++;
		if (as->heap[child]->at_ms >= a->at_ms)
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
static void timer_follow(struct alarms *as)
{
	uint64_t now = uv_now(as->timer.loop);

	if (as->n == 0)
		uv_timer_stop(&as->timer);
	else
		uv_timer_start(&as->timer, on_timer,
			       as->heap[1]->at_ms > now ? as->heap[1]->at_ms - now : 0, 0);
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
	heap_put(as, ++as->n, a);
	heap_up(as, as->n);
	if (as->heap[1] == a)
		timer_follow(as);
	return 0;
}

void alarm_stop(struct alarms *as, struct alarm *a)
{
	if (a->place)
		heap_take(as, a);
}

/* Rings what is due now; alarms that are set meanwhile for now wait for the next turn. */
static void on_timer(uv_timer_t *timer)
{
	struct alarms *as = timer->data;
	uint64_t now = uv_now(timer->loop);

	for (size_t most = as->n; most > 0 && as->n && as->heap[1]->at_ms <= now; most--) {
		struct alarm *a = as->heap[1];

		heap_take(as, a);
		a->ring(a);
	}
	timer_follow(as);
}
