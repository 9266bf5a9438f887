#include "broker/pace.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "proto/base/cleanup.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

TestSuite(pace, .timeout = 60);

Test(pace, few_bytes_are_told_to_the_millisecond)
{
	struct pace p = { 0 };

	pace_note(&p, 0, 0, 1000);
	pace_note(&p, 10, 0, 1007);
	pace_note(&p, 15, 0, 1100);
	cr_expect_eq(pace_age(&p, 0, 1100), 100);
	cr_expect_eq(pace_age(&p, 9, 1100), 100);
	cr_expect_eq(pace_age(&p, 10, 1100), 93);
	cr_expect_eq(pace_age(&p, 14, 1107), 100);
	cr_expect_eq(pace_age(&p, 99, 1107), 7);
	cr_expect_eq(pace_age(&(struct pace){ 0 }, 5, 1107), 0);
}

Test(pace, bytes_of_one_millisecond_share_a_mark)
{
	struct pace p = { 0 };

	for (uint64_t i = 0; i < 1000; i++)
		pace_note(&p, i, 0, 5);
	cr_expect_eq(p.n, 1);
}

#define WRITES 400

/* A writer with bursts and pauses and a log that forgets, against a note for each byte. */
static void model_round(uint64_t seed)
{
	struct random random = { seed };
	struct pace p = { 0 };
	struct {
		uint64_t offset, ms;
	} notes[WRITES];
	uint64_t offset = 0, now = 1 + random_below(&random, 1000), begin = now, oldest = 0,
		 most = 0;
	uint64_t kept;

	for (unsigned i = 0; i < WRITES; i++) {
		now += random_chance(&random, 20) ? random_below(&random, 100000)
						  : random_below(&random, 30);
		notes[i].offset = offset;
		notes[i].ms = now;
		pace_note(&p, offset, oldest, now);
		offset += 1 + random_below(&random, 100);
		kept = random_below(&random, 20000);
		oldest = MAX(oldest, offset - MIN(offset, kept));
		most = MAX(most, (now - begin) / 8);
		cr_assert_leq(p.n, PACE_MARKS);
		for (unsigned j = 0; j <= i; j++) {
			uint64_t age = pace_age(&p, notes[j].offset, now + 3);

			if (notes[j].offset < oldest)
				continue;
			cr_assert_geq(age, now + 3 - notes[j].ms,
				      "seed %d: byte %d of %d: %d, not %d", (int)seed, j, i,
				      (int)age, (int)(now + 3 - notes[j].ms));
			cr_assert_leq(age, now + 3 - notes[j].ms + most, "seed %d: byte %d",
				      (int)seed, j);
		}
	}
}

Test(pace, ages_are_never_too_low_and_only_a_little_too_high)
{
	for (uint64_t seed = 1; seed <= place_rounds(300); seed++)
		model_round(seed);
}
