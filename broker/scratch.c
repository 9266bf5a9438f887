/* The order is what counts:
 *
 *	bytes into the scratch pipe -> note how many -> splice(2) to the child -> written += moved
 *
 * Before the note nothing has moved; after it, what is not in the scratch pipe any more has; and
 * the last step is one store, which settles the note as well (struct record_live). What the child's
 * pipe did not take is thrown away: it is in the queue still.
 */
#include "broker/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/inherit.h"
#include "broker/record.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

bool scratch_take(struct scratch *s, uint32_t number, int take_fd)
{
	uint32_t i = number - KEPT_SCRATCH(0);

	if (number < KEPT_SCRATCH(0) || i > 1)
		return false;
	fd_close(s->fds[i]);
	s->fds[i] = take_fd;
	return true;
}

void scratch_close(struct scratch *s)
{
	s->fds[0] = fd_close(s->fds[0]);
	s->fds[1] = fd_close(s->fds[1]);
}

void scratch_open(struct broker *b)
{
	struct scratch *s = &b->scratch;
	int r = 0;

	if (s->fds[0] >= 0 && s->fds[1] >= 0)
		return;
	scratch_close(s);
	if (pipe2(s->fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		log_warning("no scratch pipe: %s; a death of the broker may leave input in doubt",
			    err_name(errno));
		*s = (struct scratch){ { -1, -1 } };
		return;
	}
	for (uint32_t i = 0; i < 2 && r >= 0; i++)
		r = inherit_keep(b, KEPT_SCRATCH(i), 0, s->fds[i]);
	if (r < 0)
		log_warning("the scratch pipe is not kept: %s", err_string(r));
}

static size_t waiting_in(int fd)
{
	int n = 0;

	return ioctl(fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

void scratch_settle(const struct scratch *s, struct record_live *live)
{
	size_t left = s->fds[0] < 0 ? 0 : waiting_in(s->fds[0]);

	if (live->going_at != live->written || !live->by_scratch)
		return;
	if (live->going > left)
		live->written += live->going - left;
	else
		live->going_at = UINT64_MAX;
}

void scratch_drain(const struct scratch *s)
{
	uint8_t trash[4096];

	while (s->fds[0] >= 0 && read(s->fds[0], trash, sizeof(trash)) > 0)
		;
}

ssize_t scratch_share(const struct scratch *s, int pipe, size_t size)
{
	int capacity = size < SCRATCH_LEAST || s->fds[0] < 0 ? -1 : fcntl(pipe, F_GETPIPE_SZ);
	size_t room, queued;

	if (capacity < 0)
		return 0;
	queued = waiting_in(pipe);
	room = (size_t)capacity > queued ? (size_t)capacity - queued : 0;
	size = MIN(MIN(size, room), (size_t)SCRATCH_MOST);
	/* A pipe is writable when a slot is free, and then a page has room. */
	return size < SCRATCH_LEAST ? -EAGAIN : (ssize_t)(size / SCRATCH_LEAST * SCRATCH_LEAST);
}

/* The first `size` bytes of iov; returns how many pieces that are. */
static int cut(struct iovec *out, const struct iovec *iov, int n, size_t size)
{
	int i = 0;

	for (; i < n && size; i++) {
		out[i] = (struct iovec){ iov[i].iov_base, MIN(iov[i].iov_len, size) };
		size -= out[i].iov_len;
	}
	return i;
}

ssize_t scratch_send(const struct scratch *s, int pipe, const struct iovec *iov, int n, size_t size,
		     struct record_live *live)
{
	struct iovec pieces[SCRATCH_PIECES];
	ssize_t filled = writev(s->fds[1], pieces, cut(pieces, iov, MIN(n, SCRATCH_PIECES), size)),
		moved;
	int e;

	if (filled <= 0)
		return filled < 0 ? -errno : -EAGAIN;
	record_live_going(live, (uint32_t)filled, true);
	moved = splice(s->fds[0], NULL, pipe, NULL, (size_t)filled, SPLICE_F_NONBLOCK);
	e = errno;
	record_live_went(live, moved);
	if (moved < filled)
		scratch_drain(s);
	return moved < 0 ? -e : moved;
}
