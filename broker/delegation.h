/* Doors. A delegation is a part of what one client may do, given to whoever holds its door: the
 * other end of a SOCK_SEQPACKET pair. Who sends one byte with one end of a fresh SOCK_STREAM pair
 * through it has a connection, which is the delegation's, whoever that is and wherever.
 *
 *	OPEN --all copies of the door are closed, connections are left--> SHUT
 *	SHUT --the last connection goes--> over
 *	OPEN, SHUT --revoked, time up, session ended: its connections are ended--> over
 *
 * It names ports, which are fixed, or has a selector, which is followed. A right that it gives is
 * one that its maker still has when it is used.
 */
#ifndef REDD_BROKER_DELEGATION_H
#define REDD_BROKER_DELEGATION_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/alarm.h"
#include "broker/closer.h"
#include "broker/labels.h"
#include "broker/policy.h"
#include "broker/quota.h"
#include "proto/base/list.h"
#include "proto/limits.h"

struct broker;
struct conn;
struct port;
struct session;

struct delegation_options {
	uint64_t ports[DELEGATION_PORTS];
	unsigned n_ports;
	struct labels *selector; /* owned until delegation_new() took it; NULL: the ports */
	uint8_t rights;		 /* of enum right */
	uint32_t streams[PORT_STREAMS_MAX];
	unsigned n_streams; /* 0: all */
	uint64_t duration_ms;
	bool may_spawn, with_session;
};

struct delegation {
	struct list link; /* of the broker's */
	struct broker *broker;
	struct principal who; /* its connections' */
	gid_t groups[CONN_GROUPS];
	unsigned n_groups;
	struct delegation_options options;
	struct session *session; /* of its maker; NULL: it outlives that */
	unsigned n_conns;
	bool is_over, is_shut;
	int fd;
	uv_poll_t poll;
	struct alarm end, pause;
	struct closer_wait closer_wait; /* for what came through it to be closed */
	struct quota_account *account;	/* its maker's uid's; a reference */
	struct quota_charge charge;
};

#define DELEGATION_E_TOO_MANY 1
#define DELEGATION_E_QUOTA    2 /* *ret_reason */

/* Makes a delegation for a client, and its door, which is the caller's. 0, DELEGATION_E_* or a
 * negative errno. */
int delegation_new(struct delegation **ret, struct conn *maker, struct delegation_options *options,
		   int *ret_door, const char **ret_reason);

/* Ends it with all its connections. */
void delegation_end(struct delegation *d, const char *reason);

/* A connection of it is made, or gone. */
void delegation_enter(struct delegation *d);
void delegation_leave(struct delegation *d);

/* The rights that it has on that port, if any: by id and labels, or because it opened it. */
unsigned delegation_rights(const struct delegation *d, uint64_t port, const struct labels *labels,
			   const struct principal *owner);
stream_set delegation_streams(const struct delegation *d, const struct port *p);

struct delegation *delegation_find(const struct broker *b, uint64_t id);

/* A session is over: so are those that were to end with it. */
void delegations_end_with(struct broker *b, const struct session *s);
void delegations_end_all(struct broker *b);

#endif
