/* Where there is less processor than work, bulk gives way to a program that is being started.
 *
 * A child that floods, and who reads or feeds it, keep processors busy as long as the broker serves
 * them. On a machine that has none left, each step of a spawn (broker, forker, child, keeper,
 * client) waits for its share then, for milliseconds. They come to rest by themselves as soon as
 * the broker does not move their bytes, so it holds those back: for YIELD_WINDOW_MS from a spawn
 * on, and again from its start, in which short programs do all they do.
 *
 * Nothing is lost, as what waits is in the kernel's pipes, and nobody starves: each flow moves once
 * in YIELD_STEP_MS all the same, waiting goes on for YIELD_MOST_MS at a time, and in the long run
 * for one part in YIELD_PART of the time; for all users together, so that one who spawns without
 * end has the preference of half of the time and no more. Only flows of YIELD_BYTES in
 * YIELD_LOOK_MS are held back, and only while as many processes want to run as there are processors
 * (proc_loadavg(5)): where one is to spare nothing ever waits.
 */
#ifndef REDD_BROKER_YIELD_H
#define REDD_BROKER_YIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "broker/alarm.h"
#include "broker/turn.h"
#include "proto/base/list.h"

/* Part of a stream; zeroed at first. */
struct yield_flow {
	uint64_t since_ms, bytes; /* moved since then */
	uint64_t moved_ms;	  /* when it last moved something */
	bool is_bulk;
	bool is_let_go; /* it has waited, and may move once */
};

/* Part of the broker. */
struct yield {
	uv_loop_t *loop;
	struct alarms *alarms;
	struct turn *turn;
	bool is_holding;
	struct alarm alarm;	  /* while it is: when to look again */
	struct list waiting;	  /* jobs */
	uint64_t wanted_until_ms; /* until then they are to wait */
	uint64_t next_step_ms;	  /* when each that waits is to move once */
	uint64_t credit;	  /* of waiting, in parts of a millisecond; ... */
	uint64_t settled_ms;	  /* ... what it was then */
	uint64_t looked_ms;	  /* when is_tight was found out */
	bool is_tight;		  /* no processor is to spare */
	uint64_t held_ms;	  /* all in all */
	int load_fd;		  /* like /proc/loadavg; -1: nothing ever waits */
	unsigned n_processors;
};

void yield_init(struct yield *y, uv_loop_t *loop, struct alarms *alarms, struct turn *turn);

/* Something that reads like /proc/loadavg, and never blocks; -1 when there is none that is about
 * the processors that we may run on. */
int yield_open_load(void);

/* From now on flows may be held back. load_fd is owned; -1: they are not. */
void yield_start(struct yield *y, int load_fd, unsigned n_processors);

/* All that waits goes on, and nothing waits any more. */
void yield_end(struct yield *y);

/* Somebody waits for a program to be started, or for one that was just started. */
void yield_to_spawn(struct yield *y);

/* Called by a flow's job before it does anything. True: it is to do nothing now, and runs again
 * when it may. */
bool yield_waits(struct yield *y, struct yield_flow *f, struct job *j);

/* It waits. */
static inline bool yield_is_aside(const struct yield_flow *f, const struct job *j)
{
	return f->is_let_go && job_waits(j);
}

/* It is not to wait, now that it has not gone on yet; f and j as above. */
void yield_hurry(struct yield *y, const struct yield_flow *f, struct job *j);

/* It has moved so many bytes. */
void yield_moved(struct yield *y, struct yield_flow *f, uint64_t bytes);

/* How long flows were held back so far, in milliseconds. */
uint64_t yield_held_ms(struct yield *y);

#endif
