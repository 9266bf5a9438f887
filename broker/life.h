/* Watches: readers of the life events, each with a sequence number of its own. Like subscriptions
 * they hold nothing back and queue nothing; one that falls too far behind is told what it missed.
 */
#ifndef REDD_BROKER_LIFE_H
#define REDD_BROKER_LIFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/events.h"
#include "broker/labels.h"
#include "broker/quota.h"
#include "proto/base/list.h"

struct broker;
struct conn;

struct watch {
	struct list conn_link; /* of its connection */
	uint64_t id;	       /* unique on the connection */
	struct conn *conn;
	struct labels *selector; /* owned; NULL: everything */
	struct quota_charge charge;
	uint64_t told; /* the newest event it was told, or that was not for it */
};

#define WATCH_E_GONE	 1 /* `after` is too old */
#define WATCH_E_AHEAD	 2 /* `after` has not happened yet */
#define WATCH_E_TOO_MANY 3

/* take_selector is consumed on failure too. after: NULL: from now on. 0, WATCH_E_*, -ENOMEM. */
int watch_new(struct watch **ret, struct conn *conn, const uint64_t *after,
	      struct labels *take_selector);
void watch_free(struct watch *w);
struct watch *watch_find(const struct conn *conn, uint64_t id);

/* All watches of a connection that is closed. */
void watches_free(struct conn *conn);

/* Packs events for the connection's watches while its control lane holds less than `limit`, of
 * WATCH_STEPS at most. 0, a codec's refusal, or a negative errno. */
int watches_fill(struct conn *conn, size_t limit);

/* Some events have not been looked at yet. */
bool watches_are_behind(const struct conn *conn);

/* Notes an event of a port and wakes who watches. */
struct port;
void watches_note(struct broker *b, enum event_what what, const struct port *p);

/* GRANTED, REVOKED: told to those for whom the grant is, if it shows or hides the port. */
void watches_note_grant(struct broker *b, enum event_what what, const struct port *p,
			const struct grant *grant);

#endif
