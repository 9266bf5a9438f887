/* The bounded queue of one input stream: what clients want written and the pipe has not taken yet.
 *
 * Each write is an item, taken whole or refused whole, written in the order in which it was taken,
 * never interleaved with another. A close is an item too: the last one.
 *
 * Offsets. `offset` of an item is where its first byte stands in the stream. It is final once a
 * byte of it is in the pipe, and clients are told of it only then; until then it moves down when an
 * item before it is cancelled. Who stated an offset for its write (INPUT_PINNED) was promised that
 * very one: when a cancelled item would move it, it is displaced instead: taken out unwritten and
 * returned by input_next_displaced(), to be answered as a write at the wrong offset. The same
 * happens to echoes. So an offset that was stated is kept or refused, never changed.
 *
 * Nothing here calls back; after each input_wrote(), input_push() and input_cancel() the owner
 * drains input_next_done() and input_next_displaced() and compares input_is_busy() with before.
 */
#ifndef REDD_INPUT_H
#define REDD_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/base/list.h"

struct input_item {
	struct list link; /* private while the item is queued */
	uint64_t offset;  /* of its first byte in the stream */
	size_t size;
	size_t done; /* bytes that are in the pipe */
	bool is_close;
	bool is_pinned;	    /* its offset was stated by the client */
	bool is_guest;	    /* past the bound: counts as one of INPUT_GUESTS_MAX */
	void *cookie;	    /* the owner's; the queue never looks at it */
	const void *writer; /* set by the owner; compared by input_has_of(), and nothing else */
	uint8_t data[];
};

struct input {
	struct list items;     /* in order; finished ones in front, a close last */
	struct list displaced; /* wait for input_next_displaced() */
	uint64_t written;      /* bytes in the pipe since the stream was opened */
	uint64_t queued;       /* bytes that wait */
	uint32_t n_items, n_guests;
	uint32_t high, low, bound;
	bool is_busy;
	bool is_closed; /* a close is queued or was taken */
};

#define INPUT_E_BUSY	1 /* no_wait, and the input is busy */
#define INPUT_E_FULL	2 /* past the bound: nothing was taken */
#define INPUT_E_CLOSED	3 /* a close is queued or done */
#define INPUT_E_STARTED 4 /* bytes of it are in the pipe: it cannot be cancelled */

enum input_flag {
	INPUT_NO_WAIT = 1 << 0, /* refuse while busy */
	INPUT_FORCE = 1 << 1,	/* busy or not, up to the bound; overrides INPUT_NO_WAIT */
	INPUT_PINNED = 1 << 2,	/* the client stated the offset: displace rather than move it */
	/* From a writer that has nothing queued: up to INPUT_GUEST_SIZE go past the bound, of
	 * INPUT_GUESTS_MAX writes at once. */
	INPUT_GUEST = 1 << 3,
};

/* high, low and bound are at least 1; a low above high is lowered to it. A high of INPUT_MARKS_OFF
 * is never reached. */
void input_init(struct input *in, uint32_t high, uint32_t low, uint32_t bound);

/* Frees every item that is left, in order, after on_drop(item, userdata) if there is one. */
void input_deinit(struct input *in, void (*on_drop)(struct input_item *item, void *userdata),
		  void *userdata);

/* Copies the data to the end of the queue with one allocation. 0, INPUT_E_BUSY, INPUT_E_FULL,
 * INPUT_E_CLOSED or -ENOMEM. An empty queue takes any one write, even one larger than the bound.
 * *ret_item (which may be NULL) belongs to the queue until input_next_done(),
 * input_next_displaced(), input_cancel() or on_drop() hands it out. Nothing at all (size 0) is done
 * when its turn comes. */
int input_push(struct input *in, const void *data, size_t size, unsigned int flags, void *cookie,
	       struct input_item **ret_item);

/* The same for a packet: header_size bytes (up to INPUT_HEADER_MAX) go in front of the data, and
 * both are one item. */
#define INPUT_HEADER_MAX 4u
int input_push_packet(struct input *in, const void *header, size_t header_size, const void *data,
		      size_t size, unsigned int flags, void *cookie, struct input_item **ret_item);
/* Something of that writer is queued. */
bool input_has_of(const struct input *in, const void *writer);

/* Queues the end. 0, INPUT_E_CLOSED or -ENOMEM. */
int input_push_close(struct input *in, void *cookie, struct input_item **ret_item);

/* What a write that states its offset is. */
enum input_offset {
	/* Goes to the end of the queue: input_push() with INPUT_PINNED. Of a repeat of which a
	 * first part was taken before, only what is behind input_accepted(). */
	INPUT_OFFSET_NEXT,
	INPUT_OFFSET_WRITTEN, /* a repeat; all of it is in the pipe: answer it as before */
	INPUT_OFFSET_PENDING, /* a repeat; it is queued: input_push_echo() */
	INPUT_OFFSET_WRONG,   /* neither: OUT_OF_RANGE */
};
enum input_offset input_check_offset(const struct input *in, uint64_t offset, size_t size);

/* For a repeat that is PENDING: an item without data that is done as soon as the bytes before
 * offset + size are in the pipe, and displaced if they never will be. 0, INPUT_E_FULL or -ENOMEM.
 */
int input_push_echo(struct input *in, uint64_t offset, size_t size, void *cookie,
		    struct input_item **ret_item);

/* The next bytes to write, up to `max` pieces; never past a close. Returns the number of pieces. */
int input_iov(const struct input *in, struct iovec *iov, int max);

/* The first n of them (not more than input_iov() told) are in the pipe. */
void input_wrote(struct input *in, size_t n);

/* The next item all of whose bytes are in the pipe, in order, or NULL. The caller owns it and frees
 * it with input_item_free(). */
struct input_item *input_next_done(struct input *in);

/* The next item that lost its promised offset, or NULL. The caller owns it. */
struct input_item *input_next_displaced(struct input *in);

void input_item_free(struct input_item *item);
DEFINE_CLEANUP(struct input_item, input_item_free)

/* True when all before a queued close is written and done ones are handed out. */
bool input_close_is_due(const struct input *in);

/* Takes the close that is due out of the queue, or NULL. The caller owns it. Nothing can be pushed
 * ever after. */
struct input_item *input_take_close(struct input *in);

/* Takes an item out that has not begun: 0, the caller owns it then, or INPUT_E_STARTED. A close can
 * be cancelled while it is queued; the input takes writes again then. */
int input_cancel(struct input *in, struct input_item *item);

/* At or above high, and since then not below low. */
bool input_is_busy(const struct input *in);

bool input_is_closed(const struct input *in);	 /* a close is queued or done */
uint64_t input_offset(const struct input *in);	 /* bytes in the pipe so far */
uint64_t input_accepted(const struct input *in); /* those and what is queued: the next offset */
size_t input_queued(const struct input *in);

/* Writes that are not done: one that has begun, and those behind it. A close is none. */
uint32_t input_waiting(const struct input *in);

/* Bytes that may be under way at once without a refusal: the bound. */
uint32_t input_window(const struct input *in);

#endif
