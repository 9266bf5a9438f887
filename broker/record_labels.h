/* A port's labels, or a door's selector, for a successor: a piece (record_piece.h). Those of ports
 * are in the same memfd as the records, one for each place, as records are of one size and labels
 * of none, and most ports have none.
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

#endif
