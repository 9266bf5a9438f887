/* A broker that dies at any step of a transit leaves a pipe and a note from which its successor
 * makes what the first one would have made. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "broker/transit.h"
#include "proto/limits.h"
#include "tests/lib/pattern.h"
#include "tests/lib/random.h"

#define SIZE 1000u

static struct transit transit;
static struct transit_note shared;
static int source[2];
static uint8_t place[STREAM_READ_SIZE];
static const struct transit_note what = { .port = 7, .stream = 1, .head = 100 };

static void set_up(void)
{
	uint8_t bytes[SIZE];

	shared = (struct transit_note){ 0 };
	memset(place, 0, sizeof(place));
	cr_assert_eq(transit_open(&transit), 0);
	transit_note_at(&transit, &shared);
	cr_assert_eq(pipe2(source, O_CLOEXEC | O_NONBLOCK), 0);
	pattern_fill(bytes, SIZE, 100);
	cr_assert_eq(write(source[1], bytes, SIZE), (ssize_t)SIZE);
}

static void tear_down(void)
{
	transit_close(&transit);
	close(source[0]);
	close(source[1]);
}

TestSuite(transit, .init = set_up, .fini = tear_down, .timeout = 10);

/* The broker dies; its successor gets duplicates of the pipe, and the note as it stands. */
static void successor(void)
{
	const int fds[2] = { fcntl(transit.fds[0], F_DUPFD_CLOEXEC, 0),
			     fcntl(transit.fds[1], F_DUPFD_CLOEXEC, 0) };

	transit_close(&transit);
	transit = (struct transit){ .fds = { -1, -1 } };
	transit_adopt(&transit, fds);
	transit_note_at(&transit, &shared);
}

static int waiting(int fd)
{
	int n = 0;

	cr_assert_eq(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

static void finishes(uint64_t size)
{
	struct transit_note note;

	successor();
	cr_assert(transit_is_left(&transit, &note));
	cr_expect_eq(note.port, 7);
	cr_expect_eq(note.stream, 1);
	cr_expect_eq(note.head, 100);
	cr_expect_eq(note.size, size);
	transit_finish(&transit, place);
	transit_done(&transit);
	cr_expect_eq(pattern_match(place, size, 100), size);
	cr_expect_eq(waiting(transit.fds[0]), 0);
	cr_expect_not(transit_is_left(&transit, &note));
}

Test(transit, bytes_arrive_and_nothing_is_left)
{
	struct transit_note note;

	cr_assert_eq(transit_take(&transit, &what, source[0], 600), 600);
	transit_put(&transit, place);
	transit_done(&transit);
	cr_expect_eq(pattern_match(place, 600, 100), 600);
	cr_expect_not(transit_is_left(&transit, &note));
	cr_expect_eq(waiting(source[0]), 400);
}

Test(transit, what_cannot_be_taken_leaves_no_note)
{
	uint8_t bytes[SIZE];
	struct transit_note note;
	int other = open("/dev/null", O_WRONLY | O_CLOEXEC);

	cr_assert_eq(read(source[0], bytes, SIZE), (ssize_t)SIZE);
	cr_expect_eq(transit_take(&transit, &what, source[0], SIZE), -EAGAIN);
	cr_expect_not(transit_is_left(&transit, &note));
	cr_expect_lt(transit_take(&transit, &what, other, SIZE), 0);
	cr_expect_not(transit_is_left(&transit, &note));
	close(other);
	close(source[1]);
	cr_expect_eq(transit_take(&transit, &what, source[0], SIZE), 0);
	cr_expect_not(transit_is_left(&transit, &note));
	source[1] = dup(source[0]);
}

Test(transit, P13_a_death_before_anything_was_taken_leaves_it_in_its_pipe)
{
	struct transit_note note;

	shared = what; /* noted, and no further */
	successor();
	cr_expect_not(transit_is_left(&transit, &note));
	cr_expect_eq(shared.port, 0);
	cr_expect_eq(waiting(source[0]), (int)SIZE);
}

Test(transit, P13_a_death_before_the_size_was_noted)
{
	cr_assert_eq(transit_take(&transit, &what, source[0], SIZE), (ssize_t)SIZE);
	shared.size = 0;
	finishes(SIZE);
}

Test(transit, P13_a_death_before_the_first_byte_was_read)
{
	cr_assert_eq(transit_take(&transit, &what, source[0], SIZE), (ssize_t)SIZE);
	finishes(SIZE);
}

Test(transit, P13_a_death_after_any_number_of_bytes_was_read)
{
	struct random random = { 1 };

	for (size_t left = SIZE; left;) {
		size_t size = 1 + random_below(&random, left);
		size_t done = random_below(&random, size + 1);
		struct transit_note at = what;

		memset(place, 0, sizeof(place));
		at.head = 100 + SIZE - left;
		cr_assert_eq(transit_take(&transit, &at, source[0], size), (ssize_t)size);
		cr_assert_eq(read(transit.fds[0], place, done), (ssize_t)done);
		successor();
		cr_assert(transit_is_left(&transit, &at));
		cr_assert_eq(at.size, size);
		transit_finish(&transit, place);
		transit_done(&transit);
		cr_expect_eq(pattern_match(place, size, 100 + SIZE - left), size);
		left -= size;
	}
}

/* And the successor dies as well. */
Test(transit, P13_deaths_of_one_broker_after_another)
{
	struct transit_note note;

	cr_assert_eq(transit_take(&transit, &what, source[0], SIZE), (ssize_t)SIZE);
	shared.size = 0;
	successor();
	cr_assert(transit_is_left(&transit, &note));
	shared.size = note.size; /* as transit_finish() begins */
	cr_assert_eq(read(transit.fds[0], place, 300), 300);
	finishes(SIZE);
}

Test(transit, P13_a_death_when_all_was_read)
{
	cr_assert_eq(transit_take(&transit, &what, source[0], SIZE), (ssize_t)SIZE);
	transit_put(&transit, place);
	finishes(SIZE);
}

Test(transit, a_note_that_is_none_is_thrown_away_with_the_pipe)
{
	static const uint64_t sizes[] = { 1, SIZE - 1, STREAM_READ_SIZE + 1, UINT64_MAX };
	struct transit_note note;
	uint8_t bytes[SIZE] = { 0 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		cr_assert_eq(transit_take(&transit, &what, source[0], SIZE), (ssize_t)SIZE);
		shared.size = sizes[i];
		successor();
		cr_expect_not(transit_is_left(&transit, &note), "%zu", i);
		cr_expect_eq(shared.port, 0);
		cr_expect_eq(waiting(transit.fds[0]), 0);
		cr_assert_eq(write(source[1], bytes, SIZE), (ssize_t)SIZE);
	}
}

Test(transit, what_is_dropped_is_in_nobodys_way)
{
	cr_assert_eq(transit_take(&transit, &what, source[0], 400), 400);
	transit_drop(&transit);
	cr_assert_eq(transit_take(&transit, &what, source[0], 600), 600);
	transit_put(&transit, place);
	transit_done(&transit);
	cr_expect_eq(pattern_match(place, 600, 500), 600);
}
