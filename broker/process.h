/* One process, made by the forker, held and reaped by the keeper: from the wish to its exit.
 *
 *	NEW -> WAITING -> HANDED -> RUNNING -> EXITED
 *	                  |   ^        (started)  (exited)
 *	                  |   `-- unborn: handed over again, as the next attempt
 *	                  `--> FAILED  (failed)
 *
 * Exactly one of `failed` and `started` is called, and after `started` exactly one `exited`. A
 * process is a part of what it serves (a port, an opener), which gets the calls.
 */
#ifndef REDD_BROKER_PROCESS_H
#define REDD_BROKER_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/closer.h"
#include "broker/quota.h"
#include "helper/link.h"
#include "proto/base/list.h"

struct helper_link;
struct spawn_line;
struct process;

enum process_state {
	PROCESS_NEW,
	PROCESS_WAITING, /* for its turn, or for a forker */
	PROCESS_HANDED,	 /* to keeper and forker; no verdict yet */
	PROCESS_RUNNING,
	PROCESS_EXITED,
	PROCESS_FAILED,
};

struct process_events {
	void (*started)(struct process *p);
	/* stage: enum link_stage; error: errno. There is no process. */
	void (*failed)(struct process *p, uint32_t stage, int error);
	void (*exited)(struct process *p, const struct link_exited *e);
	/* The keeper has closed its duplicate of `hold`. */
	void (*released)(struct process *p, uint32_t hold);
};

/* What the keeper gets to keep, borrowed: the owner must not close fd before the verdict. */
struct process_hold {
	uint32_t hold;
	int fd;
};

struct process {
	struct list link; /* of the helper link's waiting ones */
	struct helper_link *helper;
	const struct process_events *events;
	enum process_state state;
	uint64_t id;
	uint32_t slot, attempt;
	pid_t pid;
	int pidfd; /* from started on, until process_deinit() */
	int64_t start_ns;
	struct spawn_line *line;    /* a reference, from process_start() until it is retired */
	uint32_t weight;	    /* on its line */
	struct quota_charge charge; /* for the record, until the verdict; its owner sets it */
	uint8_t *record;	    /* LINK_SPAWN with its blocks, owned until the verdict */
	size_t record_size;
	int record_memfd;	     /* -1: the blocks are in the record */
	int birth_fd;		     /* write end, while it could not be handed over yet */
	int child_fds[PORT_FDS_MAX]; /* the child's ends, owned until the verdict */
	size_t n_child_fds;
	struct closer_whose foreign; /* some came from that client: closing them may block */
	struct process_hold holds[LINK_HOLDS_MAX];
	size_t n_holds;
};

/* Takes a slot. 0, PROCESS_E_FULL (PORTS_MAX processes are known). */
#define PROCESS_E_FULL 1
int process_init(struct process *p, struct helper_link *helper, const struct process_events *events,
		 uint64_t id);

/* Like process_init() with an id of its own choice that no port will ever have. */
int process_init_internal(struct process *p, struct helper_link *helper,
			  const struct process_events *events);

/* Gives the slot, the pidfd and all that is held for it back, here and at the keeper. A process
 * that lives is not ended by this. Harmless on zeroed memory. */
void process_deinit(struct process *p);

/* It has ended and nothing of it is needed any more: gives back all but the slot and what is known.
 */
void process_retire(struct process *p);

/* Each adds a descriptor that the child gets (owned from now on, also on failure), or one for the
 * keeper (borrowed). 0 or PROCESS_E_FULL. The index of the child's descriptor goes to *ret_source.
 */
int process_add_child_fd(struct process *p, int take_fd, uint32_t *ret_source);
int process_add_hold(struct process *p, uint32_t hold, int fd);

/* It waits in this line when it is started; else among the broker's own errands. */
void process_join_line(struct process *p, struct spawn_line *line);

/* Bytes that a record takes, with its blocks in a memfd (-1: none). */
size_t process_record_size(size_t size, int memfd);

/* Starts it: the record (take_record, malloc'd; memfd or -1) is owned from now on. The outcome
 * comes by the events, never from within this call. */
void process_start(struct process *p, uint8_t *take_record, size_t size, int take_memfd);

/* 0, or a negative errno (-ESRCH: it has ended). Never reaches another process (pidfd). */
int process_signal(struct process *p, int signal);

/* Its group, through the pidfd; -ESRCH when nobody is left, -EINVAL on kernels before 6.9. */
int process_signal_group(struct process *p, int signal);

/* Asks the keeper to close its duplicate; `released` follows. 0 or a negative errno. */
int process_release(struct process *p, uint32_t hold);

/* For the helper link. False: it is still WAITING, because the keeper has not taken its deposit
 * yet, or the forker is full or gone. True: it was handed over, or has failed, and may be freed. */
bool process_hand_over(struct process *p);
void process_on_started(struct process *p, const struct link_started *m, int take_pidfd);
void process_on_failed(struct process *p, uint32_t stage, int error);
void process_on_unborn(struct process *p);
void process_on_exited(struct process *p, const struct link_exited *m);

#endif
