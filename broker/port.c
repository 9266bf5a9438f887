/* Owns its streams, process and alarms. What happens comes from three sides: the process (started,
 * failed, exited), the streams (moved, ended, closed) and the alarms; what may have been the last
 * thing calls port_check(), the only place that moves a port on to ENDED and away.
 *
 *	port.c           its life, and what a successor of the broker has to know
 *	port_signal.c    signals, and what sends them: time limit, lost owner, shutdown
 *	port_drain.c     from the leader's exit to the end
 */
#include "broker/port.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/broker.h"
#include "broker/errand.h"
#include "broker/holding.h"
#include "broker/record.h"
#include "broker/rights.h"
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
	list_init(&p->marks);
	list_init(&p->pendings);
	list_init(&p->errands);
	port_look_init(&p->look);
	list_init(&p->lease_link);
	lease_init(&p->lease);
	alarm_init(&p->grants_end, rights_on_end);
	alarm_init(&p->lease_end, holding_on_end);
	alarm_init(&p->phase, on_phase);
	alarm_init(&p->timeout, port_on_timeout);
	alarm_init(&p->orphan, port_on_orphan);
}

/* An id of which both places are free: the port table's, and the helper's, where errands have some
 * too. */
static int port_take_id(struct port *p)
{
	for (unsigned i = 0; i < PORTS_MAX; i++) {
		p->id = port_table_next_id(&p->broker->ports);
		if (!p->id)
			break;
		if (!process_init(&p->process, &p->broker->helper, &port_process_events, p->id))
			return 0;
	}
	return PORT_E_FULL;
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
	while (r && port_evict(b, r == QUOTA_E_MEMORY ? NULL : account));
	if (r) {
		port_free(p);
		return PORT_E_QUOTA;
	}
	do
		r = port_take_id(p);
	while (r && port_evict(b, NULL));
	if (r) {
		port_free(p);
		return PORT_E_FULL;
	}
	if (b->records)
		records_set_last_port(b->records, p->id);
	p->options = *options;
	*options = (struct port_options){ 0 };
	port_table_add(&b->ports, p);
	*ret = p;
	return 0;
}

void port_free(struct port *p)
{
	struct broker *b = p->broker;

	errands_leave_port(p);
	if (p->errand)
		errand_cancel(TAKE(p->errand));
	if (p->killer)
		errand_cancel(TAKE(p->killer));
	if (p->signaller)
		errand_cancel(TAKE(p->signaller));
	alarm_stop(&b->alarms, &p->phase);
	alarm_stop(&b->alarms, &p->timeout);
	alarm_stop(&b->alarms, &p->orphan);
	alarm_stop(&b->alarms, &p->grants_end);
	holding_forget(p);
	list_remove(&p->session_link);
	list_remove(&p->ended_link);
	list_remove(&p->look.link);
	if (p->session)
		session_check(p->session);
	if (p->record != PORT_NO_RECORD)
		records_give(b->records, p->record);
	port_table_remove(&b->ports, p);
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_free(p->streams[i]);
	process_deinit(&p->process);
	quota_charge_return(&p->charge);
	quota_charge_return(&p->passed_charge);
	p->account = quota_account_unref(p->account);
	p->grants = grants_unref(p->grants);
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

struct framing port_framing(const struct port *p, uint32_t number)
{
	return number == STDERR_FILENO ? (struct framing){ 0 } : p->options.framing;
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
	struct broker *b = p->broker;
	struct subscription *s, *next;

	port_set_state(p, PORT_GONE);
	list_for_each_safe (s, next, &p->subscriptions, port_link)
		subscription_leave_port(s);
	p->events->gone(p);
	port_free(p);
	broker_check_idle(b);
}

static void port_begin_record(struct port *p)
{
	struct records *records = p->broker->records;
	int r;

	p->record = records_take(records);
	r = records_keep_labels(records, p->record, p->id, p->options.labels);
	if (r < 0)
		log_warning("port %llu: its labels would not outlive this broker: %s",
			    (unsigned long long)p->id, err_string(r));
	r = records_keep_shown(records, p->record, p->id, &p->options);
	if (r < 0)
		log_warning("port %llu: its arguments would not outlive this broker: %s",
			    (unsigned long long)p->id, err_string(r));
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_note_blockers(p->streams[i]);
}

void port_save(struct port *p)
{
	struct records *records = p->broker->records;

	if (p->state == PORT_GONE || !records)
		return;
	if (p->record == PORT_NO_RECORD)
		port_begin_record(p);
	records_save(records, p->record, p);
}

struct record_live *port_live(const struct stream *s)
{
	struct records *records = s->broker->records;

	if (!records || s->port->record == PORT_NO_RECORD)
		return NULL;
	return records_live(records, s->port->record, s);
}

/* --- the process ----------------------------------------------------------------------------- */

void port_run(struct port *p)
{
	port_set_state(p, PORT_RUNNING);
	p->exit.start_ns = p->process.start_ns;
	p->broker->counters.spawned++;
	quota_charge_return(&p->passed_charge);
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_start(p->streams[i]);
	port_begin_timeout(p);
	port_save(p);
	p->events->started(p);
	/* What happened before it was there. */
	if (p->is_orphaned && !p->is_in_grace)
		port_orphan(p);
	if (p->broker->state == BROKER_DRAINING)
		stop_port(p->broker, p);
}

void port_hurry(struct port *p)
{
	if (p->process.line && !spawn_line_is_long(p->process.line))
		yield_to_spawn(&p->broker->yield);
}

static void on_started(struct process *process)
{
	struct port *p = container_of(process, struct port, process);

	port_hurry(p);
	if (port_is_pumped(p))
		pumped_started(p);
	else
		port_run(p);
}

void port_fail(struct port *p, uint32_t stage, int error)
{
	p->broker->counters.failed++;
	p->events->failed(p, stage, error);
	port_forget(p);
}

static void on_failed(struct process *process, uint32_t stage, int error)
{
	port_fail(container_of(process, struct port, process), stage, error);
}

static void on_exited(struct process *process, const struct link_exited *e)
{
	struct port *p = container_of(process, struct port, process);

	if (port_is_pumped(p) && !pumped_was_open(p))
		return;
	exit_record_set_link(&p->exit, e);
	p->exit.timed_out = p->timed_out;
	p->has_exited = true;
	p->exited_ms = uv_now(&p->broker->loop);
	p->broker->counters.exited++;
	port_end_timeout(p);
	port_set_state(p, PORT_DRAINING);
	if (port_is_pumped(p))
		pumped_exited(p);
	port_save(p);
	for (unsigned i = 0; i < p->n_streams; i++) {
		p->streams[i]->out.active_ms = p->exited_ms;
		stream_hurry(p->streams[i]);
	}
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

/* How it ended is kept for a client that lost its connection with an earlier broker, until it has
 * asked, or its session would be over. */
static void port_set_retention(struct port *p)
{
	uint32_t ms = p->options.retention_ms;

	alarm_set(&p->broker->alarms, &p->phase, p->is_awaited ? MAX(ms, RECONNECT_GRACE_MS) : ms);
}

void port_was_asked(struct port *p)
{
	if (!p->is_awaited)
		return;
	p->is_awaited = false;
	if (p->state == PORT_ENDED)
		port_set_retention(p);
}

/* --- a successor's --------------------------------------------------------------------------- */

void port_resume(struct port *p, enum port_state state, struct session *session)
{
	struct alarms *alarms = &p->broker->alarms;

	p->state = state; /* not a move: it was there before */
	p->session = session;
	if (session)
		list_append(&session->ports, &p->session_link);
	p->is_awaited = session != NULL;
	port_resume_timeout(p);
	if (state == PORT_ENDED) {
		list_append(&p->broker->ended_ports, &p->ended_link);
		port_set_retention(p);
		port_save(p);
		return;
	}
	p->is_orphaned = true;
	p->is_in_grace = true;
	alarm_set(alarms, &p->orphan, RECONNECT_GRACE_MS);
	p->exited_ms = uv_now(&p->broker->loop);
	for (unsigned i = 0; i < p->n_streams && state != PORT_STARTING; i++)
		stream_start(p->streams[i]);
	pumped_resume(p);
	if (state == PORT_DRAINING)
		port_set_drain(p);
	else if (state == PORT_STARTING)
		return; /* its verdict follows */
	port_save(p);
	port_check(p);
}

/* --- the end --------------------------------------------------------------------------------- */

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
	port_set_retention(p);
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

static void on_phase(struct alarm *a)
{
	struct port *p = container_of(a, struct port, phase);

	if (p->state == PORT_DRAINING)
		port_drain(p);
	else
		port_check(p);
}

void port_check(struct port *p)
{
	if (p->state == PORT_DRAINING && port_outputs_are_over(p) && !port_asks_holders(p))
		port_close(p);
	/* A blocking subscription was promised every byte: the log waits for it. */
	if (p->state == PORT_ENDED && !alarm_is_set(&p->phase) && !subscriptions_need(p) &&
	    !port_look_is_due(&p->look))
		port_forget(p);
}
