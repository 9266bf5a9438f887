/* Calls: a request that was sent and waits for its answer. Each public call is made twice from one
 * function: blocking with a waiter, or started with the program's redd_call.
 *
 *	int redd_ping(struct redd *r)
 *	{
 *		struct waiter w = { 0 };
 *		return call_wait(r, ping_begin(r, WAITER(&w)), &w);
 *	}
 */
#ifndef REDD_CLIENT_CALL_H
#define REDD_CLIENT_CALL_H

#include "client/client.h"

typedef struct Redd__V1__Request Redd__V1__Request;

/* Where a blocking call finds its answer. */
struct waiter {
	bool is_long; /* it has a limit of its own: call_timeout_ms does not count */
	bool done;
	int result;
	struct redd_reply reply; /* what its pointers lead to is the waiter's now */
	struct failure failure;	 /* result < 0 */
};

/* Who wants to know: one of both, or none. */
struct how {
	struct redd_call *call;
	struct waiter *waiter;
};

#define WAITER(w)  ((struct how){ .waiter = (w) })
#define STARTED(c) ((struct how){ .call = (c) })
#define NOBODY	   ((struct how){ 0 })

struct call;

/* Turns the answer into a reply. 0, or a negative errno with r->failure set. */
typedef int call_take_fn(struct redd *r, struct call *c, const Redd__V1__Message *m,
			 struct redd_reply *reply);

/* What becomes of a call that was sent and not answered when its connection is lost. What a kind
 * does not say is the first. */
enum call_repeat {
	CALL_IN_DOUBT, /* ends: nobody can say whether it was done */
	CALL_REPEAT,   /* asked again: doing it twice is doing it once */
	CALL_AT,       /* Write: again at its offset, where that is known */
	CALL_IS_DONE,  /* ends well: with the connection it came about */
	CALL_DROP,     /* the library's own: the loss has settled it */
};

/* What a kind of call expects. */
struct call_kind {
	const char *name;
	int answer; /* Redd__V1__Message__BodyCase */
	enum call_repeat repeat;
	call_take_fn *take; /* NULL: the answer says nothing */
	/* A repetition was refused with r->failure: true when that shows that the first one had
	 * come about, and *reply was made. NULL: it never does. */
	bool (*was_done)(struct redd *r, const struct call *c, struct redd_reply *reply);
	/* CALL_IS_DONE: after the program was told. NULL: nothing. */
	void (*settled)(struct redd *r, struct call *c);
	/* After the program was told of a failure; may be NULL. */
	void (*failed)(struct redd *r, struct call *c, int result);
};

/* What a request does to an input. */
struct call_input {
	uint32_t stream; /* as struct ledger has it */
	bool closes;	 /* it, behind what is written */
	bool writes;	 /* what follows counts */
	size_t size;	 /* of the data */
	uint32_t header; /* as in redd_write_options */
	bool no_wait;	 /* it is refused while the input is busy */
	bool is_patient; /* it is tried again when there is no room */
	uint32_t batch;	 /* is_patient: that it was sent in */
	bool is_cancelled;
	bool has_offset; /* stated by the program, or reckoned when it is repeated */
	uint64_t offset;
};

/* What a write with these options does, of so many bytes. */
struct call_input input_of_write(const struct redd_write_options *o, size_t size);

struct call {
	struct list order;
	struct list bucket;
	uint64_t id;
	const struct call_kind *kind;
	redd_done_fn *done;
	void *user;
	struct waiter *waiter;
	struct redd_port *port;			/* referenced; NULL: none */
	struct redd_subscription *subscription; /* likewise */
	struct redd_watch *watch;		/* likewise */
	/* For a repetition: the frame, with descriptors of its own; NULL: none was kept. */
	uint8_t *frame;
	size_t frame_size;
	int *fds;
	size_t n_fds;
	bool is_sent;	    /* on the connection that there is */
	bool is_settled;    /* CALL_IS_DONE, and it is */
	bool is_repeated;   /* an earlier one may have taken it */
	uint64_t position;  /* of its first byte in what is sent; is_sent */
	uint64_t number;    /* calls are sent in this order */
	int64_t started_ms; /* CLOCK_MONOTONIC */
	struct call_input input;
};

struct call_target {
	struct redd_port *port;
	struct redd_subscription *subscription;
	struct redd_watch *watch;
	const struct call_input *input; /* NULL: it does nothing to one */
	const int *fds;			/* to go with the request */
	size_t n_fds;
};

/* Sends a request, whose id is set here, with what it is about (target may be NULL). *ret_id may
 * be NULL. With a waiter it waits for room in the queue. 0; -EAGAIN, -EDEADLK, -EMSGSIZE, -ENOMEM,
 * -ENOTCONN, -ETIMEDOUT, each with r->failure set and nothing sent. */
int call_send(struct redd *r, const struct call_kind *kind, struct how how,
	      const struct call_target *target, Redd__V1__Request *request, uint64_t *ret_id);

/* In steps, for requests that are not packed by the generated code: checks and makes the call, ...
 */
int call_open(struct redd *r, const struct call_kind *kind, struct how how,
	      const struct call_target *target, struct call **ret);
/* ... judges what the queue said: 0 when the frame is in it, 1 when it is to be tried again, or a
 * negative errno after which the call is gone, ... */
int call_queued(struct redd *r, struct call *c, int outgoing_result);
/* ... and lets the answer find it. */
void call_commit(struct redd *r, struct call *take_c, struct how how);

/* Waits for the answer of a call that began with `begun`. The failure of the call is r's last when
 * it returns. */
int call_wait(struct redd *r, int begun, struct waiter *w);

/* Takes it out of the tables, tells the program, then the kind, and frees it. What the reply owns
 * goes to who asked. */
void call_end(struct redd *r, struct call *c, int result, struct redd_reply *reply);

/* The same without a word. */
void call_free(struct redd *r, struct call *c);

/* Ends every call, with the failure that r->down holds, or without telling anybody. */
void calls_lose(struct redd *r, bool tell);

/* A request of the library's own, of which nobody awaits the answer. May fail for a full queue:
 * 0 or a negative errno, not recorded. target may be NULL. */
int call_own(struct redd *r, const struct call_kind *kind, const struct call_target *target,
	     Redd__V1__Request *request);

/* --- coming back ----------------------------------------------------------------------------- */

/* A request goes out at once; else it is only kept, and repeat.c sends it in its turn. */
bool calls_go_out(const struct redd *r);

/* No more may wait: as a full queue. A bulk one leaves room for others, so that a kill is never
 * refused for writes that wait. */
bool calls_are_full(const struct redd *r, bool is_bulk);

/* Keeps a frame of two parts for a repetition, if the connection may come back. 0 or -ENOMEM. */
int call_keep(struct redd *r, struct call *c, const void *prefix, size_t prefix_size,
	      const void *data, size_t size);

/* It is being given up: nobody knows whether it will be done. Harmless when it does not wait. */
void call_is_cancelled(struct redd *r, uint64_t id);

/* How many writes to that input of c's port were sent before c and wait for their answers, and the
 * most bytes that they have. */
size_t calls_ahead(const struct redd *r, const struct call *c, uint32_t stream, uint64_t *ret_size);

/* False when Welcome said that the socket takes none. */
bool calls_pass_descriptors(const struct redd *r);

/* Its frame was queued, from that position on. */
void call_mark_sent(struct redd *r, struct call *c, uint64_t position);

/* Ends one that cannot be sent for a reason of this side; in doubt, if an earlier connection may
 * have taken it. Runs callbacks. */
void call_give_up(struct redd *r, struct call *c, int result);

/* The connection is lost and may come back: each call waits to be repeated, or ends (loss.c). Runs
 * callbacks. */
void calls_away(struct redd *r);

#endif
