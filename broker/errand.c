/* An errand is an opener sent out: a process like any other to keeper and forker, with a seqpacket
 * socket as descriptor 0. The request is put into the socket before the process is there; the
 * answer is read when it comes, or OPENER_TIMEOUT_MS are over and the opener is killed.
 *
 *	WAITING --its turn--> ASKING --answer, or none any more--> ANSWERED --its exit--> OVER
 *
 * While it waits for its turn it is memory and nothing else.
 *
 * A tree is stopped before it is killed, so an opener that ends in between (it took too long, or
 * somebody killed it) would leave it standing still for ever: a kill without an answer is an errand
 * again, up to OPENER_TRIES of them, each with twice the time of the one before. Whoever waits is
 * told of the first answer, or after OPENER_TRIES_AWAITED that there is none; the port may have
 * gone meanwhile.
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
#include "proto/base/log.h"

#define EXIT_MS	     1000 /* that an opener may take to end when it has answered or was killed */
#define LEADER_PIDFD 3	  /* of an opener that looks for a tree */

enum errand_state { ERRAND_WAITING, ERRAND_ASKING, ERRAND_ANSWERED, ERRAND_OVER };

/* As whom the opener runs. */
struct identity {
	bool is_other;
	uid_t uid;
	gid_t gid;
	uint32_t groups[64];
	unsigned n_groups;
};

struct errand {
	struct process process;
	enum errand_state state;
	struct broker *broker;
	struct list link; /* of the broker's errands */
	struct errand_ticket ticket;
	struct port *port;	    /* NULL: it has gone */
	struct list port_link;	    /* of the port's */
	struct quota_charge charge; /* of one that was asked for */
	struct opener_request request;
	struct identity identity;
	unsigned n_tries; /* before this one */
	bool is_answered, is_given_up;
	struct alarm alarm;
	uv_poll_t poll;
	int fd;
	errand_done done; /* NULL: nobody waits for it, or any more */
	void *context;
	struct errand **handle; /* of who waits */
};

/* --- its beginning ---------------------------------------------------------------------------- */

static void on_alarm(struct alarm *a);

static struct errand *errand_new(struct broker *b, struct port *p, struct quota_account *account,
				 enum errand_kind kind, const struct opener_request *request)
{
	struct errand *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->broker = b;
	o->fd = -1;
	o->request = *request;
	o->port = p;
	alarm_init(&o->alarm, on_alarm);
	errand_ticket_init(&o->ticket, kind, account);
	list_init(&o->port_link);
	if (p)
		list_append(&p->errands, &o->port_link);
	list_append(&b->errands, &o->link);
	b->n_errands++;
	return o;
}

static bool is_kill(const struct errand *o)
{
	return o->request.verb == OPENER_TREE && o->request.signal == SIGKILL;
}

static void errand_tell(struct errand *o, const struct opener_reply *reply)
{
	errand_done done = TAKE(o->done);

	o->handle = NULL;
	if (done)
		done(o->context, reply);
}

static struct errand *errand_next_try(struct errand *o)
{
	struct errand *next;

	if (o->n_tries + 1 == OPENER_TRIES)
		return NULL;
	next = errand_new(o->broker, o->port, o->ticket.account,
			  o->done ? o->ticket.kind : ERRAND_AGAIN, &o->request);
	if (!next)
		return NULL;
	next->n_tries = o->n_tries + 1;
	next->identity = o->identity;
	next->context = o->context;
	next->handle = TAKE(o->handle);
	next->done = TAKE(o->done);
	if (next->done)
		*next->handle = next;
	quota_charge_move(&next->charge, &o->charge);
	return next;
}

/* It waits first, as what was in the way may be still. */
static void errand_repeat(struct errand *o)
{
	struct errand *next;

	if (o->n_tries + 1 == OPENER_TRIES_AWAITED)
		errand_tell(o, NULL);
	next = errand_next_try(o);
	if (!next)
		log_error("what process %d became cannot be killed as a tree: some of it may be "
			  "left, and stopped",
			  (int)o->request.leader);
	else if (alarm_set(&o->broker->alarms, &next->alarm, OPENER_AGAIN_MS << o->n_tries) < 0)
		errand_turns_wait(&o->broker->errand_turns, &next->ticket);
}

static bool is_right(const struct opener_reply *reply, ssize_t size)
{
	return size == (ssize_t)sizeof(*reply) && reply->n_pids <= SCAN_SURVIVORS_MAX;
}

/* One that was given up may have answered at the last moment. */
static void errand_look_once_more(struct errand *o)
{
	struct opener_reply reply;
	ssize_t n = o->fd < 0 ? -1 : recv(o->fd, &reply, sizeof(reply), MSG_DONTWAIT);

	o->is_answered = n > 0 && is_right(&reply, n);
	if (o->is_answered)
		errand_tell(o, &reply);
}

/* It is over: nobody comes back any more. */
static void errand_conclude(struct errand *o)
{
	bool is_due = is_kill(o) && !o->is_given_up;

	if (is_due && !o->is_answered)
		errand_look_once_more(o);
	if (is_due && !o->is_answered)
		errand_repeat(o);
	errand_tell(o, NULL); /* who still waits */
}

/* --- its end --------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* The good answer, or NULL: it may come back without one now. */
static void errand_answer(struct errand *o, const struct opener_reply *reply)
{
	if (o->state != ERRAND_ASKING)
		return;
	o->state = ERRAND_ANSWERED;
	uv_poll_stop(&o->poll);
	if (alarm_set(&o->broker->alarms, &o->alarm, EXIT_MS) < 0)
		process_signal(&o->process, SIGKILL); /* then it ends without it */
	o->is_answered = reply != NULL;
	if (o->is_answered || !is_kill(o))
		errand_tell(o, reply);
}

static void errand_let_go(struct errand *o)
{
	list_remove(&o->link);
	list_remove(&o->port_link);
	o->broker->n_errands--;
	quota_charge_return(&o->charge);
	errand_ticket_deinit(&o->ticket);
}

static void errand_close(struct errand *o)
{
	if (o->state == ERRAND_OVER)
		return;
	errand_answer(o, NULL);
	o->state = ERRAND_OVER;
	alarm_stop(&o->broker->alarms, &o->alarm);
	errand_turns_count(&o->broker->errand_turns, &o->ticket, -1);
	errand_conclude(o);
	errand_let_go(o);
	process_deinit(&o->process);
	uv_close((uv_handle_t *)&o->poll, on_closed);
	o->fd = fd_close(o->fd);
}

/* It was never out. */
static void errand_drop(struct errand *o)
{
	alarm_stop(&o->broker->alarms, &o->alarm);
	errand_turns_leave(&o->broker->errand_turns, &o->ticket);
	errand_let_go(o);
	free(o);
}

/* Takes the answer if it is there. */
static void errand_receive(struct errand *o)
{
	struct opener_reply reply;
	ssize_t n = recv(o->fd, &reply, sizeof(reply), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	errand_answer(o, is_right(&reply, n) ? &reply : NULL);
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

	if (o->state == ERRAND_WAITING)
		errand_turns_wait(&o->broker->errand_turns, &o->ticket); /* once more */
	else if (o->state == ERRAND_ASKING && process_signal(&o->process, SIGKILL) == 0)
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

static int errand_record(struct errand *o, int take_fd)
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
	if (o->request.verb == OPENER_TREE && o->port)
		record_leader(o, &record, o->port->process.pidfd);
	spawn_record_directory(&record, "/", 1);
	record_identity(&record, &o->identity);
	r = spawn_record_seal(&record, (uint32_t)o->process.n_child_fds, &data, &size, &memfd);
	spawn_record_deinit(&record);
	if (r < 0)
		return err_pass(r);
	process_start(&o->process, data, size, memfd);
	return 0;
}

/* All others leave some to what is due. */
static bool is_scarce(const struct errand *o)
{
	return o->ticket.kind != ERRAND_DUE && fd_is_high(o->fd, DESCRIPTOR_RESERVE);
}

static int errand_open(struct errand *o)
{
	int pair[2], r;

	if (process_init_internal(&o->process, &o->broker->helper, &errand_process_events))
		return err_begin(-EAGAIN);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno();
	o->fd = pair[0];
	if (is_scarce(o)) {
		fd_close(pair[1]);
		return err_begin(-EMFILE);
	}
	if (send(o->fd, &o->request, sizeof(o->request), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		fd_close(pair[1]);
		return err_errno();
	}
	r = errand_record(o, pair[1]);
	if (r < 0)
		return err_pass(r);
	r = alarm_set(&o->broker->alarms, &o->alarm, (uint64_t)OPENER_TIMEOUT_MS << o->n_tries);
	if (r < 0)
		return err_pass(r);
	r = uv_poll_init(&o->broker->loop, &o->poll, o->fd);
	return r < 0 ? err_begin(r) : 0;
}

/* --- sending them out ------------------------------------------------------------------------ */

static void errand_fail(struct errand *o)
{
	alarm_stop(&o->broker->alarms, &o->alarm);
	process_deinit(&o->process);
	o->fd = fd_close(o->fd);
	errand_conclude(o);
	errand_let_go(o);
	free(o);
}

void errand_send_out(struct errand_ticket *ticket)
{
	struct errand *o = container_of(ticket, struct errand, ticket);

	if (errand_open(o) < 0) {
		errand_fail(o);
		return;
	}
	o->state = ERRAND_ASKING;
	errand_turns_count(&o->broker->errand_turns, &o->ticket, 1);
	o->poll.data = o;
	uv_poll_start(&o->poll, UV_READABLE, on_reply);
}

static void copy_identity(struct identity *i, const struct port_options *options)
{
	i->is_other = options->is_other_identity;
	i->uid = options->uid;
	i->gid = options->gid;
	i->n_groups = options->n_groups;
	memcpy(i->groups, options->groups, options->n_groups * sizeof(i->groups[0]));
}

int errand_start(struct port *p, struct quota_account *asker, const struct opener_request *request,
		 errand_done done, void *context, struct errand **ret)
{
	struct errand *o = errand_new(p->broker, p, asker ? asker : port_account(p),
				      asker ? ERRAND_ASKED : ERRAND_DUE, request);

	if (!o)
		return err_begin(-ENOMEM);
	copy_identity(&o->identity, &p->options);
	o->done = done;
	o->context = context;
	o->handle = ret;
	errand_turns_wait(&o->broker->errand_turns, &o->ticket);
	*ret = o;
	return 0;
}

int errand_ask(struct port *p, struct quota_account *asker, const struct opener_request *request,
	       errand_done done, void *context, struct errand **ret, const char **ret_reason)
{
	struct quota_charge charge = QUOTA_CHARGE_INIT;
	int r;

	if (quota_charge_take(&charge, asker, QUOTA_ERRANDS, 1, ret_reason))
		return ERRAND_E_QUOTA;
	r = errand_start(p, asker, request, done, context, ret);
	if (r < 0)
		quota_charge_return(&charge);
	else
		quota_charge_move(&(*ret)->charge, &charge);
	return err_pass(r);
}

void errand_cancel(struct errand *o)
{
	o->done = NULL;
	o->handle = NULL;
}

void errands_leave_port(struct port *p)
{
	struct errand *o;

	while ((o = list_first(&p->errands, struct errand, port_link))) {
		list_remove(&o->port_link);
		o->port = NULL;
	}
}

bool errands_are_over(const struct broker *b)
{
	struct errand *o;

	list_for_each (o, &b->errands, link)
		if (!o->n_tries)
			return false;
	return true;
}

void errands_free(struct broker *b)
{
	struct errand *o, *next;

	list_for_each_safe (o, next, &b->errands, link) {
		o->done = NULL;
		o->is_given_up = true;
		if (o->state == ERRAND_WAITING)
			errand_drop(o);
		else
			errand_close(o);
	}
	errand_turns_deinit(&b->errand_turns);
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
