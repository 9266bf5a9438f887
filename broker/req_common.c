#include "broker/req.h"

#include <errno.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/rights.h"
#include "proto/base/err.h"

/* A name means a port of one's own: others cannot make a client write to theirs by choosing a name
 * that it uses. Through a door it also means those that the delegation covers, chosen by its maker.
 */
static struct port *port_of_name(struct conn *c, const ProtobufCBinaryData *name)
{
	const struct port_table *ports = &c->broker->ports;
	struct port *p = port_table_by_name(ports, &c->who, name->data, name->len);
	struct principal maker = c->who;

	if (p || !c->who.delegation)
		return p;
	maker.delegation = 0;
	return port_table_by_name(ports, &maker, name->data, name->len);
}

static struct port *port_find(struct conn *c, const Redd__V1__PortRef *ref)
{
	const struct port_table *ports = &c->broker->ports;

	switch (ref->by_case) {
	case REDD__V1__PORT_REF__BY_ID:
		return port_table_by_id(ports, ref->id);
	case REDD__V1__PORT_REF__BY_NAME:
		return port_of_name(c, &ref->name);
	case REDD__V1__PORT_REF__BY_SPAWN:
		return port_table_by_id(ports, conn_spawned(c, ref->spawn));
	default:
		return NULL;
	}
}

struct port *req_port(struct conn *c, uint64_t request, const Redd__V1__PortRef *ref,
		      enum policy_verb verb)
{
	struct port *p;

	if (!ref || ref->by_case == REDD__V1__PORT_REF__BY__NOT_SET) {
		reply_error(c, request, REPLY_INVALID_ARGUMENT, 0,
			    "the request names no port; set one of id, name and spawn");
		return NULL;
	}
	p = port_find(c, ref);
	if (!p || !rights_may(c, POLICY_SEE, p)) {
		reply_error(c, request, REPLY_NOT_FOUND, 0,
			    "there is no such port, or no longer; List shows those there are");
		return NULL;
	}
	if (!rights_may(c, verb, p)) {
		reply_error(c, request, REPLY_PERMISSION_DENIED, EPERM, "%s", policy_reason(verb));
		return NULL;
	}
	return p;
}

struct pending *req_pending(struct conn *c, struct port *p, enum pending_kind kind,
			    uint64_t request)
{
	struct pending *pending;
	int r = pending_new(&pending, c, p, kind, request);

	if (r == 0)
		return pending;
	if (r == PENDING_E_EXISTS)
		reply_error(c, request, REPLY_INVALID_ARGUMENT, 0,
			    "a request with this id still waits for its answer; use another id");
	else
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, r < 0 ? -r : 0,
			    "too many requests of this connection wait for their answers; wait for "
			    "some");
	return NULL;
}

int req_read_labels(Redd__V1__Label *const *labels, size_t n, bool is_selector, struct labels **ret,
		    const char **ret_reason)
{
	struct label pairs[LABELS_MAX];

	*ret = NULL;
	if (!n)
		return 0;
	if (n > LABELS_MAX) {
		*ret_reason = "more than 32 labels";
		return LABELS_E_BAD;
	}
	for (size_t i = 0; i < n; i++) {
		pairs[i].key = labels[i]->key ? labels[i]->key : "";
		pairs[i].key_size = strlen(pairs[i].key);
		pairs[i].value = labels[i]->value;
		pairs[i].value_size = labels[i]->value ? strlen(labels[i]->value) : 0;
		if (!is_selector && !pairs[i].value)
			pairs[i].value = "";
	}
	return is_selector ? labels_new_selector(pairs, n, ret, ret_reason)
			   : labels_new(pairs, n, ret, ret_reason);
}

const char *req_read_terminal(const Redd__V1__Terminal *t, struct pty_size *ret)
{
	uint32_t rows = t && t->has_rows ? t->rows : 24,
		 columns = t && t->has_columns ? t->columns : 80;
	uint32_t x = t ? t->x_pixels : 0, y = t ? t->y_pixels : 0;

	if ((rows | columns | x | y) > UINT16_MAX)
		return "a terminal's size is larger than 65535";
	*ret = (struct pty_size){ (uint16_t)rows, (uint16_t)columns, (uint16_t)x, (uint16_t)y };
	return NULL;
}

static uint32_t maximum_default(const struct framing *f)
{
	if (f->cut == FRAMING_LINES)
		return LINE_MAX_DEFAULT;
	if (f->cut == FRAMING_PACKETS && f->header < 4)
		return (1u << 8 * (f->header & 3)) - 1;
	return f->cut == FRAMING_PACKETS ? PACKET_MAX_DEFAULT : 0;
}

/* What is stated must make sense even where it says what is meant anyway: a 0 is not a default. */
const char *req_read_framing(const Redd__V1__Framing *m, struct framing *ret)
{
	*ret = (struct framing){ 0 };
	if (!m)
		return NULL;
	ret->cut = (enum framing_cut)m->cut;
	ret->header = m->header;
	ret->maximum = m->has_maximum ? m->maximum : maximum_default(ret);
	if (m->has_header && ret->cut != FRAMING_PACKETS)
		return "framing.header goes with PACKETS; LINES and RAW have none";
	if (m->has_maximum && ret->cut == FRAMING_RAW)
		return "framing.maximum goes with LINES and PACKETS; RAW has none";
	return framing_check(ret);
}

Redd__V1__Framing *req_fill_framing(Redd__V1__Framing *ret, const struct framing *f)
{
	if (f->cut == FRAMING_RAW)
		return NULL;
	redd__v1__framing__init(ret);
	SET(*ret, cut, (Redd__V1__Framing__Cut)f->cut);
	SET(*ret, maximum, f->maximum);
	if (f->cut == FRAMING_PACKETS)
		SET(*ret, header, f->header);
	return ret;
}

/* All inputs of a port have the same. */
uint32_t req_input_window(const struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		if (p->streams[i]->in.is_there)
			return input_window(&p->streams[i]->in.queue);
	return 0;
}

static Redd__V1__StreamInfo *info_add(struct stream_infos *ret, const struct stream *s,
				      Redd__V1__Direction direction)
{
	Redd__V1__StreamInfo *info = &ret->infos[ret->n];

	redd__v1__stream_info__init(info);
	SET(*info, stream, s->number);
	SET(*info, direction, direction);
	ret->pointers[ret->n++] = info;
	return info;
}

/* Child <- stream <- subscription <- client. */
static void info_holders(struct stream_infos *ret, Redd__V1__StreamInfo *info,
			 const struct stream *s)
{
	size_t first = ret->n_holders;
	struct reader *r;

	list_for_each (r, &s->out.blockers, block_link) {
		const struct subscription *by = r->subscription;
		Redd__V1__Holder *h = &ret->holders[ret->n_holders];

		if (ret->n_holders == STREAM_HOLDERS_MAX)
			break;
		if (!stream_is_held_by(r))
			continue;
		redd__v1__holder__init(h);
		SET(*h, subscription, by->id);
		SET(*h, pid, by->conn->pid);
		h->client = by->conn->client;
		ret->holder_pointers[ret->n_holders++] = h;
	}
	info->n_held_by = ret->n_holders - first;
	info->held_by = ret->holder_pointers + first;
}

static void info_output(Redd__V1__StreamInfo *info, const struct stream *s)
{
	SET(*info, total, stream_total(s) + s->out.abandoned);
	SET(*info, oldest, stream_oldest(s));
	SET(*info, ended, s->out.is_ended);
	SET(*info, held, s->out.is_held);
	SET(*info, held_ms, stream_held_ms(s));
	SET(*info, held_total_ms, stream_held_total_ms(s));
	SET(*info, expects, s->out.n_expects);
	SET(*info, log_size, s->out.log_size);
	if (s->out.is_ended)
		SET(*info, cause, (Redd__V1__StreamEnd__Cause)s->out.cause);
	if (s->out.wants_checksum)
		SET(*info, xxh3, stream_checksum(s));
}

static void info_input(Redd__V1__StreamInfo *info, const struct stream *s)
{
	SET(*info, total, input_offset(&s->in.queue));
	SET(*info, queued, input_queued(&s->in.queue));
	SET(*info, ended, s->in.is_closed || s->in.is_failed);
	SET(*info, busy, input_is_busy(&s->in.queue));
	SET(*info, high, s->in.queue.high);
	SET(*info, low, s->in.queue.low);
	SET(*info, bound, s->in.queue.bound);
	SET(*info, waiting, input_waiting(&s->in.queue));
}

void req_fill_streams(struct stream_infos *ret, const struct port *p)
{
	ret->n = ret->n_holders = 0;
	for (unsigned i = 0; i < p->n_streams; i++) {
		const struct stream *s = p->streams[i];
		Redd__V1__StreamInfo *info;

		if (s->in.is_there)
			info_input(info_add(ret, s, REDD__V1__DIRECTION__DIRECTION_INPUT), s);
		if (!s->out.is_there)
			continue;
		info = info_add(ret, s, REDD__V1__DIRECTION__DIRECTION_OUTPUT);
		info_output(info, s);
		if (s->out.is_held)
			info_holders(ret, info, s);
	}
}
