/* The command among several users of one port: doors, grants, leases, writes in turn. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/places.h"
#include "tests/lib/prompt.h"

TestSuite(command_rights, .init = prompt_begin, .fini = prompt_end, .timeout = 60);

Test(command_rights, P14_delegate_runs_a_command_that_may_do_what_was_said)
{
	const char *redd = place_program("redd");

	PROMPT(0, NULL, "run", "-di", "--name", "shared", "--", place_prog("cat"));
	PROMPT(0, NULL, "run", "-d", "--name", "other", "--label", "job=17", "--",
	       place_prog("hang"));
	PROMPT(0, "", "delegate", "--write", "shared", "--", redd, "write", "shared", "hello");
	PROMPT(1, "", "delegate", "--write", "shared", "--", redd, "kill", "shared");
	PROMPT(1, "", "delegate", "--write", "shared", "--", redd, "inspect", "other");
	PROMPT(0, "", "delegate", "-s", "-l", "job", "--", redd, "kill", "other");
	PROMPT(143, NULL, "wait", "-l", "job=17");
	PROMPT(127, "", "delegate", "--see", "shared", "--", "/no/such/program");
	PROMPT(125, "", "delegate", "--see", "shared");
	PROMPT(125, "", "delegate", "shared", "--", "true");
	PROMPT(0, "", "write", "--lease", "-c", "shared", "world");
	PROMPT(0, "hello\nworld\n", "logs", "-f", "shared");
}

static void await_holder(void)
{
	do
		PROMPT(0, NULL, "inspect", "cat");
	while (!strstr(prompt.c.out.text, "lease "));
}

/* Somebody with the lease of `cat`, until his stdin ends. */
static void hold_lease(struct command *who)
{
	command_start(who, prompt.service.socket, "write", "--lease", "cat", NULL);
	await_holder();
}

Test(command_rights, a_lease_is_waited_for_or_taken)
{
	struct command holder;

	PROMPT(0, NULL, "run", "-di", "--name", "cat", "--", place_prog("cat"));
	hold_lease(&holder);
	PROMPT(1, "", "write", "cat", "no");
	prompt_complained("has the lease");
	PROMPT(0, "", "write", "--take", "cat", "taken");
	command_finish(&holder, "no\n", 3);
	cr_expect_eq(holder.status, 1);
	cr_expect(strstr(holder.err.text, "taken by force"), "%s", holder.err.text);
	command_free(&holder);
	PROMPT(0, "", "write", "--lease", "-c", "cat", "in turn");
	PROMPT(0, "taken\nin turn\n", "logs", "-f", "cat");
}

/* The claim of the last who waits for the lease of `cat`, once `n` do. */
static const char *last_claim(size_t n)
{
	static char number[32];
	const char *line = NULL;
	size_t found;

	do {
		PROMPT(0, NULL, "inspect", "cat");
		found = 0;
		for (const char *s = prompt.c.out.text; (s = strstr(s, "lease wanted")); found++)
			line = s += strlen("lease wanted");
	} while (found < n);
	cr_assert_eq(sscanf(line, " %31[0-9]", number), 1, "%s", line);
	return number;
}

static void wait_for_lease(struct command *who, const char *words, size_t n)
{
	command_start(who, prompt.service.socket, "write", "--lease", "cat", words, NULL);
	last_claim(n);
}

static void finish_well(struct command *who)
{
	command_finish(who, NULL, 0);
	cr_expect_eq(who->status, 0, "%s", who->err.text);
	command_free(who);
}

/* The first in turn would be the one in the middle. */
Test(command_rights, a_lease_is_handed_to_whom_one_wants)
{
	struct command holder, second, third;
	const char *last;

	PROMPT(0, NULL, "run", "-di", "--name", "cat", "--", place_prog("cat"));
	hold_lease(&holder);
	wait_for_lease(&second, "second", 1);
	wait_for_lease(&third, "third", 2);
	PROMPT(1, "", "write", "--take", "--hand-to", "77777", "cat", "nobody");
	prompt_complained("all is written, but the lease goes to the next who waits: nobody waits");
	finish_well(&second);
	finish_well(&third);
	command_finish(&holder, "no\n", 3);
	cr_expect(strstr(holder.err.text, "taken by force"), "%s", holder.err.text);
	command_free(&holder);

	hold_lease(&holder);
	wait_for_lease(&second, "second", 1);
	wait_for_lease(&third, "third", 2);
	last = last_claim(2);
	PROMPT(0, "", "write", "--take", "--hand-to", last, "cat", "for the third");
	finish_well(&third);
	finish_well(&second);
	command_finish(&holder, "no\n", 3);
	command_free(&holder);
	PROMPT(0, "", "close", "cat");
	PROMPT(0, "nobody\nsecond\nthird\nfor the third\nthird\nsecond\n", "logs", "-f", "cat");
}

/* It is said once. */
Test(command_rights, a_lease_that_was_taken_is_not_handed_on)
{
	struct command holder;

	PROMPT(0, NULL, "run", "-di", "--name", "cat", "--", place_prog("cat"));
	command_start(&holder, prompt.service.socket, "write", "--lease", "--hand-to", "0", "cat",
		      NULL);
	await_holder();
	PROMPT(0, "", "write", "--take", "cat", "taken");
	command_finish(&holder, NULL, 0);
	cr_expect_eq(holder.status, 1);
	command_expect_complaint(&holder, "taken by force");
	command_free(&holder);
	PROMPT(0, "", "close", "cat");
}

Test(command_rights, handing_a_lease_on_without_one_is_refused)
{
	PROMPT(2, "", "write", "--hand-to", "1", "cat", "x");
	cr_expect(strstr(prompt.c.err.text, "--lease or --take"), "%s", prompt.c.err.text);
	PROMPT(2, "", "write", "-c", "--lease", "--hand-to", "1", "cat", "x");
	cr_expect(strstr(prompt.c.err.text, "-c closes"), "%s", prompt.c.err.text);
}

Test(command_rights, P9_what_was_written_at_an_offset_is_not_written_twice)
{
	PROMPT(0, NULL, "run", "-di", "--name", "cat", "--", place_prog("cat"));
	PROMPT(0, "", "write", "--offset", "0", "cat", "once");
	PROMPT(0, "", "write", "--offset", "0", "cat", "once");
	PROMPT(1, "", "write", "--offset", "6", "cat", "early");
	prompt_complained("at offset 5");
	command_free(&prompt.c);
	command_run(&prompt.c, prompt.service.socket, "once\nmore\n", 10, "write", "-c", "--offset",
		    "0", "cat", NULL);
	cr_assert_eq(prompt.c.status, 0, "%s", prompt.c.err.text);
	PROMPT(0, "once\nmore\n", "logs", "-f", "cat");
}

/* Once, and never with a status alone. */
Test(command_rights, P15_what_one_has_no_right_to_is_said)
{
	const char *redd = place_program("redd");

	PROMPT(0, NULL, "run", "-di", "--name", "shared", "--", place_prog("cat"));
	PROMPT(1, "", "delegate", "--see", "shared", "--", redd, "write", "shared", "x");
	prompt_complained("right to write");
	PROMPT(1, "", "delegate", "--see", "shared", "--", redd, "logs", "shared");
	prompt_complained("right to read");
	PROMPT(125, "", "delegate", "--see", "shared", "--", redd, "attach", "shared");
	prompt_complained("right to read");
	PROMPT(0, "", "close", "shared");
}

Test(command_rights, grants_are_given_shown_and_taken_back)
{
	char id[64];

	PROMPT(0, NULL, "run", "-d", "--name", "mine", "--label", "job=1", "--",
	       place_prog("hang"));
	PROMPT(0, NULL, "grant", "--user", "4711", "--read", "--stream", "1", "mine");
	snprintf(id, sizeof(id), "%.*s", (int)strcspn(prompt.c.out.text, "\n"), prompt.c.out.text);
	PROMPT(0, NULL, "inspect", "mine");
	cr_expect(strstr(prompt.c.out.text, "uid=4711 read streams=1"), "%s", prompt.c.out.text);
	PROMPT(0, NULL, "inspect", "--json", "mine");
	cr_expect(strstr(prompt.c.out.text, "\"number\":4711"), "%s", prompt.c.out.text);
	PROMPT(2, "", "grant", "--user", "4711", "mine");
	PROMPT(2, "", "grant", "--user", "4711", "--everyone", "--see", "mine");
	PROMPT(0, "", "revoke", id);
	PROMPT(1, "", "revoke", id);
	PROMPT(0, "", "revoke", "--all", "mine");
	PROMPT(0, "0\n", "kill", "-l", "job=none");
	PROMPT(0, "1\n", "kill", "-s", "KILL", "-l", "job");
}
