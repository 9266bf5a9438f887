/* Who may serve a socket: one, whoever else starts at the same time, and whatever was left there by
 * somebody who did not end well. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define STARTERS_MAX 128
#define WAIT_MS	     30000

static char directory[PATH_MAX], socket_path[PATH_MAX + 16], lock_path[PATH_MAX + 32];

static void begin(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	cr_assert_eq(place_make_dir(directory), 0);
	snprintf(socket_path, sizeof(socket_path), "%s/redd.sock", directory);
	snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
}

static void end(void)
{
	place_remove_dir(directory);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "a process is left");
}

TestSuite(start, .init = begin, .fini = end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

/* One redd-broker; its stderr is a pipe. */
struct starter {
	pid_t pid;
	int pidfd, err;
};

static void starter_exec(int err)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(err, STDERR_FILENO);
	execl(place_program("redd-broker"), "redd-broker", "--socket", socket_path, (char *)NULL);
	_exit(127);
}

static struct starter starter_begin(void)
{
	struct starter s;
	int err[2];

	cr_assert_eq(pipe2(err, O_CLOEXEC), 0);
	s.pid = fork();
	if (s.pid == 0)
		starter_exec(err[1]);
	cr_assert_gt(s.pid, 0);
	close(err[1]);
	s.err = err[0];
	s.pidfd = (int)syscall(SYS_pidfd_open, s.pid, 0);
	cr_assert_geq(s.pidfd, 0);
	return s;
}

/* Its wait status once it has ended; what it said goes to text. */
static int starter_end(struct starter *s, char *text, size_t size)
{
	struct pollfd fd = { s->pidfd, POLLIN, 0 };
	int status = -1;
	ssize_t n;

	cr_assert_eq(poll(&fd, 1, place_patience_ms(WAIT_MS)), 1, "%d does not end", (int)s->pid);
	cr_assert_eq(waitpid(s->pid, &status, 0), s->pid);
	fcntl(s->err, F_SETFL, O_NONBLOCK); /* a process of its own may have it still */
	n = read(s->err, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	close(s->err);
	close(s->pidfd);
	return status;
}

static void starter_stop(struct starter *s)
{
	char text[4096];
	int status;

	cr_assert_eq(kill(s->pid, SIGTERM), 0);
	status = starter_end(s, text, sizeof(text));
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x: %s", status, text);
	cr_expect_eq(access(socket_path, F_OK), -1);
	cr_expect_eq(access(lock_path, F_OK), -1);
}

/* A client of whoever serves the socket, as soon as somebody does. */
static struct redd *client(void)
{
	struct redd_connect_options o = { .size = sizeof(o),
					  .socket = socket_path,
					  .no_start = true,
					  .connect_timeout_ms =
						  (uint32_t)place_patience_ms(WAIT_MS) };
	struct redd *r = redd_new();
	int tries = place_patience_ms(WAIT_MS) / 10, result;

	while ((result = redd_connect(r, &o)) && tries--)
		poll(NULL, 0, 10);
	cr_assert_eq(result, 0, "%s", redd_last_error(r)->message);
	return r;
}

static pid_t server_pid(void)
{
	struct redd *r = client();
	pid_t pid = redd_welcome(r)->broker_pid;

	redd_free(r);
	return pid;
}

/* A socket file that nobody listens on any more. */
static void leave_stale_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_lt(strlen(socket_path), sizeof(address.sun_path));
	strcpy(address.sun_path, socket_path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

static void leave_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* --- one at a time --------------------------------------------------------------------------- */

Test(start, P13_a_second_broker_is_refused_with_the_first_ones_pid)
{
	struct starter first = starter_begin(), second;
	char text[4096], number[16];
	int status;

	cr_expect_eq(server_pid(), first.pid);
	second = starter_begin();
	status = starter_end(&second, text, sizeof(text));
	snprintf(number, sizeof(number), "%d", (int)first.pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) != 0);
	cr_expect_not_null(strstr(text, number), "%s", text);
	cr_expect_not_null(strstr(text, socket_path), "%s", text);
	cr_expect_eq(server_pid(), first.pid, "the first goes on");
	starter_stop(&first);
}

Test(start, P13_of_many_that_start_at_once_exactly_one_wins)
{
	unsigned n = place_rounds(120), winners = 0;
	struct starter all[STARTERS_MAX], winner = { 0 };
	char text[4096];
	pid_t pid;

	for (unsigned i = 0; i < n; i++)
		all[i] = starter_begin();
	pid = server_pid();
	for (unsigned i = 0; i < n; i++) {
		if (all[i].pid == pid) {
			winner = all[i];
			winners++;
			continue;
		}
		int status = starter_end(&all[i], text, sizeof(text));

		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) != 0, "%x", status);
		cr_expect_not_null(strstr(text, "another redd-broker"), "%s", text);
	}
	cr_assert_eq(winners, 1);
	cr_expect_eq(server_pid(), pid);
	starter_stop(&winner);
}

Test(start, P13_who_starts_as_another_leaves_gets_the_socket_or_a_reason)
{
	for (unsigned i = 0; i < place_rounds(20); i++) {
		struct starter first = starter_begin(), second;
		struct pollfd fd;
		char text[4096];

		cr_assert_eq(server_pid(), first.pid);
		cr_assert_eq(kill(first.pid, SIGTERM), 0);
		second = starter_begin();
		cr_expect_eq(WEXITSTATUS(starter_end(&first, text, sizeof(text))), 0, "%s", text);
		fd = (struct pollfd){ second.pidfd, POLLIN, 0 };
		while (access(socket_path, F_OK) < 0 && poll(&fd, 1, 10) == 0)
			; /* one of the two will be */
		if (poll(&fd, 1, 0) == 0) {
			cr_expect_eq(server_pid(), second.pid);
			starter_stop(&second);
		} else {
			cr_expect_neq(starter_end(&second, text, sizeof(text)), 0);
			cr_expect_not_null(strstr(text, "another redd-broker"), "%s", text);
		}
	}
}

/* --- what was left there --------------------------------------------------------------------- */

Test(start, P13_a_stale_socket_and_lock_are_replaced)
{
	struct starter s;
	struct stat st;

	leave_stale_socket();
	leave_file(lock_path, "1\n");
	s = starter_begin();
	cr_expect_eq(server_pid(), s.pid);
	cr_assert_eq(stat(socket_path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0600);
	starter_stop(&s);
}

Test(start, P13_a_service_that_was_killed_whole_is_followed_by_the_next)
{
	struct starter first = starter_begin(), second;
	struct census c;
	char text[4096];

	cr_assert_eq(server_pid(), first.pid);
	cr_assert_eq(census_take(first.pid, &c), 0);
	cr_assert_eq(kill(first.pid, SIGKILL), 0);
	kill(c.broker, SIGKILL);
	if (c.forker)
		kill(c.forker, SIGKILL);
	starter_end(&first, text, sizeof(text));
	while (waitpid(-1, NULL, 0) > 0)
		; /* those below it came to us */
	cr_expect_eq(access(socket_path, F_OK), 0, "it is stale");
	second = starter_begin();
	while (access(lock_path, F_OK) == 0 && server_pid() != second.pid)
		;
	starter_stop(&second);
}

Test(start, P13_what_is_no_socket_is_left_alone)
{
	char text[4096], content[16] = "";
	struct starter s;
	int fd;

	leave_file(socket_path, "precious");
	s = starter_begin();
	cr_expect_neq(starter_end(&s, text, sizeof(text)), 0);
	cr_expect_not_null(strstr(text, "not a socket"), "%s", text);
	fd = open(socket_path, O_RDONLY | O_CLOEXEC);
	cr_expect_eq(read(fd, content, sizeof(content) - 1), 8);
	close(fd);
	cr_expect_str_eq(content, "precious");
}

/* --- rights ---------------------------------------------------------------------------------- */

Test(start, P13_the_socket_is_never_open_to_others)
{
	struct starter s;
	struct stat st;

	umask(0);
	s = starter_begin();
	cr_expect_eq(server_pid(), s.pid);
	cr_assert_eq(stat(socket_path, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0600);
	starter_stop(&s);
}

Test(start, P13_a_directory_that_others_may_write_is_refused)
{
	struct starter s;
	char text[4096];

	cr_assert_eq(chmod(directory, 0777), 0);
	s = starter_begin();
	cr_expect_neq(starter_end(&s, text, sizeof(text)), 0);
	cr_expect_not_null(strstr(text, "written by others"), "%s", text);
}
