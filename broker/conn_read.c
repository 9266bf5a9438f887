/* One recvmsg a turn, as a job, then as many frames as are complete, CONN_FRAMES_A_TURN and about
 * CONN_TIME_A_TURN_NS at most: what is left over waits for the next turn as a job too, and until
 * then the socket is not read.
 *
 * Descriptors come with the bytes of one recvmsg, which the kernel ends at the message that carried
 * them. They belong to the frames that begin before that place, in their order; one that no frame
 * has used when that place is parsed is an error of the client.
 */
#include "broker/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/dispatch.h"
#include "broker/reply.h"
#include "proto/base/err.h"
#include "proto/fdpass.h"
#include "proto/frame.h"

static void descriptors_refuse(struct conn *c, int *fds, size_t n, enum reply_code code,
			       const char *sentence)
{
	const struct closer_whose whose = conn_whose(c);

	closer_close(c->broker, &whose, fds, n);
	conn_leave(c, code, sentence);
}

static void descriptors_keep(struct conn *c, int *fds, const struct fdpass_info *info)
{
	const char *reason;

	if (info->truncated || info->surplus || c->n_fds + info->n_fds > DESCRIPTORS_MAX) {
		descriptors_refuse(
			c, fds, info->n_fds, REPLY_INVALID_ARGUMENT,
			"more descriptors came than one frame may carry, or than the broker can "
			"take now; pass at most 64");
		return;
	}
	if (!policy_may(&c->broker->policy, &c->who, POLICY_PASS_DESCRIPTORS, NULL)) {
		descriptors_refuse(c, fds, info->n_fds, REPLY_INVALID_ARGUMENT,
				   policy_reason(POLICY_PASS_DESCRIPTORS));
		return;
	}
	if (conn_charge_fds(c, c->n_fds + info->n_fds, &reason)) {
		descriptors_refuse(c, fds, info->n_fds, REPLY_RESOURCE_EXHAUSTED, reason);
		return;
	}
	memcpy(c->fds + c->n_fds, fds, info->n_fds * sizeof(fds[0]));
	c->n_fds += info->n_fds;
	c->fds_mark = c->received;
}

bool conn_take_fds(struct conn *c, int *ret_fds, size_t n)
{
	if (n > c->n_fds || (n && c->parsed >= c->fds_mark))
		return false;
	memcpy(ret_fds, c->fds, n * sizeof(ret_fds[0]));
	c->n_fds -= n;
	memmove(c->fds, c->fds + n, c->n_fds * sizeof(c->fds[0]));
	conn_charge_fds(c, c->n_fds, NULL);
	return true;
}

/* 0: a frame was handled; 1: there is no complete one. */
static int conn_frame(struct conn *c)
{
	size_t prefix, length;
	int r = frame_parse(buf_head(&c->in), buf_size(&c->in), c->frame_max, &prefix, &length);

	if (r == FRAME_E_MORE)
		return 1;
	if (r) {
		conn_leave(
			c, REPLY_INVALID_ARGUMENT,
			r == FRAME_E_LONG
				? "a frame is longer than frame_max of the Welcome; send less at "
				  "once, or ask for more in Hello"
				: "a frame's length is no varint of at most five bytes");
		return 1;
	}
	if (buf_size(&c->in) - prefix < length)
		return 1;
	r = length ? dispatch_frame(c, buf_head(&c->in) + prefix, length) : 0;
	if (r < 0)
		return err_pass(r);
	c->parsed += prefix + length;
	buf_consume(&c->in, prefix + length);
	if (c->n_fds && c->parsed >= c->fds_mark)
		conn_leave(
			c, REPLY_INVALID_ARGUMENT,
			"descriptors came with a frame that does not use them; name each one once "
			"as KIND_PASSED");
	return 0;
}

static void conn_frames(struct conn *c)
{
	uint64_t end = uv_hrtime() + CONN_TIME_A_TURN_NS;
	int r = 0;

	for (int i = 0; i < (int)CONN_FRAMES_A_TURN; i++) {
		if (c->state != CONN_GREETING && c->state != CONN_OPEN)
			return;
		conn_weigh_answers(c);
		if (c->is_full)
			break; /* its answers must go first */
		c->is_asking = true;
		r = conn_frame(c);
		c->is_asking = false;
		if (r || uv_hrtime() >= end)
			break;
	}
	if (c->state == CONN_CLOSED)
		return;
	conn_weigh_answers(c);
	conn_charge_in(c);
	if (r < 0)
		conn_fail(c, r);
	else if (r == 0 && buf_size(&c->in) && !c->is_full)
		turn_work(&c->broker->turn, &c->work);
	conn_watch(c);
}

/* While too many of its user's descriptors are not closed yet only bytes come in: *size is set to
 * how many. False: it is read on when they are fewer. */
static bool may_receive(struct conn *c, uint8_t *space, size_t *size)
{
	const struct closer_whose whose = conn_whose(c);
	bool brings;
	ssize_t n;

	if (!closer_waits(c->broker, &c->closer_wait, &whose))
		return true;
	n = fdpass_peek(c->fd, space, *size, &brings);
	if (brings)
		return false;
	closer_wait_end(&c->closer_wait);
	if (n > 0)
		*size = (size_t)n;
	return true;
}

static void conn_read(struct conn *c)
{
	struct fdpass_info info;
	int fds[FDPASS_MAX]; /* all that the kernel lets come: none is closed on the loop */
	size_t size = CONN_READ_SIZE;
	uint8_t *space;
	ssize_t n;
	int r;

	r = buf_reserve(&c->in, CONN_READ_SIZE, &space);
	if (r) {
		conn_fail(c, r < 0 ? r : err_begin(-EMSGSIZE));
		return;
	}
	if (!may_receive(c, space, &size)) {
		conn_watch(c);
		return;
	}
	n = fdpass_recv(c->fd, space, size, MSG_DONTWAIT, fds, ARRAY_SIZE(fds), &info);
	if (n == -EAGAIN || n == -EINTR) {
		conn_watch(c);
		return;
	}
	if (n < 0) {
		conn_close(c); /* reset */
		return;
	}
	if (n == 0) {
		conn_hear_end(c);
		return;
	}
	buf_commit(&c->in, (size_t)n);
	c->received += (uint64_t)n;
	if (info.n_fds || info.truncated || info.surplus)
		descriptors_keep(c, fds, &info);
	conn_frames(c);
}

/* While it waits for its place it is not polled: that would tell again what is known. */
void conn_readable(struct conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	if (job_waits(&c->work))
		conn_watch(c);
	c->is_readable = true;
	turn_work(&c->broker->turn, &c->work);
}

void conn_work(struct job *job)
{
	struct conn *c = container_of(job, struct conn, work);

	if (c->state != CONN_GREETING && c->state != CONN_OPEN)
		return; /* it has been told Bye since, or has said its last word */
	if (!c->is_readable) {
		conn_frames(c);
		return;
	}
	c->is_readable = false;
	conn_read(c);
}
