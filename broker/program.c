/* Owns the instructions and the sets. All patterns make one program: each is tried from every byte
 * on, in the order of the list.
 *
 *	split pattern 0, next; pattern 0; match 0; split pattern 1, next; pattern 1; match 1; ...
 *
 * Jumps are relative, so that instructions can be moved and copied as they are.
 */
#include "broker/program.h"

#include <errno.h>
#include <string.h>

#include "proto/base/err.h"

static int program_reserve(struct program *p, size_t more)
{
	size_t capacity = MAX(p->capacity, 16);
	struct insn *insns;

	if (more > PROGRAM_MAX - p->n_insns)
		return PROGRAM_E_FULL;
	while (capacity < p->n_insns + more)
		capacity *= 2;
	if (capacity == p->capacity)
		return 0;
	insns = realloc(p->insns, capacity * sizeof(*insns));
	if (!insns)
		return err_begin(-ENOMEM);
	p->insns = insns;
	p->capacity = capacity;
	return 0;
}

int program_insert(struct program *p, size_t at, enum insn_op op, int32_t x, int32_t y)
{
	int r = program_reserve(p, 1);

	if (r)
		return r;
	memmove(&p->insns[at + 1], &p->insns[at], (p->n_insns - at) * sizeof(*p->insns));
	p->insns[at] = (struct insn){ .op = (uint8_t)op, .x = x, .y = y };
	p->n_insns++;
	return 0;
}

int program_add(struct program *p, enum insn_op op, int32_t x, int32_t y)
{
	return program_insert(p, p->n_insns, op, x, y);
}

int program_add_byte(struct program *p, uint8_t byte)
{
	int r = program_add(p, INSN_BYTE, 0, 0);

	if (!r)
		p->insns[p->n_insns - 1].value = byte;
	return r;
}

int program_add_set(struct program *p, const struct byte_set *set)
{
	size_t capacity = MAX(p->sets_capacity, 4);
	struct byte_set *sets;
	int r = program_add(p, INSN_SET, (int32_t)p->n_sets, 0);

	if (r)
		return r;
	while (capacity <= p->n_sets)
		capacity *= 2;
	if (capacity > p->sets_capacity) {
		sets = realloc(p->sets, capacity * sizeof(*sets));
		if (!sets)
			return err_begin(-ENOMEM);
		p->sets = sets;
		p->sets_capacity = capacity;
	}
	p->sets[p->n_sets++] = *set;
	return 0;
}

int program_repeat(struct program *p, size_t at, size_t n)
{
	int r = program_reserve(p, n);

	if (r)
		return r;
	memcpy(&p->insns[p->n_insns], &p->insns[at], n * sizeof(*p->insns));
	p->n_insns += n;
	return 0;
}

/* --- all patterns ---------------------------------------------------------------------------- */

static int program_add_text(struct program *p, const struct pattern *pattern)
{
	int r = 0;

	for (size_t i = 0; !r && i < pattern->size; i++) {
		uint8_t c = pattern->text[i], other = c ^ 0x20;
		struct byte_set both = { { 0 } };

		if (!pattern->ignore_case || (c | 0x20) < 'a' || (c | 0x20) > 'z') {
			r = program_add_byte(p, c);
			continue;
		}
		both.bits[c >> 6] |= 1ull << (c & 63);
		both.bits[other >> 6] |= 1ull << (other & 63);
		r = program_add_set(p, &both);
	}
	return r;
}

static int program_add_pattern(struct program *p, const struct pattern *pattern, unsigned number,
			       struct pattern_error *ret_error)
{
	unsigned n_groups = 0;
	int r = program_add(p, INSN_SAVE, 0, 0);

	if (!r && pattern->is_regex)
		r = pattern_parse(p, pattern, &n_groups, ret_error);
	else if (!r)
		r = program_add_text(p, pattern);
	if (!r)
		r = program_add(p, INSN_SAVE, 1, 0);
	if (!r)
		r = program_add(p, INSN_MATCH, (int32_t)number, 0);
	p->n_groups[number] = n_groups;
	p->n_slots = MAX(p->n_slots, 2 * (n_groups + 1));
	return r;
}

static int compile_all(struct program *p, const struct pattern *patterns, size_t n,
		       struct pattern_error *ret_error)
{
	int r = 0;

	for (unsigned i = 0; !r && i < n; i++) {
		size_t at = p->n_insns;

		ret_error->pattern = i;
		ret_error->at = patterns[i].size;
		if (patterns[i].size > EXPECT_PATTERN_MAX) {
			ret_error->what = "is longer than 4096 bytes";
			return PROGRAM_E_BAD;
		}
		if (!patterns[i].size) {
			ret_error->what = "is empty, and would match before anything came";
			return PROGRAM_E_BAD;
		}
		r = program_add_pattern(p, &patterns[i], i, ret_error);
		if (!r && i + 1 < n)
			r = program_insert(p, at, INSN_SPLIT, 1, (int32_t)(p->n_insns - at) + 1);
	}
	if (r == PROGRAM_E_FULL) {
		ret_error->what = "is too large once its counts are written out, with those before "
				  "it; use smaller counts or fewer patterns";
		r = PROGRAM_E_BAD;
	}
	p->n_patterns = (unsigned)n;
	return r;
}

int program_compile(struct program *ret, const struct pattern *patterns, size_t n,
		    struct pattern_error *ret_error)
{
	int r;

	*ret = (struct program){ 0 };
	*ret_error = (struct pattern_error){ 0 };
	if (n < 1 || n > EXPECT_PATTERNS_MAX) {
		ret_error->what = "is one of none, or of more than 32";
		return PROGRAM_E_BAD;
	}
	r = compile_all(ret, patterns, n, ret_error);
	if (r)
		program_deinit(ret);
	return r;
}

void program_deinit(struct program *p)
{
	free(TAKE(p->insns));
	free(TAKE(p->sets));
}

size_t program_size(const struct program *p)
{
	return p->capacity * sizeof(*p->insns) + p->sets_capacity * sizeof(*p->sets);
}
