/* The forker's check of what a broker sends: any bytes, in any alignment of parts. The first byte
 * is the number of descriptors that came along. What passes is walked to its ends. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (!size)
		return 0;
	copy = malloc(size); /* exactly as long, so that one byte too far is seen */
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	check(copy, size - 1, data[0]);
	free(copy);
	return 0;
}
