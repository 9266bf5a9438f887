/* Subscriptions: made and ended (subscribe.c), fed (output.c, busy.c), paid (credit.c).
 */
#ifndef REDD_CLIENT_SUBSCRIBE_H
#define REDD_CLIENT_SUBSCRIBE_H

#include "client/handles.h"
#include "proto/redd.pb-c.h"

/* A Subscribe message with what it points to. */
struct subscribe_build {
	Redd__V1__Subscribe message;
	Redd__V1__Start start;
	Redd__V1__StreamOffset offsets[REDD_STREAMS_MAX];
	Redd__V1__StreamOffset *offset_list[REDD_STREAMS_MAX];
	uint32_t streams[REDD_STREAMS_MAX];
	Redd__V1__Framing framing;
};

/* Why a subscription's exit is unknown as long as nobody told it. */
extern const char subscription_not_told[];

/* Fills *b, whose address must stay, from options of which OPTIONS_COPY() was made. 0 or -EINVAL,
 * recorded. */
int subscribe_build(struct redd *r, struct subscribe_build *b,
		    const struct redd_subscribe_options *o);

/* Fills *m unless it is all default; then *ret is NULL. 0 or -EINVAL, recorded. */
int framing_build(struct redd *r, Redd__V1__Framing *m, const struct redd_framing *f,
		  Redd__V1__Framing **ret);

/* A handle that waits for its answer, with one reference, the program's; it holds one on the port.
 * NULL without memory, recorded. */
struct redd_subscription *subscription_new(struct redd_port *port,
					   const struct redd_subscribe_options *o);

/* The broker has answered: events may come. 0 or -EPROTO, recorded. */
int subscription_begin(struct redd_subscription *s, const Redd__V1__Subscribed *wire);

/* Asks for it again, from where it is. 0, -EAGAIN (no room), or a negative errno. */
int subscription_again(struct redd_subscription *s);

/* The answer to that: 0 or -EPROTO, recorded; or why it was refused. */
int subscription_resume(struct redd_subscription *s, const Redd__V1__Subscribed *wire);
void subscription_not_resumed(struct redd_subscription *s, const struct redd_error *why);

/* It is over, for this reason: the program is told if it hears of it still. */
void subscription_close(struct redd_subscription *s, struct redd_closed *closed);

/* It was to end, and did so with its connection: the program hears REDD_UNSUBSCRIBED. */
void subscription_unsubscribed(struct redd_subscription *s);

/* The request failed: the program hears REDD_CLOSED_REFUSED. */
void subscription_refused(struct redd_subscription *s, int result);

/* Asks the broker to end one that the program has freed. */
void subscription_abandon(struct redd_subscription *s);

/* The program hears of an input that is busy or free, ... */
void marks_tell(struct redd_subscription *s, const struct redd_marks *m);

/* ... and that all are free of which it heard otherwise. */
void marks_resume(struct redd_subscription *s);

/* Gives credit. As outgoing_own(). */
int credit_send(struct redd_subscription *s, uint64_t bytes);

/* MANUAL: the credit with which it is asked for again. */
uint64_t credit_again(const struct redd_subscription *s);

/* Notes what an event cost. */
void subscription_spend(struct redd_subscription *s, uint64_t cost);

#endif
