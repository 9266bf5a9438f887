/* What a child does between clone and exec. */
#ifndef REDD_HELPER_CHILD_H
#define REDD_HELPER_CHILD_H

#include <stdint.h>

#include "helper/fdmap.h"
#include "helper/spawn_check.h"

/* Everything a child needs, made before the clone. In memory of its own that stays as it is until
 * the child has executed a program or is gone: with shared memory the forker goes on meanwhile. */
struct child_plan {
	struct spawn_view view;
	int birth;		    /* the birth socket's write end; moves with the steps */
	int terminal;		    /* if flagged */
	int keep[LINK_FDS_MAX + 2]; /* in rising order; all others are closed */
	size_t n_keep;
	struct fdmap_step steps[FDMAP_STEPS_MAX];
	size_t n_steps;
	uint64_t nofile_soft, nofile_hard; /* unless the record sets them */
};

/* Runs in the child; never returns: executes a program, or writes BIRTH_FAILED and ends. All
 * signals are blocked and all dispositions are the default when it is called. Uses raw system calls
 * only. For clone(2), hence the pointer: a struct child_plan. */
int child_run(void *plan) __attribute__((noreturn));

/* Writes BIRTH_FAILED where there is no child to do it. Best effort: never blocks. */
void child_report(int birth, uint32_t stage, int error);

#endif
