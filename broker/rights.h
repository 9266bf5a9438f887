/* What the connections of this broker may do with its ports: policy.h asked with all that has to be
 * known, and what follows when rights go.
 */
#ifndef REDD_BROKER_RIGHTS_H
#define REDD_BROKER_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/policy.h"

struct broker;
struct conn;
struct event;
struct port;
struct stream;

/* The clock of grants: it goes on while no broker runs, and in suspended machines. */
uint64_t rights_now_ms(void);

bool rights_may(const struct conn *c, enum policy_verb verb, const struct port *p);

/* For which of the port's streams it may READ or WRITE. */
stream_set rights_streams(const struct conn *c, enum policy_verb verb, const struct port *p);
bool rights_may_stream(const struct conn *c, enum policy_verb verb, const struct stream *s);

/* Its watches are told of the event. */
bool rights_see_event(const struct conn *c, const struct event *e);

/* Of all rights on the port those that the connection has. */
unsigned rights_of(const struct conn *c, const struct port *p);

/* When its right to manage the port ends, on the clock of grants; 0: it does not by itself. */
uint64_t rights_end(const struct conn *c, const struct port *p);

/* The stream's place in its port, as a bit. */
stream_set rights_bit(const struct port *p, uint32_t stream);

/* Adds a grant, whose id is set here. 0, GRANTS_E_FULL or -ENOMEM. */
int rights_grant(struct port *p, struct grant *grant);

/* Takes back the grant of that id, or all of them (0), and ends at once what hung on it. False:
 * there is none. */
bool rights_revoke(struct port *p, uint64_t id);

struct alarm;
void rights_on_end(struct alarm *a);

/* Ends what is done with the port without a right to it any more. */
void rights_look(struct port *p);

/* Ends whatever the connection does without a right to it any more. */
void rights_look_at(struct conn *c);

/* After a broker's death: the grants that were recorded. 0 or -ENOMEM. */
int rights_restore(struct port *p, const struct grant *list, unsigned n);

#endif
