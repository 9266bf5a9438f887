/* Where redd-broker refuses to listen, and that it says why in one line and leaves with a status
 * that is not 0 (P14, P15). */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define TEXT_SIZE 4096

static char directory[PATH_MAX];

static void set_up(void)
{
	cr_assert_eq(place_make_dir(directory), 0);
}

static void tear_down(void)
{
	cr_assert_eq(place_count_files(directory, "kept"), 0, "something was left behind");
	cr_assert_eq(place_remove_dir(directory), 0);
}

TestSuite(rights_sockets, .init = set_up, .fini = tear_down, .timeout = 60);

static const char *below(const char *name)
{
	return place_in(directory, name);
}

/* Runs redd-broker, which must end by itself. Returns its status; text is what it said. */
static int broker_run(const char *const *args, int listen_fd, char text[TEXT_SIZE])
{
	int report[2], status;
	size_t size = 0;
	ssize_t n;
	pid_t pid;

	cr_assert_eq(pipe(report), 0);
	pid = fork();
	if (pid == 0) {
		char self[16];

		dup2(report[1], STDERR_FILENO);
		close(report[0]);
		close(report[1]);
		if (listen_fd >= 0) {
			dup2(listen_fd, 3);
			snprintf(self, sizeof(self), "%d", (int)getpid());
			setenv("LISTEN_PID", self, 1);
			setenv("LISTEN_FDS", "1", 1);
		}
		execv(place_program("redd-broker"), (char *const *)(const void *)args);
		_exit(99);
	}
	close(report[1]);
	while (size < TEXT_SIZE - 1 && (n = read(report[0], text + size, TEXT_SIZE - 1 - size)) > 0)
		size += (size_t)n;
	text[size] = '\0';
	close(report[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_refusal(const char *socket, int listen_fd, const char *word)
{
	const char *const with[] = { "redd-broker", "--socket", socket, NULL };
	const char *const without[] = { "redd-broker", NULL };
	char text[TEXT_SIZE];
	int status = broker_run(socket ? with : without, listen_fd, text);
	char *end = strchr(text, '\n');

	cr_expect(status > 0 && status != 99, "%s: status %d", socket ? socket : "inherited",
		  status);
	cr_expect(strstr(text, word), "no '%s' in: %s", word, text);
	cr_expect(end && !end[1], "not one line: %s", text);
}

Test(rights_sockets, P14_abstract_names_are_not_served)
{
	expect_refusal("@redd", -1, "abstract");
}

Test(rights_sockets, P15_paths_that_cannot_be)
{
	char *path = malloc(5001);

	expect_refusal("", -1, "empty");
	expect_refusal(below("no/such/directory/redd.sock"), -1, "directory");
	expect_refusal(below(""), -1, "last part");
	memset(path, 'x', 5000);
	path[5000] = '\0';
	expect_refusal(path, -1, "longer");
	path[300] = '\0';
	expect_refusal(below(path), -1, "last part");
	free(path);
}

Test(rights_sockets, P14_a_directory_that_others_can_write_to)
{
	cr_assert_eq(mkdir(below("kept"), 0700), 0);
	cr_assert_eq(chmod(below("kept"), 0777), 0);
	expect_refusal(below("kept/redd.sock"), -1, "others");
	cr_assert_eq(chmod(below("kept"), 0720), 0);
	expect_refusal(below("kept/redd.sock"), -1, "others");
	cr_assert_eq(place_count_files(below("kept"), NULL), 0);
}

Test(rights_sockets, P14_a_directory_of_somebody_else)
{
	if (geteuid())
		cr_skip_test("giving a directory away needs root");
	cr_assert_eq(mkdir(below("kept"), 0700), 0);
	cr_assert_eq(chown(below("kept"), 65534, 65534), 0);
	expect_refusal(below("kept/redd.sock"), -1, "65534");
}

Test(rights_sockets, P14_a_file_in_the_sockets_place_is_not_touched)
{
	struct stat st;

	cr_assert_eq(close(open(below("kept"), O_CREAT | O_WRONLY, 0600)), 0);
	expect_refusal(below("kept"), -1, "not a socket");
	cr_expect(lstat(below("kept"), &st) == 0 && S_ISREG(st.st_mode));
	unlink(below("kept.lock"));
}

Test(rights_sockets, P14_a_lock_that_is_a_link_is_not_followed)
{
	struct stat st;

	cr_assert_eq(symlink(below("kept-target"), below("kept.lock")), 0);
	expect_refusal(below("kept"), -1, "lock");
	cr_expect_neq(lstat(below("kept-target"), &st), 0, "something was made through the link");
}

/* A listening socket at that name ("" abstract, NULL unnamed), or one that does not listen. */
static int socket_make(int type, const char *path, size_t size, bool listens)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	memcpy(address.sun_path, path, size);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address,
			  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)),
		     0);
	if (listens)
		cr_assert_eq(listen(fd, 5), 0);
	return fd;
}

Test(rights_sockets, P14_inherited_sockets_are_looked_at)
{
	char path[100];
	int fd = socket_make(SOCK_STREAM, "\0redd-test", 10, true);

	expect_refusal(NULL, fd, "abstract");
	close(fd);
	snprintf(path, sizeof(path), "%.80s/kept-a", directory);
	fd = socket_make(SOCK_STREAM, path, strlen(path) + 1, false);
	expect_refusal(NULL, fd, "listen");
	close(fd);
	snprintf(path, sizeof(path), "%.80s/kept-b", directory);
	fd = socket_make(SOCK_SEQPACKET, path, strlen(path) + 1, true);
	expect_refusal(NULL, fd, "stream");
	close(fd);
	fd = open("/dev/null", O_RDONLY);
	expect_refusal(NULL, fd, "socket");
	close(fd);
}

Test(rights_sockets, P15_a_second_broker_is_told_who_has_the_socket)
{
	struct service service;
	char text[TEXT_SIZE], pid[16];

	cr_assert_eq(service_start(&service, NULL), 0);
	snprintf(pid, sizeof(pid), "%d", (int)service.pid);
	expect_refusal(service.socket, -1, "another");
	{
		const char *const args[] = { "redd-broker", "--socket", service.socket, NULL };

		cr_expect_gt(broker_run(args, -1, text), 0);
	}
	cr_expect(strstr(text, pid), "no pid in: %s", text);
	cr_assert_eq(service_finish(&service), 0);
}

Test(rights_sockets, P14_directories_that_it_makes_are_private)
{
	static const char *const args_format = "%s/kept-new/redd.sock";
	char path[PATH_MAX + 64];
	const char *const args[] = { "--socket", path, NULL };
	const struct service_options o = { .args = args };
	struct service service;
	struct stat st;

	snprintf(path, sizeof(path), args_format, directory);
	umask(0);
	cr_assert_eq(service_start(&service, &o), 0);
	cr_expect(stat(below("kept-new"), &st) == 0 && (st.st_mode & 07777) == 0700);
	cr_assert_eq(service_finish(&service), 0);
}
