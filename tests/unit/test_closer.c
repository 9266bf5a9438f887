#include "broker/closer.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "proto/base/fd.h"
#include "tests/lib/countdown.h"
#include "tests/lib/places.h"

static struct broker *broker; /* of which the closer uses the loop */
static int fds_before;

static void init(void)
{
	broker = calloc(1, sizeof(*broker));
	cr_assert_eq(uv_loop_init(&broker->loop), 0);
	uv_run(&broker->loop, UV_RUN_NOWAIT);
	fds_before = fd_count();
}

static void fini(void)
{
	uv_run(&broker->loop, UV_RUN_DEFAULT); /* until all jobs are done */
	cr_assert_eq(fd_count(), fds_before);
	cr_assert_eq(uv_loop_close(&broker->loop), 0);
	free(broker);
}

TestSuite(closer, .timeout = 20, .init = init, .fini = fini);

static void are_taken(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(fds[i], -1);
}

Test(closer, takes_all_and_closes_them)
{
	int fds[6];

	for (int i = 0; i < 6; i += 2)
		cr_assert_eq(pipe(fds + i), 0);
	closer_close(broker, fds, 6);
	are_taken(fds, 6);
}

Test(closer, holes_and_nothing_are_harmless)
{
	int fds[3] = { -1, -1, -1 };

	cr_assert_eq(pipe(fds + 1), 0);
	closer_close(broker, fds, 0);
	cr_assert_neq(fds[1], -1);
	closer_close(broker, fds, 3);
	are_taken(fds, 3);
	closer_close(broker, fds, 3);
	closer_close(broker, NULL, 0);
}

Test(closer, without_memory_they_are_closed_here_and_now)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	closer_close(broker, fds, 2);
	cr_assert(countdown_off());
	are_taken(fds, 2);
	cr_assert_eq(fd_count(), fds_before);
}

/* A connection over the loopback whose peer never reads: close(2) waits for `seconds`. */
static int lingering(int seconds, int *ret_peer)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	struct linger linger = { 1, seconds };
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	static char block[65536];

	if (l < 0 || bind(l, (struct sockaddr *)&address, size) < 0 || listen(l, 1) < 0)
		cr_skip_test("no loopback here");
	cr_assert_eq(getsockname(l, (struct sockaddr *)&address, &size), 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, size), 0);
	*ret_peer = accept(l, NULL, NULL);
	close(l);
	while (send(fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	return fd;
}

Test(closer, a_close_that_blocks_does_not_hold_up_the_loop)
{
	int peer = -1, fd;
	uint64_t begin, took_ms;

	if (place_valgrind())
		cr_skip_test("under valgrind a close(2) that waits stops every thread");
	fd = lingering(2, &peer);
	begin = uv_hrtime();
	closer_close(broker, &fd, 1);
	for (int i = 0; i < 10; i++)
		uv_run(&broker->loop, UV_RUN_NOWAIT);
	took_ms = (uv_hrtime() - begin) / 1000000;
	cr_assert_lt(took_ms, 1000, "it took %lu ms", (unsigned long)took_ms);
	cr_assert(uv_loop_alive(&broker->loop), "the test's close did not block");
	close(peer);
}
