/* redd run in the place of the program: large requests, odd descriptors, wrong values. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/command.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

static struct service service;
static struct command c;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
}

static void tear_down(void)
{
	command_free(&c);
	cr_assert_eq(service_stop(&service), 0);
}

TestSuite(command_run, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- how much a program can be given --------------------------------------------------------- */

#define WORDS_MOST 18

/* Runs `printf %s` with so many words of so many bytes; with -d too, where only an id is printed.
 */
static void run_with(size_t n, size_t size, bool detached)
{
	const char *args[WORDS_MOST + 6] = { "run", detached ? "-d" : "--null-stdin", "--",
					     "printf", "%s" };
	char *word = malloc(size + 1);

	memset(word, 'w', size);
	word[size] = '\0';
	for (size_t i = 0; i < n; i++)
		args[5 + i] = word;
	command_free(&c);
	command_start_list(&c, service.socket, args);
	command_finish(&c, NULL, 0);
	cr_assert_eq(c.status, 0, "%zu of %zu: %s", n, size, c.err.text);
	cr_assert(detached || c.out.size == n * size, "%zu of %zu: %zu came", n, size, c.out.size);
	free(word);
}

Test(command_run, a_program_gets_as_much_as_the_system_lets_it_have)
{
	run_with(1, 70000, false);
	run_with(1, 131071, false); /* the longest string (execve(2), MAX_ARG_STRLEN) */
	run_with(8, 100000, false);
	run_with(WORDS_MOST, 100000, false); /* more than the usual frame */
	run_with(WORDS_MOST, 100000, true);
}

/* --- stdin ----------------------------------------------------------------------------------- */

/* A shell's view of a command of ours, behind `redd --socket ...`. */
static int in_shell(const char *words)
{
	char command[1024];

	snprintf(command, sizeof(command), "'%s' --socket '%s' %s", place_program("redd"),
		 service.socket, words);
	return system(command);
}

Test(command_run, stdin_that_cannot_be_read_is_told)
{
	cr_expect_eq(in_shell("run cat </ 2>&1 |"
			      " grep -qx 'redd: stdin: Is a directory; the program sees its end "
			      "there'"),
		     0);
}
