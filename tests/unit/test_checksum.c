#include "broker/checksum.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/lib/countdown.h"
#include "tests/lib/pattern.h"
#include "tests/lib/random.h"

static struct checksum *sum;

static void init(void)
{
	cr_assert_eq(checksum_new(&sum), 0);
}

static void fini(void)
{
	checksum_free(sum);
}

TestSuite(checksum, .timeout = 20, .init = init, .fini = fini);

Test(checksum, of_known_bytes_is_what_everybody_computes)
{
	cr_assert_eq(checksum_value(sum), 0x2d06800538d394c2u, "xxhsum -H3 of nothing");
	cr_assert_eq(checksum_hash("", 0, 0), 0x2d06800538d394c2u);
}

Test(checksum, pieces_and_continued_states_give_what_the_whole_gives)
{
	const uint64_t seed = 11;
	static uint8_t data[6000];
	struct random r = { seed };

	pattern_fill(data, sizeof(data), 0);
	for (int round = 0; round < 300; round++) {
		struct checksum *c;
		size_t at = 0, total = random_below(&r, random_chance(&r, 2) ? 600 : 6001);

		cr_assert_eq(checksum_new(&c), 0);
		while (at < total) {
			size_t size = 1 + random_below(&r, 300);
			struct checksum_state state;

			size = size < total - at ? size : total - at;
			checksum_add(c, data + at, size);
			at += size;
			if (random_chance(&r, 2))
				continue;
			checksum_save(c, &state);
			checksum_free(c);
			cr_assert_eq(checksum_new(&c), 0);
			checksum_add(c, "other", 5);
			cr_assert_eq(checksum_load(c, &state), 0);
		}
		cr_assert_eq(checksum_value(c), checksum_hash(data, total, 0), "seed %lu round %d",
			     seed, round);
		checksum_free(c);
	}
}

Test(checksum, states_that_would_lead_out_of_the_buffer_are_refused)
{
	struct checksum_state good, bad;

	checksum_add(sum, "abc", 3);
	checksum_save(sum, &good);
	bad = good;
	bad.n_buffered = 257;
	cr_assert_eq(checksum_load(sum, &bad), CHECKSUM_E_BAD);
	bad = good;
	bad.n_buffered = 2;
	cr_assert_eq(checksum_load(sum, &bad), CHECKSUM_E_BAD);
	bad = good;
	bad.n_stripes = 16;
	cr_assert_eq(checksum_load(sum, &bad), CHECKSUM_E_BAD);
	bad = good;
	bad.total = 1000;
	bad.n_buffered = 0;
	cr_assert_eq(checksum_load(sum, &bad), CHECKSUM_E_BAD);
	cr_assert_eq(checksum_value(sum), checksum_hash("abc", 3, 0), "nothing was changed");
}

Test(checksum, any_sound_state_is_used_without_harm)
{
	struct random r = { 4 };
	static uint8_t data[1000];

	for (int i = 0; i < 5000; i++) {
		struct checksum_state state;

		random_fill(&r, (uint8_t *)&state, sizeof(state));
		state.n_buffered %= 300;
		state.n_stripes %= 20;
		if (random_chance(&r, 4))
			state.total = state.n_buffered;
		if (checksum_load(sum, &state) == 0) {
			checksum_add(sum, data, random_below(&r, sizeof(data)));
			checksum_value(sum);
		}
	}
}

Test(checksum, want_of_memory_is_told)
{
	struct checksum *c;

	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(checksum_new(&c), -ENOMEM);
	cr_assert(countdown_off());
}
