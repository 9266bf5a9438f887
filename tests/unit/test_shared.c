/* Both sides of shared memory (proto/shared.h) against a real log: what a reader is shown, what the
 * broker believes, and that neither misses the other, with a thread on each side.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/ring_pool.h"
#include "proto/shared.h"
#include "proto/shared_map.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"

#define SIZE RING_LOWEST
#define MOST KIB(16) /* of one step */

static struct ring_pool *pool;
static struct ring *ring;
static struct shared_view view;
static struct shared_reader page;
static uint8_t copy[SIZE] __attribute__((aligned(64)));

/* The log as a client maps it. */
static void init(void)
{
	struct shared_log log;
	uint8_t *base;

	cr_assert_eq(ring_pool_new(&pool), 0);
	cr_assert_eq(ring_new(pool, SIZE, false, &ring), 0);
	cr_assert_eq(ring_share(ring), 0);
	cr_assert_eq(pread(ring_fd(ring), &log, sizeof(log), 0), (ssize_t)sizeof(log));
	cr_assert(shared_log_is_sound(&log, (uint64_t)log.header_size + SIZE, &view.size));
	cr_assert_eq(shared_map(ring_fd(ring), log.header_size, SIZE, false, &base), 0);
	view.log = (const struct shared_log *)base;
	view.data = base + log.header_size;
	page = (struct shared_reader){ .sleep = SHARED_AWAKE };
}

static void fini(void)
{
	shared_unmap((void *)view.log, view.log->header_size, SIZE);
	ring_free(ring);
	ring_pool_free(pool);
}

TestSuite(shared, .timeout = 60, .init = init, .fini = fini);

static void write_pattern(size_t size)
{
	uint64_t head = ring_head(ring);

	pattern_fill(ring_write_begin(ring, size), size, head);
	ring_write_end(ring, size);
}

/* --- a reader -------------------------------------------------------------------------------- */

/* Any writes and reads, of any size: what is shown is what was written there, what is not shown is
 * a gap, in order, and a gap tells only what is gone. */
Test(shared, P1_a_reader_is_shown_every_byte_or_told_of_a_gap)
{
	const uint64_t seed = (uint64_t)getpid();
	struct random random = { seed };
	uint64_t position = 0, seen = 0, gaps = 0;
	struct shared_step step;

	/* Few rounds may be without a gap; then they go on until there is one. */
	for (unsigned i = 0; i < place_rounds(20000) || !seen || !gaps; i++) {
		size_t most = 1 + random_below(&random, MOST);

		if (random_chance(&random, 2))
			write_pattern(
				random_below(&random, random_chance(&random, 9) ? SIZE : 4000));
		shared_next(&view, position, most, random_chance(&random, 2) ? copy : NULL, &step);
		switch (step.what) {
		case SHARED_NOTHING:
			cr_assert_eq(position, ring_head(ring), "seed %lu", seed);
			break;
		case SHARED_GAP:
			cr_assert_eq(step.end, ring_tail(ring), "seed %lu", seed);
			gaps += step.end - position;
			position = step.end;
			break;
		case SHARED_DATA:
			cr_assert(step.size && step.size <= most, "seed %lu", seed);
			cr_assert_geq(position, ring_tail(ring));
			cr_assert_eq(pattern_match(step.data, step.size, position), step.size,
				     "seed %lu at %lu", seed, position);
			seen += step.size;
			position += step.size;
			break;
		}
	}
	cr_assert_eq(seen + gaps, position);
}

/* Data of the races: each word is its own offset. Fast to write and to check, so that most of the
 * time goes into copying. */
static void write_words(size_t size)
{
	uint64_t head = ring_head(ring);
	uint64_t *words = (uint64_t *)ring_write_begin(ring, size);

	for (size_t i = 0; i < size / 8; i++)
		words[i] = head + 8 * i;
	ring_write_end(ring, size);
}

static bool are_words(const uint8_t *data, size_t size, uint64_t offset)
{
	const uint64_t *words = (const uint64_t *)data;
	uint64_t wrong = 0;

	for (size_t i = 0; i < size / 8; i++)
		wrong |= words[i] ^ (offset + 8 * i);
	return !wrong && size % 8 == 0;
}

struct race {
	uint64_t total;	    /* at most */
	unsigned overtakes; /* that many are enough, 0: no matter */
	bool is_enough;
	sem_t wake, told;
	bool blocks;
};

/* What the broker does: room, write, who sleeps. */
static void *writer(void *user)
{
	struct race *race = user;
	struct random random = { 1 };

	while (ring_head(ring) < race->total &&
	       !__atomic_load_n(&race->is_enough, __ATOMIC_RELAXED)) {
		uint64_t left = race->total - ring_head(ring), at;
		size_t wish = 8 + 8 * random_below(&random, SIZE / 16), size = MIN(left, wish);

		while (race->blocks) {
			at = shared_position(&page, 0, ring_head(ring));
			if (ring_head(ring) + size - at <= SIZE)
				break;
			ring_set_waiting(ring, ring_head(ring) + size - SIZE);
			at = shared_position(&page, 0, ring_head(ring));
			if (ring_head(ring) + size - at > SIZE)
				sem_wait(&race->told);
			ring_set_waiting(ring, 0);
		}
		write_words(size);
		if (shared_take_sleeper(&page, ring_head(ring), false))
			sem_post(&race->wake);
	}
	ring_set_ended(ring);
	if (shared_take_sleeper(&page, ring_head(ring), true))
		sem_post(&race->wake);
	return NULL;
}

/* What the client does. Returns the bytes that it was shown; *ret_torn: any were wrong. */
static uint64_t reader(struct race *race, bool *ret_torn)
{
	uint64_t position = 0, seen = 0;
	unsigned overtakes = 0;
	struct shared_step step;

	for (;;) {
		uint64_t before = position;
		bool was_there = shared_load(&view.log->tail) <= position;

		shared_next(&view, position, SIZE, race->blocks ? NULL : copy, &step);
		if (step.what == SHARED_DATA) {
			*ret_torn |= !are_words(step.data, step.size, position);
			seen += step.size;
			position += step.size;
		} else if (step.what == SHARED_GAP) {
			cr_assert_not(race->blocks, "who blocks is never overtaken");
			position = step.end;
			overtakes += was_there;
			if (overtakes == race->overtakes)
				__atomic_store_n(&race->is_enough, true, __ATOMIC_RELAXED);
		} else if (shared_load(&view.log->ended) && position == ring_head(ring)) {
			return seen;
		} else if (shared_sleep(&view, &page, position)) {
			sem_wait(&race->wake);
		}
		if (position != before && shared_move(&view, &page, before, position))
			sem_post(&race->told);
	}
}

static uint64_t run(struct race *race, bool *ret_torn)
{
	pthread_t thread;
	uint64_t seen;

	*ret_torn = false;
	sem_init(&race->wake, 0, 0);
	sem_init(&race->told, 0, 0);
	cr_assert_eq(pthread_create(&thread, NULL, writer, race), 0);
	seen = reader(race, ret_torn);
	pthread_join(thread, NULL);
	sem_destroy(&race->wake);
	sem_destroy(&race->told);
	return seen;
}

/* A wake-up that is lost on either side would hang it. */
Test(shared, P7_a_blocking_reader_and_its_writer_never_wait_for_each_other)
{
	struct race race = { .total = (place_valgrind() ? 4 : 256) * MIB(1), .blocks = true };
	bool torn;

	cr_assert_eq(run(&race, &torn), race.total);
	cr_assert_not(torn);
}

/* The writer overwrites as fast as it can what the reader is copying, until it has done so
 * a few hundred times. */
Test(shared, P1_no_byte_that_was_overwritten_meanwhile_is_ever_shown)
{
	/* Under valgrind one thread runs at a time, and hardly any copy is overtaken. */
	struct race race = { .total = place_valgrind() ? MIB(16) : 4096ull * MIB(1),
			     .overtakes = 100 };
	bool torn;

	cr_assert_leq(run(&race, &torn), race.total);
	cr_assert_not(torn);
}

/* The same without chance: the log is overwritten between copy and look. */
Test(shared, P1_a_copy_that_was_overtaken_is_a_gap)
{
	struct shared_step step;

	write_pattern(SIZE);
	shared_next(&view, 0, MOST, copy, &step);
	cr_assert_eq(step.what, SHARED_DATA);
	cr_assert_eq(step.data, copy);
	(void)ring_write_begin(ring, 10);
	shared_next(&view, 0, MOST, copy, &step);
	cr_assert_eq(step.what, SHARED_GAP, "the tail rises before a byte is overwritten");
	cr_assert_eq(step.end, 10);
	ring_write_end(ring, 0);
}

/* --- what the broker believes ---------------------------------------------------------------- */

Test(shared, positions_that_cannot_be_true_are_clamped)
{
	struct random random = { 7 };

	for (unsigned i = 0; i < place_rounds(100000); i++) {
		uint64_t a = random_number(&random), b = random_number(&random), at;

		page.position = random_number(&random);
		at = shared_position(&page, MIN(a, b), MAX(a, b));
		cr_assert(at >= MIN(a, b) && at <= MAX(a, b));
		if (page.position >= MIN(a, b) && page.position <= MAX(a, b))
			cr_assert_eq(at, page.position);
	}
}

Test(shared, who_sleeps_is_woken_once_and_only_for_more)
{
	page.sleep = 5;
	cr_expect_not(shared_take_sleeper(&page, 5, false));
	cr_expect(shared_take_sleeper(&page, 6, false));
	cr_expect_eq(page.sleep, SHARED_AWAKE);
	cr_expect_not(shared_take_sleeper(&page, 100, true));
	page.sleep = 5;
	cr_expect(shared_take_sleeper(&page, 5, true), "the end wakes too");
	write_pattern(10);
	cr_expect_not(shared_sleep(&view, &page, 9), "there is more");
	cr_expect_eq(page.sleep, SHARED_AWAKE);
	cr_expect(shared_sleep(&view, &page, 10));
	cr_expect_eq(page.sleep, 10);
}

Test(shared, the_broker_is_told_of_the_move_that_it_waits_for_and_of_the_end)
{
	write_pattern(100);
	cr_expect_not(shared_move(&view, &page, 0, 50));
	ring_set_waiting(ring, 60);
	cr_expect_not(shared_move(&view, &page, 50, 59));
	cr_expect(shared_move(&view, &page, 59, 60));
	cr_expect_not(shared_move(&view, &page, 60, 70), "once");
	cr_expect_eq(page.position, 70);
	ring_set_waiting(ring, 0);
	ring_set_ended(ring);
	cr_expect_not(shared_move(&view, &page, 70, 99));
	cr_expect(shared_move(&view, &page, 99, 100));
}

/* --- a log that is none ---------------------------------------------------------------------- */

Test(shared, headers_that_make_no_sense_are_not_mapped)
{
	const struct shared_log good = *view.log;
	const uint64_t file = (uint64_t)good.header_size + good.size;
	struct shared_log bad[8];
	uint32_t size;

	cr_assert(shared_log_is_sound(&good, file, &size));
	cr_assert_not(shared_log_is_sound(&good, file + 1, &size));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].magic++;
	bad[1].layout++;
	bad[2].size = 0;
	bad[3].size = UINT32_MAX;
	bad[4].size += 4096;
	bad[5].size--;
	bad[6].header_size = 0;
	bad[7].header_size++;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_not(shared_log_is_sound(
				      &bad[i], (uint64_t)bad[i].header_size + bad[i].size, &size),
			      "header %zu", i);
}
