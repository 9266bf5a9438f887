/* Lines in a piece of memory. */
#ifndef REDD_LINES_H
#define REDD_LINES_H

#include <stddef.h>
#include <stdint.h>

/* Offset in data where the last `lines` lines start; a last line without its newline counts as one.
 * 0 when there are fewer, `size` when lines is 0. */
size_t lines_find_last(const void *data, size_t size, uint64_t lines);

#endif
