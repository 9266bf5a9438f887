/* The outgoing queue: one byte buffer, and parcels of descriptors that go with one of its bytes.
 *
 * Invariants: o->position counts every byte that was sent, so a parcel whose position is reached
 * goes with the next byte. A frame is queued whole or not at all. After a failed send the queue is
 * dropped and o->error stays; why the connection ended is found by reading, where the broker's last
 * words may still lie.
 */
#include "client/outgoing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/fdpass.h"

#define DIRECT_SIZE KIB(8) /* data from this size on is worth a send of its own, without a copy */

struct parcel {
	struct list link;
	uint64_t position;
	size_t n_fds;
	int fds[];
};

void outgoing_init(struct outgoing *o, size_t limit)
{
	*o = (struct outgoing){ .limit = limit };
	buf_init(&o->data, limit + OUTGOING_RESERVE);
	list_init(&o->parcels);
}

static void parcel_free(struct parcel *p)
{
	list_remove(&p->link);
	fd_close_many(p->fds, p->n_fds);
	free(p);
}
DEFINE_CLEANUP(struct parcel, parcel_free)

void outgoing_deinit(struct outgoing *o)
{
	struct parcel *p;

	while ((p = list_first(&o->parcels, struct parcel, link)))
		parcel_free(p);
	buf_deinit(&o->data);
}

static void outgoing_break(struct outgoing *o, int error)
{
	outgoing_deinit(o);
	o->error = error;
}

/* Copies of the caller's descriptors, to go with the byte at `position`. */
static int parcel_new(uint64_t position, const int *fds, size_t n_fds, struct parcel **ret)
{
	_cleanup_(parcel_freep) struct parcel *p = malloc(sizeof(*p) + n_fds * sizeof(int));

	if (!p)
		return err_begin(-ENOMEM);
	list_init(&p->link);
	p->position = position;
	p->n_fds = 0;
	for (size_t i = 0; i < n_fds; i++) {
		int r = fd_dup(fds[i], &p->fds[i]);

		if (r < 0)
			return err_pass(r);
		p->n_fds++;
	}
	*ret = TAKE(p);
	return 0;
}

static int pack_result(int r)
{
	if (r == CODEC_E_LONG)
		return OUTGOING_E_LONG;
	return r == CODEC_E_FULL ? OUTGOING_E_FULL : r;
}

int outgoing_message(struct outgoing *o, const ProtobufCMessage *message, size_t frame_max,
		     const int *fds, size_t n_fds)
{
	_cleanup_(parcel_freep) struct parcel *parcel = NULL;
	int r;

	if (outgoing_size(o) >= o->limit)
		return OUTGOING_E_FULL;
	if (n_fds) {
		r = parcel_new(o->position + outgoing_size(o), fds, n_fds, &parcel);
		if (r < 0)
			return err_pass(r);
	}
	o->data.cap -= OUTGOING_RESERVE / 2;
	r = codec_pack(&o->data, message, frame_max);
	o->data.cap += OUTGOING_RESERVE / 2;
	if (r)
		return pack_result(r);
	if (parcel)
		list_append(&o->parcels, &TAKE(parcel)->link);
	return 0;
}

int outgoing_own(struct outgoing *o, const ProtobufCMessage *message)
{
	return pack_result(codec_pack(&o->data, message, FRAME_MAX_LOWEST));
}

/* Sends, with the descriptors that belong to the first byte. Returns what was sent, or a negative
 * errno. */
static ssize_t send_some(struct outgoing *o, int sock, const struct iovec *iov, size_t n_iov)
{
	struct parcel *p = list_first(&o->parcels, struct parcel, link);
	bool now = p && p->position == o->position;
	ssize_t n = fdpass_send(sock, iov, n_iov, now ? p->fds : NULL, now ? p->n_fds : 0,
				MSG_DONTWAIT);

	if (n <= 0)
		return n;
	if (now)
		parcel_free(p);
	o->position += (uint64_t)n;
	return n;
}

/* Bytes that may go with the next send: up to the next parcel that is not the first byte's. */
static size_t sendable(struct outgoing *o)
{
	struct parcel *p;
	size_t size = outgoing_size(o);

	list_for_each (p, &o->parcels, link) {
		if (p->position > o->position)
			return MIN(size, (size_t)(p->position - o->position));
	}
	return size;
}

void outgoing_flush(struct outgoing *o, int sock)
{
	while (!o->error && outgoing_size(o)) {
		struct iovec iov = { buf_head(&o->data), sendable(o) };
		ssize_t n = send_some(o, sock, &iov, 1);

		if (n == -EAGAIN || n == 0)
			return;
		if (n < 0) {
			outgoing_break(o, (int)n);
			return;
		}
		buf_consume(&o->data, (size_t)n);
	}
}

/* Sends queue, prefix and data with one call; tells how much of the last two is gone. */
static void send_direct(struct outgoing *o, int sock, const struct iovec more[2], size_t *ret_gone)
{
	size_t queued = outgoing_size(o), first = queued ? 0 : 1;
	struct iovec iov[3] = { { queued ? buf_head(&o->data) : NULL, queued }, more[0], more[1] };
	ssize_t n = send_some(o, sock, iov + first, 3 - first);

	*ret_gone = 0;
	if (n < 0 && n != -EAGAIN)
		outgoing_break(o, (int)n);
	if (n <= 0)
		return;
	buf_consume(&o->data, MIN((size_t)n, queued));
	if ((size_t)n > queued)
		*ret_gone = (size_t)n - queued;
}

/* Queues what is left of both parts behind `gone` bytes of them. All or nothing. */
static int queue_rest(struct outgoing *o, const struct iovec more[2], size_t gone)
{
	size_t rest = more[0].iov_len + more[1].iov_len - gone;
	uint8_t *space;
	int r = buf_reserve(&o->data, rest, &space);

	if (r)
		return r == BUF_E_FULL ? OUTGOING_E_FULL : err_pass(r);
	for (size_t i = 0; i < 2; i++) {
		size_t skip = MIN(gone, more[i].iov_len);
		size_t size = more[i].iov_len - skip;

		gone -= skip;
		if (size)
			memcpy(space, (uint8_t *)more[i].iov_base + skip, size);
		space += size;
	}
	buf_commit(&o->data, rest);
	return 0;
}

int outgoing_data(struct outgoing *o, int sock, const uint8_t *prefix, size_t prefix_size,
		  const void *data, size_t size)
{
	const struct iovec more[2] = { { (void *)prefix, prefix_size }, { (void *)data, size } };
	size_t gone = 0;
	int r;

	if (o->error)
		return 0; /* the reading side will tell */
	if (outgoing_size(o) >= o->limit ||
	    prefix_size + size > o->limit + OUTGOING_RESERVE / 2 - outgoing_size(o))
		return OUTGOING_E_FULL;
	if (size >= DIRECT_SIZE && list_is_empty(&o->parcels))
		send_direct(o, sock, more, &gone);
	if (o->error || gone == prefix_size + size)
		return 0;
	r = queue_rest(o, more, gone);
	if (!r || !gone)
		return r;
	/* Half a frame is out and the rest cannot be kept: nothing sensible may follow it. */
	outgoing_break(o, -ENOMEM);
	return 0;
}
