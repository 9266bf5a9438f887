/* What is shown of a port's command comes back as it was, or as nothing. */
#include "broker/record_shown.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/port.h"
#include "broker/record_piece.h"

#define AT   ((off_t)RECORD_SHOWN_SIZE)
#define PORT 7u

static int fd;
static struct port_options before, after;

static void begin(void)
{
	fd = memfd_create("shown", MFD_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, 4 * RECORD_SHOWN_SIZE), 0);
	before = after = (struct port_options){ 0 };
}

static void end(void)
{
	port_options_deinit(&before);
	port_options_deinit(&after);
	close(fd);
}

TestSuite(record_shown, .init = begin, .fini = end, .timeout = 10);

static void write_of(const char *program, const char *directory)
{
	before.program = strdup(program);
	before.directory = strdup(directory);
	cr_assert_eq(record_shown_write(fd, AT, PORT, &before), 0);
}

static int read_of(uint64_t port)
{
	port_options_deinit(&after);
	return record_shown_read(fd, AT, port, &after);
}

static void expect_nothing(void)
{
	cr_expect_str_eq(after.program, "");
	cr_expect_str_eq(after.directory, "");
	cr_expect_eq(after.arguments.count, 0);
	cr_expect_not(after.arguments_are_cut);
}

Test(record_shown, P13_comes_back_as_it_was)
{
	static const char *const args[] = { "", "a b\n", "\xff\x01", "" };

	for (size_t i = 0; i < 4; i++)
		string_block_add(&before.arguments, args[i], strlen(args[i]));
	before.arguments_are_cut = true;
	write_of("/bin/x", "/tmp/with space");
	cr_assert_eq(read_of(PORT), 0);
	cr_expect_str_eq(after.program, "/bin/x");
	cr_expect_str_eq(after.directory, "/tmp/with space");
	cr_assert_eq(after.arguments.size, before.arguments.size);
	cr_expect_eq(memcmp(after.arguments.data, before.arguments.data, before.arguments.size), 0);
	cr_expect_eq(after.arguments.count, 4);
	cr_expect(after.arguments_are_cut);
}

Test(record_shown, is_one_ports_alone)
{
	cr_assert_eq(read_of(PORT), 0);
	expect_nothing();
	write_of("/bin/x", "");
	cr_assert_eq(read_of(PORT + 1), 0);
	expect_nothing();
}

Test(record_shown, what_does_not_fit_is_cut)
{
	static char longest[4096];

	memset(longest, 'p', sizeof(longest) - 1);
	for (size_t i = 0; i < RECORD_SHOWN_SIZE; i++)
		string_block_add(&before.arguments, "", 0);
	write_of(longest, longest);
	cr_assert_eq(read_of(PORT), 0);
	cr_expect_str_eq(after.program, longest);
	cr_expect_str_eq(after.directory, longest);
	cr_expect_gt(after.arguments.count, 4096);
	cr_expect_lt(after.arguments.count, before.arguments.count);
	cr_expect(after.arguments_are_cut);
}

Test(record_shown, P15_what_is_broken_is_nothing)
{
	uint8_t byte;

	string_block_add(&before.arguments, "arg", 3);
	for (off_t at = 8; at < (off_t)sizeof(struct record_piece) + 7 + 5 + 4; at++) {
		port_options_deinit(&before);
		before = (struct port_options){ 0 };
		string_block_add(&before.arguments, "arg", 3);
		write_of("/bin/x", "/tmp");
		cr_assert_eq(pread(fd, &byte, 1, AT + at), 1);
		byte ^= 0x41;
		cr_assert_eq(pwrite(fd, &byte, 1, AT + at), 1);
		cr_assert_eq(read_of(PORT), RECORD_SHOWN_E_BAD, "byte %d", (int)at);
		expect_nothing();
	}
}

Test(record_shown, a_place_that_is_not_there_is_an_error)
{
	cr_assert_eq(record_shown_read(fd, 4 * AT, PORT, &after), RECORD_SHOWN_E_BAD);
	expect_nothing();
	close(fd);
	port_options_deinit(&after);
	cr_assert_eq(record_shown_read(fd, AT, PORT, &after), -EBADF);
	end();
	begin();
}
