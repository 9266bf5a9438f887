/* A user at a shell, and a service for him alone: what most tests of the `redd` command begin and
 * end with. One test runs in a process of its own, so there is one prompt.
 *
 *	TestSuite(command, .init = prompt_begin, .fini = prompt_end, .timeout = 60);
 *
 *	Test(command, a_sentence)
 *	{
 *		PROMPT(42, "hello\n", "run", "--", "sh", "-c", "echo hello; exit 42");
 *		PROMPT(125, "", "run", "--no-such-option");
 *		prompt_complained("no-such-option");
 *	}
 *
 * What fails here fails the test.
 */
#ifndef TESTS_LIB_PROMPT_H
#define TESTS_LIB_PROMPT_H

#include "tests/lib/command.h"
#include "tests/lib/service.h"

struct prompt {
	struct service service;
	struct command c; /* the last one, or none yet */
};

extern struct prompt prompt;

void prompt_begin(void);

/* Forgets all ports, and expects that the service is as at its start then and ends well. */
void prompt_end(void);

/* Runs redd with these words, and asserts its status, and its output if one is given; with a text
 * as stdin (NULL: none). prompt.c is what came of it, until the next. */
#define PROMPT_WITH(input, want_status, want_out, ...)                                       \
	COMMAND_EXPECT(&prompt.c, prompt.service.socket, (input), (want_status), (want_out), \
		       __VA_ARGS__)
#define PROMPT(want_status, want_out, ...) PROMPT_WITH(NULL, (want_status), (want_out), __VA_ARGS__)

/* The last one has written one line to stderr, which says this. */
void prompt_complained(const char *part);

#endif
