#include "proto/base/buf.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/pattern.h"
#include "tests/lib/random.h"

static struct buf b;

static void fini(void)
{
	buf_deinit(&b);
}

TestSuite(buf, .timeout = 10, .fini = fini);

Test(buf, gives_back_what_was_appended_in_order)
{
	buf_init(&b, 100);
	cr_assert_eq(buf_append(&b, "spawn", 5), 0);
	cr_assert_eq(buf_append(&b, "ing", 3), 0);
	cr_assert_eq(buf_size(&b), 8);
	cr_assert_arr_eq(buf_head(&b), "spawning", 8);
	buf_consume(&b, 5);
	cr_assert_arr_eq(buf_head(&b), "ing", 3);
	cr_assert_eq(buf_size(&b), 3);
}

Test(buf, takes_exactly_its_cap_and_not_a_byte_more)
{
	uint8_t data[101] = { 0 }, *space;

	buf_init(&b, 100);
	cr_assert_eq(buf_append(&b, data, 101), BUF_E_FULL);
	cr_assert_eq(buf_size(&b), 0, "a refused append takes nothing");
	cr_assert_eq(buf_append(&b, data, 60), 0);
	cr_assert_eq(buf_append(&b, data, 41), BUF_E_FULL);
	cr_assert_eq(buf_reserve(&b, SIZE_MAX, &space), BUF_E_FULL);
	cr_assert_eq(buf_append(&b, data, 40), 0);
	cr_assert_eq(buf_append(&b, data, 1), BUF_E_FULL);
	buf_consume(&b, 1);
	cr_assert_eq(buf_append(&b, data, 1), 0, "consuming makes room");
}

Test(buf, a_reservation_that_is_not_committed_adds_nothing)
{
	uint8_t *space;

	buf_init(&b, 4096);
	cr_assert_eq(buf_reserve(&b, 1000, &space), 0);
	memset(space, 0xff, 1000);
	cr_assert_eq(buf_size(&b), 0);
	buf_commit(&b, 10);
	cr_assert_eq(buf_size(&b), 10);
}

Test(buf, grows_with_what_is_put_in_and_not_with_its_cap)
{
	buf_init(&b, SIZE_MAX / 2);
	cr_assert_eq(b.capacity, 0);
	cr_assert_eq(buf_append(&b, "x", 1), 0);
	cr_assert_leq(b.capacity, 4096);
}

Test(buf, an_empty_queue_gives_a_large_memory_back)
{
	static uint8_t data[1 << 20];

	buf_init(&b, sizeof(data));
	cr_assert_eq(buf_append(&b, data, sizeof(data)), 0);
	cr_assert_geq(b.capacity, sizeof(data));
	buf_consume(&b, sizeof(data));
	cr_assert_leq(b.capacity, 16384);
	cr_assert_eq(buf_append(&b, "again", 5), 0);
	cr_assert_arr_eq(buf_head(&b), "again", 5);
}

Test(buf, can_be_used_again_after_deinit_with_the_same_cap)
{
	buf_init(&b, 3);
	cr_assert_eq(buf_append(&b, "abc", 3), 0);
	buf_deinit(&b);
	cr_assert_eq(buf_size(&b), 0);
	cr_assert_eq(buf_append(&b, "abcd", 4), BUF_E_FULL);
	cr_assert_eq(buf_append(&b, "abc", 3), 0);
}

Test(buf, behaves_as_an_endless_stream_cut_by_its_cap)
{
	const uint64_t seed = 20240501;
	struct random r = { seed };
	uint64_t head = 0, tail = 0;

	buf_init(&b, 50000);
	for (int round = 0; round < 20000; round++) {
		uint8_t data[3000];
		size_t size = random_below(&r, sizeof(data) + 1), waiting = head - tail;

		pattern_fill(data, size, head);
		if (random_chance(&r, 2)) {
			int want = waiting + size > 50000 ? BUF_E_FULL : 0;

			cr_assert_eq(buf_append(&b, data, size), want, "seed %lu round %d", seed,
				     round);
			head += want ? 0 : size;
		} else {
			size_t n = size < waiting ? size : waiting;

			cr_assert_eq(pattern_match(buf_head(&b), n, tail), n, "seed %lu round %d",
				     seed, round);
			buf_consume(&b, n);
			tail += n;
		}
		cr_assert_eq(buf_size(&b), head - tail, "seed %lu round %d", seed, round);
		cr_assert_leq(b.capacity, 4 * 65536);
	}
	cr_assert_gt(tail, 1000000, "the walk must have gone somewhere");
}
