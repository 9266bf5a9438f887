/* What a broker gets from the keeper when it starts, and what it gives to be kept.
 */
#ifndef REDD_BROKER_INHERIT_H
#define REDD_BROKER_INHERIT_H

#include <stddef.h>
#include <stdint.h>

#include "broker/ring_pool.h"
#include "helper/link.h"

struct broker;

/* The configuration, locks and listeners. take_fds are consumed. 0 or a negative errno. */
int inherit_setup(struct broker *b, const struct link_setup *m, const int *take_fds, size_t n_fds);

/* From now on the keeper gets a duplicate of each ring's memfd. */
void inherit_observe_rings(struct broker *b);

/* What else is kept by a number: from now on the keeper has a duplicate of fd, or has it no more. 0
 * or a negative errno. */
#define KEPT_SCRATCH(i)	    (RING_NUMBERS_MAX + (uint32_t)(i)) /* both ends */
#define KEPT_DOOR(i)	    (KEPT_SCRATCH(2) + 2u * (i))       /* below DELEGATIONS_MAX */
#define KEPT_DOOR_RECORD(i) (KEPT_DOOR(i) + 1u)
int inherit_keep(struct broker *b, uint32_t number, uint32_t size, int fd);
void inherit_drop(struct broker *b, uint32_t number);

/* The keeper gets duplicates of the records and of the transit's pipe. 0 or a negative errno. */
int inherit_keep_records(struct broker *b);

void inherit_free(struct broker *b);

#endif
