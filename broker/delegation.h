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
 *
 * It outlives the broker, as the keeper has a duplicate of its socket: knocks wait there.
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
	uint64_t until_ms;  /* of the loop's clock, which is CLOCK_MONOTONIC; 0: no end */
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
	uint32_t place; /* its number with the keeper; DELEGATIONS_MAX: it is not kept there */
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

/* Some are to end with that session. */
bool delegations_hang_on(const struct broker *b, const struct session *s);

/* A session is over: so are those that were to end with it. */
void delegations_end_with(struct broker *b, const struct session *s);
void delegations_end_all(struct broker *b);

/* --- delegation_keep.c ----------------------------------------------------------------------- */

/* From now on a successor will know it; or not any more, which is harmless if it never would. */
void delegation_keep(struct delegation *d);
void delegation_unkeep(struct delegation *d);

/* What the keeper has of an earlier broker's. */
struct kept_doors {
	int fds[2 * DELEGATIONS_MAX]; /* door and record in turn, + 1; 0: none */
};

/* True when that is the number of one: it is consumed then. */
bool kept_doors_take(struct kept_doors *k, uint32_t number, int take_fd);
void kept_doors_close(struct kept_doors *k);

/* Takes them all up. What cannot be is over. */
void delegations_resume(struct broker *b, struct kept_doors *k);

/* Steps of its beginning. Without anything but a socket, which is consumed also on failure: NULL.
 */
struct delegation *delegation_blank(struct broker *b, int take_fd);

/* Who it is, its account and its options are there: people may knock. 0, DELEGATION_E_QUOTA with
 * *ret_reason, or a negative errno. */
int delegation_open(struct delegation *d, const char **ret_reason);

/* It was not opened. Its options stay the caller's. */
void delegation_drop(struct delegation *d);

#endif
