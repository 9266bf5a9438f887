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

#include <stdbool.h>
#include <stddef.h>
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

#endif
