/* A look at all ports that there are, a slice at a time: at thousands of ports, each with labels to
 * be compared, it takes longer than a turn of the loop may.
 *
 * The first slice is the caller's own; what is left becomes a job of the loop's turns, at the cost
 * of whoever asked. Ports that come meanwhile are not looked at.
 */
#ifndef REDD_BROKER_WALK_H
#define REDD_BROKER_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/turn.h"

struct broker;
struct port;

struct walk {
	struct broker *broker;
	struct job job;
	uint64_t at, end; /* ids: the last one that was looked at, the last there is */
	bool (*visit)(struct walk *w, struct port *p); /* false: that is enough */
	void (*over)(struct walk *w);
};

/* visit is called with ports in the order of their ids, and may not end the walk but by what it
 * returns; over, which may, is called from the loop behind the last one of a walk that went on. A
 * slice is WALK_SLICE_NS of wall time. */
void walk_init(struct walk *w, struct broker *b, bool (*visit)(struct walk *w, struct port *p),
	       void (*over)(struct walk *w));

/* One slice. False: it is over. */
bool walk_step(struct walk *w);

/* The rest in the loop's turns, at the cost of that user; NULL: the broker's own. */
void walk_go_on(struct walk *w, struct turn_share *share);

/* Harmless when it is over, or was never begun. */
void walk_deinit(struct walk *w);

#endif
