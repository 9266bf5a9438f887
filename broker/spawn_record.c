#include "broker/spawn_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"

/* execve(2) takes three quarters of 8 MiB at the most (_STK_LIM / 4 * 3), so more can never run. */
#define BLOCK_MAX MIB(16)

void spawn_record_init(struct spawn_record *s)
{
	*s = (struct spawn_record){ .head.head.type = LINK_SPAWN };
	for (struct buf *b = &s->limits; b <= &s->paths; b++)
		buf_init(b, BLOCK_MAX);
}

void spawn_record_deinit(struct spawn_record *s)
{
	for (struct buf *b = &s->limits; b <= &s->paths; b++)
		buf_deinit(b);
}

static void add(struct spawn_record *s, struct buf *b, const void *data, size_t size)
{
	int r = buf_append(b, data, size);

	if (r && !s->error)
		s->error = r < 0 ? r : -E2BIG;
}

static void add_string(struct spawn_record *s, struct buf *b, const void *text, size_t size)
{
	add(s, b, text, size);
	add(s, b, "", 1);
}

void spawn_record_directory(struct spawn_record *s, const void *path, size_t size)
{
	add(s, &s->directory, path, size);
}

void spawn_record_candidates(struct spawn_record *s, const void *block, size_t size, uint32_t count)
{
	add(s, &s->candidates, block, size);
	s->head.n_candidates += count;
}

void spawn_record_argument(struct spawn_record *s, const void *text, size_t size)
{
	add_string(s, &s->arguments, text, size);
	s->head.argc++;
}

void spawn_record_environment(struct spawn_record *s, const void *block, size_t size,
			      uint32_t count)
{
	add(s, &s->environment, block, size);
	s->head.envc += count;
}

void spawn_record_descriptor(struct spawn_record *s, uint32_t target, uint32_t source)
{
	add(s, &s->descriptors, &(struct link_descriptor){ target, source },
	    sizeof(struct link_descriptor));
	s->head.n_descriptors++;
}

void spawn_record_file(struct spawn_record *s, uint32_t target, uint32_t flags, uint32_t mode,
		       const void *path, size_t size)
{
	struct link_file file = { target, flags, mode, s->head.n_paths++ };

	add(s, &s->files, &file, sizeof(file));
	add_string(s, &s->paths, path, size);
	s->head.n_files++;
}

void spawn_record_same(struct spawn_record *s, uint32_t target, uint32_t other)
{
	struct link_file file = { .target = target, .flags = LINK_FILE_SAME, .path = other };

	add(s, &s->files, &file, sizeof(file));
	s->head.n_files++;
}

void spawn_record_limit(struct spawn_record *s, const struct link_limit *limit)
{
	add(s, &s->limits, limit, sizeof(*limit));
	s->head.n_limits++;
}

void spawn_record_group(struct spawn_record *s, uint32_t gid)
{
	add(s, &s->groups, &gid, sizeof(gid));
	s->head.n_groups++;
}

static uint8_t *put(uint8_t *at, const struct buf *b)
{
	if (buf_size(b))
		memcpy(at, buf_head(b), buf_size(b));
	return at + buf_size(b);
}

static uint8_t *put_aligned(uint8_t *at, const struct buf *b)
{
	put(at, b);
	return at + LINK_ALIGN(buf_size(b));
}

static size_t strings_size(const struct spawn_record *s)
{
	return buf_size(&s->directory) + 1 + buf_size(&s->candidates) + buf_size(&s->arguments) +
	       buf_size(&s->environment) + buf_size(&s->paths);
}

static size_t blocks_size(const struct spawn_record *s)
{
	return LINK_ALIGN(buf_size(&s->limits)) + LINK_ALIGN(buf_size(&s->groups)) +
	       LINK_ALIGN(buf_size(&s->descriptors)) + LINK_ALIGN(buf_size(&s->files)) +
	       LINK_ALIGN(strings_size(s));
}

/* `at` has room for blocks_size() zeroed bytes. */
static void blocks_put(const struct spawn_record *s, uint8_t *at)
{
	at = put_aligned(at, &s->limits);
	at = put_aligned(at, &s->groups);
	at = put_aligned(at, &s->descriptors);
	at = put_aligned(at, &s->files);
	at = put(at, &s->directory) + 1;
	at = put(at, &s->candidates);
	at = put(at, &s->arguments);
	at = put(at, &s->environment);
	put(at, &s->paths);
}

static int blocks_memfd(const uint8_t *blocks, size_t size, int *ret_memfd)
{
	_cleanup_(fd_closep) int fd = memfd_create("redd-spawn", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return err_errno();
	r = fd_write_all(fd, blocks, size);
	if (r < 0)
		return err_pass(r);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_errno();
	*ret_memfd = TAKE_FD(fd);
	return 0;
}

int spawn_record_seal(struct spawn_record *s, uint32_t n_passed, uint8_t **ret_record,
		      size_t *ret_size, int *ret_memfd)
{
	_cleanup_(freep) uint8_t *record = NULL;
	size_t blocks = blocks_size(s), size = sizeof(s->head) + blocks;
	int r, memfd = -1;

	if (s->error)
		return err_pass(s->error);
	if (blocks > BLOCK_MAX)
		return err_begin(-E2BIG);
	record = calloc(1, size);
	if (!record)
		return err_begin(-ENOMEM);
	blocks_put(s, record + sizeof(s->head));
	s->head.n_passed = n_passed;
	s->head.strings_size = (uint32_t)strings_size(s);
	s->head.blocks_size = (uint32_t)blocks;
	if (size > LINK_DATAGRAM_MAX) {
		r = blocks_memfd(record + sizeof(s->head), blocks, &memfd);
		if (r < 0)
			return err_pass(r);
		s->head.flags |= LINK_SPAWN_MEMFD;
		size = sizeof(s->head);
	}
	s->head.head.size = (uint32_t)size;
	memcpy(record, &s->head, sizeof(s->head));
	*ret_record = TAKE(record);
	*ret_size = size;
	*ret_memfd = memfd;
	return 0;
}
