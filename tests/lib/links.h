/* What the suites of broker/helper_link.h begin and end with: the inside of a broker with the
 * test as its keeper and forker, a message to hear what they are told, and processes to hand
 * over, each with what its owner was told of it. One test runs in a process of its own, so there
 * is one of each.
 *
 *	TestSuite(helper_thing, .timeout = 30, .init = links_begin, .fini = links_end);
 *
 *	Test(helper_thing, a_sentence)
 *	{
 *		struct child *c = child_new(5);
 *
 *		core_turn(links.core);
 *		cr_assert(links_keeper_hears(LINK_DEPOSIT));
 *		cr_assert_eq(links.heard->n_fds, 2);
 *		core_say_started(links.core, child_id(c), 100);
 *		cr_assert_eq(c->n_started, 1);
 *		child_free(c);
 *	}
 *
 * What goes wrong in here fails the test.
 */
#ifndef TESTS_LIB_LINKS_H
#define TESTS_LIB_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/helper_link.h"
#include "broker/process.h"
#include "tests/lib/core.h"

struct links {
	struct core *core;
	struct core_message *heard; /* the last one */
	struct spawn_line *line;    /* that new children wait in; NULL: none of their own */
};

extern struct links links;

void links_begin(void);

/* Everything of the broker must be gone by then, see core_close(). */
void links_end(void);

/* There is a next message for the keeper, or for the forker, and it is of that type. It is in
 * links.heard, its descriptors too, unless the test takes them out (sets them to -1). */
bool links_keeper_hears(enum link_type type);
bool links_forker_hears(enum link_type type);

/* --- a process with what its owner was told -------------------------------------------------- */

struct child {
	struct process process;
	unsigned n_started, n_failed, n_exited, n_released;
	uint32_t stage, hold;
	int error, status;
	int ours, theirs; /* a pipe: our end is held, the child gets theirs */
	bool dies;	  /* the owner goes as soon as it has failed */
};

extern const struct process_events child_events;

/* Handed over in one of the next turns. `size`: of its record. */
struct child *child_new(uint64_t id);
struct child *child_new_sized(uint64_t id, size_t size);
void child_free(struct child *c);

/* Of its present attempt. */
struct link_spawn_id child_id(const struct child *c);

/* --- descriptors ----------------------------------------------------------------------------- */

bool links_are_one_file(int a, int b);

/* The other end of a birth socket has been closed everywhere. */
bool links_has_hung_up(int fd);

#endif
