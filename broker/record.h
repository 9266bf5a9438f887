/* What a successor of this broker has to know of each port, in shared memory that the keeper holds
 * too: one memfd of fixed records. Numbers, and bytes of fixed size;
 * nothing in it is parsed as text. A record is written twice over in turn (struct record_copy),
 * each copy with its sequence and checksum, so that a death in the middle of writing leaves the one
 * before. Beside them stand what is on its way into a log, numbers that change all the time
 * (struct record_live), and labels (record_labels.h).
 */
#ifndef REDD_BROKER_RECORD_H
#define REDD_BROKER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/exit_record.h"
#include "broker/grants.h"
#include "proto/limits.h"

struct labels;
struct port;
struct port_options;
struct records;
struct transit_note;
struct stream;

#define RECORD_NO_RING UINT16_MAX

enum record_stream_flag {
	RECORD_HAS_OUTPUT = 1 << 0,
	RECORD_HAS_INPUT = 1 << 1,
	RECORD_OUTPUT_ENDED = 1 << 2,
	RECORD_INPUT_OVER = 1 << 3, /* closed, or nobody reads it */
	RECORD_CHECKSUM = 1 << 4,
	RECORD_HOLD_UNREAD = 1 << 5,
	RECORD_ABANDONED = 1 << 6,
};

/* Of struct pumped. */
enum record_pump_flag {
	RECORD_PUMP_SHUT = 1 << 0,
	RECORD_PUMP_READ = 1 << 1,
	RECORD_PUMP_WRITTEN = 1 << 2,
	RECORD_PUMP_OPEN = 1 << 3,
};

struct record_stream {
	uint32_t number;
	uint32_t log_size;
	uint16_t ring; /* number of the log's memfd, or RECORD_NO_RING */
	uint8_t kind;  /* enum stream_kind */
	uint8_t flags;
	uint8_t cause; /* enum stream_cause */
	uint8_t sys_errno;
	uint8_t pad[2];
	uint64_t abandoned;
};

/* What one copy says. No padding that is not zeroed: all of it is summed up. */
struct record {
	uint64_t port;
	uint64_t digest;
	uint32_t state; /* enum port_state */
	uint32_t attempt;
	int32_t pid;
	uint32_t listener, uid, gid;
	uint32_t child_uid, child_gid, has_other_identity;
	uint32_t timeout_ms, timeout_signal, timeout_grace_ms;
	uint32_t timed_out; /* 1, and 2 when the tree has the signal for that */
	uint32_t drain_ms, drain_limit_ms, retention_ms;
	uint32_t orphan, orphan_ms;
	uint32_t framing, framing_maximum; /* enum framing_cut | header << 8 */
	uint32_t has_exited, n_streams, token_size, n_grants;
	uint32_t kind;	     /* enum port_kind */
	uint32_t pump_flags; /* enum record_pump_flag */
	int32_t read_error, write_error;
	uint32_t input_high, input_low, input_bound; /* of every input; 0: there is none */
	uint64_t delegation;			     /* of the owner */
	uint64_t timeout_until_ms;		     /* CLOCK_MONOTONIC */
	uint8_t session[SESSION_ID_SIZE];
	uint64_t lease;		 /* of its inputs; 0: nobody has it */
	uint64_t lease_until_ms; /* CLOCK_MONOTONIC; 0: without an end */
	uint32_t holder_listener, holder_uid, holder_gid, pad;
	uint64_t holder_delegation;
	uint8_t holder[SESSION_ID_SIZE];
	uint8_t token[TOKEN_MAX];
	char name[NAME_MAX_SIZE + 4];
	struct exit_record exit;
	struct record_stream streams[PORT_STREAMS_MAX];
	struct grant grants[GRANTS_MAX];
};

/* What changes with every byte and client, so that it is stored as it is: single numbers, each
 * whole at any instant. */
struct record_live {
	uint64_t port;	   /* whose it is; another's means nothing */
	uint64_t written;  /* INPUT: bytes that are in the pipe for certain */
	uint64_t going_at; /* INPUT: `going` bytes are being written behind `written`, if equal */
	uint32_t going;
	uint32_t by_scratch; /* INPUT: `going` is what was in the scratch pipe (scratch.h) */
	uint32_t blockers;   /* OUTPUT: readers that hold it back when they are behind */
	uint32_t pad;
};

/* Bytes are about to be written. One store settles it afterwards: what goes behind another number
 * than `written` is no matter of doubt any more. n: as write(2) gives it. */
static inline void record_live_going(struct record_live *l, uint32_t size, bool by_scratch)
{
	l->going = size;
	l->by_scratch = by_scratch;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	l->going_at = l->written;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void record_live_went(struct record_live *l, ssize_t n)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (n > 0)
		l->written += (uint64_t)n;
	else
		l->going_at = UINT64_MAX;
}

/* Makes an empty table. 0 or a negative errno. */
int records_new(struct records **ret);

/* Takes over a predecessor's. 0, RECORD_E_BAD (not of this layout), or a negative errno. take_fd is
 * consumed in every case. */
#define RECORD_E_BAD 1
int records_adopt(struct records **ret, int take_fd);

void records_free(struct records *r);

/* The memfd, owned by the table. */
int records_fd(const struct records *r);

/* Takes a place for a port, the one that was given back last, so that the memory in use follows the
 * ports there are. There are PORTS_MAX places, and never more ports. */
uint32_t records_take(struct records *r);

/* The place is free again. */
void records_give(struct records *r, uint32_t place);

/* Writes what there is to know of the port now; what has no field in it is not needed. */
void records_save(struct records *r, uint32_t place, const struct port *p);

/* Keeps the labels of the port that has just got this place; NULL: it has none. 0 or a negative
 * errno: a successor will not know them. */
int records_keep_labels(struct records *r, uint32_t place, uint64_t port,
			const struct labels *labels);

/* For a successor: those of that port, a reference. 0, or as record_labels_read(). */
int records_labels(const struct records *r, uint32_t place, uint64_t port, struct labels **ret);

/* The same for what is only shown: program, directory, arguments. A successor's options get them,
 * or empty ones: as record_shown_read(). */
int records_keep_shown(struct records *r, uint32_t place, uint64_t port,
		       const struct port_options *options);
int records_shown(const struct records *r, uint32_t place, uint64_t port, struct port_options *ret);

/* Where transit.h notes what it does. */
struct transit_note *records_transit(const struct records *r);

/* The live numbers of a stream of the port that has this place. */
struct record_live *records_live(struct records *r, uint32_t place, const struct stream *s);

/* The highest id that a port ever had, whether it is there still or not: never lowered. */
void records_set_last_port(struct records *r, uint64_t id);
uint64_t records_last_port(const struct records *r);

/* The number of the newest life event, so that a successor counts on. */
void records_set_sequence(struct records *r, uint64_t sequence);
uint64_t records_sequence(const struct records *r);

/* For a successor: the newest whole copy, place by place, from 0. 0: the place stays taken, for the
 * port that is made of it, or until it is given back; RECORD_E_NONE: it is empty or broken;
 * RECORD_E_END: no place from here on was ever used. */
#define RECORD_E_NONE 2
#define RECORD_E_END  3
int records_load(const struct records *r, uint32_t place, struct record *ret);

#endif
