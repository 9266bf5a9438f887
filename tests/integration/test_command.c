/* The command, from outside: what a user types, and what a script sees. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/places.h"
#include "tests/lib/prompt.h"
#include "tests/lib/random.h"

TestSuite(command, .init = prompt_begin, .fini = prompt_end, .timeout = 60);

/* --- run ------------------------------------------------------------------------------------- */

Test(command, run_leaves_with_the_programs_status_and_says_nothing)
{
	PROMPT(0, "", "run", "true");
	cr_assert_str_eq(prompt.c.err.text, "");
	PROMPT(1, "", "run", "false");
	PROMPT(42, "", "run", "--", "sh", "-c", "exit 42");
	PROMPT(255, "", "run", "--", "sh", "-c", "exit 255");
	PROMPT(128 + SIGKILL, "", "run", "--", "sh", "-c", "kill -9 $$");
	PROMPT(128 + SIGTERM, "", "run", "--", "sh", "-c", "kill $$");
	cr_assert_str_eq(prompt.c.err.text, "");
}

Test(command, P6_run_tells_why_a_program_did_not_start)
{
	PROMPT(127, "", "run", "no-such-program-here");
	prompt_complained("no-such-program-here");
	PROMPT(126, "", "run", "/etc/passwd");
	prompt_complained("/etc/passwd");
	PROMPT(125, "", "run", "-w", "/no/such/directory", "true");
	prompt_complained("directory");
}

Test(command, run_that_is_used_wrongly_is_125)
{
	static const char *const wrong[][6] = {
		{ "run" },
		{ "run", "--nonsense", "true" },
		{ "run", "-t", "true" },
		{ "run", "--timeout", "soon", "true" },
		{ "run", "--limit", "nofile", "true" },
		{ "run", "--log-size", "0", "true" },
		{ "run", "--input-bound", "0", "true" },
		{ "run", "--timeout-signal", "0", "true" },
		{ "run", "--json", "true" },
		{ "run", "-e", "NOVALUE", "true" },
		{ "run", "--shell", "a", "b" },
		{ "run", "--user", "root", "true" },
		{ "run", "--on-disconnect", "what", "true" },
		{ "wait" },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		command_free(&prompt.c);
		command_start_list(&prompt.c, prompt.service.socket, wrong[i]);
		command_finish(&prompt.c, NULL, 0);
		cr_assert_eq(prompt.c.status, 125, "row %zu: %d", i, prompt.c.status);
		prompt_complained("--help");
	}
	PROMPT(2, "", "ps", "too", "many");
	PROMPT(2, "", "nonsense");
	PROMPT(2, "", "--socket");
	prompt_complained("path");
}

Test(command, run_timeout_is_124)
{
	PROMPT(124, "", "run", "--timeout", "100ms", "sleep", "100");
}

Test(command, stdout_and_stderr_stay_apart_unless_merged)
{
	PROMPT(0, "out\n", "run", "--", "sh", "-c", "echo out; echo err >&2");
	cr_assert_str_eq(prompt.c.err.text, "err\n");
	PROMPT(0, "out\nerr\n", "run", "--merge", "--", "sh", "-c", "echo out; echo err >&2");
	cr_assert_str_eq(prompt.c.err.text, "");
}

Test(command, any_bytes_pass_unchanged_both_ways_at_once)
{
	struct random rnd = { 7 };
	size_t size = 8000000;
	uint8_t *data = malloc(size);

	random_fill(&rnd, data, size);
	command_run(&prompt.c, prompt.service.socket, data, size, "run", "cat", NULL);
	cr_assert_eq(prompt.c.status, 0, "%s", prompt.c.err.text);
	cr_assert_eq(prompt.c.out.size, size);
	cr_assert_eq(memcmp(prompt.c.out.text, data, size), 0);
	free(data);
}

Test(command, S21_S39_descriptors_3_and_4_or_one_direction_alone)
{
	static const char fds[] = "(cd /proc/$$/fd; for i in 0 1 2 3 4; do readlink $i | tr -d "
				  "'0-9[]\\n'; done) >&2; ";
	static char program[512];

	snprintf(program, sizeof(program), "%s echo lost; cat <&3 >&4; exit 3", fds);
	PROMPT_WITH("in", 3, "in", "run", "--nouse-stdio", "--shell", program);
	cr_expect_str_eq(prompt.c.err.text, "/dev/null/dev/nullpipe:pipe:pipe:");
	PROMPT_WITH("in", 3, "", "run", "--nouse-stdio", "--null-stdin", "--shell", program);
	cr_expect_str_eq(prompt.c.err.text, "/dev/null/dev/nullpipe:/dev/nullpipe:");
	PROMPT_WITH("in", 3, "", "run", "--nouse-stdio", "--null-stdout", "--merge", "--shell",
		    program);
	cr_expect_str_eq(prompt.c.err.text, "");
	snprintf(program, sizeof(program), "%s exec cat", fds);
	PROMPT_WITH("in", 0, "", "run", "--null-stdout", "--shell", program);
	cr_expect_str_eq(prompt.c.err.text, "pipe:/dev/nullpipe:");
	PROMPT(125, "", "run", "-t", "-d", "--nouse-stdio", "true");
	/* From the side, too: attach finds what there is to read and to write. */
	PROMPT(0, NULL, "run", "-di", "--nouse-stdio", "--name", "q", "--shell",
	       "exec cat <&3 >&4");
	PROMPT(0, "", "write", "--stream", "3", "-n", "q", "one ");
	PROMPT_WITH("two", 0, "one two", "attach", "--replay", "--close", "q");
}

Test(command, a_program_that_does_not_read_stdin_is_not_waited_for)
{
	size_t size = 4000000;
	char *data = calloc(1, size);

	command_run(&prompt.c, prompt.service.socket, data, size, "run", "echo", "done", NULL);
	cr_assert_eq(prompt.c.status, 0);
	cr_assert_str_eq(prompt.c.out.text, "done\n");
	free(data);
}

Test(command, options_shape_environment_directory_and_limits)
{
	setenv("COMMAND_TEST", "inherited", 1);
	PROMPT(0, "inherited b unset\n", "run", "-e", "A=b", "--unset", "HOME", "--", "sh", "-c",
	       "echo $COMMAND_TEST $A ${HOME-unset}");
	PROMPT(0, "unset\n", "run", "--env", "empty", "--", "sh", "-c",
	       "echo ${COMMAND_TEST-unset}");
	PROMPT(0, "/\n", "run", "-w", "/", "pwd");
	PROMPT(0, "0027\n", "run", "--umask", "027", "--shell", "umask");
	umask(077); /* what it writes is to be as private as without us */
	PROMPT(0, "0077\n", "run", "--shell", "umask");
	umask(0);
	PROMPT(0, "0000\n", "run", "--shell", "umask");
	umask(022);
	PROMPT(0, "77\n", "run", "--limit", "cpu=77", "--shell", "ulimit -t");
	PROMPT(0, "sh x\n", "run", "--shell", "echo $0 x");
}

/* As the shell would start it: within a frame of the usual size, and beyond. */
Test(command, S16_an_environment_of_any_size_goes_along)
{
	static const int counts[] = { 12, 200 };
	static char value[8000];
	char name[16];

	memset(value, 'v', sizeof(value) - 1);
	for (int i = 0, n = 0; i < 2; i++) {
		for (; n < counts[i]; n++) {
			snprintf(name, sizeof(name), "BIG%d", n);
			cr_assert_eq(setenv(name, value, 1), 0);
		}
		PROMPT(0, NULL, "run", "--shell", "env | grep -c ^BIG");
		cr_expect_eq(atoi(prompt.c.out.text), n);
		PROMPT(0, NULL, "run", "-d", "--shell", "env | grep -c ^BIG");
	}
}

Test(command, a_reader_that_leaves_ends_the_program_as_sigpipe_would)
{
	command_start(&prompt.c, prompt.service.socket, "run", "yes", NULL);
	cr_assert(command_await(&prompt.c, "y\ny\n"));
	close(prompt.c.out_fd);
	prompt.c.out_fd = -1;
	command_finish(&prompt.c, NULL, 0);
	cr_assert_eq(prompt.c.status, 128 + SIGPIPE);
	cr_assert_str_eq(prompt.c.err.text, "");
}

Test(command, a_program_that_ignores_sigpipe_ends_too)
{
	command_start(&prompt.c, prompt.service.socket, "run", "--", "sh", "-c",
		      "trap '' PIPE; while :; do echo y 2>/dev/null; done", NULL);
	cr_assert(command_await(&prompt.c, "y\ny\n"));
	close(prompt.c.out_fd);
	prompt.c.out_fd = -1;
	command_finish(&prompt.c, NULL, 0);
	cr_assert_eq(prompt.c.status, 128 + SIGTERM);
}

Test(command, output_that_cannot_be_written_is_told)
{
	char text[512];

	snprintf(text, sizeof(text), "%s --socket %s run echo hi >/dev/full", place_program("redd"),
		 prompt.service.socket);
	cr_assert_eq(WEXITSTATUS(system(text)), 125);
}

/* --- signals --------------------------------------------------------------------------------- */

Test(command, signals_go_to_the_programs_group)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		char script[128];

		snprintf(script, sizeof(script),
			 "trap 'exit %d' %d; echo ready; while :; do sleep 0.02; done", 40 + (int)i,
			 signals[i]);
		command_start(&prompt.c, prompt.service.socket, "run", "--", "sh", "-c", script,
			      NULL);
		cr_assert(command_await(&prompt.c, "ready"));
		cr_assert_eq(kill(prompt.c.pid, signals[i]), 0);
		command_finish(&prompt.c, NULL, 0);
		cr_assert_eq(prompt.c.status, 40 + (int)i, "signal %d", signals[i]);
		command_free(&prompt.c);
	}
}

Test(command, a_signal_that_was_ignored_at_the_start_is_not_passed_on)
{
	signal(SIGHUP, SIG_IGN);
	command_start(&prompt.c, prompt.service.socket, "run", "--", "sh", "-c",
		      "echo ready; read x; echo $x", NULL);
	signal(SIGHUP, SIG_DFL);
	cr_assert(command_await(&prompt.c, "ready"));
	cr_assert_eq(kill(prompt.c.pid, SIGHUP), 0);
	command_finish(&prompt.c, "alive\n", 6);
	cr_assert_eq(prompt.c.status, 0);
	cr_assert_str_eq(prompt.c.out.text, "ready\nalive\n");
}

Test(command, a_killed_run_takes_its_program_along)
{
	command_start(&prompt.c, prompt.service.socket, "run", "--name", "victim", "--", "sh", "-c",
		      "echo ready; exec sleep 1000", NULL);
	cr_assert(command_await(&prompt.c, "ready"));
	kill(prompt.c.pid, SIGKILL);
	command_finish(&prompt.c, NULL, 0);
	cr_assert_eq(prompt.c.status, 128 + SIGKILL);
	PROMPT(128 + SIGKILL, "", "wait", "--timeout", "10s", "victim");
}

/* --- detached -------------------------------------------------------------------------------- */

Test(command, a_detached_port_is_written_read_closed_waited_for_and_forgotten)
{
	PROMPT(0, NULL, "run", "-d", "-i", "--name", "echo", "--", "sh", "-c",
	       "while read x; do echo got $x; done; exit 6");
	PROMPT(0, "", "write", "echo", "hello", "world");
	PROMPT(0, "", "write", "-n", "-c", "echo", "bye\n");
	PROMPT(6, "", "wait", "--until", "closed", "echo");
	PROMPT(0, "got hello world\ngot bye\n", "logs", "echo");
	PROMPT(0, "got bye\n", "logs", "-n", "1", "echo");
	PROMPT(0, "bye\n", "logs", "--tail-bytes", "4", "echo");
	PROMPT(0, "got bye\n", "logs", "--from", "16", "--stream", "1", "echo");
	PROMPT(6, "got hello world\ngot bye\n", "attach", "--replay", "echo");
	PROMPT(0, "", "forget", "echo");
	PROMPT(1, "", "inspect", "echo");
	prompt_complained("echo");
}

Test(command, write_takes_stdin_byte_for_byte)
{
	static char data[3000000];

	memset(data, 'x', sizeof(data));
	PROMPT(0, NULL, "run", "-d", "-i", "--name", "count", "--", "wc", "-c");
	command_free(&prompt.c);
	command_run(&prompt.c, prompt.service.socket, data, sizeof(data), "write", "-c", "count",
		    NULL);
	cr_assert_eq(prompt.c.status, 0, "%s", prompt.c.err.text);
	PROMPT(0, "", "wait", "--until", "closed", "count");
	PROMPT(0, "3000000\n", "logs", "count");
}

Test(command, S43_S45_the_marks_of_an_input_are_set_shown_and_overridden)
{
	static char block[150000], word[100001];
	struct redd *r = service_connect(&prompt.service);
	struct redd_port *port;

	PROMPT(0, NULL, "run", "-d", "-i", "--name", "deaf", "--input-marks", "1K:100",
	       "--input-bound", "200K", "--", "sleep", "1000");
	PROMPT(0, "", "write", "--no-wait", "-n", "deaf", "x");
	PROMPT(0, NULL, "inspect", "deaf");
	cr_expect_not_null(
		strstr(prompt.c.out.text, " queued=0 waiting=0 marks=1024:100 bound=204800\n"),
		"%s", prompt.c.out.text);
	cr_assert_eq(redd_port_by_name(r, "deaf", &port), 0);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, NULL), 0);
	cr_assert_eq(redd_write_start(port, block, 10000, NULL, NULL), 0);
	cr_assert_eq(redd_ping(r), 0);
	PROMPT(1, "", "write", "--no-wait", "deaf", "x");
	prompt_complained("busy");
	memset(word, 'w', sizeof(word) - 1);
	PROMPT(1, "", "write", "--no-wait", "--force", "deaf", word, word);
	prompt_complained("full");
	PROMPT(0, NULL, "inspect", "deaf");
	cr_expect_not_null(strstr(prompt.c.out.text, " waiting=2 "), "%s", prompt.c.out.text);
	cr_expect_not_null(strstr(prompt.c.out.text, " busy\n"), "%s", prompt.c.out.text);
	redd_free(r);
	PROMPT(125, "", "run", "--input-marks", "0", "true");
	prompt_complained("--input-marks");
	PROMPT(125, "", "run", "--input-bound", "0", "true");
	prompt_complained("--input-bound");
	PROMPT(2, "", "open", "--log-size", "0", "/dev/null");
	prompt_complained("--log-size");
	PROMPT(0, NULL, "run", "-d", "-i", "--name", "free", "--input-marks", "off", "--", "sleep",
	       "1000");
	PROMPT(0, NULL, "inspect", "free");
	cr_expect_not_null(strstr(prompt.c.out.text, " marks=off bound=1048576\n"), "%s",
			   prompt.c.out.text);
	PROMPT(0, "", "kill", "-s", "KILL", "deaf", "free");
	PROMPT(128 + SIGKILL, "", "wait", "--until", "closed", "deaf", "free");
}

Test(command, kill_reaches_what_it_is_told_to)
{
	PROMPT(0, NULL, "run", "-d", "--name", "a", "sleep", "1000");
	PROMPT(0, "", "kill", "a");
	PROMPT(128 + SIGTERM, "", "wait", "a");
	PROMPT(0, NULL, "run", "-d", "--name", "b", "--", "sh", "-c",
	       "setsid sleep 1000 & sleep 1000");
	PROMPT(0, "", "kill", "--tree", "-s", "KILL", "b");
	PROMPT(128 + SIGKILL, "", "wait", "b", "--until", "closed");
	PROMPT(1, "", "kill", "b");
	prompt_complained("b");
	PROMPT(1, "", "kill", "nobody");
}

Test(command, attach_joins_a_running_port)
{
	PROMPT(0, NULL, "run", "-d", "-i", "--name", "shared", "--", "sh", "-c",
	       "while read x; do echo got $x; done; exit 9");
	command_free(&prompt.c);
	command_run(&prompt.c, prompt.service.socket, "one\ntwo\n", 8, "attach", "--close",
		    "shared", NULL);
	cr_assert_eq(prompt.c.status, 9, "%s", prompt.c.err.text);
	cr_assert_str_eq(prompt.c.out.text, "got one\ngot two\n");
}

Test(command, a_signal_ends_attach_and_not_the_port)
{
	PROMPT(0, NULL, "run", "-d", "--name", "stays", "--", "sh", "-c",
	       "echo up; exec sleep 1000");
	command_free(&prompt.c);
	command_start(&prompt.c, prompt.service.socket, "attach", "--replay", "stays", NULL);
	cr_assert(command_await(&prompt.c, "up"));
	kill(prompt.c.pid, SIGTERM);
	command_finish(&prompt.c, NULL, 0);
	cr_assert_eq(prompt.c.status, 128 + SIGTERM);
	PROMPT(124, "", "wait", "--timeout", "0", "stays");
	PROMPT(0, "", "kill", "stays");
}

/* --- asking ---------------------------------------------------------------------------------- */

static void expect_json(const char *text)
{
	FILE *f = popen("python3 -c 'import json,sys\n"
			"for line in sys.stdin: json.loads(line)'",
			"w");

	cr_assert_not_null(f);
	fputs(text, f);
	cr_assert_eq(pclose(f), 0, "no JSON: %s", text);
}

Test(command, json_is_json_whatever_the_bytes)
{
	PROMPT(0, NULL, "run", "-d", "--json", "--name", "j", "-l", "quote=\"\\", "--", "sh", "-c",
	       "exit 0", "\x01\xff\xc3\xa4\xed\xa0\x80\"\\\n\x7f");
	expect_json(prompt.c.out.text);
	PROMPT(0, NULL, "wait", "--json", "--until", "closed", "j");
	expect_json(prompt.c.out.text);
	PROMPT(0, NULL, "ps", "-a", "--json");
	cr_assert_not_null(
		strstr(prompt.c.out.text, "\\u0001\\udcff\xc3\xa4\\udced\\udca0\\udc80"));
	expect_json(prompt.c.out.text);
	PROMPT(0, NULL, "inspect", "--json", "j");
	expect_json(prompt.c.out.text);
	PROMPT(0, NULL, "stats", "--json");
	expect_json(prompt.c.out.text);
}

Test(command, ps_lists_the_living_and_with_all_the_dead)
{
	PROMPT(0, NULL, "run", "-d", "--name", "alive", "-l", "role=x", "sleep", "1000");
	PROMPT(0, NULL, "run", "-d", "--name", "dead", "true");
	PROMPT(0, "", "wait", "--until", "closed", "dead");
	PROMPT(0, NULL, "ps");
	cr_assert(strstr(prompt.c.out.text, "alive: sleep 1000") &&
		  !strstr(prompt.c.out.text, "dead"));
	PROMPT(0, NULL, "ps", "-a");
	cr_assert(strstr(prompt.c.out.text, "alive") && strstr(prompt.c.out.text, "dead"));
	PROMPT(0, NULL, "ps", "-l", "role=y", "--json");
	cr_assert_str_eq(prompt.c.out.text, "");
	PROMPT(0, "", "kill", "alive");
}

Test(command, events_tell_a_life_in_order)
{
	PROMPT(3, "", "run", "--name", "life", "--", "sh", "-c", "exit 3");
	command_free(&prompt.c);
	command_start(&prompt.c, prompt.service.socket, "events", "--after", "0", NULL);
	cr_assert(command_await(&prompt.c, "closed port=2 name=life"), "%s", prompt.c.out.text);
	kill(prompt.c.pid, SIGTERM);
	command_finish(&prompt.c, NULL, 0);
	cr_assert(strstr(prompt.c.out.text, "started port=2 name=life") <
		  strstr(prompt.c.out.text, "exited port=2 name=life"));
	cr_assert_not_null(strstr(prompt.c.out.text, "status=3"));
}

Test(command, ping_version_and_stats_answer)
{
	PROMPT(0, NULL, "ping");
	cr_assert_not_null(strstr(prompt.c.out.text, " us\n"));
	PROMPT(0, NULL, "version");
	cr_assert_not_null(strstr(prompt.c.out.text, "broker redd"));
	PROMPT(0, NULL, "--version");
	PROMPT(0, NULL, "stats", "--openmetrics");
	cr_assert_not_null(strstr(prompt.c.out.text, "# TYPE redd_ports gauge"));
	cr_assert_str_eq(prompt.c.out.text + prompt.c.out.size - 6, "# EOF\n");
}

Test(command, every_verb_explains_itself)
{
	static const char *const verbs[] = { "run",   "attach",	 "logs",    "write",
					     "close", "kill",	 "resize",  "wait",
					     "ps",    "inspect", "forget",  "events",
					     "stats", "ping",	 "version", "shutdown" };

	PROMPT(0, NULL, "--help");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		cr_assert_not_null(strstr(prompt.c.out.text, verbs[i]));
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		PROMPT(0, NULL, verbs[i], "--help");
		cr_assert_eq(strncmp(prompt.c.out.text, "usage: redd ", 12), 0);
		cr_assert_str_eq(prompt.c.err.text, "");
	}
	PROMPT(0, NULL, "run", "--help");
	cr_assert_not_null(strstr(prompt.c.out.text, "keep:DURATION "), "what is long is cut");
}

/* Not 0, nor what libredd calls the default one. */
Test(command, P15_a_number_that_is_no_streams_is_none)
{
	static const char *const numbers[] = { "4294967296", "4294967295", "1025" };

	PROMPT(0, NULL, "run", "-di", "--name", "cat", "--", place_prog("cat"));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		PROMPT(2, "", "write", "--stream", numbers[i], "cat", "lost");
		prompt_complained("no stream");
		PROMPT(2, "", "close", "--stream", numbers[i], "cat");
		PROMPT(2, "", "logs", "--stream", numbers[i], "cat");
		PROMPT(2, "", "expect", "--stream", numbers[i], "cat", "--timeout", "0");
	}
	PROMPT(0, "", "write", "-c", "cat", "found");
	PROMPT(0, "found\n", "logs", "-f", "cat");
}

Test(command, without_a_broker_it_says_what_to_do)
{
	char path[sizeof(prompt.service.directory) + 8];

	snprintf(path, sizeof(path), "%s/none", prompt.service.directory);
	command_run(&prompt.c, path, NULL, 0, "run", "true", NULL);
	cr_assert_eq(prompt.c.status, 125);
	prompt_complained("redd-broker");
	command_free(&prompt.c);
	command_run(&prompt.c, path, NULL, 0, "ps", NULL);
	cr_assert_eq(prompt.c.status, 1);
}

/* --- the broker that is started on demand ---------------------------------------------------- */

Test(command, the_default_broker_is_started_once_however_many_ask)
{
	char directory[PATH_MAX];
	struct command many[8];
	const char *pid;

	cr_assert_eq(place_make_dir(directory), 0);
	setenv("XDG_RUNTIME_DIR", directory, 1);
	unsetenv("REDD_SOCKET");
	for (int i = 0; i < 8; i++)
		command_start(&many[i], NULL, "run", "echo", "hello", NULL);
	for (int i = 0; i < 8; i++) {
		command_finish(&many[i], NULL, 0);
		cr_assert_eq(many[i].status, 0, "%s", many[i].err.text);
		cr_assert_str_eq(many[i].out.text, "hello\n");
		command_free(&many[i]);
	}
	command_run(&prompt.c, NULL, NULL, 0, "ps", "-a", NULL);
	for (pid = prompt.c.out.text; (pid = strstr(pid, "echo hello")); pid++)
		many[0].status++;
	cr_assert_eq(many[0].status, 8, "all eight were given to one broker: %s",
		     prompt.c.out.text);
	command_free(&prompt.c);
	command_run(&prompt.c, NULL, NULL, 0, "shutdown", NULL);
	cr_assert_eq(prompt.c.status, 0, "%s", prompt.c.err.text);
	place_remove_dir(directory);
}
