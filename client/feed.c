/* Input: writes and closes.
 *
 * A Write goes past the generated code: a hand-made prefix, then the caller's bytes, straight into
 * the socket when they are many. redd_write_all() keeps several in flight, but never more than the
 * input's window, so that none is refused.
 */
#include <errno.h>
#include <string.h>

#include "client/answers.h"
#include "client/call.h"
#include "client/handles.h"
#include "client/patience.h"
#include "proto/base/err.h"
#include "proto/redd.pb-c.h"

#define CHUNK KIB(128) /* of redd_write_all(): below every window, and cheap to hold twice */

/* What the broker put in front shows in the size. */
static void port_learns_header(struct redd_port *port, const struct call *c, uint64_t size)
{
	if (port->knows_header || c->input.header || c->input.has_offset)
		return;
	port->knows_header = true;
	port->header = (uint32_t)(size - c->input.size);
}

static int write_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	if (m->written->size)
		ledger_written(&c->port->inputs, c->input.stream, c->number, m->written->offset,
			       m->written->size);
	port_learns_header(c->port, c, m->written->size);
	patience_pays(r, c);
	reply->written = written_of(m->written);
	return 0;
}

/* It was refused after some of it may have gone. */
static void write_failed(struct redd *r, struct call *c, int result)
{
	(void)r;
	(void)result;
	if (c->is_repeated)
		ledger_doubt(&c->port->inputs, c->input.stream, c->number);
}

/* Refused for being closed: what was to come about. */
static bool is_closed(const struct redd *r)
{
	const struct redd_error *e = &r->failure.error;

	return e->code == REDD_FAILED_PRECONDITION && e->sys_errno == EPIPE;
}

/* One without data that closes: by its offset alone the broker does not know it again. */
static bool write_was_done(struct redd *r, const struct call *c, struct redd_reply *reply)
{
	const struct call_input *in = &c->input;
	bool no_header = in->header == REDD_HEADER_NONE ||
			 (!in->header && c->port->knows_header && !c->port->header);

	if (!in->closes || in->size || !no_header || !is_closed(r))
		return false;
	reply->written = (struct redd_written){ .offset = c->input.offset, .exact = true };
	return true;
}

static const struct call_kind write_kind = {
	.name = "Write",
	.answer = REDD__V1__MESSAGE__BODY_WRITTEN,
	.repeat = CALL_AT,
	.was_done = write_was_done,
	.take = write_take,
	.failed = write_failed,
};

static void write_build(struct codec_write *w, const struct redd_port *port,
			const struct redd_write_options *o)
{
	if (port->id) {
		w->by = CODEC_BY_ID;
		w->number = port->id;
	} else if (port->spawn) {
		w->by = CODEC_BY_SPAWN;
		w->number = port->spawn;
	} else {
		w->by = CODEC_BY_NAME;
		w->name = (const uint8_t *)port->name;
		w->name_size = strlen(port->name);
	}
	w->has_stream = o->other_stream;
	w->stream = o->stream;
	w->has_offset = o->at_offset;
	w->offset = o->offset;
	w->no_wait = o->no_wait;
	w->close = o->close;
	w->has_header = o->header != 0;
	w->header = o->header == REDD_HEADER_NONE ? 0 : o->header;
	w->force = o->force;
	w->batch = o->patient ? port->r->patience.batch : 0;
}

struct call_input input_of_write(const struct redd_write_options *o, size_t size)
{
	return (struct call_input){
		.stream = o->other_stream ? o->stream : REDD_STREAM_DEFAULT,
		.closes = o->close,
		.writes = true,
		.size = size,
		.header = o->header,
		.no_wait = o->no_wait && !o->force,
		.is_patient = o->patient,
		.has_offset = o->at_offset,
		.offset = o->offset,
	};
}

/* One try to queue it: an OUTGOING_E_* or a negative errno. What went out and could not be kept
 * goes out all the same; it is not repeated then. */
static int write_queue(struct redd *r, struct call *c, const struct codec_write *w)
{
	uint8_t prefix[CODEC_WRITE_PREFIX_MAX];
	size_t prefix_size;
	uint64_t position;
	int e;

	if (calls_are_full(r, true))
		return OUTGOING_E_FULL;
	/* The frame's own length prefix is not counted in frame_max. */
	prefix_size = codec_write_prefix(prefix, w);
	if (w->size > r->frame_max || prefix_size + w->size > r->frame_max)
		return OUTGOING_E_LONG;
	c->input.batch = w->batch;
	if (!calls_go_out(r) || (c->input.is_patient && r->patience.n_waiting))
		return call_keep(r, c, prefix, prefix_size, w->data, w->size);
	position = outgoing_end(&r->out);
	e = outgoing_data(&r->out, r->fd, prefix, prefix_size, w->data, w->size);
	if (e == 0) {
		call_mark_sent(r, c, position);
		call_keep(r, c, prefix, prefix_size, w->data, w->size);
	}
	return e;
}

static int write_begin(struct redd_port *port, const void *data, size_t size,
		       const struct redd_write_options *options, struct how how)
{
	struct call_target target = { .port = port };
	struct codec_write w = { .data = data, .size = size };
	struct redd *r = port->r;
	struct redd_write_options o;
	struct call_input input;
	struct call *c;
	int e;

	OPTIONS_COPY(o, options);
	input = input_of_write(&o, size);
	target.input = &input;
	e = call_open(r, &write_kind, how, &target, &c);
	if (e < 0)
		return err_pass(e);
	w.id = c->id;
	do {
		/* Anew each time: while it waits the port may get its id, and a name in the
		 * frame must still be the broker's to know. */
		write_build(&w, port, &o);
		e = call_queued(r, c, write_queue(r, c, &w));
	} while (e > 0);
	if (e < 0)
		return err_pass(e);
	call_commit(r, c, how);
	return 0;
}

int redd_write(struct redd_port *port, const void *data, size_t size,
	       const struct redd_write_options *options, struct redd_written *ret_written)
{
	struct waiter w = { 0 };
	int e = call_wait(port->r, write_begin(port, data, size, options, WAITER(&w)), &w);

	if (e == 0 && ret_written)
		*ret_written = w.reply.written;
	return e;
}

int redd_write_start(struct redd_port *port, const void *data, size_t size,
		     const struct redd_write_options *options, struct redd_call *call)
{
	return write_begin(port, data, size, options, STARTED(call));
}

/* --- any length ------------------------------------------------------------------------------ */

#define SLOTS 16 /* writes in flight */

/* Writes in flight, answered in the order in which they were begun. */
struct train {
	struct redd_port *port;
	const char *data;
	size_t size;
	struct redd_write_options options;
	struct waiter waiters[SLOTS];
	size_t sizes[SLOTS];
	size_t begun, ended; /* writes; slot = number % SLOTS */
	size_t position;     /* of the next byte to send */
	size_t in_flight;
	uint64_t taken;
};

/* Bytes for the next write; 0 when none may follow just now. */
static size_t train_next(const struct train *t)
{
	size_t most = MIN(CHUNK, t->port->r->frame_max - CODEC_WRITE_PREFIX_MAX);
	size_t size = MIN(t->size - t->position, most);
	bool idle = t->begun == t->ended;

	/* An empty queue takes any legal write; more only within what the broker has promised. */
	if (idle)
		return size;
	if (t->begun - t->ended == SLOTS || t->in_flight + size > t->port->window)
		return 0;
	return size;
}

static int train_send(struct train *t, size_t size)
{
	struct redd_write_options o = t->options;
	size_t slot = t->begun % SLOTS;
	int e;

	o.close = t->options.close && t->position + size == t->size;
	if (t->options.at_offset)
		o.offset += t->position;
	t->waiters[slot] = (struct waiter){ 0 };
	t->sizes[slot] = size;
	e = write_begin(t->port, t->data + t->position, size, &o, WAITER(&t->waiters[slot]));
	if (e < 0)
		return err_pass(e);
	t->begun++;
	t->position += size;
	t->in_flight += size;
	return 0;
}

static int train_wait(struct train *t)
{
	size_t slot = t->ended % SLOTS;
	int e = call_wait(t->port->r, 0, &t->waiters[slot]);

	t->ended++;
	t->in_flight -= t->sizes[slot];
	if (e == 0)
		t->taken += t->sizes[slot];
	return e;
}

/* After a failure: what is in flight is still ours to hear of, since the waiters are on our stack.
 * Only the bytes before the failure count as taken. */
static void train_stop(struct train *t)
{
	uint64_t taken = t->taken;

	while (t->ended < t->begun)
		train_wait(t);
	t->taken = taken;
}

static int train_run(struct train *t)
{
	bool first = true; /* an empty write that closes is a write too */
	int e = 0;

	while (!e && (first || t->position < t->size || t->ended < t->begun)) {
		size_t size = train_next(t);

		if (first || size)
			e = train_send(t, size);
		else
			e = train_wait(t);
		first = false;
	}
	return e;
}

int redd_write_all(struct redd_port *port, const void *data, size_t size,
		   const struct redd_write_options *options, uint64_t *ret_taken)
{
	struct train t = { .port = port, .data = data, .size = size };
	struct failure why;
	int e;

	OPTIONS_COPY(t.options, options);
	if (t.options.header && t.options.header != REDD_HEADER_NONE)
		return client_fail(port->r, -EINVAL,
				   "a packet goes in one write; redd_write() makes it");
	t.options.header = REDD_HEADER_NONE;
	t.options.patient = !t.options.no_wait;
	port_ref(port); /* a callback may free it */
	e = train_run(&t);
	if (e < 0) {
		failure_copy(&why, &port->r->failure);
		train_stop(&t);
		failure_copy(&port->r->failure, &why);
	}
	if (ret_taken)
		*ret_taken = t.taken;
	port_unref(port);
	return e;
}

/* --- close ----------------------------------------------------------------------------------- */

static int close_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	(void)r;
	(void)c;
	reply->closed_at = m->close_done->offset;
	return 0;
}

static bool close_was_done(struct redd *r, const struct call *c, struct redd_reply *reply)
{
	if (!is_closed(r))
		return false;
	reply->closed_at = ledger_end(&c->port->inputs, c->input.stream);
	return true;
}

static const struct call_kind close_kind = {
	.name = "Close",
	.answer = REDD__V1__MESSAGE__BODY_CLOSE_DONE,
	.repeat = CALL_REPEAT,
	.was_done = close_was_done,
	.take = close_take,
};

static int close_send(struct redd_port *port, Redd__V1__Close *m, struct how how)
{
	const struct call_input input = {
		.stream = m->has_stream ? m->stream : REDD_STREAM_DEFAULT,
		.closes = !m->whole,
	};
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	struct call_target target = { .port = port, .input = &input };
	Redd__V1__PortRef ref;

	port_name_in(port, &ref);
	m->port = &ref;
	request.body_case = REDD__V1__REQUEST__BODY_CLOSE;
	request.close = m;
	return call_send(port->r, &close_kind, how, &target, &request, NULL);
}

static int close_begin(struct redd_port *port, uint32_t stream, struct how how)
{
	Redd__V1__Close m = REDD__V1__CLOSE__INIT;

	m.has_stream = stream != REDD_STREAM_DEFAULT;
	m.stream = m.has_stream ? stream : 0;
	return close_send(port, &m, how);
}

static int close_whole_begin(struct redd_port *port, bool discard, struct how how)
{
	Redd__V1__Close m = REDD__V1__CLOSE__INIT;

	m.has_whole = m.whole = true;
	m.has_discard = m.discard = discard;
	return close_send(port, &m, how);
}

int redd_close(struct redd_port *port, uint32_t stream, uint64_t *ret_total)
{
	struct waiter w = { 0 };
	int e = call_wait(port->r, close_begin(port, stream, WAITER(&w)), &w);

	if (e == 0 && ret_total)
		*ret_total = w.reply.closed_at;
	return e;
}

int redd_close_start(struct redd_port *port, uint32_t stream, struct redd_call *call)
{
	return close_begin(port, stream, STARTED(call));
}

int redd_close_whole(struct redd_port *port, bool discard, uint64_t *ret_total)
{
	struct waiter w = { 0 };
	int e = call_wait(port->r, close_whole_begin(port, discard, WAITER(&w)), &w);

	if (e == 0 && ret_total)
		*ret_total = w.reply.closed_at;
	return e;
}

int redd_close_whole_start(struct redd_port *port, bool discard, struct redd_call *call)
{
	return close_whole_begin(port, discard, STARTED(call));
}
