/* The role `opener`: runs under the caller's identity and does one thing that needs /proc. */
#ifndef REDD_HELPER_OPENER_H
#define REDD_HELPER_OPENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "helper/link.h"

/* Reads what is asked from descriptor 0, answers there. The exit status. */
int opener_main(void);

/* True for a pid that must be neither named nor signalled. */
bool opener_is_excluded(const struct opener_request *request, pid_t pid);

int64_t opener_now_ms(void);

/* Signals the trees of n requests; pidfds: each leader's, or -1. Fills ret[0..n), all zero. */
void opener_trees(const struct opener_request *requests, size_t n, const int *pidfds,
		  struct opener_reply *ret);

/* Fills *ret, which is all zero. */
void opener_holders(const struct opener_request *request, struct opener_reply *ret);

#endif
