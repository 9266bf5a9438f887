/* A simulation of the program on all its paths at once (Thompson; with the offsets that each path
 * has saved: Pike). A path that waits for the next byte is a thread; two threads at one instruction
 * have the same future, so the less preferred one is dropped: there are never more threads than
 * instructions.
 *
 * Owns the program and two lists of threads, most preferred first: `now`, of those that wait for
 * the byte at `offset`, and `next`, which is being made. One byte:
 *
 *	settle()   threads that wait at an assertion for what comes next (\b, $) go on or end
 *	step()     each thread takes the byte or ends; where it goes on is followed up to the next
 *	           byte or assertion (follow())
 *	begin()    while nothing was found: a new thread, least preferred, for a match from here on
 *
 * A thread that reaches a match ends all that are less preferred; the match is decided when none is
 * left. While the only threads are those of begin(), bytes that cannot begin a match are skipped.
 */
#include "broker/search.h"

#include <errno.h>
#include <string.h>

#include "proto/base/err.h"

#define UNKNOWN (-2) /* the next byte has not come yet */
#define NO_BYTE (-1) /* there is none in front, or never will be one behind */
#define NO_SLOT UINT32_MAX

struct threads {
	uint32_t n, n_waiting; /* those at an assertion */
	uint32_t *at;	       /* instruction of each */
	uint64_t *slots;       /* n_slots of each */
};

/* What follow() still has to look at: an instruction, or a slot to put back. */
struct later {
	uint32_t at, slot;
	uint64_t old;
};

struct search {
	struct program program;
	struct threads now, next;
	uint32_t *marks; /* of each instruction: the round in which it was seen */
	uint32_t round;
	struct later *stack;
	uint64_t *work, *best; /* slots: of the thread in hand, of the match */
	int best_pattern;      /* -1: none */
	uint64_t from, offset, steps;
	int previous;
	bool is_fresh; /* no thread but those of begin() */
	bool can_skip;
	bool first[256]; /* bytes that a match can begin with */
	uint64_t memory[];
};

/* --- memory ---------------------------------------------------------------------------------- */

static size_t slots_of(const struct program *p)
{
	return (2 * p->n_insns + 2) * p->n_slots;
}

static size_t words_of(const struct program *p)
{
	return 3 * p->n_insns * sizeof(uint32_t);
}

/* An instruction is followed once a round, and leaves two things at most. */
static size_t stack_of(const struct program *p)
{
	return (2 * p->n_insns + 1) * sizeof(struct later);
}

static size_t memory_of(const struct program *p)
{
	return sizeof(struct search) + slots_of(p) * sizeof(uint64_t) + stack_of(p) + words_of(p);
}

size_t search_size(const struct program *p)
{
	return memory_of(p) + program_size(p);
}

static void search_place(struct search *s)
{
	size_t n = s->program.n_insns, slots = s->program.n_slots;
	uint64_t *at = s->memory;

	s->now.slots = at;
	s->next.slots = at += n * slots;
	s->work = at += n * slots;
	s->best = at += slots;
	s->stack = (struct later *)(at + slots);
	s->now.at = (uint32_t *)(s->stack + 2 * n + 1);
	s->next.at = s->now.at + n;
	s->marks = s->next.at + n;
}

void search_free(struct search *s)
{
	if (!s)
		return;
	program_deinit(&s->program);
	free(s);
}

/* --- where a thread goes --------------------------------------------------------------------- */

static bool is_word(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       (c >= 'a' && c <= 'z');
}

/* 1 holds, 0 does not, -1 depends on what comes. */
static int assertion_holds(const struct search *s, enum assertion what, int next)
{
	switch (what) {
	case ASSERT_BEGIN:
		return s->offset == s->from;
	case ASSERT_LINE_BEGIN:
		return s->previous == NO_BYTE || s->previous == '\n';
	case ASSERT_LINE_END:
		return next == UNKNOWN ? -1 : next == NO_BYTE || next == '\n';
	case ASSERT_END:
		return next == UNKNOWN ? -1 : next == NO_BYTE;
	default:
		if (next == UNKNOWN)
			return -1;
		return (is_word(s->previous) != is_word(next)) == (what == ASSERT_WORD_EDGE);
	}
}

static void thread_put(struct search *s, struct threads *to, uint32_t at, bool is_waiting)
{
	size_t n = s->program.n_slots;

	memcpy(&to->slots[to->n * n], s->work, n * sizeof(*s->work));
	to->at[to->n++] = at;
	to->n_waiting += is_waiting;
	s->steps += n / 8;
}

static void found(struct search *s, unsigned pattern)
{
	memcpy(s->best, s->work, s->program.n_slots * sizeof(*s->best));
	s->best_pattern = (int)pattern;
}

/* Follows one instruction; what is behind it goes onto the stack of `depth`. True: a match. */
static bool follow_one(struct search *s, struct threads *to, uint32_t at, int next, size_t *depth)
{
	const struct insn *i = &s->program.insns[at];
	int holds;

	switch (i->op) {
	case INSN_JUMP:
		s->stack[(*depth)++] = (struct later){ at + (uint32_t)i->x, NO_SLOT, 0 };
		return false;
	case INSN_SPLIT:
		s->stack[(*depth)++] = (struct later){ at + (uint32_t)i->y, NO_SLOT, 0 };
		s->stack[(*depth)++] = (struct later){ at + (uint32_t)i->x, NO_SLOT, 0 };
		return false;
	case INSN_SAVE:
		s->stack[(*depth)++] = (struct later){ 0, (uint32_t)i->x, s->work[i->x] };
		s->stack[(*depth)++] = (struct later){ at + 1, NO_SLOT, 0 };
		s->work[i->x] = s->offset;
		return false;
	case INSN_ASSERT:
		holds = assertion_holds(s, (enum assertion)i->x, next);
		if (holds > 0)
			s->stack[(*depth)++] = (struct later){ at + 1, NO_SLOT, 0 };
		else if (holds < 0)
			thread_put(s, to, at, true);
		return false;
	case INSN_MATCH:
		found(s, (unsigned)i->x);
		return true;
	default:
		thread_put(s, to, at, false);
		return false;
	}
}

/* From `at` on with the slots in s->work, to wherever a byte is needed. True: a match was reached,
 * and nothing less preferred counts any more. */
static bool follow(struct search *s, struct threads *to, uint32_t at, int next)
{
	size_t depth = 0;

	s->stack[depth++] = (struct later){ at, NO_SLOT, 0 };
	while (depth) {
		struct later l = s->stack[--depth];

		s->steps++;
		if (l.slot != NO_SLOT) {
			s->work[l.slot] = l.old;
			continue;
		}
		if (s->marks[l.at] == s->round)
			continue;
		s->marks[l.at] = s->round;
		if (follow_one(s, to, l.at, next, &depth))
			return true;
	}
	return false;
}

static void round_begin(struct search *s)
{
	s->next.n = s->next.n_waiting = 0;
	if (++s->round)
		return;
	memset(s->marks, 0, s->program.n_insns * sizeof(*s->marks));
	s->round = 1;
}

static void round_end(struct search *s)
{
	struct threads t = s->now;

	s->now = s->next;
	s->next = t;
}

static void thread_take(struct search *s, uint32_t i)
{
	size_t n = s->program.n_slots;

	memcpy(s->work, &s->now.slots[i * n], n * sizeof(*s->work));
}

/* --- one byte -------------------------------------------------------------------------------- */

static void begin(struct search *s)
{
	bool is_first = s->next.n == 0;

	for (unsigned i = 0; i < s->program.n_slots; i++)
		s->work[i] = SEARCH_UNSET;
	follow(s, &s->next, 0, UNKNOWN);
	s->is_fresh = is_first && s->best_pattern < 0;
}

static void settle(struct search *s, int next)
{
	if (!s->now.n_waiting)
		return;
	round_begin(s);
	for (uint32_t i = 0; i < s->now.n; i++) {
		thread_take(s, i);
		if (follow(s, &s->next, s->now.at[i], next))
			break;
	}
	round_end(s);
}

static bool takes(const struct search *s, uint32_t at, uint8_t byte)
{
	const struct insn *i = &s->program.insns[at];

	return i->op == INSN_BYTE ? i->value == byte : byte_set_has(&s->program.sets[i->x], byte);
}

static void step(struct search *s, uint8_t byte)
{
	bool is_over = false;

	settle(s, byte);
	round_begin(s);
	s->offset++;
	s->previous = byte;
	s->steps += s->now.n;
	for (uint32_t i = 0; i < s->now.n && !is_over; i++) {
		if (!takes(s, s->now.at[i], byte))
			continue;
		thread_take(s, i);
		is_over = follow(s, &s->next, s->now.at[i] + 1, UNKNOWN);
	}
	s->is_fresh = false;
	if (s->best_pattern < 0)
		begin(s);
	round_end(s);
}

/* How many of the bytes cannot begin a match. */
static size_t skip(struct search *s, const uint8_t *data, size_t size)
{
	size_t n = 0;

	while (n < size && !s->first[data[n]])
		n++;
	if (!n)
		return 0;
	s->offset += n;
	s->previous = data[n - 1];
	s->steps += n / 16;
	round_begin(s);
	begin(s);
	round_end(s);
	return n;
}

static bool is_decided(const struct search *s)
{
	return s->best_pattern >= 0 && s->now.n == 0;
}

enum search_result search_feed(struct search *s, const uint8_t *data, size_t size,
			       uint64_t max_steps)
{
	uint64_t end = s->steps + max_steps;
	size_t i = 0;

	while (i < size && !is_decided(s)) {
		if (s->is_fresh && s->can_skip) {
			size_t most = MIN(size - i, (size_t)16 * EXPECT_STEPS_A_SLICE);

			i += skip(s, data + i, most);
			if (i < size && s->first[data[i]])
				step(s, data[i++]);
		} else {
			step(s, data[i++]);
		}
		if (s->steps >= end)
			break;
	}
	if (is_decided(s))
		return SEARCH_FOUND;
	return i < size ? SEARCH_TIRED : SEARCH_HUNGRY;
}

enum search_result search_end(struct search *s)
{
	settle(s, NO_BYTE);
	s->now.n = s->now.n_waiting = 0;
	return s->best_pattern < 0 ? SEARCH_NONE : SEARCH_FOUND;
}

/* --- beginning ------------------------------------------------------------------------------- */

/* The bytes that a match can begin with, as if every assertion held. Skipping others is right only
 * where no match is of nothing. */
static void find_first(struct search *s)
{
	size_t depth = 0;

	s->can_skip = true;
	round_begin(s);
	s->stack[depth++] = (struct later){ 0, NO_SLOT, 0 };
	while (depth) {
		uint32_t at = s->stack[--depth].at;
		const struct insn *i = &s->program.insns[at];

		if (s->marks[at] == s->round)
			continue;
		s->marks[at] = s->round;
		if (i->op == INSN_MATCH) {
			s->can_skip = false;
		} else if (i->op == INSN_BYTE || i->op == INSN_SET) {
			for (unsigned c = 0; c < 256; c++)
				s->first[c] |= takes(s, at, (uint8_t)c);
		} else {
			bool jumps = i->op == INSN_JUMP || i->op == INSN_SPLIT;

			s->stack[depth++].at = at + (uint32_t)(jumps ? i->x : 1);
			if (i->op == INSN_SPLIT)
				s->stack[depth++].at = at + (uint32_t)i->y;
		}
	}
}

int search_new(struct search **ret, struct program *take_program, uint64_t from, int previous)
{
	struct search *s = calloc(1, memory_of(take_program));

	if (!s) {
		program_deinit(take_program);
		return err_begin(-ENOMEM);
	}
	s->program = *take_program;
	*take_program = (struct program){ 0 };
	s->from = s->offset = from;
	s->previous = previous;
	s->best_pattern = -1;
	search_place(s);
	find_first(s);
	round_begin(s);
	begin(s);
	round_end(s);
	*ret = s;
	return 0;
}

/* --- what is known --------------------------------------------------------------------------- */

bool search_best(const struct search *s, struct search_match *ret)
{
	if (s->best_pattern < 0)
		return false;
	ret->pattern = (unsigned)s->best_pattern;
	ret->n_ranges = s->program.n_groups[ret->pattern] + 1;
	for (unsigned i = 0; i < ret->n_ranges; i++) {
		bool is_set = s->best[2 * i] != SEARCH_UNSET && s->best[2 * i + 1] != SEARCH_UNSET;

		ret->begins[i] = is_set ? s->best[2 * i] : SEARCH_UNSET;
		ret->ends[i] = is_set ? s->best[2 * i + 1] : SEARCH_UNSET;
	}
	return true;
}

uint64_t search_offset(const struct search *s)
{
	return s->offset;
}

uint64_t search_earliest(const struct search *s)
{
	uint64_t earliest = s->best_pattern >= 0 ? s->best[0] : s->offset;

	for (uint32_t i = 0; i < s->now.n; i++)
		earliest = MIN(earliest, s->now.slots[i * s->program.n_slots]);
	return earliest;
}

uint64_t search_steps(const struct search *s)
{
	return s->steps;
}
