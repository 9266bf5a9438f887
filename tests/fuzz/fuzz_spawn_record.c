/* The forker's check of what a broker sends: any bytes. The first one says how many descriptors
 * came along, and with its highest bit set that the sizes in the head are to be made right, so that
 * what is behind them is reached at all. What passes is walked to its ends. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/spawn_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink;

static void walk(const struct spawn_view *v)
{
	for (uint32_t i = 0; i < v->head.n_candidates; i++)
		sink += strlen(v->candidates[i]);
	for (char **s = v->argv; *s; s++)
		sink += strlen(*s);
	for (char **s = v->envp; *s; s++)
		sink += strlen(*s);
	for (uint32_t i = 0; i < v->head.n_files; i++)
		if (v->files[i].flags != LINK_FILE_SAME)
			sink += strlen(v->paths[v->files[i].path]);
	for (uint32_t i = 0; i < v->head.n_groups; i++)
		sink += v->groups[i];
	sink += strlen(v->directory);
}

static void check(const uint8_t *bytes, size_t size, size_t n_fds)
{
	struct spawn_view v;
	char **pointers;

	if (spawn_check_head(bytes, size, n_fds, &v))
		return;
	if (spawn_check_blocks(&v, bytes + sizeof(v.head), size - sizeof(v.head)))
		return;
	pointers = malloc(spawn_check_n_pointers(&v) * sizeof(*pointers));
	if (pointers && spawn_check_strings(&v, pointers) == 0)
		walk(&v);
	free(pointers);
}

/* What is left of the blocks is the strings'. */
static void make_right(uint8_t *bytes, size_t size)
{
	struct link_spawn s;
	uint64_t fixed;

	if (size < sizeof(s))
		return;
	memcpy(&s, bytes, sizeof(s));
	s.head = (struct link_head){ LINK_SPAWN, (uint32_t)size };
	s.flags &= LINK_SPAWN_MEMFD - 1;
	s.n_limits %= 3, s.n_groups %= 3, s.n_descriptors %= 5, s.n_files %= 3;
	s.n_paths %= s.n_files + 1;
	s.n_candidates = 1 + s.n_candidates % 2, s.argc = 1 + s.argc % 3, s.envc %= 3;
	fixed = s.n_limits * sizeof(struct link_limit) + LINK_ALIGN(s.n_groups * 4) +
		s.n_descriptors * sizeof(struct link_descriptor) +
		s.n_files * sizeof(struct link_file);
	s.blocks_size = (uint32_t)(size - sizeof(s));
	s.strings_size = s.blocks_size - (uint32_t)fixed;
	memcpy(bytes, &s, sizeof(s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (!size)
		return 0;
	copy = malloc(size); /* exactly as long, so that one byte too far is seen */
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 0x80)
		make_right(copy, size - 1);
	check(copy, size - 1, data[0] & 0x7f);
	free(copy);
	return 0;
}
