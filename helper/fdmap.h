/* Which dup3(2) calls turn a set of descriptors into the set that a child is to have. Pure: numbers
 * in, steps out.
 */
#ifndef REDD_HELPER_FDMAP_H
#define REDD_HELPER_FDMAP_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/limits.h"

#define FDMAP_PAIRS_MAX PORT_FDS_MAX
#define FDMAP_STEPS_MAX (2u * FDMAP_PAIRS_MAX + 1u)

/* The child's `target` is to be what `source` is now. */
struct fdmap_pair {
	int target, source;
};

/* Make `to` a duplicate of `from`: closed on exec if `is_temporary`, else kept over it. With `from`
 * equal to `to` only: keep it over exec. */
struct fdmap_step {
	int from, to;
	bool is_temporary;
};

/* Plans the steps for n pairs (at most FDMAP_PAIRS_MAX). Targets are distinct, sources need not be;
 * no number is negative. Numbers that are neither target, source, reserved nor *keep must be free
 * when the steps are taken: intermediate copies go there, the lowest first. *keep is a descriptor
 * that must stay open: when it is in the way of a target or of one of the `reserved` numbers it is
 * moved first (the step that has it as `from` and is temporary), and its new number returned in it.
 * Returns the number of steps; `steps` has room for FDMAP_STEPS_MAX. */
size_t fdmap_plan(const struct fdmap_pair *pairs, size_t n, const int *reserved, size_t n_reserved,
		  int *keep, struct fdmap_step *steps);

#endif
