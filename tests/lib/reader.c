#include "tests/lib/reader.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/codec.h"
#include "proto/frame.h"
#include "proto/redd.pb-c.h"
#include "tests/lib/pattern.h"

void reader_open(struct reader_client *r, struct core *core)
{
	int smallest = 1;

	*r = (struct reader_client){ 0 };
	r->conn = core_connect(core, &r->fd);
	r->conn->sndbuf_is_grown = true; /* it shall not grow again */
	cr_assert_eq(setsockopt(r->conn->fd, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(int)), 0);
	buf_init(&r->in, MIB(4));
	arena_init(&r->arena);
}

void reader_close(struct reader_client *r)
{
	close(r->fd);
	buf_deinit(&r->in);
	arena_deinit(&r->arena);
}

/* --- what is promised ------------------------------------------------------------------------ */

static struct reader_subscription *subscription(struct reader_client *r, uint64_t id)
{
	struct reader_subscription *s = &r->subscriptions[id];

	cr_assert_lt(id, READER_SUBSCRIPTIONS);
	cr_assert(!s->is_closed, "subscription %lu: something comes behind Closed", id);
	return s;
}

static struct reader_stream *stream(struct reader_subscription *s, uint32_t number)
{
	cr_assert_lt(number, READER_STREAMS);
	cr_assert(!s->streams[number].has_ended, "something comes behind StreamEnd");
	return &s->streams[number];
}

static void on_output(struct reader_client *r, const Redd__V1__Output *o)
{
	struct reader_subscription *s = subscription(r, o->subscription);
	struct reader_stream *t = stream(s, o->stream);

	cr_assert_eq(o->offset, t->next, "offset %lu comes where %lu was to", o->offset, t->next);
	cr_assert(o->consumed == o->data.len || (o->has_record && o->consumed > o->data.len));
	cr_assert(o->data.len > 0 || o->has_record);
	cr_assert_eq(
		pattern_match(o->data.data, o->data.len, o->offset + o->consumed - o->data.len),
		o->data.len, "other bytes than were written, behind offset %lu", o->offset);
	t->n_records += o->has_record && o->record != REDD__V1__OUTPUT__RECORD__PART;
	t->next += o->consumed;
	t->data += o->data.len;
	s->cost += o->data.len + EVENT_CREDIT;
}

static void on_gap(struct reader_client *r, const Redd__V1__Gap *g)
{
	struct reader_subscription *s = subscription(r, g->subscription);
	struct reader_stream *t = stream(s, g->stream);

	cr_assert(s->may_gap, "a gap from %lu to %lu", g->offset, g->end);
	cr_assert_eq(g->offset, t->next);
	cr_assert(g->end > g->offset || g->cause == REDD__V1__GAP__CAUSE__ABANDONED);
	t->gaps += g->end - g->offset;
	t->n_gaps++;
	t->last_cause = g->cause;
	t->next = g->end;
	s->cost += EVENT_CREDIT;
}

static void on_end(struct reader_client *r, const Redd__V1__StreamEnd *e)
{
	struct reader_subscription *s = subscription(r, e->subscription);
	struct reader_stream *t = stream(s, e->stream);

	cr_assert_eq(e->total, t->next, "total %lu, and %lu were told", e->total, t->next);
	t->has_ended = true;
	s->cost += EVENT_CREDIT;
}

static void on_closed(struct reader_client *r, const Redd__V1__Closed *c)
{
	struct reader_subscription *s = subscription(r, c->subscription);

	s->is_closed = true;
	s->cause = c->cause;
	if (c->cause == REDD__V1__CLOSED__CAUSE__PORT_CLOSED)
		cr_assert(s->has_exited, "Closed comes before Exited");
}

static void on_exited(struct reader_client *r, const Redd__V1__Exited *e)
{
	struct reader_subscription *s = subscription(r, e->subscription);

	cr_assert(!s->has_exited, "exited twice");
	s->has_exited = true;
}

/* A state is told when it is another one than was told before. */
static void on_marks(struct reader_client *r, const Redd__V1__Marks *m)
{
	struct reader_subscription *s = subscription(r, m->subscription);

	cr_assert_lt(m->stream, READER_STREAMS);
	cr_assert_neq(s->is_busy[m->stream], m->busy, "told twice");
	s->is_busy[m->stream] = m->busy;
	s->n_marks++;
}

static void on_message(struct reader_client *r, const Redd__V1__Message *m)
{
	if (m->has_reply_to && m->reply_to) {
		r->n_answers++;
		return;
	}
	switch (m->body_case) {
	case REDD__V1__MESSAGE__BODY_OUTPUT:
		on_output(r, m->output);
		break;
	case REDD__V1__MESSAGE__BODY_GAP:
		on_gap(r, m->gap);
		break;
	case REDD__V1__MESSAGE__BODY_STREAM_END:
		on_end(r, m->stream_end);
		break;
	case REDD__V1__MESSAGE__BODY_CLOSED:
		on_closed(r, m->closed);
		break;
	case REDD__V1__MESSAGE__BODY_EXITED:
		on_exited(r, m->exited);
		break;
	case REDD__V1__MESSAGE__BODY_MARKS:
		on_marks(r, m->marks);
		break;
	default:
		cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_BYE);
		break;
	}
}

/* --- bytes ----------------------------------------------------------------------------------- */

static bool take_frame(struct reader_client *r)
{
	Redd__V1__Message *m;
	size_t prefix, length;
	const char *reason = "";
	int e = frame_parse(buf_head(&r->in), buf_size(&r->in), FRAME_MAX_DEFAULT, &prefix,
			    &length);

	cr_assert(e == 0 || e == FRAME_E_MORE, "what came is no frame");
	if (e || buf_size(&r->in) < prefix + length)
		return false;
	cr_assert_eq(
		codec_unpack_message(&r->arena, buf_head(&r->in) + prefix, length, &m, &reason), 0,
		"%s", reason);
	on_message(r, m);
	buf_consume(&r->in, prefix + length);
	return true;
}

bool reader_take(struct reader_client *r, size_t most)
{
	uint8_t *space;
	ssize_t n;

	cr_assert_eq(buf_reserve(&r->in, most, &space), 0);
	n = read(r->fd, space, most);
	r->is_over |= n == 0 || (n < 0 && errno == ECONNRESET);
	if (n <= 0)
		return false;
	buf_commit(&r->in, (size_t)n);
	r->n_bytes += (uint64_t)n;
	while (take_frame(r))
		;
	return true;
}

void reader_drain(struct reader_client *r, struct core *core)
{
	bool any;

	do {
		core_turns(core, 3);
		any = false;
		while (reader_take(r, KIB(64)))
			any = true;
	} while (any);
}
