#include "proto/arena.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/random.h"

static struct arena a;

static void init(void)
{
	arena_init(&a);
}

static void fini(void)
{
	arena_deinit(&a);
}

TestSuite(arena, .timeout = 10, .init = init, .fini = fini);

static bool is_zero(const uint8_t *p, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (p[i])
			return false;
	return true;
}

Test(arena, has_nothing_before_its_first_reset)
{
	cr_assert_null(arena_alloc(&a, 1));
	cr_assert(a.over_cap);
}

Test(arena, memory_is_zeroed_and_aligned_also_when_it_is_used_again)
{
	for (int round = 0; round < 3; round++) {
		arena_reset(&a, 200000);
		for (size_t size = 0; size < 300; size++) {
			uint8_t *p = arena_alloc(&a, size);

			cr_assert_not_null(p);
			cr_assert_eq((uintptr_t)p % ARENA_ALIGN, 0);
			cr_assert(is_zero(p, size), "round %d size %zu", round, size);
			memset(p, 0xff, size);
		}
	}
}

Test(arena, hands_out_exactly_its_cap)
{
	static const size_t caps[] = { 8, 4096, ARENA_KEEP, ARENA_KEEP + 8, 1 << 20 };

	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		size_t n = 0;

		arena_reset(&a, caps[i]);
		while (arena_alloc(&a, 8))
			n += 8;
		cr_assert_eq(n, caps[i]);
		cr_assert(a.over_cap && !a.out_of_memory);
		arena_reset(&a, caps[i]);
		cr_assert_not_null(arena_alloc(&a, caps[i]), "in one piece as well");
		cr_assert_null(arena_alloc(&a, 1));
	}
}

Test(arena, a_refused_piece_does_not_end_it)
{
	arena_reset(&a, 100);
	cr_assert_null(arena_alloc(&a, 101));
	cr_assert_not_null(arena_alloc(&a, 96));
	arena_reset(&a, 100);
	cr_assert_not(a.over_cap, "a reset forgets");
}

Test(arena, sizes_near_the_end_of_numbers_are_refused)
{
	arena_reset(&a, SIZE_MAX);
	cr_assert_not_null(arena_alloc(&a, 8));
	cr_assert_null(arena_alloc(&a, SIZE_MAX));
	cr_assert_null(arena_alloc(&a, SIZE_MAX - 6));
	cr_assert_null(arena_alloc(&a, SIZE_MAX - 7));
}

Test(arena, keeps_little_between_frames)
{
	arena_reset(&a, 1 << 20);
	cr_assert_not_null(arena_alloc(&a, 1 << 19));
	cr_assert_not_null(a.extra);
	arena_reset(&a, 0);
	cr_assert_null(a.extra);
}

#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#endif

#ifndef ASAN /* which ends the program instead of failing a calloc of this size */
Test(arena, want_of_memory_is_told_apart_from_the_cap)
{
	arena_reset(&a, (size_t)1 << 50);
	cr_assert_null(arena_alloc(&a, ARENA_KEEP + 1));
	cr_assert(a.out_of_memory && !a.over_cap);
	cr_assert_not_null(arena_alloc(&a, 8), "what fits is still had");
}
#endif

Test(arena, pieces_never_overlap)
{
	const uint64_t seed = 99;
	struct random r = { seed };
	struct {
		uint8_t *at;
		size_t size;
	} pieces[200];

	for (int round = 0; round < 200; round++) {
		size_t n = 0, cap = random_below(&r, 400000);

		arena_reset(&a, cap);
		while (n < 200) {
			size_t size = random_below(&r, random_chance(&r, 10) ? 100000 : 200);
			uint8_t *p = arena_alloc(&a, size);

			if (!p)
				break;
			cr_assert(is_zero(p, size), "seed %lu round %d", seed, round);
			memset(p, (int)n, size);
			pieces[n].at = p;
			pieces[n++].size = size;
		}
		cr_assert_leq(a.used, cap);
		for (size_t i = 0; i < n; i++)
			for (size_t j = 0; j < pieces[i].size; j++)
				cr_assert_eq(pieces[i].at[j], (uint8_t)i, "seed %lu round %d", seed,
					     round);
	}
}

Test(arena, serves_protobuf_c_and_ignores_its_frees)
{
	ProtobufCAllocator *allocator = arena_allocator(&a);
	void *p;

	arena_reset(&a, 64);
	p = allocator->alloc(allocator->allocator_data, 24);
	cr_assert_not_null(p);
	allocator->free(allocator->allocator_data, p);
	cr_assert_eq(a.used, 24);
	cr_assert_null(allocator->alloc(allocator->allocator_data, 48));
}
