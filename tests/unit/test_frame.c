#include "proto/frame.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/random.h"

TestSuite(frame, .timeout = 10);

static size_t prefix, length;

static int parse(const char *bytes, size_t size, size_t max)
{
	prefix = length = 4711;
	return frame_parse((const uint8_t *)bytes, size, max, &prefix, &length);
}

Test(frame, a_length_below_128_takes_one_byte)
{
	cr_assert_eq(parse("\x05hello", 6, 1000), 0);
	cr_assert(prefix == 1 && length == 5);
	cr_assert_eq(parse("\x7f", 1, 1000), 0, "the body need not be there");
	cr_assert(prefix == 1 && length == 127);
}

Test(frame, an_empty_frame_is_legal)
{
	cr_assert_eq(parse("\0", 1, 1000), 0);
	cr_assert(prefix == 1 && length == 0);
}

Test(frame, a_prefix_that_has_not_come_whole_is_waited_for)
{
	cr_assert_eq(parse("", 0, 1000), FRAME_E_MORE);
	cr_assert_eq(parse("\x80", 1, 1000), FRAME_E_MORE);
	cr_assert_eq(parse("\x80\x80\x80\x80", 4, 1000), FRAME_E_MORE);
	cr_assert(prefix == 4711 && length == 4711, "outputs are written on success only");
}

Test(frame, five_bytes_and_32_bits_are_the_most)
{
	cr_assert_eq(parse("\xff\xff\xff\xff\x0f", 5, UINT32_MAX), 0);
	cr_assert(prefix == 5 && length == UINT32_MAX);
	cr_assert_eq(parse("\x80\x80\x80\x80\x10", 5, SIZE_MAX), FRAME_E_BAD);
	cr_assert_eq(parse("\xff\xff\xff\xff\x7f", 5, SIZE_MAX), FRAME_E_BAD);
	cr_assert_eq(parse("\x80\x80\x80\x80\x80", 5, SIZE_MAX), FRAME_E_BAD);
	cr_assert_eq(parse("\x80\x80\x80\x80\x80\x00", 6, SIZE_MAX), FRAME_E_BAD);
}

Test(frame, a_padded_prefix_is_a_prefix)
{
	cr_assert_eq(parse("\x85\x80\x80\x80\x00", 5, 5), 0);
	cr_assert(prefix == 5 && length == 5);
}

Test(frame, the_maximum_passes_and_one_more_does_not)
{
	uint8_t out[FRAME_PREFIX_MAX];
	size_t n = frame_prefix(out, FRAME_MAX_DEFAULT);

	cr_assert_eq(parse((char *)out, n, FRAME_MAX_DEFAULT), 0);
	cr_assert_eq(length, FRAME_MAX_DEFAULT);
	cr_assert_eq(parse((char *)out, n, FRAME_MAX_DEFAULT - 1), FRAME_E_LONG);
	cr_assert_eq(parse("\x01", 1, 0), FRAME_E_LONG);
}

Test(frame, what_is_written_is_read_back_however_it_is_cut)
{
	const uint64_t seed = 7;
	struct random r = { seed };

	for (int round = 0; round < 100000; round++) {
		uint64_t want = random_number(&r) & UINT32_MAX;
		uint8_t out[FRAME_PREFIX_MAX];
		size_t n = frame_prefix(out, want);

		for (size_t have = 0; have < n; have++)
			cr_assert_eq(parse((char *)out, have, UINT32_MAX), FRAME_E_MORE,
				     "seed %lu length %lu have %zu", seed, want, have);
		cr_assert_eq(parse((char *)out, n, UINT32_MAX), 0);
		cr_assert(prefix == n && length == want, "seed %lu length %lu", seed, want);
	}
}
