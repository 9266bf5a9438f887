#include "client/track.h"

#include <criterion/criterion.h>
#include <string.h>
#include <xxhash.h>

#include "tests/lib/random.h"

TestSuite(client_track, .timeout = 20);

#define SEED 20240611u

Test(client_track, bytes_and_gaps_that_fill_the_stream_add_up)
{
	struct track t;

	track_init(&t, 1, false);
	track_start(&t, 0);
	track_output(&t, 0, 3, "abc", 3);
	track_gap(&t, 3, 10);
	track_output(&t, 10, 1, "x", 1);
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
	track_output(&t, 100, 5, "hello", 5);
	track_end(&t, 105);
	cr_assert_null(t.broken);
	track_deinit(&t);
}

Test(client_track, nobody_can_say_how_large_an_abandoned_gap_is)
{
	struct track t;

	track_init(&t, 1, false);
	track_start(&t, 0);
	track_output(&t, 0, 2, "ab", 2);
	track_gap(&t, 2, 2);
	track_end(&t, 2);
	cr_assert_null(t.broken);
	track_deinit(&t);
}

static const char *run(void (*script)(struct track *))
{
	static struct track t;

	track_init(&t, 1, true);
	track_start(&t, 0);
	track_output(&t, 0, 4, "abcd", 4);
	script(&t);
	track_deinit(&t);
	return t.broken;
}

static void twice(struct track *t)
{
	track_output(t, 3, 2, "de", 2);
}

static void missing(struct track *t)
{
	track_output(t, 5, 2, "fg", 2);
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
	track_output(t, 4, 1, "e", 1);
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
	track_output(t, 4, 3, "e", 1);
}

static void overflow(struct track *t)
{
	track_gap(t, 4, UINT64_MAX);
	track_output(t, UINT64_MAX, 2, "ab", 2);
}

Test(client_track, every_lie_is_seen)
{
	void (*const lies[])(struct track *) = { twice,	       missing,	       short_end,
						 long_end,     after_end,      two_ends,
						 backward_gap, wrong_consumed, overflow };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		cr_assert_not_null(run(lies[i]), "lie %zu was believed", i);
}

Test(client_track, a_checksum_needs_every_byte)
{
	struct track t;
	uint64_t hash;

	track_init(&t, 1, true);
	track_start(&t, 0);
	track_output(&t, 0, 5, "hello", 5);
	cr_assert_not(track_checksum(&t, &hash), "not before the end");
	track_end(&t, 5);
	cr_assert(track_checksum(&t, &hash));
	cr_assert_eq(hash, XXH3_64bits("hello", 5));
	track_deinit(&t);

	track_init(&t, 1, true);
	track_start(&t, 0);
	track_gap(&t, 0, 1);
	track_output(&t, 1, 4, "ello", 4);
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
				track_output(&t, offset, size, "123456789", size);
			at += size;
		}
		track_end(&t, at + (wrong == steps ? lie : 0));
		cr_assert_eq(t.broken != NULL, wrong <= steps, "seed %u round %d", SEED, round);
		track_deinit(&t);
	}
}
