/* Many points in time behind one libuv timer. An alarm is part of what it wakes, and unlike a
 * handle of libuv it can be stopped and its memory freed at once.
 */
#ifndef REDD_BROKER_ALARM_H
#define REDD_BROKER_ALARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct alarm {
	uint64_t at_ms; /* uv_now() of the loop */
	uint64_t order; /* among those of the same time: as they were set */
	size_t place;	/* in the heap, from 1; 0: not set */
	void (*ring)(struct alarm *a);
};

struct alarms {
	uv_timer_t timer;
	struct alarm **heap; /* heap[1] is the next one */
	size_t n, capacity;
	uint64_t last_order;
	bool is_ringing;
};

/* 0 or a negative errno. */
int alarms_init(struct alarms *as, uv_loop_t *loop);

/* Closes the timer; the loop must run once more before the memory goes. */
void alarms_close(struct alarms *as);

void alarm_init(struct alarm *a, void (*ring)(struct alarm *a));

/* Rings once, delay_ms from now (monotonic); an alarm that is set already is moved. What is set
 * while another rings never rings in the same turn. 0 or -ENOMEM. */
int alarm_set(struct alarms *as, struct alarm *a, uint64_t delay_ms);

/* Harmless when it is not set. */
void alarm_stop(struct alarms *as, struct alarm *a);

static inline bool alarm_is_set(const struct alarm *a)
{
	return a->place != 0;
}

#endif
