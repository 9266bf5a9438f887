/* The memory of a ring: a sealed memfd, a header in front of the data, and the data mapped twice
 * back to back. This is what a successor of the broker, and a client that is handed the memfd,
 * find.
 */
#ifndef REDD_RING_MEMORY_H
#define REDD_RING_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "broker/checksum.h"

#define RING_MAGIC   0x72696e67u
#define RING_VERSION 2u

/* At offset 0 of the memfd; the data begin at header_size, a whole number of pages. All is written
 * by the broker alone. head and tail are published with release stores, tail *before* the bytes
 * below it are overwritten: who copies bytes out reads tail again afterwards and throws away what
 * it has passed. */
struct ring_header {
	uint32_t magic;
	uint32_t version;
	uint32_t header_size;
	uint32_t size;		  /* of the data: a power of two */
	uint32_t checksum_layout; /* checksum_layout(), or 0: none is kept */
	uint32_t pad[11];

	uint64_t head; /* bytes written since the stream began: its total */
	uint64_t tail; /* the oldest byte that is kept */
	/* What a read that is on its way is to bring: `expected` bytes from `expected_at` on; it
	 * counts only while that is head. The place of its last bytes holds RING_BLANK until it has
	 * brought them, which the kernel does at once: all or none. */
	uint64_t expected_at, expected;
	uint64_t reserved[4];

	/* The one whose `total` is head counts; the other is being written, or older. */
	struct checksum_state checksum[2];
};

struct ring_memory {
	int fd; /* -1: none */
	struct ring_header *header;
	uint8_t *data;
	uint32_t header_size;
	uint32_t size;
};

/* Makes an empty one; size is a power of two and a multiple of the page size. 0 or a negative
 * errno.
 */
int ring_memory_make(uint32_t size, struct ring_memory *ret);

/* Checks and maps one that another process made (head, tail and checksum are not looked at);
 * take_fd is consumed. 0, RING_E_BAD, RING_E_SEALED (ring.h) or a negative errno. */
int ring_memory_adopt(int take_fd, struct ring_memory *ret);

/* Unmaps and closes; harmless when there is none. */
void ring_memory_drop(struct ring_memory *m);

/* Head and tail 0, no checksum. */
void ring_memory_reset(struct ring_memory *m);

#endif
