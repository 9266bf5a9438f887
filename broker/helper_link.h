/* The broker's side of keeper and forker: what goes out is never lost and never blocks, what comes
 * in finds its process by slot.
 */
#ifndef REDD_BROKER_HELPER_LINK_H
#define REDD_BROKER_HELPER_LINK_H

#include <stdbool.h>
#include <uv.h>

#include "broker/process.h"
#include "broker/spawn_line.h"
#include "broker/turn.h"

/* What does not belong to one process. Descriptors handed in are the callee's. */
struct helper_events {
	/* First message: fds[0] the configuration, then locks, then listeners. */
	void (*setup)(void *context, const struct link_setup *m, const int *take_fds, size_t n_fds);
	/* What the last broker left: one call a slot, then `ready`. */
	void (*held)(void *context, const struct link_held *m, const int *take_fds, size_t n_fds);
	void (*ring)(void *context, const struct link_ring *m, int take_fd);
	void (*records)(void *context, int *take_fds, size_t n_fds);
	void (*ready)(void *context);
	/* The keeper is gone, or speaks nonsense: nothing can go on. error: negative errno. */
	void (*lost)(void *context, int error);
	/* An answer to LINK_SIGNAL_GROUP. */
	void (*group_signalled)(void *context, const struct link_group_signal *m);
};

struct helper_link {
	uv_poll_t keeper_poll;
	int keeper_fd;
	bool keeper_active;
	int keeper_mask;
	struct forker *forker; /* NULL before the first one */
	struct turn *turn;
	struct job hand_over;
	struct spawn_lines lines; /* processes that wait */
	struct list outbox;	  /* messages that the keeper's socket did not take */
	unsigned in_flight;
	uint64_t n_internal, n_unborn, n_forkers;
	struct process **slots; /* PORTS_MAX of them */
	uv_loop_t *loop;
	const struct helper_events *events;
	void *context;
};

/* take_fd: the keeper link. 0 or a negative errno. */
int helper_link_init(struct helper_link *h, uv_loop_t *loop, struct turn *turn, int take_fd,
		     const struct helper_events *events, void *context);

/* Closes handles and descriptors; the loop must run once more before the memory goes. */
void helper_link_close(struct helper_link *h);

/* Sends to the keeper, later if it must wait; descriptors stay the caller's. 0 or a negative errno.
 */
int helper_link_send(struct helper_link *h, const void *message, size_t size, const int *fds,
		     size_t n_fds);

/* True while a message waits for the keeper: no new spawn is begun then. */
bool helper_link_is_congested(const struct helper_link *h);

/* An earlier broker has handed one over whose verdict is still to come. */
void helper_link_adopted(struct helper_link *h);

/* --- for process.c --------------------------------------------------------------------------- */

bool helper_link_take_slot(struct helper_link *h, struct process *p, uint32_t slot);
void helper_link_give_slot(struct helper_link *h, struct process *p);
uint64_t helper_link_internal_id(struct helper_link *h);
void helper_link_enqueue(struct helper_link *h, struct process *p);
void helper_link_dequeue(struct helper_link *h, struct process *p);
void helper_link_answered(struct helper_link *h, struct process *p);
void helper_link_forget(struct helper_link *h, struct process *p);
/* To the forker. 0; -EAGAIN (full, or there is none now); another errno. It was sent only with 0.
 */
int helper_link_spawn(struct helper_link *h, const void *record, size_t size, const int *fds,
		      size_t n_fds);

#endif
