/* Where a program is looked for. The list is bounded before anything is added: a search path of a
 * million colons times a long program name would be gigabytes.
 */
#include "broker/candidates.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base/err.h"

struct search {
	const char *program;
	size_t program_size;
	const char *at, *end; /* the rest of the search path; NULL: through */
};

/* The next directory. */
static bool search_next(struct search *s, const char **ret_directory, size_t *ret_size)
{
	const char *colon;

	if (!s->at)
		return false;
	colon = s->at < s->end ? memchr(s->at, ':', (size_t)(s->end - s->at)) : NULL;
	*ret_directory = s->at;
	*ret_size = (size_t)((colon ? colon : s->end) - s->at);
	s->at = colon ? colon + 1 : NULL;
	return true;
}

/* Bytes of the candidate in that directory with its NUL; 0 when the system takes no such path. */
static size_t candidate_bytes(const struct search *s, size_t directory_size)
{
	size_t bytes = (directory_size ? directory_size : 1) + 1 + s->program_size + 1;

	return bytes <= PATH_MAX ? bytes : 0;
}

static int search_measure(struct search s, size_t *ret_bytes)
{
	const char *directory;
	size_t size, n = 0, bytes = 0;

	while (search_next(&s, &directory, &size)) {
		bytes += candidate_bytes(&s, size);
		if (++n > CANDIDATES_MAX || bytes > CANDIDATES_BYTES_MAX)
			return CANDIDATES_E_TOO_MANY;
	}
	*ret_bytes = bytes;
	return bytes ? 0 : CANDIDATES_E_NONE;
}

static int search_add(struct search s, struct string_block *out)
{
	const char *directory;
	size_t size;
	int r = 0;

	while (!r && search_next(&s, &directory, &size)) {
		if (!candidate_bytes(&s, size))
			continue;
		if (!size) {
			directory = ".";
			size = 1;
		}
		r = string_block_add_parts(out, directory, size, "/", s.program, s.program_size);
	}
	return r;
}

int candidates_add(struct string_block *out, const void *program, size_t program_size,
		   const void *search_path, size_t search_path_size)
{
	struct search s = { .program = program, .program_size = program_size };
	size_t bytes = 0;
	int r;

	if (memchr(program, '/', program_size))
		return string_block_add(out, program, program_size);
	if (!search_path) {
		search_path = CANDIDATES_DEFAULT_PATH;
		search_path_size = strlen(CANDIDATES_DEFAULT_PATH);
	}
	s.at = search_path;
	s.end = s.at + search_path_size;
	r = search_measure(s, &bytes);
	if (!r)
		r = string_block_reserve(out, bytes);
	if (!r)
		r = search_add(s, out);
	return err_pass(r);
}
