/* Write, Close, Resize; and what becomes of writes and closes that wait. */
#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/marks.h"
#include "broker/expect.h"
#include "broker/req.h"
#include "broker/req_events.h"
#include "broker/rights.h"
#include "proto/base/err.h"

/* A Write, however it was read. */
struct write_wish {
	uint64_t request;
	const void *writer;
	struct port *port;
	struct stream *stream;
	const void *data;
	size_t size; /* of the data; from frame_packet() on of the stream's bytes */
	bool has_offset, no_wait, force, close, has_header;
	uint64_t offset;
	uint32_t batch;	      /* 0: none */
	uint32_t header_size; /* if has_header; from frame_packet() on in any case */
	uint8_t header[INPUT_HEADER_MAX];
};

/* --- which input ----------------------------------------------------------------------------- */

/* The input, if this client can queue bytes for it; else NULL, and the request has been answered.
 */
static struct stream *input_of(struct conn *c, uint64_t request, struct port *p, bool has_stream,
			       uint32_t number)
{
	struct stream *s = has_stream ? port_stream(p, number) : port_default_input(p);

	if (!s || !s->in.is_there)
		reply_error(c, request, REPLY_FAILED_PRECONDITION, 0,
			    port_is_pumped(p)
				    ? "the port has no such input; open it to be written"
				    : "the port has no such input; spawn it with that descriptor "
				      "as a pipe, a socket or a terminal");
	else if (s->in.is_closed || input_is_closed(&s->in.queue))
		reply_error(c, request, REPLY_FAILED_PRECONDITION, EPIPE,
			    "the input was closed before; nothing can be written behind a Close");
	else if (s->in.is_failed)
		reply_error(c, request, REPLY_FAILED_PRECONDITION, -s->in.error,
			    "nobody reads the input any more (%s): the process closed it or has "
			    "ended, or what it leads to takes no more",
			    err_name(s->in.error));
	else if (!rights_may_stream(c, POLICY_WRITE, s))
		reply_error(c, request, REPLY_PERMISSION_DENIED, EPERM, "%s",
			    policy_reason(POLICY_WRITE));
	else if (req_lease_admits(c, request, p))
		return s;
	return NULL;
}

/* --- Write ----------------------------------------------------------------------------------- */

void req_fill_written(Redd__V1__Written *ret, const struct pending *p)
{
	SET(*ret, offset, p->offset);
	SET(*ret, size, p->size);
	SET(*ret, exact, p->exact);
}

/* It is in the pipe: the answer of a Write, and news for an Expect. */
static void tell_written(struct pending *p)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Written w = REDD__V1__WRITTEN__INIT;

	if (p->kind == PENDING_EXPECT) {
		expect_written(p->expect);
		return;
	}
	req_fill_written(&w, p);
	m.body_case = REDD__V1__MESSAGE__BODY_WRITTEN;
	m.written = &w;
	reply_message(p->conn, p->request, &m);
	pending_free(p);
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
			    "the input is busy and no_wait was set; try again when it is free, or "
			    "force it");
	else if (why == INPUT_E_FULL)
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, EAGAIN,
			    "the input's queue is full; keep no more under way than its window");
	else
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, ENOMEM,
			    "no memory for the data; try again");
}

/* All but the first `skip` bytes. A full queue takes a little of a client that has nothing there.
 */
static int push(struct input *in, const struct write_wish *w, size_t skip, unsigned flags,
		void *cookie, struct input_item **ret_item)
{
	size_t of_header = MIN(skip, (size_t)w->header_size), of_data = skip - of_header;
	const uint8_t *header = w->header + of_header, *data = w->data;
	size_t header_size = w->header_size - of_header;
	size_t size = w->size - w->header_size - of_data;
	int r;

	data = data ? data + of_data : NULL;
	r = input_push_packet(in, header, header_size, data, size, flags, cookie, ret_item);
	if (r == INPUT_E_FULL && !input_has_of(in, w->writer))
		r = input_push_packet(in, header, header_size, data, size, flags | INPUT_GUEST,
				      cookie, ret_item);
	if (!r)
		(*ret_item)->writer = w->writer;
	return r;
}

/* Queues the data. 0, or INPUT_E_*, or negative; a repeat that was written already is told so by
 * *ret_known. */
static int queue_data(const struct write_wish *w, void *cookie, struct input_item **ret_item,
		      bool *ret_known)
{
	struct input *in = &w->stream->in.queue;
	unsigned flags = (w->no_wait ? INPUT_NO_WAIT : 0) | (w->force ? INPUT_FORCE : 0);
	size_t skip = 0;

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
			skip = (size_t)(input_accepted(in) - w->offset);
			break;
		}
	}
	return push(in, w, skip, flags, cookie, ret_item);
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
		if (!pending->item)
			tell_written(pending);
		return;
	}
	pending->data = pending->item;
	pending->item = item;
	pending->tells_written = true;
}

/* Makes the packet that is asked for, or that the port speaks. False: the request was refused. */
static bool frame_packet(struct conn *c, struct write_wish *w)
{
	const struct framing *own = &w->port->options.framing;

	if (!w->has_header)
		w->header_size = own->cut == FRAMING_PACKETS ? own->header : 0;
	if (w->header_size && !framing_is_header(w->header_size)) {
		reply_error(c, w->request, REPLY_INVALID_ARGUMENT, 0,
			    "header is %u: a packet's has 1, 2 or 4 bytes; 0 writes the data alone",
			    w->header_size);
		return false;
	}
	if (w->header_size && (uint64_t)w->size >> 8 * w->header_size) {
		reply_error(
			c, w->request, REPLY_INVALID_ARGUMENT, EMSGSIZE,
			"the data has %zu bytes, more than a header of %u can say; use a larger "
			"header, or smaller packets",
			w->size, w->header_size);
		return false;
	}
	for (uint32_t i = 0; i < w->header_size; i++)
		w->header[i] = (uint8_t)((uint64_t)w->size >> 8 * (w->header_size - 1 - i));
	w->size += w->header_size;
	return true;
}

/* A repeat of what an earlier broker was about to write when it died. Told once; who goes on
 * without an offset has made up his mind. */
static bool is_in_doubt(struct conn *c, const struct write_wish *w)
{
	struct stream_input *in = &w->stream->in;
	uint64_t written = input_offset(&in->queue);

	if (!w->has_offset) {
		in->doubt = 0;
		return false;
	}
	if (!in->doubt || w->offset > written || w->offset + w->size <= written)
		return false;
	reply_error(c, w->request, REPLY_DATA_LOSS, 0,
		    "an earlier broker died over this write: of the %u bytes from offset %llu on "
		    "it is not known how many are in the pipe; none were written now",
		    in->doubt, (unsigned long long)written);
	return true;
}

/* False: it has been answered, and nothing is queued. */
static bool write_as(struct conn *c, struct write_wish *w, struct pending *pending)
{
	struct input_item *item;
	bool known;
	int r;

	if (is_in_doubt(c, w))
		return false;
	r = queue_data(w, pending, &item, &known);
	if (r == -ERANGE)
		reply_error(c, w->request, REPLY_OUT_OF_RANGE, 0,
			    "the input is at offset %llu, not at %llu; nothing was written",
			    (unsigned long long)input_accepted(&w->stream->in.queue),
			    (unsigned long long)w->offset);
	else if (r)
		refuse_write(c, w->request, r);
	if (r || !charge_or_take_back(c, w, item))
		return false;
	pending->stream = w->stream;
	pending->item = item;
	pending->size = w->size;
	pending->has_offset = w->has_offset;
	pending->offset = w->offset;
	pending->exact = is_exact(w->stream);
	if (w->close)
		queue_close(w, pending);
	else if (known)
		tell_written(pending);
	if (w->stream->is_started)
		stream_write_soon(w->stream);
	else
		marks_look(w->stream);
	return true;
}

/* False: it was refused. */
static bool write_now(struct conn *c, struct write_wish *w)
{
	struct pending *pending = req_pending(c, w->port, PENDING_WRITE, w->request);

	if (!pending || write_as(c, w, pending))
		return pending != NULL;
	pending_free(pending);
	return false;
}

static void answer_repeat(struct conn *c, const struct write_wish *w, const struct stream *s)
{
	const struct pending repeat = {
		.conn = c, .offset = w->offset, .size = w->size, .exact = is_exact(s)
	};
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Written written = REDD__V1__WRITTEN__INIT;

	req_fill_written(&written, &repeat);
	m.body_case = REDD__V1__MESSAGE__BODY_WRITTEN;
	m.written = &written;
	reply_message(c, w->request, &m);
}

/* The input that it is for, header and all; NULL: the request has been answered. A repeat of what
 * was written already is answered as the first one was, also when the input was closed since. */
static struct stream *write_input(struct conn *c, const struct write_wish *w, bool has_stream,
				  uint32_t number)
{
	struct stream *s = has_stream ? port_stream(w->port, number) : port_default_input(w->port);

	if (s && s->in.is_there && (s->in.is_closed || s->in.is_failed) && w->has_offset &&
	    w->size &&
	    input_check_offset(&s->in.queue, w->offset, w->size) == INPUT_OFFSET_WRITTEN) {
		answer_repeat(c, w, s);
		return NULL;
	}
	return input_of(c, w->request, w->port, has_stream, number);
}

static struct write_wish write_read(struct conn *c, uint64_t request, const Redd__V1__Write *m)
{
	return (struct write_wish){ .request = request,
				    .writer = c,
				    .data = m->data.data,
				    .size = m->data.len,
				    .has_offset = m->has_offset,
				    .offset = m->offset,
				    .no_wait = m->no_wait,
				    .force = m->force,
				    .close = m->close,
				    .batch = m->batch,
				    .has_header = m->has_header,
				    .header_size = m->header };
}

bool req_write_first(struct conn *c, const Redd__V1__Write *m, struct pending *pending)
{
	struct write_wish w = write_read(c, pending->request, m);

	w.port = pending->port;
	w.stream = input_of(c, w.request, w.port, m->has_stream, m->stream);
	return w.stream && frame_packet(c, &w) && write_as(c, &w, pending);
}

/* What comes behind a refused one of its batch must not be taken before that is sent again. (A
 * batch of which a repeat was answered counts as refused too: that costs a round trip.) */
static int write_in_batch(struct conn *c, struct write_wish *w, const Redd__V1__PortRef *ref,
			  bool has_stream, uint32_t number)
{
	if (w->batch && w->batch == c->refused_batch) {
		reply_error(c, w->request, REPLY_RESOURCE_EXHAUSTED, EAGAIN,
			    "a Write before this one in its batch was refused; send them again, in "
			    "their order, as another batch");
		return 0;
	}
	w->port = req_port(c, w->request, ref, POLICY_WRITE);
	if (w->port && frame_packet(c, w))
		w->stream = write_input(c, w, has_stream, number);
	if ((!w->stream || !write_now(c, w)) && w->batch)
		c->refused_batch = w->batch;
	return 0;
}

int req_write(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Write *m = request->write;
	struct write_wish w = write_read(c, request->id, m);

	return write_in_batch(c, &w, m->port, m->has_stream, m->stream);
}

int req_write_view(struct conn *c, const struct codec_write *v)
{
	Redd__V1__PortRef ref = REDD__V1__PORT_REF__INIT;
	struct write_wish w = { .request = v->id,
				.writer = c,
				.data = v->data,
				.size = v->size,
				.has_offset = v->has_offset,
				.offset = v->offset,
				.no_wait = v->no_wait,
				.force = v->force,
				.close = v->close,
				.batch = v->batch,
				.has_header = v->has_header,
				.header_size = v->header };

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
	return write_in_batch(c, &w, &ref, v->has_stream, v->stream);
}

/* --- Close ----------------------------------------------------------------------------------- */

int req_close(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Close *m = request->close;
	bool whole = m->whole || m->discard;
	struct port *p = req_port(c, request->id, m->port, whole ? POLICY_MANAGE : POLICY_WRITE);
	struct stream *s =
		p && !whole ? input_of(c, request->id, p, m->has_stream, m->stream) : NULL;
	struct pending *pending = s ? req_pending(c, p, PENDING_CLOSE, request->id) : NULL;
	int r;

	if (p && whole)
		return req_close_whole(c, request, p);
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
		stream_write_soon(s);
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
	tell_written(p);
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
			    port_is_pumped(s->port)
				    ? "not all that was accepted could be written: %s"
				    : "the input cannot be closed: %s",
			    err_name(error));
	} else if (p->tells_written) {
		tell_written(p);
		return;
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
	req_lease_look(s->port);
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
	req_lease_look(s->port);
}
