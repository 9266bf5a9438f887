/* A client's cursors into the logs of one port, and what is to be sent from them next.
 *
 *	OPEN -> ENDING -> freed        its Closed event is the last one; then it is gone
 *
 * A subscription is a small struct, never a queue: what it has not been sent lies in the logs.
 */
#ifndef REDD_BROKER_SUBSCRIPTION_H
#define REDD_BROKER_SUBSCRIPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/alarm.h"
#include "broker/cursor.h"
#include "broker/id_table.h"
#include "broker/marks.h"
#include "broker/quota.h"
#include "broker/stream.h"

struct conn;
struct port;
struct sharing;

enum subscription_state { SUBSCRIPTION_OPEN, SUBSCRIPTION_ENDING };

/* Numbers as in Closed.Cause of redd.proto. */
enum subscription_cause {
	SUBSCRIPTION_PORT_CLOSED = 0,
	SUBSCRIPTION_UNSUBSCRIBED = 1,
	SUBSCRIPTION_TOO_SLOW = 2,
	SUBSCRIPTION_FORGOTTEN = 3,
	SUBSCRIPTION_BAD_RECORD = 4, /* bad_stream, bad_offset */
	SUBSCRIPTION_REVOKED = 5,
};

/* What is wanted. Zeroed: every output from the beginning, the owner's default, no limit of credit.
 */
struct subscription_options {
	uint32_t streams[PORT_STREAMS_MAX];
	unsigned n_streams; /* 0: all outputs */
	enum cursor_from from;
	uint64_t offsets[PORT_STREAMS_MAX]; /* FROM_OFFSET: for offset_streams[i] */
	uint32_t offset_streams[PORT_STREAMS_MAX];
	unsigned n_offsets;
	uint64_t count;
	enum cursor_overflow overflow;
	struct credit credit;
	uint32_t stall_ms; /* 0: never */
	bool has_framing;  /* else each output's own */
	struct framing framing;
	bool marks;  /* tell when inputs are busy, and free again */
	bool shared; /* by the logs' memory, if that can be had */
};

struct subscription {
	uint64_t id;	      /* unique on the connection */
	struct id_node by_id; /* of the connection's */
	enum subscription_state state;
	enum subscription_cause cause; /* ENDING */
	uint32_t bad_stream;	       /* BAD_RECORD: where no packet stands ... */
	uint64_t bad_offset;
	struct conn *conn;
	struct port *port; /* NULL once that is gone */
	uint64_t port_id;
	struct list conn_link, port_link;
	struct list ready_link;	 /* of the connection's, while there may be something to send */
	struct list exit_link;	 /* of the connection's, while Exited is to be told */
	struct list wake_link;	 /* of the connection's, while Moved is to be told */
	struct sharing *sharing; /* owned; NULL: its bytes go by the socket */
	enum cursor_overflow overflow;
	struct credit credit;
	struct quota_charge charge;
	uint32_t stall_ms;
	struct alarm stall;
	int unread; /* in the client's socket, when its time to make progress began */
	struct marks marks;
	bool is_needing; /* counted as that by the port */
	bool is_blocking;
	bool is_stalled;	    /* moved from BLOCK to DROP for it */
	uint64_t blocking_since_ms; /* while it is */
	uint64_t blocked_total_ms;  /* before that */
	unsigned turn;		    /* the reader that is asked first next time */
	unsigned n_readers;
	struct reader readers[];
};

/* What the connection is to put on the bulk lane. */
struct bulk {
	enum { BULK_NOTHING, BULK_STEP, BULK_CLOSED } what;
	struct reader *reader; /* STEP */
	struct cursor_step step;
};

#define SUBSCRIPTION_E_STREAM 1 /* *ret_reason */
#define SUBSCRIPTION_E_OFFSET 2
#define SUBSCRIPTION_E_QUOTA  3
#define SUBSCRIPTION_E_RECORD 4

/* Subscribes; *ret belongs to its connection. 0, SUBSCRIPTION_E_*, -ENOMEM. */
int subscription_new(struct subscription **ret, struct conn *conn, struct port *port,
		     const struct subscription_options *options, const char **ret_reason);

/* Takes it from its port and connection at once, without a word. */
void subscription_free(struct subscription *s);

/* Its Closed event is next, and its last. */
void subscription_end(struct subscription *s, enum subscription_cause cause);

/* There may be something to send. */
void subscription_wake(struct subscription *s);

/* Nothing was next: it waits for its streams to move. */
void subscription_rest(struct subscription *s);

/* The next event; changes nothing but what BULK_CLOSED says. */
void subscription_next(struct subscription *s, struct bulk *ret);

/* The step was put on the lane; and, when it was cut off there again, back. */
struct subscription_mark {
	struct cursor cursor;
	struct credit credit;
	unsigned turn;
};
void subscription_take(struct subscription *s, const struct bulk *bulk,
		       struct subscription_mark *ret_mark);
void subscription_undo(struct subscription *s, const struct bulk *bulk,
		       const struct subscription_mark *mark);

/* What was taken has left for good: who was held back may go on. */
void subscription_moved(struct subscription *s, struct reader *reader);

void subscription_give_credit(struct subscription *s, uint64_t bytes);

/* The client of a shared one says that it has moved. */
void subscription_told(struct subscription *s);

uint64_t subscription_lag(struct subscription *s);

/* For how long, about, the oldest byte waits that it has not been sent. */
uint64_t subscription_lag_ms(const struct subscription *s);

/* For how long it has held the child back, now and in all. */
uint64_t subscription_blocking_ms(const struct subscription *s);
uint64_t subscription_blocked_total_ms(const struct subscription *s);

/* The port is about to go: its logs are not touched any more, Closed follows. */
void subscription_leave_port(struct subscription *s);

/* A blocking subscription of the port has not been told everything yet. */
bool subscriptions_need(const struct port *port);

/* The stream is held back, or not any more: finds out by whom. */
void subscriptions_look(struct stream *stream);

#endif
