/* A port: one process with its streams, from the spawn request until its log is forgotten.
 *
 *	STARTING --started--> RUNNING --exited--> DRAINING --all outputs ended--> ENDED --> gone
 *	    `--failed--> gone
 *
 * DRAINING may be passed through in no time. While ENDED the log and the status stay, until the
 * retention is over, somebody forgets the port, or the service ends.
 */
#ifndef REDD_BROKER_PORT_H
#define REDD_BROKER_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/alarm.h"
#include "broker/exit_record.h"
#include "broker/labels.h"
#include "broker/lease.h"
#include "broker/policy.h"
#include "broker/process.h"
#include "broker/pumped.h"
#include "broker/pty.h"
#include "broker/quota.h"
#include "broker/stream.h"
#include "broker/string_block.h"
#include "broker/waits.h"
#include "proto/limits.h"

struct broker;
struct conn;
struct session;
struct record_live;
struct errand;

/* Numbers as in PortState of redd.proto. */
enum port_state { PORT_STARTING, PORT_RUNNING, PORT_DRAINING, PORT_ENDED, PORT_GONE };

/* Numbers as in PortKind of redd.proto. */
enum port_kind { PORT_IS_PROCESS, PORT_IS_FILE, PORT_IS_DESCRIPTORS };

/* Numbers as in Orphan of redd.proto. */
enum port_orphan {
	PORT_ORPHAN_KILL = 0,
	PORT_ORPHAN_CLOSE_INPUT = 1,
	PORT_ORPHAN_KEEP = 2,
	PORT_ORPHAN_KEEP_FOR = 3,
};

/* What a client may wish of a port besides its process and streams. */
struct port_options {
	char name[NAME_MAX_SIZE + 1]; /* "": none */
	uint8_t token[TOKEN_MAX];
	size_t token_size;	       /* 0: none */
	struct labels *labels;	       /* owned; may be NULL */
	char *program, *directory;     /* owned, for display */
	struct string_block arguments; /* owned, for display: the first 4 KiB */
	bool arguments_are_cut;
	uint32_t timeout_ms, timeout_grace_ms; /* 0: no timeout */
	int timeout_signal;
	uint32_t drain_ms, drain_limit_ms; /* DRAIN_NEVER_MS: no end, no limit */
	uint32_t retention_ms;
	enum port_orphan orphan;
	uint32_t orphan_ms;
	bool is_other_identity; /* the child runs with these instead of the service's own */
	uid_t uid;
	gid_t gid;
	uint32_t groups[64];
	unsigned n_groups;
	bool has_session;	/* the leader has a session of its own */
	struct framing framing; /* the default of outputs, and of writes */
};

/* What the port tells the requests' side. */
struct port_events {
	struct stream_events stream;
	void (*started)(struct port *p);
	void (*failed)(struct port *p, uint32_t stage,
		       int error); /* the port is freed afterwards */
	void (*exited)(struct port *p);
	void (*closed)(struct port *p);
	void (*gone)(struct port *p); /* before it is freed: let go of it */
};

#define PORT_NO_RECORD UINT32_MAX

struct port {
	struct broker *broker;
	const struct port_events *events;
	struct process process;
	uint64_t id;
	enum port_state state;
	enum port_kind kind;
	struct pumped pumped; /* of a kind that is no process of the client's */
	struct principal owner;
	struct port_options options;
	struct session *session;
	uint32_t record;  /* its place in the records, or PORT_NO_RECORD */
	bool is_in_grace; /* its session was lost with an earlier broker, and may come back */
	bool is_awaited;  /* ... and nobody has subscribed to it, or asked how it ended, since */
	bool is_orphaned; /* nobody is connected to its session */
	struct list session_link;
	struct list name_link, token_link; /* of the port table */
	struct list ended_link;		   /* of the broker's ended ports, oldest first */
	struct stream *streams[PORT_STREAMS_MAX];
	unsigned n_streams;
	struct list subscriptions;
	unsigned n_needing;   /* of those: that block, and have not been told everything yet */
	struct list marks;    /* of subscriptions that asked for them */
	struct list pendings; /* requests that wait for something of this port */
	unsigned n_waits;     /* of those: Waits */
	struct port_look look;
	struct grants *grants; /* a reference; NULL: it never had any */
	struct alarm grants_end;
	struct lease lease;	 /* of its inputs, by session */
	struct session *holder;	 /* the lease's */
	struct list lease_link;	 /* of the holder's */
	uint64_t lease_until_ms; /* loop time; 0: no end */
	struct alarm lease_end;
	struct exit_record exit;
	uint64_t digest; /* of the request, when it has a token */
	bool has_exited, timed_out;
	bool is_warned;		   /* timed_out, and the tree has the signal for that */
	uint64_t timeout_until_ms; /* CLOCK_MONOTONIC: when `timeout` rings; 0: it will not */
	int32_t holders[HOLDERS_MAX];
	uint32_t n_holders;
	bool has_asked_holders;
	struct list errands;	  /* all that have it in mind */
	struct errand *errand;	  /* that looks for them; Closed waits for it */
	struct errand *killer;	  /* that is on its way to kill the tree */
	struct errand *signaller; /* the same with tree_signal */
	int tree_signal;
	struct alarm timeout; /* time limit, then grace */
	struct alarm phase;   /* drain, then retention */
	struct alarm orphan;
	uint64_t exited_ms;	       /* loop time */
	struct quota_account *account; /* the owner's uid's; a reference */
	struct quota_charge charge;
	struct quota_charge
		passed_charge; /* descriptors of its client's, until its child has them */
};

/* Frees what the options own; zeroed ones are harmless. */
void port_options_deinit(struct port_options *o);

#define PORT_E_QUOTA 1
#define PORT_E_FULL  2 /* no slot: PORTS_MAX processes are known */

/* Makes a port in STARTING, without streams, in the port table. options are moved (zeroed then) on
 * success. 0, PORT_E_*, or a negative errno. */
int port_new(struct port **ret, struct broker *b, const struct principal *owner,
	     struct quota_account *account, struct port_options *options, const char **ret_reason);

/* Frees at once; its process, if there is one, is no longer ours. */
void port_free(struct port *p);

/* Adds a stream around our end of it (owned, also on failure). */
int port_add_stream(struct port *p, uint32_t number, enum stream_kind kind, int take_fd,
		    struct stream **ret);

struct stream *port_stream(const struct port *p, uint32_t number);

/* How an output of that number is framed unless a subscription says otherwise: as the port's
 * options have it, but for standard error, where programs write text whatever they speak. */
struct framing port_framing(const struct port *p, uint32_t number);

/* The input that a request means that names none: the terminal's, else descriptor 0's. */
struct stream *port_default_input(const struct port *p);
bool port_has_terminal(const struct port *p);

struct quota_account *port_account(struct port *p);

/* Writes down for a successor how things are; after every change that it has to know of. */
void port_save(struct port *p);

/* The live numbers of a stream for a successor (record.h); NULL while nothing is recorded. */
struct record_live *port_live(const struct stream *s);

void port_set_state(struct port *p, enum port_state state);
const char *port_state_name(enum port_state state);

/* Its program is about to be started, or was just now: bulk gives way (yield.h), unless its client
 * has many on their way. */
void port_hurry(struct port *p);

/* What was asked for is there: the program runs, the file is open. */
void port_run(struct port *p);

/* It is not, and will not be: the request is told why, and the port is gone. */
void port_fail(struct port *p, uint32_t stage, int error);

/* Goes on as `state` after an earlier broker's death; `session` may be NULL. What
 * was agreed on for the end of its session is done when that does not come back within
 * RECONNECT_GRACE_MS. */
void port_resume(struct port *p, enum port_state state, struct session *session);

/* A client has subscribed, or was told how it ended. */
void port_was_asked(struct port *p);

/* Looks whether the port can be closed; after anything that may have been the last thing. */
void port_check(struct port *p);

/* Makes room: gives up the port that ended first, of this account (NULL: of any), unless it is
 * still being read by a blocking subscription. False: there is none. */
bool port_evict(struct broker *b, const struct quota_account *account);

/* Gives the port up with its log and status, and frees it; what its subscriptions have not been
 * told they will not be. */
void port_forget(struct port *p);

/* --- port_signal.c --------------------------------------------------------------------------- */

/* 0, or a negative errno; -ESRCH when the leader (the group) has ended. */
int port_signal_leader(struct port *p, int signal);
int port_signal_group(struct port *p, int signal);

/* To the whole tree, without an answer; to the group where nobody could look for the tree. `asker`
 * is the connection that wants it; NULL: it is due. 0, or -EAGAIN: too many are on their way. */
int port_signal_tree(struct port *p, struct quota_account *asker, int signal);

/* SIGKILL to the whole tree, and to the group as well. Not while STARTING. */
void port_kill_tree(struct port *p);

/* Queues the end of every input that is open. */
void port_close_inputs(struct port *p);

/* Nobody is to come for what its outputs hold: hold_unread is over. */
void port_hold_no_more(struct port *p);

/* Its owner's session is not connected any more: does what was agreed on, or will when it runs. */
void port_orphan(struct port *p);

/* The session is connected again: what was to come later is called off. */
void port_come_back(struct port *p);

/* Gives up a spawn of which nothing was handed over yet, or an Open that still waits: it fails with
 * ESHUTDOWN, and the port is gone. False: it is too late for that. */
bool port_cancel(struct port *p);

/* Ends every stream now (the service is shut down). */
void port_abandon(struct port *p);

/* The time limit begins; it is called off unless it is up and the rest of the tree has its grace
 * still; it goes on where an earlier broker was. */
void port_begin_timeout(struct port *p);
void port_end_timeout(struct port *p);
void port_resume_timeout(struct port *p);
void port_on_timeout(struct alarm *a);

void port_on_orphan(struct alarm *a);

/* --- port_drain.c ---------------------------------------------------------------------------- */

bool port_outputs_are_over(const struct port *p);

/* The leader has ended: sets the alarm for the first look. */
void port_set_drain(struct port *p);

/* Ends what has been idle for long enough, and sets the alarm for the next look. */
void port_drain(struct port *p);

/* Who holds what was given up is being looked for; asked for once. port_check() follows. */
bool port_asks_holders(struct port *p);

#endif
