/* What a child says of itself (tests/progs/state.c): "name=value" lines. */
#ifndef TESTS_LIB_CHILDSTATE_H
#define TESTS_LIB_CHILDSTATE_H

#include <stddef.h>

#include "client/redd.h"

/* Runs progs/state with these options; their argv and subscription are set here. `what` is one word
 * for it (args, env, fds, attributes). *ret is what it printed on stdout, to be freed by the
 * caller. 0, or what redd_spawn() or the wait said, -EPROTO when the child failed. */
int childstate_run(struct redd *r, const struct redd_spawn_options *options, const char *what,
		   char **ret);

/* The value of the first line "name=...", or NULL. One of 8 buffers that are used in turn, each of
 * which takes 4 KiB; a longer value is cut. */
const char *childstate_value(const char *text, const char *name);

/* How many lines begin so. */
size_t childstate_count(const char *text, const char *prefix);

#endif
