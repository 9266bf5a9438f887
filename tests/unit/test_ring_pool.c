#include "broker/ring_pool.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/checksum.h"
#include "broker/ring_memory.h"
#include "proto/base/fd.h"
#include "tests/lib/countdown.h"
#include "tests/lib/pattern.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static struct ring_pool *pool;
static int fds_before;

static void init(void)
{
	fds_before = fd_count();
	cr_assert_eq(ring_pool_new(&pool), 0);
}

static void fini(void)
{
	ring_pool_free(pool);
	cr_assert_eq(fd_count(), fds_before);
}

TestSuite(ring_pool, .timeout = 20, .init = init, .fini = fini);

static struct ring *make(uint32_t size)
{
	struct ring *r;

	cr_assert_eq(ring_new(pool, size, true, &r), 0);
	return r;
}

Test(ring_pool, sizes_are_rounded_to_a_power_of_two_within_the_bounds)
{
	cr_assert_eq(ring_round_size(0), RING_LOWEST);
	cr_assert_eq(ring_round_size(RING_LOWEST + 1), 2 * RING_LOWEST);
	cr_assert_eq(ring_round_size(RING_DEFAULT), RING_DEFAULT);
	cr_assert_eq(ring_round_size(RING_DEFAULT - 1), RING_DEFAULT);
	cr_assert_eq(ring_round_size(RING_HIGHEST - 1), RING_HIGHEST);
	cr_assert_eq(ring_round_size(UINT32_MAX), RING_HIGHEST);
}

Test(ring_pool, a_ring_that_is_used_again_is_empty_and_keeps_its_number)
{
	struct ring *r = make(RING_DEFAULT), *again;
	uint32_t number = ring_number(r);
	int fd = ring_fd(r);

	ring_write(r, "secret", 6);
	ring_free(r);
	cr_assert_eq(ring_pool_bytes_free(pool), RING_DEFAULT);
	again = make(RING_DEFAULT);
	cr_assert_eq(ring_fd(again), fd);
	cr_assert_eq(ring_number(again), number);
	cr_assert_eq(ring_head(again), 0);
	cr_assert_eq(ring_tail(again), 0);
	cr_assert_eq(ring_checksum(again), checksum_hash("", 0, 0));
	cr_assert_eq(ring_pool_bytes_free(pool), 0);
	ring_free(again);
}

Test(ring_pool, shared_and_unusual_rings_are_not_used_again)
{
	struct ring *r = make(RING_DEFAULT);

	ring_set_shared(r);
	ring_free(r);
	ring_free(make(RING_DEFAULT * 2));
	cr_assert_eq(ring_pool_count(pool), 0);
	cr_assert_eq(ring_pool_bytes(pool), 0);
}

Test(ring_pool, keeps_no_more_free_rings_than_its_bound)
{
	struct ring *rings[RINGS_POOLED + 5];

	for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
		rings[i] = make(RING_DEFAULT);
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
		for (size_t j = 0; j < i; j++)
			cr_assert_neq(ring_number(rings[i]), ring_number(rings[j]));
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
		ring_free(rings[i]);
	cr_assert_eq(ring_pool_count(pool), RINGS_POOLED);
}

Test(ring_pool, bytes_are_bounded_and_free_rings_give_way)
{
	struct ring *rings[RINGS_BYTES_MAX / RING_HIGHEST], *one;
	size_t n = ARRAY_SIZE(rings);

	ring_free(make(RING_DEFAULT));
	for (size_t i = 0; i < n; i++)
		rings[i] = make(RING_HIGHEST);
	cr_assert_eq(ring_pool_bytes(pool), RINGS_BYTES_MAX);
	cr_assert_eq(ring_pool_count(pool), n, "the free one gave way");
	cr_assert_eq(ring_new(pool, RING_LOWEST, false, &one), RING_E_QUOTA);
	ring_free(rings[0]);
	rings[0] = make(RING_LOWEST);
	for (size_t i = 0; i < n; i++)
		ring_free(rings[i]);
}

/* --- observer -------------------------------------------------------------------------------- */

static struct {
	unsigned made, dropped;
	uint32_t number, size;
	int fd;
} seen;

static void on_made(void *userdata, uint32_t number, int memfd, uint32_t size)
{
	cr_assert_eq(userdata, &seen);
	seen.made++;
	seen.number = number;
	seen.fd = memfd;
	seen.size = size;
}

static void on_dropped(void *userdata, uint32_t number)
{
	cr_assert_eq(userdata, &seen);
	cr_assert_eq(number, seen.number);
	seen.dropped++;
}

Test(ring_pool, observer_learns_of_each_memfd_once)
{
	const struct ring_pool_observer observer = { on_made, on_dropped, &seen };
	struct ring *r;

	ring_pool_observe(pool, &observer);
	r = make(RING_DEFAULT);
	cr_assert_eq(seen.made, 1);
	cr_assert_eq(seen.number, ring_number(r));
	cr_assert_eq(seen.fd, ring_fd(r));
	cr_assert_eq(seen.size, RING_DEFAULT);
	ring_free(r);
	r = make(RING_DEFAULT);
	cr_assert_eq(seen.made, 1);
	cr_assert_eq(seen.dropped, 0);
	ring_set_shared(r);
	ring_free(r);
	cr_assert_eq(seen.dropped, 1);
}

/* --- taking over ----------------------------------------------------------------------------- */

static struct ring_header *map_header(int fd)
{
	struct ring_header *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	cr_assert_neq(h, MAP_FAILED);
	return h;
}

static int adopt(const struct ring *from, uint32_t number, struct ring **ret)
{
	int fd;

	cr_assert_eq(fd_dup(ring_fd(from), &fd), 0);
	return ring_adopt(pool, number, fd, ret);
}

/* A ring with some history, as a predecessor left it. */
static struct ring *predecessor(uint8_t *data, size_t size)
{
	struct ring *r = make(RING_LOWEST);

	pattern_fill(data, size, 0);
	ring_write(r, data, size);
	return r;
}

#define HISTORY (RING_LOWEST + 5000u)

Test(ring_pool, a_successor_goes_on_where_the_predecessor_stopped)
{
	static uint8_t data[HISTORY + 3000];
	struct ring *before = predecessor(data, HISTORY), *after;

	cr_assert_eq(adopt(before, 77, &after), 0);
	cr_assert_eq(ring_number(after), 77);
	cr_assert_eq(ring_size(after), RING_LOWEST);
	cr_assert_eq(ring_head(after), HISTORY);
	cr_assert_eq(ring_tail(after), HISTORY - RING_LOWEST);
	cr_assert_eq(pattern_match(ring_at(after, ring_tail(after)), RING_LOWEST, ring_tail(after)),
		     RING_LOWEST);
	pattern_fill(data, sizeof(data), 0);
	ring_write(after, data + HISTORY, 3000);
	cr_assert_eq(ring_checksum(after), checksum_hash(data, sizeof(data), 0));
	ring_free(after);
	ring_free(before);
}

Test(ring_pool, a_death_at_any_step_of_a_write_leaves_a_whole_ring)
{
	static uint8_t data[HISTORY + 100];
	struct ring *before = predecessor(data, HISTORY), *after;
	struct ring_header *h = map_header(ring_fd(before));

	pattern_fill(data, sizeof(data), 0);
	/* tail published, bytes half written */
	memcpy(ring_write_begin(before, 100), data + HISTORY, 50);
	cr_assert_eq(adopt(before, 5, &after), 0);
	cr_assert_eq(ring_head(after), HISTORY);
	cr_assert_eq(ring_tail(after), HISTORY + 100 - RING_LOWEST);
	cr_assert_eq(ring_checksum(after), checksum_hash(data, HISTORY, 0));
	ring_free(after);
	/* checksum saved, head not published */
	memcpy(ring_write_begin(before, 100), data + HISTORY, 100);
	ring_write_end(before, 100);
	h->head = HISTORY;
	cr_assert_eq(adopt(before, 6, &after), 0);
	cr_assert_eq(ring_checksum(after), checksum_hash(data, HISTORY, 0));
	ring_write(after, data + HISTORY, 100);
	cr_assert_eq(ring_checksum(after), checksum_hash(data, HISTORY + 100, 0));
	ring_free(after);
	munmap(h, sizeof(*h));
	ring_free(before);
}

Test(ring_pool, an_empty_ring_is_taken_over_with_its_checksum)
{
	struct ring *before = make(RING_LOWEST), *after;
	uint8_t data[2000];

	cr_assert_eq(adopt(before, 5, &after), 0);
	pattern_fill(data, sizeof(data), 0);
	ring_write(after, data, sizeof(data));
	cr_assert_eq(ring_checksum(after), checksum_hash(data, sizeof(data), 0));
	ring_free(after);
	ring_free(before);
}

Test(ring_pool, headers_that_contradict_themselves_are_refused)
{
	static uint8_t data[HISTORY];
	struct ring *before = predecessor(data, HISTORY), *after;
	struct ring_header *h = map_header(ring_fd(before));
	const struct ring_header good = *h;
	struct ring_header bad[12];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].magic++;
	bad[1].version++;
	bad[2].header_size += 4096;
	bad[3].header_size = 0;
	bad[4].size *= 2;
	bad[5].size -= 4096;
	bad[6].size = 0;
	bad[7].tail = good.head + 1;
	bad[8].tail = good.head - RING_LOWEST - 1;
	bad[9].head = UINT64_MAX;
	bad[10].checksum[0].n_buffered = bad[10].checksum[1].n_buffered = 257;
	bad[11].checksum[0].n_stripes = bad[11].checksum[1].n_stripes = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		*h = bad[i];
		cr_assert_eq(adopt(before, 5, &after), RING_E_BAD, "header %zu", i);
	}
	*h = good;
	h->checksum_layout++;
	cr_assert_eq(adopt(before, 5, &after), 0);
	cr_assert_not(ring_has_checksum(after), "another layout cannot be continued");
	ring_free(after);
	munmap(h, sizeof(*h));
	ring_free(before);
}

Test(ring_pool, numbers_that_are_taken_or_too_large_are_refused)
{
	struct ring *before = make(RING_LOWEST), *after, *second;

	cr_assert_eq(adopt(before, ring_number(before), &after), RING_E_BAD);
	cr_assert_eq(adopt(before, RING_NUMBERS_MAX, &after), RING_E_BAD);
	cr_assert_eq(adopt(before, UINT32_MAX, &after), RING_E_BAD);
	cr_assert_eq(adopt(before, RING_NUMBERS_MAX - 1, &after), 0);
	cr_assert_eq(adopt(before, RING_NUMBERS_MAX - 1, &second), RING_E_BAD);
	ring_free(after);
	ring_free(before);
}

/* The header in a memfd of its own. */
static int copy_with_seals(const struct ring *r, int seals)
{
	int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct ring_header *h = map_header(ring_fd(r));

	cr_assert_eq(ftruncate(fd, (off_t)h->header_size + h->size), 0);
	cr_assert_eq(pwrite(fd, h, sizeof(*h), 0), (ssize_t)sizeof(*h));
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	munmap(h, sizeof(*h));
	return fd;
}

Test(ring_pool, descriptors_that_are_no_sealed_memfd_are_refused_and_closed)
{
	struct ring *before = make(RING_LOWEST), *after;
	int pipes[2];

	cr_assert_eq(ring_adopt(pool, 5, copy_with_seals(before, 0), &after), RING_E_BAD);
	cr_assert_eq(ring_adopt(pool, 5, copy_with_seals(before, F_SEAL_SHRINK), &after),
		     RING_E_BAD);
	cr_assert_eq(
		ring_adopt(pool, 5, copy_with_seals(before, F_SEAL_SHRINK | F_SEAL_GROW), &after),
		0);
	ring_free(after);
	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	cr_assert_eq(ring_adopt(pool, 5, pipes[0], &after), RING_E_BAD);
	cr_assert_eq(ring_adopt(pool, 5, -1, &after), RING_E_BAD);
	close(pipes[1]);
	cr_assert_eq(fcntl(ring_fd(before), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	cr_assert_eq(adopt(before, 5, &after), RING_E_SEALED);
	ring_free(before);
}

/* --- failing calls --------------------------------------------------------------------------- */

static void fail_each(enum countdown call, int error)
{
	for (unsigned n = 1;; n++) {
		struct ring *r = NULL;
		int e;

		countdown_arm(call, n, error);
		e = ring_new(pool, RING_LOWEST, true, &r);
		if (!countdown_off()) {
			cr_assert_eq(e, 0);
			ring_free(r);
			cr_assert_gt(n, 1);
			return;
		}
		cr_assert_eq(e, -error, "call %u", n);
		cr_assert_eq(ring_pool_count(pool), 0);
		cr_assert_eq(ring_pool_bytes(pool), 0);
	}
}

Test(ring_pool, whatever_fails_leaves_nothing_behind)
{
	fail_each(COUNTDOWN_MALLOC, ENOMEM);
	fail_each(COUNTDOWN_MEMFD, EMFILE);
	fail_each(COUNTDOWN_FTRUNCATE, ENOMEM);
	fail_each(COUNTDOWN_MMAP, ENOMEM);
}

Test(ring_pool, a_kernel_that_does_not_know_the_newest_flag_is_good_enough)
{
	struct ring *r;

	countdown_arm(COUNTDOWN_MEMFD, 1, EINVAL);
	cr_assert_eq(ring_new(pool, RING_LOWEST, true, &r), 0);
	cr_assert(countdown_off());
	ring_free(r);
}

/* --- a death over a read --------------------------------------------------------------------- */

/* The broker dies before or after the kernel has brought `size` bytes: a successor has them or not,
 * and the checksum is that of what it has. */
Test(ring_pool, P13_a_read_that_was_on_its_way_has_happened_or_not)
{
	static const size_t sizes[] = { 2, 15, 16, 17, 4096, RING_LOWEST };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int happened = 0; happened < 2; happened++) {
			struct ring *before, *after;
			uint64_t start = 70000;
			uint8_t *place;

			cr_assert_eq(ring_new(pool, RING_LOWEST, true, &before), 0);
			for (uint64_t at = 0; at < start; at += 7000) {
				pattern_fill(ring_write_begin(before, 7000), 7000, at);
				ring_write_end(before, 7000);
			}
			place = ring_write_begin(before, sizes[i]);
			ring_expect(before, sizes[i]);
			if (happened)
				pattern_fill(place, sizes[i], start);
			cr_assert_eq(adopt(before, (uint32_t)(100 + 2 * i) + happened, &after), 0);
			cr_expect_eq(ring_head(after), start + happened * sizes[i], "%zu bytes",
				     sizes[i]);
			cr_expect_eq(pattern_match(ring_at(after, ring_tail(after)),
						   ring_head(after) - ring_tail(after),
						   ring_tail(after)),
				     ring_head(after) - ring_tail(after));
			ring_write_end(before, happened ? sizes[i] : 0);
			cr_expect_eq(ring_checksum(after), ring_checksum(before));
			ring_free(after);
			ring_free(before);
		}
	}
}
