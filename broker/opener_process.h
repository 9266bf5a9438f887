/* An opener that is out: a process like any other to keeper and forker, with a seqpacket socket as
 * descriptor 0. The requests are put into the socket before the process is there; the answer is
 * read when it comes, or the time is up and the opener is killed.
 *
 *	ASKING --answer, or none any more--> ANSWERED --its exit--> OVER
 *
 * So it is over when the process is: while there are some, a service that ends waits for them.
 */
#ifndef REDD_BROKER_OPENER_PROCESS_H
#define REDD_BROKER_OPENER_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "helper/link.h"

struct broker;
struct opener;
struct port_options;

/* As whom it runs. */
struct identity {
	bool is_other;
	uid_t uid;
	gid_t gid;
	uint32_t groups[64];
	unsigned n_groups;
};

void identity_copy(struct identity *i, const struct port_options *options);
bool identity_is_same(const struct identity *a, const struct identity *b);

struct opener_events {
	/* Once: as many replies as there were requests; or NULL, when it has failed, or took too
	 * long and was killed. */
	void (*answered)(void *context, const struct opener_reply *replies);
	/* Once, and last: it is no process any more. late: what it answered all the same. */
	void (*over)(void *context, const struct opener_reply *late);
};

struct opener_order {
	const struct identity *identity;
	const struct opener_request *requests; /* as helper/link.h says */
	size_t n;
	const int *pidfds; /* of those that have one, in their order */
	size_t n_pidfds;
	uint64_t timeout_ms;
	bool may_use_reserve; /* the descriptors that are kept for what is due */
	const struct opener_events *events;
	void *context;
};

/* No event comes from within. 0 or a negative errno; it goes by itself when it is over. */
int opener_send_out(struct opener **ret, struct broker *b, const struct opener_order *order);

/* Waits no more, whatever becomes of the process: `over` comes from within. */
void opener_give_up(struct opener *o);

#endif
