/* Closing every descriptor but a few, with raw system calls only: safe between clone and exec. */
#ifndef REDD_HELPER_FDCLOSE_H
#define REDD_HELPER_FDCLOSE_H

#include <stddef.h>

/* Closes all descriptors that are not in keep[0..n), which is in rising order without doubles. Uses
 * close_range(2), or /proc/self/fd where a kernel or a filter refuses that, or else tries every
 * number below the limit. */
void fdclose_others(const int *keep, size_t n);

/* Puts fds in rising order and drops doubles; returns how many are left. */
size_t fdclose_order(int *fds, size_t n);

/* The two ways for systems without close_range(2), for tests. The first returns 0 or a negative
 * errno when /proc cannot be read. */
int fdclose_others_by_proc(const int *keep, size_t n);
void fdclose_others_by_number(const int *keep, size_t n);

#endif
