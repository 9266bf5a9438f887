/* Leases of ports' inputs as sessions have them: taken, waited for, lost.
 */
#ifndef REDD_BROKER_HOLDING_H
#define REDD_BROKER_HOLDING_H

#include <stdbool.h>
#include <stdint.h>

struct alarm;
struct broker;
struct conn;
struct pending;
struct port;
struct session;

/* Numbers as in Leased.Cause of redd.proto. */
enum holding_cause {
	HOLDING_HELD = 0,
	HOLDING_RELEASED = 1,
	HOLDING_TAKEN = 2,
	HOLDING_EXPIRED = 3,
	HOLDING_REVOKED = 4,
};

/* Answers a Lease: the session has it from now on. */
void holding_begin(struct port *p, struct session *s, uint64_t id, uint64_t duration_ms);

/* It has it still, of a port that is about to be taken up after an earlier broker's death: until
 * `until_ms` (0: no end; CLOCK_MONOTONIC), and not for longer than RECONNECT_GRACE_MS unless the
 * session comes back. */
void holding_resume(struct port *p, struct session *s, uint64_t id, uint64_t until_ms);

/* The holder's lease ends, and the next one in turn, or `to`, gets it. The holder is told unless it
 * was its own wish. */
void holding_end(struct port *p, enum holding_cause cause, struct pending *to, bool tell);

/* Its session has no connection now, and may come back within RECONNECT_GRACE_MS; it has. */
void holding_detached(struct session *s);
void holding_attached(struct session *s);

/* Its session is over. */
void holding_session_over(struct session *s);

/* Looks whether the holder may still write; who waits was looked at before (rights.c). */
void holding_look(struct port *p);

/* There is no such door any more: who came through it and is not there now has no lease, either. */
void holding_door_over(struct broker *b, uint64_t delegation);

/* The port is going. */
void holding_forget(struct port *p);

void holding_on_end(struct alarm *a);

#endif
