#include "client/cli/outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>

#define EVENT_COST 64 /* what every event costs besides its data (redd.h) */

void outlet_init(struct outlet *o, struct relay *relay, int fd, const char *name)
{
	*o = (struct outlet){ .relay = relay, .state = OUTLET_OPEN, .name = name };
	endpoint_open(&o->to, fd, O_WRONLY);
}

void outlet_deinit(struct outlet *o)
{
	free(o->waiting);
	*o = (struct outlet){ .state = OUTLET_IDLE };
}

/* Nobody reads any more, or it cannot be written: what waits is dropped, and so is what comes. */
static void outlet_break(struct outlet *o, int error)
{
	o->error = error;
	o->credit += outlet_waiting(o);
	o->start = o->end = 0;
}

/* Writes from data; returns how much is dealt with. */
static size_t write_some(struct outlet *o, const uint8_t *data, size_t size)
{
	size_t done = 0;

	while (done < size && !o->error) {
		ssize_t n = endpoint_write(&o->to, data + done, size - done);

		if (n == -EAGAIN)
			break;
		if (n < 0)
			outlet_break(o, (int)n);
		else
			done += (size_t)n;
		if (o->to.kind == ENDPOINT_SHARED)
			break; /* one write for one poll */
	}
	return o->error ? size : done;
}

static int outlet_keep(struct outlet *o, const uint8_t *data, size_t size)
{
	size_t used = outlet_waiting(o), room = o->room ? o->room : 1 << 16;
	uint8_t *bigger;

	if (o->start && o->room - o->end < size) {
		memmove(o->waiting, o->waiting + o->start, used);
		o->start = 0;
		o->end = used;
	}
	while (room - used < size)
		room *= 2;
	if (room != o->room) {
		bigger = realloc(o->waiting, room);
		if (!bigger)
			return -ENOMEM;
		o->waiting = bigger;
		o->room = room;
	}
	memcpy(o->waiting + o->end, data, size);
	o->end += size;
	return 0;
}

int outlet_take(struct outlet *o, const void *data, size_t size)
{
	size_t done = 0;

	o->credit += EVENT_COST;
	if (o->error) {
		o->torn = true;
		o->credit += size;
		return 0;
	}
	if (!outlet_waiting(o) && o->to.kind != ENDPOINT_SHARED)
		done = write_some(o, data, size);
	o->credit += done;
	return done == size ? 0 : outlet_keep(o, (const uint8_t *)data + done, size - done);
}

void outlet_write(struct outlet *o)
{
	size_t done = write_some(o, o->waiting + o->start, outlet_waiting(o));

	if (o->error)
		return;
	o->credit += done;
	o->start += done;
	if (o->start == o->end)
		o->start = o->end = 0;
}

void outlet_pay(struct outlet *o, struct redd_subscription *s)
{
	if (o->credit < OUTLET_WINDOW / 4 || !s || o->state != OUTLET_OPEN)
		return;
	if (redd_credit(s, o->credit) == 0)
		o->credit = 0;
}
