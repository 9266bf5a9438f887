#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/fdclose.h"
#include "proto/base/cleanup.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* In a process of its own: opens many, closes all but two, says whether it was right. */
static int closes_all_but_two(void (*close_others)(const int *keep, size_t n))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int keep[] = { dup(0), 0, 400, 0 }, wrong = 0;
		size_t n;

		for (int fd = 30; fd < 200; fd += 3)
			dup2(0, fd);
		dup2(0, 400);
		n = fdclose_order(keep, 4);
		close_others(keep, n);
		for (int fd = 0; fd < 1000; fd++)
			wrong += is_open(fd) != (fd == keep[0] || fd == keep[1] || fd == keep[2]);
		_exit(n == 3 ? MIN(wrong, 100) : 101);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void by_proc(const int *keep, size_t n)
{
	if (fdclose_others_by_proc(keep, n) != 0)
		_exit(102);
}

Test(fdclose, every_other_descriptor_is_closed, .timeout = 20)
{
	cr_assert_eq(closes_all_but_two(fdclose_others), 0);
}

Test(fdclose, a_system_without_close_range_is_served_by_proc, .timeout = 20)
{
	cr_assert_eq(closes_all_but_two(by_proc), 0);
}

Test(fdclose, a_system_without_proc_is_served_by_trying_all, .timeout = 60)
{
	cr_assert_eq(closes_all_but_two(fdclose_others_by_number), 0);
}

Test(fdclose, descriptors_are_put_in_order_without_doubles, .timeout = 5)
{
	int fds[] = { 5, 3, 5, 0, 9, 3 };

	cr_assert_eq(fdclose_order(fds, 6), 4);
	cr_assert_eq(fds[0], 0);
	cr_assert_eq(fds[1], 3);
	cr_assert_eq(fds[2], 5);
	cr_assert_eq(fds[3], 9);
	cr_assert_eq(fdclose_order(fds, 0), 0);
}
