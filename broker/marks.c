#include "broker/marks.h"

#include "broker/conn.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/subscription.h"

_Static_assert(PORT_STREAMS_MAX <= 32, "struct marks has a bit for each stream");

void marks_init(struct marks *m)
{
	list_init(&m->port_link);
	list_init(&m->conn_link);
	m->told = 0;
}

/* A bit for each of the port's streams whose input is busy. */
static uint32_t marks_now(const struct port *p)
{
	uint32_t busy = 0;

	for (unsigned i = 0; i < p->n_streams; i++)
		if (p->streams[i]->in.is_there && input_is_busy(&p->streams[i]->in.queue))
			busy |= 1u << i;
	return busy;
}

bool marks_are_due(const struct subscription *s)
{
	return list_is_linked(&s->marks.conn_link);
}

static void marks_compare(struct subscription *s)
{
	list_remove(&s->marks.conn_link);
	if (s->port->state == PORT_STARTING || marks_now(s->port) == s->marks.told)
		return;
	list_append(&s->conn->marks, &s->marks.conn_link);
	conn_wake(s->conn);
}

void marks_watch(struct subscription *s)
{
	list_append(&s->port->marks, &s->marks.port_link);
	marks_compare(s);
}

void marks_leave(struct subscription *s)
{
	list_remove(&s->marks.port_link);
	list_remove(&s->marks.conn_link);
}

void marks_start(struct port *p)
{
	struct subscription *s;

	list_for_each (s, &p->marks, marks.port_link)
		marks_compare(s);
}

void marks_look(struct stream *s)
{
	bool is_busy = input_is_busy(&s->in.queue);

	if (is_busy == s->in.was_busy)
		return;
	s->in.was_busy = is_busy;
	marks_start(s->port);
}

static int marks_tell(struct subscription *s)
{
	uint32_t now = marks_now(s->port), differ = now ^ s->marks.told;
	int r = 0;

	list_remove(&s->marks.conn_link);
	for (unsigned i = 0; !r && i < s->port->n_streams; i++)
		if (differ & 1u << i)
			r = reply_pack_marks(&s->conn->control, s, s->port->streams[i]);
	s->marks.told = now;
	if (!list_is_linked(&s->ready_link)) /* its end may have waited for this */
		list_append(&s->conn->ready, &s->ready_link);
	return r;
}

int marks_fill(struct conn *conn, size_t limit)
{
	struct subscription *s;
	int r = 0;

	while (!r && buf_size(&conn->control) < limit &&
	       (s = list_first(&conn->marks, struct subscription, marks.conn_link)))
		r = marks_tell(s);
	return r;
}
