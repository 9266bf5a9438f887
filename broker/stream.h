/* One numbered stream of a port: the broker's end of a pipe, a terminal or a socket pair, with an
 * output (its log and the readers of it), an input (its queue), or both.
 *
 *	stream.c         life of the descriptor, what is polled
 *	stream_read.c    descriptor -> log: how much, when to hold back, how it ends
 *	stream_write.c   queue -> descriptor: writes, the close behind them, how it fails
 *
 * A stream is made with its port and lives as long; its descriptor may go earlier. It knows nothing
 * of connections: it calls the port's events.
 */
#ifndef REDD_BROKER_STREAM_H
#define REDD_BROKER_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/cursor.h"
#include "broker/input.h"
#include "broker/pace.h"
#include "broker/quota.h"
#include "broker/ring.h"
#include "broker/yield.h"
#include "broker/slowest.h"
#include "broker/transit.h"
#include "broker/turn.h"

struct broker;
struct port;
struct stream;

/* REPORTS: neither output nor input, but what a pump says (broker/pumped.h). */
enum stream_kind { STREAM_IS_PIPE, STREAM_IS_TERMINAL, STREAM_IS_SOCKET, STREAM_IS_REPORTS };

/* Numbers as in StreamEnd.Cause of redd.proto. */
enum stream_cause {
	STREAM_END_OF_FILE = 0,
	STREAM_IDLE = 1,
	STREAM_LIMIT = 2,
	STREAM_READ_ERROR = 3,
	STREAM_BROKER_STOPPED = 4,
	STREAM_CLOSED = 5, /* the port was closed as a whole */
};

/* A cursor that reads a stream's log; part of a subscription. */
struct reader {
	struct list link;	   /* of the stream's readers */
	struct list idle_link;	   /* of those to be woken by the next byte */
	struct list shared_link;   /* of those that share its memory */
	struct list block_link;	   /* of those that may hold it back ... */
	struct slowest_node floor; /* ... and where it was last seen, while it is one of them */
	struct stream *stream;
	struct subscription *subscription;
	struct cursor cursor;
};

struct stream_output {
	bool is_there;
	struct ring *ring; /* NULL until the first byte */
	uint32_t log_size;
	bool wants_checksum, hold_unread;
	struct framing framing; /* what its port declared for it: kept with its log's index */
	struct quota_charge charge;
	struct list readers;
	struct list blockers;	/* those that may hold it back, ... */
	struct slowest slowest; /* ... by how far they are behind */
	unsigned n_blockers;
	struct list expects; /* waits for what comes */
	unsigned n_expects;
	struct pace pace;   /* when which byte came */
	struct list idle;   /* readers that were told all, and wait for more */
	struct list shared; /* readers by shared memory */
	bool is_ended, is_held;
	bool awaits_cause; /* of a pump: the pipe is empty for ever, and nobody knows why yet */
	uint64_t held_since_ms; /* while it is */
	uint64_t held_total_ms; /* before that */
	/* Blocking readers that an earlier broker had and that may come back: nothing that is in
	 * the log is overwritten meanwhile. */
	unsigned awaited;
	enum stream_cause cause;
	int sys_errno;
	bool is_abandoned; /* bytes were left in the pipe ... */
	uint64_t abandoned;
	uint64_t active_ms;			  /* when it was last known not to be idle */
	uint64_t given_up_device, given_up_inode; /* of a pipe that somebody still held; else 0 */
	unsigned full_reads;
	bool is_grown;
};

struct stream_input {
	bool is_there;
	struct input queue;
	struct quota_charge charge;
	bool was_busy;		    /* when it was last looked at, for who is told of the marks */
	bool is_failed;		    /* nobody reads it any more */
	int error;		    /* the negative errno of that */
	struct input_item *closing; /* waits for the keeper's duplicate to be closed */
	bool is_closed;
	uint32_t doubt; /* bytes behind what is written that an earlier broker may have written */
	char last_byte; /* terminal: whether its line is complete */
};

struct stream {
	struct port *port;
	struct broker *broker;
	uint32_t number;
	enum stream_kind kind;
	int fd;			    /* our end, -1 when closed */
	bool is_started, is_polled; /* the handle is open */
	bool is_closing;	    /* it is being closed, and still libuv's */
	bool is_freed;		    /* goes with the handle */
	int mask;
	uv_poll_t poll;
	struct job work;
	int events; /* that it is about */
	struct yield_flow flow;
	struct stream_output out;
	struct stream_input in;
};

/* What a port is told; never from within a call of its own to the stream, but for stream_stop(). */
struct stream_events {
	void (*moved)(struct stream *s);      /* new bytes in the log */
	void (*out_ended)(struct stream *s);  /* out.cause says how */
	void (*in_changed)(struct stream *s); /* items are done, displaced; drain them */
	/* The close item's turn came. error: 0 closed; else negative errno, refused */
	void (*in_closed)(struct stream *s, struct input_item *take_item, int error);
	void (*in_failed)(struct stream *s, int error); /* queued items will never be written */
	void (*in_queued)(struct stream *s);		/* more waits, or less: look at the marks */
};

/* Makes a stream around our end (owned, also on failure). 0 or a negative errno. */
int stream_new(struct stream **ret, struct port *port, uint32_t number, enum stream_kind kind,
	       int take_fd);

/* Closes what is open and frees, when libuv is done with it. Readers must be gone. NULL is
 * harmless. */
void stream_free(struct stream *s);

/* The process runs: from now on its end of the stream is read and written. */
void stream_start(struct stream *s);

/* Makes the handle, which makes the descriptor non-blocking, unless it is there: it comes with the
 * first thing to wait for or to write, as most inputs are never used. 0 or a negative errno. */
int stream_poll(struct stream *s);

/* Sets what is polled from what is wanted. */
void stream_watch(struct stream *s);

/* Closes our end when neither direction needs it. */
void stream_close_unused(struct stream *s);

/* --- stream_read.c --------------------------------------------------------------------------- */

/* One bounded read. */
void stream_read(struct stream *s);

/* What an earlier broker had taken from the descriptor when it died goes into the log. 0 or a
 * negative errno: it is lost, and a gap at the end. */
int stream_finish_transit(struct stream *s, const struct transit_note *note);
/* Makes the log if there is none yet, and seals it for being handed to a client. 0 or a negative
 * errno; -ENODATA: the output has ended without a byte. May end ports that are kept. */
int stream_share_log(struct stream *s);

/* Ends the output now. With the causes IDLE and LIMIT what is left in the pipe is counted. */
void stream_end_output(struct stream *s, enum stream_cause cause, int sys_errno);

/* It ended so that the keeper's duplicate goes too: a process that lives learns that nobody reads
 * any more, instead of writing into a pipe until that is full. */
bool stream_is_let_go(const struct stream *s);

/* The numbers that a cursor looks at. */
void stream_view(const struct stream *s, struct cursor_view *ret);
uint64_t stream_total(const struct stream *s);
uint64_t stream_oldest(const struct stream *s);

/* The total, and what waits to be read. */
uint64_t stream_written(const struct stream *s);

/* For how long it has been held back, now and in all. */
uint64_t stream_held_ms(const struct stream *s);
uint64_t stream_held_total_ms(const struct stream *s);

/* XXH3_64bits of all bytes, for an output that wants_checksum. */
uint64_t stream_checksum(const struct stream *s);

/* It is the stream's from now on, until it is dropped. */
void stream_add_reader(struct stream *s, struct reader *r);
void stream_drop_reader(struct stream *s, struct reader *r);

/* Its cursor does not block any more. */
void stream_unblock(struct stream *s, struct reader *r);

/* A reader came, went or moved: a pipe that was held back may be read again. */
void stream_readers_changed(struct stream *s);

/* Writes down how many blocking readers there are, where nothing was recorded before. */
void stream_note_blockers(struct stream *s);

/* So many blocking readers are still awaited. */
void stream_await(struct stream *s, unsigned n_blockers);

/* Nobody is to come for it: it is read on without a reader from now on, whatever was asked for. */
void stream_hold_no_more(struct stream *s);

/* The stream is held back, and this reader is one that has to move first. */
bool stream_is_held_by(struct reader *r);

/* Milliseconds that the output has been idle at now_ms; 0 while it is held back or has bytes. */
uint64_t stream_idle_ms(struct stream *s, uint64_t now_ms);

/* --- stream_write.c -------------------------------------------------------------------------- */

/* Its program has ended: what it left is taken without waiting for others' spawns. */
void stream_hurry(struct stream *s);

/* More is queued: writes what can be written now, unless it waits for others' spawns. */
void stream_write_soon(struct stream *s);

/* Writes what can be written now. */
void stream_write(struct stream *s);

/* The keeper has closed its duplicate: finishes the close that waits for it; of a pump when all was
 * written as well. */
void stream_input_released(struct stream *s);

/* Gives the input up: everything that is queued fails with error (negative errno). */
void stream_fail_input(struct stream *s, int error);

/* Something happened to the queue: who waited is told, charge and marks follow. After anything but
 * stream_write(), which does it itself. */
void stream_settle_input(struct stream *s);

/* The charge for queued bytes follows the queue. 0 or QUOTA_E_EXCEEDED. */
int stream_charge_input(struct stream *s, const char **ret_reason);

#endif
