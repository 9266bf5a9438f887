#include "tests/lib/spawn_bytes.h"

#include <assert.h>
#include <string.h>

void spawn_bytes_init(struct spawn_bytes *s)
{
	*s = (struct spawn_bytes){ .head.head.type = LINK_SPAWN };
}

void spawn_bytes_string(struct spawn_bytes *s, const char *text)
{
	size_t size = strlen(text) + 1;

	assert(s->strings_size + size <= sizeof(s->strings));
	memcpy(s->strings + s->strings_size, text, size);
	s->strings_size += size;
}

void spawn_bytes_program(struct spawn_bytes *s, const char *directory, const char *const *argv)
{
	spawn_bytes_string(s, directory);
	spawn_bytes_string(s, argv[0]);
	s->head.n_candidates = 1;
	for (; argv[s->head.argc]; s->head.argc++)
		spawn_bytes_string(s, argv[s->head.argc]);
	spawn_bytes_string(s, "PATH=/usr/bin:/bin");
	s->head.envc = 1;
}

void spawn_bytes_descriptor(struct spawn_bytes *s, uint32_t target, uint32_t source)
{
	s->descriptors[s->head.n_descriptors++] = (struct link_descriptor){ target, source };
}

void spawn_bytes_limit(struct spawn_bytes *s, uint32_t resource, uint64_t soft, uint64_t hard)
{
	s->limits[s->head.n_limits++] = (struct link_limit){ resource, 3, soft, hard };
}

void spawn_bytes_file(struct spawn_bytes *s, uint32_t target, uint32_t flags, const char *path)
{
	s->files[s->head.n_files++] = (struct link_file){ target, flags, 0600, s->head.n_paths++ };
	spawn_bytes_string(s, path);
}

static uint8_t *put(uint8_t *at, const void *data, size_t size)
{
	memset(at, 0, LINK_ALIGN(size));
	memcpy(at, data, size);
	return at + LINK_ALIGN(size);
}

size_t spawn_bytes_blocks(struct spawn_bytes *s, uint8_t *out)
{
	uint8_t *at = out;

	at = put(at, s->limits, s->head.n_limits * sizeof(s->limits[0]));
	at = put(at, s->groups, s->head.n_groups * sizeof(s->groups[0]));
	at = put(at, s->descriptors, s->head.n_descriptors * sizeof(s->descriptors[0]));
	at = put(at, s->files, s->head.n_files * sizeof(s->files[0]));
	at = put(at, s->strings, s->strings_size);
	s->head.strings_size = (uint32_t)s->strings_size;
	s->head.blocks_size = (uint32_t)(at - out);
	return (size_t)(at - out);
}

size_t spawn_bytes_datagram(struct spawn_bytes *s, uint32_t n_passed, uint8_t *out)
{
	size_t size = sizeof(s->head) + spawn_bytes_blocks(s, out + sizeof(s->head));

	s->head.n_passed = n_passed;
	s->head.head.size = (uint32_t)size;
	memcpy(out, &s->head, sizeof(s->head));
	return size;
}
