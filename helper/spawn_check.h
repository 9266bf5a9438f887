/* Checks a LINK_SPAWN message completely and says where its parts are. Pure: nothing is copied but
 * pointers, nothing of the message is trusted before it was checked.
 */
#ifndef REDD_HELPER_SPAWN_CHECK_H
#define REDD_HELPER_SPAWN_CHECK_H

#include <stddef.h>

#include "helper/link.h"

/* More arguments and variables than any execve(2) takes: 6 MiB at nine bytes for the shortest. */
#define SPAWN_STRINGS_MAX 1048576u
/* Blocks in a memfd: the largest frame is not larger. */
#define SPAWN_BLOCKS_MAX FRAME_MAX_HIGHEST

#define SPAWN_CHECK_E_INVALID 1 /* some size, count, index, number or string is wrong */
#define SPAWN_CHECK_E_TOO_BIG 2 /* could never be executed: E2BIG */

/* Points into the message and its blocks, and is good as long as they are. */
struct spawn_view {
	struct link_spawn head;
	const struct link_limit *limits;
	const uint32_t *groups;
	const struct link_descriptor *descriptors;
	const struct link_file *files;
	const char *strings; /* strings_size bytes */
	/* Set by spawn_check_strings(). */
	const char *directory;
	char **candidates; /* n_candidates */
	char **argv;	   /* argc and NULL; argv[-1] is a spare place */
	char **envp;	   /* envc and NULL */
	char **paths;	   /* n_paths */
};

/* Checks the fixed part of a datagram that came with n_fds descriptors. 0 or SPAWN_CHECK_E_*. */
int spawn_check_head(const void *datagram, size_t size, size_t n_fds, struct spawn_view *ret);

/* Checks the blocks, aligned to 8 bytes, that belong to the head in *v: what follows the head in
 * the datagram, or the memfd's content. 0 or SPAWN_CHECK_E_INVALID. */
int spawn_check_blocks(struct spawn_view *v, const void *blocks, size_t size);

/* How many pointers spawn_check_strings() needs; at most SPAWN_STRINGS_MAX and a few. */
size_t spawn_check_n_pointers(const struct spawn_view *v);

/* Checks the strings and puts a pointer to each into `pointers`. 0 or SPAWN_CHECK_E_INVALID. */
int spawn_check_strings(struct spawn_view *v, char **pointers);

#endif
