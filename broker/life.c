#include "broker/life.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/port.h"
#include "broker/record.h"
#include "broker/reply.h"
#include "broker/rights.h"
#include "proto/base/err.h"

int watch_new(struct watch **ret, struct conn *conn, const uint64_t *after,
	      struct labels *take_selector)
{
	_cleanup_(labels_unrefp) struct labels *selector = take_selector;
	const struct events *events = conn->broker->events;
	uint64_t newest = events_newest(events);
	struct watch *w;

	if (after && *after > newest)
		return WATCH_E_AHEAD;
	if (after && *after + 1 < events_oldest(events))
		return WATCH_E_GONE;
	if (conn->n_watches >= CONN_WATCHES)
		return WATCH_E_TOO_MANY;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_begin(-ENOMEM);
	if (quota_charge_take(&w->charge, conn->account, QUOTA_MEMORY, QUOTA_WEIGHT_WATCH, NULL)) {
		free(w);
		return WATCH_E_TOO_MANY;
	}
	w->id = ++conn->last_watch;
	w->conn = conn;
	w->selector = TAKE(selector);
	w->told = after ? *after : newest;
	conn->n_watches++;
	list_append(&conn->watches, &w->conn_link);
	if (!list_is_linked(&conn->watching_link))
		list_append(&conn->broker->watching, &conn->watching_link);
	conn_wake(conn);
	*ret = w;
	return 0;
}

void watch_free(struct watch *w)
{
	w->conn->n_watches--;
	list_remove(&w->conn_link);
	if (list_is_empty(&w->conn->watches))
		list_remove(&w->conn->watching_link);
	labels_unref(w->selector);
	quota_charge_return(&w->charge);
	free(w);
}

struct watch *watch_find(const struct conn *conn, uint64_t id)
{
	struct watch *w;

	list_for_each (w, &conn->watches, conn_link)
		if (w->id == id)
			return w;
	return NULL;
}

void watches_free(struct conn *conn)
{
	struct watch *w, *next;

	list_for_each_safe (w, next, &conn->watches, conn_link)
		watch_free(w);
}

static bool watch_wants(const struct watch *w, const struct event *e)
{
	return rights_see_event(w->conn, e) &&
	       (!w->selector || labels_match(e->labels, w->selector));
}

/* One step: the next event is told, or skipped, or what was lost is. */
static int watch_step(struct watch *w)
{
	const struct events *events = w->conn->broker->events;
	const struct event *e;
	int r = 0;

	if (events_get(events, w->told + 1, &e) == EVENTS_E_GONE) {
		w->told = events_oldest(events) - 1;
		return reply_pack_missed(&w->conn->control, w);
	}
	if (watch_wants(w, e))
		r = reply_pack_life(&w->conn->control, w, e);
	w->told++;
	return r;
}

bool watches_are_behind(const struct conn *conn)
{
	uint64_t newest = events_newest(conn->broker->events);
	struct watch *w;

	list_for_each (w, &conn->watches, conn_link)
		if (w->told < newest)
			return true;
	return false;
}

int watches_fill(struct conn *conn, size_t limit)
{
	uint64_t newest = events_newest(conn->broker->events);
	unsigned n = 0;
	struct watch *w;
	int r;

	list_for_each (w, &conn->watches, conn_link)
		while (w->told < newest) {
			if (buf_size(&conn->control) >= limit || n++ == WATCH_STEPS)
				return 0;
			r = watch_step(w);
			if (r)
				return r;
		}
	return 0;
}

void watches_note_grant(struct broker *b, enum event_what what, const struct port *p,
			const struct grant *grant)
{
	struct event e = { .what = what,
			   .port = p->id,
			   .pid = port_is_pumped(p) ? 0 : p->process.pid,
			   .owner = p->owner,
			   .labels = p->options.labels,
			   .grants = p->grants,
			   .grant = *grant,
			   .exit = p->exit,
			   .n_holders = p->n_holders };
	struct timespec now;
	struct conn *c;

	clock_gettime(CLOCK_REALTIME, &now);
	e.time_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	strcpy(e.name, p->options.name);
	memcpy(e.holders, p->holders, p->n_holders * sizeof(p->holders[0]));
	events_add(b->events, &e);
	if (b->records)
		records_set_sequence(b->records, events_newest(b->events));
	list_for_each (c, &b->watching, watching_link)
		conn_wake(c);
}

void watches_note(struct broker *b, enum event_what what, const struct port *p)
{
	static const struct grant none;

	watches_note_grant(b, what, p, &none);
}
