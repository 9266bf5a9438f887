/* Inside of the parser of regular expressions: what its three files share.
 *
 *	pattern.c	  sequences, alternatives, groups
 *	pattern_class.c	  escapes and classes
 *	pattern_repeat.c  quantifiers
 *
 * Functions that return int: 0, PROGRAM_E_BAD with p->error, PROGRAM_E_FULL or -ENOMEM.
 */
#ifndef REDD_BROKER_PATTERN_H
#define REDD_BROKER_PATTERN_H

#include <string.h>

#include "broker/program.h"

struct parser {
	struct program *program;
	const uint8_t *text;
	size_t size, at;
	unsigned depth, n_groups;
	bool ignore_case, dot_all;
	struct pattern_error *error;
};

/* What was just read. */
struct piece {
	size_t at;	  /* its first instruction */
	bool is_nullable; /* it can match nothing */
	bool is_assertion;
};

static inline int parser_refuse(struct parser *p, size_t at, const char *what)
{
	p->error->at = at;
	p->error->what = what;
	return PROGRAM_E_BAD;
}

static inline bool parser_has(const struct parser *p)
{
	return p->at < p->size;
}

/* The next byte, or -1. */
static inline int parser_peek(const struct parser *p)
{
	return parser_has(p) ? p->text[p->at] : -1;
}

/* Takes the word, if it comes next. */
static inline bool parser_accept(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	if (p->size - p->at < n || memcmp(p->text + p->at, word, n) != 0)
		return false;
	p->at += n;
	return true;
}

/* Behind a backslash: a single byte. */
int pattern_escape(struct parser *p, uint8_t *ret);

/* Behind '[': appends the set. */
int pattern_class(struct parser *p);

/* Behind an atom, of which the instructions are the last ones: its quantifier, if there is one. */
int pattern_quantify(struct parser *p, struct piece *piece);

#endif
