/* The `redd` command as a user runs it: with a stdin, and what it wrote and left with.
 *
 *	struct command c;
 *
 *	command_run(&c, s.socket, "hello", 5, "run", "cat", NULL);
 *	cr_assert_eq(c.status, 0);
 *	cr_assert_str_eq(c.out.text, "hello");
 *	command_free(&c);
 */
#ifndef TESTS_LIB_COMMAND_H
#define TESTS_LIB_COMMAND_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

struct command_text {
	char *text; /* with a NUL behind */
	size_t size;
};

struct command {
	pid_t pid;
	int in, out_fd, err_fd; /* our ends; -1: closed */
	struct command_text out, err;
	int status; /* as a shell tells it: 128 + signal; -1: it hung and was killed */
};

/* Starts it; socket NULL: not given. The arguments end with NULL; or as an array. */
void command_start(struct command *c, const char *socket, ...) __attribute__((sentinel));
void command_start_list(struct command *c, const char *socket, const char *const *args);

/* Reads its stdout until `text` has come in it. False when it ended without, or took too long. */
bool command_await(struct command *c, const char *text);

/* Feeds the rest of its stdin and closes it, reads all it writes, and waits. in NULL: as it is. */
void command_finish(struct command *c, const void *in, size_t size);

/* Both. */
void command_run(struct command *c, const char *socket, const void *in, size_t size, ...)
	__attribute__((sentinel));

/* All zero, or freed already, is fine. */
void command_free(struct command *c);

/* Frees what *c had before, runs it with that text as stdin (NULL: none), and asserts its status,
 * and its output if one is given. */
#define COMMAND_EXPECT(c, socket, input, want_status, want_out, ...)                       \
	do {                                                                               \
		const char *in_ = (input);                                                 \
		command_free(c);                                                           \
		command_run((c), (socket), in_, in_ ? strlen(in_) : 0, __VA_ARGS__, NULL); \
		cr_assert_eq((c)->status, (want_status), "status %d: %s%s", (c)->status,   \
			     (c)->out.text, (c)->err.text);                                \
		if (want_out)                                                              \
			cr_assert_str_eq((c)->out.text, (const char *)(want_out));         \
	} while (0)

/* It has written one line to stderr, which says this. */
void command_expect_complaint(const struct command *c, const char *part);

#endif
