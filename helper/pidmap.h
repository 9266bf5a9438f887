/* Which slot a process belongs to: a fixed hash from pid to a number. */
#ifndef REDD_HELPER_PIDMAP_H
#define REDD_HELPER_PIDMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PIDMAP_SIZE 65536u /* places, a power of two; three quarters may be used */

struct pidmap {
	uint32_t used;
	struct pidmap_entry {
		pid_t pid; /* 0: free */
		uint32_t value;
	} entries[PIDMAP_SIZE];
};

/* All zero is an empty map. */

/* Adds or replaces. False when the map is full: nothing changed then. */
bool pidmap_put(struct pidmap *m, pid_t pid, uint32_t value);

/* False when pid is not there. */
bool pidmap_get(const struct pidmap *m, pid_t pid, uint32_t *ret_value);

void pidmap_remove(struct pidmap *m, pid_t pid);

#endif
