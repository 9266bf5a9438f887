/* redd run in the place of the program: large requests, odd descriptors, wrong values. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/command.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

static struct service service;
static struct command c;
static bool has_ended; /* the service, in a test */

static void set_up(void)
{
	cr_assert_eq(service_start(&service, NULL), 0);
}

static void tear_down(void)
{
	command_free(&c);
	cr_assert(has_ended || service_stop(&service) == 0);
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

Test(command_run, a_limit_that_cannot_be_set_is_told_with_a_remedy)
{
	command_run(&c, service.socket, NULL, 0, "run", "--limit", "nofile=:1", "--", "true", NULL);
	cr_expect_eq(c.status, 125);
	cr_expect_not_null(strstr(c.err.text, "soft limit above the hard one"), "%s", c.err.text);
}

/* --- signals while there is no program yet ---------------------------------------------------- */

/* A mask of its signals, as /proc/PID/status has it under that name. */
static unsigned long long signals(pid_t pid, const char *name)
{
	char path[64], line[128], format[32];
	unsigned long long mask = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	snprintf(format, sizeof(format), "%s: %%llx", name);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, format, &mask) == 1)
			break;
	fclose(f);
	return mask;
}

/* Sends it, and returns when it was taken. */
static void interrupt(pid_t pid)
{
	const unsigned long long bit = 1ull << (SIGINT - 1);

	while (!(signals(pid, "SigBlk") & bit))
		; /* it would not get as far as to take it */
	kill(pid, SIGINT);
	while (signals(pid, "ShdPnd") & bit)
		;
}

/* While the forker stands still no program is started. */
static void start_late(struct census *ret)
{
	cr_assert_eq(census_take(service.pid, ret), 0);
	kill(ret->forker, SIGSTOP);
	command_start(&c, service.socket, "run", "--", "sleep", "1000", NULL);
}

Test(command_run, a_signal_reaches_a_program_that_is_not_there_yet)
{
	struct census now;

	start_late(&now);
	interrupt(c.pid);
	kill(now.forker, SIGCONT);
	command_finish(&c, NULL, 0);
	cr_expect_eq(c.status, 128 + SIGINT, "%d", c.status);
	cr_expect_str_eq(c.err.text, "");
}

Test(command_run, a_second_one_does_not_wait_for_the_program)
{
	struct census now;

	start_late(&now);
	interrupt(c.pid);
	interrupt(c.pid);
	command_finish(&c, NULL, 0);
	kill(now.forker, SIGCONT);
	cr_expect_eq(c.status, 128 + SIGINT, "%d", c.status);
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

/* Another has the lease on the port's input. */
Test(command_run, stdin_that_the_port_does_not_take_is_told)
{
	struct redd *r = service_connect(&service);
	struct redd_port *port;

	cr_assert_not_null(r);
	command_start(&c, service.socket, "run", "--name", "leased", "--", "sh", "-c",
		      "echo ready; cat", NULL);
	cr_assert(command_await(&c, "ready"));
	cr_assert_eq(redd_port_find(r, "leased", &port), 0);
	cr_assert_eq(redd_lease(port, NULL, NULL), 0);
	command_finish(&c, "lost", 4); /* if it is taken to be given, nobody ends the program */
	cr_assert_eq(c.status, 125, "%d: %s", c.status, c.err.text);
	cr_assert_eq(strncmp(c.err.text, "redd: stdin: ", 13), 0, "%s", c.err.text);
	redd_port_free(port);
	redd_free(r);
}

/* Three whose programs read late have more input than there is room for in all. */
static const char late_readers[] =
	"cd \"$DIRECTORY\"\n"
	"head -c 3000000 /dev/urandom >data\n"
	"for i in 1 2 3; do\n"
	"	\"$REDD\" --socket \"$SOCKET\" run -w . -- sh -c "
	"'until [ -e go ]; do sleep 0.02; done; exec cat' <data 2>&1 | cmp data - &\n"
	"	pids=\"$pids $!\"\n"
	"done\n"
	"for pid in $pids; do wait $pid || exit 1; done\n";

static uint64_t bytes_queued(struct redd *r)
{
	const struct redd_list_options all = { .details = true };
	struct redd_ports *ports;
	uint64_t n = 0;

	cr_assert_eq(redd_list(r, &all, &ports), 0);
	for (size_t i = 0; i < ports->n_ports; i++)
		for (size_t j = 0; j < ports->ports[i].n_streams; j++)
			n += ports->ports[i].streams[j].queued;
	redd_ports_free(ports);
	return n;
}

Test(command_run, input_for_which_there_is_no_room_comes_later)
{
	static const char *const args[] = { "--input-bytes-per-uid", "1048576", NULL };
	const struct service_options narrow = { .args = args };
	char path[PATH_MAX + 8];
	struct redd *r;
	int status;
	pid_t pid;

	cr_assert_eq(service_stop(&service), 0);
	cr_assert_eq(service_start(&service, &narrow), 0);
	r = service_connect(&service);
	setenv("DIRECTORY", service.directory, 1);
	setenv("SOCKET", service.socket, 1);
	setenv("REDD", place_program("redd"), 1);
	pid = fork();
	if (pid == 0)
		execl("/bin/sh", "sh", "-c", late_readers, (char *)NULL);
	while (bytes_queued(r) < 900000)
		;
	snprintf(path, sizeof(path), "%s/go", service.directory);
	cr_assert_eq(close(creat(path, 0600)), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	redd_free(r);
}

/* --- output ---------------------------------------------------------------------------------- */

Test(command_run, what_is_given_up_at_the_drains_limit_is_not_counted_as_none)
{
	static const char told[] =
		"redd: stdout: what comes at offset 2 is missing, nobody knows how much: "
		"left in the pipe when the drain was over; raise it or its limit\n";

	command_run(&c, service.socket, NULL, 0, "run", "--name", "left", "--drain-limit", "200ms",
		    "--", "sh", "-c", "exec 2>&-; echo a; sleep 2 & exit 3", NULL);
	cr_assert_eq(c.status, 3);
	cr_assert_str_eq(c.err.text, told);
	command_free(&c);
	command_run(&c, service.socket, NULL, 0, "logs", "left", NULL);
	cr_expect_str_eq(
		c.err.text,
		"redd: stream 1: what comes at offset 2 is missing, nobody knows how much: "
		"left in the pipe when the drain was over; raise it or its limit\n");
	command_free(&c);
	command_run(&c, service.socket, NULL, 0, "kill", "--tree", "-s", "KILL", "left", NULL);
}

/* --- a service that leaves ---------------------------------------------------- */

/* A service at the default place in `directory` that is about to leave. */
static int leaving_begin(const char *directory, char ret_path[PATH_MAX])
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/redd", directory);
	cr_assert_eq(mkdir(a.sun_path, 0700), 0);
	strcat(a.sun_path, "/redd.sock");
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	strcpy(ret_path, a.sun_path);
	return fd;
}

/* It takes one client's Hello, says `bye`, if any, and is gone. */
static void leaving_end(int listener, const char *path, const void *bye, size_t size)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char hello[4096];

	cr_assert_gt(read(fd, hello, sizeof(hello)), 0);
	cr_assert_eq(write(fd, bye, size), (ssize_t)size);
	unlink(path);
	close(listener);
	close(fd);
}

static void run_while_one_leaves(const void *bye, size_t size)
{
	char directory[PATH_MAX], path[PATH_MAX];
	int listener;

	cr_assert_eq(place_make_dir(directory), 0);
	setenv("XDG_RUNTIME_DIR", directory, 1);
	unsetenv("REDD_SOCKET");
	listener = leaving_begin(directory, path);
	command_start(&c, NULL, "run", "echo", "hello", NULL);
	leaving_end(listener, path, bye, size);
	command_finish(&c, NULL, 0);
	cr_expect_eq(c.status, 0, "%s", c.err.text);
	cr_expect_str_eq(c.out.text, "hello\n");
	command_free(&c);
	command_run(&c, NULL, NULL, 0, "shutdown", NULL);
	cr_assert_eq(c.status, 0, "%s", c.err.text);
	command_free(&c);
	place_remove_dir(directory);
}

/* It watches the process: a pidfd of it is among its descriptors. */
static bool watches(pid_t watcher, pid_t pid)
{
	char path[64], line[128];
	bool found = false;
	int n;

	for (int fd = 3; fd < 64 && !found; fd++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)watcher, fd);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			found |= sscanf(line, "Pid: %d", &n) == 1 && n == pid;
		if (f)
			fclose(f);
	}
	return found;
}

Test(command_run, shutdown_comes_back_when_the_service_has_gone)
{
	struct census now;
	siginfo_t ended = { 0 };

	cr_assert_eq(census_take(service.pid, &now), 0);
	kill(service.pid, SIGSTOP); /* the broker ends, but the service not yet */
	command_start(&c, service.socket, "shutdown", NULL);
	while (census_state(now.broker) != 'Z')
		;
	cr_expect(watches(c.pid, service.pid));
	kill(service.pid, SIGCONT);
	command_finish(&c, NULL, 0);
	cr_assert_eq(c.status, 0, "%s", c.err.text);
	cr_assert_eq(waitid(P_PID, (id_t)service.pid, &ended, WEXITED | WNOHANG | WNOWAIT), 0);
	cr_expect_eq(ended.si_pid, service.pid);
	cr_assert_eq(service_ended(&service), 0);
	has_ended = true;
}

Test(command_run, a_service_that_leaves_as_we_come_is_followed_by_another)
{
	/* Message { bye { error { code: UNAVAILABLE } } } */
	static const uint8_t bye[] = { 0x07, 0xb2, 0x01, 0x04, 0x0a, 0x02, 0x08, 0x0e };

	run_while_one_leaves("", 0);
	run_while_one_leaves(bye, sizeof(bye));
}
