/* LINK_SPAWN messages for tests, put together by hand so that each part of them can lie. */
#ifndef TESTS_LIB_SPAWN_BYTES_H
#define TESTS_LIB_SPAWN_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "helper/link.h"

struct spawn_bytes {
	struct link_spawn head; /* flags, ids and counts of the fixed parts */
	struct link_limit limits[8];
	uint32_t groups[8];
	struct link_descriptor descriptors[PORT_FDS_MAX];
	struct link_file files[8];
	char strings[65536];
	size_t strings_size;
};

/* Nothing yet. */
void spawn_bytes_init(struct spawn_bytes *s);

/* Appends one string; they are added in the record's order. The counts are the caller's. */
void spawn_bytes_string(struct spawn_bytes *s, const char *text);

/* Directory, one candidate (argv[0]), argv, and one variable; sets their counts. */
void spawn_bytes_program(struct spawn_bytes *s, const char *directory, const char *const *argv);

void spawn_bytes_descriptor(struct spawn_bytes *s, uint32_t target, uint32_t source);
void spawn_bytes_limit(struct spawn_bytes *s, uint32_t resource, uint64_t soft, uint64_t hard);

/* A file that the child opens; its path follows the program's strings. */
void spawn_bytes_file(struct spawn_bytes *s, uint32_t target, uint32_t flags, const char *path);

/* Writes the blocks (8-byte aligned parts) and sets their size in the head; returns it. `out` has
 * room for all of the struct. */
size_t spawn_bytes_blocks(struct spawn_bytes *s, uint8_t *out);

/* The whole datagram; returns its size. */
size_t spawn_bytes_datagram(struct spawn_bytes *s, uint32_t n_passed, uint8_t *out);

#endif
