/* Takes up what an earlier broker of the service left with the keeper: ports go on where they were.
 *
 * The keeper tells in this order: held descriptors (one message a process), the memfds of logs, the
 * records, then that it is ready. Only then everything is there, and the ports are put together;
 * what fits no record is given back, and its process ended: nobody could ever reach it.
 */
#ifndef REDD_BROKER_RESUME_H
#define REDD_BROKER_RESUME_H

#include <stddef.h>

#include "helper/link.h"

struct broker;
struct inheritance;

/* Each notes what came. Descriptors are consumed in every case. */
void resume_held(struct broker *b, const struct link_held *m, const int *take_fds, size_t n_fds);
void resume_ring(struct broker *b, const struct link_ring *m, int take_fd);
void resume_records(struct broker *b, int *take_fds, size_t n_fds);

/* All has come: makes the ports. 0 or a negative errno. */
int resume_ports(struct broker *b);

/* Drops what was not used. */
void resume_free(struct broker *b);

#endif
