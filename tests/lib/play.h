/* A test that plays the broker: a real keeper and forker (redd-helper), with tests/progs/stand_in
 * as the process that they take for redd-broker. The keeper link and the forker link are the
 * test's.
 *
 *	struct play p;
 *
 *	cr_assert_eq(play_start(&p, 0), 0);
 *	cr_assert_eq(play_spawn(&p, &s), 0);
 *	cr_assert_eq(play_receive(&p, &m, 5000), 0);
 *	...
 *	cr_assert_eq(play_stop(&p, 0), 0);
 */
#ifndef TESTS_LIB_PLAY_H
#define TESTS_LIB_PLAY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "helper/link.h"
#include "tests/lib/spawn_bytes.h"

#define PLAY_E_TIMEOUT 1
#define PLAY_E_END     2

struct play_message {
	union {
		struct link_head head;
		struct link_setup setup;
		struct link_held held;
		struct link_ring ring;
		struct link_forker forker;
		struct link_started started; /* id is at the same place in all about a spawn */
		struct link_failed failed;
		struct link_unborn unborn;
		struct link_exited exited;
		struct link_release released;
		struct link_group_signal signalled;
		uint8_t room[1024];
	};
	int fds[LINK_FDS_MAX + 2 * LISTENERS_MAX]; /* closed by the next receive into the same
						      struct, unless set to -1 */
	size_t n_fds;
};

struct play {
	char directory[PATH_MAX];
	char socket[PATH_MAX], lock[PATH_MAX]; /* of the service's one listener */
	pid_t keeper;
	int meeting_fd;	 /* where stand-ins come */
	int stand_in_fd; /* to the one that is there */
	pid_t stand_in;	 /* its pid */
	int link_fd;	 /* the keeper link */
	int forker_fd;	 /* the forker link; -1 until LINK_FORKER came */
	pid_t forker;
	struct link_setup setup; /* as it came */
	uint64_t n_ports;
};

/* One spawn. Init with play_spawn_init(). */
struct play_spawn {
	struct link_spawn_id id;
	struct spawn_bytes bytes;
	int passed[PORT_FDS_MAX]; /* the child's; stay the caller's */
	uint32_t n_passed;
	uint32_t holds[LINK_HOLDS_MAX]; /* besides the birth socket; stay the caller's */
	int hold_fds[LINK_HOLDS_MAX];
	uint32_t n_holds;
	bool keep_birth; /* leave a duplicate of the birth socket's read end in birth_fd */
	int birth_fd;
};

/* Starts a keeper and meets its first broker: returns when LINK_FORKER came. flags: enum
 * link_config_flag. 0 or -1 with a line on stderr. */
int play_start(struct play *p, uint32_t flags);

/* Waits for the next stand-in (the first, or one after a death) and takes its link. 0 or -1. */
int play_meet(struct play *p);

/* Receives until LINK_FORKER; every message before goes to `each` (may be NULL), whose context is
 * `context`. 0 or -1. */
int play_greet(struct play *p, void (*each)(struct play_message *m, void *context), void *context);

/* The next message, LINK_FORKER too (its descriptor replaces forker_fd). 0, PLAY_E_TIMEOUT,
 * PLAY_E_END. The struct must be zero at first. */
int play_receive(struct play *p, struct play_message *m, int timeout_ms);

/* Closes what came with a message. */
void play_message_close(struct play_message *m);

/* Sends bytes with descriptors on the keeper link or the forker link. 0 or a negative errno. */
int play_send(int link, const void *message, size_t size, const int *fds, size_t n_fds);

/* A new port in slot `slot`, a session of its own, argv[0] as the only candidate. */
void play_spawn_init(struct play *p, struct play_spawn *s, uint32_t slot, const char *const *argv);

/* Passes a descriptor as the child's `target`. */
void play_spawn_pass(struct play_spawn *s, uint32_t target, int fd);

/* Deposits and hands over one attempt (id.attempt is counted up). 0 or a negative errno of the
 * forker link; the deposit was made even then. */
int play_spawn(struct play *p, struct play_spawn *s);

int play_forget(struct play *p, const struct link_spawn_id *id);

/* Spawns and waits for the verdict. m is STARTED, FAILED or UNBORN then. 0 or -1. */
int play_spawn_wait(struct play *p, struct play_spawn *s, struct play_message *m);

/* Receives until LINK_EXITED of that spawn. 0 or -1. */
int play_wait_exit(struct play *p, const struct link_spawn_id *id, struct play_message *m);

/* LINK_BYE; the stand-in leaves; the keeper must end with that status and leave no file. 0 or -1.
 */
int play_stop(struct play *p, int status);

/* For what has ended by itself, or is to be ended roughly. */
void play_kill(struct play *p);

#endif
