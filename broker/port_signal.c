/* Signals to a port: to the leader and its group at once, through the pidfd; to the tree by an
 * opener, which is the only one to signal then, so that nobody gets a signal twice. Where nobody
 * could be sent, or found nothing out in time, leader and group get it after all.
 *
 * And what sends them: the time limit, the end of the owner's session, the service's shutdown. None
 * of them acts on a port that is still STARTING: port.c asks again when it runs.
 */
#include "broker/port.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "broker/broker.h"
#include "broker/errand.h"
#include "proto/base/err.h"
#include "proto/base/log.h"

int port_signal_leader(struct port *p, int signal)
{
	return p->has_exited ? -ESRCH : process_signal(&p->process, signal);
}

int port_signal_group(struct port *p, int signal)
{
	return process_signal_group(&p->process, signal);
}

/* --- the tree -------------------------------------------------------------------------------- */

/* The leader is in its group; alone it is signalled where the kernel knows no groups (before 6.9).
 */
static void signal_without_looking(struct port *p, int signal)
{
	if (port_signal_group(p, signal) < 0)
		port_signal_leader(p, signal);
}

static void on_signalled(void *context, const struct opener_reply *reply)
{
	struct port *p = context;

	p->signaller = NULL;
	if (!reply)
		signal_without_looking(p, p->tree_signal);
	if (p->timed_out && !p->is_warned) {
		p->is_warned = true;
		port_save(p);
	}
}

static unsigned count_errands(const struct port *p)
{
	struct list *link;
	unsigned n = 0;

	for (link = p->errands.next; link != &p->errands; link = link->next)
		n++;
	return n;
}

int port_signal_tree(struct port *p, struct quota_account *asker, int signal)
{
	struct opener_request request;

	if (p->signaller && (p->tree_signal == signal || p->tree_signal == SIGKILL))
		return 0; /* it is on its way already, or all that could be sent */
	if (count_errands(p) >= PORT_ERRANDS_MAX)
		return err_begin(-EAGAIN);
	if (p->signaller)
		errand_cancel(TAKE(p->signaller)); /* it is sent all the same */
	p->tree_signal = signal;
	errand_tree_request(p, signal, &request);
	if (errand_start(p, asker, &request, on_signalled, p, &p->signaller) < 0)
		on_signalled(p, NULL);
	return 0;
}

/* To leader and group it is no harm to be killed twice; but they are left alone as long as somebody
 * is to go again, for some may be found by them alone. */
static void on_killed(void *context, const struct opener_reply *reply)
{
	struct port *p = context;

	(void)reply;
	p->killer = NULL;
	signal_without_looking(p, SIGKILL);
	if (p->timed_out && !alarm_is_set(&p->timeout)) {
		p->timeout_until_ms = 0;
		port_save(p);
	}
}

/* The opener goes first: who is left without its parents is harder to find. */
void port_kill_tree(struct port *p)
{
	struct opener_request request;

	if (p->state == PORT_STARTING || p->state == PORT_GONE || p->killer)
		return;
	errand_tree_request(p, SIGKILL, &request);
	if (errand_start(p, NULL, &request, on_killed, p, &p->killer) < 0)
		on_killed(p, NULL);
}

/* --- time limit ------------------------------------------------------------------------------ */

/* The alarms' clock, which goes on while no broker runs. */
static uint64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void set_timeout(struct port *p)
{
	uint64_t now = monotonic_ms(), until = p->timeout_until_ms;

	alarm_set(&p->broker->alarms, &p->timeout, until > now ? until - now : 0);
}

void port_begin_timeout(struct port *p)
{
	if (!p->options.timeout_ms)
		return;
	p->timeout_until_ms = monotonic_ms() + p->options.timeout_ms;
	set_timeout(p);
}

void port_end_timeout(struct port *p)
{
	if (p->timed_out)
		return;
	p->timeout_until_ms = 0;
	alarm_stop(&p->broker->alarms, &p->timeout);
}

/* Who was not warned for certain is warned, perhaps twice. Not from within here: while ports are
 * taken up nobody can be sent out. */
void port_resume_timeout(struct port *p)
{
	if (p->timed_out && !p->is_warned && p->timeout_until_ms)
		alarm_set(&p->broker->alarms, &p->timeout, 0);
	else if (p->timeout_until_ms)
		set_timeout(p);
}

/* Rings when the time is up, and again when the grace is, for what is left of the tree by then,
 * whether the leader still is or not. All is recorded before it is done: what a signal leads to may
 * happen before the next broker is there. */
void port_on_timeout(struct alarm *a)
{
	struct port *p = container_of(a, struct port, timeout);

	if (p->timed_out && (p->is_warned || p->signaller)) {
		port_kill_tree(p);
		return;
	}
	if (!p->timed_out)
		p->timeout_until_ms = monotonic_ms() + p->options.timeout_grace_ms;
	p->timed_out = true;
	port_save(p);
	port_signal_tree(p, NULL, p->options.timeout_signal);
	set_timeout(p);
}

/* --- without an owner ------------------------------------------------------------------------ */

/* Readers that have not come back by now will not. */
static void port_await_no_more(struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_await(p->streams[i], 0);
}

void port_hold_no_more(struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		stream_hold_no_more(p->streams[i]);
	port_save(p);
}

/* What it has written and nobody has read must not keep it, once it is dead. */
static void port_end_orphan(struct port *p)
{
	if (port_is_pumped(p)) {
		pumped_expire(p);
		return;
	}
	port_hold_no_more(p);
	port_kill_tree(p);
}

void port_on_orphan(struct alarm *a)
{
	struct port *p = container_of(a, struct port, orphan);

	if (!p->is_orphaned) {
		port_await_no_more(p);
		pumped_shut_again(p);
	} else if (p->is_in_grace) {
		p->is_in_grace = false;
		port_orphan(p);
	} else {
		port_end_orphan(p);
	}
}

void port_close_inputs(struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		if (p->streams[i]->in.is_there &&
		    !input_push_close(&p->streams[i]->in.queue, NULL, NULL))
			stream_write(p->streams[i]);
}

void port_orphan(struct port *p)
{
	bool waits = p->state == PORT_STARTING && port_is_pumped(p);

	p->is_orphaned = true;
	port_await_no_more(p);
	if (p->state != PORT_RUNNING && p->state != PORT_DRAINING && !waits)
		return;
	if (p->options.orphan != PORT_ORPHAN_KILL) /* which does it in its own time */
		pumped_shut_again(p);
	switch (p->options.orphan) {
	case PORT_ORPHAN_KEEP:
		return;
	case PORT_ORPHAN_KEEP_FOR:
		alarm_set(&p->broker->alarms, &p->orphan, p->options.orphan_ms);
		return;
	case PORT_ORPHAN_CLOSE_INPUT:
		if (waits)
			pumped_expire(p);
		else
			port_close_inputs(p);
		return;
	case PORT_ORPHAN_KILL:
		port_end_orphan(p);
		return;
	}
}

void port_come_back(struct port *p)
{
	/* Within the grace it rings all the same, for readers that do not come back. */
	if (!p->is_in_grace)
		alarm_stop(&p->broker->alarms, &p->orphan);
	p->is_in_grace = false;
	p->is_orphaned = false;
}

/* --- shutdown -------------------------------------------------------------------------------- */

bool port_cancel(struct port *p)
{
	if (p->state == PORT_STARTING && port_is_pumped(p)) {
		pumped_give_up(p, ESHUTDOWN);
		return true;
	}
	if (p->state != PORT_STARTING || p->process.state != PROCESS_WAITING)
		return false;
	process_on_failed(&p->process, LINK_STAGE_REQUEST, ESHUTDOWN);
	return true;
}

void port_abandon(struct port *p)
{
	if (p->state == PORT_STARTING)
		return; /* its descriptors are still to be handed over */
	for (unsigned i = 0; i < p->n_streams; i++) {
		stream_end_output(p->streams[i], STREAM_BROKER_STOPPED, 0);
		stream_fail_input(p->streams[i], -ECANCELED);
	}
}
