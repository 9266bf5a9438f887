/* An errand is an opener sent out: a process like any other to keeper and forker, with a seqpacket
 * socket as descriptor 0. The request is put into the socket before the process is there; the
 * answer is read when it comes, or OPENER_TIMEOUT_MS are over and the opener is killed.
 *
 *	WAITING --its turn--> ASKING --answer, or none any more--> ANSWERED --its exit--> OVER
 *
 * While it waits it is memory and nothing else. A line has its place among its user's, and the user
 * on the queue of the kind, while they have one that waits and not as many out as may be. A job of
 * the loop's turns takes from the queues.
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
#include "broker/conn.h"
#include "broker/port.h"
#include "broker/spawn_record.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

#define EXIT_MS	     1000 /* that an opener may take to end when it has answered or was killed */
#define LEADER_PIDFD 3	  /* of an opener that looks for a tree */

enum errand_state { ERRAND_WAITING, ERRAND_ASKING, ERRAND_ANSWERED, ERRAND_OVER };

struct errand {
	struct process process;
	enum errand_state state;
	enum errand_kind kind;
	struct broker *broker;
	struct list link;	       /* of the broker's errands */
	struct list wait_link;	       /* of its line's */
	struct port *port;	       /* NULL: it has gone */
	struct list port_link;	       /* of the port's */
	struct quota_account *account; /* in whose name; a reference */
	struct quota_charge charge;    /* of one that was asked for */
	struct opener_request request;
	bool is_other_identity;
	uid_t uid;
	gid_t gid;
	uint32_t groups[64];
	unsigned n_groups;
	struct alarm alarm;
	uv_poll_t poll;
	int fd;
	errand_done done;
	void *context;
};

/* --- whose turn it is ------------------------------------------------------------------------ */

static const struct {
	unsigned all, user, line;
} most_out[] = {
	[ERRAND_ASKED] = { ERRANDS_ASKED_OUT, ERRANDS_ASKED_OUT_PER_UID,
			   ERRANDS_ASKED_OUT_PER_CONN },
	[ERRAND_DUE] = { ERRANDS_DUE_OUT, ERRANDS_DUE_OUT_PER_UID, ERRANDS_DUE_OUT_PER_UID },
};

void errand_share_init(struct errand_share *s)
{
	for (int i = 0; i < ERRAND_KINDS; i++) {
		s->lines[i] = (struct errand_line){ 0 };
		list_init(&s->lines[i].link);
		list_init(&s->lines[i].waiting);
		s->users[i] = (struct errand_user){ 0 };
		fair_item_init(&s->users[i].item);
		list_init(&s->users[i].lines);
	}
}

static struct errand_line *line_of(const struct errand *o)
{
	return &quota_errand_share(o->account)->lines[o->kind];
}

static struct errand_user *user_of(const struct errand *o)
{
	return &quota_errand_share(quota_account_below(o->account))->users[o->kind];
}

/* Its line on its user's list, and that on the queue, or not, as it is. */
static void errand_look(struct errand *o)
{
	struct errand_turns *t = &o->broker->errand_turns;
	struct errand_user *u = user_of(o);
	struct errand_line *line = line_of(o);

	if (list_is_empty(&line->waiting) || line->n_out >= most_out[o->kind].line)
		list_remove(&line->link);
	else if (!list_is_linked(&line->link))
		list_append(&u->lines, &line->link);
	if (list_is_empty(&u->lines) || u->n_out >= most_out[o->kind].user)
		fair_remove(&u->item);
	else
		fair_add(&t->queues[o->kind], &t->groups[o->kind], &u->item);
	turn_work(&o->broker->turn, &t->job);
}

/* It is out, or back. */
static void errand_count_out(struct errand *o, int change)
{
	o->broker->errand_turns.n_out[o->kind] += (unsigned)change;
	user_of(o)->n_out += (unsigned)change;
	line_of(o)->n_out += (unsigned)change;
	errand_look(o);
}

static void errand_wait(struct errand *o)
{
	list_append(&line_of(o)->waiting, &o->wait_link);
	errand_look(o);
}

static void errand_wait_no_more(struct errand *o)
{
	list_remove(&o->wait_link);
	errand_look(o);
}

/* --- its end --------------------------------------------------------------------------------- */

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

static void errand_let_go(struct errand *o)
{
	list_remove(&o->link);
	list_remove(&o->port_link);
	o->broker->errand_turns.n--;
	quota_charge_return(&o->charge);
	o->account = quota_account_unref(o->account);
}

static void errand_close(struct errand *o)
{
	if (o->state == ERRAND_OVER)
		return;
	errand_answer(o, NULL);
	o->state = ERRAND_OVER;
	alarm_stop(&o->broker->alarms, &o->alarm);
	errand_count_out(o, -1);
	errand_let_go(o);
	process_deinit(&o->process);
	uv_close((uv_handle_t *)&o->poll, on_closed);
	o->fd = fd_close(o->fd);
}

/* It was never out. */
static void errand_drop(struct errand *o)
{
	errand_wait_no_more(o);
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

static void record_identity(struct spawn_record *record, const struct errand *o)
{
	if (!o->is_other_identity)
		return;
	record->head.flags |= LINK_SPAWN_IDS;
	record->head.uid = o->uid;
	record->head.gid = o->gid;
	for (unsigned i = 0; i < o->n_groups; i++)
		spawn_record_group(record, o->groups[i]);
}

static void copy_identity(struct errand *o, const struct port_options *identity)
{
	o->is_other_identity = identity->is_other_identity;
	o->uid = identity->uid;
	o->gid = identity->gid;
	o->n_groups = identity->n_groups;
	memcpy(o->groups, identity->groups, identity->n_groups * sizeof(o->groups[0]));
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
	record_identity(&record, o);
	r = spawn_record_seal(&record, (uint32_t)o->process.n_child_fds, &data, &size, &memfd);
	spawn_record_deinit(&record);
	if (r < 0)
		return err_pass(r);
	process_start(&o->process, data, size, memfd);
	return 0;
}

/* What clients ask for leaves some to what is due. */
static bool is_scarce(const struct errand *o)
{
	return o->kind == ERRAND_ASKED && fd_is_high(o->fd, DESCRIPTOR_RESERVE);
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
	r = alarm_set(&o->broker->alarms, &o->alarm, OPENER_TIMEOUT_MS);
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
	fd_close(o->fd);
	if (o->done)
		o->done(o->context, NULL);
	errand_let_go(o);
	free(o);
}

static void errand_send_out(struct errand *o)
{
	errand_wait_no_more(o);
	if (errand_open(o) < 0) {
		errand_fail(o);
		return;
	}
	o->state = ERRAND_ASKING;
	errand_count_out(o, 1);
	o->poll.data = o;
	uv_poll_start(&o->poll, UV_READABLE, on_reply);
}

/* The first of the user's lines, which is the last then. */
static struct errand *user_next(struct errand_user *u)
{
	struct errand_line *line = list_first(&u->lines, struct errand_line, link);

	list_remove(&line->link);
	list_append(&u->lines, &line->link);
	return list_first(&line->waiting, struct errand, wait_link);
}

static bool errands_run_one(struct errand_turns *t, enum errand_kind kind)
{
	struct fair_item *i;

	if (t->n_out[kind] >= most_out[kind].all)
		return false;
	i = fair_first(&t->queues[kind]);
	if (!i)
		return false;
	fair_spend(i, 1);
	errand_send_out(user_next(container_of(i, struct errand_user, item)));
	return true;
}

static void on_run(struct job *job)
{
	struct errand_turns *t = container_of(job, struct errand_turns, job);
	struct broker *b = container_of(t, struct broker, errand_turns);

	for (unsigned i = 0; i < ERRANDS_A_TURN; i++) {
		bool due = errands_run_one(t, ERRAND_DUE), asked = errands_run_one(t, ERRAND_ASKED);

		if (!due && !asked)
			return;
	}
	turn_work(&b->turn, job);
}

void errand_turns_init(struct errand_turns *t)
{
	*t = (struct errand_turns){ 0 };
	for (int i = 0; i < ERRAND_KINDS; i++) {
		fair_queue_init(&t->queues[i], 1);
		fair_group_init(&t->groups[i]);
	}
	job_init(&t->job, on_run);
}

static struct errand *errand_new(struct port *p, struct conn *asker,
				 const struct opener_request *request, errand_done done,
				 void *context)
{
	struct errand *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->kind = asker ? ERRAND_ASKED : ERRAND_DUE;
	o->broker = p->broker;
	o->fd = -1;
	o->done = done;
	o->context = context;
	o->request = *request;
	o->account = quota_account_ref(asker ? asker->account : port_account(p));
	o->port = p;
	copy_identity(o, &p->options);
	alarm_init(&o->alarm, on_alarm);
	list_init(&o->wait_link);
	list_append(&p->errands, &o->port_link);
	list_append(&p->broker->errands, &o->link);
	p->broker->errand_turns.n++;
	return o;
}

int errand_start(struct port *p, struct conn *asker, const struct opener_request *request,
		 errand_done done, void *context, struct errand **ret)
{
	struct errand *o = errand_new(p, asker, request, done, context);

	if (!o)
		return err_begin(-ENOMEM);
	errand_wait(o);
	*ret = o;
	return 0;
}

int errand_ask(struct port *p, struct conn *asker, const struct opener_request *request,
	       errand_done done, void *context, struct errand **ret, const char **ret_reason)
{
	struct quota_charge charge = QUOTA_CHARGE_INIT;
	int r;

	if (quota_charge_take(&charge, asker->account, QUOTA_ERRANDS, 1, ret_reason))
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
}

void errands_leave_port(struct port *p)
{
	struct errand *o;

	while ((o = list_first(&p->errands, struct errand, port_link))) {
		list_remove(&o->port_link);
		o->port = NULL;
	}
}

void errands_free(struct broker *b)
{
	struct errand *o, *next;

	list_for_each_safe (o, next, &b->errands, link) {
		o->done = NULL;
		if (o->state == ERRAND_WAITING)
			errand_drop(o);
		else
			errand_close(o);
	}
	job_cancel(&b->errand_turns.job);
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
