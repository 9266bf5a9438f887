/* Requests that wait for their answer. One is part of its connection and of what it waits for, and
 * gets out of both at once, whichever goes first.
 */
#ifndef REDD_BROKER_PENDING_H
#define REDD_BROKER_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/alarm.h"
#include "broker/labels.h"
#include "broker/lease.h"
#include "broker/quota.h"
#include "proto/base/list.h"

struct conn;
struct expect;
struct input_item;
struct errand;
struct port;
struct selection;
struct stream;
struct subscription;

enum pending_kind {
	PENDING_SPAWN,
	PENDING_WRITE,
	PENDING_CLOSE,
	PENDING_CLOSE_WHOLE,
	PENDING_WAIT_EXITED,
	PENDING_WAIT_CLOSED,
	PENDING_SIGNAL,
	PENDING_LEASE,
	PENDING_EXPECT,
};

struct pending {
	struct list conn_link, port_link;
	enum pending_kind kind;
	struct conn *conn; /* NULL: it has gone, nobody is to be told */
	struct port *port; /* NULL: gone */
	uint64_t request;
	struct quota_charge charge;
	struct alarm alarm;    /* WAIT, EXPECT: its time is up */
	struct expect *expect; /* EXPECT; owned */
	/* WRITE, CLOSE, and an EXPECT that writes */
	struct stream *stream;
	struct input_item *item; /* what is waited for */
	struct input_item *data; /* Write with close: `item` is the close, this what goes before */
	uint64_t size;
	bool exact;
	bool tells_written; /* a close that came as part of a Write: the answer is Written */
	bool has_offset;    /* the Write said where, so that is the answer, else where it went */
	uint64_t offset;
	/* SPAWN */
	uint64_t subscription; /* id on the connection, 0: none */
	/* SIGNAL */
	struct errand *errand;	     /* TREE: its answer is waited for */
	uint64_t cookie;	     /* GROUP by the keeper: what its answer carries */
	struct list cookie_link;     /* of the broker's group_signals */
	struct lease_claim claim;    /* LEASE */
	struct labels *selector;     /* WAIT for any of several: a reference, and `port` is NULL */
	struct selection *selection; /* WAIT, SIGNAL by labels: while ports are looked for */
	struct list select_link;     /* of the broker's ... */
	struct quota_charge select_charge; /* ... and one of so many */
};

#define PENDING_E_TOO_MANY 1 /* CONN_PENDING_MAX wait already */
#define PENDING_E_EXISTS   2 /* the connection has a request of that id that waits */

/* port may be NULL. 0, PENDING_E_* or -ENOMEM. */
int pending_new(struct pending **ret, struct conn *conn, struct port *port, enum pending_kind kind,
		uint64_t request);

/* Takes it from everywhere; an item that still carries it as its cookie forgets it. */
void pending_free(struct pending *p);

/* Takes a Write or Close that has not begun out of its queue, with all that belongs to it; others
 * wait for nothing that could be taken out. False: it has begun, and nothing was done. */
bool pending_cancel_input(struct pending *p);

struct pending *pending_find(const struct conn *conn, uint64_t request);

/* The connection is going: what only it wanted to know is dropped; what it had written goes on. */
void pendings_abandon(struct conn *conn);

#endif
