/* Subscribe, Unsubscribe, Credit. */
#include <string.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/delegation.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "broker/sharing.h"
#include "proto/base/err.h"
#include "proto/shared.h"

static const char *read_start(const Redd__V1__Start *s, struct subscription_options *ret)
{
	if (!s)
		return NULL;
	if ((unsigned)s->from > CURSOR_FROM_LAST_LINES)
		return "Start.from has a value that this broker does not know";
	if (s->n_offsets > PORT_STREAMS_MAX)
		return "more offsets than a port can have streams";
	ret->from = (enum cursor_from)s->from;
	ret->count = s->count;
	for (size_t i = 0; i < s->n_offsets; i++) {
		if (!s->offsets[i]->has_stream)
			return "one of the offsets names no stream";
		ret->offset_streams[i] = s->offsets[i]->stream;
		ret->offsets[i] = s->offsets[i]->offset;
	}
	ret->n_offsets = (unsigned)s->n_offsets;
	return NULL;
}

static enum cursor_overflow overflow_of(const Redd__V1__Subscribe *s, bool is_owner)
{
	if (s->overflow == REDD__V1__OVERFLOW__OVERFLOW_DEFAULT)
		return is_owner ? CURSOR_MAY_BLOCK : CURSOR_MAY_DROP;
	return (enum cursor_overflow)s->overflow;
}

/* Named streams it must have the right to read; unnamed are those that it has. */
static const char *check_streams(const struct port *p, const struct conn *c,
				 struct subscription_options *ret)
{
	stream_set may = rights_streams(c, POLICY_READ, p), all = 0;

	for (unsigned i = 0; i < p->n_streams; i++)
		if (p->streams[i]->out.is_there)
			all |= (stream_set)(1u << i);
	for (unsigned i = 0; i < ret->n_streams; i++)
		if (rights_bit(p, ret->streams[i]) & ~may)
			return policy_reason(POLICY_READ);
	if (ret->n_streams || !(all & ~may))
		return NULL;
	for (unsigned i = 0; i < p->n_streams; i++)
		if (all & may & 1u << i)
			ret->streams[ret->n_streams++] = p->streams[i]->number;
	return ret->n_streams ? NULL : policy_reason(POLICY_READ);
}

/* What a client that did not open the port may not have. */
const char *req_check_subscribe(const struct port *p, const struct conn *c,
				struct subscription_options *ret)
{
	if (ret->overflow == CURSOR_MAY_BLOCK && !rights_may(c, POLICY_BLOCK, p))
		return policy_reason(POLICY_BLOCK);
	return check_streams(p, c, ret);
}

const char *req_read_subscribe(const Redd__V1__Subscribe *s, const struct port *p,
			       const struct conn *c, struct subscription_options *ret,
			       enum reply_code *ret_code)
{
	/* Whoever spawns is the owner; so is one that asks as the same principal. Blocking is the
	 * right of the one whose session the port belongs to, unless asked for by name. */
	bool is_owner = p ? p->session == c->session && rights_may(c, POLICY_BLOCK, p)
			  : !c->delegation || c->delegation->options.rights & RIGHT_BLOCK;
	const char *wrong;

	*ret = (struct subscription_options){ 0 };
	*ret_code = REPLY_INVALID_ARGUMENT;
	if (s->n_streams > PORT_STREAMS_MAX)
		return "more streams than a port can have";
	if ((unsigned)s->overflow > CURSOR_MAY_CANCEL)
		return "overflow has a value that this broker does not know";
	wrong = req_read_framing(s->framing, &ret->framing);
	if (wrong)
		return wrong;
	ret->has_framing =
		s->framing != NULL || s->shared; /* shared or not, RAW is what was wished */
	if (s->shared && s->framing && s->framing->cut != REDD__V1__FRAMING__CUT__RAW)
		return "a shared subscription sees the stream RAW; cut records in the client, or "
		       "leave out `shared`";
	if (s->n_streams)
		memcpy(ret->streams, s->streams, s->n_streams * sizeof(ret->streams[0]));
	ret->n_streams = (unsigned)s->n_streams;
	ret->overflow = overflow_of(s, is_owner);
	ret->credit = (struct credit){ .is_limited = s->has_credit, .left = s->credit };
	ret->stall_ms = s->stall_ms;
	ret->marks = s->marks;
	ret->shared =
		s->shared && policy_may(&c->broker->policy, &c->who, POLICY_PASS_DESCRIPTORS, NULL);
	wrong = read_start(s->start, ret);
	if (!wrong && p) { /* a Spawn asks when its port is there */
		wrong = req_check_subscribe(p, c, ret);
		*ret_code = REPLY_PERMISSION_DENIED;
	}
	return wrong;
}

static void fill_shared(struct subscribed_message *ret, const struct subscription *s)
{
	redd__v1__shared__init(&ret->shared);
	SET(ret->shared, layout, SHARED_LAYOUT);
	ret->shared.n_oldest = s->n_readers;
	ret->shared.oldest = s->sharing->oldest;
	ret->message.shared = &ret->shared;
}

void req_fill_subscribed(struct subscribed_message *ret, struct subscription *s)
{
	Redd__V1__Subscribed *m = &ret->message;

	redd__v1__subscribed__init(m);
	SET(*m, subscription, s->id);
	SET(*m, port, s->port_id);
	SET(*m, input_window, s->port ? req_input_window(s->port) : 0);
	for (unsigned i = 0; i < s->n_readers; i++) {
		Redd__V1__StreamOffset *o = &ret->starts[i];

		redd__v1__stream_offset__init(o);
		SET(*o, stream, s->readers[i].stream->number);
		SET(*o, offset, s->readers[i].cursor.offset);
		ret->pointers[i] = o;
	}
	m->n_starts = s->n_readers;
	m->starts = ret->pointers;
	if (sharing_hand_over(s))
		fill_shared(ret, s);
}

enum reply_code req_subscription_code(int subscription_error)
{
	switch (subscription_error) {
	case SUBSCRIPTION_E_STREAM:
		return REPLY_INVALID_ARGUMENT;
	case SUBSCRIPTION_E_OFFSET:
		return REPLY_OUT_OF_RANGE;
	case SUBSCRIPTION_E_RECORD:
		return REPLY_FAILED_PRECONDITION;
	default:
		return REPLY_RESOURCE_EXHAUSTED;
	}
}

int req_subscribe(struct conn *c, const Redd__V1__Request *request)
{
	struct port *p = req_port(c, request->id, request->subscribe->port, POLICY_READ);
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	struct subscription_options options;
	struct subscribed_message subscribed;
	struct subscription *s;
	enum reply_code code;
	const char *wrong;
	int r;

	if (!p)
		return 0;
	wrong = req_read_subscribe(request->subscribe, p, c, &options, &code);
	if (!wrong) {
		r = subscription_new(&s, c, p, &options, &wrong);
		if (r < 0)
			return err_pass(r);
		code = req_subscription_code(r);
		wrong = r ? wrong : NULL;
	}
	if (wrong) {
		reply_error(c, request->id, code, 0, "%s", wrong);
		return 0;
	}
	req_fill_subscribed(&subscribed, s);
	m.body_case = REDD__V1__MESSAGE__BODY_SUBSCRIBED;
	m.subscribed = &subscribed.message;
	reply_message(c, request->id, &m);
	return 0;
}

static struct subscription *find(struct conn *c, uint64_t request, uint64_t id)
{
	struct subscription *s = conn_subscription(c, id);

	if (!s)
		reply_error(c, request, REPLY_NOT_FOUND, 0,
			    "this connection has no such subscription, or it has ended");
	return s;
}

int req_unsubscribe(struct conn *c, const Redd__V1__Request *request)
{
	struct subscription *s = find(c, request->id, request->unsubscribe->subscription);

	if (!s)
		return 0;
	subscription_end(s, SUBSCRIPTION_UNSUBSCRIBED);
	reply_done(c, request->id);
	return 0;
}

int req_credit(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Credit *credit = request->credit;
	struct subscription *s = conn_subscription(c, credit->subscription);

	/* Credit for a subscription that has just ended crosses its Closed on the way: no error
	 * where no answer was asked for. */
	if (!s && !request->id)
		return 0;
	if (!s && !find(c, request->id, credit->subscription))
		return 0;
	if (credit->bytes)
		sharing_end(s);
	if (s->sharing)
		subscription_told(s);
	else
		subscription_give_credit(s, credit->bytes);
	if (request->id)
		reply_done(c, request->id);
	return 0;
}
