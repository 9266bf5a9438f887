/* What the keeper holds: a fixed table of slots with the descriptors, the process and the outcome
 * of each spawn, the rings, and the port records. Knows neither links nor event loops nor how to
 * wait for a process; closes descriptors, and nothing else that acts outside.
 *
 * A slot's life (hold_set_state() checks it):
 *
 *	FREE -> IDLE             a deposit without birth socket
 *	FREE, IDLE -> AWAITING   a deposit with one
 *	AWAITING -> UNBORN       nothing ran; -> AWAITING with the next attempt
 *	AWAITING -> FAILED       there is no process
 *	AWAITING -> RUNNING -> EXITED
 *	any -> FREE              forgotten
 *
 * What the broker has to be told is two flags of the slot, not a message in a queue:
 * `tells_verdict` (UNBORN, FAILED or STARTED, as the state says) and `tells_exit`. Slots with a
 * flag are on the list `telling`, in the order in which it happened.
 */
#ifndef REDD_HELPER_HOLD_H
#define REDD_HELPER_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "helper/link.h"
#include "helper/pidmap.h"
#include "proto/base/list.h"

#define HOLD_E_UNKNOWN	1 /* no such slot, or it belongs to another spawn */
#define HOLD_E_CONFLICT 2 /* not possible in the slot's state */
#define HOLD_E_FULL	3 /* more descriptors than may be held */

/* In the pid map, for processes that nobody waits for but that are not strangers. */
#define HOLD_NOBODY UINT32_MAX

enum hold_state {
	HOLD_STATE_FREE,
	HOLD_STATE_IDLE,
	HOLD_STATE_AWAITING,
	HOLD_STATE_UNBORN,
	HOLD_STATE_FAILED,
	HOLD_STATE_RUNNING,
	HOLD_STATE_EXITED,
};

struct hold_slot {
	enum hold_state state;
	uint32_t generation; /* changes with each birth socket: tells stale events */
	struct link_spawn_id id;
	struct list awaiting; /* on struct hold's list while its birth socket is open */
	struct list telling;
	struct list troubled; /* something could not be watched yet */
	bool tells_verdict, tells_exit;
	bool is_cancelled; /* there was no room for it, but it was born by then */
	pid_t pid;	   /* 0: not known */
	int pidfd;	   /* -1: none (yet, or any more) */
	int64_t start_ns;
	uint32_t stage; /* FAILED */
	int32_t error;	/* FAILED */
	struct link_exited exited;
	uint32_t n_holds;
	uint32_t holds[LINK_HOLDS_MAX];
	int fds[LINK_HOLDS_MAX];
};

struct hold_ring {
	int fd_plus_1; /* 0: none */
	uint32_t size;
};

struct hold {
	struct list awaiting, telling, troubled;
	uint32_t n_slots;		   /* one more than the highest that was ever used */
	uint32_t n_rings;		   /* likewise */
	uint32_t n_fds;			   /* held now */
	uint32_t fds_max;		   /* bound of n_fds */
	int records_fds[LINK_RECORDS_FDS]; /* -1: none yet */
	struct pidmap pids;		   /* processes that live or are not reaped, by slot */
	struct hold_slot slots[PORTS_MAX];
	struct hold_ring rings[LINK_RINGS_MAX];
};

/* Maps an empty table, of which only what is used takes memory. 0 or a negative errno. */
int hold_new(struct hold **ret, uint32_t fds_max);

/* Closes everything. */
void hold_free(struct hold *h);

/* The slot of that very spawn, any attempt; or NULL. */
struct hold_slot *hold_find(struct hold *h, const struct link_spawn_id *id);

uint32_t hold_index(const struct hold *h, const struct hold_slot *s);

/* True when n more descriptors would be too many. */
bool hold_is_full(const struct hold *h, size_t n);

/* Takes the descriptors of a deposit, m->n_holds of them, all of which are consumed on success
 * only. Replaces those it already has under the same name. 0 with *ret_slot; HOLD_E_UNKNOWN (id or
 * holds are wrong), HOLD_E_CONFLICT (the slot is another's, or has a birth under way or behind it),
 * HOLD_E_FULL (never for a birth socket alone: it must not be lost). */
int hold_deposit(struct hold *h, const struct link_deposit *m, const int *take_fds,
		 struct hold_slot **ret_slot);

/* The descriptor that the slot holds under that name, or -1. It stays the slot's. */
int hold_get(const struct hold_slot *s, uint32_t name);

/* Closes one descriptor, if it is held. */
void hold_drop(struct hold *h, struct hold_slot *s, uint32_t name);

/* Closes the pidfd, if there is one. */
void hold_drop_pidfd(struct hold *h, struct hold_slot *s);

/* Takes a pidfd for the slot. */
void hold_take_pidfd(struct hold *h, struct hold_slot *s, int take_fd);

/* Everything of the slot; a process that was not reaped becomes one that nobody waits for. */
void hold_forget(struct hold *h, struct hold_slot *s);

/* The only writer of the state; must be a legal move. */
void hold_set_state(struct hold *h, struct hold_slot *s, enum hold_state state);

/* The broker has to be told the slot's new state: its outcome, or its exit. */
void hold_tell(struct hold *h, struct hold_slot *s);

/* Every outcome has to be told (again), in the order of the slots. */
void hold_tell_all(struct hold *h);

/* Nothing of this slot is left to tell. */
void hold_told(struct hold_slot *s);

/* A ring's memfd: takes it, replacing another; -1 drops it. 0, HOLD_E_UNKNOWN (the number),
 * HOLD_E_FULL (it was not taken then). */
int hold_set_ring(struct hold *h, uint32_t number, uint32_t size, int take_fd);

/* What comes with the records: takes LINK_RECORDS_FDS descriptors, replacing others; NULL drops
 * them. */
void hold_set_records(struct hold *h, const int *take_fds);

const char *hold_state_name(enum hold_state state);

#endif
