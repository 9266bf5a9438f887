/* A process without redd: three pipes, clone, exec, a pidfd: what any broker must do at the least.
 * The limit that measurements are held against. */
#ifndef TESTS_LIB_RAWSPAWN_H
#define TESTS_LIB_RAWSPAWN_H

#include <stdbool.h>
#include <sys/types.h>

struct rawspawn {
	int in, out, err; /* our ends */
	int pidfd;
	pid_t pid;
	void *stack; /* of the clone; kept for the next spawn in this struct */
};

/* All zero but the descriptors. */
#define RAWSPAWN_INIT                \
	{                            \
		-1, -1, -1, -1, 0, 0 \
	}

/* Clones with CLONE_VM and, unless `async`, CLONE_VFORK, and executes argv[0] (no search; at most
 * 7 arguments in all) with our environment. 0 or -1. The struct may be used again once the process
 * has ended. */
int rawspawn(struct rawspawn *p, char *const *argv, bool async);

/* Reaps; returns its wait code (0 to 255), 128 + signal, or -1. Closes what is open. */
int rawspawn_end(struct rawspawn *p);

#endif
