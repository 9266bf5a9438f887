#include "broker/opener_process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "broker/broker.h"
#include "broker/port.h"
#include "broker/spawn_record.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/fdpass.h"

#define EXIT_MS 1000 /* that an opener may take to end when it has answered or was killed */

enum opener_state { OPENER_ASKING, OPENER_ANSWERED, OPENER_OVER };

struct opener {
	struct process process;
	enum opener_state state;
	struct broker *broker;
	const struct opener_events *events;
	void *context;
	size_t n; /* requests */
	bool is_answered;
	struct alarm alarm;
	uv_poll_t poll;
	int fd;
};

void identity_copy(struct identity *i, const struct port_options *options)
{
	i->is_other = options->is_other_identity;
	i->uid = options->uid;
	i->gid = options->gid;
	i->n_groups = options->n_groups;
	memcpy(i->groups, options->groups, options->n_groups * sizeof(i->groups[0]));
}

bool identity_is_same(const struct identity *a, const struct identity *b)
{
	return a->is_other == b->is_other && a->uid == b->uid && a->gid == b->gid &&
	       a->n_groups == b->n_groups &&
	       memcmp(a->groups, b->groups, a->n_groups * sizeof(a->groups[0])) == 0;
}

/* --- the answer ------------------------------------------------------------------------------ */

static bool replies_are_right(const struct opener *o, const struct opener_reply *replies,
			      ssize_t size)
{
	if (size != (ssize_t)(o->n * sizeof(*replies)))
		return false;
	for (size_t i = 0; i < o->n; i++)
		if (replies[i].n_pids > SCAN_SURVIVORS_MAX)
			return false;
	return true;
}

/* The good answer, or NULL: it may end without one now. */
static void opener_answer(struct opener *o, const struct opener_reply *replies)
{
	if (o->state != OPENER_ASKING)
		return;
	o->state = OPENER_ANSWERED;
	uv_poll_stop(&o->poll);
	if (alarm_set(&o->broker->alarms, &o->alarm, EXIT_MS) < 0)
		process_signal(&o->process, SIGKILL); /* then it ends without it */
	o->is_answered = replies != NULL;
	o->events->answered(o->context, replies);
}

/* Takes the answer if it is there. */
static void opener_receive(struct opener *o)
{
	struct opener_reply replies[OPENER_REQUESTS_MAX];
	ssize_t n = recv(o->fd, replies, sizeof(replies), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	opener_answer(o, replies_are_right(o, replies, n) ? replies : NULL);
}

static void on_reply(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events; /* receiving tells what is wrong */
	opener_receive(poll->data);
}

/* --- its end --------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* One that was given up may have answered at the last moment. */
static void opener_tell_over(struct opener *o)
{
	struct opener_reply replies[OPENER_REQUESTS_MAX];
	ssize_t n = -1;

	if (!o->is_answered)
		n = recv(o->fd, replies, sizeof(replies), MSG_DONTWAIT | MSG_TRUNC);
	o->events->over(o->context, n > 0 && replies_are_right(o, replies, n) ? replies : NULL);
}

void opener_give_up(struct opener *o)
{
	if (o->state == OPENER_OVER)
		return;
	opener_answer(o, NULL);
	o->state = OPENER_OVER;
	alarm_stop(&o->broker->alarms, &o->alarm);
	opener_tell_over(o);
	process_deinit(&o->process);
	uv_close((uv_handle_t *)&o->poll, on_closed);
	o->fd = fd_close(o->fd);
}

/* One that is not there yet, or does not even die, is left to the keeper. */
static void on_alarm(struct alarm *a)
{
	struct opener *o = container_of(a, struct opener, alarm);

	if (o->state == OPENER_ASKING && process_signal(&o->process, SIGKILL) == 0)
		opener_answer(o, NULL);
	else
		opener_give_up(o);
}

static void on_started(struct process *p)
{
	(void)p;
}

static void on_failed(struct process *p, uint32_t stage, int error)
{
	(void)stage, (void)error;
	opener_give_up(container_of(p, struct opener, process));
}

/* Its answer may still be unread. */
static void on_exited(struct process *p, const struct link_exited *e)
{
	struct opener *o = container_of(p, struct opener, process);

	(void)e;
	if (o->state == OPENER_ASKING)
		opener_receive(o);
	opener_give_up(o);
}

static void on_released(struct process *p, uint32_t hold)
{
	(void)p, (void)hold;
}

static const struct process_events process_events = {
	.started = on_started,
	.failed = on_failed,
	.exited = on_exited,
	.released = on_released,
};

/* --- its beginning --------------------------------------------------------------------------- */

static void record_identity(struct spawn_record *record, const struct identity *i)
{
	if (!i->is_other)
		return;
	record->head.flags |= LINK_SPAWN_IDS;
	record->head.uid = i->uid;
	record->head.gid = i->gid;
	for (unsigned n = 0; n < i->n_groups; n++)
		spawn_record_group(record, i->groups[n]);
}

static int opener_record(struct opener *o, const struct identity *identity, int take_fd)
{
	const char *path = o->broker->helper_path;
	struct spawn_record record;
	uint8_t *data;
	size_t size;
	uint32_t source;
	int memfd, r;

	r = process_add_child_fd(&o->process, take_fd, &source);
	if (r)
		return err_begin(-EMFILE);
	spawn_record_init(&record);
	record.head.flags = LINK_SPAWN_SETSID;
	spawn_record_candidates(&record, path, strlen(path) + 1, 1);
	spawn_record_argument(&record, "redd-helper", strlen("redd-helper"));
	spawn_record_argument(&record, "opener", strlen("opener"));
	spawn_record_descriptor(&record, 0, source);
	spawn_record_descriptor(&record, 1, LINK_SOURCE_NULL);
	spawn_record_descriptor(&record, 2, LINK_SOURCE_NULL);
	spawn_record_directory(&record, "/", 1);
	record_identity(&record, identity);
	r = spawn_record_seal(&record, (uint32_t)o->process.n_child_fds, &data, &size, &memfd);
	spawn_record_deinit(&record);
	if (r < 0)
		return err_pass(r);
	process_start(&o->process, data, size, memfd);
	return 0;
}

static int put_requests(const struct opener *o, const struct opener_order *order)
{
	struct iovec iov = { (void *)order->requests, order->n * sizeof(order->requests[0]) };
	ssize_t n = fdpass_send(o->fd, &iov, 1, order->pidfds, order->n_pidfds, MSG_DONTWAIT);

	return n < 0 ? err_begin((int)n) : 0;
}

static int opener_open(struct opener *o, const struct opener_order *order)
{
	int pair[2], r;

	if (process_init_internal(&o->process, &o->broker->helper, &process_events))
		return err_begin(-EAGAIN);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno();
	o->fd = pair[0];
	r = fd_is_high(o->fd, DESCRIPTOR_RESERVE) && !order->may_use_reserve ? err_begin(-EMFILE)
									     : 0;
	if (r == 0)
		r = put_requests(o, order);
	if (r < 0) {
		fd_close(pair[1]);
		return err_pass(r);
	}
	r = opener_record(o, order->identity, pair[1]);
	if (r < 0)
		return err_pass(r);
	r = alarm_set(&o->broker->alarms, &o->alarm, order->timeout_ms);
	if (r < 0)
		return err_pass(r);
	r = uv_poll_init(&o->broker->loop, &o->poll, o->fd);
	return r < 0 ? err_begin(r) : 0;
}

static void opener_drop(struct opener *o)
{
	alarm_stop(&o->broker->alarms, &o->alarm);
	process_deinit(&o->process);
	fd_close(o->fd);
	free(o);
}

int opener_send_out(struct opener **ret, struct broker *b, const struct opener_order *order)
{
	struct opener *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return err_begin(-ENOMEM);
	o->broker = b;
	o->events = order->events;
	o->context = order->context;
	o->n = order->n;
	o->fd = -1;
	alarm_init(&o->alarm, on_alarm);
	r = opener_open(o, order);
	if (r < 0) {
		opener_drop(o);
		return err_pass(r);
	}
	o->poll.data = o;
	uv_poll_start(&o->poll, UV_READABLE, on_reply);
	*ret = o;
	return 0;
}
