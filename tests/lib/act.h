/* What the suites of tests/lib/play.h do again and again with the children that they start, and the
 * two ways in which such children can be made.
 *
 *	BOTH_MODES(helper_thing, a_sentence, 30)
 *	{
 *		struct play_spawn s;
 *		int out;
 *
 *		play_spawn_init(p, &s, 1, argv);
 *		out = act_spawn_with_output(p, &s);
 *		...
 *	}
 *
 * What goes wrong in here fails the test.
 */
#ifndef TESTS_LIB_ACT_H
#define TESTS_LIB_ACT_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/lib/play.h"

/* The same body, with its play as `p`, for children that share the forker's memory, and for such
 * that do not. */
#define BOTH_MODES(suite, name, limit)                              \
	static void name(struct play *p);                           \
	static void name##_run(uint32_t flags)                      \
	{                                                           \
		static struct play p;                               \
                                                                    \
		cr_assert_eq(play_start(&p, flags), 0);             \
		name(&p);                                           \
		cr_assert_eq(play_stop(&p, 0), 0);                  \
	}                                                           \
	Test(suite, name, .timeout = limit)                         \
	{                                                           \
		name##_run(0);                                      \
	}                                                           \
	Test(suite, name##_without_shared_memory, .timeout = limit) \
	{                                                           \
		name##_run(LINK_CONFIG_PLAIN_CLONE);                \
	}                                                           \
	static void name(struct play *p)

/* Spawns with a pipe on descriptor 1; returns its read end, which is the caller's. */
int act_spawn_with_output(struct play *p, struct play_spawn *s);

/* Reads to the end into text, which is NUL-terminated; returns the size. */
size_t act_read_all(int fd, char *text, size_t size);

/* Whether all writers of a pipe have gone, or go within that time. */
bool act_ends_within(int fd, int timeout_ms);

/* Spawns what must fail there with that errno, and forgets it. */
void act_expect_failure(struct play *p, struct play_spawn *s, uint32_t stage, int error);

/* A FIFO in the play's directory. A child that opens it for `files` of its record hangs before its
 * exec, until the test opens the other end. The test unlinks it. */
void act_make_fifo(struct play *p, char *ret_path, size_t size);

/* Waits until the child of a spawn that keeps its birth socket (keep_birth) is there. Its pid. */
pid_t act_wait_for_birth(const struct play_spawn *s);

/* Answers come in order, so what was asked before was done when this returns. */
void act_settle(struct play *p);

/* Waits until the keeper has no zombies and no other children than broker and forker. */
bool act_becomes_childless(struct play *p);

#endif
