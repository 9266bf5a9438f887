/* Bytes of no fixed size for a successor, in a memfd: in a piece of its own that was given room for
 * them. They are written once and read once, with pwrite(2) and pread(2), unmapped, so that pieces
 * that were never used cost no memory. A checksum tells what is whole; whose they are stands with
 * them, and another owner's mean nothing, so they need not go with their owner.
 */
#ifndef REDD_BROKER_RECORD_PIECE_H
#define REDD_BROKER_RECORD_PIECE_H

#include <stdint.h>
#include <sys/types.h>

struct record_piece {
	uint64_t owner; /* never 0 */
	uint64_t sum;	/* XXH3 of the bytes, seeded with the owner */
	uint32_t size;	/* of the bytes */
	uint32_t n;	/* the owner's: what they are */
};

/* Writes head->size bytes to the piece at `at`; the sum is set here. 0 or a negative errno. */
int record_piece_write(int fd, off_t at, struct record_piece *head, const void *bytes);

/* Reads those of head->owner, of which `room` bytes at most may be. 0; RECORD_PIECE_E_NONE: there
 * are none; RECORD_PIECE_E_BAD: they are broken; or a negative errno. */
#define RECORD_PIECE_E_NONE 1
#define RECORD_PIECE_E_BAD  2
int record_piece_read(int fd, off_t at, struct record_piece *head, void *ret_bytes, uint32_t room);

/* The owner is gone: gives memory back that one with few bytes would not use. `room`: whole pages
 * of the piece. */
void record_piece_drop(int fd, off_t at, uint32_t room);

#endif
