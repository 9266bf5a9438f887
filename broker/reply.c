#include "broker/reply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/port.h"
#include "broker/req.h"
#include "broker/subscription.h"
#include "broker/life.h"
#include "proto/base/err.h"
#include "proto/base/log.h"
#include "proto/codec.h"

#define SENTENCE_MAX 512

/* --- answers --------------------------------------------------------------------------------- */

static void send_message(struct conn *c, Redd__V1__Message *m)
{
	int r;

	if (!c || c->state == CONN_CLOSED || c->state == CONN_LEAVING)
		return;
	r = codec_pack(&c->control, &m->base, c->frame_max);
	if (r == CODEC_E_LONG) {
		reply_error(c, m->reply_to, REPLY_RESOURCE_EXHAUSTED, EMSGSIZE,
			    "the answer is longer than frame_max of the Welcome; ask for less, or "
			    "for a "
			    "larger frame_max in Hello");
		return;
	}
	if (r) {
		log_warning("client pid %d does not take its answers; it is disconnected",
			    (int)c->pid);
		conn_leave(c, 0, NULL); /* not now: callers still hold what belongs to it */
		return;
	}
	conn_wake(c);
}

/* A Bye is a last word, and is not charged. */
static void send_answer(struct conn *c, Redd__V1__Message *m)
{
	send_message(c, m);
	if (c && c->state != CONN_CLOSED && c->state != CONN_LEAVING)
		conn_charge_answer(c);
}

void reply_message(struct conn *c, uint64_t request, void *message)
{
	Redd__V1__Message *m = message;

	m->has_reply_to = true;
	m->reply_to = request;
	send_answer(c, m);
}

void reply_done(struct conn *c, uint64_t request)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Done done = REDD__V1__DONE__INIT;

	m.body_case = REDD__V1__MESSAGE__BODY_DONE;
	m.done = &done;
	reply_message(c, request, &m);
}

/* What fails with EAGAIN because something is used up is a matter of time. */
static void fill_error(Redd__V1__Error *e, enum reply_code code, int sys_errno,
		       const char *sentence)
{
	e->has_code = true;
	e->code = (Redd__V1__Code)code;
	e->has_sys_errno = sys_errno != 0;
	e->sys_errno = sys_errno;
	e->message = (char *)sentence;
	e->has_retry_after_ms = code == REPLY_RESOURCE_EXHAUSTED && sys_errno == EAGAIN;
	e->retry_after_ms = e->has_retry_after_ms ? QUOTA_RETRY_MS : 0;
}

static void send_error(struct conn *c, uint64_t request, Redd__V1__Error *e)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;

	m.body_case = REDD__V1__MESSAGE__BODY_ERROR;
	m.error = e;
	reply_message(c, request, &m);
}

void reply_error(struct conn *c, uint64_t request, enum reply_code code, int sys_errno,
		 const char *format, ...)
{
	Redd__V1__Error e = REDD__V1__ERROR__INIT;
	char sentence[SENTENCE_MAX], shown[SENTENCE_MAX * 2];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	log_escape(shown, sizeof(shown), sentence, MIN((size_t)MAX(n, 0), sizeof(sentence) - 1));
	fill_error(&e, code, sys_errno, shown);
	send_error(c, request, &e);
}

void reply_spawn_failed(struct conn *c, uint64_t request, enum reply_code code, uint32_t stage,
			int sys_errno, uint32_t retry_after_ms, const char *sentence)
{
	Redd__V1__Error e = REDD__V1__ERROR__INIT;

	fill_error(&e, code, sys_errno, sentence);
	e.has_stage = true;
	e.stage = (Redd__V1__Stage)stage;
	if (retry_after_ms) {
		e.has_retry_after_ms = true;
		e.retry_after_ms = retry_after_ms;
	}
	send_error(c, request, &e);
}

void reply_bye(struct conn *c, enum reply_code code, const char *sentence)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Bye bye = REDD__V1__BYE__INIT;
	Redd__V1__Error e = REDD__V1__ERROR__INIT;

	fill_error(&e, code, 0, sentence);
	bye.error = &e;
	m.body_case = REDD__V1__MESSAGE__BODY_BYE;
	m.bye = &bye;
	c->broker->counters.refused_frames++;
	send_message(c, &m);
}

void reply_refuse_connection(int fd, enum reply_code code, const char *sentence)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Bye bye = REDD__V1__BYE__INIT;
	Redd__V1__Error e = REDD__V1__ERROR__INIT;
	_cleanup_(buf_deinit) struct buf out;

	buf_init(&out, KIB(16));
	fill_error(&e, code, 0, sentence);
	bye.error = &e;
	m.body_case = REDD__V1__MESSAGE__BODY_BYE;
	m.bye = &bye;
	if (codec_pack(&out, &m.base, FRAME_MAX_DEFAULT) == 0)
		(void)send(fd, buf_head(&out), buf_size(&out), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* --- events ---------------------------------------------------------------------------------- */

#define SET(message, field, value) ((message).has_##field = true, (message).field = (value))

static void send_leased(struct conn *c, uint64_t request, uint64_t port, uint64_t lease,
			uint32_t cause)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Leased leased = REDD__V1__LEASED__INIT;

	SET(leased, port, port);
	SET(leased, lease, lease);
	SET(leased, cause, (Redd__V1__Leased__Cause)cause);
	m.body_case = REDD__V1__MESSAGE__BODY_LEASED;
	m.leased = &leased;
	if (request)
		SET(m, reply_to, request);
	send_answer(c, &m);
}

void reply_leased(struct conn *c, uint64_t request, uint64_t port, uint64_t lease)
{
	send_leased(c, request, port, lease, REDD__V1__LEASED__CAUSE__HELD);
}

void reply_lease_ended(struct conn *c, uint64_t port, uint64_t lease, uint32_t cause)
{
	send_leased(c, 0, port, lease, cause);
}

void reply_fill_exit(Redd__V1__Exit *ret, const struct exit_record *e)
{
	SET(*ret, state, (Redd__V1__Exit__State)e->state);
	if (e->state == EXIT_STATE_CODE)
		SET(*ret, code, e->code);
	if (e->state == EXIT_STATE_SIGNAL) {
		SET(*ret, signal, e->signal);
		SET(*ret, core, e->core);
	}
	SET(*ret, timed_out, e->timed_out);
	SET(*ret, start_ns, e->start_ns);
	SET(*ret, end_ns, e->end_ns);
	if (e->state == EXIT_STATE_UNKNOWN)
		return; /* nobody measured it */
	SET(*ret, user_us, e->user_us);
	SET(*ret, system_us, e->system_us);
	SET(*ret, max_rss, e->max_rss);
	SET(*ret, minor_faults, e->minor_faults);
	SET(*ret, major_faults, e->major_faults);
	SET(*ret, voluntary_switches, e->voluntary_switches);
	SET(*ret, involuntary_switches, e->involuntary_switches);
	SET(*ret, blocks_in, e->blocks_in);
	SET(*ret, blocks_out, e->blocks_out);
}

static int pack(struct buf *out, Redd__V1__Message *m)
{
	return codec_pack(out, &m->base, FRAME_MAX_LOWEST);
}

static int pack_gap(struct buf *out, const struct subscription *s, const struct reader *r,
		    const struct cursor_step *step)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Gap gap = REDD__V1__GAP__INIT;

	SET(gap, subscription, s->id);
	SET(gap, port, s->port_id);
	SET(gap, stream, r->stream->number);
	SET(gap, offset, step->offset);
	SET(gap, end, step->end);
	SET(gap, cause, (Redd__V1__Gap__Cause)step->cause);
	if (step->aborts)
		SET(gap, aborts_record, true);
	s->conn->broker->counters.gaps++;
	s->conn->broker->counters.gap_bytes += step->end - step->offset;
	m.body_case = REDD__V1__MESSAGE__BODY_GAP;
	m.gap = &gap;
	return pack(out, &m);
}

static int pack_end(struct buf *out, const struct subscription *s, const struct reader *r,
		    const struct cursor_step *step)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__StreamEnd end = REDD__V1__STREAM_END__INIT;
	const struct stream_output *o = &r->stream->out;

	SET(end, subscription, s->id);
	SET(end, port, s->port_id);
	SET(end, stream, r->stream->number);
	SET(end, total, step->offset);
	SET(end, cause, (Redd__V1__StreamEnd__Cause)o->cause);
	if (o->cause == STREAM_READ_ERROR)
		SET(end, sys_errno, o->sys_errno);
	if (o->wants_checksum && !o->abandoned)
		SET(end, xxh3, stream_checksum(r->stream));
	m.body_case = REDD__V1__MESSAGE__BODY_STREAM_END;
	m.stream_end = &end;
	return pack(out, &m);
}

int reply_pack_step(struct buf *out, const struct subscription *s, const struct reader *r,
		    const struct cursor_step *step)
{
	return step->what == CURSOR_GAP ? pack_gap(out, s, r, step) : pack_end(out, s, r, step);
}

int reply_pack_closed(struct buf *out, const struct subscription *s)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Closed closed = REDD__V1__CLOSED__INIT;
	Redd__V1__Exit exit = REDD__V1__EXIT__INIT;

	SET(closed, subscription, s->id);
	SET(closed, port, s->port_id);
	SET(closed, cause, (Redd__V1__Closed__Cause)s->cause);
	if (s->cause == SUBSCRIPTION_PORT_CLOSED && s->port) {
		reply_fill_exit(&exit, &s->port->exit);
		closed.exit = &exit;
		closed.n_holders = s->port->n_holders;
		closed.holders = s->port->holders;
	}
	if (s->cause == SUBSCRIPTION_BAD_RECORD) {
		SET(closed, stream, s->bad_stream);
		SET(closed, offset, s->bad_offset);
	}
	m.body_case = REDD__V1__MESSAGE__BODY_CLOSED;
	m.closed = &closed;
	return pack(out, &m);
}

int reply_pack_exited(struct buf *out, const struct subscription *s)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Exited exited = REDD__V1__EXITED__INIT;
	Redd__V1__Exit exit = REDD__V1__EXIT__INIT;

	if (!s->port)
		return 0;
	reply_fill_exit(&exit, &s->port->exit);
	SET(exited, subscription, s->id);
	SET(exited, port, s->port_id);
	exited.exit = &exit;
	m.body_case = REDD__V1__MESSAGE__BODY_EXITED;
	m.exited = &exited;
	return pack(out, &m);
}

int reply_pack_marks(struct buf *out, const struct subscription *s, const struct stream *stream)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Marks marks = REDD__V1__MARKS__INIT;

	SET(marks, subscription, s->id);
	SET(marks, port, s->port_id);
	SET(marks, stream, stream->number);
	SET(marks, busy, input_is_busy(&stream->in.queue));
	SET(marks, queued, input_queued(&stream->in.queue));
	m.body_case = REDD__V1__MESSAGE__BODY_MARKS;
	m.marks = &marks;
	return pack(out, &m);
}

int reply_pack_moved(struct buf *out, const struct subscription *s)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Moved moved = REDD__V1__MOVED__INIT;

	SET(moved, subscription, s->id);
	m.body_case = REDD__V1__MESSAGE__BODY_MOVED;
	m.moved = &moved;
	return pack(out, &m);
}

int reply_pack_life(struct buf *out, const struct watch *w, const struct event *e)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Life life = REDD__V1__LIFE__INIT;
	Redd__V1__Exit exit = REDD__V1__EXIT__INIT;

	SET(life, watch, w->id);
	SET(life, sequence, e->sequence);
	SET(life, what, (Redd__V1__Life__What)e->what);
	SET(life, port, e->port);
	SET(life, pid, e->pid);
	SET(life, time_ns, e->time_ns);
	if (*e->name)
		SET(life, name, ((ProtobufCBinaryData){ strlen(e->name), (uint8_t *)e->name }));
	if (e->what == EVENT_EXITED || e->what == EVENT_CLOSED) {
		reply_fill_exit(&exit, &e->exit);
		life.exit = &exit;
	}
	if (e->what == EVENT_CLOSED) {
		life.n_holders = e->n_holders;
		life.holders = (int32_t *)e->holders;
	}
	m.body_case = REDD__V1__MESSAGE__BODY_LIFE;
	m.life = &life;
	return pack(out, &m);
}

int reply_pack_missed(struct buf *out, const struct watch *w)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Life life = REDD__V1__LIFE__INIT;

	SET(life, watch, w->id);
	SET(life, sequence, w->told);
	SET(life, what, REDD__V1__LIFE__WHAT__MISSED);
	m.body_case = REDD__V1__MESSAGE__BODY_LIFE;
	m.life = &life;
	return pack(out, &m);
}
