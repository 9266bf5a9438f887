/* The flat record of one spawn, as the forker reads it (helper/link.h): put together piece by
 * piece, then made into one datagram, or a datagram and a sealed memfd when it is large.
 */
#ifndef REDD_BROKER_SPAWN_RECORD_H
#define REDD_BROKER_SPAWN_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "helper/link.h"
#include "proto/base/buf.h"

struct spawn_record {
	struct link_spawn head; /* flags, ids, umask, nice: set by the caller */
	struct buf limits, groups, descriptors, files;
	struct buf directory, candidates, arguments, environment, paths;
	int error; /* the first failure of any add, reported by seal */
};

void spawn_record_init(struct spawn_record *s);
void spawn_record_deinit(struct spawn_record *s);

/* Strings are given with their size, without NUL, and must hold none. Blocks are strings that end
 * in NUL each, as many as `count` says. */
void spawn_record_directory(struct spawn_record *s, const void *path, size_t size);
void spawn_record_candidates(struct spawn_record *s, const void *block, size_t size,
			     uint32_t count);
void spawn_record_argument(struct spawn_record *s, const void *text, size_t size);
void spawn_record_environment(struct spawn_record *s, const void *block, size_t size,
			      uint32_t count);
void spawn_record_descriptor(struct spawn_record *s, uint32_t target, uint32_t source);
void spawn_record_file(struct spawn_record *s, uint32_t target, uint32_t flags, uint32_t mode,
		       const void *path, size_t size);
/* `target` becomes a duplicate of the child's own descriptor `other`, after files were opened. */
void spawn_record_same(struct spawn_record *s, uint32_t target, uint32_t other);
void spawn_record_limit(struct spawn_record *s, const struct link_limit *limit);
void spawn_record_group(struct spawn_record *s, uint32_t gid);

/* Makes the datagram (malloc'd, the caller's) and perhaps the memfd (else -1). n_passed is the
 * number of the child's descriptors, the memfd not counted. 0; -E2BIG when it is larger than any
 * program could be started with; another negative errno. */
int spawn_record_seal(struct spawn_record *s, uint32_t n_passed, uint8_t **ret_record,
		      size_t *ret_size, int *ret_memfd);

#endif
