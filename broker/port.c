/* Owns its streams, process and alarms. What happens comes from three sides: the process (started,
 * failed, exited), the streams (moved, ended, closed) and the alarms; what may have been the last
 * thing calls port_check(), the only place that moves a port on to ENDED and away.
 */
#include "broker/port.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "broker/broker.h"
#include "broker/errand.h"
#include "broker/record.h"
#include "broker/session.h"
#include "broker/subscription.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

static const char *const state_names[] = {
	[PORT_STARTING] = "starting", [PORT_RUNNING] = "running", [PORT_DRAINING] = "draining",
	[PORT_ENDED] = "ended",	      [PORT_GONE] = "gone",
};

static const unsigned state_moves[] = {
	[PORT_STARTING] = 1u << PORT_RUNNING | 1u << PORT_GONE,
	[PORT_RUNNING] = 1u << PORT_DRAINING | 1u << PORT_GONE,
	[PORT_DRAINING] = 1u << PORT_ENDED | 1u << PORT_GONE,
	[PORT_ENDED] = 1u << PORT_GONE,
	[PORT_GONE] = 0,
};

const char *port_state_name(enum port_state state)
{
	return state_names[state];
}

void port_set_state(struct port *p, enum port_state state)
{
	if (!(state_moves[p->state] & 1u << state))
		log_error("port %llu: %s -> %s is no legal move", (unsigned long long)p->id,
			  state_names[p->state], state_names[state]);
	p->state = state;
}

/* --- life ------------------------------------------------------------------------------------ */

static void on_phase(struct alarm *a);
static void on_orphan(struct alarm *a);
static const struct process_events port_process_events;

void port_options_deinit(struct port_options *o)
{
	o->labels = labels_unref(o->labels);
	free(TAKE(o->program));
	free(TAKE(o->directory));
	string_block_deinit(&o->arguments);
}

static void port_blank(struct port *p, struct broker *b, const struct principal *owner,
		       struct quota_account *account)
{
	p->broker = b;
	p->events = b->port_events;
	p->owner = *owner;
	p->record = PORT_NO_RECORD;
	p->account = quota_account_ref(account);
	list_init(&p->session_link);
	list_init(&p->name_link);
	list_init(&p->token_link);
	list_init(&p->ended_link);
	list_init(&p->subscriptions);
	list_init(&p->pendings);
	alarm_init(&p->phase, on_phase);
	alarm_init(&p->orphan, on_orphan);
}

int port_new(struct port **ret, struct broker *b, const struct principal *owner,
	     struct quota_account *account, struct port_options *options, const char **ret_reason)
{
	struct port *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_begin(-ENOMEM);
	port_blank(p, b, owner, account);
	do
		r = quota_charge_take(&p->charge, account, QUOTA_PORTS, 1, ret_reason);
	while (r && port_evict(b, account));
	if (r) {
		port_free(p);
		return PORT_E_QUOTA;
	}
	do
		p->id = port_table_next_id(&b->ports);
	while (!p->id && port_evict(b, NULL));
	if (!p->id || process_init(&p->process, &b->helper, &port_process_events, p->id)) {
		port_free(p);
		return PORT_E_FULL;
	}
	p->options = *options;
	*options = (struct port_options){ 0 };
	port_table_add(&b->ports, p);
	*ret = p;
	return 0;
}

void port_free(struct port *p)
{
	struct broker *b = p->broker;

	if (p->errand)
		errand_cancel(TAKE(p->errand));
	if (p->killer)
		errand_cancel(TAKE(p->killer));
	alarm_stop(&b->alarms, &p->phase);
	alarm_stop(&b->alarms, &p->orphan);
	list_remove(&p->session_link);
	list_remove(&p->ended_link);
	if (p->session)
		session_check(p->session);
	if (p->record != PORT_NO_RECORD)
		records_give(b->records, p->record);
	port_table_remove(&b->ports, p);
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_free(p->streams[i]);
	process_deinit(&p->process);
	quota_charge_return(&p->charge);
	p->account = quota_account_unref(p->account);
	port_options_deinit(&p->options);
	free(p);
}

int port_add_stream(struct port *p, uint32_t number, enum stream_kind kind, int take_fd,
		    struct stream **ret)
{
	int r;

	if (p->n_streams == PORT_STREAMS_MAX) {
		fd_close(take_fd);
		return PORT_E_FULL;
	}
	r = stream_new(ret, p, number, kind, take_fd);
	if (r < 0)
		return err_pass(r);
	p->streams[p->n_streams++] = *ret;
	return 0;
}

struct stream *port_stream(const struct port *p, uint32_t number)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		if (p->streams[i]->number == number)
			return p->streams[i];
	return NULL;
}

bool port_has_terminal(const struct port *p)
{
	return port_stream(p, STREAM_TERMINAL) != NULL;
}

struct stream *port_default_input(const struct port *p)
{
	struct stream *s = port_stream(p, 0);

	if (!s || !s->in.is_there)
		s = port_stream(p, STREAM_TERMINAL);
	return s && s->in.is_there ? s : NULL;
}

struct quota_account *port_account(struct port *p)
{
	return p->account;
}

void port_forget(struct port *p)
{
	struct subscription *s, *next;

	port_set_state(p, PORT_GONE);
	list_for_each_safe (s, next, &p->subscriptions, port_link)
		subscription_leave_port(s);
	p->events->gone(p);
	port_free(p);
}

void port_save(struct port *p)
{
	struct records *records = p->broker->records;

	if (p->state == PORT_STARTING || p->state == PORT_GONE || !records)
		return;
	if (p->record == PORT_NO_RECORD)
		p->record = records_take(records);
	records_save(records, p->record, p);
}

/* --- the process ----------------------------------------------------------------------------- */

static void on_started(struct process *process)
{
	struct port *p = container_of(process, struct port, process);
	bool is_orphaned = p->is_orphaned;

	port_set_state(p, PORT_RUNNING);
	p->exit.start_ns = process->start_ns;
	p->broker->counters.spawned++;
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_start(p->streams[i]);
	if (p->options.timeout_ms)
		alarm_set(&p->broker->alarms, &p->phase, p->options.timeout_ms);
	port_save(p);
	p->events->started(p);
	if (is_orphaned) /* its client went before it was there */
		port_orphan(p);
}

static void on_failed(struct process *process, uint32_t stage, int error)
{
	struct port *p = container_of(process, struct port, process);

	p->broker->counters.failed++;
	p->events->failed(p, stage, error);
	port_forget(p);
}

static void port_set_drain(struct port *p);

static void on_exited(struct process *process, const struct link_exited *e)
{
	struct port *p = container_of(process, struct port, process);

	exit_record_set_link(&p->exit, e);
	p->exit.timed_out = p->timed_out;
	p->has_exited = true;
	p->exited_ms = uv_now(&p->broker->loop);
	p->broker->counters.exited++;
	alarm_stop(&p->broker->alarms, &p->phase);
	port_set_state(p, PORT_DRAINING);
	port_save(p);
	for (unsigned i = 0; i < p->n_streams; i++)
		p->streams[i]->out.active_ms = p->exited_ms;
	p->events->exited(p);
	port_set_drain(p);
	port_check(p);
}

static void on_released(struct process *process, uint32_t hold)
{
	struct port *p = container_of(process, struct port, process);
	struct stream *s = port_stream(p, LINK_HOLD_NUMBER(hold));

	if (s && LINK_HOLD_KIND(hold) == HOLD_INPUT)
		stream_input_released(s);
}

static const struct process_events port_process_events = {
	.started = on_started,
	.failed = on_failed,
	.exited = on_exited,
	.released = on_released,
};

/* --- signals --------------------------------------------------------------------------------- */

int port_signal_leader(struct port *p, int signal)
{
	return p->has_exited ? -ESRCH : process_signal(&p->process, signal);
}

int port_signal_group(struct port *p, int signal)
{
	return process_signal_group(&p->process, signal);
}

void port_signal_tree(struct port *p, int signal)
{
	struct opener_request request;

	errand_tree_request(p, signal, &request);
	if (errand_start(p->broker, &p->options, &request, NULL, NULL, NULL) < 0)
		log_warning("port %llu: its tree cannot be signalled", (unsigned long long)p->id);
}

/* What can be reached without looking around; also where nobody could look. */
static void on_killed(void *context, const struct opener_reply *reply)
{
	struct port *p = context;

	(void)reply;
	p->killer = NULL;
	port_signal_leader(p, SIGKILL);
	port_signal_group(p, SIGKILL);
}

/* The opener goes first: who is left without its parents is harder to find. */
void port_kill_tree(struct port *p)
{
	struct opener_request request;

	if ((p->state != PORT_RUNNING && p->state != PORT_DRAINING) || p->killer)
		return;
	errand_tree_request(p, SIGKILL, &request);
	if (errand_start(p->broker, &p->options, &request, on_killed, p, &p->killer) < 0)
		on_killed(p, NULL);
}

/* --- drain ----------------------------------------------------------------------------------- */

static bool output_is_open(const struct stream *s)
{
	return s->out.is_there && !s->out.is_ended;
}

/* Milliseconds until the drain has to look again; 0: the stream is over now, for *ret_cause. */
static uint64_t drain_wait(struct port *p, struct stream *s, uint64_t now,
			   enum stream_cause *ret_cause)
{
	const struct port_options *o = &p->options;
	uint64_t wait = UINT64_MAX, since = now - p->exited_ms, idle;

	if (o->drain_limit_ms != DRAIN_NEVER_MS) {
		*ret_cause = STREAM_LIMIT;
		if (since >= o->drain_limit_ms)
			return 0;
		wait = o->drain_limit_ms - since;
	}
	if (o->drain_ms != DRAIN_NEVER_MS) {
		idle = stream_idle_ms(s, now);
		if (idle >= o->drain_ms) {
			*ret_cause = STREAM_IDLE;
			return 0;
		}
		wait = MIN(wait, o->drain_ms - idle);
	}
	return wait;
}

static void on_holders(void *context, const struct opener_reply *reply)
{
	struct port *p = context;

	p->errand = NULL;
	p->asks_holders = false;
	if (reply) {
		p->n_holders = MIN(reply->n_pids, HOLDERS_MAX);
		memcpy(p->holders, reply->pids, p->n_holders * sizeof(p->holders[0]));
	}
	port_check(p);
}

static void port_ask_holders(struct port *p, struct opener_request *request)
{
	if (!request->n_inodes)
		return;
	p->asks_holders = true;
	if (errand_start(p->broker, &p->options, request, on_holders, p, &p->errand) < 0)
		p->asks_holders = false; /* then Closed names nobody */
}

static void holders_note(struct opener_request *request, const struct stream *s)
{
	struct stat st;

	if (s->kind != STREAM_IS_PIPE || s->fd < 0 || fstat(s->fd, &st) < 0 ||
	    request->n_inodes == ARRAY_SIZE(request->inodes))
		return;
	request->inodes[request->n_inodes].device = st.st_dev;
	request->inodes[request->n_inodes++].inode = st.st_ino;
}

/* Ends what has been idle for long enough, and sets the alarm for the next look. */
static void port_drain(struct port *p)
{
	uint64_t now = uv_now(&p->broker->loop), wait = UINT64_MAX, one;
	struct opener_request request;
	enum stream_cause cause = STREAM_IDLE;

	errand_holders_request(p, &request);
	for (unsigned i = 0; i < p->n_streams; i++) {
		if (!output_is_open(p->streams[i]))
			continue;
		one = drain_wait(p, p->streams[i], now, &cause);
		if (one) {
			wait = MIN(wait, one);
			continue;
		}
		holders_note(&request, p->streams[i]);
		stream_end_output(p->streams[i], cause, 0);
	}
	if (wait != UINT64_MAX)
		alarm_set(&p->broker->alarms, &p->phase, wait);
	port_ask_holders(p, &request);
	port_check(p);
}

static void port_set_drain(struct port *p)
{
	uint64_t wait = MIN(p->options.drain_ms, p->options.drain_limit_ms);

	for (unsigned i = 0; i < p->n_streams; i++)
		if (output_is_open(p->streams[i]) && wait != DRAIN_NEVER_MS) {
			alarm_set(&p->broker->alarms, &p->phase, wait);
			return;
		}
}

void port_abandon(struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++) {
		stream_end_output(p->streams[i], STREAM_BROKER_STOPPED, 0);
		stream_fail_input(p->streams[i], -ECANCELED);
	}
}

/* --- alarms ---------------------------------------------------------------------------------- */

static void port_time_out(struct port *p)
{
	if (p->timed_out) {
		port_kill_tree(p);
		return;
	}
	p->timed_out = true;
	port_signal_leader(p, p->options.timeout_signal);
	port_signal_tree(p, p->options.timeout_signal);
	alarm_set(&p->broker->alarms, &p->phase, p->options.timeout_grace_ms);
}

static void on_phase(struct alarm *a)
{
	struct port *p = container_of(a, struct port, phase);

	if (p->state == PORT_RUNNING)
		port_time_out(p);
	else if (p->state == PORT_DRAINING)
		port_drain(p);
	else
		port_check(p);
}

static void on_orphan(struct alarm *a)
{
	struct port *p = container_of(a, struct port, orphan);

	if (p->is_in_grace) {
		p->is_in_grace = false;
		port_orphan(p);
	} else {
		port_kill_tree(p);
	}
}

void port_orphan(struct port *p)
{
	p->is_orphaned = true;
	if (p->state == PORT_ENDED || p->state == PORT_GONE)
		return;
	switch (p->options.orphan) {
	case PORT_ORPHAN_KEEP:
		return;
	case PORT_ORPHAN_KEEP_FOR:
		alarm_set(&p->broker->alarms, &p->orphan, p->options.orphan_ms);
		return;
	case PORT_ORPHAN_CLOSE_INPUT:
		for (unsigned i = 0; i < p->n_streams; i++)
			if (p->streams[i]->in.is_there &&
			    !input_push_close(&p->streams[i]->in.queue, NULL, NULL))
				stream_write(p->streams[i]);
		return;
	case PORT_ORPHAN_KILL:
		port_kill_tree(p);
		return;
	}
}

/* What is left of a time that began at the start. */
static uint64_t port_time_left(const struct port *p, uint32_t total_ms)
{
	struct timespec now;
	int64_t since_ms;

	clock_gettime(CLOCK_REALTIME, &now);
	since_ms = (now.tv_sec * 1000000000ll + now.tv_nsec - p->exit.start_ns) / 1000000;
	return since_ms < 0 ? total_ms : (uint64_t)MAX((int64_t)total_ms - since_ms, 0);
}

void port_resume(struct port *p, enum port_state state, struct session *session)
{
	struct alarms *alarms = &p->broker->alarms;

	p->state = state; /* not a move: it was there before */
	p->session = session;
	if (session)
		list_append(&session->ports, &p->session_link);
	if (state == PORT_ENDED) {
		list_append(&p->broker->ended_ports, &p->ended_link);
		alarm_set(alarms, &p->phase, p->options.retention_ms);
		port_save(p);
		return;
	}
	p->is_orphaned = true;
	p->is_in_grace = true;
	alarm_set(alarms, &p->orphan, RECONNECT_GRACE_MS);
	p->exited_ms = uv_now(&p->broker->loop);
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_start(p->streams[i]);
	if (state == PORT_DRAINING)
		port_set_drain(p);
	else if (p->options.timeout_ms)
		alarm_set(alarms, &p->phase, port_time_left(p, p->options.timeout_ms));
	port_save(p);
	port_check(p);
}

void port_come_back(struct port *p)
{
	p->is_in_grace = false;
	alarm_stop(&p->broker->alarms, &p->orphan);
	p->is_orphaned = false;
}

/* --- the end --------------------------------------------------------------------------------- */

static bool port_outputs_are_over(const struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		if (output_is_open(p->streams[i]))
			return false;
	return true;
}

static void port_close(struct port *p)
{
	alarm_stop(&p->broker->alarms, &p->phase);
	alarm_stop(&p->broker->alarms, &p->orphan);
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_fail_input(p->streams[i], -EPIPE);
	port_set_state(p, PORT_ENDED);
	port_save(p);
	process_retire(&p->process);
	list_append(&p->broker->ended_ports, &p->ended_link);
	alarm_set(&p->broker->alarms, &p->phase, p->options.retention_ms);
	p->events->closed(p);
}

bool port_evict(struct broker *b, const struct quota_account *account)
{
	struct port *p;

	list_for_each (p, &b->ended_ports, ended_link)
		if ((!account || p->account == account) && !subscriptions_need(p)) {
			port_forget(p);
			return true;
		}
	return false;
}

void port_check(struct port *p)
{
	if (p->state == PORT_DRAINING && port_outputs_are_over(p) && !p->asks_holders)
		port_close(p);
	/* A blocking subscription was promised every byte: the log waits for it. */
	if (p->state == PORT_ENDED && !alarm_is_set(&p->phase) && !subscriptions_need(p))
		port_forget(p);
}
