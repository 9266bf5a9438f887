/* A search for the first match of some patterns (program.h) in a stream that comes in pieces. Pure:
 * it knows nothing of streams, logs and clients, only bytes and their offsets.
 *
 * What it finds does not depend on where the stream was cut: the match that begins first; of those
 * that begin at the same byte, that of the pattern that is first in the list; within a pattern what
 * Perl would prefer. A match that could still become another one is not decided; search_best()
 * tells it.
 *
 * Every byte is looked at once and then forgotten. It costs at most as many steps as the program
 * has instructions, whatever patterns and bytes: no backtracking, no second look, no memory but
 * what search_new() took. A step is some nanoseconds; where a search stops for others is the
 * caller's to say.
 *
 * No library does all of that. Processor time, by tests/bench/search.c:
 *
 * - PCRE2's pcre2_match() has all but the bound. Its limit is for what begins at one byte, not for
 *   a call. `(a|aa)+$` either ends at it, and nobody knows whether there is a match, or stays just
 *   under it and holds the loop for 0.6 s in 16 KiB, 50 ms as compiled code (here 0.1 ms).
 * - pcre2_dfa_match() can go on where it stopped, but has no groups, prefers the longest and does
 *   not tell which pattern it was. It tries one begin after another: `x[^y]*z` costs 17 us a byte
 *   in lines of 4 KiB, and more in longer ones (here 36 ns). The log has to stay from where a match
 *   may have begun.
 * - Vectorscan is made for streams: 0.1 to 0.7 ns a byte where this takes 2 to 25, when it was
 *   tried beside the bench. But it reports ends: no groups, nothing of what Perl prefers, no word
 *   on whether an earlier begin is still possible. Asked for begins it refuses `(.*a){20}b`, and
 *   takes 0.2 s to compile `[ab]*a[ab]{12}c`.
 * - TRE and regexec() come back when they have all bytes; so does RE2, which is C++ besides.
 *
 * The price is speed: with ordinary patterns pcre2_match() is 2 to 6 times as fast, its compiled
 * code 3 to 14 times, and up to 28 where all of the output is one match.
 */
#ifndef REDD_BROKER_SEARCH_H
#define REDD_BROKER_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include "broker/program.h"
#include "proto/base/cleanup.h"

struct search;

#define SEARCH_UNSET UINT64_MAX

/* begins[0] to ends[0]: the match; [1] and on: its groups, SEARCH_UNSET when not part of it. */
struct search_match {
	unsigned pattern;  /* number in the list */
	unsigned n_ranges; /* 1 and the pattern's groups */
	uint64_t begins[EXPECT_GROUPS_MAX + 1];
	uint64_t ends[EXPECT_GROUPS_MAX + 1];
};

/* Takes the program, also on failure (it is empty then). `from` is the offset of the first byte
 * that will be fed; `previous` is the byte in front of it, or -1 when there is none, or nobody
 * knows: then it is the begin of a line. 0 or -ENOMEM. */
int search_new(struct search **ret, struct program *take_program, uint64_t from, int previous);
void search_free(struct search *s);
DEFINE_CLEANUP(struct search, search_free)

/* Bytes that a search with this program takes, itself included. */
size_t search_size(const struct program *p);

enum search_result {
	SEARCH_HUNGRY, /* all was looked at, nothing is decided */
	SEARCH_TIRED,  /* max_steps are done: bytes are left */
	SEARCH_FOUND,  /* search_best() is the match; nothing more is to be fed */
	SEARCH_NONE,   /* search_end(): there is none */
};

/* Looks at the next bytes: those from search_offset() on. With max_steps of 0 at one of them. */
enum search_result search_feed(struct search *s, const uint8_t *data, size_t size,
			       uint64_t max_steps);

/* Nothing more comes, ever. FOUND or NONE. */
enum search_result search_end(struct search *s);

/* The best match so far. False: there is none. */
bool search_best(const struct search *s, struct search_match *ret);

/* The next byte to feed: all before were looked at. */
uint64_t search_offset(const struct search *s);

/* The first byte that may be part of a match that is not decided yet: who goes on from here misses
 * nothing. */
uint64_t search_earliest(const struct search *s);

/* Steps so far, for those who charge for them. */
uint64_t search_steps(const struct search *s);

#endif
