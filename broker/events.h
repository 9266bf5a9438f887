/* The newest EVENTS_KEPT life events of the service by sequence number, which rises by one with
 * each event. Watches are readers with a sequence number of their own; they filter by owner and
 * labels.
 */
#ifndef REDD_EVENTS_H
#define REDD_EVENTS_H

#include <stdint.h>

#include "broker/exit_record.h"
#include "broker/labels.h"
#include "broker/policy.h"
#include "proto/limits.h"

/* The numbers of Life.What in redd.proto. */
enum event_what {
	EVENT_STARTED = 1,
	EVENT_EXITED = 2,
	EVENT_CLOSED = 3,
	EVENT_FORGOTTEN = 4,
	EVENT_GRANTED = 6,
	EVENT_REVOKED = 7,
};

struct event {
	uint64_t sequence; /* set by events_add() */
	enum event_what what;
	int32_t pid;
	uint64_t port;
	int64_t time_ns; /* CLOCK_REALTIME */
	struct principal owner;
	struct labels *labels;	      /* events_add() takes a reference of its own */
	struct grants *grants;	      /* likewise: the port's, as they are at any time */
	struct grant grant;	      /* GRANTED, REVOKED */
	char name[NAME_MAX_SIZE + 1]; /* "" when the port has none */
	struct exit_record exit;      /* EXITED, CLOSED */
	uint32_t n_holders;	      /* CLOSED */
	int32_t holders[HOLDERS_MAX];
};

struct events;

#define EVENTS_E_GONE  1 /* older than what is kept */
#define EVENTS_E_AHEAD 2 /* has not happened yet */

/* The first event will be number after + 1. 0 or -ENOMEM. */
int events_new(uint64_t after, struct events **ret);
void events_free(struct events *e);
DEFINE_CLEANUP(struct events, events_free)

/* Copies the event, gives it the next sequence number and returns that. Never fails. */
uint64_t events_add(struct events *e, const struct event *event);

/* Number of the newest event ("after" when there was none) and of the oldest that is kept (newest +
 * 1 when none is). */
uint64_t events_newest(const struct events *e);
uint64_t events_oldest(const struct events *e);

/* 0, EVENTS_E_GONE or EVENTS_E_AHEAD. *ret belongs to the ring and is valid until the next
 * events_add(). */
int events_get(const struct events *e, uint64_t sequence, const struct event **ret);

#endif
