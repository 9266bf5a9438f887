/* What redd logs prints, and how: records, gaps, marks. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/prompt.h"

TestSuite(command_logs, .init = prompt_begin, .fini = prompt_end, .timeout = 60);

Test(command_logs, S34_packets_are_written_as_such_and_read_as_records)
{
	PROMPT(0, NULL, "run", "-di", "--packet", "2", "--name", "p", "--", place_prog("cat"));
	PROMPT(0, "", "write", "-n", "p", "two", "words");
	PROMPT(0, "", "write", "-n", "p", "");
	command_free(&prompt.c);
	command_run(&prompt.c, prompt.service.socket, "a\0b", 3, "write", "--packet", "2", "-c",
		    "p", NULL);
	cr_assert_eq(prompt.c.status, 0, "%s", prompt.c.err.text);
	PROMPT(0,
	       "{\"stream\":1,\"offset\":0,\"record\":\"end\",\"data\":\"two words\"}\n"
	       "{\"stream\":1,\"offset\":11,\"record\":\"end\",\"data\":\"\"}\n"
	       "{\"stream\":1,\"offset\":13,\"record\":\"end\",\"data\":\"a\\u0000b\"}\n",
	       "logs", "-f", "--json", "p");
	PROMPT(0, NULL, "logs", "p");
	cr_assert_eq(prompt.c.out.size, 18, "without --json the bytes are as they were");
	PROMPT(0, NULL, "inspect", "p");
	cr_assert_not_null(strstr(prompt.c.out.text, "packets of up to 65535, length in 2"));
	PROMPT(1, "", "write", "--packet", "1", "p", "x");
	prompt_complained("closed");
	PROMPT(2, "", "write", "--packet", "3", "p", "x");
	prompt_complained("1, 2 or 4");
}

Test(command_logs, S36_logs_as_json_are_lines_of_what_has_an_end)
{
	PROMPT(0, NULL, "run", "-di", "--name", "q", "--", "sh", "-c",
	       "printf 'one\\n\\nthr'; cat; exit 0");
	PROMPT(1, "", "logs", "--json", "q");
	prompt_complained("-f");
	PROMPT(0, "", "close", "q");
	PROMPT(0, "", "wait", "--until", "closed", "q");
	PROMPT(0,
	       "{\"stream\":1,\"offset\":0,\"record\":\"end\",\"data\":\"one\"}\n"
	       "{\"stream\":1,\"offset\":4,\"record\":\"end\",\"data\":\"\"}\n"
	       "{\"stream\":1,\"offset\":5,\"record\":\"unterminated\",\"data\":\"thr\"}\n",
	       "logs", "--json", "q");
}

Test(command_logs, S36_each_reader_cuts_what_he_reads_as_he_likes)
{
	static const char *const wrong[] = { "line",	 "lines:0",    "lines:", "raw:1",
					     "packets",	 "packets:3",  "",	 "packets:4:",
					     "lines:2G", "packets:44", "raw " };

	PROMPT(0, NULL, "run", "-d", "--name", "q", "--framing", "lines:3", "--", "printf",
	       "\\1abcd\r\nx");
	PROMPT(0, "", "wait", "--until", "closed", "q");
	PROMPT(0,
	       "{\"stream\":1,\"offset\":0,\"record\":\"cut\",\"data\":\"\\u0001ab\"}\n"
	       "{\"stream\":1,\"offset\":3,\"record\":\"end\",\"data\":\"cd\\u000d\"}\n"
	       "{\"stream\":1,\"offset\":7,\"record\":\"unterminated\",\"data\":\"x\"}\n",
	       "logs", "--json", "q");
	PROMPT(0,
	       "{\"stream\":1,\"offset\":0,\"record\":\"end\",\"data\":\"a\"}\n"
	       "{\"stream\":1,\"offset\":2,\"record\":\"unterminated\",\"data\":"
	       "\"cd\\u000d\\u000ax\"}\n",
	       "logs", "--json", "--framing", "packets:1", "q");
	PROMPT(1, "{\"stream\":1,\"offset\":0,\"record\":\"end\",\"data\":\"a\"}\n", "logs",
	       "--json", "--framing", "packets:1:97", "q");
	prompt_complained("at offset 2 stands no packet");
	PROMPT(0,
	       "{\"stream\":1,\"offset\":0,\"record\":null,\"data\":\"\\u0001abcd\\u000d\\u000ax\"}"
	       "\n",
	       "logs", "--json", "--framing", "raw", "q");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		PROMPT(2, "", "logs", "--json", "--framing", wrong[i], "q");
	PROMPT(2, "", "logs", "--framing", "raw", "q");
}

/* A number that the port has written first. */
static pid_t logged_pid(const char *name)
{
	PROMPT(0, NULL, "logs", name);
	return (pid_t)atoi(prompt.c.out.text);
}

Test(command_logs, S46_logs_tell_when_an_input_is_busy_and_free_again)
{
	struct command logs = { 0 }, writer = { 0 };
	static char word[100001];

	memset(word, 'w', sizeof(word) - 1);
	PROMPT(0, NULL, "run", "-di", "--name", "q", "--input-marks", "1", "--shell",
	       "echo $$; kill -STOP $$; exec cat >/dev/null");
	PROMPT(2, "", "logs", "--json", "--marks", "q");
	command_start(&logs, prompt.service.socket, "logs", "-f", "--json", "--marks", "q", NULL);
	cr_assert(command_await(&logs, "\"record\""));
	while (census_state(logged_pid("q")) != 'T')
		;
	command_start(&writer, prompt.service.socket, "write", "-n", "q", word, NULL);
	cr_assert(command_await(&logs, "{\"stream\":0,\"busy\":true,\"queued\":"), "%s",
		  logs.err.text);
	PROMPT(0, "", "kill", "-s", "CONT", "q");
	cr_assert(command_await(&logs, "{\"stream\":0,\"busy\":false,\"queued\":0}\n"), "%s",
		  logs.err.text);
	PROMPT(0, "", "close", "q");
	command_finish(&writer, NULL, 0);
	command_finish(&logs, NULL, 0);
	cr_expect_eq(logs.status, 0, "%s", logs.err.text);
	command_free(&writer);
	command_free(&logs);
}

/* What is only written has marks as well, and a default. */
Test(command_logs, S43_a_file_has_marks_and_framing_too)
{
	PROMPT(0, NULL, "open", "-d", "-w", "--name", "q", "--input-marks", "100:50",
	       "--input-bound", "1000", "--framing", "packets:2:900", "/dev/null");
	PROMPT(0, NULL, "inspect", "q");
	cr_expect_not_null(strstr(prompt.c.out.text, " marks=100:50 bound=1000\n"), "%s",
			   prompt.c.out.text);
	cr_expect_not_null(strstr(prompt.c.out.text, "packets of up to 900, length in 2"), "%s",
			   prompt.c.out.text);
	PROMPT(0, "", "write", "q", "word");
	PROMPT(0, NULL, "inspect", "q");
	cr_expect_not_null(strstr(prompt.c.out.text, "0 input total=7 "), "%s", prompt.c.out.text);
	PROMPT(0, "", "close", "q");
	PROMPT(0, "", "logs", "-f", "--json", "--marks", "q");
	PROMPT(1, "", "logs", "--json", "q");
}

Test(command_logs, logs_follows_until_the_end_and_tells_gaps)
{
	PROMPT(0, NULL, "run", "-d", "--name", "big", "--", "head", "-c", "900000", "/dev/zero");
	PROMPT(0, "", "wait", "--until", "closed", "big");
	PROMPT(0, NULL, "logs", "-f", "big");
	cr_assert_eq(prompt.c.out.size, 262144);
	prompt_complained("637856 bytes of stream 1 are missing at offset 0: older than the log");
}

/* Which is rarely as long as the other. */
Test(command_logs, P15_logs_from_an_offset_say_which_stream_is_shorter)
{
	PROMPT(0, NULL, "run", "-d", "--name", "out", "--", "echo", "0123456789");
	PROMPT(0, "", "wait", "--until", "closed", "out");
	PROMPT(1, "", "logs", "--from", "8", "out");
	prompt_complained("stream 2 has 0 bytes");
	PROMPT(0, "89\n", "logs", "--from", "8", "--stream", "1", "out");
	PROMPT(1, "", "logs", "--from", "12", "--stream", "1", "out");
	prompt_complained("stream 1 has 11 bytes");
}

/* Of what was left in the pipe nobody can say how much it was: that is not "0 bytes". */
Test(command_logs, logs_say_why_something_is_missing)
{
	PROMPT(0, NULL, "run", "-d", "--merge", "--name", "cut", "--drain", "never",
	       "--drain-limit", "100ms", "--", place_prog("ticker"), "0", "30", "100000");
	PROMPT(0, "", "wait", "--until", "closed", "cut");
	PROMPT(0, NULL, "logs", "-f", "cut");
	prompt_complained("left in the pipe when the drain was over");
	cr_expect_not(strstr(prompt.c.err.text, " 0 bytes"), "%s", prompt.c.err.text);
	PROMPT(0, NULL, "logs", "-f", "--json", "cut");
	cr_expect(strstr(prompt.c.out.text, "\"cause\":\"abandoned\""), "%s", prompt.c.out.text);
}

/* 8 MiB through a log of 64 KiB, to somebody who does not read them at first. */
static void follow_late(const char *overflow, const char *stall)
{
	struct command late;

	PROMPT(0, NULL, "run", "-di", "--merge", "--log-size", "64K", "--name", overflow, "--",
	       "sh", "-c", "echo begin; read go; head -c 8388608 /dev/zero");
	command_start(&late, prompt.service.socket, "logs", "-f", "--overflow", overflow, overflow,
		      stall ? "--stall" : NULL, stall, NULL);
	cr_assert(command_await(&late, "begin"));
	PROMPT(0, "", "write", overflow, "go");
	PROMPT(strcmp(overflow, "block") || stall ? 0 : 124, NULL, "wait", "--timeout",
	       strcmp(overflow, "block") || stall ? "30s" : "300ms", overflow);
	command_free(&prompt.c);
	command_finish(&late, NULL, 0);
	prompt.c = late;
}

Test(command_logs, logs_that_are_slow_block_skip_or_end_as_asked_for)
{
	follow_late("block", NULL);
	cr_expect_eq(prompt.c.status, 0);
	cr_expect_eq(prompt.c.out.size, 6 + 8388608);
	cr_expect_str_eq(prompt.c.err.text ? prompt.c.err.text : "", "");
	follow_late("drop", NULL);
	cr_expect_eq(prompt.c.status, 0);
	cr_expect(prompt.c.err.text && strstr(prompt.c.err.text, "we were too slow"));
	follow_late("cancel", NULL);
	cr_expect_eq(prompt.c.status, 1);
	prompt_complained("faster than it was read");
	PROMPT(0, "", "forget", "block");
	follow_late("block", "100ms");
	cr_expect_eq(prompt.c.status, 0);
	cr_expect(prompt.c.err.text && strstr(prompt.c.err.text, "we were too slow"));
	PROMPT(2, "", "logs", "--stall", "1s", "block");
	PROMPT(2, "", "logs", "--overflow", "wait", "block");
}
