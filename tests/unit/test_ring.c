#include "broker/ring.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/checksum.h"
#include "broker/ring_memory.h"
#include "broker/ring_pool.h"
#include "proto/base/fd.h"
#include "tests/lib/pattern.h"
#include "tests/lib/random.h"

#define SIZE RING_LOWEST

static struct ring_pool *pool;
static struct ring *ring;

static void init(void)
{
	cr_assert_eq(ring_pool_new(&pool), 0);
	cr_assert_eq(ring_new(pool, SIZE, true, &ring), 0);
}

static void fini(void)
{
	ring_free(ring);
	ring_pool_free(pool);
}

TestSuite(ring, .timeout = 20, .init = init, .fini = fini);

/* What somebody else who maps the memfd sees. */
static struct ring_header header_of(const struct ring *r)
{
	struct ring_header h;

	cr_assert_eq(pread(ring_fd(r), &h, sizeof(h), 0), (ssize_t)sizeof(h));
	return h;
}

/* Writes `written` pattern bytes into a place of `size`. */
static void write_pattern(struct ring *r, size_t size, size_t written)
{
	uint64_t head = ring_head(r);

	pattern_fill(ring_write_begin(r, size), written, head);
	ring_write_end(r, written);
}

static void assert_kept(const struct ring *r)
{
	size_t kept = ring_head(r) - ring_tail(r);

	cr_assert_eq(pattern_match(ring_at(r, ring_tail(r)), kept, ring_tail(r)), kept);
}

Test(ring, is_empty_at_first)
{
	cr_assert_eq(ring_head(ring), 0);
	cr_assert_eq(ring_tail(ring), 0);
	cr_assert_eq(ring_size(ring), SIZE);
	cr_assert_eq(ring_find_last_lines(ring, 1), 0);
	cr_assert_eq(ring_checksum(ring), checksum_hash("", 0, 0));
	cr_assert_not_null(ring_at(ring, 0));
}

Test(ring, memfd_cannot_be_resized_and_is_closed_on_exec)
{
	int fd = ring_fd(ring);

	cr_assert_eq(ftruncate(fd, 0), -1);
	cr_assert_eq(ftruncate(fd, MIB(100)), -1);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

Test(ring, keeps_the_newest_bytes_at_their_offsets)
{
	const uint64_t seed = 7;
	struct random r = { seed };

	for (int i = 0; i < 3000; i++) {
		size_t size = random_below(&r, random_chance(&r, 8) ? SIZE + 1 : 3000);
		size_t written = random_chance(&r, 3) ? random_below(&r, size + 1) : size;
		uint64_t head = ring_head(ring);
		struct ring_header h;

		write_pattern(ring, size, written);
		cr_assert_eq(ring_head(ring), head + written);
		cr_assert_leq(ring_head(ring) - ring_tail(ring), SIZE);
		cr_assert_eq(ring_tail(ring), ring_head(ring) > SIZE ? ring_head(ring) - SIZE : 0,
			     "seed %lu step %d", seed, i);
		assert_kept(ring);
		h = header_of(ring);
		cr_assert_eq(h.log.head, ring_head(ring));
		cr_assert_eq(h.log.tail, ring_tail(ring));
	}
}

Test(ring, tail_is_published_before_a_byte_is_overwritten_and_comes_back_if_none_was)
{
	struct ring_header h;

	write_pattern(ring, SIZE, SIZE);
	write_pattern(ring, 10, 10);
	ring_write_begin(ring, SIZE);
	h = header_of(ring);
	cr_assert_eq(h.log.tail, SIZE + 10);
	cr_assert_eq(h.log.head, SIZE + 10);
	ring_write_end(ring, 0);
	cr_assert_eq(ring_tail(ring), 10);
	cr_assert_eq(header_of(ring).log.tail, 10);
	assert_kept(ring);
}

Test(ring, takes_data_larger_than_itself_in_pieces)
{
	size_t size = 3 * SIZE + 17;
	uint8_t *data = malloc(size);

	pattern_fill(data, size, 0);
	ring_write(ring, data, size);
	cr_assert_eq(ring_head(ring), size);
	cr_assert_eq(ring_tail(ring), size - SIZE);
	assert_kept(ring);
	cr_assert_eq(ring_checksum(ring), checksum_hash(data, size, 0));
	free(data);
}

Test(ring, checksum_is_that_of_all_bytes_however_they_came)
{
	const uint64_t seed = 31;
	const size_t total = 5 * SIZE;
	struct random r = { seed };
	uint8_t *all = malloc(total);
	struct ring_header h;

	pattern_fill(all, total, 0);
	while (ring_head(ring) < total) {
		size_t left = total - ring_head(ring);
		size_t size = 1 + random_below(&r, random_chance(&r, 5) ? 20000 : 300);

		write_pattern(ring, MIN(size, left), MIN(size, left));
		h = header_of(ring);
		cr_assert(h.checksum[0].total == h.log.head || h.checksum[1].total == h.log.head);
		if (random_chance(&r, 4))
			cr_assert_eq(ring_checksum(ring), checksum_hash(all, ring_head(ring), 0),
				     "seed %lu at %lu", seed, ring_head(ring));
	}
	free(all);
}

Test(ring, keeps_no_checksum_when_none_was_asked_for)
{
	struct ring *plain;

	cr_assert(ring_has_checksum(ring));
	cr_assert_eq(ring_new(pool, SIZE, false, &plain), 0);
	cr_assert_not(ring_has_checksum(plain));
	cr_assert_eq(header_of(plain).log.checksum_layout, 0);
	ring_free(plain);
}

/* --- lines ----------------------------------------------------------------------------------- */

Test(ring, last_lines_start_where_they_should_and_not_before_the_tail)
{
	ring_write(ring, "one\ntwo\nthree", 13);
	cr_assert_eq(ring_find_last_lines(ring, 0), 13);
	cr_assert_eq(ring_find_last_lines(ring, 1), 8);
	cr_assert_eq(ring_find_last_lines(ring, 2), 4);
	cr_assert_eq(ring_find_last_lines(ring, 3), 0);
	cr_assert_eq(ring_find_last_lines(ring, UINT64_MAX), 0);
	ring_write(ring, "\n", 1);
	cr_assert_eq(ring_find_last_lines(ring, 1), 8);
	memset(ring_write_begin(ring, SIZE), 'x', SIZE);
	ring_write_end(ring, SIZE);
	cr_assert_eq(ring_find_last_lines(ring, 1), 14);
	cr_assert_eq(ring_tail(ring), 14);
}

Test(ring, the_rest_of_a_line_is_not_taken_for_one)
{
	memset(ring_write_begin(ring, SIZE), 'x', SIZE);
	ring_write_end(ring, SIZE);
	ring_write(ring, "\n", 1);
	cr_assert_eq(ring_find_last_lines(ring, 2), 1, "there is nothing else");
	ring_write(ring, "one\ntwo", 7);
	cr_assert_eq(ring_find_last_lines(ring, 2), SIZE + 1);
	cr_assert_eq(ring_find_last_lines(ring, 3), SIZE + 1);
	cr_assert_eq(ring_find_last_lines(ring, 1), SIZE + 5);
}

/* --- pins ------------------------------------------------------------------------------------ */

#define PINNED_SIZE 100u

struct pinned {
	struct ring_pin pin;
	uint8_t copy[PINNED_SIZE];
	bool is_pinned, was_rescued;
	struct pinned *unpins; /* in rescue */
};

static void on_rescue(struct ring_pin *pin)
{
	struct pinned *p = container_of(pin, struct pinned, pin);

	memcpy(p->copy, ring_at(ring, pin->offset), PINNED_SIZE);
	p->is_pinned = false;
	p->was_rescued = true;
	if (p->unpins) {
		ring_unpin(&p->unpins->pin);
		p->unpins->is_pinned = false;
	}
}

static void pin_at(struct pinned *p, uint64_t offset)
{
	*p = (struct pinned){ .pin = { .offset = offset, .rescue = on_rescue } };
	p->is_pinned = true;
	ring_pin(ring, &p->pin);
}

Test(ring, pinned_bytes_are_rescued_just_before_they_are_overwritten)
{
	const uint64_t seed = 5;
	struct random r = { seed };
	struct pinned pins[64] = { 0 };
	unsigned rescued = 0;

	write_pattern(ring, 2 * PINNED_SIZE, 2 * PINNED_SIZE);
	for (int i = 0; i < 20000; i++) {
		struct pinned *p = &pins[random_below(&r, 64)];
		uint64_t span = ring_head(ring) - ring_tail(ring) - PINNED_SIZE;

		if (p->was_rescued) {
			cr_assert_eq(pattern_match(p->copy, PINNED_SIZE, p->pin.offset),
				     PINNED_SIZE, "seed %lu step %d", seed, i);
			cr_assert_lt(p->pin.offset, ring_tail(ring));
			rescued++;
			p->was_rescued = false;
		} else if (!p->is_pinned) {
			pin_at(p, ring_tail(ring) + random_below(&r, span));
		} else if (random_chance(&r, 4)) {
			ring_unpin(&p->pin);
			p->is_pinned = false;
		}
		if (random_chance(&r, 2))
			write_pattern(ring, 1500, 1500);
		for (size_t k = 0; k < 64; k++)
			cr_assert(!pins[k].is_pinned || pins[k].pin.offset >= ring_tail(ring));
	}
	for (size_t k = 0; k < 64; k++)
		if (pins[k].is_pinned)
			ring_unpin(&pins[k].pin);
	cr_assert_gt(rescued, 1000);
}

Test(ring, bytes_that_stay_are_not_rescued)
{
	struct pinned at_tail;

	write_pattern(ring, SIZE, SIZE);
	pin_at(&at_tail, 100);
	write_pattern(ring, 100, 100);
	cr_assert_not(at_tail.was_rescued);
	write_pattern(ring, 1, 1);
	cr_assert(at_tail.was_rescued);
}

Test(ring, rescue_may_take_other_pins_off)
{
	struct pinned a, b, c;

	write_pattern(ring, SIZE, SIZE);
	pin_at(&a, 10);
	pin_at(&b, 20);
	pin_at(&c, 30);
	a.unpins = &b;
	write_pattern(ring, 200, 200);
	cr_assert(a.was_rescued && !b.was_rescued && c.was_rescued);
	ring_unpin(&a.pin);
	ring_unpin(&a.pin);
}

Test(ring, ending_rescues_every_pin)
{
	struct pinned a, b;

	write_pattern(ring, 1000, 1000);
	pin_at(&b, 900);
	pin_at(&a, 0);
	ring_free(ring);
	ring = NULL;
	cr_assert(a.was_rescued && b.was_rescued);
	cr_assert_eq(pattern_match(b.copy, PINNED_SIZE, 900), PINNED_SIZE);
}
