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

	cr_assert_eq(ring_share(r), 0);
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
	cr_assert_eq(ring_share(r), 0);
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

Test(ring_pool, P13_a_successor_knows_where_packets_begin)
{
	static const uint8_t packet[] = { 0, 5, 'h', 'e', 'l', 'l', 'o' };
	static uint8_t data[7 * 20001];
	struct ring *before = make(RING_LOWEST), *after;
	uint64_t found;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = packet[i % 7];
	ring_keep_index(before, 2, 100);
	ring_write(before, data, sizeof(data) - 6);
	map_header(ring_fd(before))->index.next -= 7; /* died before it was published */
	cr_assert_eq(adopt(before, 77, &after), 0);
	cr_assert_eq(ring_index(after)->next, sizeof(data) - 7, "half a header is not one");
	ring_write(after, data + sizeof(data) - 6, 6);
	cr_assert_eq(ring_index(after)->next, sizeof(data));
	cr_assert(record_index_find(ring_index(after), ring_tail(after), sizeof(data), &found));
	cr_assert_eq(found % 7, 0);
	cr_assert_leq(found - ring_tail(after), RING_LOWEST / RECORD_SEGMENTS + 7);
	map_header(ring_fd(before))->index.header = 9;
	ring_free(after);
	cr_assert_eq(adopt(before, 77, &after), RING_E_BAD);
	ring_free(before);
}

Test(ring_pool, a_ring_that_is_used_again_keeps_no_index)
{
	struct ring *r = make(RING_DEFAULT);

	ring_keep_index(r, 4, 100);
	cr_assert_not_null(ring_index(r));
	ring_free(r);
	r = make(RING_DEFAULT);
	cr_assert_null(ring_index(r));
	ring_free(r);
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
	h->log.head = HISTORY;
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
	bad[0].log.magic++;
	bad[1].log.version++;
	bad[2].log.header_size += 4096;
	bad[3].log.header_size = 0;
	bad[4].log.size *= 2;
	bad[5].log.size -= 4096;
	bad[6].log.size = 0;
	bad[7].log.tail = good.log.head + 1;
	bad[8].log.tail = good.log.head - RING_LOWEST - 1;
	bad[9].log.head = UINT64_MAX;
	bad[10].checksum[0].n_buffered = bad[10].checksum[1].n_buffered = 257;
	bad[11].checksum[0].n_stripes = bad[11].checksum[1].n_stripes = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		*h = bad[i];
		cr_assert_eq(adopt(before, 5, &after), RING_E_BAD, "header %zu", i);
	}
	*h = good;
	h->log.checksum_layout++;
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

	cr_assert_eq(ftruncate(fd, (off_t)h->log.header_size + h->log.size), 0);
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
	ring_free(before);
}

/* --- shared ---------------------------------------------------------------------------------- */

Test(ring_pool, a_ring_that_was_handed_out_is_written_by_its_own_process_alone)
{
	struct ring *r = make(RING_LOWEST);
	struct shared_log *log;
	void *map;

	cr_assert_eq(ring_share(r), 0);
	cr_assert_eq(ring_share(r), 0, "a second time is harmless");
	cr_expect_eq(write(ring_fd(r), "x", 1), -1);
	cr_expect_eq(pwrite(ring_fd(r), "x", 1, 4096), -1);
	cr_expect_eq(ftruncate(ring_fd(r), 0), -1);
	cr_expect_eq(fallocate(ring_fd(r), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
		     -1);
	cr_expect_eq(fcntl(ring_fd(r), F_ADD_SEALS, F_SEAL_WRITE), -1, "no seal can be added");
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd(r), 0);
	cr_expect_eq(map, MAP_FAILED);
	log = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ring_fd(r), 0);
	cr_assert_neq(log, MAP_FAILED);
	cr_expect_eq(mprotect(log, 4096, PROT_READ | PROT_WRITE), -1);
	ring_write(r, "seen", 4);
	cr_expect_eq(log->head, 4);
	ring_set_ended(r);
	cr_expect_neq(log->ended, 0);
	munmap(log, 4096);
	ring_free(r);
	cr_expect_eq(ring_pool_bytes(pool), 0, "it is never reused");
}

Test(ring_pool, a_successor_copies_what_was_handed_out_and_goes_on)
{
	static uint8_t data[HISTORY + 3000];
	const struct ring_pool_observer observer = { on_made, on_dropped, &seen };
	struct ring *before = predecessor(data, HISTORY), *after;

	pattern_fill(data, sizeof(data), 0);
	cr_assert_eq(ring_share(before), 0);
	ring_set_waiting(before, 17);
	ring_pool_observe(pool, &observer);
	cr_assert_eq(adopt(before, 77, &after), 0);
	cr_expect_eq(seen.made, 1, "the keeper is given the fresh one");
	cr_expect_eq(seen.number, 77);
	cr_expect_eq(seen.fd, ring_fd(after));
	cr_expect_eq(seen.size, RING_LOWEST);
	cr_assert_eq(ring_tail(after), HISTORY - RING_LOWEST);
	cr_assert_eq(pattern_match(ring_at(after, ring_tail(after)), RING_LOWEST, ring_tail(after)),
		     RING_LOWEST);
	ring_write(after, data + HISTORY, 3000);
	cr_expect_eq(ring_checksum(after), checksum_hash(data, sizeof(data), 0));
	cr_expect_eq(ring_head(before), HISTORY, "who maps the old one keeps what it had");
	cr_expect_eq(
		pattern_match(ring_at(before, ring_tail(before)), RING_LOWEST, ring_tail(before)),
		RING_LOWEST);
	cr_assert_eq(ring_share(after), 0, "and it can be handed out anew");
	ring_pool_observe(pool, &(struct ring_pool_observer){ 0 });
	ring_free(after);
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
