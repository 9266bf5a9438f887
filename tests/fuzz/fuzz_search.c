/* A pattern and a text of any bytes: whatever they are, the search ends, within its steps, and
 * finds the same at once and byte by byte. The first two bytes: flags, and the size of the pattern.
 */
#include "broker/search.h"

#include "tests/fuzz/fuzz.h"

static struct search *make(const uint8_t *pattern, size_t size, uint8_t flags, size_t *ret_most)
{
	struct pattern p[2] = { { pattern, size, flags & 1, flags & 2 },
				{ (const uint8_t *)"\0x", 2, false, false } };
	struct pattern_error error;
	struct program program;
	struct search *s;

	if (program_compile(&program, p, flags & 4 ? 2 : 1, &error)) {
		FUZZ_CHECK(error.what && error.at <= size);
		return NULL;
	}
	FUZZ_CHECK(program.n_insns <= PROGRAM_MAX);
	*ret_most = 4 * program.n_insns * (1 + program.n_slots / 8) + 8;
	FUZZ_CHECK(search_new(&s, &program, 0, flags & 8 ? 'x' : -1) == 0);
	return s;
}

static enum search_result run(struct search *s, const uint8_t *text, size_t size, size_t piece,
			      size_t most)
{
	enum search_result r = SEARCH_HUNGRY;

	for (size_t at = 0; r == SEARCH_HUNGRY && at < size; at = search_offset(s))
		r = search_feed(s, text + at, MIN(piece, size - at), UINT64_MAX / 2);
	FUZZ_CHECK(r != SEARCH_TIRED && search_steps(s) <= most * (size + 1));
	return r == SEARCH_FOUND ? r : search_end(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct search_match a = { 0 }, b = { 0 };
	struct search *whole, *pieces;
	size_t n, most;

	if (size < 2)
		return 0;
	n = MIN((size_t)data[1], size - 2);
	whole = make(data + 2, n, data[0], &most);
	if (!whole)
		return 0;
	pieces = make(data + 2, n, data[0], &most);
	FUZZ_CHECK(run(whole, data + 2 + n, size - 2 - n, size, most) ==
		   run(pieces, data + 2 + n, size - 2 - n, 1, most));
	FUZZ_CHECK(search_best(whole, &a) == search_best(pieces, &b));
	FUZZ_CHECK(a.pattern == b.pattern && a.n_ranges == b.n_ranges);
	FUZZ_CHECK(!memcmp(a.begins, b.begins, a.n_ranges * sizeof(a.begins[0])));
	FUZZ_CHECK(!memcmp(a.ends, b.ends, a.n_ranges * sizeof(a.ends[0])));
	search_free(whole);
	search_free(pieces);
	return 0;
}
