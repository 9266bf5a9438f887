/* What goes out, in this order: the rest of a frame that was cut; the control lane; then the bulk
 * lane, one event of each ready subscription after another, straight from the logs.
 *
 * A batch of bulk frames is put together and sent with one sendmsg(2). Its cursors move when it is
 * put together; what the socket did not take is undone, last frame first. The one frame that it
 * took a part of becomes the leftover: our own bytes of it are copied, the log's are pinned where
 * they lie, and copied out only if the log is about to overwrite them.
 *
 * "Full" is learnt from the socket: then nothing is tried until it is writable again.
 */
#include "broker/conn.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/subscription.h"
#include "broker/life.h"
#include "broker/marks.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/codec.h"
#include "proto/fdpass.h"

#define BATCH		16
#define BATCH_SMALL	KIB(16) /* of which each message takes less than 1 KiB */
#define CONTROL_A_BATCH KIB(64) /* Exited, marks and life events packed ahead of time */
#define GROW_AFTER	8	/* times that a full socket was read empty enough again */

struct batch_frame {
	struct subscription *subscription;
	struct bulk bulk;
	struct subscription_mark mark;
	const uint8_t *prefix; /* our own bytes: all of it, or what stands before the data */
	size_t prefix_size;
	const uint8_t *data; /* in the log, or NULL */
	size_t size;
	uint8_t room[CODEC_OUTPUT_PREFIX_MAX];
};

struct batch {
	struct batch_frame frames[BATCH];
	unsigned n;
	struct buf
		*small; /* whole messages (Gap, StreamEnd, Closed); does not move while it fills */
	struct iovec iov[3 + 2 * BATCH];
	int n_iov;
	size_t size;	  /* of all iov */
	unsigned n_doors; /* the connection's first ones go with its first byte */
};

/* --- leftover -------------------------------------------------------------------------------- */

static void leftover_rescue(struct ring_pin *pin)
{
	struct leftover *l = container_of(pin, struct leftover, pin);

	/* OUTPUT_MAX at most, which the buffer's cap allows; without memory the connection cannot
	 * go on, and an empty copy with `ring` unset shows that as a cut frame. */
	if (buf_append(&l->copy, ring_at(l->ring, pin->offset), l->left) == 0)
		l->left = 0;
	l->ring = NULL;
}

void leftover_init(struct leftover *l)
{
	buf_init(&l->copy, OUTPUT_MAX + KIB(64));
	list_init(&l->pin.link);
	l->pin.rescue = leftover_rescue;
	l->ring = NULL;
	l->left = 0;
	l->subscription = 0;
}

void leftover_deinit(struct leftover *l)
{
	ring_unpin(&l->pin);
	buf_deinit(&l->copy);
	l->ring = NULL;
	l->left = 0;
}

uint64_t conn_floor(const struct conn *c, const struct reader *r)
{
	const struct leftover *l = &c->leftover;

	if (l->subscription != r->subscription->id || &r->subscription->readers[l->reader] != r)
		return UINT64_MAX;
	return l->offset;
}

/* Whose frame has gone as a whole with what was sent just now; 0 and 0 else. */
struct leftover_owner {
	uint64_t subscription;
	unsigned reader;
};

static struct leftover_owner leftover_gone(struct leftover *l)
{
	struct leftover_owner owner = { l->subscription, l->reader };

	if (!l->subscription || buf_size(&l->copy) || l->left)
		return (struct leftover_owner){ 0 };
	l->subscription = 0;
	return owner;
}

/* Whom it held back may go on. */
static void leftover_tell(struct conn *c, const struct leftover_owner *owner)
{
	struct subscription *s =
		owner->subscription ? conn_subscription(c, owner->subscription) : NULL;

	if (s && owner->reader < s->n_readers)
		subscription_moved(s, &s->readers[owner->reader]);
}

static bool leftover_is_lost(const struct leftover *l)
{
	return l->left && !l->ring;
}

static void leftover_consume(struct leftover *l, size_t *n)
{
	size_t own = MIN(*n, buf_size(&l->copy)), logged = MIN(*n - own, l->left);

	buf_consume(&l->copy, own);
	*n -= own + logged;
	if (!logged)
		return;
	l->left -= logged;
	ring_unpin(&l->pin);
	l->pin.offset += logged;
	if (l->left)
		ring_pin(l->ring, &l->pin);
	else
		l->ring = NULL;
}

/* Keeps what is left of a frame of which `sent` bytes have gone. */
static int leftover_keep(struct leftover *l, const struct batch_frame *f, size_t sent)
{
	size_t own = sent < f->prefix_size ? f->prefix_size - sent : 0;
	size_t logged = f->size - (sent > f->prefix_size ? sent - f->prefix_size : 0);
	int r = buf_append(&l->copy, f->prefix + f->prefix_size - own, own);

	if (r)
		return r < 0 ? err_pass(r) : err_begin(-ENOBUFS);
	if (f->size) {
		l->subscription = f->subscription->id;
		l->reader = (unsigned)(f->bulk.reader - f->subscription->readers);
		l->offset = f->bulk.step.offset;
	}
	if (!logged)
		return 0;
	l->ring = f->bulk.reader->stream->out.ring;
	l->left = logged;
	l->pin.offset = f->bulk.step.offset + f->bulk.step.before + f->size - logged;
	ring_pin(l->ring, &l->pin);
	return 0;
}

/* --- putting a batch together ---------------------------------------------------------------- */

static void batch_add(struct batch *b, const void *data, size_t size)
{
	if (!size)
		return;
	b->iov[b->n_iov++] = (struct iovec){ (void *)data, size };
	b->size += size;
}

static void batch_add_data(struct batch_frame *f)
{
	const struct cursor_step *step = &f->bulk.step;
	struct codec_output o = { .subscription = f->subscription->id,
				  .port = f->subscription->port_id,
				  .stream = f->bulk.reader->stream->number,
				  .offset = step->offset,
				  .consumed = (uint64_t)step->before + step->size + step->after,
				  .record = (int)step->record,
				  .size = step->size };

	f->prefix = f->room;
	f->prefix_size = codec_output_prefix(f->room, &o);
	f->data = ring_at(f->bulk.reader->stream->out.ring, step->offset + step->before);
	f->size = step->size;
}

static int batch_add_small(struct batch *b, struct batch_frame *f)
{
	size_t before = buf_size(b->small);
	int r = f->bulk.what == BULK_CLOSED
			? reply_pack_closed(b->small, f->subscription)
			: reply_pack_step(b->small, f->subscription, f->bulk.reader, &f->bulk.step);

	if (r)
		return r < 0 ? err_pass(r) : err_begin(-ENOBUFS);
	f->prefix = buf_head(b->small) + before;
	f->prefix_size = buf_size(b->small) - before;
	f->data = NULL;
	f->size = 0;
	return 0;
}

/* Takes one event of the first ready subscription. 0; 1: that one has nothing; negative errno. */
static int batch_take(struct conn *c, struct batch *b)
{
	struct subscription *s = list_first(&c->ready, struct subscription, ready_link);
	struct batch_frame *f = &b->frames[b->n];
	int r = 0;

	list_remove(&s->ready_link);
	f->subscription = s;
	subscription_next(s, &f->bulk);
	if (f->bulk.what == BULK_NOTHING) {
		subscription_rest(s);
		return 1;
	}
	if (f->bulk.what == BULK_STEP && f->bulk.step.what == CURSOR_DATA)
		batch_add_data(f);
	else
		r = batch_add_small(b, f);
	if (r < 0)
		return err_pass(r);
	if (f->bulk.what == BULK_STEP) {
		subscription_take(s, &f->bulk, &f->mark);
		list_append(&c->ready, &s->ready_link);
	}
	batch_add(b, f->prefix, f->prefix_size);
	batch_add(b, f->data, f->size);
	b->n++;
	return 0;
}

/* The control lane, up to the next message that carries descriptors: that one has to begin a send
 * of its own, and they go with it. True: it was cut there. */
static bool batch_add_control(struct conn *c, struct batch *b)
{
	size_t size = buf_size(&c->control);

	b->n_doors = 0;
	while (!b->size && b->n_doors < c->n_doors && c->doors[b->n_doors].at == c->control_sent)
		b->n_doors++;
	if (b->n_doors < c->n_doors)
		size = (size_t)(c->doors[b->n_doors].at - c->control_sent);
	batch_add(b, buf_head(&c->control), size);
	return b->n_doors < c->n_doors;
}

/* 0; 1: only what is in it may go now; or a negative errno. */
static int batch_begin(struct conn *c, struct batch *b)
{
	const struct leftover *l = &c->leftover;
	uint8_t *room;
	int r;

	buf_consume(b->small, buf_size(b->small));
	r = buf_reserve(b->small, BATCH_SMALL, &room);
	if (r)
		return err_begin(-ENOMEM);
	b->n = 0;
	b->n_iov = 0;
	b->size = 0;
	batch_add(b, buf_head(&l->copy), buf_size(&l->copy));
	if (l->left)
		batch_add(b, ring_at(l->ring, l->pin.offset), l->left);
	return batch_add_control(c, b);
}

static int batch_fill(struct conn *c, struct batch *b, size_t budget)
{
	int r = batch_begin(c, b);
	bool is_cut;

	if (r)
		return err_pass(r);
	is_cut = r;
	while (!is_cut && c->state != CONN_LEAVING && b->n < BATCH && b->size < budget &&
	       !list_is_empty(&c->ready)) {
		r = batch_take(c, b);
		if (r < 0)
			return err_pass(r);
	}
	return 0;
}

/* --- sending one ----------------------------------------------------------------------------- */

/* From the last to the first: then who was next is next again, in front of all others. */
static void frame_undo(struct conn *c, struct batch_frame *f)
{
	if (f->bulk.what == BULK_STEP)
		subscription_undo(f->subscription, &f->bulk, &f->mark);
	list_remove(&f->subscription->ready_link);
	list_prepend(&c->ready, &f->subscription->ready_link);
}

static void frame_done(struct batch_frame *f)
{
	if (f->bulk.what == BULK_CLOSED)
		subscription_free(f->subscription);
	else if (f->subscription->port) /* else it went with a frame before */
		subscription_moved(f->subscription, f->bulk.reader);
}

/* The first n have gone, or cannot go. */
static void doors_close(struct conn *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		fd_close(c->doors[i].fd);
	c->n_doors -= n;
	memmove(c->doors, c->doors + n, c->n_doors * sizeof(c->doors[0]));
}

/* The first n bytes of the batch have gone. */
static int batch_settle(struct conn *c, struct batch *b, size_t n)
{
	struct leftover_owner gone;
	size_t control;
	unsigned first, i;
	int r = 0;

	leftover_consume(&c->leftover, &n);
	gone = leftover_gone(&c->leftover);
	control = MIN(n, buf_size(&c->control));
	buf_consume(&c->control, control);
	c->control_sent += control;
	if (control)
		doors_close(c, b->n_doors);
	n -= control;
	for (first = 0; first < b->n && n > 0; first++) {
		struct batch_frame *f = &b->frames[first];
		size_t size = f->prefix_size + f->size;

		if (n < size)
			r = leftover_keep(&c->leftover, f, n);
		n -= MIN(n, size);
	}
	for (i = b->n; i-- > first;)
		frame_undo(c, &b->frames[i]);
	/* Cursors are where they belong again: only now somebody may look at them. */
	leftover_tell(c, &gone);
	for (i = 0; i < first; i++)
		frame_done(&b->frames[i]);
	return err_pass(r);
}

static void conn_choke(struct conn *c)
{
	c->is_choked = true;
	conn_watch(c);
}

/* 0: all of it has gone; 1: the socket is full; negative errno. */
static int batch_send(struct conn *c, struct batch *b)
{
	int fds[CONN_DOORS], r;
	ssize_t n;

	for (unsigned i = 0; i < b->n_doors; i++)
		fds[i] = c->doors[i].fd;
	n = fdpass_send(c->fd, b->iov, (size_t)b->n_iov, fds, b->n_doors, MSG_DONTWAIT);
	if (n == -ETOOMANYREFS) {
		/* More of ours wait in sockets that nobody reads than the system allows. The
		 * message goes without: who gets it finds that they have not come. */
		doors_close(c, b->n_doors);
		b->n_doors = 0;
		n = fdpass_send(c->fd, b->iov, (size_t)b->n_iov, NULL, 0, MSG_DONTWAIT);
	}
	if (n < 0 && n != -EAGAIN) {
		batch_settle(c, b, 0);
		return (int)n;
	}
	r = batch_settle(c, b, n < 0 ? 0 : (size_t)n);
	if (r < 0)
		return err_pass(r);
	c->sent += n < 0 ? 0 : (size_t)n;
	return n == (ssize_t)b->size ? 0 : 1;
}

/* Exited, marks, Moved, life events: made into messages when there is room for them, not before. */
static int control_fill(struct conn *c)
{
	struct subscription *s;
	int r = 0;

	while (!r && buf_size(&c->control) < CONTROL_A_BATCH &&
	       (s = list_first(&c->exits, struct subscription, exit_link))) {
		list_remove(&s->exit_link);
		r = reply_pack_exited(&c->control, s);
		if (!list_is_linked(&s->ready_link))
			list_append(&c->ready, &s->ready_link);
	}
	if (!r)
		r = marks_fill(c, CONTROL_A_BATCH);
	while (!r && buf_size(&c->control) < CONTROL_A_BATCH &&
	       (s = list_first(&c->wakes, struct subscription, wake_link))) {
		list_remove(&s->wake_link);
		r = reply_pack_moved(&c->control, s);
	}
	if (!r && buf_size(&c->control) < CONTROL_A_BATCH)
		r = watches_fill(c, CONTROL_A_BATCH);
	return r > 0 ? err_begin(-ENOBUFS) : err_pass(r);
}

/* 0: nothing is left; 1: the socket is full; 2: the share of this turn is used up. */
static int conn_send(struct conn *c, struct batch *b)
{
	size_t sent = 0;
	int r;

	for (unsigned i = 0; i < CONN_SENDS_A_TURN; i++) {
		if (leftover_is_lost(&c->leftover))
			return err_begin(-ENOMEM);
		r = control_fill(c);
		if (!r)
			r = batch_fill(c, b, CONN_BULK_A_TURN / 2);
		if (r < 0)
			return err_pass(r);
		if (!b->n_iov)
			return watches_are_behind(c) ? 2 : 0;
		sent += b->size +
			b->n * EVENT_WORK; /* many small ones cost more than their bytes */
		r = batch_send(c, b);
		if (r)
			return r;
		if (sent >= CONN_BULK_A_TURN)
			break;
	}
	return 2;
}

/* It asks no more, and nothing of what it asked is still to come. */
static bool conn_is_done(const struct conn *c)
{
	return c->state == CONN_SILENT && list_is_empty(&c->pendings) &&
	       list_is_empty(&c->subscriptions) && list_is_empty(&c->watches);
}

/* Requests that were left lying for its answers to go first are looked at again. */
static void conn_read_on(struct conn *c)
{
	if (!c->is_full || c->state != CONN_OPEN)
		return;
	conn_weigh_answers(c);
	if (!c->is_full)
		turn_work(&c->broker->turn, &c->work);
}

void conn_flush(struct job *job)
{
	struct conn *c = container_of(job, struct conn, flush);
	struct batch b = { .small = &c->broker->small };
	int r;

	if (c->is_choked || c->state == CONN_CLOSED)
		return;
	r = conn_send(c, &b);
	if (r == 1)
		conn_choke(c);
	else if (r == 2)
		turn_flush(&c->broker->turn, &c->flush);
	else if (r < 0)
		conn_close(c); /* the peer is gone, or cannot be told anything any more */
	else if (c->state == CONN_LEAVING || conn_is_done(c))
		conn_close(c);
	conn_read_on(c);
	conn_watch(c);
}

bool conn_attach(struct conn *c, int take_fd)
{
	if (c->n_doors == CONN_DOORS || c->state == CONN_LEAVING || c->state == CONN_CLOSED) {
		fd_close(take_fd);
		return false;
	}
	c->doors[c->n_doors++] = (struct conn_door){
		.at = c->control_sent + buf_size(&c->control),
		.fd = take_fd,
	};
	return true;
}

unsigned conn_doors_left(const struct conn *c)
{
	return CONN_DOORS - c->n_doors;
}

void conn_close_doors(struct conn *c)
{
	doors_close(c, c->n_doors);
}

uint32_t conn_output_max(const struct conn *c)
{
	uint32_t most = c->sent > CONN_PROOF ? CONN_OUTPUT_LARGE : CONN_OUTPUT_SMALL;

	return MIN(most, c->frame_max - CODEC_OUTPUT_PREFIX_MAX);
}

int conn_unread(const struct conn *c)
{
	int size;

	return ioctl(c->fd, SIOCOUTQ, &size) < 0 ? 0 : size;
}

bool conn_has_told(const struct conn *c)
{
	return !buf_size(&c->control) && !buf_size(&c->leftover.copy) && !c->leftover.left &&
	       list_is_empty(&c->exits) && list_is_empty(&c->marks) && list_is_empty(&c->wakes) &&
	       list_is_empty(&c->ready);
}

void conn_wake(struct conn *c)
{
	if (!c->is_choked && c->state != CONN_CLOSED)
		turn_flush(&c->broker->turn, &c->flush);
}

/* A reader that comes back again and again gets a larger buffer; one that never reads pins little.
 */
static void conn_grow(struct conn *c)
{
	int size = (int)CONN_SNDBUF_GROWN;

	if (c->sndbuf_is_grown || ++c->n_unchoked < GROW_AFTER)
		return;
	c->sndbuf_is_grown = true;
	if (setsockopt(c->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

void conn_writable(struct conn *c)
{
	if (!c->is_choked)
		return;
	c->is_choked = false;
	conn_grow(c);
	conn_watch(c);
	conn_wake(c);
}
