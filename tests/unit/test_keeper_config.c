#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "helper/keeper_config.h"

static const char strings[] = "/bin/broker\0/bin/helper\0/run/a.sock\0/run/a.lock\0\0\0PATH=/bin";

struct bytes {
	struct link_config head;
	char strings[sizeof(strings)];
	char text[4];
};

static struct bytes config(void)
{
	struct bytes b = { .head = { .magic = LINK_CONFIG_MAGIC,
				     .version = LINK_VERSION,
				     .n_listeners = 2,
				     .envc = 1,
				     .notify_fd = -1,
				     .strings_size = sizeof(strings),
				     .text_size = sizeof(b.text) } };

	b.head.size = sizeof(b.head) + sizeof(strings) + sizeof(b.text);
	b.head.lock_fds[1] = -1;
	memcpy(b.strings, strings, sizeof(strings));
	return b;
}

Test(keeper_config, programs_and_paths_are_pointed_at, .timeout = 5)
{
	struct bytes b = config();
	struct keeper_config c = { 0 };

	cr_assert_eq(keeper_config_parse(&c, &b, b.head.size), 0);
	cr_assert_str_eq(c.broker, "/bin/broker");
	cr_assert_str_eq(c.helper, "/bin/helper");
	cr_assert_str_eq(c.listeners[0].path, "/run/a.sock");
	cr_assert_str_eq(c.listeners[0].lock, "/run/a.lock");
	cr_assert_str_eq(c.listeners[1].path, "");
	cr_assert_eq(c.n_locks, 1);
}

#define REFUSED(change)                                                                  \
	do {                                                                             \
		struct bytes b = config();                                               \
		struct keeper_config c = { 0 };                                          \
		size_t size = b.head.size;                                               \
		change;                                                                  \
		cr_assert_eq(keeper_config_parse(&c, &b, size), -EINVAL, "%s", #change); \
	} while (0)

Test(keeper_config, what_lies_is_refused, .timeout = 5)
{
	REFUSED(b.head.magic++);
	REFUSED(b.head.version++);
	REFUSED(b.head.size++);
	REFUSED(size--);
	REFUSED(size = sizeof(b.head) - 1);
	REFUSED(b.head.n_listeners = LISTENERS_MAX + 1);
	REFUSED(b.head.n_listeners = 5);
	REFUSED(b.head.strings_size = UINT32_MAX);
	REFUSED(b.head.text_size--);
	REFUSED(b.head.strings_size = 3; b.head.text_size += sizeof(strings) - 3);
}

static int memfd_with(const void *data, size_t size, int seals)
{
	int fd = memfd_create("config", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, data, size), (ssize_t)size);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

Test(keeper_config, only_a_sealed_memfd_is_taken, .timeout = 5)
{
	struct bytes b = config();
	struct keeper_config c;
	int fd = memfd_with(&b, b.head.size, F_SEAL_SHRINK | F_SEAL_GROW);

	cr_assert_eq(keeper_config_open(&c, fd), -EINVAL);
	close(fd);
	fd = memfd_with(&b, b.head.size, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	cr_assert_eq(keeper_config_open(&c, fd), 0);
	cr_assert_str_eq(c.broker, "/bin/broker");
	close(fd);
}

Test(keeper_config, files_are_removed_only_under_a_lock_that_is_still_ours, .timeout = 5)
{
	char dir[] = "/tmp/redd-config-XXXXXX", path[64], lock[64];
	struct link_config head = { .n_listeners = 1 };
	struct keeper_config c = { .head = &head };
	int other;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(lock, sizeof(lock), "%s/lock", dir);
	c.listeners[0].path = path;
	c.listeners[0].lock = lock;
	close(open(path, O_CREAT | O_WRONLY, 0600));
	head.lock_fds[0] = open(lock, O_CREAT | O_WRONLY, 0600);
	unlink(lock);
	other = open(lock, O_CREAT | O_WRONLY, 0600);
	keeper_config_unlink(&c);
	cr_assert_eq(access(path, F_OK), 0, "somebody else's by now");
	close(head.lock_fds[0]);
	head.lock_fds[0] = other;
	keeper_config_unlink(&c);
	cr_assert_neq(access(path, F_OK), 0);
	cr_assert_neq(access(lock, F_OK), 0);
	close(other);
	cr_assert_eq(rmdir(dir), 0);
}
