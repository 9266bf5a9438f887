/* Quantifiers: a split in front of an atom, or behind it, and as many copies as its counts say.
 * What can match nothing is not looped over as it is: x* of such an x is (x+)?, in which a second
 * round of nothing meets the first and ends.
 */
#include "broker/pattern.h"

#define REPEAT_MAX 1000u

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

	if (parser_peek(p) != '{' || !read_number(p, &at, &ret->low))
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
	if (parser_accept(p, "*"))
		*ret = (struct count){ 0, UINT32_MAX, false };
	else if (parser_accept(p, "+"))
		*ret = (struct count){ 1, UINT32_MAX, false };
	else if (parser_accept(p, "?"))
		*ret = (struct count){ 0, 1, false };
	else if (!read_braces(p, ret))
		return *ret_is = false;
	if (ret->low > REPEAT_MAX || (ret->high != UINT32_MAX && ret->high > REPEAT_MAX))
		return parser_refuse(p, at, "repeats more than 1000 times");
	if (ret->high < ret->low)
		return parser_refuse(p, at,
				     "has a {n,m} of which the second number is the smaller one");
	ret->is_lazy = parser_accept(p, "?");
	if (parser_peek(p) == '+' || parser_peek(p) == '*' || parser_peek(p) == '?')
		return parser_refuse(p, p->at, "has a quantifier behind a quantifier");
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

int pattern_quantify(struct parser *p, struct piece *piece)
{
	struct count c;
	size_t at = p->at;
	bool is;
	int r = read_count(p, &c, &is);

	if (r || !is)
		return r;
	if (piece->is_assertion)
		return parser_refuse(p, at, "repeats what matches nothing");
	r = c.high == UINT32_MAX ? quantify_loop(p, &c, piece) : quantify_count(p, &c, piece);
	piece->is_nullable |= c.low == 0;
	return r;
}
