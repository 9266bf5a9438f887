/* Write, Close, Resize; and what becomes of writes and closes that wait. */
#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/req.h"
#include "broker/req_events.h"
#include "proto/base/err.h"

/* A Write, however it was read. */
struct write_wish {
	uint64_t request;
	struct port *port;
	struct stream *stream;
	const void *data;
	size_t size;
	bool has_offset, no_wait, close;
	uint64_t offset;
};

/* --- which input ----------------------------------------------------------------------------- */

/* The input, if bytes can be queued for it; else NULL, and the request has been answered. */
static struct stream *input_of(struct conn *c, uint64_t request, struct port *p, bool has_stream,
			       uint32_t number)
{
	struct stream *s = has_stream ? port_stream(p, number) : port_default_input(p);

	if (!s || !s->in.is_there)
		reply_error(c, request, REPLY_FAILED_PRECONDITION, 0,
			    "the port has no such input; spawn it with that descriptor as a pipe, "
			    "a socket "
			    "or a terminal");
	else if (s->in.is_closed || input_is_closed(&s->in.queue))
		reply_error(c, request, REPLY_FAILED_PRECONDITION, EPIPE,
			    "the input was closed before; nothing can be written behind a Close");
	else if (s->in.is_failed)
		reply_error(c, request, REPLY_FAILED_PRECONDITION, EPIPE,
			    "nobody reads the input any more: the process closed it or has ended");
	else
		return s;
	return NULL;
}

/* --- Write ----------------------------------------------------------------------------------- */

static void answer_written(struct conn *c, uint64_t request, uint64_t offset, uint64_t size,
			   bool exact)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Written w = REDD__V1__WRITTEN__INIT;

	SET(w, offset, offset);
	SET(w, size, size);
	SET(w, exact, exact);
	m.body_case = REDD__V1__MESSAGE__BODY_WRITTEN;
	m.written = &w;
	reply_message(c, request, &m);
}

static bool is_exact(const struct stream *s)
{
	char eof;

	return s->kind != STREAM_IS_TERMINAL || !pty_is_canonical(s->fd, &eof);
}

static void refuse_write(struct conn *c, uint64_t request, int why)
{
	if (why == INPUT_E_BUSY)
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, EAGAIN,
			    "the input is busy and no_wait was set; try again when it is free");
	else if (why == INPUT_E_FULL)
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, EAGAIN,
			    "the input's queue is full; keep no more under way than its window");
	else
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, ENOMEM,
			    "no memory for the data; try again");
}

/* Queues the data. 0, or INPUT_E_*, or negative; a repeat that was written already is told so by
 * *ret_known. */
static int queue_data(const struct write_wish *w, void *cookie, struct input_item **ret_item,
		      bool *ret_known)
{
	struct input *in = &w->stream->in.queue;
	unsigned flags = w->no_wait ? INPUT_NO_WAIT : 0;

	*ret_known = false;
	*ret_item = NULL;
	if (w->has_offset) {
		flags |= INPUT_PINNED;
		switch (input_check_offset(in, w->offset, w->size)) {
		case INPUT_OFFSET_WRITTEN:
			*ret_known = true;
			return 0;
		case INPUT_OFFSET_PENDING:
			return input_push_echo(in, w->offset, w->size, cookie, ret_item);
		case INPUT_OFFSET_WRONG:
			return -ERANGE;
		case INPUT_OFFSET_NEXT:
			break;
		}
	}
	return input_push(in, w->data, w->size, flags, cookie, ret_item);
}

/* Over its quota: out again, as if it had never come. */
static bool charge_or_take_back(struct conn *c, const struct write_wish *w, struct input_item *item)
{
	const char *reason;

	if (!item || stream_charge_input(w->stream, &reason) == 0)
		return true;
	if (input_cancel(&w->stream->in.queue, item) == 0)
		input_item_free(item);
	reply_error(c, w->request, REPLY_RESOURCE_EXHAUSTED, EAGAIN, "%s", reason);
	return false;
}

static void queue_close(struct write_wish *w, struct pending *pending)
{
	struct input_item *item;

	if (input_push_close(&w->stream->in.queue, pending, &item)) {
		/* No memory: the data is answered alone, and the input stays open. */
		if (!pending->item) {
			answer_written(pending->conn, w->request, w->offset, w->size,
				       pending->exact);
			pending_free(pending);
		}
		return;
	}
	pending->data = pending->item;
	pending->item = item;
	pending->tells_written = true;
}

static int write_now(struct conn *c, struct write_wish *w)
{
	struct pending *pending = req_pending(c, w->port, PENDING_WRITE, w->request);
	struct input_item *item;
	bool known;
	int r;

	if (!pending)
		return 0;
	r = queue_data(w, pending, &item, &known);
	if (r == -ERANGE)
		reply_error(c, w->request, REPLY_OUT_OF_RANGE, 0,
			    "the input is at offset %llu, not at %llu; nothing was written",
			    (unsigned long long)input_accepted(&w->stream->in.queue),
			    (unsigned long long)w->offset);
	else if (r)
		refuse_write(c, w->request, r);
	else if (known && !w->close)
		answer_written(c, w->request, w->offset, w->size, is_exact(w->stream));
	if (r || (known && !w->close) || !charge_or_take_back(c, w, item)) {
		pending_free(pending);
		return 0;
	}
	pending->stream = w->stream;
	pending->item = item;
	pending->size = w->size;
	pending->has_offset = w->has_offset;
	pending->offset = w->offset;
	pending->exact = is_exact(w->stream);
	if (w->close)
		queue_close(w, pending);
	if (w->stream->is_started)
		stream_write(w->stream);
	return 0;
}

int req_write(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Write *m = request->write;
	struct write_wish w = { .request = request->id,
				.data = m->data.data,
				.size = m->data.len,
				.has_offset = m->has_offset,
				.offset = m->offset,
				.no_wait = m->no_wait,
				.close = m->close };

	w.port = req_port(c, request->id, m->port, POLICY_WRITE);
	if (w.port)
		w.stream = input_of(c, request->id, w.port, m->has_stream, m->stream);
	return w.stream ? write_now(c, &w) : 0;
}

int req_write_view(struct conn *c, const struct codec_write *v)
{
	Redd__V1__PortRef ref = REDD__V1__PORT_REF__INIT;
	struct write_wish w = { .request = v->id,
				.data = v->data,
				.size = v->size,
				.has_offset = v->has_offset,
				.offset = v->offset,
				.no_wait = v->no_wait,
				.close = v->close };

	if (v->by == CODEC_BY_NAME) {
		ref.by_case = REDD__V1__PORT_REF__BY_NAME;
		ref.name = (ProtobufCBinaryData){ v->name_size, (uint8_t *)v->name };
	} else if (v->by == CODEC_BY_SPAWN) {
		ref.by_case = REDD__V1__PORT_REF__BY_SPAWN;
		ref.spawn = v->number;
	} else {
		ref.by_case = REDD__V1__PORT_REF__BY_ID;
		ref.id = v->number;
	}
	w.port = req_port(c, v->id, &ref, POLICY_WRITE);
	if (w.port)
		w.stream = input_of(c, v->id, w.port, v->has_stream, v->stream);
	return w.stream ? write_now(c, &w) : 0;
}

/* --- Close ----------------------------------------------------------------------------------- */

int req_close(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Close *m = request->close;
	struct port *p = req_port(c, request->id, m->port, POLICY_WRITE);
	struct stream *s = p ? input_of(c, request->id, p, m->has_stream, m->stream) : NULL;
	struct pending *pending = s ? req_pending(c, p, PENDING_CLOSE, request->id) : NULL;
	int r;

	if (!pending)
		return 0;
	r = input_push_close(&s->in.queue, pending, &pending->item);
	if (r) {
		pending_free(pending);
		refuse_write(c, request->id, -ENOMEM);
		return 0;
	}
	pending->stream = s;
	if (s->is_started)
		stream_write(s);
	return 0;
}

/* --- Resize ---------------------------------------------------------------------------------- */

int req_resize(struct conn *c, const Redd__V1__Request *request)
{
	struct port *p = req_port(c, request->id, request->resize->port, POLICY_RESIZE);
	struct pty_size size;
	struct stream *s;
	const char *wrong;
	int r;

	if (!p)
		return 0;
	s = port_stream(p, STREAM_TERMINAL);
	wrong = request->resize->size ? req_read_terminal(request->resize->size, &size)
				      : "the request has no size";
	if (!s || s->fd < 0) {
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, ENOTTY,
			    "the port has no terminal, or it has ended; spawn it with one");
		return 0;
	}
	if (wrong) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0, "%s", wrong);
		return 0;
	}
	r = pty_resize(s->fd, &size);
	if (r < 0)
		reply_error(c, request->id, REPLY_INTERNAL, -r, "the size cannot be set: %s",
			    err_name(r));
	else
		reply_done(c, request->id);
	return 0;
}

/* --- what came of them ----------------------------------------------------------------------- */

/* Takes what waits for an item: the item is about to go. */
static struct pending *pending_of(struct input_item *item)
{
	struct pending *p = TAKE(item->cookie);

	if (p && p->item == item)
		p->item = NULL;
	else if (p)
		p->data = NULL;
	return p;
}

static void item_done(struct input_item *item)
{
	struct pending *p = pending_of(item);

	if (!p)
		return;
	if (!p->has_offset)
		p->offset = item->offset;
	if (p->item)
		return; /* its close follows */
	answer_written(p->conn, p->request, p->offset, p->size, p->exact);
	pending_free(p);
}

/* A close that came with it goes as well. */
static void item_displaced(struct stream *s, struct input_item *item)
{
	struct pending *p = pending_of(item);

	if (!p)
		return;
	reply_error(p->conn, p->request, REPLY_OUT_OF_RANGE, 0,
		    "a write before this one was cancelled, so its offset is not next any more; "
		    "nothing was written");
	if (p->item && input_cancel(&s->in.queue, p->item) == 0)
		input_item_free(TAKE(p->item));
	pending_free(p);
}

void req_input_changed(struct stream *s)
{
	struct input_item *item;

	while ((item = input_next_done(&s->in.queue))) {
		item_done(item);
		input_item_free(item);
	}
	while ((item = input_next_displaced(&s->in.queue))) {
		item_displaced(s, item);
		input_item_free(item);
	}
}

static void answer_closed(struct pending *p, struct stream *s, int error)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__CloseDone done = REDD__V1__CLOSE_DONE__INIT;
	uint64_t total = input_offset(&s->in.queue);

	if (error < 0 && error == -ENOTTY) {
		reply_error(p->conn, p->request, REPLY_FAILED_PRECONDITION, ENOTTY,
			    "the terminal is in raw mode and has no end of file; write what its "
			    "program "
			    "takes for the end, or signal it");
	} else if (error < 0) {
		reply_error(p->conn, p->request, REPLY_FAILED_PRECONDITION, -error,
			    "the input cannot be closed: %s", err_name(error));
	} else if (p->tells_written) {
		answer_written(p->conn, p->request, p->offset, p->size, p->exact);
	} else {
		SET(done, offset, total);
		m.body_case = REDD__V1__MESSAGE__BODY_CLOSE_DONE;
		m.close_done = &done;
		reply_message(p->conn, p->request, &m);
	}
	pending_free(p);
}

void req_input_closed(struct stream *s, struct input_item *take_item, int error)
{
	struct pending *p = pending_of(take_item);

	if (p)
		answer_closed(p, s, error);
	input_item_free(take_item);
}

static void on_drop(struct input_item *item, void *context)
{
	int error = *(int *)context;
	struct pending *p = pending_of(item);

	if (!p)
		return;
	reply_error(p->conn, p->request, REPLY_FAILED_PRECONDITION, -error,
		    "nobody reads the input any more (%s); what was queued is not written",
		    err_name(error));
	pending_free(p);
}

void req_input_failed(struct stream *s, int error)
{
	uint64_t written = input_offset(&s->in.queue);
	struct input *in = &s->in.queue;
	uint32_t high = in->high, low = in->low, bound = in->bound;

	input_deinit(in, on_drop, &error);
	input_init(in, high, low, bound);
	in->written = written;
}
