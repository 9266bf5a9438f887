/* libredd: the client side of redd, a broker that spawns processes and shares their streams.
 *
 *	struct redd *r = redd_new();
 *	struct redd_subscribe_options watch = { .handler = { .on_output = print } };
 *	const char *const argv[] = { "make", "-j4", NULL };
 *	struct redd_spawn_options o = { .argv = argv, .subscribe = &watch };
 *	struct redd_port *port;
 *	struct redd_closed end;
 *
 *	if (redd_connect(r, NULL) || redd_spawn(r, &o, &port) ||
 *	    redd_finish(redd_port_subscription(port), &end))
 *		fprintf(stderr, "%s\n", redd_last_error(r)->message);
 *	else
 *		printf("status %d\n", redd_exit_status(&end.exit));
 *	redd_free(r);
 *
 * Results. Every int function returns 0, or a negative errno. When the broker refused, that is the
 * errno it gave, or the one that stands for its code (see enum redd_code); redd_last_error() tells
 * code, stage and a sentence. When the connection is lost for good every call gives -ENOTCONN, and
 * redd_last_error() tells why. -EAGAIN: the outgoing queue is full, nothing was taken; dispatch and
 * try again. -EDEADLK: a blocking call was made from a callback. -EINVAL: the call makes no sense
 * (redd_last_error() has a sentence). -ENOMEM: no memory, nothing was done.
 *
 * Two ways to use it, to be mixed at will:
 *  - Blocking calls: redd_spawn(), redd_write(), redd_wait() ... While they wait they dispatch:
 *    callbacks of subscriptions, watches and started calls run inside of them.
 *  - An event loop of yours: wait for redd_events() on redd_fd(), at most redd_timeout()
 *    milliseconds, and call redd_dispatch(). It never blocks. Every call has a form that ends in
 *    _start, which queues the request, does not block, and calls back when it was answered.
 *
 * A lost connection comes back by itself (struct redd_connect_options): a broker that is killed is
 * replaced within moments, with every port, log and status, and the handle goes on there. Blocking
 * calls take longer then; output goes on where it was, nothing doubled; what the logs have lost
 * meanwhile is a gap. Requests under way are asked again where that does nothing twice. Where it
 * would, or nobody can tell, one that was sent and not answered ends with -ENOTCONN, whether done
 * or not: signals; redd_grant(), redd_delegate(), redd_release(), and the revocation of one grant
 * or door; redd_expect() that writes, or does not say where it begins (has_from); the end of a
 * terminal's input; a write whose position, which a repeat states, makes it longer than a frame;
 * and a write into an input whose position is not known. It is known where the port was spawned
 * through this handle, or a write through it was answered, or redd_inspect() was; not behind what
 * is in doubt itself, and not where others are seen to write, or another handle by the same id or
 * name has written. What others wrote since our last answer is not seen: who shares an input should
 * not have its writes repeated (no_reconnect). Whatever is started while the connection is away
 * waits for it.
 *
 * Callbacks run only inside redd_dispatch(), blocking calls and redd_disconnect(). A callback may
 * use every _start form, redd_credit() and free any port, subscription or watch, its own too; a
 * blocking call that was to return what is freed, or waits for its end, gives -ECANCELED. It must
 * not block (-EDEADLK), and must not call redd_connect(), redd_disconnect() or redd_free().
 *
 * No global state, no threads, no signal handlers; SIGPIPE is never raised. A handle belongs to one
 * thread at a time. After fork(2) only one of the two processes may go on using it.
 *
 * Strings are C strings of bytes in no particular encoding, unless said otherwise; data comes with
 * a length. A pointer handed in need only be valid during the call. What is handed to a callback
 * is valid until it returns. Sizes and offsets are bytes, durations milliseconds (_ms), points in
 * time nanoseconds of CLOCK_REALTIME (_ns).
 *
 * Option structs: all zero is the default of everything. `size` is sizeof the struct, or 0 for its
 * first published layout; it lets a program run with a newer library.
 */
#ifndef REDD_H
#define REDD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REDD_VERSION	 "0.1.0"
#define REDD_HOLDERS_MAX 64
#define REDD_STREAMS_MAX 16
#define REDD_TERMINAL	 1024u /* the number of a terminal's two streams */
#define REDD_UNLIMITED	 UINT64_MAX
#define REDD_MARKS_OFF	 UINT32_MAX /* as input_high: the input is never busy */

struct redd;		  /* a connection */
struct redd_port;	  /* what the broker holds open: a process, file or descriptors */
struct redd_subscription; /* a cursor into a port's output */
struct redd_watch;	  /* life events */

/* --- errors ---------------------------------------------------------------------------------- */

/* The canonical status names (google.rpc.Code). In parentheses what a call returns when the broker
 * gave no errno of its own. */
enum redd_code {
	REDD_OK = 0,
	REDD_CANCELLED = 1,	      /* (-ECANCELED) */
	REDD_UNKNOWN = 2,	      /* (-EIO) */
	REDD_INVALID_ARGUMENT = 3,    /* (-EINVAL) */
	REDD_DEADLINE_EXCEEDED = 4,   /* (-ETIMEDOUT) */
	REDD_NOT_FOUND = 5,	      /* (-ENOENT) */
	REDD_ALREADY_EXISTS = 6,      /* (-EEXIST) */
	REDD_PERMISSION_DENIED = 7,   /* (-EACCES) */
	REDD_RESOURCE_EXHAUSTED = 8,  /* (-EDQUOT) */
	REDD_FAILED_PRECONDITION = 9, /* (-EBADFD) */
	REDD_ABORTED = 10,	      /* (-EPIPE) */
	REDD_OUT_OF_RANGE = 11,	      /* (-ERANGE) */
	REDD_UNIMPLEMENTED = 12,      /* (-EOPNOTSUPP) */
	REDD_INTERNAL = 13,	      /* (-EREMOTEIO) */
	REDD_UNAVAILABLE = 14,	      /* (-EBUSY) */
	REDD_DATA_LOSS = 15,	      /* (-EBADMSG) */
	REDD_UNAUTHENTICATED = 16,    /* (-EPERM) */
};

/* Where a spawn failed, in the order in which things happen. */
enum redd_stage {
	REDD_STAGE_NONE = 0,
	REDD_STAGE_REQUEST = 1,
	REDD_STAGE_CLONE = 2,
	REDD_STAGE_SETUP = 3,
	REDD_STAGE_SESSION = 4,
	REDD_STAGE_CGROUP = 5,
	REDD_STAGE_TERMINAL = 6,
	REDD_STAGE_DESCRIPTORS = 7,
	REDD_STAGE_LIMITS = 8,
	REDD_STAGE_GROUPS = 9,
	REDD_STAGE_USER = 10,
	REDD_STAGE_DIRECTORY = 11,
	REDD_STAGE_FILES = 12,
	REDD_STAGE_SANDBOX = 13,
	REDD_STAGE_EXEC = 14,
};

struct redd_error {
	int result;	     /* what the call returned: a negative errno */
	bool from_broker;    /* the broker refused; false: found on this side */
	enum redd_code code; /* REDD_UNKNOWN when found on this side and no other fits */
	int sys_errno;	     /* positive; 0: the system gave none */
	enum redd_stage stage;
	uint32_t retry_after_ms; /* 0: not known */
	const char *message;	 /* one sentence, UTF-8; never NULL */
};

/* The last failure on this handle; its result is 0 when there was none. Inside a completion
 * callback it is the failure of that request. Valid until the next call or callback that fails. */
const struct redd_error *redd_last_error(const struct redd *r);

/* "NOT_FOUND", "exec"; a number that is not known gives "UNKNOWN" or "unknown". Static. */
const char *redd_code_name(enum redd_code code);
const char *redd_stage_name(enum redd_stage stage);

/* --- connection ------------------------------------------------------------------------------ */

struct redd_connect_options {
	size_t size;
	/* Where the broker is: a path, or "fd:N" for a descriptor that was handed over: a connected
	 * stream socket (it is used itself, and closed with the handle), or a door (see
	 * redd_delegate(); a connection is asked for there, and it stays open). NULL: the
	 * environment variable REDD_SOCKET, which takes both forms; else
	 * $XDG_RUNTIME_DIR/redd/redd.sock; else /tmp/redd-UID/redd.sock in a directory that must be
	 * ours with mode 0700. Only in the last two cases a broker is started when none answers. */
	const char *socket;
	/* Never start a broker. */
	bool no_start;
	/* What the broker's logs and Inspect show: at most 64 bytes. Default: the program's name.
	 */
	const char *client;
	/* Largest frame to ask for, 64 KiB to 16 MiB. Default 1 MiB. */
	uint32_t frame_max;
	/* For the connection, the start of a broker and the Hello together. Default 5000. */
	uint32_t connect_timeout_ms;
	/* The longest that a blocking call waits; then it gives -ETIMEDOUT, and an answer that
	 * comes later is dropped. Default 0: for ever. redd_wait() and redd_expect() are not meant:
	 * they have limits of their own. */
	uint32_t call_timeout_ms;
	/* Bound of the outgoing queue; default 4 MiB, never less than one frame. */
	size_t queue_max;
	/* A session to take over (struct redd_welcome), 16 bytes or NULL. */
	const uint8_t *session;
	/* How long a connection that is lost may take to come back before everything ends with
	 * -ENOTCONN. Default 10 000, for which a broker keeps sessions; longer is of use to who
	 * only looks on. */
	uint32_t reconnect_ms;
	/* Do not try. It cannot be tried when a connection was handed over; at a door it can, of
	 * which a copy is kept for that. Spawns get no token of the library's then, and no request
	 * is kept until it is answered. */
	bool no_reconnect;
};

/* What the broker said to Hello. */
struct redd_welcome {
	const char
		*broker; /* name and version; valid until the handle is connected again or freed */
	uint32_t version;
	uint32_t frame_max;
	uint32_t output_max;  /* largest data of one output event */
	uint8_t session[16];  /* a secret */
	uint8_t instance[16]; /* stays the same while ports do */
	uint32_t uid, gid;    /* who the broker thinks we are */
	pid_t pid;
	pid_t broker_pid;
	bool descriptors; /* KIND_PASSED may be used */
};

/* A handle without connection, owned by the caller; NULL without memory. */
struct redd *redd_new(void);

/* Ends the connection without callbacks and frees the handle and every port, subscription and watch
 * of it that was not freed before. NULL is allowed. */
void redd_free(struct redd *r);

/* Connects, says Hello and waits for the answer. NULL: all defaults. A handle that lost its
 * connection may be connected again; its old ports must have been freed (-EBUSY).
 * -ENOENT, -ECONNREFUSED: no broker there; -EPERM: the directory is not ours alone;
 * -ENAMETOOLONG; -ETIMEDOUT; -EPROTO: what answers is not a broker. */
int redd_connect(struct redd *r, const struct redd_connect_options *options);

/* Closes the connection. Calls that wait end with -ENOTCONN, subscriptions with
 * REDD_CLOSED_LOST. Ports keep their handles, for their ids. */
void redd_disconnect(struct redd *r);

/* The answer to Hello; NULL before it came. Valid until the handle is connected again or freed. */
const struct redd_welcome *redd_welcome(const struct redd *r);

/* The descriptor to wait for; -1 without connection, also while one that was lost is on its way
 * back: then redd_timeout() says when to dispatch. It stays the same from connect to loss; a loop
 * that keeps it (epoll) takes the new one from redd_on_reconnect(), one that asks before every wait
 * needs nothing. */
int redd_fd(const struct redd *r);

/* POLLIN, POLLOUT (poll(2)): what is wanted just now. Ask before every wait. */
short redd_events(const struct redd *r);

/* Milliseconds until redd_dispatch() is due even if the descriptor is not ready; -1: never. */
int redd_timeout(const struct redd *r);

/* Sends and takes what it can without blocking and runs callbacks. A bounded share a call: what is
 * left makes the descriptor ready again, or is in shared memory, and redd_timeout() is 0. 0;
 * -ENOTCONN once the connection is lost, after all callbacks about it have run. */
int redd_dispatch(struct redd *r);

/* Waits for the descriptor, at most timeout_ms (-1: for ever), and dispatches once. 0 also when the
 * time was up or a signal came; -ENOTCONN, -EDEADLK. */
int redd_run_once(struct redd *r, int timeout_ms);

/* Bytes that wait to be sent. */
size_t redd_queued(const struct redd *r);

enum redd_reconnect {
	REDD_AWAY, /* the connection is lost (redd_last_error()), redd_fd() is closed: -1 */
	REDD_BACK, /* it is there again: redd_fd() is another one; subscriptions go on */
};

/* Called each time that the connection is lost but may come back, and when it is back. If it does
 * not come back in time on_lost follows. NULL: nobody wants to know. */
typedef void redd_reconnect_fn(struct redd *r, enum redd_reconnect what, void *user);
void redd_on_reconnect(struct redd *r, redd_reconnect_fn *on_reconnect, void *user);

/* Called once when the connection is lost for good (not by redd_disconnect() or redd_free()), after
 * the completions and REDD_CLOSED_LOST events of what was under way. */
typedef void redd_lost_fn(struct redd *r, const struct redd_error *why, void *user);
void redd_on_lost(struct redd *r, redd_lost_fn *on_lost, void *user);

/* --- answers --------------------------------------------------------------------------------- */

/* How a leader ended; a file or descriptors: CODE, 0 or the errno with which writing, else reading,
 * failed. */
enum redd_exit_state {
	REDD_EXIT_UNKNOWN = 0, /* not known; nothing is made up */
	REDD_EXIT_CODE = 1,
	REDD_EXIT_SIGNAL = 2,
};

struct redd_exit {
	enum redd_exit_state state;
	const char *reason; /* UNKNOWN: why nobody knows, static; else NULL */
	int code;	    /* CODE: 0 to 255 */
	int signal;	    /* SIGNAL */
	bool core;	    /* SIGNAL: a core was dumped */
	bool timed_out;	    /* the port's timeout signal was sent before it ended */
	int64_t start_ns, end_ns;
	uint64_t user_us, system_us;
	uint64_t max_rss; /* bytes */
	uint64_t minor_faults, major_faults;
	uint64_t voluntary_switches, involuntary_switches;
	uint64_t blocks_in, blocks_out;
};

/* As a shell tells it: 0 to 255, 128 + signal; -1 when it is not known. */
int redd_exit_status(const struct redd_exit *exit);

/* Why nothing more of a stream comes. */
enum redd_end_cause {
	REDD_END_OF_FILE = 0,
	REDD_END_IDLE = 1,    /* idle for the drain time after the exit; somebody still holds it */
	REDD_END_LIMIT = 2,   /* the hard bound of the drain */
	REDD_END_ERROR = 3,   /* reading failed: sys_errno */
	REDD_END_STOPPED = 4, /* the service was shut down */
	REDD_END_CLOSED = 5,  /* the port was closed as a whole: redd_close_whole() */
};

enum redd_direction { REDD_DIRECTION_DEFAULT, REDD_INPUT, REDD_OUTPUT };

/* A subscription that holds an output back. */
struct redd_holder {
	uint64_t subscription; /* unique on its client's connection */
	pid_t pid;	       /* of the client */
	const char *client;
};

struct redd_stream_info {
	uint32_t stream;
	enum redd_direction direction;
	uint64_t total;
	uint64_t oldest; /* output: oldest byte that the log still has */
	uint64_t queued; /* input: bytes that wait */
	bool ended;
	bool busy;	    /* input: it was at its high mark, and is not below its low one since */
	uint32_t high, low; /* input: its marks; high REDD_MARKS_OFF: none */
	uint32_t bound;	    /* input: more than this is refused */
	uint32_t waiting;   /* input: writes that are not in the pipe yet */
	bool held;	    /* output: not read, because a blocking reader is behind */
	bool has_xxh3;
	uint64_t xxh3;
	uint32_t log_size;
	enum redd_end_cause cause; /* once it has ended */
	/* Output: for how long it has been held back now, and in all; by whom (none in
	 * redd_waited); and how many redd_expect() wait for it. */
	uint64_t held_ms, held_total_ms;
	size_t n_held_by;
	const struct redd_holder *held_by;
	uint32_t expects;
};

struct redd_spawned {
	uint64_t port;
	pid_t pid; /* in the broker's pid namespace */
	int64_t start_ns;
	uint32_t input_window; /* bytes that may be in flight without being refused */
	bool repeated;	       /* the token was known: this is the first one's answer */
};

struct redd_written {
	uint64_t offset; /* of the first byte in the stream */
	uint64_t size;
	bool exact; /* false: a canonical terminal may have cut lines (termios(3)) */
};

struct redd_signalled {
	uint32_t count;	 /* processes reached; a group counts as 1 */
	int n_survivors; /* REDD_TREE with SIGKILL: still there */
	pid_t survivors[REDD_HOLDERS_MAX];
};

struct redd_waited {
	uint64_t port;
	struct redd_exit exit;
	int n_holders; /* still held a stream when it was given up */
	pid_t holders[REDD_HOLDERS_MAX];
	int n_streams; /* until closed: totals */
	struct redd_stream_info streams[REDD_STREAMS_MAX];
};

enum redd_port_kind {
	REDD_PROCESS = 0,
	REDD_FILE_PORT = 1,   /* redd_open(): `program` is its path; pid is 0 */
	REDD_DESCRIPTORS = 2, /* redd_adopt(): `program` is ""; pid is 0 */
};
struct redd_terminal {
	uint32_t rows, columns; /* both 0: 24 and 80 */
	uint32_t x_pixels, y_pixels;
};

enum redd_port_state { REDD_STARTING, REDD_RUNNING, REDD_DRAINING, REDD_ENDED };
enum redd_orphan {
	/* SIGKILL to the tree; of a file or descriptors: redd_close_whole(), and 5 s later what is
	 * not written yet is lost */
	REDD_ORPHAN_KILL = 0,
	REDD_ORPHAN_CLOSE_INPUT = 1, /* inputs are closed behind what was queued */
	REDD_ORPHAN_KEEP = 2,
	REDD_ORPHAN_KEEP_FOR = 3, /* for orphan_ms, then killed */
};
enum redd_overflow {
	REDD_OVERFLOW_DEFAULT = 0, /* block for the port's owner, drop for others */
	REDD_BLOCK = 1,		   /* the child waits while we are a full log behind */
	REDD_DROP = 2,		   /* we jump ahead; a gap tells over what */
	REDD_CANCEL = 3,	   /* the subscription ends */
};

struct redd_label {
	const char *key;
	const char *value; /* in a selector NULL matches any */
};

struct redd_stream_offset {
	uint32_t stream;
	uint64_t offset;
};

/* How a stream is cut into records. */
enum redd_cut {
	REDD_CUT_DEFAULT = 0, /* subscriptions: as the port was spawned; a port: RAW */
	REDD_RAW = 1,	      /* not at all */
	REDD_LINES = 2,	      /* at newlines, which are removed; all other bytes are data */
	REDD_PACKETS = 3,     /* a big-endian length in front, which is removed */
};

struct redd_framing {
	enum redd_cut cut;
	/* LINES: longer ones are cut into records of so many bytes; default 64 KiB. PACKETS: a
	 * longer one ends the subscription (REDD_BAD_RECORD); default what the header can say, at
	 * most 16 MiB. Highest: 1 GiB. 0: the default. */
	uint32_t maximum;
	uint32_t header; /* PACKETS: bytes of the length: 1, 2 or 4 */
};

struct redd_subscription_info {
	uint64_t subscription;
	const char *client;
	pid_t pid;
	uint32_t uid;
	enum redd_overflow overflow;
	size_t n_offsets;
	const struct redd_stream_offset *offsets; /* next byte to be sent */
	uint64_t lag;				  /* bytes behind, all streams */
	bool has_credit;
	uint64_t credit;
	bool blocking; /* holds the child back just now */
	uint64_t skipped;
	bool shared; /* reads the logs' memory; credit does not count then */
	/* About how long the oldest byte waits that was not sent, of any stream; 0: none does.
	 * Never less than it is. */
	uint64_t lag_ms;
	uint64_t blocking_ms, blocked_total_ms; /* how long it holds the child back; and in all */
	bool stalled;				/* moved from block to drop by its stall_ms */
};

/* What may be done with a port. Any of them lets it be seen. */
struct redd_rights {
	bool see, read, write, signal, resize;
	bool manage; /* forget, grant, revoke, take the lease by force */
	bool block;  /* REDD_BLOCK: hold the process back */
	/* read and write are for these streams only; none: for all. */
	const uint32_t *streams;
	size_t n_streams;
};

enum redd_grant_to { REDD_GRANT_UID = 0, REDD_GRANT_GID = 1, REDD_GRANT_EVERYONE = 2 };

struct redd_grant_info {
	uint64_t grant;
	enum redd_grant_to to;
	uint32_t number; /* the uid or gid */
	struct redd_rights rights;
	bool has_left;
	uint64_t left_ms;
};

/* Who has the lease of a port's inputs, or waits for it. */
struct redd_claim_info {
	uint64_t lease;
	const char *client;
	pid_t pid; /* 0: it is not connected just now */
	uint32_t uid;
};

struct redd_lease_info {
	struct redd_claim_info holder;
	bool has_left;
	uint64_t left_ms;
	size_t n_waiting; /* in turn */
	const struct redd_claim_info *waiting;
};

struct redd_port_info {
	uint64_t port;
	const char *name; /* NULL: none */
	enum redd_port_state state;
	pid_t pid;
	uint32_t owner_uid;
	const char *program;
	size_t n_args;
	const char *const *args; /* argv[1] and on, cut to 4 KiB in all */
	bool args_cut;
	const char *directory;
	size_t n_labels;
	const struct redd_label *labels;
	int64_t start_ns;
	bool has_exit;
	struct redd_exit exit;
	bool terminal;
	bool has_terminal_size; /* inspect, and lists with details: while the terminal is there */
	struct redd_terminal terminal_size;
	enum redd_orphan orphan;
	bool orphaned; /* its owner's session has ended */
	size_t n_streams;
	const struct redd_stream_info *streams;
	size_t n_subscriptions;
	const struct redd_subscription_info *subscriptions;
	size_t n_holders;
	const int32_t *holders;
	uint32_t timeout_ms, retention_ms;
	struct redd_framing
		framing; /* as it was spawned; RAW unless something else was asked for */
	enum redd_port_kind kind;
	size_t n_grants; /* for those who may manage the port */
	const struct redd_grant_info *grants;
	bool has_lease;
	struct redd_lease_info lease;
};

/* One block of memory with all it points to. */
struct redd_ports {
	size_t n_ports;
	const struct redd_port_info *ports; /* by id */
	bool more;			    /* ask again with `after` */
	uint64_t sequence;		    /* a watch from here misses nothing */
};

struct redd_metric {
	const char *name; /* as OpenMetrics wants it */
	bool counter;	  /* else a gauge */
	uint64_t value;
	const char *help;
};

/* One block of memory with all it points to. */
struct redd_metrics {
	size_t n_metrics;
	const struct redd_metric *metrics;
};

/* NULL is allowed. */
void redd_ports_free(struct redd_ports *ports);
void redd_metrics_free(struct redd_metrics *metrics);

/* A door (redd_delegate()). */
struct redd_delegated {
	uint64_t delegation;
	int door; /* now the program's, to be closed by it; closed on exec */
};

enum redd_matched_what {
	REDD_MATCHED_UNKNOWN = 0,
	REDD_MATCH = 1,
	REDD_MATCHED_IDLE = 2,	   /* nothing came for idle_ms */
	REDD_MATCHED_EXITED = 3,   /* the leader is gone, and all that it wrote was searched */
	REDD_MATCHED_ENDED = 4,	   /* the stream has ended (and `exit` was not set) */
	REDD_MATCHED_DEADLINE = 5, /* the time was up */
	REDD_MATCHED_LOST = 6,	   /* bytes fell out of the log before they were searched */
};

struct redd_range {
	bool is_set; /* false: the group is not part of the match */
	uint64_t offset, end;
};

/* One block of memory with all it points to. */
struct redd_matched {
	uint64_t port;
	uint32_t stream;
	enum redd_matched_what what;
	unsigned pattern;		 /* MATCH: which, from 0 */
	uint64_t offset, end;		 /* MATCH: its first byte, and one past its last */
	size_t n_groups;		 /* MATCH of a regular expression: */
	const struct redd_range *groups; /* group 1 is groups[0] */
	uint64_t from, searched;	 /* what was looked at: from here, up to there */
	uint64_t next; /* where a next one goes on: nothing is missed, nothing found twice */
	bool has_exit;
	struct redd_exit exit;
	bool has_written; /* all of what was to be written is in the pipe */
	struct redd_written written;
	const char *data; /* MATCH: its first 32 KiB, with a NUL behind; NULL: not kept any more */
	size_t size;
};

/* NULL is allowed. */
void redd_matched_free(struct redd_matched *matched);

/* What a completion callback gets: the member of its call; none where nothing is named. */
struct redd_reply {
	union {
		struct redd_spawned spawned;	    /* redd_spawn_start(), redd_open_start(), ... */
		struct redd_written written;	    /* redd_write_start() */
		uint64_t closed_at;		    /* redd_close_start() ...: total of the input */
		struct redd_signalled signalled;    /* redd_signal_start() */
		struct redd_waited waited;	    /* redd_wait_start() */
		const struct redd_ports *ports;	    /* redd_list_start(), redd_inspect_start() */
		const struct redd_metrics *metrics; /* redd_stats_start() */
		uint64_t granted;		    /* redd_grant_start() */
		struct redd_delegated delegated;    /* redd_delegate_start() */
		uint64_t leased;		    /* redd_lease_start() */
		const struct redd_matched *matched; /* redd_expect_start() */
	};
};

/* result: 0 with the reply, or a negative errno with reply == NULL and redd_last_error(). Called
 * exactly once for each started call that returned 0, unless the handle is freed first. */
typedef void redd_done_fn(struct redd *r, int result, const struct redd_reply *reply, void *user);

/* Goes with every _start form; NULL: nobody wants to know. Copied. */
struct redd_call {
	redd_done_fn *done;
	void *user;
	uint64_t request; /* set by the call: for redd_cancel() */
};

/* Connects and queues Hello without waiting for its answer. The connection itself may block, no
 * longer than connect_timeout_ms: while the broker's backlog is full, or a broker is started.
 * Requests may be started at once and go out in the same packet; done is called when the broker has
 * answered Hello. Until then no frame may be longer than 64 KiB (-EMSGSIZE). */
int redd_connect_start(struct redd *r, const struct redd_connect_options *options,
		       struct redd_call *call);

/* --- output ---------------------------------------------------------------------------------- */

/* What an output is of its record. A record comes as any number of parts, of any size, and then one
 * of the others (which may have no data), or a gap with aborts_record. */
enum redd_record {
	REDD_RECORD_NONE = 0, /* RAW: there are no records */
	REDD_RECORD_PART = 1, /* more of it follows */
	REDD_RECORD_END = 2,  /* the end of a line or packet */
	REDD_RECORD_CUT = 3,  /* LINES: at the maximum; the line goes on in the next record */
	REDD_RECORD_UNTERMINATED = 4, /* the stream ended inside of it */
};

struct redd_output {
	uint32_t stream;   /* 1 stdout, 2 stderr, N descriptor N, REDD_TERMINAL */
	uint64_t offset;   /* of the first byte that this took: data[0], or its packet's header */
	uint64_t consumed; /* bytes of the stream that this took; the next is offset + consumed */
	const void *data;
	size_t size; /* less than consumed where a newline or header was removed; may be 0 */
	enum redd_record record;
};

enum redd_gap_cause {
	REDD_GAP_UNKNOWN = 0,
	REDD_GAP_BEFORE_LOG = 1, /* older than the log when the subscription started */
	REDD_GAP_SLOW = 2,	 /* we were overtaken */
	REDD_GAP_STALLED = 3,	 /* moved from block to drop */
	REDD_GAP_ABANDONED = 4,	 /* left in the pipe at the hard bound of the drain */
};

struct redd_gap {
	uint32_t stream;
	uint64_t offset, end; /* these bytes will not come; equal: nobody knows how many */
	enum redd_gap_cause cause;
	bool aborts_record; /* parts of a record came, and its end will not: drop them */
};

/* Nothing of this stream follows. */
struct redd_stream_end {
	uint32_t stream;
	uint64_t total;	  /* bytes of the stream from offset 0 on, as the broker says */
	uint64_t seen;	  /* of these we got so many, with what framing removed */
	uint64_t gaps;	  /* and so many were told as gaps */
	uint64_t skipped; /* and so many lie before our start */
	enum redd_end_cause cause;
	int sys_errno;
	bool has_xxh3;
	uint64_t xxh3;
	bool verified; /* checksum compared over the whole stream, and equal */
	/* 0: everything is accounted for. -EBADMSG: it is not: bytes were lost or changed on the
	 * way, and redd_last_error() says which. */
	int result;
};

enum redd_closed_cause {
	REDD_PORT_CLOSED = 0,
	REDD_UNSUBSCRIBED = 1,
	REDD_TOO_SLOW = 2,
	REDD_FORGOTTEN = 3,
	REDD_BAD_RECORD = 4,	   /* PACKETS: at bad_offset of bad_stream stands none */
	REDD_REVOKED = 5,	   /* the right to read was taken back */
	REDD_CLOSED_LOST = 100,	   /* this side: the connection was lost before the end came, or
				    * the subscription could not be resumed when it was back */
	REDD_CLOSED_REFUSED = 101, /* this side: the spawn or subscribe failed; no event came */
};

/* A subscription's last event. */
struct redd_closed {
	enum redd_closed_cause cause;
	int n_holders;
	pid_t holders[REDD_HOLDERS_MAX];
	struct redd_exit exit; /* UNKNOWN unless the broker told it, here or before */
	/* 0, or the first of: -EBADMSG (a stream's end did not add up, or PORT_CLOSED came before
	 * an end), -ENOTCONN (LOST), what the request failed with (REFUSED). */
	int result;
	uint32_t bad_stream; /* BAD_RECORD */
	uint64_t bad_offset;
};

/* An input of the port is busy (as many bytes wait in it as its high mark says), or free again
 * (fewer than its low one). A state: what changed and changed back meanwhile is not told, and the
 * newest call says how it is. Inputs are free until told otherwise, and at their end. */
struct redd_marks {
	uint32_t stream;
	bool busy;
	uint64_t queued; /* bytes that waited when this was said */
};

/* Any of them may be NULL; on_marks makes the broker tell the marks. Order: on_exited when the
 * leader is gone, ahead of output that is still on its way; for each stream outputs and gaps by
 * offset, then its end; on_closed last of all. */
struct redd_handler {
	void *user;
	void (*on_output)(struct redd_subscription *s, const struct redd_output *o, void *user);
	void (*on_gap)(struct redd_subscription *s, const struct redd_gap *g, void *user);
	void (*on_end)(struct redd_subscription *s, const struct redd_stream_end *e, void *user);
	void (*on_exited)(struct redd_subscription *s, const struct redd_exit *e, void *user);
	void (*on_closed)(struct redd_subscription *s, const struct redd_closed *c, void *user);
	void (*on_marks)(struct redd_subscription *s, const struct redd_marks *m, void *user);
};

enum redd_start {
	REDD_FROM_BEGINNING = 0, /* the oldest byte; at 0 or behind a gap */
	REDD_FROM_NOW = 1,
	REDD_FROM_OFFSET = 2,
	REDD_FROM_LAST_BYTES = 3,
	REDD_FROM_LAST_LINES = 4,
};

enum redd_credit_mode {
	REDD_CREDIT_AUTO = 0,	/* given back as on_output returns */
	REDD_CREDIT_MANUAL = 1, /* only by redd_credit() */
	REDD_CREDIT_NONE = 2,	/* unlimited: how fast we dispatch is the brake */
};

struct redd_subscribe_options {
	size_t size;
	struct redd_handler handler;
	const uint32_t *streams; /* none: every output */
	size_t n_streams;
	enum redd_start from;
	const struct redd_stream_offset *offsets; /* FROM_OFFSET */
	size_t n_offsets;
	uint64_t count; /* LAST_BYTES, LAST_LINES: for each stream */
	enum redd_overflow overflow;
	enum redd_credit_mode credit_mode;
	/* What the broker may send before more credit is given; default 1 MiB. Each output costs
	 * its data and 64, each gap and end 64. */
	uint64_t window;
	uint32_t stall_ms; /* BLOCK: moved to drop after so long without progress; 0: never */
	/* Compute XXH3 over what comes and compare at the end, where the port keeps a checksum and
	 * nothing is missing or was removed by framing. */
	bool verify;
	/* For all of its streams. Default: what the port was spawned with, but for stderr, which is
	 * RAW then. */
	struct redd_framing framing;
	/* Read the broker's logs in shared memory, where that can be had: the same events, several
	 * times as fast, most of all with many readers. With BLOCK and without stall_ms the data of
	 * an output lie in the log itself. Credit is counted on this side. Else (another broker, a
	 * socket that passes no descriptors, no memory or descriptors here or there) it comes as
	 * usual; redd_subscription_is_shared() tells. */
	bool shared;
};

/* Free at any time; a live one is unsubscribed, and none of its callbacks run any more. */
void redd_subscription_free(struct redd_subscription *s);
/* 0: not answered yet, or lost with its connection. Another one when that is back. */
uint64_t redd_subscription_id(const struct redd_subscription *s);

/* It reads shared memory, or did. False before its answer. After a connection was lost and is back
 * it does not. */
bool redd_subscription_is_shared(const struct redd_subscription *s);
struct redd_port *redd_subscription_port(const struct redd_subscription *s);

/* Next offset expected of a stream: where to resume with REDD_FROM_OFFSET. 0 for one not seen. */
uint64_t redd_subscription_offset(const struct redd_subscription *s, uint32_t stream);

/* The same, but where the record begins of which only parts have come: who resumes a framed
 * subscription there gets that record again, whole. */
uint64_t redd_subscription_record(const struct redd_subscription *s, uint32_t stream);

/* MANUAL: lets the broker send so many bytes more. Does not block, and has no answer. -EAGAIN,
 * -ENOTCONN. */
int redd_credit(struct redd_subscription *s, uint64_t bytes);

/* Dispatches until the subscription is closed, that is until on_closed has run: all that could come
 * has come and was handed to the handler. The result is that of the close: 0, -EBADMSG (not all was
 * accounted for), -ENOTCONN (lost); or -ECANCELED when a callback frees the subscription. ret may
 * be NULL. May be called again, or after the close. */
int redd_finish(struct redd_subscription *s, struct redd_closed *ret);

/* --- spawn ----------------------------------------------------------------------------------- */

enum redd_kind {
	REDD_PIPE = 0,
	REDD_NULL = 1,
	REDD_TTY = 2,	 /* the port's terminal */
	REDD_SAME = 3,	 /* same open file as descriptor same_as of the child */
	REDD_FILE = 4,	 /* opened by the child after it took its identity and directory */
	REDD_PASSED = 5, /* a descriptor of ours */
	REDD_SOCKET = 6, /* a stream in both directions */
	REDD_CLOSED_FD = 7,
};

struct redd_descriptor {
	uint32_t fd; /* number in the child, 0 to 1023 */
	enum redd_kind kind;
	enum redd_direction direction; /* PIPE; default: 0 is input, others output */
	uint32_t same_as;	       /* SAME */
	const char *path;	       /* FILE; relative to the child's directory */
	int open_flags; /* FILE: O_RDONLY, O_WRONLY, O_RDWR with O_APPEND, O_CREAT, O_EXCL, O_TRUNC
			 */
	mode_t mode;	/* FILE with O_CREAT; 0: 0666 */
	int passed;	/* PASSED: our descriptor; it is duplicated, ours stays ours */
};

enum redd_environment {
	REDD_ENV_CLIENT = 0, /* `environment`, or our own environ(7) */
	REDD_ENV_BROKER = 1, /* what the service was started with */
	REDD_ENV_EMPTY = 2,
};

struct redd_limit {
	const char *name; /* "nofile", "cpu", ...: the names of getrlimit(2) without RLIMIT_ */
	bool has_soft, has_hard;
	uint64_t soft, hard; /* REDD_UNLIMITED; one that is not given stays as it is */
};

/* Members whose zero means something: only taken when their bit is in `set`. */
enum redd_spawn_set {
	REDD_SET_UMASK = 1 << 0,
	REDD_SET_NICE = 1 << 1,
	REDD_SET_UID = 1 << 2,
	REDD_SET_GID = 1 << 3,
	REDD_SET_DRAIN = 1 << 4,
	REDD_SET_DRAIN_LIMIT = 1 << 5,
	REDD_SET_RETENTION = 1 << 6,
	REDD_SET_TIMEOUT_GRACE = 1 << 7,
	REDD_SET_GROUPS = 1 << 8, /* n_groups may be 0: none */
};

#define REDD_DRAIN_NEVER UINT32_MAX

struct redd_spawn_options {
	size_t size;
	/* Either argv, NULL-terminated, of which argv[0] is the program unless `program` says so;
	 */
	const char *const *argv;
	const char *program; /* what to execute, when argv[0] is to be something else */
	/* or a command for /bin/sh -c. */
	const char *shell;
	/* Directories with ':' between them for a program without a slash. Default: PATH of the
	 * child's environment; where that is not ours (ENV_BROKER, ENV_EMPTY), our PATH. */
	const char *search_path;
	const char *directory;	      /* default, and base of a relative one: client_directory */
	const char *client_directory; /* default: ours (getcwd(3)) */
	enum redd_environment environment_base;
	const char *const *environment; /* ENV_CLIENT: NAME=VALUE, NULL-terminated */
	const char *const *unset;	/* names, NULL-terminated */
	const char *const *set_env;	/* NAME=VALUE, NULL-terminated; applied last */
	/* Not given: 0 is the null device, 1 and 2 are pipes; with a terminal all three are it. */
	const struct redd_descriptor *descriptors;
	size_t n_descriptors;
	const struct redd_terminal *terminal;
	bool new_group; /* a group in the keeper's session; default: a session of its own */
	bool no_new_privileges;
	unsigned set; /* enum redd_spawn_set */
	mode_t umask;
	int nice; /* with autogroups (sched(7)) it counts within the session alone: new_group */
	uint32_t uid, gid; /* another identity: only where the broker's policy allows it */
	const uint32_t *groups;
	size_t n_groups;
	const struct redd_limit *limits;
	size_t n_limits;
	uint32_t timeout_ms;	   /* 0: none */
	int timeout_signal;	   /* 0: SIGTERM */
	uint32_t timeout_grace_ms; /* then SIGKILL; default 5000 */
	enum redd_orphan orphan;   /* when our session ends */
	uint32_t orphan_ms;
	uint32_t drain_ms;	 /* default 1000; REDD_DRAIN_NEVER */
	uint32_t drain_limit_ms; /* default none */
	const char *name;
	const struct redd_label *labels;
	size_t n_labels;
	uint32_t log_size;     /* of each output; 0: 256 KiB */
	uint32_t retention_ms; /* default 60 000 */
	/* 1 to 64 bytes; a repeated spawn gets the first one's answer. Default: a random one, with
	 * which the library repeats the spawn when the connection was lost before its answer. */
	const void *token;
	size_t token_size;
	bool checksum; /* keep XXH3 of every output */
	bool hold_unread;
	/* Of each input: busy at high bytes that wait, free again below low, and refused beyond
	 * bound. 0: defaults (8192, 4096, 1 MiB). REDD_MARKS_OFF as high: never busy. */
	uint32_t input_high, input_low, input_bound;
	/* Subscribes in the same step: no byte can be missed. */
	const struct redd_subscribe_options *subscribe;
	/* What subscriptions of its outputs (but stderr) get that do not say otherwise, and, when
	 * it is PACKETS, what redd_write() does. */
	struct redd_framing framing;
};

/* Spawns and waits until the program runs. *ret_port, owned by the caller, is set only on success.
 * Failures of the program's start: errno and stage in redd_last_error(), and there is no port.
 * -EMSGSIZE: larger than a frame. */
int redd_spawn(struct redd *r, const struct redd_spawn_options *options,
	       struct redd_port **ret_port);

/* The same without waiting: *ret_port can be used at once (write, close, signal ... go out behind
 * the spawn). When the spawn fails it must still be freed. */
int redd_spawn_start(struct redd *r, const struct redd_spawn_options *options,
		     struct redd_port **ret_port, struct redd_call *call);

/* --- files and descriptors ------------------------------------------------------------------- */

/* What a port of any kind can be given; the members are those of struct redd_spawn_options. */
struct redd_port_options {
	unsigned set; /* REDD_SET_UMASK, REDD_SET_RETENTION */
	mode_t umask; /* of a file that is created */
	enum redd_orphan orphan;
	uint32_t orphan_ms;
	const char *name;
	const struct redd_label *labels;
	size_t n_labels;
	uint32_t log_size;
	uint32_t retention_ms;
	const void *token;
	size_t token_size;
	bool checksum;
	bool hold_unread;
	uint32_t input_high, input_low, input_bound;
	struct redd_framing framing;
	const struct redd_subscribe_options *subscribe;
};

struct redd_open_options {
	size_t size;
	const char *path;
	const char *client_directory; /* of a relative path; default: ours (getcwd(3)) */
	/* At least one. read: O_RDONLY; write: O_WRONLY, created and truncated; both: O_RDWR,
	 * created; append: what is written goes to the end, and nothing is truncated. */
	bool read, write, append;
	bool exclusive; /* it must not exist yet */
	bool no_create; /* it must exist */
	mode_t mode;	/* of one that is created, less umask; 0: 0666 */
	struct redd_port_options port;
};

struct redd_adopt_options {
	size_t size;
	bool reads, writes; /* at least one */
	/* Ours, and they stay ours: the port gets duplicates, closes them at its end, and touches
	 * neither flags nor modes. They may be the same. */
	int read_fd, write_fd;
	struct redd_port_options port;
};

/* Opens a file, device or fifo in the service, with our identity. What is read is output 1, what is
 * written is input 0. Waits until it is open, as long as that takes (a fifo waits for its other
 * side): give the _start form up with redd_cancel(). The port ends when reading came to its end and
 * the input was closed. redd_close() of the input comes back when all is written, with the errno if
 * it could not be.
 * -ENOENT, -EACCES, -EISDIR, -EEXIST, -ENXIO ...: as open(2), with REDD_STAGE_FILES. */
int redd_open(struct redd *r, const struct redd_open_options *options, struct redd_port **ret_port);
int redd_open_start(struct redd *r, const struct redd_open_options *options,
		    struct redd_port **ret_port, struct redd_call *call);

/* Makes a port of descriptors of ours. -EOPNOTSUPP: not redd_welcome()->descriptors. -EBADF: one
 * cannot be read or written as asked, or is a socket other than a connected SOCK_STREAM. */
int redd_adopt(struct redd *r, const struct redd_adopt_options *options,
	       struct redd_port **ret_port);
int redd_adopt_start(struct redd *r, const struct redd_adopt_options *options,
		     struct redd_port **ret_port, struct redd_call *call);

/* --- ports ----------------------------------------------------------------------------------- */

/* Handles on ports that are there already. Nothing is sent: a wrong one shows with its first use.
 * redd_port_find() takes a decimal id or a name, as a command line does. */
int redd_port_by_id(struct redd *r, uint64_t id, struct redd_port **ret_port);
int redd_port_by_name(struct redd *r, const char *name, struct redd_port **ret_port);
int redd_port_find(struct redd *r, const char *id_or_name, struct redd_port **ret_port);

/* Frees the handle and its subscriptions. The port itself goes on. NULL is allowed. */
void redd_port_free(struct redd_port *port);

struct redd *redd_port_connection(const struct redd_port *port);
uint64_t redd_port_id(const struct redd_port *port);	       /* 0: not known yet */
pid_t redd_port_pid(const struct redd_port *port);	       /* 0: not known */
uint32_t redd_port_input_window(const struct redd_port *port); /* 0: not known yet */

/* The subscription that was asked for with the spawn; it belongs to the port. NULL: none. */
struct redd_subscription *redd_port_subscription(const struct redd_port *port);

/* --- input ----------------------------------------------------------------------------------- */

#define REDD_STREAM_DEFAULT UINT32_MAX /* stdin, or the terminal of a port that has one */

#define REDD_HEADER_NONE UINT32_MAX /* the data as it is */

struct redd_write_options {
	size_t size;
	bool other_stream; /* `stream` below; else stdin or the terminal */
	uint32_t stream;
	bool at_offset; /* must go to `offset`: makes a repeated write harmless */
	uint64_t offset;
	bool no_wait; /* refused while the input is busy: -EAGAIN, and nothing was taken */
	bool close;   /* close the input behind it */
	/* 1, 2 or 4: a packet, the data's size in so many bytes goes in front; REDD_HEADER_NONE. 0:
	 * as the port was spawned: its packets' header where its framing is PACKETS, else none. */
	uint32_t header;
	bool force; /* busy or not, as long as the bound allows it: overrides no_wait */
	/* What is refused for want of room is tried again until it is taken, and so is every
	 * patient one that was started behind it: they keep their order, and none is lost between
	 * two others. Close the input when all have been answered. Not with no_wait. */
	bool patient;
};

/* One write: taken whole or refused whole, never mixed with another's. Answered when its last byte
 * is in the pipe. A packet's header counts in offset and size. options and ret_written may be NULL.
 * -EMSGSIZE: longer than one frame takes, or than a packet's header can say. */
int redd_write(struct redd_port *port, const void *data, size_t size,
	       const struct redd_write_options *options, struct redd_written *ret_written);

/* What is not sent at once is copied; the data is the caller's again when it returns. */
int redd_write_start(struct redd_port *port, const void *data, size_t size,
		     const struct redd_write_options *options, struct redd_call *call);

/* Any length, in as many writes as it takes, kept within the input window, and patient ones unless
 * no_wait. *ret_taken (may be NULL) is what is in the pipe for certain, on failure too. Other
 * clients' writes may come between. The bytes go as they are, whatever the port's framing; a header
 * in the options is -EINVAL. */
int redd_write_all(struct redd_port *port, const void *data, size_t size,
		   const struct redd_write_options *options, uint64_t *ret_taken);

/* Closes an input behind what was written. stream: 0, N, REDD_TERMINAL or REDD_STREAM_DEFAULT.
 * ret_total may be NULL. */
int redd_close(struct redd_port *port, uint32_t stream, uint64_t *ret_total);
int redd_close_start(struct redd_port *port, uint32_t stream, struct redd_call *call);

/* Closes a port of redd_open() or redd_adopt() as a whole: what was accepted is written, nothing
 * more is read, all is closed; then it comes back, with the errno if not all could be written.
 * discard: what is not written yet is lost. Harmless on one that is closing or has ended; one that
 * is still being opened is given up. ret_total (of the input) may be NULL. */
int redd_close_whole(struct redd_port *port, bool discard, uint64_t *ret_total);
int redd_close_whole_start(struct redd_port *port, bool discard, struct redd_call *call);

/* --- steering -------------------------------------------------------------------------------- */

enum redd_target { REDD_LEADER = 0, REDD_GROUP = 1, REDD_TREE = 2 };

/* -ESRCH when nobody was left. ret may be NULL. */
int redd_signal(struct redd_port *port, int signal, enum redd_target target,
		struct redd_signalled *ret);
int redd_signal_start(struct redd_port *port, int signal, enum redd_target target,
		      struct redd_call *call);

int redd_resize(struct redd_port *port, const struct redd_terminal *size);
int redd_resize_start(struct redd_port *port, const struct redd_terminal *size,
		      struct redd_call *call);

/* *ret is owned by the caller and its port. Events may be delivered before the call returns. */
int redd_subscribe(struct redd_port *port, const struct redd_subscribe_options *options,
		   struct redd_subscription **ret);
int redd_subscribe_start(struct redd_port *port, const struct redd_subscribe_options *options,
			 struct redd_subscription **ret, struct redd_call *call);

/* Asks the broker to end it; on_closed (REDD_UNSUBSCRIBED) follows, in its place. */
int redd_unsubscribe(struct redd_subscription *s);
int redd_unsubscribe_start(struct redd_subscription *s, struct redd_call *call);

enum redd_until { REDD_UNTIL_EXITED = 0, REDD_UNTIL_CLOSED = 1 };

/* Waits for the port, not for what a subscription of ours has still to get: the answer comes ahead
 * of output that is on its way (redd_finish() waits for that).
 * timeout_ms -1: no limit; 0: ask only. -ETIMEDOUT when it was up. When the connection is lost
 * first the result is -ENOTCONN, and ret->exit is UNKNOWN with a reason. */
int redd_wait(struct redd_port *port, enum redd_until until, int64_t timeout_ms,
	      struct redd_waited *ret);
int redd_wait_start(struct redd_port *port, enum redd_until until, int64_t timeout_ms,
		    struct redd_call *call);

struct redd_pattern {
	const void *text;
	size_t size; /* 0: it is a C string */
	bool regex;  /* a regular expression, as redd(1) describes them; else these very bytes */
	bool ignore_case; /* of ASCII letters */
};

struct redd_expect_options {
	size_t size;
	const struct redd_pattern *patterns; /* at most 32 of 4096 bytes; none: other conditions */
	size_t n_patterns;
	bool other_stream; /* `stream` below; else stdout or the terminal */
	uint32_t stream;
	bool has_from; /* searched from `from` on; else what comes from now on */
	uint64_t from;
	uint32_t idle_ms; /* over when nothing came for so long; 0: not over for that */
	bool exit;	  /* over when the leader is gone */
	bool block; /* hold the child back rather than lose bytes that were not searched yet */
	/* Written in the same step: what comes of it cannot be missed. NULL: nothing. */
	const void *data;
	size_t data_size;
	const struct redd_write_options *write; /* how; may be NULL */
};

/* Waits, where the bytes are, for the first match in an output: of the pattern that matches first
 * by position, then by its place in the list; or for another of the conditions. Whatever ends it is
 * an answer (ret->what), the deadline too. A match that could still become another one (of "a+"
 * behind "aa") waits for the byte that decides it, or for another condition, whose place it then
 * takes. timeout_ms -1: no limit; 0: only what is there already. *ret: free with
 * redd_matched_free(). Not found, but refused: -EINVAL (a pattern, with its place in
 * redd_last_error()), -ERANGE (`from` is ahead of the stream, or behind its log), and what
 * redd_write() gives. */
int redd_expect(struct redd_port *port, const struct redd_expect_options *options,
		int64_t timeout_ms, struct redd_matched **ret);
int redd_expect_start(struct redd_port *port, const struct redd_expect_options *options,
		      int64_t timeout_ms, struct redd_call *call);

/* Drops an ended port with its log and status. */
int redd_forget(struct redd_port *port);
int redd_forget_start(struct redd_port *port, struct redd_call *call);

/* *ret has one port; free with redd_ports_free(). */
int redd_inspect(struct redd_port *port, struct redd_ports **ret);
int redd_inspect_start(struct redd_port *port, struct redd_call *call);

/* --- rights ---------------------------------------------------------------------------------- */

struct redd_grant_options {
	size_t size;
	enum redd_grant_to to;
	uint32_t number; /* uid or gid */
	struct redd_rights rights;
	uint64_t duration_ms; /* 0: until the port goes, or it is revoked */
};

/* Gives rights on the port to others than its owner; *ret_grant (which may be NULL) names what was
 * given. -EPERM: one may not, or not that much. */
int redd_grant(struct redd_port *port, const struct redd_grant_options *options,
	       uint64_t *ret_grant);
int redd_grant_start(struct redd_port *port, const struct redd_grant_options *options,
		     struct redd_call *call);

/* Take rights back: all grants of a port, one grant, a delegation. What is done by them has ended
 * when the call returns. -ENOENT: there is none. */
int redd_revoke_all(struct redd_port *port);
int redd_revoke_all_start(struct redd_port *port, struct redd_call *call);
int redd_revoke_grant(struct redd *r, uint64_t grant);
int redd_revoke_grant_start(struct redd *r, uint64_t grant, struct redd_call *call);
int redd_revoke_delegation(struct redd *r, uint64_t delegation);
int redd_revoke_delegation_start(struct redd *r, uint64_t delegation, struct redd_call *call);

#define REDD_DELEGATION_PORTS 64

struct redd_delegate_options {
	size_t size;
	/* Either these, REDD_DELEGATION_PORTS at most, or those that have all these labels, now and
	 * later; neither with `spawn`. */
	struct redd_port *const *ports;
	size_t n_ports;
	const struct redd_label *labels;
	size_t n_labels;
	struct redd_rights rights;
	uint64_t duration_ms; /* 0: no limit */
	bool spawn;	      /* programs may be started through it, as by us */
	bool with_session;    /* it ends with our session; else when all its copies are closed */
};

/* A door: a descriptor by which others have these rights, whoever they are and however they come by
 * it. They connect with REDD_SOCKET=fd:N. It outlives the broker. ret->door is the caller's. */
int redd_delegate(struct redd *r, const struct redd_delegate_options *options,
		  struct redd_delegated *ret);
int redd_delegate_start(struct redd *r, const struct redd_delegate_options *options,
			struct redd_call *call);

struct redd_lease_options {
	size_t size;
	bool wait;	      /* until it is our turn; else -EBUSY when somebody has it */
	bool force;	      /* take it from who has it: for those who may manage the port */
	uint64_t duration_ms; /* 0: until redd_release(), or the end of the session */
};

/* Makes this session the only one that may write to the port's inputs; writes of others fail with
 * -EBUSY. It outlives the broker, for a client that is back within ten seconds. options and
 * ret_lease may be NULL. */
int redd_lease(struct redd_port *port, const struct redd_lease_options *options,
	       uint64_t *ret_lease);
int redd_lease_start(struct redd_port *port, const struct redd_lease_options *options,
		     struct redd_call *call);

/* Gives it back, or ends the waiting for it (that call gives -ECANCELED). to: the claim that is to
 * have it next (redd_lease_info.waiting); 0: the next in turn. */
int redd_release(struct redd_port *port, uint64_t to);
int redd_release_start(struct redd_port *port, uint64_t to, struct redd_call *call);

enum redd_lease_end {
	REDD_LEASE_RELEASED = 1, /* through another connection of this session */
	REDD_LEASE_TAKEN = 2,	 /* by force */
	REDD_LEASE_EXPIRED = 3,
	REDD_LEASE_REVOKED = 4,	  /* the right to write is gone */
	REDD_LEASE_ABANDONED = 5, /* while the connection was lost, for whatever reason */
};

/* Called when a lease of ours has ended and this handle did not ask for that: others may write from
 * then on. Not when the connection is lost for good. NULL: nobody wants to know. */
typedef void redd_lease_end_fn(struct redd *r, uint64_t port, uint64_t lease,
			       enum redd_lease_end why, void *user);
void redd_on_lease_end(struct redd *r, redd_lease_end_fn *on_lease_end, void *user);

/* --- ports by label -------------------------------------------------------------------------- */

/* To every port that has these labels and that we may signal; *ret_count (which may be NULL) is how
 * many there were. It has happened when it is answered: calls by labels come one after the other,
 * but a redd_signal() behind one may reach its port before. */
int redd_signal_labels(struct redd *r, const struct redd_label *labels, size_t n_labels, int signal,
		       enum redd_target target, uint32_t *ret_count);
int redd_signal_labels_start(struct redd *r, const struct redd_label *labels, size_t n_labels,
			     int signal, enum redd_target target, struct redd_call *call);

/* Until one of those that have these labels has exited (or closed); ret->port is that one. */
int redd_wait_labels(struct redd *r, const struct redd_label *labels, size_t n_labels,
		     enum redd_until until, int64_t timeout_ms, struct redd_waited *ret);
int redd_wait_labels_start(struct redd *r, const struct redd_label *labels, size_t n_labels,
			   enum redd_until until, int64_t timeout_ms, struct redd_call *call);

/* --- the broker ------------------------------------------------------------------------------ */

struct redd_list_options {
	size_t size;
	const struct redd_label *labels; /* all must match */
	size_t n_labels;
	const enum redd_port_state *states; /* none: every state */
	size_t n_states;
	uint64_t after; /* ports with a higher id only */
	uint32_t limit; /* default and maximum 1000 */
	bool details;	/* streams and subscriptions as well */
};

/* *ret: free with redd_ports_free(). options may be NULL. */
int redd_list(struct redd *r, const struct redd_list_options *options, struct redd_ports **ret);
int redd_list_start(struct redd *r, const struct redd_list_options *options,
		    struct redd_call *call);

enum redd_what {
	REDD_LIFE_UNKNOWN = 0,
	REDD_LIFE_STARTED = 1,
	REDD_LIFE_EXITED = 2,
	REDD_LIFE_CLOSED = 3,
	REDD_LIFE_FORGOTTEN = 4,
	REDD_LIFE_MISSED = 5,  /* we were too slow, or events before a broker's death are not
				* known any more: those up to `sequence` are gone */
	REDD_LIFE_GRANTED = 6, /* it can be seen from now on */
	REDD_LIFE_REVOKED = 7, /* it cannot any more: nothing more of it is told */
	REDD_LIFE_LOST = 100,  /* this side: the connection is lost; the last event */
};

struct redd_life {
	enum redd_what what;
	uint64_t sequence;
	uint64_t port;
	const char *name; /* NULL: none */
	pid_t pid;
	int64_t time_ns;
	bool has_exit;
	struct redd_exit exit; /* EXITED, CLOSED */
	int n_holders;
	pid_t holders[REDD_HOLDERS_MAX]; /* CLOSED */
};

typedef void redd_life_fn(struct redd_watch *watch, const struct redd_life *life, void *user);

struct redd_watch_options {
	size_t size;
	redd_life_fn *on_life;
	void *user;
	bool has_after;
	uint64_t after; /* events behind this sequence; else from now on */
	const struct redd_label *labels;
	size_t n_labels;
};

/* *ret is owned by the caller. -ERANGE: `after` is too old to be known. */
int redd_watch(struct redd *r, const struct redd_watch_options *options, struct redd_watch **ret);
int redd_watch_start(struct redd *r, const struct redd_watch_options *options,
		     struct redd_watch **ret, struct redd_call *call);

/* Ends it; no callback runs any more. NULL is allowed. */
void redd_watch_free(struct redd_watch *watch);

/* Of the newest event when the watch began; 0 before its answer. */
uint64_t redd_watch_sequence(const struct redd_watch *watch);

/* *ret: free with redd_metrics_free(). */
int redd_stats(struct redd *r, struct redd_metrics **ret);
int redd_stats_start(struct redd *r, struct redd_call *call);

/* A round trip. */
int redd_ping(struct redd *r);
int redd_ping_start(struct redd *r, struct redd_call *call);

/* Ends the service: ports get SIGTERM, and SIGKILL drain_ms later (-1: the broker's default). */
int redd_shutdown(struct redd *r, int64_t drain_ms);
int redd_shutdown_start(struct redd *r, int64_t drain_ms, struct redd_call *call);

/* Gives up a started call: it ends with -ECANCELED, or with its own result where it was over.
 * -ENOENT: no such call waits. */
int redd_cancel(struct redd *r, uint64_t request);
int redd_cancel_start(struct redd *r, uint64_t request, struct redd_call *call);

#ifdef __cplusplus
}
#endif

#endif
