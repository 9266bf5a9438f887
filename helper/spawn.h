/* From a LINK_SPAWN message to a running child: a fixed pool of places with stack, message and
 * pointers, one for each child that has not executed its program yet.
 */
#ifndef REDD_HELPER_SPAWN_H
#define REDD_HELPER_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Children between clone and exec at once. The broker hands over SPAWNS_IN_FLIGHT at most. */
#define SPAWN_PLACES (SPAWNS_IN_FLIGHT + 16u)

struct spawn_place;

struct spawner {
	struct spawn_place *places; /* SPAWN_PLACES, mapped once */
	struct spawn_place *idle;   /* the last one used is the first to be used again */
	unsigned n_used;	    /* of places; those above were never used */
	struct spawn_place *busy;
	int null_fd;
	bool is_plain; /* clone without CLONE_VM */
	uint64_t nofile_soft, nofile_hard;
};

/* Maps the places. is_plain: never share memory with a child (see spawn_needs_plain()). 0 or a
 * negative errno. */
int spawner_init(struct spawner *s, bool is_plain);
void spawner_deinit(struct spawner *s);

/* True where a child must not share memory: sanitizers, valgrind, unknown architectures. */
bool spawn_needs_plain(void);

/* Takes back the places of children that have executed or are gone; true when one is idle. */
bool spawner_collect(struct spawner *s);

/* Receives one message from `sock` and spawns what it says. There must be an idle place. Whatever
 * goes wrong is told on the birth socket if there is one. 0; -EAGAIN when no message waits; -EPIPE
 * at the end of file; another negative errno of recvmsg(2). */
int spawner_receive(struct spawner *s, int sock);

#endif
