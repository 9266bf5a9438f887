/* Where writes went whose answer was lost: never a guess. */
#include "client/ledger.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/random.h"

TestSuite(client_ledger, .timeout = 20);

static bool reckon(struct ledgers *l, uint64_t size, uint64_t *ret)
{
	const struct ledger_write w = { .size = size, .window = 100 };

	return ledger_reckon(l, &w, ret);
}

Test(client_ledger, a_port_of_ours_begins_at_zero_and_a_strangers_is_not_known)
{
	struct ledgers ours = { .fresh = true }, theirs = { 0 };
	uint64_t offset = 99;

	cr_assert(reckon(&ours, 5, &offset));
	cr_assert_eq(offset, 0);
	cr_assert(reckon(&ours, 5, &offset));
	cr_assert_eq(offset, 5);
	cr_assert_not(reckon(&theirs, 5, &offset));
	ledger_seen(&theirs, 0, 1, 70, 0, 0);
	cr_assert(reckon(&theirs, 5, &offset));
	cr_assert_eq(offset, 70);
	cr_assert_not(
		ledger_reckon(&theirs, &(struct ledger_write){ .stream = 3, .size = 5 }, &offset),
		"another input");
}

Test(client_ledger, past_the_window_one_may_have_been_refused)
{
	struct ledgers l = { .fresh = true };
	uint64_t offset;

	cr_assert(reckon(&l, 500, &offset), "an empty queue takes any");
	cr_assert_not(reckon(&l, 1, &offset));
	ledger_begin(&l);
	cr_assert(reckon(&l, 99, &offset));
	cr_assert(reckon(&l, 1, &offset));
	cr_assert_not(reckon(&l, 1, &offset));
}

Test(client_ledger, who_does_not_wait_may_have_been_refused_behind_others)
{
	const struct ledger_write w = { .size = 5, .window = 100, .no_wait = true };
	struct ledgers l = { .fresh = true };
	uint64_t offset;

	cr_assert(ledger_reckon(&l, &w, &offset), "an empty queue is not busy");
	cr_assert_not(ledger_reckon(&l, &w, &offset));
}

Test(client_ledger, an_offset_that_is_not_the_next_was_refused)
{
	const struct ledger_write w = { .size = 5, .window = 100, .has_offset = true, .offset = 7 };
	struct ledgers l = { .fresh = true };
	uint64_t offset;

	cr_assert_not(ledger_reckon(&l, &w, &offset));
	ledger_written(&l, 0, 1, 0, 7);
	ledger_begin(&l);
	cr_assert(ledger_reckon(&l, &w, &offset));
	cr_assert_eq(offset, 7);
}

Test(client_ledger, two_names_for_what_may_be_one_input_are_not_reckoned)
{
	const struct ledger_write w = { .stream = REDD_STREAM_DEFAULT, .size = 5, .window = 100 };
	struct ledgers l = { .fresh = true };
	uint64_t offset;

	ledger_named(&l, REDD_STREAM_DEFAULT);
	ledger_named(&l, 3);
	cr_assert(ledger_reckon(&l, &w, &offset));
	ledger_named(&l, 0);
	ledger_begin(&l);
	cr_assert_not(ledger_reckon(&l, &w, &offset));
}

Test(client_ledger, a_doubt_ends_with_the_answer_to_what_was_sent_behind_it)
{
	struct ledgers l = { .fresh = true };
	uint64_t offset;

	ledger_doubt(&l, 0, 2);
	cr_assert_not(reckon(&l, 5, &offset));
	ledger_written(&l, 0, 1, 0, 9);
	ledger_seen(&l, 0, 2, 9, 0, 0);
	cr_assert_not(reckon(&l, 5, &offset), "what it was behind says nothing");
	ledger_seen(&l, 0, 4, 30, 1, 4);
	cr_assert_not(reckon(&l, 5, &offset), "with one of ours in front of it or in it");
	ledger_written(&l, 0, 3, 20, 4);
	cr_assert(reckon(&l, 5, &offset));
	cr_assert_eq(offset, 24);
}

Test(client_ledger, what_is_seen_shows_whether_others_write)
{
	struct ledgers l = { .fresh = true };
	uint64_t offset;

	ledger_seen(&l, 0, 1, 10, 2, 10);
	cr_assert(reckon(&l, 5, &offset), "those are ours");
	ledger_seen(&l, 0, 2, 11, 2, 10);
	cr_assert_not(reckon(&l, 5, &offset));
	ledger_written(&l, 0, 3, 11, 2);
	cr_assert_not(reckon(&l, 5, &offset), "they will again");
}

/* --- a model --------------------------------------------------------------------------------- */

#define WRITES 40
#define WINDOW 100

/* A broker with one input of which only we write, in all ways, and the answers that it gives, in
 * their order. The pipe holds the number of the write that each of its bytes is of. */
struct broker {
	struct model_write {
		uint64_t size, at;
		bool no_wait, is_expect, is_refused;
	} writes[WRITES + 1]; /* from 1 */
	uint8_t pipe[WRITES * 50];
	size_t accepted, in_pipe;
	unsigned n, answers[WRITES], n_answers, next_written;
};

static bool takes(const struct broker *b, const struct model_write *w, struct random *random)
{
	size_t queued = b->accepted - b->in_pipe;

	if (queued && w->no_wait && random_chance(random, 2))
		return false; /* busy */
	return !queued || queued + w->size <= WINDOW;
}

static void broker_take(struct broker *b, struct random *random)
{
	struct model_write *w = &b->writes[++b->n];

	*w = (struct model_write){ .size = 1 + random_below(random, 49),
				   .at = b->accepted,
				   .no_wait = random_chance(random, 4),
				   .is_expect = random_chance(random, 8) };
	w->is_refused = !takes(b, w, random);
	if (!w->is_refused) {
		memset(b->pipe + b->accepted, (int)b->n, w->size);
		b->accepted += w->size;
	}
	if (w->is_refused || w->is_expect)
		b->answers[b->n_answers++] = b->n;
}

static void broker_drain(struct broker *b, struct random *random)
{
	b->in_pipe += random_below(random, b->accepted - b->in_pipe + 1);
	for (; b->next_written < b->n; b->next_written++) {
		const struct model_write *w = &b->writes[b->next_written + 1];

		if (w->is_refused || w->is_expect)
			continue;
		if (w->at + w->size > b->in_pipe)
			break;
		b->answers[b->n_answers++] = b->next_written + 1;
	}
}

static void client_hears(struct ledgers *l, const struct broker *b, unsigned number)
{
	const struct model_write *w = &b->writes[number];

	if (w->is_expect) /* it matched, or was refused, before all was in the pipe */
		ledger_doubt(l, 0, number);
	else if (!w->is_refused)
		ledger_written(l, 0, number, w->at, w->size);
}

/* The successor has what is in the pipe. A repeat must find there its own bytes or none. */
static unsigned repeat_all(struct ledgers *l, const struct broker *b, const bool *is_answered)
{
	unsigned n = 0;

	ledger_begin(l);
	for (unsigned i = 1; i <= b->n; i++) {
		const struct model_write *m = &b->writes[i];
		const struct ledger_write w = { .size = m->size,
						.window = WINDOW,
						.no_wait = m->no_wait };
		uint64_t at;

		if (is_answered[i])
			continue;
		if (m->is_expect || !ledger_reckon(l, &w, &at)) {
			ledger_doubt(l, 0, i);
			continue;
		}
		n++;
		for (uint64_t k = at; k < at + m->size && k < b->in_pipe; k++)
			cr_assert_eq(b->pipe[k], i, "%u would be repeated over %u", i, b->pipe[k]);
	}
	return n;
}

Test(client_ledger, P9_what_is_reckoned_is_where_it_went)
{
	struct random random = { 20260 };
	unsigned n_repeated = 0;

	for (int round = 0; round < 4000; round++) {
		struct ledgers l = { .fresh = random_chance(&random, 2) };
		bool is_answered[WRITES + 1] = { false };
		unsigned n = 1 + (unsigned)random_below(&random, WRITES), n_heard;
		struct broker b = { 0 };

		while (b.n < n) {
			broker_take(&b, &random);
			if (random_chance(&random, 2))
				broker_drain(&b, &random);
		}
		n_heard = (unsigned)random_below(&random, b.n_answers + 1);
		for (unsigned i = 0; i < n_heard; i++) {
			client_hears(&l, &b, b.answers[i]);
			is_answered[b.answers[i]] = true;
		}
		n_repeated += repeat_all(&l, &b, is_answered);
	}
	cr_assert_gt(n_repeated, 4000, "%u", n_repeated);
}
