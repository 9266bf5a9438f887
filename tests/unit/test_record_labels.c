#include "broker/record_labels.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/labels.h"
#include "broker/record_piece.h"

#define AT   ((off_t)RECORD_LABELS_SIZE)
#define PORT 7u

static int fd;

static void begin(void)
{
	fd = memfd_create("labels", MFD_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, 4 * RECORD_LABELS_SIZE), 0);
}

static void end(void)
{
	close(fd);
}

TestSuite(record_labels, .init = begin, .fini = end, .timeout = 10);

/* n of the largest there are; value_size: of each. */
static struct labels *many(size_t n, size_t value_size)
{
	static char keys[LABELS_MAX][LABEL_KEY_MAX + 1], value[LABEL_VALUE_MAX];
	struct label pairs[LABELS_MAX];
	struct labels *l = NULL;
	const char *reason;

	memset(value, 'v', sizeof(value));
	for (size_t i = 0; i < n; i++) {
		memset(keys[i], 'k', LABEL_KEY_MAX);
		keys[i][0] = (char)('a' + i % 26);
		keys[i][1] = (char)('a' + i / 26);
		pairs[i] = (struct label){ keys[i], LABEL_KEY_MAX, value, value_size };
	}
	cr_assert_eq(labels_new(pairs, n, &l, &reason), 0);
	return l;
}

static struct labels *read_of(uint64_t port)
{
	struct labels *l = NULL;

	cr_assert_eq(record_labels_read(fd, AT, port, &l), 0);
	return l;
}

Test(record_labels, come_back_as_they_were)
{
	static const size_t value_sizes[] = { 0, 1, LABEL_VALUE_MAX };

	for (size_t i = 0; i < sizeof(value_sizes) / sizeof(value_sizes[0]); i++) {
		_cleanup_(labels_unrefp) struct labels *l = many(LABELS_MAX, value_sizes[i]);
		_cleanup_(labels_unrefp) struct labels *back = NULL;

		cr_assert_eq(record_labels_write(fd, AT, PORT, l), 0);
		back = read_of(PORT);
		cr_assert_eq(labels_count(back), LABELS_MAX);
		cr_assert(labels_match(back, l));
	}
}

Test(record_labels, are_those_of_one_port_alone)
{
	_cleanup_(labels_unrefp) struct labels *l = many(1, 1);

	cr_assert_null(read_of(PORT), "none were written");
	cr_assert_eq(record_labels_write(fd, AT, PORT, l), 0);
	cr_assert_null(read_of(PORT + 1), "another port has this place now");
}

Test(record_labels, that_are_broken_are_none)
{
	_cleanup_(labels_unrefp) struct labels *l = many(2, 3), *back = NULL;
	uint8_t byte;

	for (off_t at = 8; at < 24 + 2 * (2 + (off_t)LABEL_KEY_MAX + 3); at++) {
		cr_assert_eq(record_labels_write(fd, AT, PORT, l), 0);
		cr_assert_eq(pread(fd, &byte, 1, AT + at), 1);
		byte ^= 0x41;
		cr_assert_eq(pwrite(fd, &byte, 1, AT + at), 1);
		cr_assert_eq(record_labels_read(fd, AT, PORT, &back), RECORD_LABELS_E_BAD,
			     "byte %d", (int)at);
		cr_assert_null(back);
	}
}

Test(record_labels, that_do_not_fit_the_file_are_an_error)
{
	_cleanup_(labels_unrefp) struct labels *l = many(1, 1), *back = NULL;

	cr_assert_eq(record_labels_read(fd, 4 * AT, PORT, &back), RECORD_LABELS_E_BAD);
	close(fd);
	cr_assert_eq(record_labels_write(fd, AT, PORT, l), -EBADF);
	cr_assert_eq(record_labels_read(fd, AT, PORT, &back), -EBADF);
	begin();
}

static blkcnt_t blocks(void)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_blocks;
}

Test(record_labels, that_are_many_give_their_memory_back)
{
	_cleanup_(labels_unrefp) struct labels *few = many(1, 1), *much = many(LABELS_MAX, 255);
	blkcnt_t before = blocks(), with_few;

	record_piece_drop(fd, AT, RECORD_LABELS_SIZE);
	cr_expect_eq(blocks(), before, "there was nothing");
	cr_assert_eq(record_labels_write(fd, AT, PORT, few), 0);
	with_few = blocks();
	record_piece_drop(fd, AT, RECORD_LABELS_SIZE);
	cr_expect_eq(blocks(), with_few);
	cr_assert_eq(record_labels_write(fd, AT, PORT, much), 0);
	cr_expect_gt(blocks(), with_few);
	record_piece_drop(fd, AT, RECORD_LABELS_SIZE);
	cr_expect_eq(blocks(), before);
}
