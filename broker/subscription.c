#include "broker/subscription.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/port.h"
#include "broker/sharing.h"
#include "proto/base/err.h"
#include "proto/codec.h"

/* --- making one ------------------------------------------------------------------------------ */

static unsigned outputs_of(struct port *port, const struct subscription_options *o,
			   struct stream *ret[PORT_STREAMS_MAX], const char **ret_reason)
{
	unsigned n = 0;

	*ret_reason = NULL;
	for (unsigned i = 0; !o->n_streams && i < port->n_streams; i++)
		if (port->streams[i]->out.is_there)
			ret[n++] = port->streams[i];
	for (unsigned i = 0; i < o->n_streams; i++) {
		struct stream *s = port_stream(port, o->streams[i]);

		if (!s || !s->out.is_there)
			*ret_reason =
				"the port has no output with that stream number; Inspect lists its "
				"streams";
		for (unsigned j = 0; j < n; j++)
			if (ret[j] == s)
				*ret_reason = "a stream is named twice";
		if (*ret_reason)
			return 0;
		ret[n++] = s;
	}
	return n;
}

/* Each offset is for a stream that is wanted, and for another one than those before it. */
static const char *offsets_check(const struct subscription_options *o,
				 struct stream *const *streams, unsigned n)
{
	unsigned seen = 0;

	for (unsigned i = 0; o->from == CURSOR_FROM_OFFSET && i < o->n_offsets; i++) {
		unsigned j = 0;

		while (j < n && streams[j]->number != o->offset_streams[i])
			j++;
		if (j == n)
			return "start.offsets names a stream that is not subscribed to";
		if (seen & 1u << j)
			return "start.offsets names a stream twice";
		seen |= 1u << j;
	}
	return NULL;
}

static uint64_t start_value(const struct subscription_options *o, uint32_t stream)
{
	if (o->from != CURSOR_FROM_OFFSET)
		return o->count;
	for (unsigned i = 0; i < o->n_offsets; i++)
		if (o->offset_streams[i] == stream)
			return o->offsets[i];
	return 0;
}

static int reader_init(struct reader *r, struct subscription *s, struct stream *stream,
		       const struct subscription_options *o)
{
	struct framing framing = o->has_framing ? o->framing : stream->out.framing;
	struct cursor_view view;
	uint64_t offset;
	int e = cursor_find_start(stream->out.ring, o->from, start_value(o, stream->number),
				  &offset);

	if (e)
		return e;
	stream_view(stream, &view);
	r->stream = stream;
	r->subscription = s;
	list_init(&r->link);
	list_init(&r->shared_link);
	list_init(&r->idle_link);
	list_init(&r->block_link);
	cursor_init(&r->cursor, offset, s->overflow, view.tail);
	return cursor_frame(&r->cursor, &framing, &view, o->from);
}

static int start_refused(int e, const char **ret_reason)
{
	static const char *const reasons[] = {
		[CURSOR_E_AHEAD] =
			"the stream has not reached that offset yet; Inspect tells its total",
		[CURSOR_E_RECORD] =
			"nobody has noted where packets with such a header begin in that "
			"stream; start at its beginning while the log has that, or at an "
			"OFFSET where one begins, or spawn the port with this framing",
		[CURSOR_E_LINES] =
			"packets have no lines; start at LAST_BYTES, or with another framing",
	};

	*ret_reason = reasons[e];
	return e == CURSOR_E_AHEAD ? SUBSCRIPTION_E_OFFSET : SUBSCRIPTION_E_RECORD;
}

/* From now on it has stall_ms to make progress. */
static void subscription_give_time(struct subscription *s)
{
	if (s->sharing)
		sharing_has_progressed(s);
	s->unread = conn_unread(s->conn);
	if (s->stall_ms)
		alarm_set(&s->conn->broker->alarms, &s->stall, s->stall_ms);
}

/* Starts its stall time when it begins to hold a stream back, and stops it when it does not any
 * more. */
static void subscription_look(struct subscription *s)
{
	bool is_blocking = false;

	for (unsigned i = 0; i < s->n_readers; i++)
		is_blocking |= stream_is_held_by(&s->readers[i]);
	if (is_blocking == s->is_blocking)
		return;
	s->blocked_total_ms = subscription_blocked_total_ms(s);
	s->blocking_since_ms = uv_now(&s->conn->broker->loop);
	s->is_blocking = is_blocking;
	if (!is_blocking)
		alarm_stop(&s->conn->broker->alarms, &s->stall);
	else
		subscription_give_time(s);
}

static void subscription_readers_changed(struct subscription *s)
{
	for (unsigned i = 0; i < s->n_readers; i++)
		stream_readers_changed(s->readers[i].stream);
	subscription_look(s);
}

/* The port is kept for those that are promised every byte. */
static void subscription_need(struct subscription *s, bool is_needing)
{
	if (s->is_needing == is_needing)
		return;
	s->is_needing = is_needing;
	s->port->n_needing += is_needing ? 1 : -1;
}

/* A socket can be written to again when most of what it holds was read: a client that reads slowly
 * gets there later than its time is up. */
static bool has_progressed(struct subscription *s)
{
	if (s->sharing)
		return sharing_has_progressed(s);
	return credit_allows(&s->credit, 1) && conn_unread(s->conn) < s->unread;
}

static void on_stall(struct alarm *a)
{
	struct subscription *s = container_of(a, struct subscription, stall);

	if (has_progressed(s)) {
		subscription_give_time(s);
		return;
	}
	s->overflow = CURSOR_MAY_DROP;
	subscription_need(s, false);
	if (s->sharing)
		sharing_stalled(s);
	s->is_stalled = true;
	s->conn->broker->counters.stalled++;
	for (unsigned i = 0; i < s->n_readers; i++) {
		cursor_stall(&s->readers[i].cursor);
		stream_unblock(s->readers[i].stream, &s->readers[i]);
	}
	subscription_readers_changed(s);
}

static struct subscription *subscription_blank(struct conn *conn, struct port *port,
					       const struct subscription_options *o, unsigned n)
{
	struct subscription *s = calloc(1, sizeof(*s) + n * sizeof(s->readers[0]));

	if (!s)
		return NULL;
	s->conn = conn;
	s->port = port;
	s->port_id = port->id;
	s->overflow = o->overflow;
	s->credit = o->credit;
	s->stall_ms = o->stall_ms;
	alarm_init(&s->stall, on_stall);
	list_init(&s->conn_link);
	list_init(&s->port_link);
	list_init(&s->ready_link);
	list_init(&s->exit_link);
	marks_init(&s->marks);
	list_init(&s->wake_link);
	return s;
}

/* One that blocks may be one that an earlier broker had. */
static void reader_link(struct reader *r)
{
	struct stream *s = r->stream;

	stream_add_reader(s, r);
	if (s->out.awaited && r->cursor.overflow == CURSOR_MAY_BLOCK)
		stream_await(s, s->out.awaited - 1);
}

static void subscription_link(struct subscription *s)
{
	s->id = ++s->conn->last_subscription;
	s->conn->n_subscriptions++;
	id_table_add(&s->conn->subscription_ids, &s->by_id, s->id);
	list_append(&s->conn->subscriptions, &s->conn_link);
	list_append(&s->port->subscriptions, &s->port_link);
	subscription_need(s, s->overflow == CURSOR_MAY_BLOCK);
	for (unsigned i = 0; i < s->n_readers; i++)
		reader_link(&s->readers[i]);
	port_was_asked(s->port);
	if (s->port->has_exited)
		list_append(&s->conn->exits, &s->exit_link);
	subscription_readers_changed(
		s); /* one that waited for any reader, or for this one to move */
	subscription_wake(s);
}

int subscription_new(struct subscription **ret, struct conn *conn, struct port *port,
		     const struct subscription_options *options, const char **ret_reason)
{
	struct stream *streams[PORT_STREAMS_MAX];
	unsigned n = outputs_of(port, options, streams, ret_reason);
	struct subscription *s;
	int e = 0;

	if (!*ret_reason)
		*ret_reason = offsets_check(options, streams, n);
	if (*ret_reason)
		return SUBSCRIPTION_E_STREAM;
	s = subscription_blank(conn, port, options, n);
	if (!s)
		return err_begin(-ENOMEM);
	for (; s->n_readers < n && !e; s->n_readers++)
		e = reader_init(&s->readers[s->n_readers], s, streams[s->n_readers], options);
	if (e) {
		free(s);
		return start_refused(e, ret_reason);
	}
	if (quota_charge_take(&s->charge, conn->account, QUOTA_SUBSCRIPTIONS, 1, ret_reason)) {
		free(s);
		return SUBSCRIPTION_E_QUOTA;
	}
	if (options->shared)
		sharing_begin(s);
	subscription_link(s);
	if (options->marks)
		marks_watch(s);
	*ret = s;
	return 0;
}

/* It reads nothing any more, and so holds nothing back. */
static void subscription_unread(struct subscription *s)
{
	while (s->n_readers) {
		struct reader *r = &s->readers[--s->n_readers];

		stream_drop_reader(r->stream, r);
		stream_readers_changed(r->stream);
	}
	subscription_look(s);
}

static void subscription_stop(struct subscription *s, enum subscription_cause cause)
{
	s->state = SUBSCRIPTION_ENDING;
	subscription_need(s, false);
	s->cause = cause;
	marks_leave(s);
	subscription_unread(s);
}

void subscription_leave_port(struct subscription *s)
{
	marks_leave(s);
	subscription_unread(s);
	list_remove(&s->port_link);
	subscription_need(s, false);
	s->port = NULL;
	subscription_end(s, SUBSCRIPTION_FORGOTTEN);
}

void subscription_free(struct subscription *s)
{
	struct port *port = s->port;

	sharing_end(s);
	subscription_unread(s);
	subscription_need(s, false);
	list_remove(&s->conn_link);
	list_remove(&s->port_link);
	list_remove(&s->ready_link);
	list_remove(&s->exit_link);
	marks_leave(s);
	list_remove(&s->wake_link);
	s->conn->n_subscriptions--;
	id_table_remove(&s->conn->subscription_ids, &s->by_id);
	quota_charge_return(&s->charge);
	free(s);
	if (port)
		port_check(port);
}

void subscription_end(struct subscription *s, enum subscription_cause cause)
{
	if (s->state == SUBSCRIPTION_ENDING)
		return;
	subscription_stop(s, cause);
	subscription_wake(s);
}

void subscription_wake(struct subscription *s)
{
	if (!list_is_linked(&s->ready_link))
		list_append(&s->conn->ready, &s->ready_link);
	conn_wake(s->conn);
}

/* --- what comes next ------------------------------------------------------------------------- */

static bool reader_next(struct reader *r, const struct credit *credit, struct cursor_step *ret_step)
{
	struct cursor_view view;

	if (r->cursor.is_ended)
		return false;
	stream_view(r->stream, &view);
	view.data_max = conn_output_max(r->subscription->conn);
	if (r->subscription->sharing) {
		if (!sharing_view(r, &view))
			return false;
		credit = NULL;
	}
	cursor_next(&r->cursor, &view, credit, ret_step);
	return ret_step->what != CURSOR_NOTHING && ret_step->what != CURSOR_NO_CREDIT;
}

/* Without credit nothing would come of a move, but that it was overtaken. */
void subscription_rest(struct subscription *s)
{
	if (!credit_allows(&s->credit, 0) && s->overflow != CURSOR_MAY_CANCEL)
		return;
	for (unsigned i = 0; i < s->n_readers; i++)
		if (!s->readers[i].cursor.is_ended && !list_is_linked(&s->readers[i].idle_link))
			list_append(&s->readers[i].stream->out.idle, &s->readers[i].idle_link);
}

/* It cannot go on, and so neither can its subscription. */
static void reader_fails(struct reader *r, const struct cursor_step *step)
{
	struct subscription *s = r->subscription;

	s->cause = step->what == CURSOR_BAD ? SUBSCRIPTION_BAD_RECORD : SUBSCRIPTION_TOO_SLOW;
	s->bad_stream = r->stream->number;
	s->bad_offset = step->end;
}

static bool all_is_told(const struct subscription *s)
{
	for (unsigned i = 0; i < s->n_readers; i++)
		if (!s->readers[i].cursor.is_ended)
			return false;
	return true;
}

void subscription_next(struct subscription *s, struct bulk *ret)
{
	bool is_over = false;

	*ret = (struct bulk){ .what = BULK_NOTHING };
	for (unsigned i = 0; s->state == SUBSCRIPTION_OPEN && i < s->n_readers; i++) {
		struct reader *r = &s->readers[(s->turn + i) % s->n_readers];

		if (!reader_next(r, &s->credit, &ret->step))
			continue;
		if (ret->step.what == CURSOR_CANCEL || ret->step.what == CURSOR_BAD) {
			reader_fails(r, &ret->step);
			is_over = true;
			break;
		}
		ret->what = BULK_STEP;
		ret->reader = r;
		return;
	}
	/* The state stays: what was told may be undone, and then this was not the end. */
	if (!is_over && s->state == SUBSCRIPTION_OPEN && s->port->state == PORT_ENDED &&
	    all_is_told(s)) {
		s->cause = SUBSCRIPTION_PORT_CLOSED;
		is_over = true;
	}
	/* Exited and the last marks come before Closed: while they wait for room on their lane, so
	 * does the end. */
	if ((is_over || s->state == SUBSCRIPTION_ENDING) && !list_is_linked(&s->exit_link) &&
	    !marks_are_due(s))
		ret->what = BULK_CLOSED;
}

void subscription_take(struct subscription *s, const struct bulk *bulk,
		       struct subscription_mark *ret_mark)
{
	*ret_mark = (struct subscription_mark){ bulk->reader->cursor, s->credit, s->turn };
	cursor_sent(&bulk->reader->cursor, &bulk->step, &s->credit);
	s->turn = (unsigned)(bulk->reader - s->readers) + 1;
}

void subscription_undo(struct subscription *s, const struct bulk *bulk,
		       const struct subscription_mark *mark)
{
	bulk->reader->cursor = mark->cursor;
	s->credit = mark->credit;
	s->turn = mark->turn;
}

void subscription_moved(struct subscription *s, struct reader *reader)
{
	stream_readers_changed(reader->stream);
	if (!s->is_blocking)
		return;
	subscription_look(s);
	if (s->is_blocking) /* progress */
		subscription_give_time(s);
}

void subscription_told(struct subscription *s)
{
	sharing_told(s);
	if (!s->is_blocking)
		return;
	subscription_look(s);
	if (s->is_blocking && sharing_has_progressed(s))
		subscription_give_time(s);
}

void subscription_give_credit(struct subscription *s, uint64_t bytes)
{
	credit_add(&s->credit, bytes);
	subscription_wake(s);
}

uint64_t subscription_lag(struct subscription *s)
{
	uint64_t lag = 0;

	for (unsigned i = 0; i < s->n_readers; i++) {
		sharing_pull(&s->readers[i]);
		lag += cursor_lag(&s->readers[i].cursor, stream_total(s->readers[i].stream));
	}
	return lag;
}

uint64_t subscription_lag_ms(const struct subscription *s)
{
	uint64_t now = uv_now(&s->conn->broker->loop), lag = 0;

	for (unsigned i = 0; i < s->n_readers; i++) {
		const struct reader *r = &s->readers[i];
		uint64_t oldest = stream_oldest(r->stream), age;

		if (!cursor_lag(&r->cursor, stream_total(r->stream)))
			continue;
		age = pace_age(&r->stream->out.pace, MAX(r->cursor.offset, oldest), now);
		lag = MAX(lag, age);
	}
	return lag;
}

uint64_t subscription_blocking_ms(const struct subscription *s)
{
	return s->is_blocking ? uv_now(&s->conn->broker->loop) - s->blocking_since_ms : 0;
}

uint64_t subscription_blocked_total_ms(const struct subscription *s)
{
	return s->blocked_total_ms + subscription_blocking_ms(s);
}

bool subscriptions_need(const struct port *port)
{
	return port->n_needing;
}

void subscriptions_look(struct stream *stream)
{
	struct reader *r;

	list_for_each (r, &stream->out.blockers, block_link)
		subscription_look(r->subscription);
}
