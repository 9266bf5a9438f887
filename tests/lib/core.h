/* What is inside of redd-broker without the process around it: the loop and all that hangs on it,
 * with the test in the place of keeper, forker and clients. One thread: nothing happens but in the
 * turns that the test takes.
 *
 *	struct core *core = core_open();
 *	int client, child;
 *	struct conn *c = core_connect(core, &client);
 *	struct port *p = core_port(core, c, &(struct core_port){ .n_outputs = 1 }, &child);
 *
 *	write(child, "hello", 5);
 *	core_turns(core, 3);
 *	...
 *	core_close(core);
 *
 * What goes wrong in here fails the test.
 */
#ifndef TESTS_LIB_CORE_H
#define TESTS_LIB_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/port.h"
#include "helper/link.h"
#include "tests/lib/parts.h"

struct core {
	struct broker b;
	int keeper, forker;	    /* their ends of the links; -1: closed */
	struct unclaimed unclaimed; /* what the helper link told that belongs to no process */
	int fds_before;
};

/* A service that serves: loop, quotas, policy with two listeners, a keeper and a forker. */
struct core *core_open(void);

/* Ends everything that is left; the loop must close, and no descriptor be left. */
void core_close(struct core *core);

/* Turns of the loop that do not block. */
void core_turn(struct core *core);
void core_turns(struct core *core, int n);

/* What turns cost, in milliseconds of this thread's processor time: the dearest, and all together.
 *
 *	struct core_cost cost = { 0 };
 *
 *	core_cost_begin(&cost);
 *	...				whatever is done before the first turn counts as one
 *	core_cost_end(&cost);
 *	while (...)
 *		core_cost_turn(&cost, core);
 */
struct core_cost {
	double began, worst, all;
};
void core_cost_begin(struct core_cost *c);
void core_cost_end(struct core_cost *c);
void core_cost_turn(struct core_cost *c, struct core *core);

/* Turns until the condition holds; one that never does fails the test. */
#define core_until(core, condition)                                     \
	do {                                                            \
		int _n_ = 0;                                            \
		while (!(condition))                                    \
			core_wait((core), _n_++, #condition, __LINE__); \
	} while (0)
void core_wait(struct core *core, int round, const char *condition, int line);

/* --- keeper and forker ----------------------------------------------------------------------- */

struct core_message {
	union {
		struct link_head head;
		struct link_deposit deposit; /* id is at the same place in all about a spawn */
		struct link_spawn spawn;
		struct link_release release;
		struct link_forget forget;
		struct link_ring ring;
		struct link_group_signal signal;
		uint8_t room[LINK_DATAGRAM_MAX];
	};
	size_t size;
	int fds[LINK_FDS_MAX]; /* closed by the next one into the same struct, unless set to -1 */
	size_t n_fds;
};

/* The next message on core->keeper or core->forker; false: none waits. The struct is zeroed at
 * first. */
bool core_hear(int link, struct core_message *m);
void core_message_close(struct core_message *m);

/* Says something to the broker as its keeper, and takes a turn. Descriptors stay the caller's. */
void core_say(struct core *core, const void *message, size_t size, const int *fds, size_t n_fds);

/* The same for what consists of its head and an id. */
void core_say_id(struct core *core, enum link_type type, struct link_spawn_id id);
void core_say_started(struct core *core, struct link_spawn_id id, int pid);
void core_say_failed(struct core *core, struct link_spawn_id id, uint32_t stage, int error);
void core_say_exited(struct core *core, struct link_spawn_id id, int status);

/* A forker takes the place of the one that is there. */
void core_new_forker(struct core *core);

/* Plays both until the process runs: takes its deposit and its spawn and says LINK_STARTED, without
 * a pidfd. */
void core_start(struct core *core, struct process *p);

/* Drops whatever waits at the keeper. */
void core_ignore_keeper(struct core *core);

/* --- clients and ports ----------------------------------------------------------------------- */

/* A connection that has said Hello, without a session; *ret_fd is the client's end, non-blocking,
 * and the test's. */
struct conn *core_connect(struct core *core, int *ret_fd);

struct core_port {
	unsigned n_outputs; /* streams 1, 2, ...: pipes */
	bool has_input;	    /* stream 0: a pipe */
	uint32_t log_size;  /* 0: RING_LOWEST */
	bool checksum, hold_unread;
	enum port_orphan orphan;
	uint32_t orphan_ms;
	const char *name;
	struct session *session;
};

/* A port of that client whose process "runs"; the child's ends of the pipes, the input's first, go
 * to ret_fds (non-blocking; the test's). */
struct port *core_port(struct core *core, struct conn *c, const struct core_port *o, int *ret_fds);

/* Its process has ended with this wait status. */
void core_port_exit(struct core *core, struct port *p, int status);

#endif
