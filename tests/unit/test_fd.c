#include "proto/base/fd.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/lib/pattern.h"

TestSuite(fd, .timeout = 10);

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static bool is_cloexec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static bool is_nonblocking(int fd)
{
	return fcntl(fd, F_GETFL) & O_NONBLOCK;
}

Test(fd, close_tells_minus_one_and_keeps_errno)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), number = fd;

	errno = EXDEV;
	fd = fd_close(fd);
	cr_assert_eq(fd, -1);
	cr_assert_eq(errno, EXDEV);
	cr_assert_not(is_open(number));
	errno = EXDEV;
	cr_assert_eq(fd_close(-1), -1);
	cr_assert_eq(errno, EXDEV, "no descriptor: no call");
}

Test(fd, a_scope_closes_what_was_not_taken_out)
{
	int lost, kept;

	{
		_cleanup_(fd_closep) int one = open("/dev/null", O_RDONLY | O_CLOEXEC);
		_cleanup_(fd_closep) int two = open("/dev/null", O_RDONLY | O_CLOEXEC);

		lost = one;
		kept = TAKE_FD(two);
		cr_assert_eq(two, -1);
	}
	cr_assert_not(is_open(lost));
	cr_assert(is_open(kept));
	close(kept);
}

Test(fd, many_are_closed_and_forgotten)
{
	int fds[3] = { open("/dev/null", O_RDONLY), -1, open("/dev/null", O_RDONLY) };
	int first = fds[0], last = fds[2];

	fd_close_many(fds, 3);
	cr_assert_not(is_open(first) || is_open(last));
	cr_assert(fds[0] == -1 && fds[1] == -1 && fds[2] == -1);
}

Test(fd, only_our_end_of_a_pipe_is_non_blocking)
{
	for (int ours = 0; ours < 2; ours++) {
		int fds[2];

		cr_assert_eq(fd_pipe(ours, fds), 0);
		cr_assert(is_nonblocking(fds[ours]));
		cr_assert_not(is_nonblocking(fds[!ours]));
		cr_assert(is_cloexec(fds[0]) && is_cloexec(fds[1]));
		fd_close_many(fds, 2);
	}
}

Test(fd, a_pipe_that_cannot_be_had_leaves_nothing)
{
	int before = fd_count(), fds[2] = { -7, -7 };
	int lowest = open("/dev/null", O_RDONLY); /* the only number that will be free */
	struct rlimit limit;

	close(lowest);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = (rlim_t)lowest + 1;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_assert_eq(fd_pipe(0, fds), -EMFILE);
	cr_assert(fds[0] == -7 && fds[1] == -7, "outputs are written on success only");
	cr_assert_eq(fd_count(), before);
}

Test(fd, a_duplicate_is_closed_on_exec_and_no_standard_descriptor)
{
	int fds[2], copy;

	close(STDIN_FILENO);
	cr_assert_eq(fd_pipe(0, fds), 0);
	cr_assert_eq(fd_dup(fds[0], &copy), 0);
	cr_assert_geq(copy, 3);
	cr_assert(is_cloexec(copy));
	cr_assert_eq(fd_dup(-1, &copy), -EBADF);
	fd_close(copy);
	fd_close_many(fds, 2);
}

Test(fd, flags_are_set_and_a_wrong_descriptor_is_told)
{
	int fd = open("/dev/null", O_RDONLY);

	cr_assert_not(is_cloexec(fd) || is_nonblocking(fd));
	cr_assert_eq(fd_set_cloexec(fd), 0);
	cr_assert_eq(fd_set_nonblocking(fd), 0);
	cr_assert(is_cloexec(fd) && is_nonblocking(fd));
	cr_assert_eq(fd_set_nonblocking(fd), 0, "twice is as good as once");
	close(fd);
	cr_assert_eq(fd_set_cloexec(fd), -EBADF);
	cr_assert_eq(fd_set_nonblocking(fd), -EBADF);
}

#define MUCH 300000u

static void *read_all(void *arg)
{
	static uint8_t data[MUCH];
	size_t size = 0;
	ssize_t n;

	while (size < MUCH && (n = read(*(int *)arg, data + size, MUCH - size)) > 0)
		size += (size_t)n;
	return (void *)pattern_match(data, size, 0);
}

Test(fd, write_all_writes_all_though_the_pipe_takes_less)
{
	static uint8_t data[MUCH];
	pthread_t reader;
	void *matched;
	int fds[2];

	pattern_fill(data, MUCH, 0);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	cr_assert_eq(pthread_create(&reader, NULL, read_all, &fds[0]), 0);
	cr_assert_eq(fd_write_all(fds[1], data, MUCH), 0);
	pthread_join(reader, &matched);
	cr_assert_eq((size_t)matched, MUCH);
	fd_close_many(fds, 2);
}

Test(fd, write_all_tells_what_stopped_it)
{
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	fds[0] = fd_close(fds[0]);
	cr_assert_eq(fd_write_all(fds[1], "x", 1), -EPIPE);
	cr_assert_eq(fd_write_all(fds[1], "", 0), 0);
	fd_close_many(fds, 2);
}

Test(fd, count_sees_what_is_opened_and_closed)
{
	int before = fd_count(), fd;

	cr_assert_gt(before, 0);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert_eq(fd_count(), before + 1);
	fd_close(fd);
	cr_assert_eq(fd_count(), before);
}
