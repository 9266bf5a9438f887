/* What a client is across reconnects: the ports that live as long as it does. A session ends when
 * its connection is gone and no port of its waits for it to come back.
 */
#ifndef REDD_BROKER_SESSION_H
#define REDD_BROKER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/alarm.h"
#include "broker/policy.h"
#include "broker/turn.h"
#include "proto/base/list.h"
#include "proto/limits.h"

struct broker;
struct conn;

struct session {
	struct list link; /* of the broker's sessions */
	struct broker *broker;
	uint8_t id[SESSION_ID_SIZE]; /* random; whoever shows it is the session */
	struct principal who;
	struct conn *conn; /* NULL while nobody is connected */
	struct list ports;
	struct list leaving; /* of those whose connection has gone: they do not know it yet */
	struct job leave;    /* tells them */
	bool is_telling;
	struct list leases; /* ports to whose inputs only it may write */
	struct alarm grace; /* set: an earlier broker's, that nobody has come back to yet */
};

/* 0 or a negative errno. */
int session_new(struct session **ret, struct broker *b, struct conn *conn);

/* The session with that id, made without a connection if there is none: for a port, a lease or a
 * door of an earlier broker. One that has no port is there for RECONNECT_GRACE_MS at the most.
 * NULL: the id is nobody's, or there is no memory. */
struct session *session_restore(struct broker *b, const uint8_t id[SESSION_ID_SIZE],
				const struct principal *who);

/* The session of that id if it belongs to the principal, or NULL. */
struct session *session_find(struct broker *b, const struct principal *who, const void *id,
			     size_t size);

/* The connection takes the session over; one that has it still is disconnected from it. */
void session_attach(struct session *s, struct conn *conn);

/* Its connection is gone: every port does what was agreed on for that, when there are many in the
 * turns of the loop that follow. The session goes when none of its ports is left to come back to.
 */
void session_detach(struct session *s);

/* Called when a port of the session is gone. */
void session_check(struct session *s);

/* The same for a lease or a door, for whose sake it may have been restored; s may be NULL. */
void session_check_awaited(struct session *s);

#endif
