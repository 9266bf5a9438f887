/* The socket that a client connects to: any path, the default one and whom it trusts there, and a
 * broker that is started for it. What cannot be is told at once, with a remedy. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "tests/lib/places.h"

TestSuite(client_socket, .timeout = 20);

static int connect_to(const char *socket, struct redd_connect_options *o)
{
	struct redd *r = redd_new();
	int e;

	o->socket = socket;
	e = redd_connect(r, o);
	cr_assert_lt(e, 0);
	cr_assert(strchr(redd_last_error(r)->message, ';') != NULL, "no remedy in: %s",
		  redd_last_error(r)->message);
	redd_free(r);
	return e;
}

Test(client_socket, a_place_without_broker_is_told_with_a_remedy)
{
	struct redd_connect_options o = { 0 };
	char directory[PATH_MAX], path[PATH_MAX + 8];

	cr_assert_eq(place_make_dir(directory), 0);
	snprintf(path, sizeof(path), "%s/none", directory);
	cr_assert_eq(connect_to(path, &o), -ENOENT);
	cr_assert_eq(connect_to("", &o), -EINVAL);
	cr_assert_eq(connect_to("fd:", &o), -EINVAL);
	cr_assert_eq(connect_to("fd:999", &o), -EINVAL);
	cr_assert_eq(connect_to("fd:0x", &o), -EINVAL);
	place_remove_dir(directory);
}

/* A listener at a path of any length. */
static int listen_at(const char *directory, const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int dir = open(directory, O_PATH | O_DIRECTORY), fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", dir, name);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	close(dir);
	return fd;
}

Test(client_socket, a_path_longer_than_an_address_is_reached)
{
	char directory[PATH_MAX], deep[PATH_MAX * 2], path[PATH_MAX * 2 + 8];
	struct redd_connect_options o = { .connect_timeout_ms = 50 };
	int fd;

	cr_assert_eq(place_make_dir(directory), 0);
	snprintf(deep, sizeof(deep), "%s/%0120d", directory, 7);
	cr_assert_eq(mkdir(deep, 0700), 0);
	fd = listen_at(deep, "s");
	snprintf(path, sizeof(path), "%s/s", deep);
	/* It is reached: nobody answers Hello. */
	cr_assert_eq(connect_to(path, &o), -ENOTCONN);
	close(fd);
	place_remove_dir(directory);
}

Test(client_socket, a_full_backlog_is_waited_for_no_longer_than_asked)
{
	char directory[PATH_MAX], path[PATH_MAX + 8];
	struct redd_connect_options o = { .connect_timeout_ms = 100 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, fds[8];

	cr_assert_eq(place_make_dir(directory), 0);
	fd = listen_at(directory, "s");
	snprintf(path, sizeof(path), "%s/s", directory);
	snprintf(a.sun_path, sizeof(a.sun_path), "%.100s", path);
	for (int i = 0; i < 8; i++) {
		fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(fds[i], (struct sockaddr *)&a, sizeof(a)) < 0)
			break;
	}
	cr_assert_eq(connect_to(path, &o), -ETIMEDOUT);
	close(fd);
	place_remove_dir(directory);
}

/* With XDG_RUNTIME_DIR there and nothing else. */
static void default_place(char directory[PATH_MAX])
{
	cr_assert_eq(place_make_dir(directory), 0);
	unsetenv("REDD_SOCKET");
	setenv("XDG_RUNTIME_DIR", directory, 1);
}

Test(client_socket, a_default_directory_that_others_may_enter_is_not_trusted)
{
	char directory[PATH_MAX], path[PATH_MAX + 8];
	struct redd_connect_options o = { 0 };

	default_place(directory);
	snprintf(path, sizeof(path), "%s/redd", directory);
	cr_assert_eq(mkdir(path, 0755), 0);
	cr_assert_eq(chmod(path, 0755), 0);
	cr_assert_eq(connect_to(NULL, &o), -EPERM);
	cr_assert_eq(rmdir(path), 0);
	cr_assert_eq(symlink("/", path), 0);
	cr_assert_eq(connect_to(NULL, &o), -EPERM, "a link is no directory of ours");
	place_remove_dir(directory);
}

Test(client_socket, no_start_means_none)
{
	char directory[PATH_MAX], path[PATH_MAX + 8];
	struct redd_connect_options o = { .no_start = true };

	default_place(directory);
	cr_assert_eq(connect_to(NULL, &o), -ENOENT);
	snprintf(path, sizeof(path), "%s/redd", directory);
	cr_assert_neq(access(path, F_OK), 0, "nothing is made");
	place_remove_dir(directory);
}

Test(client_socket, a_broker_that_cannot_be_executed_is_told_at_once)
{
	char directory[PATH_MAX];
	struct redd_connect_options o = { 0 };

	default_place(directory);
	setenv("REDD_BROKER", "/nonexistent/broker", 1);
	cr_assert_eq(connect_to(NULL, &o), -ENOENT);
	place_remove_dir(directory);
}

Test(client_socket, a_broker_that_ends_at_once_is_told_before_the_time_is_up)
{
	char directory[PATH_MAX];
	struct redd_connect_options o = { .connect_timeout_ms = 15000 };
	int before = fd_count();

	default_place(directory);
	setenv("REDD_BROKER", "/bin/false", 1);
	cr_assert_eq(connect_to(NULL, &o), -ECONNREFUSED);
	cr_assert_eq(fd_count(), before);
	place_remove_dir(directory);
}
