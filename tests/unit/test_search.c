/* Search in a stream: the same is found however the stream is cut; what is found is what PCRE2
 * finds in all of it at once; and no pattern and no stream costs more than its share of steps. */
#include "broker/search.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tests/lib/places.h"
#include "tests/lib/random.h"

TestSuite(search, .timeout = 120);

#define TEXT_MAX 64

static struct search *search_of(const struct pattern *patterns, size_t n, uint64_t from)
{
	struct pattern_error error;
	struct program program;
	struct search *s;
	int r = program_compile(&program, patterns, n, &error);

	cr_assert_eq(r, 0, "pattern %u at %zu %s", error.pattern, error.at, error.what);
	cr_assert_eq(search_new(&s, &program, from, -1), 0);
	return s;
}

static struct pattern regex_of(const char *text)
{
	return (struct pattern){ (const uint8_t *)text, strlen(text), true, false };
}

static struct pattern text_of(const char *text)
{
	return (struct pattern){ (const uint8_t *)text, strlen(text), false, false };
}

/* All at once, then the end. */
static bool find(const struct pattern *patterns, size_t n, const char *text, size_t size,
		 struct search_match *ret)
{
	struct search *s = search_of(patterns, n, 0);
	enum search_result r = search_feed(s, (const uint8_t *)text, size, UINT64_MAX / 2);

	cr_assert_neq(r, SEARCH_TIRED);
	if (r == SEARCH_HUNGRY)
		r = search_end(s);
	cr_assert_eq(search_best(s, ret), r == SEARCH_FOUND);
	search_free(s);
	return r == SEARCH_FOUND;
}

/* "1-3" or "none", then the groups: "0-4 1-2 ?". */
static const char *found(const char *regex, const char *text)
{
	static char out[256];
	struct pattern p = regex_of(regex);
	struct search_match m;
	size_t at = 0;

	if (!find(&p, 1, text, strlen(text), &m))
		return "none";
	for (unsigned i = 0; i < m.n_ranges; i++)
		at += (size_t)snprintf(out + at, sizeof(out) - at,
				       m.begins[i] == SEARCH_UNSET ? "%s?" : "%s%d-%d",
				       i ? " " : "", (int)m.begins[i], (int)m.ends[i]);
	return out;
}

/* --- what is found --------------------------------------------------------------------------- */

Test(search, finds_what_perl_would_find)
{
	static const struct {
		const char *regex, *text, *expected;
	} cases[] = {
		{ "abc", "xxabcxx", "2-5" },
		{ "a|ab", "xab", "1-2" },
		{ "ab|a", "xab", "1-3" },
		{ "a*", "baaa", "0-0" },
		{ "a+?", "baaa", "1-2" },
		{ "(a+)(b?)", "xaabx", "1-4 1-3 3-4" },
		{ "(a)|(b)", "b", "0-1 ? 0-1" },
		{ "a{2}", "aaaa", "0-2" },
		{ "a{2,3}", "aaaa", "0-3" },
		{ "a{2,3}?", "aaaa", "0-2" },
		{ "a{0,2}b", "aaab", "1-4" },
		{ "a{2,}b", "abaaab", "2-6" },
		{ "x{,2}", "x{,2}", "0-5" },
		{ "^b", "a\nb", "2-3" },
		{ "a$", "ab\na", "3-4" },
		{ "a$", "a\nb", "0-1" },
		{ "\\Ab", "ab", "none" },
		{ "a\\z", "a\na", "2-3" },
		{ "\\bcat\\b", "concat cat", "7-10" },
		{ "\\Bat", "at cat", "4-6" },
		{ "[^a-c\\n]+", "ab\nxyz", "3-6" },
		{ "[]x]", "a]", "1-2" },
		{ "[a-]+", "b-a-", "1-4" },
		{ "[[:digit:]_]+", "ab1_2", "2-5" },
		{ "[[:^digit:]]+", "1ab2", "1-3" },
		{ "\\x41\\x{42}\\.", "xAB.", "1-4" },
		{ "a.c", "a\nc abc", "4-7" },
		{ "(?s)a.c", "a\nc", "0-3" },
		{ "(?i)hello", "say HeLLo", "4-9" },
		{ "a(?i:b)c", "aBC aBc", "4-7" },
		{ "(?i)a(?-i)b", "AB Ab", "3-5" },
		{ "(?:a|b)+c", "xabac", "1-5" },
		{ "(a|b)*", "abx", "0-2 1-2" },
		{ "(|a)*", "aa", "0-0 0-0" },
		{ "(a*)*", "aab", "0-2 0-2" },
		{ "(a*)+b", "aab", "0-3 0-2" },
		{ "(?:)*x", "x", "0-1" },
		{ "a||b", "b", "0-0" },
		{ "\\d+\\s\\w+", "x 12 ab!", "2-7" },
		{ "a{0}b", "ab", "1-2" },
		{ "(a(b)?)+", "aba", "0-3 2-3 1-2" },
		{ "login: $", "x\nlogin: ", "2-9" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		cr_expect_str_eq(found(cases[i].regex, cases[i].text), cases[i].expected,
				 "/%s/ in \"%s\": %s, not %s", cases[i].regex, cases[i].text,
				 found(cases[i].regex, cases[i].text), cases[i].expected);
}

Test(search, patterns_and_text_may_hold_any_byte)
{
	uint8_t bytes[256];
	struct pattern p = { bytes, sizeof(bytes), false, false };
	struct search_match m;
	char text[600] = { 0 };

	for (int i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	memcpy(text + 300, bytes, 256);
	cr_assert(find(&p, 1, text, sizeof(text), &m));
	cr_expect_eq(m.begins[0], 300);
	cr_expect_eq(m.ends[0], 556);
}

Test(search, the_earliest_match_wins_and_then_the_order_of_the_list)
{
	struct pattern p[] = { text_of("bcd"), regex_of("ab+c"), text_of("abc") };
	struct search_match m;

	cr_assert(find(p, 3, "xabcd", 5, &m));
	cr_expect_eq(m.pattern, 1);
	cr_expect_eq(m.begins[0], 1);
	cr_assert(find(p, 3, "xbcd", 4, &m));
	cr_expect_eq(m.pattern, 0);
	p[1] = text_of("abx");
	cr_assert(find(p, 3, "xabcd", 5, &m));
	cr_expect_eq(m.pattern, 2);
}

/* --- when it is decided ---------------------------------------------------------------------- */

Test(search, a_match_is_told_with_the_byte_that_decides_it)
{
	static const struct {
		const char *regex, *text;
		size_t decided; /* bytes that are needed; 99: the end of the stream */
	} cases[] = {
		{ "login: ", "login: x", 7 }, { "a+", "aaab", 4 },
		{ "a+?", "aaab", 1 },	      { "a|ab", "ab", 1 },
		{ "ab|a", "ac", 2 },	      { "a$", "a\n", 2 },
		{ "\\bcat\\b", "cat x", 4 },  { "a+", "aaa", 99 },
		{ "a\\z", "a", 99 },	      { "a*?", "b", 0 },
		{ "x|a.*z", "abx", 99 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pattern p = regex_of(cases[i].regex);
		struct search *s = search_of(&p, 1, 0);
		const uint8_t *text = (const uint8_t *)cases[i].text;
		enum search_result r = search_feed(s, text, 0, 0);
		size_t n = 0;

		for (; r != SEARCH_FOUND && text[n]; n++)
			r = search_feed(s, text + n, 1, 0);
		cr_expect_eq(r == SEARCH_FOUND ? n : 99, cases[i].decided, "/%s/ in \"%s\": %zu",
			     cases[i].regex, cases[i].text, n);
		cr_expect_eq(search_end(s), SEARCH_FOUND);
		search_free(s);
	}
}

Test(search, what_could_still_grow_is_known_before_it_is_decided)
{
	struct pattern p = regex_of("a+b?");
	struct search *s = search_of(&p, 1, 1000);
	struct search_match m;

	cr_assert_eq(search_feed(s, (const uint8_t *)"xxaa", 4, 1000), SEARCH_HUNGRY);
	cr_assert(search_best(s, &m));
	cr_expect_eq(m.begins[0], 1002);
	cr_expect_eq(m.ends[0], 1004);
	cr_expect_eq(search_earliest(s), 1002);
	cr_expect_eq(search_offset(s), 1004);
	search_free(s);
}

Test(search, the_byte_in_front_counts_where_a_search_begins_in_the_middle)
{
	static const struct {
		const char *regex;
		int previous;
		bool is_found;
	} cases[] = { { "^a", -1, true },     { "^a", '\n', true },  { "^a", 'x', false },
		      { "\\ba", 'x', false }, { "\\ba", ' ', true }, { "\\Aa", 'x', true } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pattern p = regex_of(cases[i].regex);
		struct pattern_error error;
		struct program program;
		struct search *s;

		cr_assert_eq(program_compile(&program, &p, 1, &error), 0);
		cr_assert_eq(search_new(&s, &program, 7, cases[i].previous), 0);
		cr_expect_eq(search_feed(s, (const uint8_t *)"a", 1, 1000) == SEARCH_FOUND,
			     cases[i].is_found, "%s", cases[i].regex);
		search_free(s);
	}
}

/* --- what is refused ------------------------------------------------------------------------- */

Test(search, what_cannot_be_compiled_is_told_with_its_place)
{
	static const struct {
		const char *regex;
		size_t at;
		const char *what;
	} cases[] = {
		{ "a(b", 1, "without its )" },
		{ "ab)", 2, "without its (" },
		{ "x[ab", 1, "without its ]" },
		{ "a**", 2, "behind a quantifier" },
		{ "a*+", 2, "behind a quantifier" },
		{ "*a", 0, "nothing to repeat" },
		{ "a|+", 2, "nothing to repeat" },
		{ "a\\", 2, "lone backslash" },
		{ "(a)\\1", 4, "back reference" },
		{ "a(?=b)", 1, "look-around" },
		{ "(?<x>a)", 0, "not known" },
		{ "(?x)a", 0, "not known" },
		{ "a{3,2}", 1, "smaller" },
		{ "a{1001}", 1, "1000" },
		{ "\\K", 1, "not known" },
		{ "\\xg", 2, "hexadecimal" },
		{ "[z-a]", 2, "does not rise" },
		{ "[[:bad:]]", 1, "not known" },
		{ "^*", 1, "matches nothing" },
		{ "(?i", 0, "without its )" },
		{ "\\07", 1, "octal" },
		{ "", 0, "empty" },
		{ "((a{1000}){1000}){1000}", 23, "too large" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pattern p[2] = { text_of("fine"), regex_of(cases[i].regex) };
		struct pattern_error error;
		struct program program;

		cr_expect_eq(program_compile(&program, p, 2, &error), PROGRAM_E_BAD, "%s",
			     cases[i].regex);
		cr_expect(error.what && strstr(error.what, cases[i].what), "%s: %s", cases[i].regex,
			  error.what);
		cr_expect_eq(error.at, cases[i].at, "%s: %zu", cases[i].regex, error.at);
		cr_expect_eq(error.pattern, 1);
		cr_expect_null(program.insns);
	}
}

Test(search, limits_are_refused_one_step_beyond)
{
	struct pattern many[EXPECT_PATTERNS_MAX + 1];
	char text[EXPECT_PATTERN_MAX + 2];
	struct pattern_error error;
	struct program program;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "(?:"[i % 3];
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = text_of("x");
	cr_expect_eq(program_compile(&program, many, EXPECT_PATTERNS_MAX, &error), 0);
	program_deinit(&program);
	cr_expect_eq(program_compile(&program, many, EXPECT_PATTERNS_MAX + 1, &error),
		     PROGRAM_E_BAD);
	cr_expect_eq(program_compile(&program, many, 0, &error), PROGRAM_E_BAD);
	many[0] = (struct pattern){ (uint8_t *)text, EXPECT_PATTERN_MAX + 1, false, false };
	cr_expect_eq(program_compile(&program, many, 1, &error), PROGRAM_E_BAD);
	many[0].size = EXPECT_PATTERN_MAX;
	many[0].is_regex = true;
	cr_expect_eq(program_compile(&program, many, 1, &error), PROGRAM_E_BAD);
	cr_expect_not_null(strstr(error.what, "within each other"));
}

/* --- what it costs --------------------------------------------------------------------------- */

/* The worst that is known of other engines, each over a text that never matches. */
Test(search, hostile_patterns_cost_a_bounded_number_of_steps_a_byte)
{
	static const char *const regexes[] = {
		"(a+)+$x",
		"(a|aa)+b",
		"(a*)*b",
		"(.*)*b",
		"(a|a)*b",
		"a{100}{0}(a?){200}b",
		"(.*)(.*)(.*)(.*)b",
		"a.*a.*a.*b",
		"(?:a{0,30}){0,30}b",
		"(((a+)+)+)+b",
		"^(a+)+b",
		"\\b(a+|a)+\\b!",
	};
	size_t size = place_rounds(1 << 16);
	uint8_t *text = malloc(size);

	memset(text, 'a', size);
	for (size_t i = 0; i < ARRAY_SIZE(regexes); i++) {
		struct pattern p = regex_of(regexes[i]);
		struct pattern_error error;
		struct program program;
		struct search *s;
		uint64_t each;
		int r = program_compile(&program, &p, 1, &error);

		if (r)
			continue; /* refused at once is fine as well */
		each = 4 * program.n_insns * (1 + program.n_slots / 8) + 8;
		cr_assert_eq(search_new(&s, &program, 0, -1), 0);
		cr_expect_neq(search_feed(s, text, size, UINT64_MAX / 2), SEARCH_FOUND);
		cr_expect_leq(search_steps(s), each * size, "%s", regexes[i]);
		search_free(s);
	}
	free(text);
}

Test(search, it_stops_when_it_has_done_its_steps_and_goes_on_where_it_was)
{
	struct pattern p = regex_of("(a+)+$");
	struct search *s = search_of(&p, 1, 0);
	enum { SIZE = 5000, SLICE = 100 };
	uint8_t text[SIZE];
	uint64_t last = 0;
	unsigned n = 0;

	memset(text, 'a', SIZE - 1);
	text[SIZE - 1] = '\n';
	while (search_feed(s, text + search_offset(s), SIZE - search_offset(s), SLICE) ==
	       SEARCH_TIRED) {
		cr_assert_leq(search_steps(s) - last, SLICE + 50, "%u", n);
		last = search_steps(s);
		n++;
	}
	cr_expect_gt(n, 100);
	cr_expect_eq(search_end(s), SEARCH_FOUND);
	search_free(s);
}

/* --- against PCRE2 --------------------------------------------------------------------------- */

struct made {
	char text[512];
	size_t size;
	struct random *random;
	unsigned groups;
};

static void put(struct made *m, const char *word)
{
	size_t n = strlen(word);

	if (m->size + n < sizeof(m->text)) {
		memcpy(m->text + m->size, word, n + 1);
		m->size += n;
	}
}

static bool make_alternatives(struct made *m, unsigned depth);

/* Each returns whether what it made can match nothing: PCRE2 and this engine agree on what an empty
 * round of a loop matches, but not on what its groups hold then. */
static bool make_atom(struct made *m, unsigned depth)
{
	static const char *const atoms[] = { "a",   "b",   "c",	    ".",   "[ab]", "[^a]",
					     "\\w", "\\s", "[b-c]", "\\D", "a",	   "b" };
	bool is_nullable;

	if (depth > 3 || random_below(m->random, 4)) {
		put(m, atoms[random_below(m->random, ARRAY_SIZE(atoms))]);
		return false;
	}
	put(m, random_chance(m->random, 2) && ++m->groups < 15 ? "(" : "(?:");
	is_nullable = make_alternatives(m, depth + 1);
	put(m, ")");
	return is_nullable;
}

static bool make_repeated(struct made *m, unsigned depth)
{
	static const char *const counts[] = { "?", "{2}", "{1,2}", "{0,3}", "??",   "{0,2}?",
					      "*", "+",	  "*?",	   "+?",    "{2,}", "{1,}?" };
	static const bool nullable[] = { true, false, false, true, true, true, true, false, true };
	bool is_nullable = make_atom(m, depth);
	size_t most = is_nullable ? 0 : ARRAY_SIZE(counts), i;

	if (!most || random_chance(m->random, 2))
		return is_nullable;
	i = random_below(m->random, most);
	put(m, counts[i]);
	return i < ARRAY_SIZE(nullable) && nullable[i];
}

static bool make_sequence(struct made *m, unsigned depth)
{
	static const char *const assertions[] = { "^", "$", "\\b", "\\B", "\\z", "\\A" };
	unsigned n = (unsigned)random_below(m->random, 4);
	bool is_nullable = true;

	while (n--) {
		if (random_chance(m->random, 10))
			put(m, assertions[random_below(m->random, ARRAY_SIZE(assertions))]);
		else
			is_nullable &= make_repeated(m, depth);
	}
	return is_nullable;
}

static bool make_alternatives(struct made *m, unsigned depth)
{
	bool is_nullable = make_sequence(m, depth);

	while (random_chance(m->random, 3)) {
		put(m, "|");
		is_nullable |= make_sequence(m, depth);
	}
	return is_nullable;
}

static size_t make_text(struct random *random, char text[TEXT_MAX])
{
	static const char letters[] = "aaabbbccc \n";
	size_t n = random_below(random, TEXT_MAX);

	for (size_t i = 0; i < n; i++)
		text[i] = letters[random_below(random, sizeof(letters) - 1)];
	return n;
}

/* 1 found, 0 not, -1: it gave up at its own limit. */
static int pcre_find(const char *regex, const char *text, size_t size, struct search_match *ret)
{
	PCRE2_SIZE *ranges, at;
	int error, n;
	pcre2_code *code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
					 PCRE2_MULTILINE | PCRE2_ALT_CIRCUMFLEX, &error, &at, NULL);
	pcre2_match_data *data;

	cr_assert_not_null(code, "PCRE2 does not take /%s/", regex);
	data = pcre2_match_data_create_from_pattern(code, NULL);
	n = pcre2_match(code, (PCRE2_SPTR)text, size, 0, 0, data, NULL);
	ranges = pcre2_get_ovector_pointer(data);
	for (int i = 0; i < n; i++) {
		ret->begins[i] = ranges[2 * i] == PCRE2_UNSET ? SEARCH_UNSET : ranges[2 * i];
		ret->ends[i] = ranges[2 * i] == PCRE2_UNSET ? SEARCH_UNSET : ranges[2 * i + 1];
	}
	ret->n_ranges = n > 0 ? (unsigned)n : 0;
	pcre2_match_data_free(data);
	pcre2_code_free(code);
	return n > 0 ? 1 : n == PCRE2_ERROR_NOMATCH ? 0 : -1;
}

/* The same text in pieces of random sizes, with a random number of steps each. */
static enum search_result feed_in_pieces(struct search *s, struct random *random, const char *text,
					 size_t size)
{
	enum search_result r = SEARCH_HUNGRY;
	size_t here = 0;

	while (r != SEARCH_FOUND && search_offset(s) < size) {
		if (search_offset(s) == here)
			here += 1 + random_below(random, MIN(size - here, (size_t)5));
		r = search_feed(s, (const uint8_t *)text + search_offset(s),
				here - search_offset(s), random_below(random, 30));
		cr_assert_eq(r == SEARCH_TIRED, r != SEARCH_FOUND && search_offset(s) < here);
	}
	return r == SEARCH_FOUND ? r : search_end(s);
}

static void compare(uint64_t seed, const char *const *regexes, size_t n, const char *text,
		    size_t size, struct random *random)
{
	struct pattern patterns[3];
	struct search_match best = { .begins = { UINT64_MAX } }, one, ours;
	bool is_found = false;
	struct search *s;

	for (unsigned i = 0; i < n; i++) {
		int r = pcre_find(regexes[i], text, size, &one);

		patterns[i] = regex_of(regexes[i]);
		if (r < 0)
			return;
		if (!r)
			continue;
		if (!is_found || one.begins[0] < best.begins[0]) {
			best = one;
			best.pattern = i;
		}
		is_found = true;
	}
	s = search_of(patterns, n, 0);
	cr_assert_eq(feed_in_pieces(s, random, text, size), is_found ? SEARCH_FOUND : SEARCH_NONE,
		     "seed %d: /%s/ in \"%.*s\"", (int)seed, regexes[0], (int)size, text);
	if (is_found) {
		cr_assert(search_best(s, &ours));
		cr_assert_eq(ours.pattern, best.pattern, "seed %d", (int)seed);
		for (unsigned i = 0; i < best.n_ranges; i++)
			cr_assert(ours.begins[i] == best.begins[i] && ours.ends[i] == best.ends[i],
				  "seed %d: /%s/ in \"%.*s\": group %u is %d-%d, not %d-%d",
				  (int)seed, regexes[best.pattern], (int)size, text, i,
				  (int)ours.begins[i], (int)ours.ends[i], (int)best.begins[i],
				  (int)best.ends[i]);
	}
	search_free(s);
}

Test(search, whatever_the_pattern_the_text_and_the_pieces_it_finds_what_pcre2_finds)
{
	for (uint64_t seed = 1; seed <= place_rounds(15000); seed++) {
		struct random random = { seed };
		struct made made[3];
		const char *regexes[3];
		char text[TEXT_MAX];
		size_t n = 1 + random_below(&random, 3), size;

		for (size_t i = 0; i < n; i++) {
			made[i] = (struct made){ .random = &random };
			put(&made[i], random_chance(&random, 4) ? "(?s)" : "");
			make_alternatives(&made[i], 0);
			if (!made[i].size || !strcmp(made[i].text, "(?s)"))
				put(&made[i], "ab");
			regexes[i] = made[i].text;
		}
		size = make_text(&random, text);
		compare(seed, regexes, n, text, size, &random);
	}
}

Test(search, byte_strings_are_found_wherever_they_are_cut)
{
	for (uint64_t seed = 1; seed <= place_rounds(10000); seed++) {
		struct random random = { seed };
		uint8_t needle[8];
		char text[TEXT_MAX];
		size_t size = make_text(&random, text), n = 1 + random_below(&random, 6);
		struct pattern p = { needle, n, false, false };
		struct search *s;
		const char *at;

		for (size_t i = 0; i < n; i++)
			needle[i] = (uint8_t) "ab"[random_below(&random, 2)];
		at = memmem(text, size, needle, n);
		s = search_of(&p, 1, 0);
		cr_assert_eq(feed_in_pieces(s, &random, text, size),
			     at ? SEARCH_FOUND : SEARCH_NONE);
		if (at) {
			struct search_match m;

			cr_assert(search_best(s, &m));
			cr_assert_eq(m.begins[0], (uint64_t)(at - text), "seed %d", (int)seed);
		}
		search_free(s);
	}
}
