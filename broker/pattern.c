/* The parser of regular expressions: recursive descent that appends instructions as it reads.
 *
 *	alternatives := sequence { '|' sequence }
 *	sequence     := { atom [quantifier] }
 *	atom         := byte | set | assertion | '(' alternatives ')'
 *
 * What was read is a range of instructions of which all jumps stay within it; so a quantifier can
 * put a split in front of its atom, and copy it. An atom that may match nothing is never repeated
 * for nothing: (a*)* is ((a*)+)?, in which the second round of nothing meets itself.
 *
 * Depth is that of the groups, and bounded; everything else is a loop.
 */
#include <errno.h>
#include <string.h>

#include "broker/byte_set.h"
#include "broker/program.h"

#define REPEAT_MAX 1000u

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

static int alternatives(struct parser *p, struct piece *ret);

static int refuse(struct parser *p, size_t at, const char *what)
{
	p->error->at = at;
	p->error->what = what;
	return PROGRAM_E_BAD;
}

static bool has(const struct parser *p)
{
	return p->at < p->size;
}

/* The next byte, or -1. */
static int peek(const struct parser *p)
{
	return has(p) ? p->text[p->at] : -1;
}

static bool accept(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	if (p->size - p->at < n || memcmp(p->text + p->at, word, n) != 0)
		return false;
	p->at += n;
	return true;
}

/* --- escapes --------------------------------------------------------------------------------- */

static int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind "\x": HH or {HH}. */
static int escape_hex(struct parser *p, uint8_t *ret)
{
	bool braces = accept(p, "{");
	unsigned value = 0, n = 0;

	for (; n < 2 && hex_digit(peek(p)) >= 0; n++)
		value = value * 16 + (unsigned)hex_digit(p->text[p->at++]);
	if (n == 0 || (braces && !accept(p, "}")))
		return refuse(p, p->at, "needs one or two hexadecimal digits behind \\x");
	*ret = (uint8_t)value;
	return 0;
}

/* Behind a backslash: a single byte. */
static int escape_byte(struct parser *p, uint8_t *ret)
{
	static const char letters[] = "nrtfvae", bytes[] = "\n\r\t\f\v\a\x1b";
	const char *known;
	size_t at = p->at;
	int c = peek(p);

	if (c < 0)
		return refuse(p, at, "ends with a lone backslash");
	p->at++;
	if (c == 'x')
		return escape_hex(p, ret);
	known = c ? strchr(letters, c) : NULL;
	if (known)
		c = bytes[known - letters];
	else if (c >= '1' && c <= '9')
		return refuse(p, at,
			      "has a back reference, which no search of a stream can follow");
	else if (c == '0')
		return refuse(p, at, "has an octal escape; write \\x and two digits");
	else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return refuse(p, at,
			      "has an escape that is not known; see redd(1) for those that are");
	*ret = (uint8_t)c;
	return 0;
}

/* --- classes --------------------------------------------------------------------------------- */

/* "[:alpha:]" inside of a class. */
static int class_named(struct parser *p, struct byte_set *s)
{
	size_t at = p->at, n = 0;
	bool inverted;

	p->at += 2;
	inverted = accept(p, "^");
	while (p->at + n < p->size && p->text[p->at + n] != ':')
		n++;
	if (!byte_set_named(s, (const char *)p->text + p->at, n, inverted))
		return refuse(p, at,
			      "has a class of a name that is not known, such as [:alpha:] is");
	p->at += n;
	return accept(p, ":]") ? 0 : refuse(p, at, "has a [: without its :]");
}

/* One element: a byte into *ret_byte, or a set that is joined, and *ret_byte is -1. */
static int class_element(struct parser *p, struct byte_set *s, int *ret_byte)
{
	struct byte_set set;
	uint8_t byte;
	int r;

	*ret_byte = -1;
	if (p->size - p->at >= 2 && !memcmp(p->text + p->at, "[:", 2))
		return class_named(p, s);
	if (!accept(p, "\\")) {
		*ret_byte = p->text[p->at++];
		return 0;
	}
	if (has(p) && byte_set_of_letter(&set, p->text[p->at])) {
		p->at++;
		byte_set_join(s, &set);
		return 0;
	}
	if (accept(p, "b")) {
		*ret_byte = '\b';
		return 0;
	}
	r = escape_byte(p, &byte);
	*ret_byte = byte;
	return r;
}

/* Behind an element: the rest of a range, if it is one. */
static int class_range(struct parser *p, struct byte_set *s, int low)
{
	size_t at = p->at;
	int high = low, r = 0;

	if (low >= 0 && p->size - p->at >= 2 && p->text[p->at] == '-' &&
	    p->text[p->at + 1] != ']') {
		p->at++;
		r = class_element(p, s, &high);
	}
	if (r)
		return r;
	if (low >= 0 && high < low)
		return refuse(p, at, "has a range in a class that does not rise");
	if (low >= 0)
		byte_set_add(s, (unsigned)low, (unsigned)high);
	return 0;
}

static int class_read(struct parser *p)
{
	size_t at = p->at - 1;
	bool inverted = accept(p, "^"), first = true;
	struct byte_set s = { { 0 } };
	int r = 0, low;

	for (; has(p) && (first || peek(p) != ']') && !r; first = false) {
		r = class_element(p, &s, &low);
		if (!r)
			r = class_range(p, &s, low);
	}
	if (r)
		return r;
	if (!accept(p, "]"))
		return refuse(p, at, "has a [ without its ]");
	if (p->ignore_case)
		byte_set_fold(&s);
	if (inverted)
		byte_set_invert(&s);
	return program_add_set(p->program, &s);
}

/* --- atoms ----------------------------------------------------------------------------------- */

static int add_byte(struct parser *p, uint8_t byte)
{
	struct byte_set s = { { 0 } };

	if (!p->ignore_case || (byte | 0x20) < 'a' || (byte | 0x20) > 'z')
		return program_add_byte(p->program, byte);
	byte_set_add(&s, byte, byte);
	byte_set_fold(&s);
	return program_add_set(p->program, &s);
}

static int add_dot(struct parser *p)
{
	struct byte_set s = { { 0 } };

	if (!p->dot_all)
		byte_set_add(&s, '\n', '\n');
	byte_set_invert(&s);
	return program_add_set(p->program, &s);
}

static int add_assertion(struct parser *p, enum assertion what, struct piece *ret)
{
	ret->is_nullable = ret->is_assertion = true;
	return program_add(p->program, INSN_ASSERT, (int32_t)what, 0);
}

static int atom_escape(struct parser *p, struct piece *ret)
{
	static const struct {
		char letter;
		enum assertion what;
	} assertions[] = { { 'b', ASSERT_WORD_EDGE },
			   { 'B', ASSERT_NO_WORD_EDGE },
			   { 'A', ASSERT_BEGIN },
			   { 'z', ASSERT_END } };
	struct byte_set set;
	uint8_t byte;
	int c = peek(p), r;

	for (size_t i = 0; i < ARRAY_SIZE(assertions); i++)
		if (c == assertions[i].letter) {
			p->at++;
			return add_assertion(p, assertions[i].what, ret);
		}
	if (c >= 0 && byte_set_of_letter(&set, (uint8_t)c)) {
		p->at++;
		return program_add_set(p->program, &set);
	}
	r = escape_byte(p, &byte);
	return r ? r : add_byte(p, byte);
}

/* Letters of (?is-is, up to ')' or ':'. */
static int read_flags(struct parser *p, size_t at)
{
	bool on = true;

	for (; has(p) && peek(p) != ')' && peek(p) != ':'; p->at++) {
		if (peek(p) == '-' && on)
			on = false;
		else if (peek(p) == 'i')
			p->ignore_case = on;
		else if (peek(p) == 's')
			p->dot_all = on;
		else if (peek(p) != 'm' || !on) /* '^' and '$' are those of lines, always */
			return refuse(p, at,
				      "has a (? that is not known: groups are (...) and (?:...), "
				      "flags i and s; look-around cannot be searched for in a "
				      "stream");
	}
	return has(p) ? 0 : refuse(p, at, "has a ( without its )");
}

static int group_inside(struct parser *p, size_t at, struct piece *ret)
{
	int r;

	if (++p->depth > EXPECT_DEPTH_MAX)
		return refuse(p, at, "has more than 32 groups within each other");
	r = alternatives(p, ret);
	p->depth--;
	if (!r && !accept(p, ")"))
		r = refuse(p, at, "has a ( without its )");
	return r;
}

static int group_numbered(struct parser *p, size_t at, struct piece *ret)
{
	unsigned number = p->n_groups + 1;
	size_t first = p->program->n_insns;
	int r;

	if (number > EXPECT_GROUPS_MAX)
		return refuse(p, at, "has more than 16 groups; make some of them (?:...)");
	p->n_groups = number;
	r = program_add(p->program, INSN_SAVE, (int32_t)(2 * number), 0);
	if (!r)
		r = group_inside(p, at, ret);
	ret->at = first;
	return r ? r : program_add(p->program, INSN_SAVE, (int32_t)(2 * number + 1), 0);
}

/* Behind '('. Flags hold to the end of the group that they stand in. */
static int atom_group(struct parser *p, struct piece *ret)
{
	bool ignore_case = p->ignore_case, dot_all = p->dot_all;
	size_t at = p->at - 1;
	int r;

	if (!accept(p, "?")) {
		r = group_numbered(p, at, ret);
	} else {
		r = read_flags(p, at);
		if (!r && accept(p, ")")) { /* for what follows */
			ret->is_nullable = ret->is_assertion = true;
			return 0;
		}
		p->at += !r; /* the ':' */
		if (!r)
			r = group_inside(p, at, ret);
	}
	p->ignore_case = ignore_case;
	p->dot_all = dot_all;
	return r;
}

static int atom(struct parser *p, struct piece *ret)
{
	uint8_t c = p->text[p->at++];

	*ret = (struct piece){ .at = p->program->n_insns };
	switch (c) {
	case '.':
		return add_dot(p);
	case '[':
		return class_read(p);
	case '\\':
		return atom_escape(p, ret);
	case '(':
		return atom_group(p, ret);
	case '^':
		return add_assertion(p, ASSERT_LINE_BEGIN, ret);
	case '$':
		return add_assertion(p, ASSERT_LINE_END, ret);
	case '*':
	case '+':
	case '?':
		return refuse(p, p->at - 1, "has a quantifier with nothing to repeat");
	default:
		return add_byte(p, c);
	}
}

/* --- quantifiers ----------------------------------------------------------------------------- */

struct count {
	unsigned low, high; /* high: UINT32_MAX is without end */
	bool is_lazy;
};

static bool read_number(const struct parser *p, size_t *at, unsigned *ret)
{
	size_t begin = *at;

	for (*ret = 0; *at < p->size && p->text[*at] >= '0' && p->text[*at] <= '9'; ++*at)
		*ret = MIN(*ret * 10 + (p->text[*at] - '0'), REPEAT_MAX + 1);
	return *at > begin;
}

/* "{2}", "{2,}", "{2,4}"; what is none of them is text. */
static bool read_braces(struct parser *p, struct count *ret)
{
	size_t at = p->at + 1;

	if (peek(p) != '{' || !read_number(p, &at, &ret->low))
		return false;
	ret->high = ret->low;
	if (at < p->size && p->text[at] == ',') {
		at++;
		if (!read_number(p, &at, &ret->high))
			ret->high = UINT32_MAX;
	}
	if (at >= p->size || p->text[at] != '}')
		return false;
	p->at = at + 1;
	return true;
}

static int read_count(struct parser *p, struct count *ret, bool *ret_is)
{
	size_t at = p->at;

	*ret_is = true;
	if (accept(p, "*"))
		*ret = (struct count){ 0, UINT32_MAX, false };
	else if (accept(p, "+"))
		*ret = (struct count){ 1, UINT32_MAX, false };
	else if (accept(p, "?"))
		*ret = (struct count){ 0, 1, false };
	else if (!read_braces(p, ret))
		return *ret_is = false;
	if (ret->low > REPEAT_MAX || (ret->high != UINT32_MAX && ret->high > REPEAT_MAX))
		return refuse(p, at, "repeats more than 1000 times");
	if (ret->high < ret->low)
		return refuse(p, at, "has a {n,m} of which the second number is the smaller one");
	ret->is_lazy = accept(p, "?");
	if (peek(p) == '+' || peek(p) == '*' || peek(p) == '?')
		return refuse(p, p->at, "has a quantifier behind a quantifier");
	return 0;
}

static int32_t preferred(const struct count *c, int32_t greedy, int32_t lazy)
{
	return c->is_lazy ? lazy : greedy;
}

/* The n instructions from `at` on, which are the last: once or more. */
static int loop_plus(struct parser *p, const struct count *c, size_t at)
{
	int32_t back = -(int32_t)(p->program->n_insns - at);

	return program_add(p->program, INSN_SPLIT, preferred(c, back, 1), preferred(c, 1, back));
}

/* ... once or not at all. */
static int loop_maybe(struct parser *p, const struct count *c, size_t at)
{
	int32_t over = (int32_t)(p->program->n_insns - at) + 1;

	return program_insert(p->program, at, INSN_SPLIT, preferred(c, 1, over),
			      preferred(c, over, 1));
}

/* ... any number of times, and not nullable. */
static int loop_star(struct parser *p, const struct count *c, size_t at)
{
	int32_t n = (int32_t)(p->program->n_insns - at);
	int r = program_insert(p->program, at, INSN_SPLIT, preferred(c, 1, n + 2),
			       preferred(c, n + 2, 1));

	return r ? r : program_add(p->program, INSN_JUMP, -(n + 1), 0);
}

/* Up to `more` copies of the n instructions from `at` on, each only behind the one before it:
 * x{0,3} is (x(x(x)?)?)?. */
static int repeat_maybe(struct parser *p, const struct count *c, size_t at, size_t n, unsigned more)
{
	int32_t rest = (int32_t)((n + 1) * more);
	int r = 0;

	for (unsigned i = 0; !r && i < more; i++, rest -= (int32_t)(n + 1)) {
		r = program_add(p->program, INSN_SPLIT, preferred(c, 1, rest),
				preferred(c, rest, 1));
		if (!r)
			r = program_repeat(p->program, at, n);
	}
	return r;
}

/* Without end: the last copy is the loop. */
static int quantify_loop(struct parser *p, const struct count *c, const struct piece *piece)
{
	size_t n = p->program->n_insns - piece->at, last = piece->at;
	int r = 0;

	for (unsigned i = 1; !r && i < c->low; i++) {
		last = p->program->n_insns;
		r = program_repeat(p->program, piece->at, n);
	}
	if (r)
		return r;
	if (c->low == 0 && !piece->is_nullable)
		return loop_star(p, c, last);
	r = loop_plus(p, c, last);
	return r || c->low ? r : loop_maybe(p, c, last);
}

static int quantify_count(struct parser *p, const struct count *c, const struct piece *piece)
{
	size_t n = p->program->n_insns - piece->at, at = piece->at;
	int r = 0;

	if (c->high == 0) {
		p->program->n_insns = at;
		return 0;
	}
	for (unsigned i = 1; !r && i < c->low; i++)
		r = program_repeat(p->program, at, n);
	if (r)
		return r;
	if (c->low)
		return repeat_maybe(p, c, at, n, c->high - c->low);
	/* The first copy is there, and has to become one that may be left out. */
	r = program_insert(p->program, at, INSN_SPLIT, 0, 0);
	if (!r)
		r = repeat_maybe(p, c, at + 1, n, c->high - 1);
	if (!r) {
		int32_t over = (int32_t)(p->program->n_insns - at);

		p->program->insns[at].x = preferred(c, 1, over);
		p->program->insns[at].y = preferred(c, over, 1);
	}
	return r;
}

static int quantify(struct parser *p, struct piece *piece)
{
	struct count c;
	size_t at = p->at;
	bool is;
	int r = read_count(p, &c, &is);

	if (r || !is)
		return r;
	if (piece->is_assertion)
		return refuse(p, at, "repeats what matches nothing");
	r = c.high == UINT32_MAX ? quantify_loop(p, &c, piece) : quantify_count(p, &c, piece);
	piece->is_nullable |= c.low == 0;
	return r;
}

/* --- sequences and alternatives -------------------------------------------------------------- */

static int sequence(struct parser *p, struct piece *ret)
{
	struct piece piece;
	int r = 0;

	*ret = (struct piece){ .at = p->program->n_insns, .is_nullable = true };
	while (!r && has(p) && peek(p) != '|' && peek(p) != ')') {
		r = atom(p, &piece);
		if (!r)
			r = quantify(p, &piece);
		ret->is_nullable &= piece.is_nullable;
	}
	return r;
}

/* The jumps behind all but the last alternative lead to the end of all: each holds the distance to
 * the one before it until that is known. */
static void land(struct parser *p, size_t last)
{
	struct program *program = p->program;

	while (last) {
		int32_t before = program->insns[last].x;

		program->insns[last].x = (int32_t)(program->n_insns - last);
		last = before ? last - (size_t)before : 0;
	}
}

static int alternatives(struct parser *p, struct piece *ret)
{
	struct piece one;
	size_t last = 0;
	int r = sequence(p, ret);

	one = *ret;
	while (!r && accept(p, "|")) {
		size_t jump;

		r = program_insert(p->program, one.at, INSN_SPLIT, 1,
				   (int32_t)(p->program->n_insns - one.at) + 2);
		jump = p->program->n_insns;
		if (!r)
			r = program_add(p->program, INSN_JUMP, last ? (int32_t)(jump - last) : 0,
					0);
		last = jump;
		if (!r)
			r = sequence(p, &one);
		ret->is_nullable |= one.is_nullable;
	}
	if (!r)
		land(p, last);
	return r;
}

int pattern_parse(struct program *program, const struct pattern *pattern, unsigned *ret_groups,
		  struct pattern_error *ret_error)
{
	struct parser p = { .program = program,
			    .text = pattern->text,
			    .size = pattern->size,
			    .ignore_case = pattern->ignore_case,
			    .error = ret_error };
	struct piece all;
	int r = alternatives(&p, &all);

	if (!r && has(&p))
		r = refuse(&p, p.at, "has a ) without its (");
	*ret_groups = p.n_groups;
	return r;
}
