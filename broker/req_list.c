/* List and Inspect. Messages are built in one struct a port, then packed at once: a page of ports
 * is bounded by count, by bytes, so that any list can be asked for with any frame_max, and by time,
 * so that it holds nobody up.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "broker/session.h"
#include "broker/sharing.h"
#include "proto/base/err.h"

#define SUBSCRIPTIONS_SHOWN 256u /* of one port */
#define ARGUMENTS_SHOWN	    512u

/* One port's message with all that it points at. */
struct port_message {
	Redd__V1__PortInfo info;
	Redd__V1__Exit exit;
	Redd__V1__Framing framing;
	Redd__V1__Terminal terminal_size;
	struct stream_infos streams;
	Redd__V1__Label labels[LABELS_MAX];
	Redd__V1__Label *label_pointers[LABELS_MAX];
	ProtobufCBinaryData args[ARGUMENTS_SHOWN];
	Redd__V1__SubscriptionInfo *subscriptions; /* owned, SUBSCRIPTIONS_SHOWN of them */
	Redd__V1__SubscriptionInfo **subscription_pointers;
	Redd__V1__StreamOffset *offsets, **offset_pointers;
	struct grants_message grants;
	struct lease_message lease;
};

static void port_message_deinit(struct port_message *m)
{
	free(m->subscriptions);
	free(m->subscription_pointers);
	free(m->offsets);
	free(m->offset_pointers);
}

static void port_message_free(struct port_message *m)
{
	port_message_deinit(m);
	free(m);
}
DEFINE_CLEANUP(struct port_message, port_message_free)

static ProtobufCBinaryData bytes(const char *text)
{
	return (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
}

static void fill_labels(struct port_message *m, const struct labels *labels)
{
	size_t n = labels ? labels_count(labels) : 0;

	for (size_t i = 0; i < n; i++) {
		const char *key, *value;

		labels_at(labels, i, &key, &value);
		redd__v1__label__init(&m->labels[i]);
		m->labels[i].key = (char *)key;
		m->labels[i].value = (char *)value;
		m->label_pointers[i] = &m->labels[i];
	}
	m->info.n_labels = n;
	m->info.labels = m->label_pointers;
}

static void fill_command(struct port_message *m, const struct port_options *o)
{
	const char *arg = NULL;
	size_t n = 0;

	if (*o->program)
		SET(m->info, program, bytes(o->program));
	SET(m->info, directory, bytes(o->directory));
	while (n < ARGUMENTS_SHOWN && (arg = string_block_next(&o->arguments, arg)))
		m->args[n++] = bytes(arg);
	m->info.n_args = n;
	m->info.args = m->args;
	SET(m->info, args_cut, o->arguments_are_cut || n == ARGUMENTS_SHOWN);
}

static void fill_subscription(Redd__V1__SubscriptionInfo *i, struct subscription *s,
			      Redd__V1__StreamOffset *offsets, Redd__V1__StreamOffset **pointers)
{
	uint64_t skipped = 0;

	redd__v1__subscription_info__init(i);
	SET(*i, subscription, s->id);
	i->client = s->conn->client;
	SET(*i, pid, s->conn->pid);
	SET(*i, uid, s->conn->who.uid);
	SET(*i, overflow, (Redd__V1__Overflow)s->overflow);
	SET(*i, lag, subscription_lag(s));
	if (s->sharing)
		SET(*i, shared, true);
	else if (s->credit.is_limited)
		SET(*i, credit, s->credit.left);
	SET(*i, lag_ms, subscription_lag_ms(s));
	SET(*i, blocking, s->is_blocking);
	SET(*i, blocking_ms, subscription_blocking_ms(s));
	SET(*i, blocked_total_ms, subscription_blocked_total_ms(s));
	SET(*i, stalled, s->is_stalled);
	for (unsigned j = 0; j < s->n_readers; j++) {
		redd__v1__stream_offset__init(&offsets[j]);
		SET(offsets[j], stream, s->readers[j].stream->number);
		SET(offsets[j], offset, s->readers[j].cursor.offset);
		pointers[j] = &offsets[j];
		skipped += s->readers[j].cursor.skipped;
		if (s->sharing)
			skipped += sharing_skipped(s, j);
	}
	SET(*i, skipped, skipped);
	i->n_offsets = s->n_readers;
	i->offsets = pointers;
}

static int fill_subscriptions(struct port_message *m, const struct port *p)
{
	struct subscription *s;
	size_t n = 0, most = 0;

	list_for_each (s, &p->subscriptions, port_link)
		if (++most == SUBSCRIPTIONS_SHOWN)
			break;
	if (!most)
		return 0;
	m->subscriptions = calloc(most, sizeof(*m->subscriptions));
	m->subscription_pointers = calloc(most, sizeof(*m->subscription_pointers));
	m->offsets = calloc(most * PORT_STREAMS_MAX, sizeof(*m->offsets));
	m->offset_pointers = calloc(most * PORT_STREAMS_MAX, sizeof(*m->offset_pointers));
	if (!m->subscriptions || !m->subscription_pointers || !m->offsets || !m->offset_pointers)
		return err_begin(-ENOMEM);
	list_for_each (s, &p->subscriptions, port_link) {
		if (n == most)
			break;
		fill_subscription(&m->subscriptions[n], s, &m->offsets[n * PORT_STREAMS_MAX],
				  &m->offset_pointers[n * PORT_STREAMS_MAX]);
		m->subscription_pointers[n] = &m->subscriptions[n];
		n++;
	}
	m->info.n_subscriptions = n;
	m->info.subscriptions = m->subscription_pointers;
	return 0;
}

static void fill_state(struct port_message *m, struct port *p)
{
	SET(m->info, port, p->id);
	SET(m->info, state, (Redd__V1__PortState)p->state);
	SET(m->info, kind, (Redd__V1__PortKind)p->kind);
	if (!port_is_pumped(p))
		SET(m->info, pid, p->process.pid);
	SET(m->info, owner_uid, p->owner.uid);
	SET(m->info, start_ns, p->exit.start_ns);
	SET(m->info, terminal, port_has_terminal(p));
	SET(m->info, orphan, (Redd__V1__Orphan)p->options.orphan);
	SET(m->info, orphaned, p->is_orphaned);
	SET(m->info, timeout_ms, p->options.timeout_ms);
	SET(m->info, retention_ms, p->options.retention_ms);
	m->info.framing = req_fill_framing(&m->framing, &p->options.framing);
	if (*p->options.name)
		SET(m->info, name, bytes(p->options.name));
	if (p->has_exited) {
		redd__v1__exit__init(&m->exit);
		reply_fill_exit(&m->exit, &p->exit);
		m->info.exit = &m->exit;
	}
	m->info.n_holders = p->n_holders;
	m->info.holders = p->holders;
}

static void fill_terminal_size(struct port_message *m, const struct port *p)
{
	const struct stream *s = port_stream(p, STREAM_TERMINAL);
	struct pty_size size;

	if (!s || s->fd < 0 || pty_size(s->fd, &size) < 0)
		return;
	redd__v1__terminal__init(&m->terminal_size);
	SET(m->terminal_size, rows, size.rows);
	SET(m->terminal_size, columns, size.columns);
	SET(m->terminal_size, x_pixels, size.x_pixels);
	SET(m->terminal_size, y_pixels, size.y_pixels);
	m->info.terminal_size = &m->terminal_size;
}

static int port_message_new(struct port_message **ret, const struct conn *c, struct port *p,
			    bool details)
{
	_cleanup_(port_message_freep) struct port_message *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_begin(-ENOMEM);
	redd__v1__port_info__init(&m->info);
	fill_state(m, p);
	fill_command(m, &p->options);
	fill_labels(m, p->options.labels);
	if (details) {
		fill_terminal_size(m, p);
		req_fill_streams(&m->streams, p);
		m->info.n_streams = m->streams.n;
		m->info.streams = m->streams.pointers;
		m->info.lease = req_fill_lease(&m->lease, p);
		if (rights_may(c, POLICY_MANAGE, p)) {
			req_fill_grants(&m->grants, p);
			m->info.n_grants = m->grants.n;
			m->info.grants = m->grants.pointers;
		}
		r = fill_subscriptions(m, p);
		if (r < 0)
			return err_pass(r);
	}
	*ret = TAKE(m);
	return 0;
}

/* --- Inspect --------------------------------------------------------------------------------- */

int req_inspect(struct conn *c, const Redd__V1__Request *request)
{
	_cleanup_(port_message_freep) struct port_message *m = NULL;
	struct port *p = req_port(c, request->id, request->inspect->port, POLICY_SEE);
	Redd__V1__Message reply = REDD__V1__MESSAGE__INIT;
	int r;

	if (!p)
		return 0;
	r = port_message_new(&m, c, p, true);
	if (r < 0)
		return err_pass(r);
	reply.body_case = REDD__V1__MESSAGE__BODY_PORT_INFO;
	reply.port_info = &m->info;
	reply_message(c, request->id, &reply);
	return 0;
}

/* --- List ------------------------------------------------------------------------------------ */

struct page {
	struct port_message *messages[LIST_MAX];
	Redd__V1__PortInfo *infos[LIST_MAX];
	size_t n, bytes, bytes_max;
	uint64_t end_ns; /* no port is added past this, but the first LIST_LEAST */
	bool more;
};

static void page_free(struct page *page)
{
	for (size_t i = 0; i < page->n; i++)
		port_message_free(page->messages[i]);
	free(page);
}
DEFINE_CLEANUP(struct page, page_free)

/* A set of states, one bit each; 0: one of them is not known. A list of any length costs the same
 * for each port. */
static unsigned states_wanted(const Redd__V1__List *m)
{
	unsigned set = m->n_states ? 0 : UINT_MAX;

	for (size_t i = 0; i < m->n_states; i++) {
		if ((unsigned)m->states[i] > PORT_ENDED)
			return 0;
		set |= 1u << m->states[i];
	}
	return set;
}

static bool list_wants(const struct conn *c, unsigned states, const struct labels *selector,
		       const struct port *p)
{
	return (states & 1u << p->state) && rights_may(c, POLICY_SEE, p) &&
	       (!selector || labels_match(p->options.labels, selector));
}

/* False: the page is full. */
static int page_add(struct page *page, const struct conn *c, struct port *p,
		    const Redd__V1__List *m)
{
	size_t limit = m->has_limit ? MIN(m->limit, LIST_MAX) : LIST_MAX, size;
	struct port_message *message;
	int r;

	if (page->n == limit || (page->n >= LIST_LEAST && uv_hrtime() >= page->end_ns)) {
		page->more = true;
		return 1;
	}
	r = port_message_new(&message, c, p, m->details);
	if (r < 0)
		return err_pass(r);
	size = redd__v1__port_info__get_packed_size(&message->info);
	if (page->n && page->bytes + size > page->bytes_max) {
		port_message_free(message);
		page->more = true;
		return 1;
	}
	page->bytes += size + 8;
	page->messages[page->n] = message;
	page->infos[page->n++] = &message->info;
	return 0;
}

static int list_answer(struct conn *c, const Redd__V1__Request *request, unsigned states,
		       const struct labels *selector)
{
	_cleanup_(page_freep) struct page *page = calloc(1, sizeof(*page));
	Redd__V1__Message reply = REDD__V1__MESSAGE__INIT;
	Redd__V1__Ports ports = REDD__V1__PORTS__INIT;
	const Redd__V1__List *m = request->list;
	const struct port_table *t = &c->broker->ports;
	int r = 0;

	if (!page)
		return err_begin(-ENOMEM);
	page->end_ns = uv_hrtime() + LIST_TIME_NS;
	page->bytes_max = MIN(LIST_BYTES_MAX, c->frame_max - KIB(1));
	for (struct port *p = port_table_after(t, m->after); p && !r;
	     p = port_table_after(t, p->id))
		if (list_wants(c, states, selector, p))
			r = page_add(page, c, p, m);
	if (r < 0)
		return err_pass(r);
	ports.n_ports = page->n;
	ports.ports = page->infos;
	SET(ports, more, page->more);
	SET(ports, sequence, events_newest(c->broker->events));
	reply.body_case = REDD__V1__MESSAGE__BODY_PORTS;
	reply.ports = &ports;
	reply_message(c, request->id, &reply);
	return 0;
}

int req_list(struct conn *c, const Redd__V1__Request *request)
{
	_cleanup_(labels_unrefp) struct labels *selector = NULL;
	const Redd__V1__List *m = request->list;
	unsigned states = states_wanted(m);
	const char *reason;
	int r;

	if (!states) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0,
			    "states holds a value that this broker does not know");
		return 0;
	}
	if (m->has_limit && (m->limit == 0 || m->limit > LIST_MAX)) {
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0,
			    "limit is not from 1 to 1000");
		return 0;
	}
	r = req_read_labels(m->labels, m->n_labels, true, &selector, &reason);
	if (r > 0)
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0, "%s", reason);
	else if (r == 0)
		r = list_answer(c, request, states, selector);
	return MIN(r, 0);
}
