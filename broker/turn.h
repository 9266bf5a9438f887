/* Work that waits for its place in the loop's turn.
 *
 * A turn of the loop is: timers, then what epoll reports, then the jobs: first `work` (leftover
 * frames of a connection, spawns to hand over), each once, then `flush` (what is to be sent to
 * clients and to the helper), each once. A job that schedules itself again runs in the next turn,
 * after another poll that does not block: so everybody gets a bounded share and nobody waits for
 * more than one round. Replies and events of one turn leave together.
 */
#ifndef REDD_BROKER_TURN_H
#define REDD_BROKER_TURN_H

#include <stdint.h>
#include <uv.h>

#include "proto/base/list.h"

struct job {
	struct list link;
	void (*run)(struct job *job);
};

/* What turns have cost: processor time of this thread, from one wait for events to the next, so
 * that a machine that is busy with others does not count. */
struct turn_cost {
	uint64_t n, n_long; /* turns, and those above TURN_LONG_NS */
	uint64_t longest_ns;
};

struct turn {
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle; /* active while a job waits: keeps the poll from blocking */
	struct list work, flush;
	struct turn_cost cost;
	uint64_t began_ns;
};

/* 0 or a negative errno. */
int turn_init(struct turn *t, uv_loop_t *loop);

/* Closes the handles; the loop must run once more before the memory goes. */
void turn_close(struct turn *t);

void job_init(struct job *j, void (*run)(struct job *));

/* Both do nothing when the job waits already. */
void turn_work(struct turn *t, struct job *j);
void turn_flush(struct turn *t, struct job *j);

/* Takes the job from its queue; harmless when it is on none. */
void job_cancel(struct job *j);

#endif
