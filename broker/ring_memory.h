/* The memory of a ring: a sealed memfd, a header in front of the data, and the data mapped twice
 * back to back. This is what a successor of the broker, and a client that is handed the memfd,
 * find.
 */
#ifndef REDD_RING_MEMORY_H
#define REDD_RING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/checksum.h"
#include "broker/record_index.h"
#include "proto/shared.h"

#define RING_VERSION 2u

/* At offset 0 of the memfd; the data begin at header_size, a whole number of pages. All is written
 * by the broker alone. head and tail are published with release stores, tail *before* the bytes
 * below it are overwritten: who copies bytes out reads tail again afterwards and throws away what
 * it has passed. */
struct ring_header {
	struct shared_log log; /* what clients see; checksum_layout(), or 0: none is kept */
	/* The one whose `total` is head counts; the other is being written, or older. */
	struct checksum_state checksum[2];

	/* Fed after head is published, so it may be behind that by one write. */
	struct record_index index;
};

struct ring_memory {
	int fd; /* -1: none */
	struct ring_header *header;
	uint8_t *data;
	uint32_t header_size;
	uint32_t size;
	bool is_copy; /* made by ring_memory_adopt() */
};

/* Makes an empty one; size is a power of two and a multiple of the page size. 0 or a negative
 * errno.
 */
int ring_memory_make(uint32_t size, struct ring_memory *ret);

/* Checks and maps one that another process made (head, tail and checksum are not looked at). One
 * that is sealed, because a client was handed it, cannot be mapped for writing: then *ret is a
 * fresh one with the same contents, and is_copy says so. take_fd is consumed. 0, RING_E_BAD
 * (ring.h) or a negative errno. */
int ring_memory_adopt(int take_fd, struct ring_memory *ret);

/* Unmaps and closes; harmless when there is none. */
void ring_memory_drop(struct ring_memory *m);

/* Nobody can write to it from now on but through the maps that there are. Harmless when it is
 * sealed already. 0 or a negative errno. */
int ring_memory_seal(struct ring_memory *m);

/* Head and tail 0, no checksum. */
void ring_memory_reset(struct ring_memory *m);

#endif
