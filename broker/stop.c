/* Every phase has an end: drain_ms, OPENER_TIMEOUT_MS, and twice TELL_MS. Then LINK_BYE goes to the
 * keeper, which ends the rest of the service.
 *
 * Spawns that were not handed over fail. One that is on its way is signalled as soon as it runs;
 * what hangs in its exec to the end is left to the keeper.
 */
#include "broker/stop.h"

#include <signal.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/delegation.h"
#include "broker/errand.h"
#include "broker/listener.h"
#include "broker/port.h"
#include "broker/reply.h"

#define LOOK_MS 20
#define TELL_MS 200

static void on_alarm(struct alarm *a);

void stop_init(struct stop *s)
{
	alarm_init(&s->alarm, on_alarm);
}

/* --- ports ----------------------------------------------------------------------------------- */

void stop_port(struct broker *b, struct port *p)
{
	if (p->state != PORT_RUNNING && p->state != PORT_DRAINING)
		return;
	if (port_is_pumped(p) && b->stop.phase == STOP_TERMINATE)
		pumped_shut(p);
	else if (port_is_pumped(p))
		pumped_discard(p);
	else if (b->stop.phase == STOP_TERMINATE)
		port_signal_tree(p, NULL, SIGTERM);
	else
		port_kill_tree(p);
}

static bool visit(struct walk *w, struct port *p)
{
	if (!port_cancel(p)) /* else it is gone */
		stop_port(w->broker, p);
	return true;
}

static void on_all_visited(struct walk *w)
{
	(void)w; /* on_alarm looks how far they are */
}

static void stop_ports(struct broker *b)
{
	struct walk *w = &b->stop.walk;

	walk_deinit(w);
	walk_init(w, b, visit, on_all_visited);
	if (walk_step(w))
		walk_go_on(w, NULL);
}

static bool ports_have_ended(const struct broker *b)
{
	struct port *p;

	port_table_for_each(p, &b->ports) if (p->state != PORT_ENDED) return false;
	return true;
}

static void abandon_ports(struct broker *b)
{
	struct port *p;

	port_table_for_each(p, &b->ports) port_abandon(p);
}

/* --- clients --------------------------------------------------------------------------------- */

static bool clients_are_told(const struct broker *b)
{
	struct conn *c;

	list_for_each (c, &b->conns, link)
		if (!conn_has_told(c))
			return false;
	return true;
}

static void say_bye(struct broker *b)
{
	struct conn *c;

	list_for_each (c, &b->conns, link)
		conn_leave(c, REPLY_UNAVAILABLE, "the service is shut down");
	delegations_end_all(b);
}

static void leave(struct broker *b)
{
	struct link_bye m = { .head = { LINK_BYE, sizeof(m) }, .status = b->status };

	b->state = BROKER_LEFT;
	helper_link_send(&b->helper, &m, sizeof(m), NULL, 0);
	uv_stop(&b->loop);
}

/* --- phases ---------------------------------------------------------------------------------- */

static void enter(struct broker *b, enum stop_phase phase, uint64_t for_ms)
{
	b->stop.phase = phase;
	b->stop.end_ms = uv_now(&b->loop) + for_ms;
	if (phase == STOP_TERMINATE || phase == STOP_KILL)
		stop_ports(b);
	else if (phase == STOP_TELL)
		abandon_ports(b);
	else
		say_bye(b);
}

static bool phase_is_done(const struct broker *b)
{
	switch (b->stop.phase) {
	case STOP_TERMINATE:
	case STOP_KILL:
		return ports_have_ended(b) && errands_are_over(b);
	case STOP_TELL:
		return clients_are_told(b);
	default:
		return list_is_empty(&b->conns);
	}
}

static void on_alarm(struct alarm *a)
{
	struct broker *b = container_of(a, struct broker, stop.alarm);
	bool is_done = phase_is_done(b), is_late = uv_now(&b->loop) >= b->stop.end_ms;

	if (b->stop.phase == STOP_BYE && (is_done || is_late)) {
		leave(b);
		return;
	}
	if (b->stop.phase == STOP_TERMINATE && is_late && !is_done)
		enter(b, STOP_KILL, OPENER_TIMEOUT_MS);
	else if (b->stop.phase <= STOP_KILL && (is_done || is_late))
		enter(b, STOP_TELL, TELL_MS);
	else if (b->stop.phase == STOP_TELL && (is_done || is_late))
		enter(b, STOP_BYE, TELL_MS);
	alarm_set(&b->alarms, a, is_done ? 0 : MIN(b->stop.end_ms - uv_now(&b->loop), LOOK_MS));
}

void stop_end(struct stop *s)
{
	walk_deinit(&s->walk);
}

void stop_begin(struct broker *b, uint32_t drain_ms)
{
	if (b->state == BROKER_DRAINING || b->state == BROKER_LEFT)
		return;
	b->state = BROKER_DRAINING;
	while (b->n_listeners)
		listener_free(TAKE(b->listeners[--b->n_listeners]));
	alarm_stop(&b->alarms, &b->idle);
	yield_end(&b->yield);
	if (drain_ms)
		enter(b, STOP_TERMINATE, drain_ms);
	else
		enter(b, STOP_KILL, OPENER_TIMEOUT_MS);
	alarm_set(&b->alarms, &b->stop.alarm, 0);
}
