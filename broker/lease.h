/* Who may write to a port's inputs alone, and who waits for that. Knows nothing of sessions, ports
 * and time: `who` is compared, never looked at.
 */
#ifndef REDD_LEASE_H
#define REDD_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/list.h"

struct lease {
	const void *holder; /* NULL: nobody has it */
	uint64_t id;	    /* of the holder's claim */
	struct list claims; /* in the order in which they came */
	unsigned n_claims;
};

/* One that waits. */
struct lease_claim {
	struct list link;
	struct lease *lease; /* NULL: it does not wait */
	const void *who;
	uint64_t id;
	uint64_t duration_ms; /* the owner's */
};

#define LEASE_E_HELD  1 /* somebody else has it */
#define LEASE_E_FULL  2 /* LEASE_CLAIMS_MAX wait */
#define LEASE_E_TWICE 3 /* this one waits already */

void lease_init(struct lease *l);
void lease_claim_init(struct lease_claim *c, const void *who, uint64_t id);

/* It may write: nobody, or this one, has the lease. */
bool lease_admits(const struct lease *l, const void *who);

/* 0 or LEASE_E_HELD. Whoever has it already has it still, under the id that it had. */
int lease_take(struct lease *l, const void *who, uint64_t id);

/* Whoever had it has it no more. */
void lease_seize(struct lease *l, const void *who, uint64_t id);

/* The claim waits; it stays the caller's. 0 or LEASE_E_*. */
int lease_wait(struct lease *l, struct lease_claim *c);

/* It does not wait any more; harmless when it did not. */
void lease_unwait(struct lease_claim *c);

struct lease_claim *lease_find(const struct lease *l, uint64_t id);
struct lease_claim *lease_find_who(const struct lease *l, const void *who);

/* The holder's time is over: the claim `to`, else the first one, has it now and waits no more.
 * NULL: nobody does. */
struct lease_claim *lease_pass(struct lease *l, struct lease_claim *to);

#endif
