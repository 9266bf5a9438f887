/* Owns the control page's map and, until they are handed over, its descriptor.
 *
 * The page is the client's to write at any moment. Each word of it is read once, clamped to what is
 * possible (a cursor never goes back, and never past what was written) and used for this client's
 * own subscription alone: a false position lets its own child run on or hold, as it has the right
 * to; a false sleep costs one small message for each time that the log moves.
 *
 * Why no eventfd wakes the client: its O_NONBLOCK belongs to the open file that both would share,
 * so the client could take it away and let our next write(2) block. A pipe is locked while the
 * other side copies out of it. A message on the connection does neither, needs no descriptor, and
 * whoever waits for the connection waits for it already.
 */
#include "broker/sharing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/port.h"
#include "broker/subscription.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/shared.h"

/* --- making one ------------------------------------------------------------------------------ */

static int control_make(struct sharing *sh)
{
	_cleanup_(fd_closep) int fd = memfd_create("redd-control", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map;

	if (fd < 0)
		return err_errno();
	if (ftruncate(fd, SHARED_CONTROL_SIZE) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return err_errno();
	map = mmap(NULL, SHARED_CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return err_errno();
	sh->control = map;
	sh->fd = TAKE_FD(fd);
	return 0;
}

static void sharing_free(struct sharing *sh)
{
	if (!sh)
		return;
	if (sh->control)
		munmap(sh->control, SHARED_CONTROL_SIZE);
	fd_close(sh->fd);
	free(sh);
}
DEFINE_CLEANUP(struct sharing, sharing_free)

static void control_fill(struct sharing *sh, const struct subscription *s)
{
	struct shared_control *c = sh->control;

	c->magic = SHARED_CONTROL_MAGIC;
	c->layout = SHARED_LAYOUT;
	c->n_readers = s->n_readers;
	c->overflow = s->overflow;
	for (unsigned i = 0; i < s->n_readers; i++) {
		c->readers[i].position = s->readers[i].cursor.offset;
		c->readers[i].sleep = SHARED_AWAKE;
		sh->oldest[i] = stream_oldest(s->readers[i].stream);
	}
}

static bool is_within_bounds(const struct subscription *s)
{
	return s->conn->broker->n_shared < SHARED_MAX && s->conn->n_shared < SHARED_PER_CONN &&
	       s->n_readers;
}

void sharing_begin(struct subscription *s)
{
	_cleanup_(sharing_freep) struct sharing *sh = NULL;

	if (!is_within_bounds(s))
		return;
	sh = calloc(1, sizeof(*sh));
	if (!sh)
		return;
	sh->fd = -1;
	for (unsigned i = 0; i < s->n_readers; i++)
		if (stream_share_log(s->readers[i].stream) < 0)
			return;
	if (control_make(sh) < 0)
		return;
	control_fill(sh, s);
	s->sharing = TAKE(sh);
	s->conn->broker->n_shared++;
	s->conn->n_shared++;
}

void sharing_end(struct subscription *s)
{
	if (!s->sharing)
		return;
	for (unsigned i = 0; i < s->n_readers; i++) {
		sharing_pull(&s->readers[i]);
		list_remove(&s->readers[i].shared_link);
	}
	list_remove(&s->wake_link);
	sharing_free(TAKE(s->sharing));
	s->conn->broker->n_shared--;
	s->conn->n_shared--;
}

/* --- handing over ---------------------------------------------------------------------------- */

/* All of them, or none. */
static bool descriptors_of(struct subscription *s, int fds[1 + PORT_STREAMS_MAX])
{
	unsigned n = 0;

	fds[n++] = TAKE_FD(s->sharing->fd);
	while (n <= s->n_readers &&
	       fd_dup(ring_fd(s->readers[n - 1].stream->out.ring), &fds[n]) == 0)
		n++;
	if (n == 1 + s->n_readers && conn_doors_left(s->conn) >= n)
		return true;
	fd_close_many(fds, n);
	return false;
}

bool sharing_hand_over(struct subscription *s)
{
	int fds[1 + PORT_STREAMS_MAX];

	if (!s->sharing)
		return false;
	/* One that has ended already reads nothing any more. */
	if (s->state != SUBSCRIPTION_OPEN || !descriptors_of(s, fds)) {
		sharing_end(s);
		subscription_wake(s);
		return false;
	}
	s->sharing->control->subscription = s->id;
	for (unsigned i = 0; i <= s->n_readers; i++)
		conn_attach(s->conn, fds[i]);
	return true;
}

/* --- following the client -------------------------------------------------------------------- */

static struct shared_reader *page_of(const struct reader *r)
{
	const struct subscription *s = r->subscription;

	return &s->sharing->control->readers[r - s->readers];
}

void sharing_pull(struct reader *r)
{
	if (r->subscription->sharing)
		r->cursor.offset =
			shared_position(page_of(r), r->cursor.offset, stream_total(r->stream));
}

bool sharing_view(struct reader *r, struct cursor_view *view)
{
	sharing_pull(r);
	view->tail = 0; /* gaps on the way are the client's to tell */
	return view->is_ended && r->cursor.offset >= view->head;
}

static bool is_overtaken(const struct reader *r)
{
	uint64_t floor = MAX(r->cursor.offset, r->cursor.first_tail);

	return r->cursor.overflow == CURSOR_MAY_CANCEL && floor < stream_oldest(r->stream);
}

static void sharing_wake(struct subscription *s)
{
	if (!list_is_linked(&s->wake_link))
		list_append(&s->conn->wakes, &s->wake_link);
	conn_wake(s->conn);
}

void sharing_moved(struct reader *r)
{
	struct subscription *s = r->subscription;
	bool has_ended = r->stream->out.is_ended;

	if (shared_take_sleeper(page_of(r), stream_total(r->stream), has_ended))
		sharing_wake(s);
	sharing_pull(r);
	if (is_overtaken(r))
		subscription_end(s, SUBSCRIPTION_TOO_SLOW);
	else if (has_ended)
		subscription_wake(s);
}

void sharing_told(struct subscription *s)
{
	for (unsigned i = 0; i < s->n_readers; i++) {
		sharing_pull(&s->readers[i]);
		stream_readers_changed(s->readers[i].stream);
	}
	if (s->overflow == CURSOR_MAY_CANCEL &&
	    __atomic_load_n(&s->sharing->control->overtaken, __ATOMIC_ACQUIRE))
		subscription_end(s, SUBSCRIPTION_TOO_SLOW);
	subscription_wake(s);
}

bool sharing_has_progressed(struct subscription *s)
{
	uint64_t sum = 0, before = s->sharing->progress;

	for (unsigned i = 0; i < s->n_readers; i++) {
		sharing_pull(&s->readers[i]);
		sum += s->readers[i].cursor.offset;
	}
	s->sharing->progress = sum;
	return sum != before;
}

void sharing_stalled(struct subscription *s)
{
	__atomic_store_n(&s->sharing->control->overflow, (uint32_t)CURSOR_MAY_DROP,
			 __ATOMIC_RELEASE);
}

uint64_t sharing_skipped(const struct subscription *s, unsigned reader)
{
	const struct reader *r = &s->readers[reader];

	return MIN(shared_load(&page_of(r)->skipped), stream_total(r->stream));
}
