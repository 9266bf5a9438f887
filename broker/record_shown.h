/* What is only shown of a port, for a successor: program, directory and arguments, in a piece
 * (record_piece.h) for each place in the memfd of the records.
 */
#ifndef REDD_BROKER_RECORD_SHOWN_H
#define REDD_BROKER_RECORD_SHOWN_H

#include <stdint.h>
#include <sys/types.h>

#include "proto/limits.h"

struct port_options;

#define RECORD_SHOWN_SIZE KIB(16) /* of one piece, whole pages */

/* Writes those of a port to the piece at `at`; what does not fit is cut. 0 or a negative errno. */
int record_shown_write(int fd, off_t at, uint64_t port, const struct port_options *options);

/* Sets program, directory and arguments of *ret, which has none: they are empty where nothing is
 * known. 0, RECORD_SHOWN_E_BAD (they are empty, too), or a negative errno. */
#define RECORD_SHOWN_E_BAD 1
int record_shown_read(int fd, off_t at, uint64_t port, struct port_options *ret);

#endif
