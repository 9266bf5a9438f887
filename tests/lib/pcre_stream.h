/* PCRE2 over output that comes in pieces, as well as it can be done without changing it: what
 * broker/search.h is measured beside. The bytes lie in one piece from the first one on, as the
 * broker's log has them, so none is copied; those from pcre_stream_from() on have to stay. */
#ifndef TESTS_LIB_PCRE_STREAM_H
#define TESTS_LIB_PCRE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/cleanup.h"

struct pcre_stream;

enum pcre_way {
	PCRE_DFA,   /* pcre2_dfa_match(): every way at once, but from one begin after another */
	PCRE_MATCH, /* pcre2_match(): one after another, with limits */
	PCRE_JIT,   /* the same, compiled where this machine can */
};

enum pcre_result {
	PCRE_HUNGRY, /* all was looked at, nothing is decided */
	PCRE_TIRED,  /* one call is done, more are needed */
	PCRE_FOUND,  /* pcre_stream_match() */
	PCRE_LIMIT,  /* an error: nobody knows whether there is a match */
};

/* 0 or -1. */
int pcre_stream_new(struct pcre_stream **ret, const char *regex, enum pcre_way way);
void pcre_stream_free(struct pcre_stream *s);
DEFINE_CLEANUP(struct pcre_stream, pcre_stream_free)

/* One call of PCRE2's, for the first `size` bytes of the output; with is_last no more will come. */
enum pcre_result pcre_stream_step(struct pcre_stream *s, const uint8_t *data, size_t size,
				  bool is_last);

/* Where a match may still begin. */
size_t pcre_stream_from(const struct pcre_stream *s);

void pcre_stream_match(const struct pcre_stream *s, size_t *ret_from, size_t *ret_to);

/* The most it took so far, without the bytes that stay. */
size_t pcre_stream_memory(const struct pcre_stream *s);

#endif
