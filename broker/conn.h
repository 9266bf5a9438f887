/* A client's connection.
 *
 *	GREETING --Hello--> OPEN --error, shutdown--> LEAVING --Bye is sent--> CLOSED
 *	     |               |                                                  ^
 *	     |               `--shutdown(2) by the client--> SILENT --all said--|
 *	     `---------------- hung up at any time -----------------------------'
 *
 * A SILENT client will ask no more, but reads on: it gets its answers and events.
 *
 *	conn.c         its life, and who it is
 *	conn_read.c    bytes and descriptors -> frames -> dispatch
 *	conn_send.c    the two lanes -> bytes
 *	conn_memory.c  what it makes us keep is charged
 *
 * A connection that has to go is taken from everything at once; its memory goes when libuv is done
 * with its handle.
 */
#ifndef REDD_BROKER_CONN_H
#define REDD_BROKER_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "broker/alarm.h"
#include "broker/closer.h"
#include "broker/expect.h"
#include "broker/id_table.h"
#include "broker/policy.h"
#include "broker/quota.h"
#include "broker/ring.h"
#include "broker/turn.h"
#include "proto/base/buf.h"
#include "proto/limits.h"

struct reader;
struct broker;
struct delegation;
struct session;
struct spawn_line;
struct subscription;

enum conn_state { CONN_GREETING, CONN_OPEN, CONN_SILENT, CONN_LEAVING, CONN_CLOSED };

/* The rest of a frame that the socket took only a part of: bytes of our own first, then bytes that
 * still lie in a log. A log that is about to overwrite them has them copied first. */
struct leftover {
	struct buf copy;
	struct ring *ring; /* NULL: nothing in a log */
	struct ring_pin pin;
	size_t left;
	/* Whose frame it is: a subscription's id (0: there is none), its reader, the first offset.
	 */
	uint64_t subscription, offset;
	unsigned reader;
};

/* A descriptor that goes with the first byte of a message on the control lane. Several may go with
 * the same one. */
struct conn_door {
	uint64_t at; /* of all bytes that were ever put on the lane */
	int fd;	     /* owned */
};

/* A Spawn of this connection, so that later requests can refer to its port before it is answered.
 */
struct conn_alias {
	uint64_t request, port;
};

struct conn {
	struct list link; /* of the broker's connections */
	struct broker *broker;
	enum conn_state state;
	struct principal who;
	pid_t pid;
	gid_t groups[CONN_GROUPS]; /* besides its gid */
	unsigned n_groups;
	bool has_more_groups;	       /* than there is room for */
	struct delegation *delegation; /* it came through; NULL: none, or that has ended */
	char client[CLIENT_NAME_MAX + 1];
	struct session *session;
	struct quota_account *account, *uid_account;
	struct spawn_line *line; /* where its spawns wait */
	struct quota_charge charge, in_charge, control_charge;
	struct alarm deadline; /* Hello must come, Bye must go */

	int fd;
	uv_poll_t poll;
	int mask;
	bool is_choked;	  /* the socket is full: only its becoming writable goes on */
	bool is_readable; /* work is to read it first */
	struct job work, flush;

	struct buf in;
	uint32_t frame_max;
	int fds[DESCRIPTORS_MAX]; /* came, and no frame has used them yet */
	size_t n_fds;
	struct quota_charge fds_charge;
	struct closer_wait closer_wait; /* while more may not come: it is not read */
	uint64_t received, parsed;	/* bytes so far */
	uint64_t fds_mark;		/* the frame that uses them begins before this byte */

	struct buf control;    /* packed messages of the control lane */
	uint64_t control_sent; /* of all that was ever on it */
	struct conn_door doors[CONN_DOORS];
	unsigned n_doors;
	bool is_asking;		/* a frame of its is in hand */
	bool is_full;		/* so many of them that no further request is read */
	uint32_t refused_batch; /* of Writes: later ones of it are refused too; 0: none */
	struct leftover leftover;
	uint64_t sent; /* bytes so far */
	unsigned n_unchoked;
	bool sndbuf_is_grown;

	struct list subscriptions, ready, exits, marks, wakes;
	struct id_table subscription_ids;
	unsigned n_subscriptions, n_shared;
	uint64_t last_subscription;
	struct list watches;
	struct list watching_link; /* of the broker's connections with a watch */
	unsigned n_watches;
	uint64_t last_watch;
	struct list pendings; /* requests that wait for their answer */
	struct list signals;  /* by labels, that are not sent yet: one after the other */
	unsigned n_pendings;
	struct expect_queue expects; /* some of them */
	struct conn_alias *aliases;  /* CONN_SPAWN_ALIASES of them, made at the first Spawn */
	unsigned n_aliases;	     /* in all; the newest are kept */
};

/* --- conn.c ---------------------------------------------------------------------------------- */

/* Takes an accepted socket. 0; CONN_E_DENIED (not admitted: an Error was sent); CONN_E_QUOTA (the
 * same); a negative errno. The socket is consumed in every case. */
#define CONN_E_DENIED 1
#define CONN_E_QUOTA  2
int conn_new(struct broker *b, uint32_t listener, int take_fd);

/* The same for a socket that came through a door: it acts for that delegation. */
int conn_new_through(struct delegation *d, int take_fd);

/* To whom count the descriptors that it sent. */
struct closer_whose conn_whose(const struct conn *c);

/* Its delegation has ended: it may do nothing more, and what it does ends. */
void conn_lose_rights(struct conn *c);

/* Ends it now: nothing further is sent. May be called at any time, also twice. */
void conn_close(struct conn *c);

/* Ends it with a last message: Bye with this error, or nothing when `sentence` is NULL. Only what
 * is on the control lane already is still sent. */
void conn_leave(struct conn *c, int code, const char *sentence);

/* An unexpected failure of this connection: logged, then closed. */
void conn_fail(struct conn *c, int error);

/* The client has said its last word, or is gone altogether. */
void conn_hear_end(struct conn *c);

void conn_watch(struct conn *c);

struct subscription *conn_subscription(const struct conn *c, uint64_t id);

/* 0 or -ENOMEM. */
int conn_note_spawn(struct conn *c, uint64_t request, uint64_t port);
uint64_t conn_spawned(const struct conn *c, uint64_t request); /* port, or 0 */

/* --- conn_read.c ----------------------------------------------------------------------------- */

/* Something came. */
void conn_readable(struct conn *c);
void conn_work(struct job *job);

/* Moves the n oldest descriptors that came with the frame in hand out. False: there are fewer. */
bool conn_take_fds(struct conn *c, int *ret_fds, size_t n);

/* --- conn_memory.c --------------------------------------------------------------------------- */

/* The bytes that came. False: the quota is used up, and the connection is leaving. */
bool conn_charge_in(struct conn *c);

/* As many descriptors as that wait for the frame that uses them; fewer never fails. 0, or
 * QUOTA_E_EXCEEDED with *ret_reason. */
int conn_charge_fds(struct conn *c, size_t n, const char **ret_reason);

/* Sets is_full by what waits on the control lane; around each frame. */
void conn_weigh_answers(struct conn *c);

/* The same for one that was put there just now: one to the frame in hand is weighed with that.
 * Without quota for another the connection is leaving. */
void conn_charge_answer(struct conn *c);

/* --- conn_send.c ----------------------------------------------------------------------------- */

/* Something may be there to be sent: looked at in this turn. */
void conn_wake(struct conn *c);
void conn_flush(struct job *job);

/* Most data of one Output: what the rest of one that is half sent may cost us. */
uint32_t conn_output_max(const struct conn *c);

/* All that there was to say has gone: nothing waits on either lane. */
bool conn_has_told(const struct conn *c);

/* What waits in the socket for the client to read it, in bytes of the kernel's memory: it is given
 * back in pieces of up to 48 KiB. */
int conn_unread(const struct conn *c);

/* Sends the descriptor with the message that is put on the control lane next. False: too many wait.
 * It is consumed in every case. */
bool conn_attach(struct conn *c, int take_fd);
unsigned conn_doors_left(const struct conn *c);

/* Closes those that did not go. */
void conn_close_doors(struct conn *c);

/* The socket takes bytes again. */
void conn_writable(struct conn *c);

/* The first offset of this reader that may not have reached its client as a whole; UINT64_MAX: all
 * that was taken has. */
uint64_t conn_floor(const struct conn *c, const struct reader *r);

void leftover_init(struct leftover *l);
void leftover_deinit(struct leftover *l);

#endif
