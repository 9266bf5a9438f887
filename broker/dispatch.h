/* From a frame to the handler of its request: a table of who may ask what in which state. What is
 * not in the table is refused.
 */
#ifndef REDD_BROKER_DISPATCH_H
#define REDD_BROKER_DISPATCH_H

#include <stddef.h>
#include <stdint.h>

struct conn;

/* Handles one frame's body. Errors of the client are answered (or end the connection) and are no
 * failure. 0, or a negative errno that the connection cannot survive. It may be LEAVING afterwards,
 * but is not closed from within. */
int dispatch_frame(struct conn *c, const uint8_t *frame, size_t size);

#endif
