/* The inside of libredd: what a handle holds. Only client/ sees it.
 *
 * Who owns what. The handle owns descriptor, queues, calls and the tables. Ports, subscriptions and
 * watches are counted: one reference for the program that holds the handle, one for each call under
 * way that needs them, one for the table in which the broker's events find them. Callbacks run only
 * while r->dispatching is set; whoever calls one holds a reference over it.
 */
#ifndef REDD_CLIENT_CLIENT_H
#define REDD_CLIENT_CLIENT_H

#include "client/failure.h"
#include "client/locate.h"
#include "client/outgoing.h"
#include "client/redd.h"
#include "proto/arena.h"
#include "proto/base/list.h"
#include "proto/limits.h"

#define CLIENT_BUCKETS 64u /* a power of two */

#define QUEUE_DEFAULT	   MIB(4)
#define CONNECT_TIMEOUT_MS 5000u
#define WINDOW_DEFAULT	   MIB(1)

enum client_state {
	CLIENT_DOWN,  /* no connection */
	CLIENT_HELLO, /* Hello is on its way; requests are queued behind it */
	CLIENT_UP,
	CLIENT_AWAY,  /* it is lost, and is tried again when away.next_ms has come */
	CLIENT_AGAIN, /* it is there again; Hello with our session is on its way */
};

/* Bytes that came and were not looked at yet. Grows with what came, up to one frame. */
struct incoming {
	uint8_t *data; /* owned; page-aligned, made with the first read */
	size_t start, end, capacity;
};

/* Calls that wait for their answer. */
struct calls {
	struct list order; /* struct call, as they were started */
	struct list buckets[CLIENT_BUCKETS];
	size_t n;
	size_t n_sent; /* of these, handed to the connection that there is */
	size_t kept;   /* bytes of requests that are kept for a repetition */
	uint64_t last_id;
	uint64_t last_number;
};

/* Patient writes (patience.c). */
struct patience {
	uint32_t batch;	   /* of those that are sent now; not 0 */
	size_t n_waiting;  /* to be sent, most of them again */
	bool is_crowded;   /* one was refused: they go out by patience_turn() alone ... */
	bool is_settling;  /* ... and not before its whole batch was answered */
	size_t n_sent;	   /* and not answered */
	size_t most_sent;  /* while some are waiting */
	int64_t due_ms;	   /* CLOCK_MONOTONIC, of the next try */
	uint32_t pause_ms; /* before the one after it */
};

/* How a lost connection comes back (reconnect.c), and what is asked anew then (repeat.c). */
struct away {
	uint32_t limit_ms;   /* 0: it does not come back */
	bool may_start;	     /* a broker, until the first Welcome */
	int64_t begin_ms;    /* CLOCK_MONOTONIC, of the loss */
	int64_t deadline_ms; /* until it is UP again */
	int64_t next_ms;     /* of the next try */
	unsigned tries;
	uint64_t hello;	   /* CLIENT_AGAIN: the request that awaits Welcome */
	bool is_anonymous; /* ... and shows no session */
	bool is_resuming;  /* UP, or HELLO: not all was asked anew yet */
	struct place place;
	char client[CLIENT_NAME_MAX + 1];
	uint32_t frame_max; /* that was asked for; 0: default */
	struct failure why; /* of the loss */
	redd_reconnect_fn *on_reconnect;
	void *user;
};

struct redd {
	enum client_state state;
	int fd;
	int doors[CONN_DOORS]; /* came with answers that were not looked at yet, owned */
	size_t n_doors;
	bool dispatching; /* callbacks may be running */
	struct outgoing out;
	struct incoming in;
	struct arena arena;
	struct calls calls;
	struct patience patience;
	struct list ports;		   /* struct redd_port, all */
	struct list subscriptions;	   /* struct redd_subscription, all */
	struct list owing;		   /* subscriptions whose credit is still to be sent */
	struct list awake;		   /* shared ones whose logs may hold more */
	uint8_t *copy;			   /* owned; OUTPUT_MAX, for what may be overwritten */
	struct list by_id[CLIENT_BUCKETS]; /* subscriptions that the broker knows */
	struct list watches;		   /* struct redd_watch, all */
	struct redd_welcome welcome;
	char *broker; /* welcome.broker */
	uint32_t frame_max;
	uint32_t call_timeout_ms;
	int64_t hello_deadline_ms; /* CLOCK_MONOTONIC, CLIENT_HELLO */
	redd_lost_fn *on_lost;
	void *on_lost_user;
	redd_lease_end_fn *on_lease_end;
	void *on_lease_end_user;
	struct away away;
	struct failure failure; /* the last one */
	struct failure bye;	/* why the broker closes, if it said; result 0: it did not */
	struct failure down;	/* why there is no connection */
};

/* Copies an options struct of which the program knows `size` bytes (0: all of the first layout,
 * `first`); what it does not know is zero. */
void options_copy(void *to, size_t to_size, const void *from, size_t first);

#define OPTIONS_COPY(to, from) options_copy(&(to), sizeof(to), (from), sizeof(to))

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t clock_ms(void);

/* What is left until a deadline, for poll(2): 0 when it has passed. */
int clock_left(int64_t deadline_ms);

/* Records a failure of this side and returns result. */
#define client_fail(r, result, ...) failure_set(&(r)->failure, (result), __VA_ARGS__)

/* -ECANCELED: a blocking call waited for what a callback has freed. */
int client_fail_freed(struct redd *r, const char *what);

/* -ENOTCONN, with the reason for which there is no connection. */
int client_fail_down(struct redd *r);

/* --- connection (connect.c, pump.c) ---------------------------------------------------------- */

/* Ends the connection: `why` is kept, every call ends with -ENOTCONN, every subscription with
 * REDD_CLOSED_LOST, every watch with REDD_LIFE_LOST. Runs callbacks. */
void client_lose(struct redd *r, const struct failure *why, bool tell);

/* The only writer of r->state; moves that make no sense stop the program. */
void client_set_state(struct redd *r, enum client_state state);

/* Reads what Welcome says into r. 0 or a negative errno, recorded. */
typedef struct Redd__V1__Welcome Redd__V1__Welcome;
int client_welcome(struct redd *r, const Redd__V1__Welcome *w);

/* Queues a Hello of that id; session may be NULL. As outgoing_own(). */
int client_hello(struct redd *r, uint64_t id, const uint8_t *session);

/* Waits for room in the queue, or for an answer, and dispatches. 0, -ENOTCONN, or -ETIMEDOUT after
 * deadline_ms (negative: none). */
int client_turn(struct redd *r, int64_t deadline_ms);

/* --- events (pump.c routes them) ------------------------------------------------------------- */

typedef struct Redd__V1__Message Redd__V1__Message;

/* Each returns 0 or, when the broker does not keep to the protocol, -EPROTO with r->failure set. */
int calls_answer(struct redd *r, uint64_t id, const Redd__V1__Message *m);
int subscription_event(struct redd *r, const Redd__V1__Message *m);
void subscription_output(struct redd *r, const struct codec_output *o, const uint8_t *data);
void subscriptions_pay(struct redd *r);
void subscriptions_lose(struct redd *r, bool tell);
void subscriptions_away(struct redd *r);
void subscriptions_settle(struct redd *r);
int watch_event(struct redd *r, const Redd__V1__Message *m);
void watches_lose(struct redd *r);
void watches_away(struct redd *r);

/* An event: one of ours has ended. */
int lease_event(struct redd *r, const Redd__V1__Message *m);
/* All have: the session that had them is gone. */
void leases_abandon(struct redd *r);
void leases_away(struct redd *r);

#endif
