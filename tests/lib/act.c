/* Owns nothing: plays, spawns and descriptors are the test's. */
#include "tests/lib/act.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/places.h"

/* --- output ---------------------------------------------------------------------------------- */

int act_spawn_with_output(struct play *p, struct play_spawn *s)
{
	int fds[2], r;

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	play_spawn_pass(s, 1, fds[1]);
	r = play_spawn(p, s);
	close(fds[1]);
	cr_assert_eq(r, 0);
	return fds[0];
}

size_t act_read_all(int fd, char *text, size_t size)
{
	size_t at = 0;
	ssize_t n;

	while (at < size - 1 && (n = read(fd, text + at, size - 1 - at)) > 0)
		at += (size_t)n;
	text[at] = '\0';
	return at;
}

bool act_ends_within(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, place_patience_ms(timeout_ms)) == 1 && (p.revents & POLLHUP);
}

/* --- births ---------------------------------------------------------------------------------- */

void act_expect_failure(struct play *p, struct play_spawn *s, uint32_t stage, int error)
{
	struct play_message m = { 0 };

	cr_assert_eq(play_spawn_wait(p, s, &m), 0);
	cr_assert_eq(m.head.type, LINK_FAILED, "got %u", m.head.type);
	cr_assert_eq(m.failed.stage, stage, "stage %u, not %u", m.failed.stage, stage);
	cr_assert_eq(m.failed.error, error, "%s", strerror(m.failed.error));
	cr_assert_eq(play_forget(p, &s->id), 0);
}

void act_make_fifo(struct play *p, char *ret_path, size_t size)
{
	snprintf(ret_path, size, "%s/fifo", p->directory);
	cr_assert_eq(mkfifo(ret_path, 0600), 0);
}

pid_t act_wait_for_birth(const struct play_spawn *s)
{
	struct birth b;

	cr_assert_eq(recv(s->birth_fd, &b, sizeof(b), MSG_PEEK | MSG_WAITALL), (ssize_t)sizeof(b));
	cr_assert_eq(b.kind, BIRTH_BORN);
	return b.pid;
}

/* --- rest ------------------------------------------------------------------------------------ */

void act_settle(struct play *p)
{
	struct link_release r = { .head = { LINK_RELEASE, sizeof(r) },
				  .id = { 1, 0, 1 },
				  .hold = LINK_HOLD(HOLD_INPUT, 9) };
	struct play_message m = { 0 };

	cr_assert_eq(play_send(p->link_fd, &r, sizeof(r), NULL, 0), 0);
	do
		cr_assert_eq(play_receive(p, &m, 10000), 0);
	while (m.head.type != LINK_RELEASED);
}

bool act_becomes_childless(struct play *p)
{
	pid_t children[16];

	for (int i = 0; i < 500; i++) {
		if (census_children(p->keeper, children, 16) == 2)
			return true;
		poll(NULL, 0, 10);
	}
	return false;
}
