/* Every program in examples/ does what it says, as a user would run it: with REDD_SOCKET, its
 * output and its status. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/collect.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

static struct service service;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
	setenv("REDD_SOCKET", service.socket, 1);
}

static void tear_down(void)
{
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(examples, .init = set_up, .fini = tear_down, .timeout = 60);

/* Runs a shell command; its stdout goes to text. Returns its exit status. */
static int shell(char *text, size_t size, const char *format, ...)
{
	char command[8192];
	va_list args;
	size_t n;
	FILE *out;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	out = popen(command, "r");
	cr_assert_not_null(out);
	n = fread(text, 1, size - 1, out);
	text[n] = '\0';
	status = pclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(examples, run_prints_output_and_leaves_with_the_status)
{
	char text[256];

	cr_assert_eq(shell(text, sizeof(text), "%s sh -c 'echo hello; exit 5' 2>/dev/null",
			   place_example("run")),
		     5);
	cr_assert_str_eq(text, "hello\n");
}

Test(examples, run_tells_a_program_that_is_not_there)
{
	char text[512];

	cr_assert_eq(shell(text, sizeof(text), "%s /no/such/program 2>&1", place_example("run")),
		     125);
	cr_assert_not_null(strstr(text, "/no/such/program"));
}

Test(examples, share_shows_both_clients_every_byte)
{
	char text[1024];

	cr_assert_eq(shell(text, sizeof(text), "%s", place_example("share")), 0, "%s", text);
	cr_assert_not_null(strstr(text, "first: end at 31, 31 seen\n"), "%s", text);
	cr_assert_not_null(strstr(text, "second: end at 31, 31 seen\n"), "%s", text);
	cr_assert_not_null(strstr(text, "second: status 0\n"), "%s", text);
}

Test(examples, delegate_lets_its_child_write_and_no_more)
{
	char text[1024];

	cr_assert_eq(shell(text, sizeof(text), "%s", place_example("delegate")), 0, "%s", text);
	cr_assert_not_null(strstr(text, "child: the right to signal"), "%s", text);
	cr_assert_not_null(strstr(text, "parent: from the child\n"), "%s", text);
}

Test(examples, watch_feeds_and_follows_a_port_in_its_own_loop)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.name = "watched",
					.descriptors = &in,
					.n_descriptors = 1 };
	struct redd *r = service_connect(&service);
	struct redd_port *port;
	char text[256];

	cr_assert_not_null(r);
	cr_assert_eq(redd_spawn(r, &o, &port), 0, "%s", redd_last_error(r)->message);
	cr_assert_eq(shell(text, sizeof(text), "printf 'one\\ntwo\\n' | %s watched",
			   place_example("watch")),
		     0);
	cr_assert_str_eq(text, "one\ntwo\n");
	cr_assert_eq(redd_forget(port), 0);
	redd_free(r);
}

Test(examples, S34_a_port_program_written_for_erlang_runs_unchanged)
{
	static const char *const descriptors[] = { "", "-3" };
	char text[256];

	for (int i = 0; i < 2; i++) {
		cr_assert_eq(shell(text, sizeof(text), "%s %s %s hello '' 'two words'",
				   place_example("packets"), descriptors[i],
				   place_example("port_program")),
			     0);
		cr_assert_str_eq(text, "HELLO\n\nTWO WORDS\n");
	}
}

Test(examples, S40_packets_tells_a_program_that_speaks_none)
{
	char text[512];

	cr_assert_eq(shell(text, sizeof(text), "%s yes word 2>&1", place_example("packets")), 125);
	cr_assert_str_eq(text, "packets: at byte 0 of descriptor 1 stands no packet\n");
}

static void forget_all(void)
{
	struct redd *r = service_connect(&service);
	struct redd_ports *ports;
	struct redd_port *port;

	cr_assert_not_null(r);
	cr_assert_eq(redd_list(r, NULL, &ports), 0);
	for (size_t i = 0; i < ports->n_ports; i++) {
		struct redd_waited w;

		cr_assert_eq(redd_port_by_id(r, ports->ports[i].port, &port), 0);
		cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, -1, &w), 0);
		cr_assert_eq(redd_forget(port), 0);
	}
	redd_ports_free(ports);
	redd_free(r);
}

Test(examples, copy_copies_a_file_and_tells_what_it_could_not)
{
	char text[512];
	const char *at = service.directory;

	cr_assert_eq(
		shell(text, sizeof(text),
		      "%s 3000000 >%s/from; %s %s/from %s/to && cmp %s/from %s/to && echo same",
		      place_prog("pattern"), at, place_example("copy"), at, at, at, at),
		0, "%s", text);
	cr_expect_str_eq(text, "same\n");
	cr_expect_eq(
		shell(text, sizeof(text), "%s %s/from /dev/full 2>&1", place_example("copy"), at),
		1);
	cr_expect_not_null(strstr(text, "No space left"), "%s", text);
	cr_expect_eq(
		shell(text, sizeof(text), "%s %s/none %s/to 2>&1", place_example("copy"), at, at),
		1);
	cr_expect_not_null(strstr(text, "none"), "%s", text);
	forget_all();
}

Test(examples, adopt_lets_every_client_talk_to_the_program)
{
	const char *redd = place_program("redd");
	char text[512];

	cr_assert_eq(shell(text, sizeof(text),
			   "%s talk | { read line; echo \"$line\"; %s write talk hello; "
			   "%s write -c talk bye; %s wait talk; %s logs talk; }",
			   place_example("adopt"), redd, redd, redd, redd),
		     0, "%s", text);
	cr_expect_str_eq(text, "talk is there\nHELLO\n");
	forget_all();
}

/* Another writer keeps the input busy: feed waits for it to be free, and loses nothing. */
Test(examples, S44_feed_stops_while_the_input_is_busy)
{
	static char block[256 * 1024];
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_spawn_options o = { .size = sizeof(o),
					.shell = "kill -STOP $$; exec wc -c",
					.name = "fed",
					.descriptors = &in,
					.n_descriptors = 1 };
	struct redd *r = service_connect(&service);
	struct redd_port *port;
	char text[1024];

	cr_assert_not_null(r);
	cr_assert_eq(redd_spawn(r, &o, &port), 0, "%s", redd_last_error(r)->message);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), NULL, NULL), 0);
	cr_assert_eq(redd_ping(r), 0);
	while (census_state(redd_port_pid(port)) != 'T')
		;
	cr_assert_eq(shell(text, sizeof(text),
			   "{ %s 100000 | %s fed 2>&1 & } | { read line; echo \"$line\"; "
			   "%s kill -s CONT fed; cat; }",
			   place_prog("pattern"), place_example("feed"), place_program("redd")),
		     0);
	cr_expect_not_null(strstr(text, "busy, with "), "%s", text);
	cr_expect_not_null(strstr(text, "free\n"), "%s", text);
	cr_expect_not_null(strstr(text, "100000 bytes\n"), "%s", text);
	cr_assert_eq(shell(text, sizeof(text), "%s logs fed", place_program("redd")), 0);
	cr_expect_str_eq(text, "362144\n");
	cr_assert_eq(redd_forget(port), 0);
	redd_free(r);
}

Test(examples, dialogue_asks_and_is_answered_without_sleeping)
{
	char text[256];

	cr_assert_eq(shell(text, sizeof(text), "%s 2>&1", place_example("dialogue")), 0, "%s",
		     text);
	cr_assert_str_eq(text, "6 * 7 = 42\n1 + 2 + 3 = 6\n2 * 50 = 100\nit left with 3\n");
}

/* A client written from the schema and PROTOCOL.md alone. */
static int client_py(char *text, size_t size, const char *input, const char *arguments)
{
	return shell(text, size, "%s | /usr/bin/python3 examples/client.py %s", input, arguments);
}

Test(examples, python_client_feeds_reads_and_waits)
{
	char text[256];

	cr_assert_eq(
		client_py(text, sizeof(text), "printf 'to the child'", "sh -c 'cat; echo; exit 9'"),
		9);
	cr_assert_str_eq(text, "to the child\n");
}

Test(examples, python_client_moves_megabytes_both_ways_unchanged)
{
	char text[256], expected[256];

	cr_assert_eq(
		shell(expected, sizeof(expected), "%s 3000000 | sha256sum", place_prog("pattern")),
		0);
	cr_assert_eq(shell(text, sizeof(text),
			   "%s 3000000 | /usr/bin/python3 examples/client.py cat | sha256sum",
			   place_prog("pattern")),
		     0);
	cr_assert_str_eq(text, expected);
}

Test(examples, python_client_tells_a_signal_death_and_a_failed_spawn)
{
	char text[512];

	cr_assert_eq(client_py(text, sizeof(text), ":", "sh -c 'kill -9 $$'"), 128 + 9);
	cr_assert_eq(client_py(text, sizeof(text), ":", "/no/such/program 2>&1"), 125);
	cr_assert_not_null(strstr(text, "STAGE_EXEC"), "%s", text);
}
