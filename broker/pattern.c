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
#include "broker/pattern.h"

static int alternatives(struct parser *p, struct piece *ret);

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
	int c = parser_peek(p), r;

	for (size_t i = 0; i < ARRAY_SIZE(assertions); i++)
		if (c == assertions[i].letter) {
			p->at++;
			return add_assertion(p, assertions[i].what, ret);
		}
	if (c >= 0 && byte_set_of_letter(&set, (uint8_t)c)) {
		p->at++;
		return program_add_set(p->program, &set);
	}
	r = pattern_escape(p, &byte);
	return r ? r : add_byte(p, byte);
}

/* Letters of (?is-is, up to ')' or ':'. */
static int read_flags(struct parser *p, size_t at)
{
	bool on = true;

	for (; parser_has(p) && parser_peek(p) != ')' && parser_peek(p) != ':'; p->at++) {
		if (parser_peek(p) == '-' && on)
			on = false;
		else if (parser_peek(p) == 'i')
			p->ignore_case = on;
		else if (parser_peek(p) == 's')
			p->dot_all = on;
		else if (parser_peek(p) != 'm' || !on) /* '^' and '$' are those of lines, always */
			return parser_refuse(
				p, at,
				"has a (? that is not known: groups are (...) and (?:...), "
				"flags i and s; look-around cannot be searched for in a "
				"stream");
	}
	return parser_has(p) ? 0 : parser_refuse(p, at, "has a ( without its )");
}

static int group_inside(struct parser *p, size_t at, struct piece *ret)
{
	int r;

	if (++p->depth > EXPECT_DEPTH_MAX)
		return parser_refuse(p, at, "has more than 32 groups within each other");
	r = alternatives(p, ret);
	p->depth--;
	if (!r && !parser_accept(p, ")"))
		r = parser_refuse(p, at, "has a ( without its )");
	return r;
}

static int group_numbered(struct parser *p, size_t at, struct piece *ret)
{
	unsigned number = p->n_groups + 1;
	size_t first = p->program->n_insns;
	int r;

	if (number > EXPECT_GROUPS_MAX)
		return parser_refuse(p, at, "has more than 16 groups; make some of them (?:...)");
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

	if (!parser_accept(p, "?")) {
		r = group_numbered(p, at, ret);
	} else {
		r = read_flags(p, at);
		if (!r && parser_accept(p, ")")) { /* for what follows */
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
		return pattern_class(p);
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
		return parser_refuse(p, p->at - 1, "has a quantifier with nothing to repeat");
	default:
		return add_byte(p, c);
	}
}

/* --- sequences and alternatives -------------------------------------------------------------- */

static int sequence(struct parser *p, struct piece *ret)
{
	struct piece piece;
	int r = 0;

	*ret = (struct piece){ .at = p->program->n_insns, .is_nullable = true };
	while (!r && parser_has(p) && parser_peek(p) != '|' && parser_peek(p) != ')') {
		r = atom(p, &piece);
		if (!r)
			r = pattern_quantify(p, &piece);
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
	while (!r && parser_accept(p, "|")) {
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

	if (!r && parser_has(&p))
		r = parser_refuse(&p, p.at, "has a ) without its (");
	*ret_groups = p.n_groups;
	return r;
}
