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

#include <uv.h>

#include "proto/base/list.h"

struct job {
	struct list link;
	void (*run)(struct job *job);
};

struct turn {
	uv_check_t check;
	uv_idle_t idle; /* active while a job waits: keeps the poll from blocking */
	struct list work, flush;
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
