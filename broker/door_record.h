/* What a successor has to know of a door: a memfd of its own, written once and sealed, as a
 * delegation never changes. Numbers with a checksum, and the selector's labels (record_labels.h).
 */
#ifndef REDD_BROKER_DOOR_RECORD_H
#define REDD_BROKER_DOOR_RECORD_H

#include <stdint.h>
#include <sys/types.h>

#include "proto/limits.h"

struct labels;

/* No padding that is not zeroed: all of it is summed up. */
struct door_record {
	uint64_t sum; /* XXH3 of what follows */
	uint64_t layout;
	uint64_t delegation;
	uint32_t listener, uid, gid;
	uint32_t rights; /* enum right */
	uint32_t may_spawn;
	uint32_t n_groups, n_ports, n_streams;
	uint64_t until_ms;		  /* CLOCK_MONOTONIC; 0: without an end */
	uint8_t session[SESSION_ID_SIZE]; /* it ends with that; all zero: with none */
	uint32_t has_selector, pad;
	uint64_t ports[DELEGATION_PORTS];
	uint32_t streams[PORT_STREAMS_MAX];
	uint32_t groups[CONN_GROUPS];
};

/* Makes the memfd of *record, whose sum and layout are set in it. selector: NULL: none. 0 or a
 * negative errno. */
int door_record_write(struct door_record *record, const struct labels *selector, int *ret_fd);

/* *ret_selector: a reference, or NULL. 0, DOOR_RECORD_E_BAD, or a negative errno. */
#define DOOR_RECORD_E_BAD 1
int door_record_read(int fd, struct door_record *ret, struct labels **ret_selector);

#endif
