/* Keeper and forker against a broker that lies: nothing it sends ends one of them, costs a
 * descriptor, or disturbs a spawn that is right. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/link.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/lib/census.h"
#include "tests/lib/places.h"
#include "tests/lib/play.h"
#include "tests/lib/random.h"

static struct play p;
static pid_t forker;

static void setup(void)
{
	cr_assert_eq(play_start(&p, 0), 0);
	forker = p.forker;
}

/* A right spawn still works, with the same forker and keeper as before. */
static void everything_still_works(void)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct play_message m = { 0 };
	struct play_spawn s;

	play_spawn_init(&p, &s, 100, argv);
	s.id.port += 1000000;
	cr_assert_eq(play_spawn_wait(&p, &s, &m), 0);
	cr_assert_eq(m.head.type, LINK_STARTED);
	cr_assert_eq(play_wait_exit(&p, &s.id, &m), 0);
	cr_assert_eq(play_forget(&p, &s.id), 0);
	cr_assert_eq(p.forker, forker, "the forker died of it");
	cr_assert_eq(p.setup.incarnation, 1);
}

static void teardown(void)
{
	everything_still_works();
	cr_assert_eq(play_stop(&p, 0), 0);
}

TestSuite(helper_lies, .init = setup, .fini = teardown, .timeout = 60);

static void send_keeper(const void *message, size_t size, const int *fds, size_t n_fds)
{
	cr_assert_eq(play_send(p.link_fd, message, size, fds, n_fds), 0);
}

Test(helper_lies, messages_of_no_known_kind_or_size_are_dropped)
{
	uint8_t bytes[2048] = { 0 };
	struct link_head *head = (struct link_head *)bytes;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	for (uint32_t type = 0; type < 100; type++) {
		if (type == LINK_BYE)
			continue;
		*head = (struct link_head){ type, sizeof(bytes) };
		send_keeper(bytes, sizeof(bytes), fds, 2);
		*head = (struct link_head){ type, sizeof(*head) + 4 };
		send_keeper(bytes, sizeof(*head) + 4, fds, 2);
	}
	send_keeper(bytes, 1, fds, 2);
	send_keeper(bytes, sizeof(*head) - 1, NULL, 0);
	fd_close_many(fds, 2);
}

Test(helper_lies, random_bytes_are_dropped)
{
	struct random r = { 77 };
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	for (int i = 0; i < 2000; i++) {
		uint8_t bytes[256];
		struct link_head *head = (struct link_head *)bytes;
		size_t size = sizeof(*head) + random_below(&r, sizeof(bytes) - sizeof(*head));

		random_fill(&r, bytes, sizeof(bytes));
		*head = (struct link_head){ 1 + (uint32_t)random_below(&r, LINK_BEAT),
					    (uint32_t)size };
		send_keeper(bytes, size, fds, random_below(&r, 3));
		*head = (struct link_head){ LINK_SPAWN, (uint32_t)size };
		cr_assert_eq(play_send(p.forker_fd, bytes, size, fds, random_below(&r, 3)), 0);
	}
	fd_close_many(fds, 2);
}

static struct link_deposit deposit_of(uint64_t port, uint32_t slot, uint32_t n_holds)
{
	struct link_deposit m = { .head = { LINK_DEPOSIT, sizeof(m) },
				  .id = { port, slot, 1 },
				  .n_holds = n_holds };

	for (uint32_t i = 0; i < n_holds && i < LINK_HOLDS_MAX; i++)
		m.holds[i] = LINK_HOLD(HOLD_OUTPUT, i);
	return m;
}

Test(helper_lies, deposits_that_do_not_fit_cost_no_descriptor)
{
	struct link_deposit m;
	int fds[4], before;

	for (int i = 0; i < 4; i++)
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	everything_still_works();
	before = census_fds(p.keeper);
	m = deposit_of(1, 5, 2);
	send_keeper(&m, sizeof(m), fds, 1); /* one too few */
	send_keeper(&m, sizeof(m), fds, 3); /* one too many */
	m = deposit_of(1, PORTS_MAX, 2);
	send_keeper(&m, sizeof(m), fds, 2);
	m = deposit_of(0, 5, 2);
	send_keeper(&m, sizeof(m), fds, 2);
	m = deposit_of(1, 5, UINT32_MAX);
	send_keeper(&m, sizeof(m), fds, 2);
	m = deposit_of(1, 5, 2);
	m.holds[0] = LINK_HOLD(HOLD_PIDFD, 0);
	send_keeper(&m, sizeof(m), fds, 2);
	everything_still_works();
	cr_assert_eq(census_fds(p.keeper), before);
	fd_close_many(fds, 4);
}

Test(helper_lies, a_birth_socket_that_is_none_is_told_as_a_wrong_request)
{
	struct link_deposit m = deposit_of(1, 5, 1);
	int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	struct play_message got = { 0 };

	m.holds[0] = LINK_HOLD(HOLD_BIRTH, 0);
	send_keeper(&m, sizeof(m), &file, 1);
	cr_assert_eq(play_receive(&p, &got, 5000), 0);
	cr_assert_eq(got.head.type, LINK_FAILED);
	cr_assert_eq(got.failed.stage, LINK_STAGE_REQUEST);
	close(file);
}

/* What a forged birth socket says is not believed: the process must be a child. */
Test(helper_lies, a_forged_birth_does_not_make_somebody_else_a_child)
{
	const struct birth records[] = { { .kind = BIRTH_BORN, .pid = getpid(), .time_ns = 1 },
					 { .kind = BIRTH_EXECUTING } };
	struct link_deposit m = deposit_of(1, 5, 1);
	struct play_message got = { 0 };
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	m.holds[0] = LINK_HOLD(HOLD_BIRTH, 0);
	send_keeper(&m, sizeof(m), fds, 1);
	cr_assert_eq(send(fds[1], records, sizeof(records), 0), (ssize_t)sizeof(records));
	close(fds[1]);
	cr_assert_eq(play_receive(&p, &got, 5000), 0);
	cr_assert_eq(got.head.type, LINK_FAILED);
	cr_assert_eq(got.failed.stage, LINK_STAGE_SETUP);
	cr_assert_eq(got.failed.error, ECHILD);
	close(fds[0]);
}

Test(helper_lies, a_second_birth_while_the_first_is_awaited_is_dropped)
{
	struct link_deposit m = deposit_of(1, 5, 1);
	struct play_message got = { 0 };
	int first[2], second[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, first), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, second), 0);
	m.holds[0] = LINK_HOLD(HOLD_BIRTH, 0);
	send_keeper(&m, sizeof(m), first, 1);
	m.id.attempt = 2;
	send_keeper(&m, sizeof(m), second, 1);
	close(second[1]);
	close(first[1]);
	cr_assert_eq(play_receive(&p, &got, 5000), 0);
	cr_assert_eq(got.head.type, LINK_UNBORN);
	cr_assert_eq(got.unborn.id.attempt, 1);
	close(first[0]);
	close(second[0]);
}

Test(helper_lies, a_birth_that_nobody_deposited_runs_nothing)
{
	const char *const argv[] = { place_prog("mark"), "/dev/full", "x", NULL };
	_Alignas(8) uint8_t bytes[LINK_DATAGRAM_MAX];
	struct play_spawn s;
	int birth[2], out[2];
	char c;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, birth), 0);
	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	play_spawn_init(&p, &s, 1, argv);
	play_spawn_pass(&s, 1, out[1]);
	close(birth[0]);
	cr_assert_eq(play_send(p.forker_fd, bytes, spawn_bytes_datagram(&s.bytes, 1, bytes),
			       (int[]){ birth[1], out[1] }, 2),
		     0);
	close(birth[1]);
	close(out[1]);
	cr_assert_eq(read(out[0], &c, 1), 0, "it ended without a word");
	close(out[0]);
}

/* Every byte of a right record changed once: told as failed or run, but never a dead forker. */
Test(helper_lies, mutated_records_end_no_forker)
{
	const char *const argv[] = { "/bin/true", "x", NULL };
	_Alignas(8) uint8_t bytes[LINK_DATAGRAM_MAX];
	struct random r = { 31 };
	struct play_spawn s;
	int birth[2];

	for (unsigned i = 0; i < place_rounds(400); i++) {
		struct birth records[3];
		size_t size;

		play_spawn_init(&p, &s, 1, argv);
		spawn_bytes_descriptor(&s.bytes, 0, LINK_SOURCE_NULL);
		size = spawn_bytes_datagram(&s.bytes, 0, bytes);
		bytes[random_below(&r, size)] = (uint8_t)random_next(&r);
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, birth), 0);
		cr_assert_eq(play_send(p.forker_fd, bytes, size, &birth[1], 1), 0);
		close(birth[1]);
		/* Until its end: exec, failure or refusal. */
		cr_assert_geq(recv(birth[0], records, sizeof(records), MSG_WAITALL), 0);
		close(birth[0]);
	}
}

Test(helper_lies, releasing_and_forgetting_what_is_not_held_changes_nothing)
{
	struct link_forget forget = { { LINK_FORGET, sizeof(forget) }, { 5, 5, 5 } };
	struct link_release release = { .head = { LINK_RELEASE, sizeof(release) },
					.id = { 5, 5, 5 },
					.hold = LINK_HOLD(HOLD_BIRTH, 0) };
	struct play_message got = { 0 };

	send_keeper(&forget, sizeof(forget), NULL, 0);
	forget.id.slot = UINT32_MAX;
	send_keeper(&forget, sizeof(forget), NULL, 0);
	send_keeper(&release, sizeof(release), NULL,
		    0); /* no answer: not the broker's to release */
	release.hold = LINK_HOLD(HOLD_INPUT, 0);
	send_keeper(&release, sizeof(release), NULL, 0);
	cr_assert_eq(play_receive(&p, &got, 5000), 0);
	cr_assert_eq(got.head.type, LINK_RELEASED);
	cr_assert_eq(got.released.hold, LINK_HOLD(HOLD_INPUT, 0));
}

/* Requests that need answers, without reading one: the keeper stops reading instead of storing, and
 * goes on where it was when there is room again. */
Test(helper_lies, a_broker_that_does_not_read_is_not_read_from)
{
	struct link_release release = { .head = { LINK_RELEASE, sizeof(release) },
					.id = { 5, 5, 5 },
					.hold = LINK_HOLD(HOLD_INPUT, 0) };
	struct iovec iov = { &release, sizeof(release) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct play_message got = { 0 };
	unsigned n_sent = 0, n_full = 0;

	while (n_full < 20 && n_sent < 200000) {
		release.id.port = n_sent + 1;
		if (sendmsg(p.link_fd, &message, MSG_DONTWAIT) > 0) {
			n_sent++;
			n_full = 0;
		} else {
			n_full++;
			poll(NULL, 0, 5);
		}
	}
	cr_assert_eq(n_full, 20, "it took everything");
	for (unsigned i = 1; i <= n_sent; i++) {
		cr_assert_eq(play_receive(&p, &got, 5000), 0);
		cr_assert_eq(got.released.id.port, i);
	}
}
