/* Shared memory of a subscription: what the broker's log and the control page look like to a client
 * that maps them, and the steps of both sides. PROTOCOL.md, section 21, says the same in words.
 *
 *	the log       one memfd a stream, written by the broker alone: struct shared_log, then data
 *	the control   one page a subscription, written by both, believed by neither
 *
 * Who writes publishes first and looks then, on both sides: the broker its head, then whether the
 * reader sleeps; the reader where it sleeps, then the head. Likewise for a log that waits for room.
 * So no wake-up is lost, and none is sent to who is awake.
 *
 * Nothing here calls the system or knows of messages; all words are lock-free atomics.
 */
#ifndef REDD_SHARED_H
#define REDD_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

#define SHARED_LOG_MAGIC     0x72696e67u
#define SHARED_CONTROL_MAGIC 0x72656164u
#define SHARED_LAYOUT	     1u /* of both, as far as described here */
#define SHARED_CONTROL_SIZE  KIB(4)

/* At offset 0 of a log's memfd. The data begin at header_size. */
struct shared_log {
	uint32_t magic;
	uint32_t version; /* of the whole header: the broker's own business */
	uint32_t header_size;
	uint32_t size;		  /* of the data: a power of two */
	uint32_t checksum_layout; /* the broker's own business */
	uint32_t layout;	  /* SHARED_LAYOUT */
	uint32_t pad[10];

	uint64_t head;	  /* bytes written since the stream began: its total */
	uint64_t tail;	  /* the oldest byte that is kept; rises before its byte is overwritten */
	uint64_t ended;	  /* not 0: nothing comes behind head */
	uint64_t waiting; /* not 0: a reader that may block tells when it has read up to here */
	uint64_t reserved[4];
};

#define SHARED_AWAKE UINT64_MAX

/* One stream of a control page; in the order of Subscribed.starts. */
struct shared_reader {
	uint64_t position; /* the reader's: next byte to be read */
	uint64_t sleep;	   /* the reader's: wake me when head is past this; the broker takes it back
			    * to SHARED_AWAKE when it does */
	uint64_t skipped;  /* the reader's: bytes that it told as gaps */
	uint64_t reserved[5];
};

struct shared_control {
	uint32_t magic;
	uint32_t layout;
	uint32_t n_readers;
	uint32_t overflow;  /* the broker's: number of Overflow; BLOCK may become DROP */
	uint32_t overtaken; /* the reader's, with CANCEL: not 0 once it was */
	uint32_t pad;
	uint64_t subscription; /* its id */
	uint64_t reserved[4];
	struct shared_reader readers[PORT_STREAMS_MAX];
};

_Static_assert(sizeof(struct shared_log) == 128, "a wire format");
_Static_assert(offsetof(struct shared_log, head) == 64, "a wire format");
_Static_assert(sizeof(struct shared_reader) == 64, "a wire format");
_Static_assert(offsetof(struct shared_control, readers) == 64, "a wire format");
_Static_assert(sizeof(struct shared_control) <= SHARED_CONTROL_SIZE, "it is one page");

static inline uint64_t shared_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void shared_store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* --- the broker's side ----------------------------------------------------------------------- */

/* Publishes a word that the other side looks at behind its own fence, and lets what is loaded next
 * be no older. */
void shared_announce(uint64_t *word, uint64_t value);

/* Where the reader is, as far as that can be true: not before `from`, where it was, and not past
 * `head`. */
uint64_t shared_position(const struct shared_reader *r, uint64_t from, uint64_t head);

/* After head was published (or ended): the reader sleeps and has to be woken, once. */
bool shared_take_sleeper(struct shared_reader *r, uint64_t head, bool has_ended);

/* --- the client's side ----------------------------------------------------------------------- */

/* A log as it is mapped: read-only, the data twice back to back. */
struct shared_view {
	const struct shared_log *log;
	const uint8_t *data;
	uint32_t size;
};

/* Header and size of the file make sense: then *ret_size is that of the data. */
bool shared_log_is_sound(const struct shared_log *log, uint64_t file_size, uint32_t *ret_size);

enum shared_what { SHARED_NOTHING, SHARED_DATA, SHARED_GAP };

struct shared_step {
	enum shared_what what;
	const uint8_t *data; /* DATA: in the log, or in `copy` */
	size_t size;	     /* DATA: 1 to `most` */
	uint64_t end;	     /* GAP: one past the last byte that is gone */
};

/* What is next at `position`. With `copy` (room for `most` bytes) the data are copied there, and
 * looked at again: what was overwritten meanwhile is a gap, never data. Without, they are shown
 * where they lie, which is for readers that cannot be overtaken. */
void shared_next(const struct shared_view *v, uint64_t position, size_t most, uint8_t *copy,
		 struct shared_step *ret);

/* The reader has moved from `before` to `after`. True: the broker waits for this, and is to be told
 * (a log that has no room, or has ended). */
bool shared_move(const struct shared_view *v, struct shared_reader *r, uint64_t before,
		 uint64_t after);

/* Goes to sleep at `position`. False: there is more to read, and it stays awake. */
bool shared_sleep(const struct shared_view *v, struct shared_reader *r, uint64_t position);

#endif
