/* Where a program is looked for, as a shell does it: a list of paths to execute one after another
 * until one does.
 */
#ifndef REDD_CANDIDATES_H
#define REDD_CANDIDATES_H

#include "broker/string_block.h"

/* When neither the request nor the child's environment has one. */
#define CANDIDATES_DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

/* Most directories and bytes of one list. */
#define CANDIDATES_MAX	     1024u
#define CANDIDATES_BYTES_MAX (1024u * 1024u)

#define CANDIDATES_E_TOO_MANY 1 /* the search path is too long */
#define CANDIDATES_E_NONE     2 /* no directory gives a path shorter than PATH_MAX */

/* Appends the candidates to *out. A program with a slash is the only one; else one for each
 * directory of search_path (':' between them; an empty one, also in front, at the end, or when all
 * is empty, is the directory of the child: "./program"). Paths that the system would refuse for
 * their length are left out. search_path NULL: the default one. program is checked
 * (names_check_program()). 0, CANDIDATES_E_TOO_MANY, CANDIDATES_E_NONE or -ENOMEM. */
int candidates_add(struct string_block *out, const void *program, size_t program_size,
		   const void *search_path, size_t search_path_size);

#endif
