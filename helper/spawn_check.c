/* In three steps, as memory must be found between them: head (counts), blocks (ranges), strings
 * (pointers). Sizes are added in 64 bits, so no count can wrap around.
 */
#include "helper/spawn_check.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>

#include "proto/base/cleanup.h"

#define ALL_FLAGS ((LINK_SPAWN_OWN_LIMITS << 1) - 1)

static uint64_t n_strings(const struct link_spawn *s)
{
	return 1ull + s->n_candidates + s->argc + s->envc + s->n_paths;
}

static uint64_t blocks_size(const struct link_spawn *s)
{
	return LINK_ALIGN(s->n_limits * (uint64_t)sizeof(struct link_limit)) +
	       LINK_ALIGN(s->n_groups * (uint64_t)sizeof(uint32_t)) +
	       LINK_ALIGN(s->n_descriptors * (uint64_t)sizeof(struct link_descriptor)) +
	       LINK_ALIGN(s->n_files * (uint64_t)sizeof(struct link_file)) +
	       LINK_ALIGN((uint64_t)s->strings_size);
}

static bool counts_are_right(const struct link_spawn *s)
{
	return s->n_passed <= PORT_FDS_MAX && s->n_descriptors <= PORT_FDS_MAX &&
	       s->n_files <= PORT_FDS_MAX && s->n_paths <= s->n_files &&
	       s->n_limits <= RLIM_NLIMITS && s->n_groups <= NGROUPS_MAX && s->n_candidates >= 1 &&
	       s->argc >= 1;
}

static bool numbers_are_right(const struct link_spawn *s)
{
	/* An id of -1 would mean "leave as it is", which is the forker's. */
	if ((s->flags & LINK_SPAWN_IDS) && (s->uid == UINT32_MAX || s->gid == UINT32_MAX))
		return false;
	if ((s->flags & LINK_SPAWN_OWN_LIMITS) && !(s->flags & LINK_SPAWN_IDS))
		return false;
	if ((s->flags & LINK_SPAWN_UMASK) && s->umask > 0777)
		return false;
	if ((s->flags & LINK_SPAWN_TERMINAL) && s->terminal_source >= s->n_passed)
		return false;
	return !(s->flags & ~(uint32_t)ALL_FLAGS);
}

int spawn_check_head(const void *datagram, size_t size, size_t n_fds, struct spawn_view *ret)
{
	struct link_spawn *s = &ret->head;
	size_t has_memfd, follows;

	if (size < sizeof(*s))
		return SPAWN_CHECK_E_INVALID;
	memcpy(s, datagram, sizeof(*s));
	has_memfd = !!(s->flags & LINK_SPAWN_MEMFD);
	follows = size - sizeof(*s);
	if (s->head.type != LINK_SPAWN || s->head.size != size || !counts_are_right(s) ||
	    !numbers_are_right(s))
		return SPAWN_CHECK_E_INVALID;
	if (n_fds != 1 + s->n_passed + has_memfd || s->blocks_size != blocks_size(s))
		return SPAWN_CHECK_E_INVALID;
	if (has_memfd ? follows != 0 : follows != s->blocks_size)
		return SPAWN_CHECK_E_INVALID;
	if (s->blocks_size > SPAWN_BLOCKS_MAX || n_strings(s) > SPAWN_STRINGS_MAX)
		return SPAWN_CHECK_E_TOO_BIG;
	return n_strings(s) > s->strings_size ? SPAWN_CHECK_E_INVALID : 0;
}

static bool limits_are_right(const struct spawn_view *v)
{
	for (uint32_t i = 0; i < v->head.n_limits; i++)
		if (v->limits[i].resource >= RLIM_NLIMITS || v->limits[i].set < 1 ||
		    v->limits[i].set > 3)
			return false;
	return true;
}

static bool descriptors_are_right(const struct spawn_view *v)
{
	uint8_t seen[CHILD_FD_MAX / 8 + 1] = { 0 };

	for (uint32_t i = 0; i < v->head.n_descriptors; i++) {
		const struct link_descriptor *d = &v->descriptors[i];

		if (d->target > CHILD_FD_MAX ||
		    (d->source != LINK_SOURCE_NULL && d->source >= v->head.n_passed))
			return false;
		if (seen[d->target / 8] & 1u << d->target % 8)
			return false;
		seen[d->target / 8] |= (uint8_t)(1u << d->target % 8);
	}
	return true;
}

static bool files_are_right(const struct spawn_view *v)
{
	for (uint32_t i = 0; i < v->head.n_files; i++) {
		const struct link_file *f = &v->files[i];

		if (f->target > CHILD_FD_MAX)
			return false;
		if (f->flags == LINK_FILE_SAME ? f->path > CHILD_FD_MAX || f->path == f->target
					       : f->path >= v->head.n_paths)
			return false;
	}
	return true;
}

int spawn_check_blocks(struct spawn_view *v, const void *blocks, size_t size)
{
	const char *at = blocks;

	if (size != v->head.blocks_size || (uintptr_t)blocks % 8)
		return SPAWN_CHECK_E_INVALID;
	v->limits = (const void *)at;
	at += LINK_ALIGN(v->head.n_limits * sizeof(*v->limits));
	v->groups = (const void *)at;
	at += LINK_ALIGN(v->head.n_groups * sizeof(*v->groups));
	v->descriptors = (const void *)at;
	at += LINK_ALIGN(v->head.n_descriptors * sizeof(*v->descriptors));
	v->files = (const void *)at;
	at += LINK_ALIGN(v->head.n_files * sizeof(*v->files));
	v->strings = at;
	if (!limits_are_right(v) || !descriptors_are_right(v) || !files_are_right(v))
		return SPAWN_CHECK_E_INVALID;
	return 0;
}

size_t spawn_check_n_pointers(const struct spawn_view *v)
{
	return (size_t)n_strings(&v->head) - 1 + 3; /* spare, and two that end a vector */
}

struct walk {
	const char *at, *end;
	char **out;
	bool is_wrong;
};

static const char *next_string(struct walk *w)
{
	const char *string = w->at, *nul = memchr(string, '\0', (size_t)(w->end - string));

	if (!nul) {
		w->is_wrong = true;
		return string;
	}
	w->at = nul + 1;
	return string;
}

/* n strings and, if asked for, a NULL behind them. Returns where they begin. */
static char **next_vector(struct walk *w, uint32_t n, bool ends_in_null)
{
	char **vector = w->out;

	for (uint32_t i = 0; i < n && !w->is_wrong; i++)
		*w->out++ = (char *)next_string(w); /* execve(2) wants them so; nobody writes */
	if (ends_in_null && !w->is_wrong)
		*w->out++ = NULL;
	return vector;
}

int spawn_check_strings(struct spawn_view *v, char **pointers)
{
	struct walk w = { .at = v->strings,
			  .end = v->strings + v->head.strings_size,
			  .out = pointers };

	v->directory = next_string(&w);
	v->candidates = next_vector(&w, v->head.n_candidates, false);
	*w.out++ = NULL; /* the spare place before argv */
	v->argv = next_vector(&w, v->head.argc, true);
	v->envp = next_vector(&w, v->head.envc, true);
	v->paths = next_vector(&w, v->head.n_paths, false);
	return w.is_wrong || w.at != w.end ? SPAWN_CHECK_E_INVALID : 0;
}
