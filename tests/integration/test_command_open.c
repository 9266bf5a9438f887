/* redd open, redd adopt, redd close --all: files and descriptors as a user has them. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/command.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(command_open, .init = scene_begin, .fini = scene_end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

static const char *here(const char *name)
{
	return place_in(scene.service.directory, name);
}

/* Runs redd with these words; stdout and status must be as said. The last error is kept. */
static char said[1024];

#define RUN(input, expected, expected_status, ...)                                            \
	do {                                                                                  \
		struct command c_ = { 0 };                                                    \
		const char *in_ = (input);                                                    \
		command_run(&c_, scene.service.socket, in_, strlen(in_), __VA_ARGS__, NULL);  \
		snprintf(said, sizeof(said), "%s", c_.err.text);                              \
		cr_expect_eq(c_.status, (expected_status), "status %d: %s", c_.status, said); \
		cr_expect_str_eq(c_.out.text, (expected));                                    \
		command_free(&c_);                                                            \
	} while (0)

static void forget_all(void)
{
	struct redd_ports *ports;
	struct redd_port *port;

	cr_assert_eq(redd_list(scene.r, NULL, &ports), 0);
	for (size_t i = 0; i < ports->n_ports; i++) {
		cr_assert_eq(redd_port_by_id(scene.r, ports->ports[i].port, &port), 0);
		scene_forget(port);
	}
	redd_ports_free(ports);
}

/* --- open ------------------------------------------------------------------------------------ */

Test(command_open, a_file_is_written_from_stdin_and_read_to_stdout)
{
	const char *file = here("a file");

	RUN("one\n", "", 0, "open", "--write", file);
	RUN("two\n", "", 0, "open", "-a", file);
	RUN("", "one\ntwo\n", 0, "open", "--checksum", file);
	cr_expect_str_eq(said, "");
	forget_all();
}

Test(command_open, what_goes_wrong_is_one_line_and_a_status)
{
	RUN("", "", 1, "open", here("nothing"));
	cr_expect_not_null(strstr(said, "No such file"), "%s", said);
	RUN("", "", 1, "open", scene.service.directory);
	cr_expect_not_null(strstr(said, "Is a directory"), "%s", said);
	RUN("too much", "", 1, "open", "-w", "/dev/full");
	cr_expect_not_null(strstr(said, "No space left"), "%s", said);
	cr_expect_eq(strchr(said, '\n'), said + strlen(said) - 1, "%s", said);
	RUN("", "", 2, "open", "--json", "/dev/null");
	RUN("", "", 2, "close", "--discard", "1");
	forget_all();
}

/* As SIGPIPE would: not for ever. */
Test(command_open, an_endless_file_ends_with_its_reader)
{
	const char *argv[] = { "sh", "-c",
			       scene_text("%s --socket %s open /dev/zero | head -c 100000 | wc -c",
					  place_program("redd"), scene.service.socket),
			       NULL };
	int out[2], status;
	char text[32] = "";
	pid_t pid;

	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		execvp("sh", (char *const *)argv);
		_exit(99);
	}
	close(out[1]);
	while (read(out[0], text + strlen(text), sizeof(text) - strlen(text) - 1) > 0)
		;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(atoi(text), 100000, "%s", text);
	close(out[0]);
	forget_all();
}

Test(command_open, S60_a_fifo_is_shared_by_commands_and_closed_as_a_whole)
{
	const char *fifo = here("fifo");
	struct command reader = { 0 };
	char got[16] = "";
	int fd;

	cr_assert_eq(mkfifo(fifo, 0600), 0);
	/* O_RDWR needs no other side. */
	RUN("", scene_text("%d\n", 2), 0, "open", "-d", "-r", "-w", "--name", "f", fifo);
	RUN("", "", 0, "write", "f", "hello");
	command_start(&reader, scene.service.socket, "logs", "-f", "f", NULL);
	cr_expect(command_await(&reader, "hello\n"), "%s", reader.out.text);
	RUN("", "", 1, "kill", "f");
	cr_expect_not_null(strstr(said, "no process"), "%s", said);
	RUN("", "", 0, "close", "--all", "f");
	RUN("", "", 0, "close", "--all", "f");
	command_finish(&reader, NULL, 0);
	cr_expect_eq(reader.status, 0, "%s", reader.err.text);
	command_free(&reader);
	forget_all();

	/* One that waits shows as such, and is given up. */
	command_start(&reader, scene.service.socket, "open", fifo, NULL);
	while (!got[0]) {
		struct redd_ports *ports;

		cr_assert_eq(redd_list(scene.r, NULL, &ports), 0);
		if (ports->n_ports) {
			cr_expect_eq(ports->ports[0].state, REDD_STARTING);
			snprintf(got, sizeof(got), "%llu",
				 (unsigned long long)ports->ports[0].port);
		}
		redd_ports_free(ports);
	}
	RUN("",
	    scene_text("%-6s %-9s %-8s %-5s %-12s %s\n%-6s starting  -        -     -            "
		       "[file] %s\n",
		       "PORT", "STATE", "PID", "AGE", "STATUS", "COMMAND", got, fifo),
	    0, "ps");
	RUN("", "", 1, "write", got, "nobody");
	cr_expect_not_null(strstr(said, "open it to be written"), "%s", said);
	RUN("", "", 0, "close", "--all", got);
	command_finish(&reader, NULL, 0);
	cr_expect_eq(reader.status, 1, "%s", reader.err.text);
	command_free(&reader);
	/* Soon nobody has it open. */
	while ((fd = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) >= 0)
		close(fd);
}

/* --- adopt ----------------------------------------------------------------------------------- */

Test(command_open, S62_stdin_and_stdout_are_handed_over)
{
	struct command adopted = { 0 };
	struct redd_ports *ports;
	struct redd_port *port;

	command_start(&adopted, scene.service.socket, "adopt", "--name", "ours", NULL);
	cr_assert_eq(redd_port_by_name(scene.r, "ours", &port), 0);
	while (redd_inspect(port, &ports) < 0)
		; /* not there yet */
	redd_ports_free(ports);
	scene_subscribe(port, &scene.c);
	RUN("", "", 0, "write", "-c", "ours", "to its stdout");
	cr_expect(command_await(&adopted, "to its stdout\n"), "%s", adopted.out.text);
	command_finish(&adopted, "from its stdin", 14);
	cr_expect_eq(adopted.status, 0, "%s", adopted.err.text);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(collect_text(&scene.c, 1), "from its stdin");
	command_free(&adopted);
	scene_forget(port);
}
