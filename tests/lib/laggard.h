/* A reader that does not keep up, on purpose: the scene's subscription (tests/lib/scene.h) has
 * credit for LAGGARD_FIRST bytes and no more, whatever the machine does, and LAGGARD_SIZE bytes
 * of the pattern go into the smallest log.
 *
 *	struct redd_port *port;
 *
 *	laggard_watch(REDD_DROP, 0);
 *	port = scene_spawn(&options, &scene.c);
 *	scene_wait_closed(port);
 *	laggard_catch_up(port);
 *	laggard_expect_gap(&collect_stream(&scene.c, 1)->gap[0], LAGGARD_FIRST,
 *			   LAGGARD_SIZE - LAGGARD_LOG, REDD_GAP_SLOW);
 *	scene_forget(port);
 *
 * What goes wrong in here fails the test.
 */
#ifndef TESTS_LIB_LAGGARD_H
#define TESTS_LIB_LAGGARD_H

#include <stdint.h>

#include "client/redd.h"

#define LAGGARD_LOG   65536u
#define LAGGARD_SIZE  1048576u
#define LAGGARD_FIRST 1000u

/* The options of scene.c.watch, for the spawn that follows. */
void laggard_watch(enum redd_overflow overflow, uint32_t stall_ms);

/* Gives credit for everything and waits for the subscription's end, which must be a good one. */
void laggard_catch_up(struct redd_port *port);

void laggard_expect_gap(const struct redd_gap *gap, uint64_t offset, uint64_t end,
			enum redd_gap_cause cause);

/* --- whole cases, the same however the bytes come; the port is forgotten --------------------- */

/* With REDD_CANCEL: it is closed as too slow, behind LAGGARD_FIRST bytes and without a gap. */
void laggard_is_cancelled(struct redd_port *port);

/* With REDD_BLOCK and a stall time: the child goes on, and it is told of one gap. */
void laggard_is_moved_to_drop(struct redd_port *port);

/* With REDD_BLOCK: the child is held back until the subscription is freed. */
void laggard_leaves(struct redd_port *port);

#endif
