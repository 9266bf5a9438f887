/* Maps the memory of a log: the header, the data, and the data once more right behind them, so that
 * every range of the ring is contiguous.
 */
#ifndef REDD_SHARED_MAP_H
#define REDD_SHARED_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* header_size is a whole number of pages; the file has header_size + size bytes and cannot shrink.
 * The descriptor stays the caller's. 0 or a negative errno. */
int shared_map(int fd, size_t header_size, size_t size, bool is_writable, uint8_t **ret);

/* NULL is harmless. */
void shared_unmap(void *base, size_t header_size, size_t size);

#endif
