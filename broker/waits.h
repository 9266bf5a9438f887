/* Waits, and when they are looked at: a port that has exited, or has ended, is put in a line, and a
 * job of the loop's turns goes through what waits for it, and for any port with labels, a slice at
 * a time. A port stays until that is done.
 */
#ifndef REDD_BROKER_WAITS_H
#define REDD_BROKER_WAITS_H

#include <stdbool.h>

#include "broker/turn.h"
#include "proto/base/list.h"

struct port;

/* Part of the broker. */
struct waits {
	struct list selected; /* pendings by labels; who was looked at last is last */
	unsigned n_selected;
	struct list ports; /* that are to be looked at */
	struct job job;
};

/* Part of a port. */
struct port_look {
	struct list link; /* of the broker's, while it is to be looked at */
	unsigned n_left;  /* of the selected ones; UINT_MAX: it was not begun */
};

void waits_init(struct waits *w);
void port_look_init(struct port_look *l);

static inline bool port_look_is_due(const struct port_look *l)
{
	return list_is_linked(&l->link);
}

/* Something happened that a Wait may be for: looked at in this turn, or as soon as there is time.
 */
void waits_look(struct port *p);

/* The port is about to go: looks at all that is left here and now. */
void waits_finish(struct port *p);

#endif
