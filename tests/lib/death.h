/* The broker of the scene dies: now, or at a step that the test has chosen; the next one takes
 * over.
 *
 *	struct death d;
 *
 *	death_at(&d, "close", 1);               // the first close(2) from now on is its last call
 *	cr_assert_eq(redd_close(port, 0, NULL), 0);
 *	death_await(&d);                        // it has died of it, and the next one answers
 *
 * What fails here fails the test. */
#ifndef TESTS_LIB_DEATH_H
#define TESTS_LIB_DEATH_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/lib/inject.h"

/* scene_begin() with a log that nobody reads: it would be one line a death. Arguments as in
 * struct service_options; may be NULL. */
void death_begin(void);
void death_begin_with(const char *const *args);

/* The broker that is there; waits for one that is just being started. */
pid_t death_broker(void);

/* Kills it. Returns which one it was. */
pid_t death_now(void);

/* Waits until there is another one than that. */
void death_await_next(pid_t before);

/* Skips a test with death_at() under valgrind, of which no program can be traced. First of all in
 * it, while there is nothing to be ended. */
void death_needs_tracing(void);

struct death {
	struct inject inject;
	pid_t broker;
};

/* The broker is killed as it enters that system call for the nth time from now on, which it does
 * not come to make. */
void death_at(struct death *d, const char *call, unsigned nth);

/* Dispatches scene.r until it was, and its successor answers. */
void death_await(struct death *d);

/* Calls it off. True: it had come. */
bool death_over(struct death *d);

#endif
