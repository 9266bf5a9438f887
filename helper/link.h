// clang-format off
/* What broker, keeper and forker say to each other.
 *
 *	broker <-> keeper    SOCK_SEQPACKET "keeper link", both ways
 *	broker  -> forker    SOCK_SEQPACKET "forker link", one way: the forker never answers on it
 *	keeper  -> forker    SOCK_SEQPACKET, one way: LINK_FORKER_SETUP; its end of file ends the forker
 *	child   -> keeper    SOCK_STREAM "birth socket", one per spawn, made by the broker
 *
 * One datagram is one message: a struct below, for LINK_SPAWN followed by its blocks. All numbers
 * are in host order: the parts are one program on one machine. Descriptors travel by SCM_RIGHTS with
 * the message that names them. Every receiver checks size, counts and ranges and drops a message
 * that is wrong, with a log line and all its descriptors closed; it never aborts.
 *
 * A spawn, from the keeper's view ("slot" is the broker's table index, "port" the id that is never
 * 0 and never reused; "attempt" counts births of the same spawn, from 1):
 *
 *	LINK_DEPOSIT     broker: the birth socket's read end and the broker's ends of all pipes
 *	                 (before the spawn goes to the forker, on a socket that keeps order and
 *	                 survives the broker, so nothing is waited for). The broker closes its own
 *	                 copies of both ends of the birth socket as soon as they are sent.
 *	birth records    the child writes struct birth BIRTH_BORN as its very first act (if that
 *	                 fails, because nobody holds the read end, it ends and runs nothing),
 *	                 BIRTH_EXECUTING right before its first execve(2), and BIRTH_FAILED {stage,
 *	                 errno} if it cannot exec; the forker writes BIRTH_FAILED alone when there is
 *	                 no child. All write ends are closed on exec or exit, so end of file is the
 *	                 verdict:
 *	                   nothing          -> LINK_UNBORN   nothing ran; the broker spawns again
 *	                   born             -> LINK_FAILED {SETUP, EINTR}: killed before its exec
 *	                   born executing   -> LINK_STARTED  with a pidfd (or FAILED {SETUP, EINTR}
 *	                                       when it is dead and PF_FORKNOEXEC is still set)
 *	                   [...] failed     -> LINK_FAILED
 *	                 Records are peeked, never consumed: whoever comes after a death reads them too.
 *	LINK_EXITED      keeper: recorded before the zombie is released; repeated to a new broker until
 *	                 LINK_FORGET. The zombie itself is released at once.
 *	LINK_RELEASE     broker: close one held descriptor; answered with LINK_RELEASED
 *	LINK_FORGET      broker: everything of the slot
 */
// clang-format on
#ifndef REDD_HELPER_LINK_H
#define REDD_HELPER_LINK_H

#include <stdint.h>

#include "proto/limits.h"

#define LINK_VERSION 1u

/* Largest datagram: the default socket buffer takes 208 KiB and a bit. A spawn with larger blocks
 * puts them into a sealed memfd (LINK_SPAWN_MEMFD). */
#define LINK_DATAGRAM_MAX KIB(128)
#define LINK_FDS_MAX	  (PORT_FDS_MAX + 4u) /* with one message */

enum link_type {
	/* broker to keeper */
	LINK_DEPOSIT = 1,
	LINK_RELEASE,
	LINK_FORGET,
	LINK_RING,
	LINK_RECORDS,
	LINK_SIGNAL_GROUP,
	LINK_BEAT,
	LINK_BYE,
	LINK_SIGNAL,
	/* broker to forker */
	LINK_SPAWN = 32,
	/* keeper to broker */
	LINK_SETUP = 64,
	LINK_FORKER,
	LINK_STARTED,
	LINK_FAILED,
	LINK_UNBORN,
	LINK_EXITED,
	LINK_RELEASED,
	LINK_HELD,
	LINK_READY,
	LINK_GROUP_SIGNALLED,
	/* keeper to forker */
	LINK_FORKER_SETUP = 96,
};

/* First in every message. */
struct link_head {
	uint32_t type; /* enum link_type */
	uint32_t size; /* of the whole datagram */
};

/* What every message about a spawn names. */
struct link_spawn_id {
	uint64_t port;
	uint32_t slot;	  /* below PORTS_MAX */
	uint32_t attempt; /* from 1 */
};

/* What a descriptor held by the keeper is: kind in the high half, number in the low one. */
#define LINK_HOLD(kind, n)  ((uint32_t)(kind) << 16 | (uint32_t)(n))
#define LINK_HOLD_KIND(h)   ((h) >> 16)
#define LINK_HOLD_NUMBER(h) ((h)&0xffffu)

enum link_hold {
	HOLD_BIRTH = 1, /* read end of the birth socket; number 0 */
	HOLD_INPUT,	/* the broker's end of input stream `number` (a terminal's master too) */
	HOLD_OUTPUT,	/* the broker's end of output stream `number` */
	HOLD_PIDFD,	/* keeper only */
};
#define LINK_HOLDS_MAX (PORT_STREAMS_MAX + 2u) /* descriptors of one slot */

/* LINK_DEPOSIT: descriptors in the order of holds[]. A deposit of a slot that holds descriptors of
 * the same port adds or replaces (a new birth socket for a next attempt, once the one before was
 * told LINK_UNBORN). A deposit with a birth socket that the keeper has no room for is answered with
 * LINK_FAILED {REQUEST, EMFILE} and its child will not run. */
struct link_deposit {
	struct link_head head;
	struct link_spawn_id id;
	uint32_t n_holds;
	uint32_t holds[LINK_HOLDS_MAX];
};

/* LINK_RELEASE, LINK_RELEASED. */
struct link_release {
	struct link_head head;
	struct link_spawn_id id;
	uint32_t hold;
	uint32_t pad;
};

/* LINK_FORGET: also acknowledges LINK_EXITED, LINK_FAILED. A process of the slot that still lives
 * is not touched; the keeper reaps it when it ends. */
struct link_forget {
	struct link_head head;
	struct link_spawn_id id;
};

/* LINK_RING: with the memfd of ring `number`, or with another descriptor that the broker keeps by a
 * number (broker/inherit.h); without a descriptor: drop it. `number` is below LINK_RINGS_MAX. The
 * keeper sends it to a new broker for each that it holds. */
#define LINK_RINGS_MAX 65536u
struct link_ring {
	struct link_head head;
	uint32_t number;
	uint32_t size;
};

/* LINK_RECORDS: with the memfd of the broker's port records, and read and write end of the pipe
 * that bytes take on their way from a descriptor into a log; once. */
#define LINK_RECORDS_FDS 3u
struct link_records {
	struct link_head head;
};

/* LINK_SIGNAL_GROUP: kill(-pid) while the keeper still has the leader unreaped, for kernels without
 * PIDFD_SIGNAL_PROCESS_GROUP (before 6.9). Answered by LINK_GROUP_SIGNALLED with the same cookie
 * and error 0, ESRCH (the leader has been reaped) or what kill(2) said.
 * LINK_SIGNAL: the same with kill(pid), the leader alone, for where pidfd_send_signal(2) is refused
 * with ENOSYS (valgrind); answered in the same way. */
struct link_group_signal {
	struct link_head head;
	struct link_spawn_id id;
	uint64_t cookie;
	int32_t signal;
	int32_t error;
};

/* LINK_BEAT: the broker's loop turns; every HEARTBEAT_MS. */
struct link_beat {
	struct link_head head;
};

/* LINK_BYE: the broker leaves for good; the keeper ends the forker, reaps both, removes what it
 * made (socket paths while it holds their lock) and exits with `status`. */
struct link_bye {
	struct link_head head;
	int32_t status;
	int32_t pad;
};

/* LINK_SETUP: first message to a broker. Descriptors: config memfd, then lock and listeners in the
 * order of the config. */
struct link_setup {
	struct link_head head;
	uint32_t version;
	uint32_t incarnation; /* 1 for the first broker, then rising */
	uint32_t n_locks;
	uint32_t n_listeners;
	uint64_t deaths; /* brokers and forkers lost so far */
};

/* LINK_FORKER: with the broker's end of a new forker link. Whatever was sent on an older link and
 * is not answered yet will be (STARTED, FAILED or UNBORN). */
struct link_forker {
	struct link_head head;
	int32_t pid;
	uint32_t pad;
};

/* LINK_STARTED: the program runs. With a pidfd; without one only when it is repeated to a new
 * broker after the process was reaped (LINK_EXITED follows). */
struct link_started {
	struct link_head head;
	struct link_spawn_id id;
	int32_t pid;
	uint32_t pad;
	int64_t start_ns; /* CLOCK_REALTIME when it was born (the child's own record) */
};

/* LINK_FAILED: there is no process. */
struct link_failed {
	struct link_head head;
	struct link_spawn_id id;
	uint32_t stage; /* redd.proto Stage, as below */
	int32_t error;	/* errno, positive */
};

/* LINK_UNBORN: nothing has run. */
struct link_unborn {
	struct link_head head;
	struct link_spawn_id id;
};

/* LINK_EXITED. Follows LINK_STARTED, never before it. */
struct link_exited {
	struct link_head head;
	struct link_spawn_id id;
	int32_t pid;
	int32_t status;	  /* as wait(2) gives it; -1: unknown */
	int64_t start_ns; /* as in LINK_STARTED */
	int64_t end_ns;	  /* CLOCK_REALTIME when it was seen */
	uint64_t user_us, system_us;
	uint64_t max_rss; /* bytes */
	uint64_t minor_faults, major_faults;
	uint64_t voluntary_switches, involuntary_switches;
	uint64_t blocks_in, blocks_out;
};

/* LINK_HELD: to a new broker, one for each slot that is held, before LINK_READY; descriptors as in
 * holds[] (HOLD_PIDFD too). LINK_STARTED, LINK_EXITED and so on that are not forgotten follow
 * LINK_READY. */
struct link_held {
	struct link_head head;
	struct link_spawn_id id;
	int32_t pid; /* 0: not born yet */
	uint32_t n_holds;
	uint32_t holds[LINK_HOLDS_MAX];
};

struct link_ready {
	struct link_head head;
};

/* LINK_FORKER_SETUP: with the forker's end of the forker link, which replaces the one it has;
 * spawns still unread on that one are closed and so told LINK_UNBORN. */
struct link_forker_setup {
	struct link_head head;
	uint32_t version; /* LINK_VERSION */
	uint32_t flags;	  /* enum link_config_flag */
	/* RLIMIT_NOFILE of children whose record does not set it. */
	uint64_t nofile_soft;
	uint64_t nofile_hard;
};

/* Stages: the numbers of redd.proto's enum Stage; a test compares them. */
enum link_stage {
	LINK_STAGE_NONE,
	LINK_STAGE_REQUEST,
	LINK_STAGE_CLONE,
	LINK_STAGE_SETUP,
	LINK_STAGE_SESSION,
	LINK_STAGE_CGROUP,
	LINK_STAGE_TERMINAL,
	LINK_STAGE_DESCRIPTORS,
	LINK_STAGE_LIMITS,
	LINK_STAGE_GROUPS,
	LINK_STAGE_USER,
	LINK_STAGE_DIRECTORY,
	LINK_STAGE_FILES,
	LINK_STAGE_SANDBOX,
	LINK_STAGE_EXEC,
};

/* --- birth socket ---------------------------------------------------------------------------- */

enum birth_kind {
	BIRTH_BORN = 0x424f524e,
	BIRTH_EXECUTING = 0x45584543,
	BIRTH_FAILED = 0x4641494c
};

/* 24 bytes each, at most three. Written with one send each, which a stream socket takes whole. */
struct birth {
	uint32_t kind;
	int32_t pid;	 /* BORN: as the child sees itself (the keeper's pid namespace) */
	uint32_t stage;	 /* FAILED */
	int32_t error;	 /* FAILED: errno, positive */
	int64_t time_ns; /* CLOCK_REALTIME */
};

/* --- the spawn record ------------------------------------------------------------------------ */

enum link_spawn_flag {
	LINK_SPAWN_SETSID = 1 << 0,
	LINK_SPAWN_SETPGID = 1 << 1,
	LINK_SPAWN_TERMINAL =
		1 << 2,		 /* TIOCSCTTY on the child's descriptor terminal_fd (source form) */
	LINK_SPAWN_IDS = 1 << 3, /* groups, gid, uid */
	LINK_SPAWN_UMASK = 1 << 4,
	LINK_SPAWN_NICE = 1 << 5,
	LINK_SPAWN_NO_NEW_PRIVS = 1 << 6,
	LINK_SPAWN_MEMFD =
		1 << 7, /* the blocks are in the last descriptor, a sealed memfd, at offset 0 */
	/* Limits and nice value are set under LINK_SPAWN_IDS, by who may raise nothing, and not
	 * before that. */
	LINK_SPAWN_OWN_LIMITS = 1 << 8,
};

/* Blocks follow the struct (or lie in the memfd) in this order, each aligned to 8 bytes, the
 * sizes in the struct: limits, groups, descriptors, files, strings. */
struct link_limit {
	uint32_t resource; /* RLIMIT_* */
	uint32_t set;	   /* bit 0: soft is set, bit 1: hard is set; the other keeps its value */
	uint64_t soft, hard;
};

/* The child's descriptor `target` becomes a duplicate of passed descriptor `source` (an index into
 * the message's descriptors), or of the null device (LINK_SOURCE_NULL). Several targets may share a
 * source. Targets are distinct; every other descriptor is closed in the child. */
#define LINK_SOURCE_NULL UINT32_MAX
struct link_descriptor {
	uint32_t target;
	uint32_t source;
};

/* A file that the child opens itself; path is the index of a string in `strings`. With
 * LINK_FILE_SAME the target becomes a duplicate of the child's descriptor `path` instead (for
 * "merged into a file"). */
#define LINK_FILE_SAME UINT32_MAX
struct link_file {
	uint32_t target;
	uint32_t flags; /* open(2), O_CLOEXEC not among them; LINK_FILE_SAME */
	uint32_t mode;
	uint32_t path;
};

/* LINK_SPAWN: descriptors: [0] the birth socket's write end, [1..n_passed] sources (source index 0
 * is the first of them), last the memfd if flagged. */
struct link_spawn {
	struct link_head head;
	struct link_spawn_id id;
	uint32_t flags;
	uint32_t n_passed;
	uint32_t uid, gid;
	uint32_t umask;
	int32_t nice;
	uint32_t terminal_source; /* index of the passed descriptor that is the terminal */
	uint32_t n_limits;
	uint32_t n_groups; /* uint32_t each */
	uint32_t n_descriptors;
	uint32_t n_files;
	/* NUL-terminated strings, in this order: directory (empty: stay), n_candidates paths to
	 * exec one after another, argc arguments (argv[0] first), envc NAME=VALUE, n_files-or-fewer
	 * paths. `path` in link_file counts from the first of those. */
	uint32_t n_candidates;
	uint32_t argc;
	uint32_t envc;
	uint32_t n_paths;
	uint32_t strings_size;
	uint32_t blocks_size; /* of all blocks together, with alignment */
	uint32_t pad;
};

#define LINK_ALIGN(n) (((n) + 7u) & ~(__typeof__((n) + 7u))7)

/* --- openers --------------------------------------------------------------------------------- */

/* An opener is a spawn of `redd-helper opener` with a SOCK_SEQPACKET as descriptor 0, under the
 * caller's identity. It reads one message of requests, answers with one message of as many replies
 * in their order, and exits. One that it cannot understand is answered by a single reply with an
 * error.
 *
 * Several requests must be OPENER_TREE, with one signal: all trees are looked for at once, as what
 * that costs is the reading of /proc. A process that belongs to more than one of them is signalled
 * once.
 *
 * With has_pidfd the next of the descriptors that came with the message is the leader's pidfd:
 * while the leader is not reaped that proves that its number is still its own. Without a pidfd, a
 * start time or the mark in its environment the number alone is not believed, and only processes
 * with the mark, and their descendants, are found. */
enum opener_verb {
	OPENER_TREE = 1, /* signal all descendants of a port */
	OPENER_HOLDERS,	 /* who holds these pipes or sockets */
};

#define OPENER_REQUESTS_MAX 64u		 /* in one message */
#define OPENER_MARK	    "REDD_PORT=" /* what marks begin with */

struct opener_request {
	uint32_t verb;
	int32_t signal;	   /* TREE; 0 only counts */
	int32_t leader;	   /* TREE: pid of the leader, whose session id it is too; 0: not known */
	uint32_t n_inodes; /* HOLDERS */
	uint64_t
		start_ticks; /* TREE: the leader's start (field 22 of /proc/PID/stat); 0: unknown */
	char mark[64];	     /* TREE: as it stands in the environment of the port; "": none */
	/* HOLDERS: device and inode of each descriptor as fstat(2) of our end gave it. Both ends of
	 * a pipe have one inode; of a socket pair the other end's is not known, so it is left out.
	 */
	struct {
		uint64_t device, inode;
	} inodes[PORT_STREAMS_MAX];
	int32_t exclude[4]; /* pids never to be named or signalled: keeper, broker, forker, opener's
			       own is implied; the same in all */
	uint32_t has_pidfd; /* TREE */
	uint32_t reserved;
};

struct opener_reply {
	int32_t error;			  /* 0, or errno */
	uint32_t count;			  /* TREE: processes signalled; HOLDERS: found */
	uint32_t n_pids;		  /* of pids[] */
	int32_t pids[SCAN_SURVIVORS_MAX]; /* TREE with SIGKILL: survivors; HOLDERS: the holders */
};

/* --- pumps ----------------------------------------------------------------------------------- */

/* A pump is the process of a port that is a file or descriptors (helper/pump_role.h). On its
 * descriptor 2 it reports each of these once, before it closes what it is about. */
enum pump_what {
	PUMP_OPENED = 1, /* error: why not; the pump ends then */
	PUMP_READ,	 /* nothing more is read; ECANCELED: because it was to stop */
	PUMP_WRITTEN,	 /* `bytes` are written, and no more: because that is the end, or there
			    is nobody to write to, or of an error */
};

struct pump_report {
	uint32_t what;
	int32_t error; /* errno, positive */
	uint64_t bytes;
};

/* Its exit code: 0, the errno of writing, or with this bit the errno of reading alone. */
#define PUMP_READ_FAILED 128
#define PUMP_ERROR_MAX	 127 /* what is above it is told as EIO */

/* --- configuration handed to the keeper ------------------------------------------------------- */

/* In the sealed memfd whose descriptor is the keeper's argument `--config-fd N`. strings_size bytes
 * of NUL-terminated strings follow the struct: broker program, helper program, then per listener
 * its path ("" when it was inherited) and its lock's path, then envc environment strings; then
 * text_size bytes of the broker's own text configuration. Paths are absolute. Fixed size, checked
 * length; the keeper hands the memfd to each broker unread but for this head. */
struct link_config {
	uint32_t magic; /* LINK_CONFIG_MAGIC */
	uint32_t version;
	uint32_t size; /* of everything */
	uint32_t n_listeners;
	uint32_t envc;
	uint32_t idle_exit_ms; /* 0: never */
	uint32_t log_level;
	uint32_t flags;	      /* enum link_config_flag */
	uint64_t nofile_soft; /* RLIMIT_NOFILE as the service was started with: children get it back
			       */
	uint64_t nofile_hard;
	int32_t listener_fds[LISTENERS_MAX]; /* as the keeper has them */
	int32_t lock_fds[LISTENERS_MAX];     /* -1: inherited listener, no lock */
	int32_t notify_fd; /* sd_notify socket, connected, -1: none. The keeper itself, being the
			      service's pid, says READY=1 on the first LINK_BEAT and STOPPING=1 on
			      LINK_BYE */
	uint32_t n_public; /* so many of the listeners, the last ones, are for every user */
	uint8_t instance[INSTANCE_ID_SIZE];
	uint32_t strings_size;
	uint32_t text_size;
};
#define LINK_CONFIG_MAGIC 0x72656464u

enum link_config_flag {
	LINK_CONFIG_PLAIN_CLONE = 1
				  << 0, /* clone without CLONE_VM: valgrind, sanitizers, seccomp */
};

#endif
