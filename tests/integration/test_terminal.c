/* Terminals: output until the last process has left (P1, P3), the size and its changes, echo, the
 * end of input by character, and what a raw terminal refuses (P9).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define WAIT 30000

static const struct redd_terminal screen = { .rows = 31, .columns = 97 };

TestSuite(terminal, .init = scene_begin, .fini = scene_end, .timeout = 60);

static struct redd_port *spawn_prog(const char *prog)
{
	const char *const argv[] = { place_prog(prog), NULL };
	const struct redd_spawn_options o = { .argv = argv, .terminal = &screen };

	return scene_spawn(&o, &scene.c);
}

static struct redd_port *spawn_shell(const char *command)
{
	const struct redd_spawn_options o = { .shell = command, .terminal = &screen };

	return scene_spawn(&o, &scene.c);
}

static const char *text(void)
{
	return collect_text(&scene.c, REDD_TERMINAL);
}

/* Dispatches until that text has come. */
static void wait_text(const char *part)
{
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT);

	while (!strstr(text(), part)) {
		cr_assert_eq(redd_run_once(scene.r, 1000), 0);
		cr_assert_eq(scene.c.n_closed, 0, "it ended with \"%s\"", text());
		cr_assert_lt(scene_now_ms(), deadline, "\"%s\" has no \"%s\"", text(), part);
	}
}

static void wait_closed(void)
{
	cr_assert_eq(collect_wait(&scene.c, scene.r, WAIT), 0);
	cr_assert_str_eq(scene.c.wrong, "");
}

static void type(struct redd_port *port, const char *keys)
{
	cr_assert_eq(redd_write(port, keys, strlen(keys), NULL, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
}

/* --- output ---------------------------------------------------------------------------------- */

Test(terminal, P1_a_terminal_is_one_stream_of_both_outputs)
{
	struct redd_port *port = spawn_shell("echo out; echo err >&2; exit 4");

	wait_closed();
	cr_expect_str_eq(text(), "out\r\nerr\r\n");
	cr_expect_eq(scene.c.n_streams, 1);
	cr_expect_eq(collect_stream(&scene.c, REDD_TERMINAL)->end.cause, REDD_END_OF_FILE);
	cr_expect_eq(collect_stream(&scene.c, REDD_TERMINAL)->end.total, 10);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 4);
	scene_forget(port);
}

Test(terminal, P3_output_is_whole_up_to_the_last_byte_before_all_have_left)
{
	/* Many a time, as the loss of a terminal's last bytes is a matter of luck. */
	for (unsigned i = 0; i < place_rounds(20); i++) {
		const struct redd_spawn_options o = {
			.shell = scene_text("stty raw; exec %s 100001", place_prog("pattern")),
			.terminal = &screen
		};
		const struct collect_stream *s;
		struct collect c;

		collect_init(&c);
		c.patterned = true;
		cr_assert_eq(collect_run(&c, scene.r, &o, WAIT), 0);
		s = collect_stream(&c, REDD_TERMINAL);
		cr_expect_str_eq(c.wrong, "");
		cr_expect_eq(s->end.total, 100001, "round %u: %llu", i,
			     (unsigned long long)s->end.total);
		cr_expect_eq(s->end.cause, REDD_END_OF_FILE);
		collect_deinit(&c);
	}
}

Test(terminal, P5_a_terminal_goes_on_until_its_last_process_has_left)
{
	struct redd_port *port =
		spawn_shell("trap '' HUP; (read x < /dev/tty; echo last) & exit 6");

	while (!scene.c.n_exited)
		cr_assert_eq(redd_run_once(scene.r, place_patience_ms(WAIT)), 0);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 6);
	wait_closed();
	cr_expect(collect_stream(&scene.c, REDD_TERMINAL)->ended);
	scene_forget(port);
}

/* --- what the child sees --------------------------------------------------------------------- */

Test(terminal, the_child_has_a_controlling_terminal_of_the_size_that_was_asked_for)
{
	struct redd_port *port = spawn_prog("tty");

	wait_text("size 31 97");
	cr_expect_not_null(strstr(text(), "tty yes yes yes"));
	cr_expect_not_null(strstr(text(), "control yes"));
	type(port, "\n");
	wait_closed();
	scene_forget(port);
}

Test(terminal, a_size_that_was_not_asked_for_is_24_by_80)
{
	const char *const argv[] = { place_prog("tty"), NULL };
	const struct redd_terminal none = { 0 };
	const struct redd_spawn_options o = { .argv = argv, .terminal = &none };
	struct redd_port *port = scene_spawn(&o, &scene.c);

	wait_text("size 24 80");
	type(port, "\n");
	wait_closed();
	scene_forget(port);
}

Test(terminal, a_change_of_size_reaches_the_child_as_a_signal)
{
	struct redd_port *port = spawn_prog("tty");
	struct redd_terminal size = { .rows = 50, .columns = 132 };

	wait_text("size 31 97");
	cr_assert_eq(redd_resize(port, &size), 0);
	wait_text("size 50 132");
	size = (struct redd_terminal){ .rows = 1, .columns = 65535 };
	cr_assert_eq(redd_resize(port, &size), 0);
	wait_text("size 1 65535");
	type(port, "\n");
	wait_closed();
	scene_forget(port);
}

Test(terminal, a_port_without_terminal_has_no_size)
{
	struct redd_port *port = scene_prog(NULL, "hang", NULL);
	const struct redd_terminal size = { .rows = 1, .columns = 1 };

	cr_assert_lt(redd_resize(port, &size), 0);
	cr_assert_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
	scene_kill(port);
}

/* --- input ----------------------------------------------------------------------------------- */

Test(terminal, P9_what_is_typed_is_echoed_and_read_line_by_line)
{
	struct redd_port *port = spawn_prog("cat");

	type(port, "one");
	wait_text("one");
	type(port, "\x7f\x7f\x7ftwo\n"); /* erased, as a terminal does */
	wait_text("two\r\ntwo\r\n");
	cr_assert_eq(redd_close(port, REDD_STREAM_DEFAULT, NULL), 0);
	wait_closed();
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	cr_expect_null(strstr(text(), "onetwo\r\n"));
	scene_forget(port);
}

Test(terminal, P9_closing_a_terminal_sends_its_end_of_file)
{
	struct redd_port *port = spawn_prog("cat");

	type(port, "line\n");
	cr_assert_eq(redd_close(port, REDD_TERMINAL, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
	wait_closed();
	cr_expect_str_eq(text(), "line\r\nline\r\n");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	scene_forget(port);
}

Test(terminal, P9_an_unfinished_line_is_delivered_before_the_end_of_file)
{
	struct redd_port *port = spawn_prog("cat");

	type(port, "half");
	cr_assert_eq(redd_close(port, REDD_TERMINAL, NULL), 0);
	wait_closed();
	cr_expect_str_eq(text(), "halfhalf");
	scene_forget(port);
}

Test(terminal, P9_a_raw_terminal_has_no_end_of_file_to_send)
{
	struct redd_port *port = spawn_shell("stty raw -echo; echo ready; exec cat");

	wait_text("ready");
	cr_assert_eq(redd_close(port, REDD_TERMINAL, NULL), -ENOTTY);
	cr_assert_eq(redd_last_error(scene.r)->code, REDD_FAILED_PRECONDITION);
	cr_assert_neq(redd_last_error(scene.r)->message[0], '\0');
	type(port, "still\n"); /* refused means: nothing was done */
	wait_text("still\n");
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	wait_closed();
	scene_forget(port);
}

Test(terminal, P9_a_raw_terminal_passes_every_byte)
{
	struct redd_port *port = spawn_shell("stty raw -echo; echo ready; exec head -c 256");
	struct redd_written written;
	char all[256];

	wait_text("ready");
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	cr_assert_eq(redd_write(port, all, sizeof(all), NULL, &written), 0);
	cr_expect(written.exact);
	wait_closed();
	cr_assert_eq(collect_stream(&scene.c, REDD_TERMINAL)->size, 256 + strlen("ready\n"));
	cr_expect_eq(memcmp(text() + strlen("ready\n"), all, sizeof(all)), 0);
	scene_forget(port);
}

Test(terminal, P10_the_interrupt_key_reaches_the_foreground)
{
	struct redd_port *port = spawn_shell("trap 'echo caught; exit 7' INT; echo ready; "
					     "while :; do sleep 1; done");

	wait_text("ready");
	type(port, "\x03");
	wait_closed();
	cr_expect_not_null(strstr(text(), "caught"));
	cr_expect_eq(redd_exit_status(&scene.c.exit), 7);
	scene_forget(port);
}

Test(terminal, P9_what_a_canonical_terminal_does_to_a_line_is_told_to_be_uncertain)
{
	struct redd_port *port = spawn_shell("stty -echo; echo ready; cat >/dev/null");
	struct redd_written written;
	static char line[6000];

	wait_text("ready");
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	cr_assert_eq(redd_write(port, "short\n", 6, NULL, &written), 0);
	cr_expect_not(written.exact);
	cr_assert_eq(redd_write(port, line, sizeof(line), NULL, &written), 0);
	cr_expect_not(written.exact);
	cr_expect_eq(written.offset, 6);
	cr_expect_eq(written.size, sizeof(line));
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_TREE, NULL), 0);
	wait_closed();
	scene_forget(port);
}
