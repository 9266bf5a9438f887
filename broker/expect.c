/* Owns the search, its charge and an alarm; the pending owns it. Good path: expect_new() puts it
 * among the stream's waits and makes it ready; on_turn() gives it slices until all bytes are
 * searched; then it sleeps until the stream moves, ends, or an alarm rings; over() answers and
 * frees.
 *
 * Whatever ends it but a decided match, the best match so far counts first: it is one, only a
 * longer or an earlier one could have come.
 */
#include "broker/expect.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/cursor.h"
#include "broker/pending.h"
#include "broker/port.h"
#include "proto/base/err.h"

static struct broker *broker_of(const struct expect *e)
{
	return e->stream->broker;
}

/* --- whose turn it is ------------------------------------------------------------------------ */

static void on_turn(struct job *job);

void expect_turns_init(struct expect_turns *t)
{
	*t = (struct expect_turns){ 0 };
	list_init(&t->queues);
	job_init(&t->job, on_turn);
}

void expect_queue_init(struct expect_queue *q)
{
	*q = (struct expect_queue){ 0 };
	list_init(&q->link);
	list_init(&q->ready);
}

static void expect_wake(struct expect *e)
{
	struct expect_queue *q = &e->pending->conn->expects;
	struct broker *b = broker_of(e);

	if (list_is_linked(&e->ready_link))
		return;
	list_append(&q->ready, &e->ready_link);
	if (!list_is_linked(&q->link))
		list_append(&b->expects.queues, &q->link);
	turn_work(&b->turn, &b->expects.job);
}

static void expect_unready(struct expect *e)
{
	struct expect_queue *q = &e->pending->conn->expects;

	list_remove(&e->ready_link);
	if (list_is_empty(&q->ready))
		list_remove(&q->link);
}

/* --- the end --------------------------------------------------------------------------------- */

static void expect_end(struct expect *e, enum expect_end end)
{
	struct search_match best;

	e->over(e, e->search && search_best(e->search, &best) ? EXPECT_MATCH : end);
}

static void on_deadline(struct alarm *a)
{
	struct pending *p = container_of(a, struct pending, alarm);

	expect_end(p->expect, EXPECT_DEADLINE);
}

/* Nothing has come, and nothing waits in the pipe or to be searched. */
static void on_idle(struct alarm *a)
{
	struct expect *e = container_of(a, struct expect, idle);
	uint64_t now = uv_now(&broker_of(e)->loop), idle = 0;

	if (!e->options.writes && e->stream->is_started && !list_is_linked(&e->ready_link))
		idle = MIN(stream_idle_ms(e->stream, now), now - e->since_ms);
	if (idle >= e->options.idle_ms)
		expect_end(e, EXPECT_IDLE);
	else
		alarm_set(&broker_of(e)->alarms, &e->idle, e->options.idle_ms - idle);
}

/* --- a slice --------------------------------------------------------------------------------- */

uint64_t expect_searched(const struct expect *e)
{
	return e->search ? search_offset(e->search) : stream_total(e->stream);
}

/* One bounded step of the search. */
static enum search_result expect_feed(struct expect *e)
{
	struct stream *s = e->stream;
	uint64_t at = search_offset(e->search), head = stream_total(s);
	const uint8_t *data = at < head ? ring_at(s->out.ring, at) : NULL;
	enum search_result r =
		search_feed(e->search, data, (size_t)(head - at), EXPECT_STEPS_A_SLICE);

	s->broker->counters.searched += search_offset(e->search) - at;
	if (e->options.block && search_offset(e->search) > at)
		stream_readers_changed(s);
	return r;
}

/* All that is there was searched. */
static void expect_caught_up(struct expect *e)
{
	bool is_ended = e->stream->out.is_ended, has_exited = e->stream->port->has_exited;

	if (is_ended && e->search && search_end(e->search) == SEARCH_FOUND)
		expect_end(e, EXPECT_MATCH);
	else if (is_ended && e->options.exit && has_exited)
		expect_end(e, EXPECT_EXITED);
	else if (is_ended && !e->options.exit)
		expect_end(e, EXPECT_ENDED);
	else if (expect_searched(e) >= e->goal)
		expect_end(e, e->goal_end);
}

static void expect_slice(struct expect *e)
{
	enum search_result r = SEARCH_HUNGRY;

	if (expect_searched(e) < stream_oldest(e->stream)) {
		expect_end(e, EXPECT_LOST);
		return;
	}
	if (e->search)
		r = expect_feed(e);
	if (r == SEARCH_FOUND)
		expect_end(e, EXPECT_MATCH);
	else if (r == SEARCH_TIRED)
		expect_wake(e);
	else
		expect_caught_up(e);
}

static void on_turn(struct job *job)
{
	struct broker *b = container_of(job, struct broker, expects.job);
	uint64_t end = uv_hrtime() + EXPECT_TIME_A_TURN_NS;
	struct expect_queue *q;

	while ((q = list_first(&b->expects.queues, struct expect_queue, link))) {
		struct expect *e = list_first(&q->ready, struct expect, ready_link);

		expect_unready(e);
		if (list_is_linked(&q->link)) { /* the next connection first */
			list_remove(&q->link);
			list_append(&b->expects.queues, &q->link);
		}
		expect_slice(e);
		if (uv_hrtime() >= end)
			break;
	}
	if (list_is_empty(&b->expects.queues))
		return;
	b->counters.search_turns++;
	turn_work(&b->turn, job);
}

/* --- making one ------------------------------------------------------------------------------ */

static void expect_set_goal(struct expect *e, uint64_t goal, enum expect_end end)
{
	if (goal >= e->goal)
		return;
	e->goal = goal;
	e->goal_end = end;
}

static int expect_make_search(struct expect *e, struct program *take_program,
			      const char **ret_reason)
{
	struct ring *ring = e->stream->out.ring;
	uint64_t from = e->options.from;
	int previous = from > stream_oldest(e->stream) ? *ring_at(ring, from - 1) : -1;
	size_t size = search_size(take_program);

	if (!take_program->n_insns)
		return 0;
	if (quota_charge_take(&e->charge, e->pending->conn->account, QUOTA_BUFFER_BYTES, size,
			      ret_reason)) {
		program_deinit(take_program);
		return EXPECT_E_QUOTA;
	}
	return err_pass(search_new(&e->search, take_program, from, previous));
}

static int expect_set_alarms(struct expect *e)
{
	struct alarms *alarms = &broker_of(e)->alarms;
	const struct expect_options *o = &e->options;
	int r = 0;

	if (o->exit && e->stream->port->has_exited)
		expect_set_goal(e, stream_written(e->stream), EXPECT_EXITED);
	if (o->has_timeout && !o->timeout_ms)
		expect_set_goal(e, stream_total(e->stream), EXPECT_DEADLINE);
	else if (o->has_timeout)
		r = alarm_set(alarms, &e->pending->alarm, o->timeout_ms);
	if (!r && o->idle_ms)
		r = alarm_set(alarms, &e->idle, o->idle_ms);
	return err_pass(r);
}

static void expect_link(struct expect *e)
{
	list_append(&e->stream->out.expects, &e->stream_link);
	e->stream->out.n_expects++;
	e->pending->conn->expects.n++;
	broker_of(e)->expects.n++;
	alarm_init(&e->pending->alarm, on_deadline);
	e->pending->expect = e;
}

int expect_new(struct pending *pending, struct stream *stream, struct program *take_program,
	       const struct expect_options *options, expect_over_fn *over, const char **ret_reason)
{
	struct expect *e = calloc(1, sizeof(*e));
	int r;

	if (!e) {
		program_deinit(take_program);
		return err_begin(-ENOMEM);
	}
	e->pending = pending;
	e->stream = stream;
	e->options = *options;
	e->over = over;
	e->goal = UINT64_MAX;
	e->since_ms = uv_now(&stream->broker->loop);
	alarm_init(&e->idle, on_idle);
	list_init(&e->stream_link);
	list_init(&e->ready_link);
	expect_link(e); /* from here on pending_free() frees it */
	r = expect_make_search(e, take_program, ret_reason);
	if (!r)
		r = expect_set_alarms(e);
	if (!r)
		expect_wake(e);
	return r;
}

void expect_free(struct expect *e)
{
	struct stream *s = e->stream;

	expect_unready(e);
	list_remove(&e->stream_link);
	s->out.n_expects--;
	e->pending->conn->expects.n--;
	s->broker->expects.n--;
	alarm_stop(&s->broker->alarms, &e->idle);
	quota_charge_return(&e->charge);
	search_free(e->search);
	if (e->options.block)
		stream_readers_changed(s);
	free(e);
}

/* --- what happens meanwhile ------------------------------------------------------------------ */

void expect_written(struct expect *e)
{
	e->options.writes = false;
	e->since_ms = uv_now(&broker_of(e)->loop);
}

void expects_wake(struct stream *s)
{
	struct expect *e;

	list_for_each (e, &s->out.expects, stream_link)
		expect_wake(e);
}

void expects_exited(struct port *p)
{
	struct expect *e;

	for (unsigned i = 0; i < p->n_streams; i++)
		list_for_each (e, &p->streams[i]->out.expects, stream_link)
			if (e->options.exit) {
				expect_set_goal(e, stream_written(e->stream), EXPECT_EXITED);
				expect_wake(e);
			}
}

uint64_t expect_room(const struct expect *e)
{
	const struct cursor c = { .offset = expect_searched(e), .overflow = CURSOR_MAY_BLOCK };

	if (!e->options.block || !e->search)
		return UINT64_MAX;
	return cursor_room(&c, stream_total(e->stream), e->stream->out.log_size);
}
