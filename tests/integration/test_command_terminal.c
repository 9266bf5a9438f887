/* redd run -t: a program in a terminal of its own, behind ours; and ours is as it was afterwards,
 * whatever way it ends. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define PATIENCE_MS 15000

static struct service service;

/* redd in a terminal: `fd` is the end where the user would sit. */
static struct {
	pid_t pid;
	int fd;
	struct termios before;
	char text[65536];
	size_t size;
	int status;
} t;

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
}

static void tear_down(void)
{
	if (t.fd > 0)
		close(t.fd);
	cr_assert_eq(service_stop(&service), 0);
}

TestSuite(command_terminal, .init = set_up, .fini = tear_down, .timeout = 60);

/* True in the child, which has a new terminal for its own; t.fd is its other side. */
static bool fork_at_terminal(void)
{
	struct winsize size = { 30, 100, 0, 0 };
	int slave;

	cr_assert_eq(openpty(&t.fd, &slave, NULL, NULL, &size), 0);
	cr_assert_eq(tcgetattr(t.fd, &t.before), 0);
	t.pid = fork();
	cr_assert_geq(t.pid, 0);
	if (t.pid == 0) {
		close(t.fd);
		login_tty(slave);
		return true;
	}
	close(slave);
	return false;
}

static void start(const char *program, ...)
{
	const char *argv[24] = { "redd", "--socket", service.socket, "run", "-t", "--", program };
	va_list args;

	va_start(args, program);
	for (size_t n = 7; n < 23 && (argv[n] = va_arg(args, const char *)); n++)
		;
	va_end(args);
	if (fork_at_terminal()) {
		execv(place_program("redd"), (char *const *)argv);
		_exit(99);
	}
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Reads what is shown; false at the end (a hung-up terminal reads as an error) or after too long.
 */
static bool look(long long deadline)
{
	struct pollfd p = { .fd = t.fd, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, (int)(deadline - now_ms() > 0 ? deadline - now_ms() : 0)) <= 0)
		return false;
	n = read(t.fd, t.text + t.size, sizeof(t.text) - t.size - 1);
	if (n <= 0)
		return false;
	t.size += (size_t)n;
	t.text[t.size] = '\0';
	return true;
}

static void await(const char *text)
{
	long long deadline = now_ms() + place_patience_ms(PATIENCE_MS);

	while (!strstr(t.text, text))
		cr_assert(look(deadline), "'%s' did not come: %s", text, t.text);
}

static void type(const char *text)
{
	cr_assert_eq(write(t.fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Waits for its end, and that the terminal is as it was. */
static void finish(int status)
{
	long long deadline = now_ms() + place_patience_ms(PATIENCE_MS);
	struct termios after;

	while (look(deadline))
		;
	cr_assert_eq(waitpid(t.pid, &t.status, 0), t.pid);
	cr_assert(WIFEXITED(t.status) && WEXITSTATUS(t.status) == status, "status %x: %s", t.status,
		  t.text);
	cr_assert_eq(tcgetattr(t.fd, &after), 0);
	cr_assert_eq(after.c_lflag, t.before.c_lflag);
	cr_assert_eq(after.c_iflag, t.before.c_iflag);
	cr_assert_eq(after.c_oflag, t.before.c_oflag);
}

Test(command_terminal, a_program_has_a_terminal_of_our_size)
{
	start("sh", "-c", "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all", NULL);
	finish(0);
	cr_assert_not_null(strstr(t.text, "/dev/pts/"));
	cr_assert_not_null(strstr(t.text, "30 100\r\n"));
	cr_assert_not_null(strstr(t.text, "all\r\n"));
}

Test(command_terminal, what_is_typed_goes_through_untouched)
{
	start("sh", "-c", "stty raw -echo; echo ready; head -c 6 | od -An -tx1", NULL);
	await("ready");
	type("\x03\x1a\x04\x11\x13\x1c");
	finish(0);
	cr_assert_not_null(strstr(t.text, "03 1a 04 11 13 1c"), "%s", t.text);
}

Test(command_terminal, interrupts_reach_the_program_and_not_us)
{
	start("sh", "-c",
	      "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.02; done", NULL);
	await("ready");
	type("\x03");
	finish(7);
	cr_assert_not_null(strstr(t.text, "caught"));
}

Test(command_terminal, an_interactive_shell_works)
{
	start("sh", "-i", NULL);
	type("echo $((6 * 7)).\r");
	await("42.");
	type("exit 3\r");
	finish(3);
}

Test(command_terminal, a_new_size_of_ours_is_the_programs_too)
{
	struct winsize size = { 50, 120, 0, 0 };

	start("sh", "-c",
	      "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done", NULL);
	await("ready");
	cr_assert_eq(ioctl(t.fd, TIOCSWINSZ, &size), 0);
	finish(0);
	cr_assert_not_null(strstr(t.text, "50 120"));
}

Test(command_terminal, it_is_restored_when_the_program_does_not_start)
{
	start("no-such-program-here", NULL);
	finish(127);
}

Test(command_terminal, it_is_restored_when_we_are_told_to_end)
{
	start("sh", "-c", "echo ready; exec sleep 1000", NULL);
	await("ready");
	kill(t.pid, SIGTERM);
	finish(128 + SIGTERM);
}

Test(command_terminal, P13_it_goes_on_when_the_broker_dies)
{
	struct census now;

	start("sh", "-c", "echo ready; read x; echo got $x", NULL);
	await("ready");
	cr_assert_eq(census_take(service.pid, &now), 0);
	kill(now.broker, SIGKILL);
	type("on\r");
	await("got on");
	finish(0);
	cr_assert_null(strstr(t.text, "redd: "));
}

/* A guardian is there exactly while the terminal is raw; it holds nothing but the terminal. */
static pid_t guardian(void)
{
	pid_t children[8];
	int n = census_children(t.pid, children, 8);

	cr_assert_eq(n, 1, "%d children", n);
	return children[0];
}

Test(command_terminal, S31_it_is_restored_when_we_are_killed)
{
	struct termios now;
	pid_t pid;

	start("sh", "-c", "echo ready; exec sleep 1000", NULL);
	await("ready");
	cr_assert_eq(tcgetattr(t.fd, &now), 0);
	cr_assert_neq(now.c_lflag, t.before.c_lflag, "it was to be raw");
	pid = guardian();
	while (!place_valgrind() && census_fds(pid) != 2)
		; /* it closes all others when it begins */
	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	kill(t.pid, SIGKILL);
	cr_assert_eq(waitpid(t.pid, &t.status, 0), t.pid);
	/* It is ours now, and ends when it has done its work. */
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_assert_eq(tcgetattr(t.fd, &now), 0);
	cr_expect_eq(now.c_lflag, t.before.c_lflag);
	cr_expect_eq(now.c_iflag, t.before.c_iflag);
	cr_expect_eq(now.c_oflag, t.before.c_oflag);
}

Test(command_terminal, S31_the_guardian_goes_when_the_terminal_is_given_back)
{
	pid_t pid, children[8];
	int status;

	start("sh", "-c", "echo ready; read x; echo got $x", NULL);
	await("ready");
	pid = guardian();
	kill(t.pid, SIGTSTP);
	cr_assert_eq(waitpid(t.pid, &status, WUNTRACED), t.pid);
	cr_expect_eq(census_children(t.pid, children, 8), 0);
	kill(t.pid, SIGCONT);
	type("on\r");
	await("got on");
	finish(0);
	cr_expect_eq(census_start(pid), 0);
}

Test(command_terminal, stopping_gives_the_terminal_back_and_continuing_takes_it)
{
	struct termios now;
	int status;

	start("sh", "-c", "echo ready; read x; echo got $x", NULL);
	await("ready");
	kill(t.pid, SIGTSTP);
	cr_assert_eq(waitpid(t.pid, &status, WUNTRACED), t.pid);
	cr_assert(WIFSTOPPED(status));
	cr_assert_eq(tcgetattr(t.fd, &now), 0);
	cr_assert_eq(now.c_lflag, t.before.c_lflag, "a shell could not be used meanwhile");
	kill(t.pid, SIGCONT);
	type("on\r");
	await("got on");
	finish(0);
}

/* --- behind a shell --------------------------------------------------------------------------- */

/* What a shell does with `redd run -- cat &` and then `fg`, when the cue comes. */
static void be_shell(int cue)
{
	const char *argv[] = { "redd", "--socket", service.socket,	   "run", "--",
			       "sh",   "-c",	   "echo ready; exec cat", NULL };
	int status = 0;
	char c;
	pid_t pid = fork();

	setpgid(pid, pid);
	if (pid == 0) {
		execv(place_program("redd"), (char *const *)argv);
		_exit(99);
	}
	if (read(cue, &c, 1) != 1 || tcsetpgrp(STDIN_FILENO, pid) < 0)
		_exit(98);
	waitpid(pid, &status, 0);
	signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(STDIN_FILENO, getpgrp());
	_exit(WEXITSTATUS(status));
}

static void start_shell(int cue)
{
	if (fork_at_terminal()) {
		be_shell(cue);
	}
}

/* How often it has gone to sleep. */
static long sleeps(pid_t pid)
{
	char path[64], line[128];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
			break;
	fclose(f);
	return n;
}

Test(command_terminal, what_was_behind_reads_when_it_comes_to_the_front)
{
	int cue[2];
	pid_t redd;
	long before;

	cr_assert_eq(pipe(cue), 0);
	start_shell(cue[0]);
	await("ready");
	cr_assert_eq(census_children(t.pid, &redd, 1), 1);
	before = sleeps(redd);
	type("typed\n"); /* not for who is behind: it looks, and leaves it there */
	while (sleeps(redd) == before)
		;
	cr_assert_eq(write(cue[1], "f", 1), 1);
	await("typed\r\ntyped");
	type("\x04");
	finish(0);
}

Test(command_terminal, without_a_terminal_of_ours_it_says_so)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "%s --socket %s run -t true </dev/null 2>&1 | grep -q 'needs a terminal'",
		 place_program("redd"), service.socket);
	cr_assert_eq(system(command), 0);
}
