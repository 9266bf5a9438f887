/* Work that waits for its place in the loop's turn.
 *
 * A turn of the loop is: timers, then what epoll reports, then the jobs: first `work` (requests,
 * outputs and inputs of children, spawns to hand over), each once, then `flush` (what is to be sent
 * to clients), each once. A job that schedules itself again runs in the next turn, after another
 * poll that does not block. Replies and events of one turn leave together.
 *
 * What epoll reports is only noted, and done as a job: so all that clients and children cause is
 * under one rule. Jobs that belong to a user are served by deficit round robin (fair.h) of the
 * processor time that they take: first over users, then over the jobs of one. Who takes little
 * comes before those who take much. The others, which are the broker's own, come first.
 *
 * A turn has an end: no job is begun when `work` has taken TURN_WORK_NS, or `flush` TURN_FLUSH_NS;
 * what is left over is done in the next turn, in its order, so that exits, signals and new requests
 * are seen in between. One job takes at most CONN_TIME_A_TURN_NS and one frame (5 ms at the worst).
 */
#ifndef REDD_BROKER_TURN_H
#define REDD_BROKER_TURN_H

#include <stdint.h>
#include <uv.h>

#include "broker/fair.h"
#include "proto/base/list.h"

enum turn_lane { TURN_WORK, TURN_FLUSH, TURN_LANES };

/* A user's part of a loop. */
struct turn_share {
	struct fair_group lanes[TURN_LANES];
};

struct job {
	struct fair_item item;
	void (*run)(struct job *job);
	struct turn_share *share; /* NULL: the broker's own */
	struct fair_queue *queue; /* that it was served from last, or NULL */
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
	struct turn_lane_queue {
		struct fair_queue jobs;
		struct list own;  /* jobs of the broker */
		struct list held; /* added while the lane runs: for the next turn */
		bool runs;
	} lanes[TURN_LANES];
	struct turn_cost cost;
	uint64_t began_ns;
};

/* 0 or a negative errno. */
int turn_init(struct turn *t, uv_loop_t *loop);

/* Closes the handles; the loop must run once more before the memory goes. */
void turn_close(struct turn *t);

void turn_share_init(struct turn_share *s);

/* Before its memory goes; none of its jobs may wait. */
void turn_share_leave(struct turn_share *s);

void job_init(struct job *j, void (*run)(struct job *));

/* It is served at this user's cost from now on. Not while it waits. */
void job_join(struct job *j, struct turn_share *share);

/* Both do nothing when the job waits already. */
void turn_work(struct turn *t, struct job *j);
void turn_flush(struct turn *t, struct job *j);

static inline bool job_waits(const struct job *j)
{
	return fair_item_waits(&j->item);
}

/* Keeps it out of the turns, on that list, until turn_resume() of that; from within its own run. */
void turn_set_aside(struct list *aside, struct job *j);
void turn_resume(struct turn *t, struct list *aside);

/* Takes the job from its queue; harmless when it is on none. Before its memory goes, also from
 * within its own run. */
void job_cancel(struct job *j);

#endif
