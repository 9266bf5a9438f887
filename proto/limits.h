/* Every maximum, bound and mark of redd with its reason. Sizes in bytes, times in milliseconds. */
#ifndef REDD_LIMITS_H
#define REDD_LIMITS_H

/* Of the software. The same line stands in client/redd.h, for users: a compiler that sees two
 * different ones complains. */
#define REDD_VERSION "0.1.0"

#define KIB(n) ((n)*1024u)
#define MIB(n) ((n)*1048576u)

/* --- wire ------------------------------------------------------------------------------------ */

#define PROTOCOL_VERSION 1u

/* One frame, the length prefix not counted. 1 MiB holds any usual command line with its
 * environment; 16 MiB is past what execve(2) takes (a quarter of the 8 MiB stack, or 6 MiB at
 * most). */
#define FRAME_MAX_DEFAULT MIB(1)
#define FRAME_MAX_LOWEST  KIB(64)
#define FRAME_MAX_HIGHEST MIB(16)
#define FRAME_PREFIX_MAX  5u /* varint of a 32-bit length */

/* What a frame may hold: a scan refuses more before anything is allocated for it. */
#define SCAN_DEPTH_MAX	 8u
#define SCAN_UNKNOWN_MAX 64u
/* All fields of a frame together: an argument list of 100 000 words passes. protobuf-c notes every
 * field of a message in slabs of 16, 32, 64, ... entries of 32 bytes: so many fill 13 of them
 * (4 MiB), one more would begin another of as much. */
#define SCAN_FIELDS_MAX (16u * 8191u)
/* What a frame may cost unpacked: so many times its size, or of the largest usual frame, whichever
 * is more. A factor alone would refuse what is legal: an argument "x" takes 3 bytes on the wire and
 * 56 to 88 unpacked (array, copy, slab), so the floor is what SCAN_FIELDS_MAX of those need. */
#define ARENA_FACTOR 8u
#define ARENA_FLOOR  (ARENA_FACTOR * FRAME_MAX_DEFAULT)
/* One Ports message, so that a list of any ports stays well within the two limits above; a client
 * asks for the next page. */
#define LIST_BYTES_MAX KIB(256)
#define LIST_TIME_NS   1000000u /* spent on one: a page may be short, but for LIST_LEAST ports */
#define LIST_LEAST     16u

/* Passed with one frame; the kernel's own limit is 253 (SCM_MAX_FD). */
#define DESCRIPTORS_MAX 64u

/* --- connection ------------------------------------------------------------------------------ */

#define HELLO_TIMEOUT_MS    2000u
#define CLIENT_NAME_MAX	    64u
#define PING_MAX	    64u
#define SESSION_ID_SIZE	    16u
#define INSTANCE_ID_SIZE    16u
#define CONN_READ_SIZE	    KIB(64) /* one recvmsg a turn: a fair share */
#define CONN_FRAMES_A_TURN  64u
#define CONN_TIME_A_TURN_NS 250000u  /* and no frame is begun after so long: some cost much */
#define CONN_CONTROL_BOUND  MIB(1)   /* replies that wait; above it no further request is read */
#define CONN_READ_FREE	    KIB(128) /* of frames that are not done with, before it is charged */
#define CONN_ANSWERS_FREE   KIB(16)  /* of answers, the same */
#define CONN_BULK_A_TURN    KIB(512) /* one connection's share of sending */
#define CONN_SENDS_A_TURN   8u	     /* sendmsg calls that this may take */
#define WATCH_STEPS	    2048u    /* events looked at before each */
#define CONN_SNDBUF	    KIB(64)  /* start small: a client that never reads pins this much */
#define CONN_SNDBUF_GROWN   MIB(1)   /* for a reader that keeps up: 1.4 times the throughput */
#define CONN_PROOF	    KIB(256) /* so many bytes sent: its client reads */
#define CONN_OUTPUT_SMALL   (KIB(16) - 64u) /* data of an Output until then: 16 KiB with its head */
#define CONN_OUTPUT_LARGE   (OUTPUT_MAX - 64u)
#define CONN_PENDING_MAX    1024u /* requests that wait for their answer */
#define CONN_SUBSCRIPTIONS  16384u
#define CONN_WATCHES	    64u
#define CONN_SELECTED_WAITS 64u	  /* by labels */
#define CONN_GROUPS	    64u	  /* of a client, besides its gid; more cannot be taken over */
#define CONN_DOORS	    64u	  /* descriptors that wait to go out with their messages */
#define CONN_SPAWN_ALIASES  1024u /* newest spawns that requests can refer to by request id */
#define CONNS_MAX	    4096u /* of the whole service */
#define CONNS_PER_UID	    2048u
#define LISTENERS_MAX	    16u
/* Descriptors of clients are closed by threads of their own, as many of them for whom closing takes
 * long; of one user's connections, of one door, and of all doors of a user, so many at once. */
#define CLOSER_THREADS	    16u
#define CLOSER_THREADS_EACH 2u
/* So many that are not closed yet, and no more are received; one message brings up to 253. */
#define CLOSING_MAX	 4096u /* of the whole service; but who has none of them may send some */
#define CLOSING_PER_UID	 512u  /* of its connections, and of its doors */
#define CLOSING_PER_DOOR 64u

/* --- the loop -------------------------------------------------------------------------------- */

/* A turn, in processor time: no job is begun past these, and one takes little more than
 * CONN_TIME_A_TURN_NS, or one frame, which takes 5 ms at the worst. With a millisecond for what
 * keeper and clock have to say no turn takes TURN_LONG_NS; those that do are counted. */
#define TURN_WORK_NS	   2000000u
#define TURN_FLUSH_NS	   2000000u
#define TURN_LONG_NS	   10000000u
#define TURN_QUANTUM_NS	   250000u /* what one job may take before the others had theirs */
#define ALARMS_A_TURN	   64u	   /* of those that are due */
#define KEEPER_NEWS_A_TURN 64u	   /* messages of the keeper */
#define HAND_OVERS_A_TURN  16u	   /* handed over */

/* Bulk gives way to programs that are being started (yield.h). Measured with two processors that
 * floods keep busy: half a millisecond in which they are served costs a spawn that meets it two. */
#define YIELD_WINDOW_MS 2u   /* from a spawn, and from its start on */
#define YIELD_STEP_MS	50u  /* in which each flow moves once all the same */
#define YIELD_MOST_MS	500u /* at a time */
#define YIELD_LEAST_MS	50u
#define YIELD_PART	2u /* in the long run half of the time is held back at most */
#define YIELD_LOOK_MS	10u
#define YIELD_BYTES	KIB(256) /* in so long: 25 MiB a second */

/* --- ports ----------------------------------------------------------------------------------- */

#define PORTS_MAX	   16384u
#define PORTS_PER_UID	   16384u
#define PORT_STREAMS_MAX   16u /* streams of one port */
#define PORT_FDS_MAX	   64u /* descriptors of one child that a spawn may name */
#define CHILD_FD_MAX	   1023u
#define STREAM_TERMINAL	   1024u /* the number of a terminal's two streams */
#define STREAM_REPORTS	   1025u /* of a pump's reports, which no client sees */
#define NAME_MAX_SIZE	   128u
#define LABELS_MAX	   32u
#define LABEL_KEY_MAX	   63u
#define LABEL_VALUE_MAX	   255u
#define TOKEN_MAX	   64u
#define LIST_MAX	   1000u
#define HOLDERS_MAX	   64u
#define STREAM_HOLDERS_MAX 64u	 /* subscriptions that hold a port's outputs back, as shown */
#define EVENTS_KEPT	   8192u /* life events a late watch can still have */

#define GRANTS_MAX	       16u /* of one port: each is looked at whenever another than the owner asks */
#define DELEGATIONS_MAX	       1024u /* of the service; each is a descriptor for us */
#define DELEGATION_PORTS       64u   /* that one names; a selector covers any number */
#define DELEGATION_CONNS       64u   /* through one door: they count as its maker's */
#define DOOR_KNOCKS_A_TURN     16u /* connections taken through one door before others have a turn */
#define RIGHTS_DURATION_MAX_MS (100ull * 366 * 86400000) /* far from where sums run over */
#define LEASE_CLAIMS_MAX       64u /* sessions that wait for one port's lease */

#define TIMEOUT_GRACE_DEFAULT_MS 5000u
#define DRAIN_DEFAULT_MS	 1000u
#define DRAIN_NEVER_MS		 UINT32_MAX
#define RETENTION_DEFAULT_MS	 60000u
#define RETENTION_MAX_MS	 86400000u
#define RECONNECT_GRACE_MS	 10000u /* for clients to come back after a broker's death */
#define SHUTDOWN_DRAIN_MS	 5000u
#define SHUTDOWN_DRAIN_MAX_MS	 60000u
/* Descriptors left alone by what can be refused: by new connections, which leave these to the ports
 * that are there, and by new ports, which also leave one (a pidfd) to each spawn in flight. */
#define DESCRIPTOR_RESERVE	 64u
#define SPAWN_DESCRIPTOR_RESERVE (DESCRIPTOR_RESERVE + SPAWNS_IN_FLIGHT)
#define SPAWNS_IN_FLIGHT	 256u /* handed to the forker and not answered; others wait */

/* Of one connection's spawns: so much may be handed over and not answered, others wait in its line.
 * A few keep all processors busy, and more would only lengthen everybody's way. A record counts for
 * another one with each LINE_RECORD_SIZE, up to LINE_QUANTUM, which is what lines get in turns. */
#define LINE_IN_FLIGHT	 16u
#define LINE_SHORT	 4u /* who has no more on their way waits for each */
#define LINE_QUANTUM	 16u
#define LINE_RECORD_SIZE KIB(16)

/* --- output ---------------------------------------------------------------------------------- */

#define RING_DEFAULT	 KIB(256)
#define RING_LOWEST	 KIB(64)
#define RING_HIGHEST	 MIB(64)
#define RINGS_POOLED	 64u	   /* free rings of the default size kept for reuse */
#define RINGS_BYTES_MAX	 MIB(1024) /* of the whole service */
#define STREAM_READ_SIZE KIB(256)  /* one read a turn */
#define PIPE_GROWN	 MIB(1)	   /* a pipe that was found full PIPE_FULL_TIMES times in a row */
#define PIPE_FULL_TIMES	 4u
#define PIPES_GROWN_MAX	 32u	 /* at once: an ordinary user has 64 MiB of pipe buffers in all */
#define OUTPUT_MAX	 KIB(64) /* payload of one Output: what a half-sent frame may cost us */
#define EVENT_CREDIT	 64u	 /* what every bulk event costs besides its data */
/* Records (lines, packets). They are never buffered whole, so their bound is none of memory: it
 * tells a length from the first bytes of some text that came where a header was expected. */
#define RECORD_MAX_HIGHEST MIB(1024)
#define LINE_MAX_DEFAULT   KIB(64)
#define PACKET_MAX_DEFAULT FRAME_MAX_HIGHEST /* what a client could write back */
#define EVENT_WORK	   512u /* what an event counts as in a connection's share, besides its bytes */
/* Subscriptions by shared memory: each maps a page here. More go by the socket. */
#define SHARED_MAX	 4096u
#define SHARED_PER_CONN	 256u
#define SHARED_TURN_SIZE MIB(1) /* libredd: what one dispatch reads of all logs together */

/* --- input ----------------------------------------------------------------------------------- */

#define INPUT_HIGH_DEFAULT  8192u /* Erlang's port marks */
#define INPUT_LOW_DEFAULT   4096u
#define INPUT_MARKS_OFF	    UINT32_MAX /* as a high mark: above every bound, so never reached */
#define INPUT_BOUND_DEFAULT MIB(1)
#define INPUT_BOUND_HIGHEST MIB(64)
/* Writes that a full queue still takes, each from a client that has none there: a client that
 * floods cannot shut the others out. */
#define INPUT_GUESTS_MAX   64u
#define INPUT_GUEST_SIZE   KIB(4)
#define CANONICAL_LINE_MAX 4096u /* termios(3), N_TTY_BUF_SIZE */

/* --- waits ----------------------------------------------------------------------------------- */

/* By labels: each is looked at whenever a port exits, and ends, which takes up to a microsecond. So
 * one user's take a millisecond for each port, and all of them four, in slices of the turns. */
#define SELECTED_WAITS_PER_UID 1024u
#define SELECTED_WAITS_MAX     4096u
#define PORT_WAITS_MAX	       4096u   /* by id: all are answered in one slice */
#define WALK_SLICE_NS	       250000u /* of what concerns all ports; the clock is looked at ... */
#define WALK_PORTS	       16u     /* ... after so many */
#define WAITS_TIME_A_TURN_NS   500000u /* and no slice is begun after so long */
#define WAITS_A_SLICE	       32u

/* One Expect. A program of so many instructions takes at most about 3 MiB with the state of its
 * search, and a byte of the stream at most so many steps. */
#define EXPECT_PATTERNS_MAX 32u
#define EXPECT_PATTERN_MAX  4096u
#define EXPECT_GROUPS_MAX   16u
#define EXPECT_DEPTH_MAX    32u /* groups within groups: the parser's recursion */
#define PROGRAM_MAX	    4096u
#define EXPECT_DATA_MAX	    KIB(32) /* of a match in its answer: it fits the smallest frame_max */
#define CONN_EXPECTS	    256u    /* waiting: a byte of a stream may have to wake them all */
#define STREAM_EXPECTS	    1024u
/* One search goes on for so many steps (2 to 5 ns each), then it is another connection's turn;
 * and all of them together for so long in one turn of the loop. */
#define EXPECT_STEPS_A_SLICE  8192u
#define EXPECT_TIME_A_TURN_NS 1000000u

/* --- quotas ---------------------------------------------------------------------------------- */

/* Generous: they keep one client from taking everything, not from working. What is not here is
 * above (PORTS_MAX, CONN_SUBSCRIPTIONS, ...). */
#define QUOTA_INPUT_BYTES_SERVICE MIB(512)
#define QUOTA_INPUT_BYTES_UID	  MIB(256)
#define QUOTA_INPUT_BYTES_CONN	  MIB(128)
/* Of all connections together, beyond what each has free. One may have its largest frame. */
#define QUOTA_BUFFER_BYTES_SERVICE MIB(512)
#define QUOTA_BUFFER_BYTES_UID	   MIB(256)
#define QUOTA_BUFFER_BYTES_CONN	   (2 * FRAME_MAX_HIGHEST)
/* What the broker allocates for all of it together. Above the sum of what is usual by far, and
 * below what brings a machine into trouble; a service may have much less (memory-max). */
#define QUOTA_MEMORY_MAX	  (4ull << 30)
#define QUOTA_MEMORY_LOWEST	  MIB(16)
#define QUOTA_WEIGHT_PORT	  KIB(32) /* options, streams, records, what is shown of arguments */
#define QUOTA_WEIGHT_SUBSCRIPTION 2048u	  /* with a reader for each stream */
#define QUOTA_WEIGHT_CONNECTION \
	KIB(192)		       /* CONN_READ_FREE, CONN_ANSWERS_FREE, an Output half sent */
#define QUOTA_WEIGHT_PENDING	  512u /* a request that waits */
#define QUOTA_WEIGHT_WATCH	  KIB(8) /* with its labels; and a Wait by labels */
#define QUOTA_SUBSCRIPTIONS_MAX	  65536u /* of the service, and of a uid */
#define QUOTA_DESCRIPTORS_SERVICE 16384u
#define QUOTA_DESCRIPTORS_UID	  8192u
#define QUOTA_DESCRIPTORS_CONN	  4096u
#define QUOTA_SPAWNS_PER_SECOND	  20000u /* more than any machine this was measured on can do */
#define QUOTA_SPAWNS_BURST	  20000u
#define QUOTA_RETRY_MS		  100u	/* told with what is only a matter of time */
#define QUOTA_IDLE_UIDS_MAX	  1024u /* uids without connections whose spawn rate is remembered */

/* Signals to whole trees that clients ask for, each of which sends an opener out. */
#define QUOTA_ERRANDS_CONN    32u
#define QUOTA_ERRANDS_UID     1024u
#define QUOTA_ERRANDS_SERVICE 4096u
#define QUOTA_WEIGHT_ERRAND   4096u

/* --- helper ---------------------------------------------------------------------------------- */

#define OPENER_TIMEOUT_MS    2000u /* what an opener may take before it is given up */
#define OPENER_LIFE_S	     60u   /* it ends by itself, when nobody looks after it any more */
#define OPENER_TRIES	     5u	   /* of them for one tree that is killed; ... */
#define OPENER_TRIES_AWAITED 2u	   /* ... after so many, who waits is told */
#define OPENER_AGAIN_MS	     100u  /* to the second try, and twice that to each more */
#define SCAN_SURVIVORS_MAX   64u
#define WATCHDOG_MS	     5000u /* a broker silent for so long is killed and comes back */
#define HEARTBEAT_MS	     1000u
#define STARVED_MOST_MS	     60000 /* that one is left alone that gets no processor */
#define RESTART_DEATHS_MAX   5u	   /* in RESTART_WINDOW_MS: degraded */
#define RESTART_WINDOW_MS    10000u

/* Openers out at once: few keep all processors busy. What is due has places of its own, whose
 * descriptors (four each) are within DESCRIPTOR_RESERVE. */
#define ERRANDS_ASKED_OUT	   16u
#define ERRANDS_ASKED_OUT_PER_UID  12u
#define ERRANDS_ASKED_OUT_PER_CONN 4u
#define ERRANDS_DUE_OUT		   16u
#define ERRANDS_DUE_OUT_PER_UID	   12u
#define ERRANDS_AGAIN_OUT	   4u
#define ERRANDS_AGAIN_OUT_PER_UID  2u
#define PORT_ERRANDS_MAX	   16u /* signals to its tree that were not asked for one by one */
#define ERRANDS_A_TURN		   8u  /* sent out */

#endif
