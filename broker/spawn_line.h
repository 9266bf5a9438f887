/* Spawns that wait to be handed over, a line for each connection: who has asked for a thousand
 * waits behind himself, and everybody else's next one comes in between.
 *
 * A line may have so much in flight (LINE_IN_FLIGHT: spawns, a large record counting as several),
 * so that what one client asks for does not fill the forker's queue, nor all the places of the
 * service with programs that never get past their exec.
 */
#ifndef REDD_BROKER_SPAWN_LINE_H
#define REDD_BROKER_SPAWN_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/fair.h"

struct process;
struct spawn_line;

struct spawn_lines {
	struct fair_queue queue;
	struct fair_group group;
	struct spawn_line *own; /* of the broker's errands */
	uint32_t n_waiting;	/* processes */
};

/* 0 or -ENOMEM. */
int spawn_lines_init(struct spawn_lines *lines);
void spawn_lines_deinit(struct spawn_lines *lines);

/* A new line, with a reference for the caller. 0 or -ENOMEM. */
int spawn_line_new(struct spawn_line **ret);
struct spawn_line *spawn_line_ref(struct spawn_line *line);
struct spawn_line *spawn_line_unref(struct spawn_line *line); /* always NULL; NULL is harmless */

/* More than LINE_SHORT of its spawns are on their way: who asked for them wants many, not one soon.
 */
bool spawn_line_is_long(const struct spawn_line *line);

/* What a spawn with a record of that size counts for: 1 or more. */
uint32_t spawn_line_weight(size_t record_size);

/* The process waits at the end of its line (p->line). */
void spawn_lines_enqueue(struct spawn_lines *lines, struct process *p);

/* The process whose turn it is; it stays where it is. NULL: none, or all that wait are of lines
 * that have enough in flight. */
struct process *spawn_lines_first(struct spawn_lines *lines);

/* The process, which waits, waits no more; it counts as in flight with is_handed, until
 * spawn_lines_answered(). */
void spawn_lines_dequeue(struct spawn_lines *lines, struct process *p, bool is_handed);
void spawn_lines_answered(struct spawn_lines *lines, struct process *p);

#endif
