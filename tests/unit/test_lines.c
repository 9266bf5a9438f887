#include "broker/lines.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/random.h"

TestSuite(lines, .timeout = 20);

/* Byte by byte, from the back. */
static size_t naive(const char *data, size_t size, uint64_t lines)
{
	size_t at = size;

	if (!lines || !size)
		return size;
	if (data[at - 1] == '\n')
		at--;
	for (; at; at--)
		if (data[at - 1] == '\n' && --lines == 0)
			return at;
	return 0;
}

Test(lines, agree_with_counting_byte_by_byte)
{
	const uint64_t seed = 3;
	struct random r = { seed };
	static char data[20000];

	for (int round = 0; round < 4000; round++) {
		size_t size = random_below(&r, random_chance(&r, 4) ? sizeof(data) : 50);
		unsigned every = 1 + (unsigned)random_below(&r, random_chance(&r, 2) ? 4 : 400);
		uint64_t lines = random_below(&r, 2 * size / every + 3);

		for (size_t i = 0; i < size; i++)
			data[i] = random_chance(&r, every) ? '\n' : (char)random_next(&r);
		cr_assert_eq(lines_find_last(data, size, lines), naive(data, size, lines),
			     "seed %lu round %d: %lu lines of %zu bytes", seed, round, lines, size);
	}
}

Test(lines, bytes_next_to_a_newline_in_value_are_none)
{
	char data[64];

	memset(data, '\n' ^ 0x80, sizeof(data));
	cr_assert_eq(lines_find_last(data, sizeof(data), 1), 0);
	memset(data, '\n' - 1, sizeof(data));
	cr_assert_eq(lines_find_last(data, sizeof(data), 1), 0);
	memset(data, '\n' + 1, sizeof(data));
	data[20] = '\n';
	cr_assert_eq(lines_find_last(data, sizeof(data), 1), 21);
}

Test(lines, millions_of_them_are_no_burden)
{
	const char *slow = getenv("REDD_TEST_SLOW");
	double most = 0.5 * (slow ? atof(slow) : 1);
	size_t size = 64u << 20;
	char *data = malloc(size);
	clock_t start;

	memset(data, '\n', size);
	start = clock();
	cr_assert_eq(lines_find_last(data, size, UINT64_MAX), 0);
	cr_assert_eq(lines_find_last(data, size, size - 5), 5);
	cr_assert_lt((double)(clock() - start) / CLOCKS_PER_SEC, most);
	free(data);
}
