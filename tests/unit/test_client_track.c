#include "client/track.h"

#include <criterion/criterion.h>
#include <string.h>
#include <xxhash.h>

#include "tests/lib/random.h"

TestSuite(client_track, .timeout = 20);

#define SEED 20240611u

static void raw_output(struct track *t, uint64_t offset, uint64_t consumed, const void *data,
		       size_t size)
{
	const struct track_output o = { offset, consumed, data, size, false, true };

	track_output(t, &o);
}

/* A framed one. */
static void record(struct track *t, uint64_t offset, uint64_t consumed, size_t size, bool ends)
{
	const struct track_output o = { offset, consumed, "0123456789", size, true, ends };

	track_output(t, &o);
}

Test(client_track, what_framing_removes_is_accounted_for_and_proves_no_checksum)
{
	struct track t;
	uint64_t hash;

	track_init(&t, 1, true);
	track_start(&t, 0);
	record(&t, 0, 9, 5, false); /* header and the first part */
	cr_assert(t.next == 9 && t.record == 0, "a resume begins at the record's start");
	record(&t, 9, 3, 3, false);
	cr_assert_eq(t.record, 0);
	record(&t, 12, 0, 0, true);
	cr_assert_eq(t.record, 12);
	record(&t, 12, 2, 2, false);
	track_gap(&t, 14, 20);
	cr_assert_eq(t.record, 20, "what a gap aborted does not come again");
	record(&t, 20, 1, 0, true);
	track_end(&t, 21);
	cr_assert_null(t.broken);
	cr_assert_not(track_checksum(&t, &hash));
	cr_assert_eq(t.seen + t.gaps, 21);
	track_deinit(&t);
}

Test(client_track, what_was_only_cut_can_still_be_summed_up)
{
	struct track t;
	uint64_t hash;

	track_init(&t, 1, true);
	track_start(&t, 0);
	record(&t, 0, 4, 4, false);
	record(&t, 4, 0, 0, true);
	track_end(&t, 4);
	cr_assert(track_checksum(&t, &hash));
	cr_assert_eq(hash, XXH3_64bits("0123", 4));
	track_deinit(&t);
}

Test(client_track, bytes_and_gaps_that_fill_the_stream_add_up)
{
	struct track t;

	track_init(&t, 1, false);
	track_start(&t, 0);
	raw_output(&t, 0, 3, "abc", 3);
	track_gap(&t, 3, 10);
	raw_output(&t, 10, 1, "x", 1);
	track_end(&t, 11);
	cr_assert_null(t.broken);
	cr_assert(t.seen == 4 && t.gaps == 7);
	track_deinit(&t);
}

Test(client_track, what_was_before_the_start_is_not_missed)
{
	struct track t;

	track_init(&t, 1, false);
	track_start(&t, 100);
	raw_output(&t, 100, 5, "hello", 5);
	track_end(&t, 105);
	cr_assert_null(t.broken);
	track_deinit(&t);
}

Test(client_track, nobody_can_say_how_large_an_abandoned_gap_is)
{
	struct track t;

	track_init(&t, 1, false);
	track_start(&t, 0);
	raw_output(&t, 0, 2, "ab", 2);
	track_gap(&t, 2, 2);
	track_end(&t, 2);
	cr_assert_null(t.broken);
	track_deinit(&t);
}

static void more_than_framing_can_remove(struct track *t)
{
	record(t, 4, 10, 5, true);
}

static void less_than_it_brings(struct track *t)
{
	record(t, 4, 4, 5, true);
}

static const char *run(void (*script)(struct track *))
{
	static struct track t;

	track_init(&t, 1, true);
	track_start(&t, 0);
	raw_output(&t, 0, 4, "abcd", 4);
	script(&t);
	track_deinit(&t);
	return t.broken;
}

static void twice(struct track *t)
{
	raw_output(t, 3, 2, "de", 2);
}

static void missing(struct track *t)
{
	raw_output(t, 5, 2, "fg", 2);
}

static void short_end(struct track *t)
{
	track_end(t, 3);
}

static void long_end(struct track *t)
{
	track_end(t, 5);
}

static void after_end(struct track *t)
{
	track_end(t, 4);
	raw_output(t, 4, 1, "e", 1);
}

static void two_ends(struct track *t)
{
	track_end(t, 4);
	track_end(t, 4);
}

static void backward_gap(struct track *t)
{
	track_gap(t, 4, 3);
}

static void wrong_consumed(struct track *t)
{
	raw_output(t, 4, 3, "e", 1);
}

static void overflow(struct track *t)
{
	track_gap(t, 4, UINT64_MAX);
	raw_output(t, UINT64_MAX, 2, "ab", 2);
}

Test(client_track, every_lie_is_seen)
{
	void (*const lies[])(struct track *) = { twice,
						 missing,
						 short_end,
						 long_end,
						 after_end,
						 two_ends,
						 backward_gap,
						 wrong_consumed,
						 overflow,
						 more_than_framing_can_remove,
						 less_than_it_brings };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		cr_assert_not_null(run(lies[i]), "lie %zu was believed", i);
}

Test(client_track, a_checksum_needs_every_byte)
{
	struct track t;
	uint64_t hash;

	track_init(&t, 1, true);
	track_start(&t, 0);
	raw_output(&t, 0, 5, "hello", 5);
	cr_assert_not(track_checksum(&t, &hash), "not before the end");
	track_end(&t, 5);
	cr_assert(track_checksum(&t, &hash));
	cr_assert_eq(hash, XXH3_64bits("hello", 5));
	track_deinit(&t);

	track_init(&t, 1, true);
	track_start(&t, 0);
	track_gap(&t, 0, 1);
	raw_output(&t, 1, 4, "ello", 4);
	track_end(&t, 5);
	cr_assert_null(t.broken);
	cr_assert_not(track_checksum(&t, &hash));
	track_deinit(&t);
}

/* A true history is believed; the same with one number changed is not. */
Test(client_track, any_changed_number_breaks_a_true_history)
{
	struct random rnd = { SEED };

	for (int round = 0; round < 20000; round++) {
		uint64_t at = random_below(&rnd, 1000), lie = 1 + random_below(&rnd, 3);
		int steps = 1 + (int)random_below(&rnd, 8), wrong = (int)random_below(&rnd, 17);
		struct track t;

		track_init(&t, 1, false);
		track_start(&t, at);
		for (int i = 0; i < steps; i++) {
			uint64_t size = 1 + random_below(&rnd, 9);
			uint64_t offset = at + (i == wrong ? lie : 0);

			if (random_chance(&rnd, 3))
				track_gap(&t, offset, at + size);
			else
				raw_output(&t, offset, size, "123456789", size);
			at += size;
		}
		track_end(&t, at + (wrong == steps ? lie : 0));
		cr_assert_eq(t.broken != NULL, wrong <= steps, "seed %u round %d", SEED, round);
		track_deinit(&t);
	}
}
