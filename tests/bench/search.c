/* What waiting for a pattern costs where output comes in pieces: broker/search.h (redd=) beside
 * PCRE2 (raw=) in the three ways of tests/lib/pcre_stream.h: dfa, match, jit. A line for each
 * subject, size of pieces and way: processor time per byte of the output; then
 *
 *	stop	the longest time in which nothing else can be done: a slice of redd's search
 *		(expect.h), a call of PCRE2's. What the broker promises its other clients is 10 ms
 *	keep	memory that it took, and the bytes of the output that may not go while it waits
 *	end	a match; or `limit`: PCRE2's error, of which a user would hear as "no match", and
 *		the other figures are of what came before; or `late`: given up after BENCH_SEARCH_MS
 *		(250) of processor time, the figures are of the bytes that were done with by then
 *
 * Where both have an answer it has to be the same one, or the run fails. BENCH_SEARCH_BYTES (1 MiB)
 * of output for the ordinary subjects. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/search.h"
#include "proto/limits.h"
#include "tests/lib/measure.h"
#include "tests/lib/pcre_stream.h"
#include "tests/lib/random.h"

#define ROUNDS 3

struct subject {
	const char *name, *regex;
	const char *letters; /* lines of `line` of these at random; NULL: words */
	size_t line;	     /* 0: all is one */
	const char *between; /* lines */
	const char *tail;    /* what the output ends with: what is waited for */
	size_t size;	     /* 0: BENCH_SEARCH_BYTES */
};

static const struct subject subjects[] = {
	{ "text", "connection refused", .tail = "connection refused\n" },
	{ "prompt", "[$#>] $", .tail = "user@host:~$ " },
	{ "words", "error|failed|denied|timeout", .tail = "access denied" },
	{ "counts", "[0-9]{1,3}(\\.[0-9]{1,3}){3}:[0-9]{2,5}$", .tail = "10.2.3.4:8080\n" },
	{ "lazy", "begin(.*?)end", .tail = "begin 1 end" },
	/* What begins at each byte lives for 500 more: the most work for threads side by side. */
	{ "gap", "a.{500}b", "ac", 4000, "\n", "b", KIB(128) },
	/* It begins once, and all is part of it. */
	{ "open", "x[^y]*y", "x", 0, "", "y", KIB(512) },
	/* It begins at each byte, and fails at the end of each line. */
	{ "square", "x[^y]*z", "x", 4096, "yz", "xz", KIB(64) },
	/* Just under the limit, at each byte anew. */
	{ "under", "(a|aa)+$", "a", 18, "c\n", "\naaaa\n", KIB(16) },
	/* So many ways to fail that nobody can try one after another. */
	{ "stars", "(a*)*b", "a", 60, "c", "b", KIB(64) },
	{ "either", "(a|aa)+$", "a", 60, "c\n", "\naaaa\n", KIB(64) },
	{ "twenty", "(.*a){20}b", "ac", 80, "\n", "aaaaaaaaaaaaaaaaaaaab", KIB(64) },
};

struct input {
	const struct subject *subject;
	uint8_t *data;
	size_t size, piece;
};

enum end { END_NONE, END_FOUND, END_LIMIT, END_LATE };

struct outcome {
	enum end end;
	size_t from, to;    /* of the match */
	double total, stop; /* seconds; the longest of one call */
	size_t given, done; /* bytes: that had come; of which nothing is needed any more */
	size_t memory, kept;
};

static double budget_s;

/* Not the clock: others run on this machine. */
static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void note_call(struct outcome *o, double begin)
{
	double took = cpu_now() - begin;

	o->total += took;
	o->stop = MAX(o->stop, took);
}

static bool is_late(const struct outcome *o)
{
	return o->total > budget_s;
}

/* --- the output ------------------------------------------------------------------------------ */

/* With much of what the ordinary patterns begin with. */
static const char *const words[] = {
	"the ",	  "time ", "connected ", "$ 5 ", "10.0.3.7 ", "errno ", "fail-safe ", "deny ",
	"begun ", "> ",	   "control ",	 "# 1 ", "192.168 ",  "of ",	"continue\n", "done\n",
};

static size_t put(uint8_t *out, size_t room, const char *text)
{
	size_t n = MIN(strlen(text), room);

	memcpy(out, text, n);
	return n;
}

static void fill_words(struct random *random, uint8_t *out, size_t size)
{
	for (size_t i = 0; i < size;)
		i += put(out + i, size - i, words[random_below(random, ARRAY_SIZE(words))]);
}

static void fill_letters(const struct subject *s, struct random *random, uint8_t *out, size_t size)
{
	size_t n = strlen(s->letters), line = 0;

	for (size_t i = 0; i < size;) {
		if (s->line && line++ == s->line) {
			i += put(out + i, size - i, s->between);
			line = 0;
		} else {
			out[i++] = (uint8_t)s->letters[random_below(random, n)];
		}
	}
}

static int input_make(struct input *ret, const struct subject *s, size_t otherwise)
{
	size_t size = s->size ? s->size : otherwise, n = strlen(s->tail);
	struct random random = { 1 };

	*ret = (struct input){ s, malloc(size + n), size + n, 0 };
	if (!ret->data)
		return -1;
	if (s->letters)
		fill_letters(s, &random, ret->data, size);
	else
		fill_words(&random, ret->data, size);
	memcpy(ret->data + size, s->tail, n);
	return 0;
}

static void input_deinit(struct input *in)
{
	free(in->data);
}

/* --- redd ------------------------------------------------------------------------------------ */

static int search_of(const char *regex, struct search **ret, size_t *ret_memory)
{
	const struct pattern pattern = { (const uint8_t *)regex, strlen(regex), true, false };
	struct pattern_error error;
	struct program program;

	if (program_compile(&program, &pattern, 1, &error)) {
		fprintf(stderr, "search: /%s/ %s\n", regex, error.what);
		return -1;
	}
	*ret_memory = search_size(&program);
	return search_new(ret, &program, 0, -1);
}

/* As expect.c does: slices, between which the loop turns. */
static enum search_result redd_piece(struct search *s, const struct input *in, struct outcome *o)
{
	enum search_result r;

	do {
		double begin = cpu_now();
		size_t at = search_offset(s);

		r = search_feed(s, in->data + at, o->given - at, EXPECT_STEPS_A_SLICE);
		note_call(o, begin);
	} while (r == SEARCH_TIRED);
	return r;
}

static int run_redd(const struct input *in, struct outcome *o)
{
	_cleanup_(search_freep) struct search *s = NULL;
	enum search_result r = SEARCH_HUNGRY;
	struct search_match match;

	if (search_of(in->subject->regex, &s, &o->memory))
		return -1;
	while (r == SEARCH_HUNGRY && o->given < in->size) {
		o->given = MIN(o->given + in->piece, in->size);
		r = redd_piece(s, in, o);
	}
	if (r == SEARCH_HUNGRY)
		search_end(s);
	o->done = o->given;
	if (!search_best(s, &match))
		return 0;
	o->end = END_FOUND;
	o->from = match.begins[0];
	o->to = match.ends[0];
	return 0;
}

/* --- PCRE2 ----------------------------------------------------------------------------------- */

/* One piece, in as many calls as it takes. */
static enum pcre_result pcre_piece(struct pcre_stream *s, const struct input *in, bool is_last,
				   struct outcome *o)
{
	enum pcre_result r;

	do {
		double begin = cpu_now();

		r = pcre_stream_step(s, in->data, o->given, is_last);
		note_call(o, begin);
	} while (r == PCRE_TIRED && !is_late(o));
	if (r == PCRE_HUNGRY)
		o->kept = MAX(o->kept, o->given - pcre_stream_from(s));
	return r;
}

static enum end pcre_end(enum pcre_result r, const struct outcome *o)
{
	if (r == PCRE_FOUND)
		return END_FOUND;
	if (r == PCRE_LIMIT)
		return END_LIMIT;
	return is_late(o) ? END_LATE : END_NONE;
}

static int run_pcre(const struct input *in, enum pcre_way way, struct outcome *o)
{
	_cleanup_(pcre_stream_freep) struct pcre_stream *s = NULL;
	enum pcre_result r = PCRE_HUNGRY;

	if (pcre_stream_new(&s, in->subject->regex, way))
		return -1;
	while (r == PCRE_HUNGRY && o->given < in->size && !is_late(o)) {
		o->given = MIN(o->given + in->piece, in->size);
		r = pcre_piece(s, in, false, o);
	}
	if (r == PCRE_HUNGRY && !is_late(o))
		r = pcre_piece(s, in, true, o);
	if (r == PCRE_FOUND)
		pcre_stream_match(s, &o->from, &o->to);
	o->end = pcre_end(r, o);
	o->done = o->end == END_LATE ? pcre_stream_from(s) : o->given;
	o->memory = pcre_stream_memory(s);
	return 0;
}

/* --- side by side ---------------------------------------------------------------------------- */

#define REDD (-1)

static const struct way {
	const char *name;
	int way; /* enum pcre_way, or REDD */
} ways[] = { { "redd", REDD }, { "dfa", PCRE_DFA }, { "match", PCRE_MATCH }, { "jit", PCRE_JIT } };

#define N_WAYS ARRAY_SIZE(ways)

struct figures {
	double cost[N_WAYS][ROUNDS], stop[N_WAYS][ROUNDS];
	struct outcome last[N_WAYS];
};

/* What was given up has no answer. */
static bool agree(const struct outcome *ours, const struct outcome *o)
{
	if (o->end == END_LIMIT || o->end == END_LATE)
		return true;
	return o->end == ours->end && o->from == ours->from && o->to == ours->to;
}

static int run(const struct input *in, size_t way, unsigned round, struct figures *f)
{
	const struct way *w = &ways[way];
	struct outcome *o = &f->last[way];

	*o = (struct outcome){ 0 };
	if (w->way == REDD ? run_redd(in, o) : run_pcre(in, (enum pcre_way)w->way, o)) {
		fprintf(stderr, "search-%s: %s failed\n", in->subject->name, w->name);
		return -1;
	}
	f->cost[way][round] = o->total * 1e9 / (double)MAX(o->done, 1);
	f->stop[way][round] = o->stop * 1e3;
	if (agree(&f->last[0], o))
		return 0;
	fprintf(stderr, "search-%s: %s found %zu-%zu (%d), redd %zu-%zu (%d)\n", in->subject->name,
		w->name, o->from, o->to, o->end, f->last[0].from, f->last[0].to, f->last[0].end);
	return -1;
}

static void print(const struct input *in, size_t way, struct figures *f)
{
	static const char *const ends[] = { "none", "match", "limit", "late" };
	const struct outcome *ours = &f->last[0], *theirs = &f->last[way];
	char name[64], rest[160];

	snprintf(name, sizeof(name), "search-%s-%zuK-%s", in->subject->name, in->piece / 1024,
		 ways[way].name);
	snprintf(rest, sizeof(rest),
		 "ns/byte; stop %.2f beside %.2f ms, keep %zu beside %zu KiB, end %s beside %s",
		 measure_part(f->stop[0], ROUNDS, 0.5), measure_part(f->stop[way], ROUNDS, 0.5),
		 (ours->memory + ours->kept + 1023) / 1024,
		 (theirs->memory + theirs->kept + 1023) / 1024, ends[ours->end], ends[theirs->end]);
	measure_print(name, rest, ROUNDS, f->cost[0], f->cost[way]);
}

static int measure_input(const struct input *in)
{
	struct figures f;
	int r = 0;

	for (unsigned round = 0; round < ROUNDS; round++)
		for (size_t way = 0; way < N_WAYS; way++)
			r |= run(in, way, round, &f);
	for (size_t way = 1; way < N_WAYS && !r; way++)
		print(in, way, &f);
	return r;
}

int main(void)
{
	static const size_t pieces[] = { KIB(4), KIB(64) };
	size_t size = measure_size("BENCH_SEARCH_BYTES", MIB(1));
	int r = 0;

	budget_s = (double)measure_size("BENCH_SEARCH_MS", 250) / 1e3;
	for (size_t i = 0; i < ARRAY_SIZE(subjects); i++) {
		_cleanup_(input_deinit) struct input in;

		if (input_make(&in, &subjects[i], size))
			return 1;
		for (size_t j = 0; j < ARRAY_SIZE(pieces); j++) {
			in.piece = pieces[j];
			r |= measure_input(&in);
		}
	}
	return r != 0;
}
