/* An errand is an opener sent out: a process like any other to keeper and forker, with a seqpacket
 * socket as descriptor 0. The request is put into the socket before the process is there; the
 *answer is read when it comes, or OPENER_TIMEOUT_MS are over and the opener is killed.
 *
 *	ASKING --answer, or none any more--> ANSWERED --its exit--> OVER
 *
 * So while there are errands there are openers: a service that ends waits for them.
 */
#include "broker/errand.h"

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

#define EXIT_MS	     1000 /* that an opener may take to end when it has answered or was killed */
#define LEADER_PIDFD 3	  /* of an opener that looks for a tree */

enum errand_state { ERRAND_ASKING, ERRAND_ANSWERED, ERRAND_OVER };

struct errand {
	struct process process;
	enum errand_state state;
	struct broker *broker;
	struct list link; /* of the broker's errands */
	struct alarm alarm;
	uv_poll_t poll;
	int fd;
	errand_done done;
	void *context;
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void errand_answer(struct errand *o, const struct opener_reply *reply)
{
	if (o->state != ERRAND_ASKING)
		return;
	o->state = ERRAND_ANSWERED;
	uv_poll_stop(&o->poll);
	if (alarm_set(&o->broker->alarms, &o->alarm, EXIT_MS) < 0)
		process_signal(&o->process, SIGKILL); /* then it ends without it */
	if (o->done)
		o->done(o->context, reply);
}

static void errand_close(struct errand *o)
{
	if (o->state == ERRAND_OVER)
		return;
	errand_answer(o, NULL);
	o->state = ERRAND_OVER;
	alarm_stop(&o->broker->alarms, &o->alarm);
	list_remove(&o->link);
	process_deinit(&o->process);
	uv_close((uv_handle_t *)&o->poll, on_closed);
	o->fd = fd_close(o->fd);
}

/* Takes the answer if it is there. */
static void errand_receive(struct errand *o)
{
	struct opener_reply reply;
	ssize_t n = recv(o->fd, &reply, sizeof(reply), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	errand_answer(o, n == (ssize_t)sizeof(reply) && reply.n_pids <= SCAN_SURVIVORS_MAX ? &reply
											   : NULL);
}

static void on_reply(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events; /* receiving tells what is wrong */
	errand_receive(poll->data);
}

/* One that is not there yet, or does not even die, is left to the keeper. */
static void on_alarm(struct alarm *a)
{
	struct errand *o = container_of(a, struct errand, alarm);

	if (o->state == ERRAND_ASKING && process_signal(&o->process, SIGKILL) == 0)
		errand_answer(o, NULL);
	else
		errand_close(o);
}

static void on_started(struct process *p)
{
	(void)p;
}

static void on_failed(struct process *p, uint32_t stage, int error)
{
	(void)stage, (void)error;
	errand_close(container_of(p, struct errand, process));
}

/* Its answer may still be unread. */
static void on_exited(struct process *p, const struct link_exited *e)
{
	struct errand *o = container_of(p, struct errand, process);

	(void)e;
	if (o->state == ERRAND_ASKING)
		errand_receive(o);
	errand_close(o);
}

static void on_released(struct process *p, uint32_t hold)
{
	(void)p, (void)hold;
}

static const struct process_events errand_process_events = {
	.started = on_started,
	.failed = on_failed,
	.exited = on_exited,
	.released = on_released,
};

static void record_identity(struct spawn_record *record, const struct port_options *identity)
{
	if (!identity->is_other_identity)
		return;
	record->head.flags |= LINK_SPAWN_IDS;
	record->head.uid = identity->uid;
	record->head.gid = identity->gid;
	for (unsigned i = 0; i < identity->n_groups; i++)
		spawn_record_group(record, identity->groups[i]);
}

/* The opener gets a duplicate; without one it can still find the tree by other signs. */
static void record_leader(struct errand *o, struct spawn_record *record, int pidfd)
{
	uint32_t source;
	int copy;

	if (pidfd < 0 || fd_dup(pidfd, &copy) < 0)
		return;
	if (!process_add_child_fd(&o->process, copy, &source))
		spawn_record_descriptor(record, LEADER_PIDFD, source);
}

static int errand_record(struct errand *o, const struct port *p, uint32_t verb, int take_fd)
{
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
	spawn_record_candidates(&record, o->broker->helper_path, strlen(o->broker->helper_path) + 1,
				1);
	spawn_record_argument(&record, "redd-helper", strlen("redd-helper"));
	spawn_record_argument(&record, "opener", strlen("opener"));
	spawn_record_descriptor(&record, 0, source);
	spawn_record_descriptor(&record, 1, LINK_SOURCE_NULL);
	spawn_record_descriptor(&record, 2, LINK_SOURCE_NULL);
	if (verb == OPENER_TREE)
		record_leader(o, &record, p->process.pidfd);
	spawn_record_directory(&record, "/", 1);
	record_identity(&record, &p->options);
	r = spawn_record_seal(&record, (uint32_t)o->process.n_child_fds, &data, &size, &memfd);
	spawn_record_deinit(&record);
	if (r < 0)
		return err_pass(r);
	process_start(&o->process, data, size, memfd);
	return 0;
}

static int errand_open(struct errand *o, const struct port *p, const struct opener_request *request)
{
	int pair[2], r;

	if (process_init_internal(&o->process, &o->broker->helper, &errand_process_events))
		return err_begin(-EAGAIN);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno();
	o->fd = pair[0];
	if (send(o->fd, request, sizeof(*request), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		fd_close(pair[1]);
		return err_errno();
	}
	r = errand_record(o, p, request->verb, pair[1]);
	if (r < 0)
		return err_pass(r);
	r = alarm_set(&o->broker->alarms, &o->alarm, OPENER_TIMEOUT_MS);
	if (r < 0)
		return err_pass(r);
	r = uv_poll_init(&o->broker->loop, &o->poll, o->fd);
	return r < 0 ? err_begin(r) : 0;
}

int errand_start(const struct port *p, const struct opener_request *request, errand_done done,
		 void *context, struct errand **ret)
{
	struct errand *o = calloc(1, sizeof(*o));
	struct broker *b = p->broker;
	int r;

	if (!o)
		return err_begin(-ENOMEM);
	o->broker = b;
	o->fd = -1;
	o->done = done;
	o->context = context;
	alarm_init(&o->alarm, on_alarm);
	r = errand_open(o, p, request);
	if (r < 0) {
		alarm_stop(&b->alarms, &o->alarm);
		process_deinit(&o->process);
		fd_close(o->fd);
		free(o);
		return err_pass(r);
	}
	o->poll.data = o;
	uv_poll_start(&o->poll, UV_READABLE, on_reply);
	list_append(&b->errands, &o->link);
	*ret = o;
	return 0;
}

void errand_cancel(struct errand *o)
{
	o->done = NULL;
}

void errands_free(struct broker *b)
{
	struct errand *o, *next;

	list_for_each_safe (o, next, &b->errands, link) {
		o->done = NULL;
		errand_close(o);
	}
}

static void request_blank(const struct broker *b, uint32_t verb, struct opener_request *ret)
{
	*ret = (struct opener_request){ .verb = verb };
	ret->exclude[0] = b->keeper_pid;
	ret->exclude[1] = getpid();
}

void errand_tree_request(const struct port *p, int signal, struct opener_request *ret)
{
	request_blank(p->broker, OPENER_TREE, ret);
	ret->signal = signal;
	ret->leader = p->process.pid;
	broker_mark(p->broker, p->id, ret->mark);
}

void errand_holders_request(const struct port *p, struct opener_request *ret)
{
	request_blank(p->broker, OPENER_HOLDERS, ret);
}
