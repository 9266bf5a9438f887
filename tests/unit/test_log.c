#include "proto/base/log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

TestSuite(log, .timeout = 10);

/* What `call` writes to stderr goes to text. */
#define CAPTURE(text, call)                                   \
	do {                                                  \
		int saved_ = dup(STDERR_FILENO), fds_[2];     \
		ssize_t n_;                                   \
		cr_assert_eq(pipe2(fds_, O_NONBLOCK), 0);     \
		dup2(fds_[1], STDERR_FILENO);                 \
		call;                                         \
		dup2(saved_, STDERR_FILENO);                  \
		n_ = read(fds_[0], (text), sizeof(text) - 1); \
		(text)[n_ > 0 ? n_ : 0] = '\0';               \
		close(saved_);                                \
		close(fds_[0]);                               \
		close(fds_[1]);                               \
	} while (0)

Test(log, a_line_names_program_pid_and_level)
{
	char text[2048], want[128];

	log_init("redd-test", LOG_LEVEL_INFO);
	CAPTURE(text, log_warning("port %d is %s", 7, "late"));
	snprintf(want, sizeof(want), "redd-test[%d]: warning: port 7 is late\n", (int)getpid());
	cr_assert_str_eq(text, want);
}

Test(log, what_is_below_the_level_is_not_written)
{
	char text[2048];

	log_init("redd-test", LOG_LEVEL_WARNING);
	CAPTURE(text, (log_info("no"), log_debug("no")));
	cr_assert_str_eq(text, "");
	CAPTURE(text, log_error("yes"));
	cr_assert_str_not_empty(text);
}

Test(log, one_call_is_one_line_whatever_a_stranger_put_in)
{
	char text[2048];

	log_init("redd-test", LOG_LEVEL_INFO);
	CAPTURE(text, log_error("name %s", "a\nredd-test[1]: error: forged\x1b[2J\r"));
	cr_assert_eq(strchr(text, '\n'), text + strlen(text) - 1);
	cr_assert_null(strchr(text, '\x1b'));
	cr_assert_null(strchr(text, '\r'));
	cr_assert_not_null(strstr(text, "a\\x0aredd-test"));
}

Test(log, a_long_line_is_cut_and_still_ends)
{
	char text[4096], much[3000];

	memset(much, '\x02', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	log_init("redd-test", LOG_LEVEL_INFO);
	CAPTURE(text, log_error("%s", much));
	cr_assert_leq(strlen(text), 1152);
	cr_assert_geq(strlen(text), 700);
	cr_assert_eq(text[strlen(text) - 1], '\n');
}

Test(log, keeps_errno)
{
	char text[2048];
	int after = 0;

	log_init("redd-test", LOG_LEVEL_INFO);
	CAPTURE(text, (close(STDERR_FILENO), errno = EXDEV, log_error("x"), after = errno));
	cr_assert_eq(after, EXDEV, "a failed write must not show");
}

Test(log, a_line_that_stderr_does_not_take_is_counted_and_waited_for_by_nobody)
{
	int saved = dup(STDERR_FILENO), fds[2];
	uint64_t lost = log_lost();
	char block[4096] = { 0 };

	cr_assert_eq(pipe2(fds, O_NONBLOCK), 0);
	while (write(fds[1], block, sizeof(block)) > 0)
		;
	dup2(fds[1], STDERR_FILENO);
	log_error("nobody reads this");
	dup2(saved, STDERR_FILENO);
	cr_assert_eq(log_lost(), lost + 1);
	close(saved);
	close(fds[0]);
	close(fds[1]);
}

Test(log, escape_leaves_nothing_but_printable_ascii)
{
	char out[64];

	cr_assert_str_eq(log_escape(out, sizeof(out), "a\0b\t\x7f\\h\xc3\xa9", 9),
			 "a\\x00b\\x09\\x7f\\x5ch\\xc3\\xa9");
	cr_assert_str_eq(log_escape(out, sizeof(out), "", 0), "");
}

Test(log, escape_never_writes_past_its_room)
{
	for (size_t size = 1; size < 40; size++) {
		char out[64];

		memset(out, 'Z', sizeof(out));
		log_escape(out, size, "aaaaaaa\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", 23);
		cr_assert_lt(strnlen(out, sizeof(out)), size);
		for (size_t i = size; i < sizeof(out); i++)
			cr_assert_eq(out[i], 'Z', "size %zu", size);
	}
}
