/* Patterns compiled for a search over a stream (search.h): byte strings and regular expressions, as
 * one list of instructions for all of them. Pure.
 *
 * The syntax is Perl's without what cannot be decided in one pass over bytes that come and go:
 *
 *	a . [a-z] [^a-z] [[:alpha:]]	bytes; '.' is any but newline
 *	\d \w \s \D \W \S		sets
 *	\n \r \t \f \v \a \e \xHH \x{HH}
 *	ab  a|b  (a)  (?:a)		(a) is a group, numbered by its '('
 *	a* a+ a? a{2} a{2,} a{2,4}	greedy; with a '?' behind: lazy
 *	^ $				begin and end of a line, or of all there is
 *	\b \B				at, or not at, the edge of a word
 *	\A \z				begin of the search, end of the stream
 *	(?i) (?s) (?i:a) (?-s)		small and capital ASCII letters alike; '.' is newline too
 *
 * Look-around, back references, possessive quantifiers and named groups are refused, as is UTF-8
 * beyond what bytes can say: a letter of several bytes is a string of bytes, not an element of a
 * set.
 *
 * Cost. A pattern of n bytes takes time in O(n) steps of parsing and at most PROGRAM_MAX
 * instructions, whatever its counts say; depth is bounded by PATTERN_DEPTH_MAX.
 */
#ifndef REDD_BROKER_PROGRAM_H
#define REDD_BROKER_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/byte_set.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"

enum insn_op {
	INSN_BYTE,   /* `value`, then on */
	INSN_SET,    /* a byte of sets[x], then on */
	INSN_JUMP,   /* x instructions on */
	INSN_SPLIT,  /* x on; and y on, which is preferred less */
	INSN_SAVE,   /* the offset into slot x */
	INSN_ASSERT, /* enum assertion x holds here */
	INSN_MATCH,  /* of pattern x */
};

enum assertion {
	ASSERT_LINE_BEGIN,
	ASSERT_LINE_END,
	ASSERT_BEGIN,
	ASSERT_END,
	ASSERT_WORD_EDGE,
	ASSERT_NO_WORD_EDGE,
};

struct insn {
	uint8_t op;
	uint8_t value;
	int32_t x, y;
};

struct program {
	struct insn *insns; /* owned */
	size_t n_insns, capacity;
	struct byte_set *sets; /* owned */
	size_t n_sets, sets_capacity;
	unsigned n_slots;			/* two for the match and for each group, of the
						   pattern that has most */
	unsigned n_groups[EXPECT_PATTERNS_MAX]; /* of each pattern */
	unsigned n_patterns;
};

struct pattern {
	const uint8_t *text; /* n bytes; not zero-terminated */
	size_t size;
	bool is_regex;	  /* else the bytes themselves */
	bool ignore_case; /* of ASCII letters */
};

/* Why a pattern is refused: a static sentence, and where in the pattern. */
struct pattern_error {
	const char *what;
	unsigned pattern;
	size_t at;
};

#define PROGRAM_E_BAD 1 /* *ret_error says what */

/* Compiles 1 to EXPECT_PATTERNS_MAX patterns; the first in the list is preferred among those that
 * match from the same byte on. 0, PROGRAM_E_BAD or -ENOMEM; on failure there is nothing to free. */
int program_compile(struct program *ret, const struct pattern *patterns, size_t n,
		    struct pattern_error *ret_error);

/* Zeroed ones are harmless. */
void program_deinit(struct program *p);

/* Bytes that it takes. */
size_t program_size(const struct program *p);

/* --- for the parser (pattern.c) -------------------------------------------------------------- */

#define PROGRAM_E_FULL 2 /* PROGRAM_MAX instructions are there */

/* Each 0, PROGRAM_E_FULL or -ENOMEM. */
int program_add(struct program *p, enum insn_op op, int32_t x, int32_t y);
int program_add_byte(struct program *p, uint8_t byte);
int program_add_set(struct program *p, const struct byte_set *set);

/* Puts one in front of those from `at` on; jumps within them stay right. */
int program_insert(struct program *p, size_t at, enum insn_op op, int32_t x, int32_t y);

/* Appends the n instructions from `at` on once more. */
int program_repeat(struct program *p, size_t at, size_t n);

/* Appends a regular expression, without the save of the match around it. The first group is number
 * 1. 0, PROGRAM_E_BAD with *ret_error (but for the number of the pattern), or -ENOMEM. */
int pattern_parse(struct program *p, const struct pattern *pattern, unsigned *ret_groups,
		  struct pattern_error *ret_error);

#endif
