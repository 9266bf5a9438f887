/* Owns what PCRE2 needs for one search, and counts it.
 *
 * dfa: PARTIAL_HARD, then DFA_RESTART with what follows, a slice at a time; when an attempt fails
 * that was under way, a new one from the byte behind its begin (pcre2partial(3)). Else:
 * PARTIAL_HARD, and with more bytes once more from where the partial match begins.
 */
#include "tests/lib/pcre_stream.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "proto/limits.h"

/* About 10 ms for what begins at one byte, which is all that it limits: a call has no limit. */
#define MATCH_LIMIT    1000000
#define HEAP_LIMIT_KIB 4096 /* somewhat more than redd's largest search */
#define JIT_STACK_MAX  MIB(1)
#define WORKSPACE      8192 /* there is no way to ask; more than the measured patterns need */
#define SLICE	       256  /* one call may try all that begins in it: it squares */
#define HEADER	       16   /* of a block: its size, and malloc()'s alignment */

struct pcre_stream {
	size_t memory, memory_max;
	enum pcre_way way;
	pcre2_general_context *general; /* counts */
	pcre2_match_context *limits;
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_jit_stack *stack;
	size_t from, to;   /* to: of the match, once it is found */
	size_t at;	   /* dfa: how far the workspace has come */
	bool is_under_way; /* dfa: it holds an attempt */
	int workspace[WORKSPACE];
};

/* --- memory ---------------------------------------------------------------------------------- */

static void *count_malloc(size_t size, void *user)
{
	struct pcre_stream *s = user;
	size_t *p = malloc(HEADER + size);

	if (!p)
		return NULL;
	*p = size;
	s->memory += size;
	s->memory_max = MAX(s->memory_max, s->memory);
	return (char *)p + HEADER;
}

static void count_free(void *at, void *user)
{
	struct pcre_stream *s = user;
	char *p = at ? (char *)at - HEADER : NULL;

	if (p)
		s->memory -= *(size_t *)p;
	free(p);
}

size_t pcre_stream_memory(const struct pcre_stream *s)
{
	size_t code = 0;

	pcre2_pattern_info(s->code, PCRE2_INFO_SIZE, &code);
	return code + s->memory_max + (s->way == PCRE_DFA ? sizeof(s->workspace) : 0);
}

void pcre_stream_free(struct pcre_stream *s)
{
	pcre2_jit_stack_free(s->stack);
	pcre2_match_data_free(s->data);
	pcre2_code_free(s->code);
	pcre2_match_context_free(s->limits);
	pcre2_general_context_free(s->general);
	free(s);
}

static void use_jit(struct pcre_stream *s)
{
	pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
	s->stack = pcre2_jit_stack_create(KIB(32), JIT_STACK_MAX, s->general);
	pcre2_jit_stack_assign(s->limits, NULL, s->stack);
}

int pcre_stream_new(struct pcre_stream **ret, const char *regex, enum pcre_way way)
{
	_cleanup_(pcre_stream_freep) struct pcre_stream *s = calloc(1, sizeof(*s));
	PCRE2_SIZE at;
	int error;

	if (!s)
		return -1;
	s->way = way;
	s->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
				PCRE2_MULTILINE | PCRE2_ALT_CIRCUMFLEX, &error, &at, NULL);
	s->general = pcre2_general_context_create(count_malloc, count_free, s);
	if (!s->code || !s->general)
		return -1;
	s->data = pcre2_match_data_create_from_pattern(s->code, s->general);
	s->limits = pcre2_match_context_create(s->general);
	if (!s->data || !s->limits)
		return -1;
	pcre2_set_match_limit(s->limits, MATCH_LIMIT);
	pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
	if (way == PCRE_JIT)
		use_jit(s);
	*ret = TAKE(s);
	return 0;
}

/* --- a call ---------------------------------------------------------------------------------- */

/* `next`: where to go on when nothing begins in what was looked at. */
static enum pcre_result result(struct pcre_stream *s, int r, size_t next)
{
	const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->data);

	if (r < 0 && r != PCRE2_ERROR_NOMATCH && r != PCRE2_ERROR_PARTIAL)
		return PCRE_LIMIT;
	if (r == PCRE2_ERROR_NOMATCH)
		s->from = next;
	else if (!s->is_under_way)
		s->from = range[0];
	if (r < 0)
		return PCRE_HUNGRY;
	s->to = range[1];
	return PCRE_FOUND;
}

static enum pcre_result match_step(struct pcre_stream *s, const uint8_t *data, size_t size,
				   bool is_last)
{
	int r = pcre2_match(s->code, data, size, s->from, is_last ? 0 : PCRE2_PARTIAL_HARD, s->data,
			    s->limits);

	return result(s, r, size);
}

static enum pcre_result dfa_step(struct pcre_stream *s, const uint8_t *data, size_t size,
				 bool is_last)
{
	size_t from = s->is_under_way ? s->at : s->from, to = MIN(from + SLICE, size);
	uint32_t options = is_last && to == size ? 0 : PCRE2_PARTIAL_HARD;
	enum pcre_result end;
	int r;

	if (s->is_under_way)
		options |= PCRE2_DFA_RESTART;
	r = pcre2_dfa_match(s->code, data, to, from, options, s->data, s->limits, s->workspace,
			    WORKSPACE);
	end = result(s, r, s->is_under_way ? s->from + 1 : to);
	s->is_under_way = r == PCRE2_ERROR_PARTIAL;
	s->at = to;
	if (end != PCRE_HUNGRY)
		return end;
	return (s->is_under_way ? to : s->from) < size ? PCRE_TIRED : PCRE_HUNGRY;
}

enum pcre_result pcre_stream_step(struct pcre_stream *s, const uint8_t *data, size_t size,
				  bool is_last)
{
	return (s->way == PCRE_DFA ? dfa_step : match_step)(s, data, size, is_last);
}

size_t pcre_stream_from(const struct pcre_stream *s)
{
	return s->from;
}

void pcre_stream_match(const struct pcre_stream *s, size_t *ret_from, size_t *ret_to)
{
	*ret_from = s->from;
	*ret_to = s->to;
}
