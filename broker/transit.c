/* The stores to the note need no more than program order: who reads them does so after our death,
 * and a process that is killed leaves memory as if it had stopped between two instructions. The
 * system calls in between are whole as well: a splice(2) or read(2) that a signal meets has moved
 * what it has moved, and says so by what the pipe holds.
 */
#include "broker/transit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/limits.h"

#define IN_ORDER() atomic_signal_fence(memory_order_seq_cst)

int transit_open(struct transit *t)
{
	if (pipe2(t->fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		t->fds[0] = t->fds[1] = -1;
		return err_errno();
	}
	(void)fcntl(t->fds[1], F_SETPIPE_SZ, (int)STREAM_READ_SIZE); /* refused: it takes less */
	transit_note_at(t, NULL);
	return 0;
}

void transit_adopt(struct transit *t, const int take_fds[2])
{
	transit_close(t);
	t->fds[0] = take_fds[0];
	t->fds[1] = take_fds[1];
}

void transit_note_at(struct transit *t, struct transit_note *note)
{
	t->note = note ? note : &t->own;
}

void transit_close(struct transit *t)
{
	if (!t->note)
		return;
	t->fds[0] = fd_close(t->fds[0]);
	t->fds[1] = fd_close(t->fds[1]);
}

ssize_t transit_take(struct transit *t, const struct transit_note *what, int fd, size_t size)
{
	struct transit_note *note = t->note;
	ssize_t n;

	note->head = what->head;
	note->stream = what->stream;
	note->size = 0;
	IN_ORDER();
	note->port = what->port;
	IN_ORDER();
	n = splice(fd, NULL, t->fds[1], NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n <= 0) {
		n = n < 0 ? -errno : 0;
		note->port = 0;
		return n;
	}
	IN_ORDER();
	note->size = t->left = (size_t)n;
	return n;
}

/* Only we write into the pipe, and what we wrote is there: less is a defect. */
static void read_all(int fd, uint8_t *place, size_t size)
{
	while (size) {
		ssize_t n = read(fd, place, size);

		if (n == 0 || (n < 0 && errno != EINTR))
			abort();
		if (n > 0) {
			place += n;
			size -= (size_t)n;
		}
	}
}

void transit_put(struct transit *t, void *place)
{
	IN_ORDER();
	read_all(t->fds[0], place, t->left);
	t->left = 0;
}

void transit_done(struct transit *t)
{
	IN_ORDER();
	t->note->port = 0;
}

void transit_drop(struct transit *t)
{
	uint8_t waste[4096];

	while (read(t->fds[0], waste, sizeof(waste)) > 0)
		;
	t->left = 0;
	transit_done(t);
}

/* --- a successor's --------------------------------------------------------------------------- */

bool transit_is_left(struct transit *t, struct transit_note *ret)
{
	int waiting = 0;

	if (!t->note->port)
		return false;
	*ret = *t->note;
	if (ioctl(t->fds[0], FIONREAD, &waiting) < 0 || waiting < 0)
		waiting = 0;
	t->left = (size_t)waiting;
	if (!ret->size)
		ret->size = t->left;
	if (ret->size && t->left <= ret->size && ret->size <= STREAM_READ_SIZE)
		return true;
	transit_drop(t); /* nothing came, or the note is no note */
	return false;
}

void transit_finish(struct transit *t, uint8_t *place)
{
	size_t size = t->note->size ? t->note->size : t->left;

	t->note->size = size; /* so that our own successor can go on */
	transit_put(t, place + (size - t->left));
}
