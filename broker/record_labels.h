/* A port's labels, or a door's selector, for a successor. Those of ports are in the same memfd as
 * the records, a piece for each place, as records are of one size and labels of none, and most
 * ports have none. They are written once, when the port gets its place, and read once: with
 * pwrite(2) and pread(2), unmapped, so that places that never had any cost no memory.
 *
 * Lengths and bytes with a checksum; nothing is parsed as text. Whose they are stands with them:
 * another port's mean nothing, so they need not go with their port.
 */
#ifndef REDD_BROKER_RECORD_LABELS_H
#define REDD_BROKER_RECORD_LABELS_H

#include <stdint.h>
#include <sys/types.h>

#include "proto/limits.h"

struct labels;

#define RECORD_LABELS_SIZE KIB(12) /* of one piece, whole pages */

/* Writes those of a port to the piece at `at`. 0 or a negative errno. */
int record_labels_write(int fd, off_t at, uint64_t port, const struct labels *labels);

/* The labels of that port, a reference; NULL where there are none. 0, RECORD_LABELS_E_BAD, or a
 * negative errno. */
#define RECORD_LABELS_E_BAD 1
int record_labels_read(int fd, off_t at, uint64_t port, struct labels **ret);

/* Their port is gone: gives memory back that one with few labels would not use. */
void record_labels_drop(int fd, off_t at);

#endif
