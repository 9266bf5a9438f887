/* One place where all that a port tells is handed on: to the requests that wait for it, to its
 * subscriptions, and to the life events.
 */
#include "broker/req_events.h"

#include <errno.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/marks.h"
#include "broker/expect.h"
#include "broker/req.h"
#include "broker/life.h"
#include "broker/sharing.h"

/* Others have something to be sent already, or no credit for it: a thousand of those cost nothing.
 */
static void on_moved(struct stream *s)
{
	struct reader *r, *next;

	while ((r = list_first(&s->out.idle, struct reader, idle_link))) {
		list_remove(&r->idle_link);
		subscription_wake(r->subscription);
	}
	list_for_each_safe (r, next, &s->out.shared, shared_link)
		sharing_moved(r);
	expects_wake(s);
}

static void on_out_ended(struct stream *s)
{
	port_check(s->port);
}

static void on_started(struct port *p)
{
	req_spawn_started(p);
	marks_start(p);
	watches_note(p->broker, EVENT_STARTED, p);
}

static void on_failed(struct port *p, uint32_t stage, int error)
{
	req_spawn_failed(p, stage, error);
}

static void on_exited(struct port *p)
{
	struct subscription *s;

	watches_note(p->broker, EVENT_EXITED, p);
	waits_look(p);
	req_close_whole_look(p);
	expects_exited(p);
	list_for_each (s, &p->subscriptions, port_link) {
		list_append(&s->conn->exits, &s->exit_link);
		conn_wake(s->conn);
	}
}

static void on_closed(struct port *p)
{
	struct subscription *s;

	watches_note(p->broker, EVENT_CLOSED, p);
	waits_look(p);
	req_lease_look(p);
	list_for_each (s, &p->subscriptions, port_link)
		subscription_wake(s);
	broker_check_idle(p->broker);
}

/* Nobody may be left who still thinks of it. */
static void on_gone(struct port *p)
{
	struct pending *pending, *next;

	waits_finish(p);
	list_for_each_safe (pending, next, &p->pendings, port_link) {
		reply_error(pending->conn, pending->request, REPLY_ABORTED, ECANCELED,
			    "the port is gone; what was asked of it did not come about");
		pending_free(pending);
	}
	if (p->has_exited)
		watches_note(p->broker, EVENT_FORGOTTEN, p);
}

const struct port_events req_port_events = {
	.stream = { .moved = on_moved,
		    .out_ended = on_out_ended,
		    .in_changed = req_input_changed,
		    .in_closed = req_input_closed,
		    .in_failed = req_input_failed,
		    .in_queued = marks_look },
	.started = on_started,
	.failed = on_failed,
	.exited = on_exited,
	.closed = on_closed,
	.gone = on_gone,
};
