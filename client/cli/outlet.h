/* One output of a port on its way to one of our descriptors: a subscription, what could not be
 * written yet, and the credit that is given back as it is written. What waits is never more than
 * the subscription's window.
 */
#ifndef REDD_CLI_OUTLET_H
#define REDD_CLI_OUTLET_H

#include "client/cli/endpoint.h"
#include "client/redd.h"

#define OUTLET_WINDOW (1u << 20)

enum outlet_state {
	OUTLET_IDLE,   /* not used */
	OUTLET_OPEN,   /* output comes */
	OUTLET_CLOSED, /* nothing more comes; what waits is still to be written */
};

struct relay;

struct outlet {
	struct relay *relay; /* whose it is */
	enum outlet_state state;
	struct endpoint to;
	const char *name;  /* "stdout" */
	uint8_t *waiting;  /* owned */
	size_t start, end; /* of what waits */
	size_t room;	   /* of waiting */
	uint64_t credit;   /* to be given back */
	int error;	   /* why nothing can be written any more: a negative errno; 0: it can */
	bool torn;	   /* output came after that */
};

void outlet_init(struct outlet *o, struct relay *relay, int fd, const char *name);
void outlet_deinit(struct outlet *o);

/* Writes what it can and keeps the rest. 0, or -ENOMEM. */
int outlet_take(struct outlet *o, const void *data, size_t size);

/* Writes what waits; the descriptor is ready. */
void outlet_write(struct outlet *o);

/* Gives the broker credit for what was written. */
void outlet_pay(struct outlet *o, struct redd_subscription *s);

static inline size_t outlet_waiting(const struct outlet *o)
{
	return o->end - o->start;
}

#endif
