#include "broker/closer.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "proto/base/fd.h"
#include "proto/fdpass.h"
#include "tests/lib/countdown.h"
#include "tests/lib/linger.h"
#include "tests/lib/places.h"

#define LONG 60 /* seconds: longer than any test takes */

static struct broker *broker; /* of which the closer uses the loop and the quotas */
static struct quota_account *us, *them;
static struct closer_whose ours, theirs, door;
static int fds_before;

static void init(void)
{
	struct quota_limits limits[QUOTA_LEVELS];

	for (int i = 0; i < QUOTA_LEVELS; i++)
		limits[i] = quota_limits_default((enum quota_level)i);
	broker = calloc(1, sizeof(*broker));
	cr_assert_eq(quota_new(limits, &broker->quota), 0);
	cr_assert_eq(quota_account_of_uid(broker->quota, 1, &us), 0);
	cr_assert_eq(quota_account_of_uid(broker->quota, 2, &them), 0);
	ours = (struct closer_whose){ us, 0 };
	theirs = (struct closer_whose){ them, 0 };
	door = (struct closer_whose){ us, 7 };
	cr_assert_eq(uv_loop_init(&broker->loop), 0);
	closer_close(broker, &ours, (int[]){ -1 }, 1); /* makes what it needs */
	uv_run(&broker->loop, UV_RUN_DEFAULT);
	fds_before = fd_count();
}

static void finish(void)
{
	closer_end(broker);
	uv_run(&broker->loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&broker->loop), 0);
	cr_assert_eq(quota_used(us, QUOTA_DESCRIPTORS), 0);
	quota_account_unref(us);
	quota_account_unref(them);
	quota_free(broker->quota);
	free(broker);
}

static void fini(void)
{
	uv_run(&broker->loop, UV_RUN_DEFAULT); /* until all jobs are done */
	cr_assert_eq(fd_count(), fds_before);
	finish();
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
	closer_close(broker, &ours, fds, 6);
	are_taken(fds, 6);
}

Test(closer, holes_and_nothing_are_harmless)
{
	int fds[3] = { -1, -1, -1 };

	cr_assert_eq(pipe(fds + 1), 0);
	closer_close(broker, &ours, fds, 0);
	cr_assert_neq(fds[1], -1);
	closer_close(broker, &ours, fds, 3);
	are_taken(fds, 3);
	closer_close(broker, &ours, fds, 3);
	closer_close(broker, &ours, NULL, 0);
}

Test(closer, without_memory_they_are_closed_here_and_now)
{
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	closer_close(broker, &ours, fds, 2);
	cr_assert(countdown_off());
	are_taken(fds, 2);
	cr_assert_eq(fd_count(), fds_before);
}

/* n of them in one job each, whose closes end only with close_peers(). */
static int peers[CLOSER_THREADS];
static unsigned n_peers;

static void hang(const struct closer_whose *whose, unsigned n)
{
	while (n--) {
		int fd;

		cr_assert_eq(linger_make(LONG, &fd, &peers[n_peers++]), 0);
		closer_close(broker, whose, &fd, 1);
	}
}

static void close_peers(void)
{
	while (n_peers)
		close(peers[--n_peers]);
}

static void until_only(size_t n)
{
	while (closer_count(broker) != n)
		uv_run(&broker->loop, UV_RUN_ONCE);
}

static void close_some(const struct closer_whose *whose, size_t n)
{
	int fds[FDPASS_MAX];

	for (size_t i = 0; i < n; i++)
		cr_assert_eq(fd_dup(0, &fds[i]), 0);
	closer_close(broker, whose, fds, n);
}

static void skip_under_valgrind(void)
{
	if (place_valgrind())
		cr_skip_test("under valgrind a close(2) that waits stops every thread");
}

Test(closer, a_close_that_blocks_does_not_hold_up_the_loop)
{
	skip_under_valgrind();
	hang(&ours, 1);
	for (int i = 0; i < 10; i++)
		uv_run(&broker->loop, UV_RUN_NOWAIT);
	cr_assert_eq(closer_count(broker), 1, "the test's close did not block");
	close_peers();
}

Test(closer, closes_of_one_that_hang_are_in_nobody_elses_way)
{
	skip_under_valgrind();
	hang(&ours, CLOSER_THREADS / 2);
	hang(&door, CLOSER_THREADS / 2);
	close_some(&theirs, 100);
	close_some(&(struct closer_whose){ them, 7 }, 100);
	until_only(CLOSER_THREADS);
	close_peers();
}

/* --- bounds ---------------------------------------------------------------------------------- */

static unsigned n_woken;

static void on_woken(struct closer_wait *w)
{
	(void)w;
	n_woken++;
}

/* A job that hangs, and behind it what is counted. Whoever is of the same party waits. */
static void fill(const struct closer_whose *whose, size_t n)
{
	hang(whose, CLOSER_THREADS_EACH);
	close_some(whose, n - CLOSER_THREADS_EACH);
}

static bool may_not(struct closer_wait *w, const struct closer_whose *whose)
{
	bool waits = closer_waits(broker, w, whose);

	closer_wait_end(w);
	return waits;
}

Test(closer, a_user_that_has_too_many_unclosed_waits_until_they_are_fewer)
{
	struct closer_wait w;

	skip_under_valgrind();
	closer_wait_init(&w, on_woken);
	fill(&ours, FDPASS_MAX);
	close_some(&ours, FDPASS_MAX);
	cr_expect_not(may_not(&w, &ours));
	close_some(&ours, CLOSING_PER_UID - 2 * FDPASS_MAX);
	cr_expect_eq(quota_used(us, QUOTA_DESCRIPTORS), CLOSING_PER_UID, "they are charged");
	cr_expect_not(may_not(&w, &theirs));
	cr_expect_not(may_not(&w, &door), "who holds a door is somebody else");
	cr_assert(closer_waits(broker, &w, &ours));
	close_peers();
	until_only(0);
	cr_expect_eq(n_woken, 1);
	cr_expect_not(list_is_linked(&w.link));
	cr_expect_eq(quota_used(us, QUOTA_DESCRIPTORS), 0);
}

Test(closer, a_door_waits_for_fewer_and_all_doors_of_a_user_for_as_many_as_that)
{
	const struct closer_whose other = { us, 8 }, foreign = { them, 8 };
	struct closer_wait w;

	skip_under_valgrind();
	closer_wait_init(&w, on_woken);
	fill(&door, CLOSING_PER_DOOR);
	cr_expect(may_not(&w, &door));
	cr_expect_not(may_not(&w, &other));
	for (uint64_t id = 9; closer_count(broker) < CLOSING_PER_UID; id++)
		close_some(&(struct closer_whose){ us, id }, CLOSING_PER_DOOR / 2);
	cr_expect(may_not(&w, &other));
	cr_expect_not(may_not(&w, &ours), "its maker does not suffer");
	cr_expect_not(may_not(&w, &foreign));
	close_peers();
	until_only(0);
	cr_expect_not(may_not(&w, &door));
	cr_expect_eq(n_woken, 0);
}

/* --- the end --------------------------------------------------------------------------------- */

TestSuite(closer_end, .timeout = 20, .init = init);

Test(closer_end, one_that_hangs_is_not_waited_for)
{
	skip_under_valgrind();
	fill(&ours, 10);
	finish();
	close_peers();
}

/* --- sockets --------------------------------------------------------------------------------- */

Test(closer, a_socket_is_closed_here_unless_something_waits_in_it)
{
	int pair[2], other[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
	closer_close_socket(broker, &ours, &pair[0]);
	cr_expect_eq(closer_count(broker), 0);
	cr_assert_eq(write(other[1], "x", 1), 1);
	closer_close_socket(broker, &ours, &other[0]);
	cr_expect_eq(closer_count(broker), 1);
	cr_expect(pair[0] == -1 && other[0] == -1);
	close(pair[1]);
	close(other[1]);
}
