/* Expect: waits for output where the bytes are, with a write in the same step.
 */
#include <errno.h>

#include "client/answers.h"
#include "client/block.h"
#include "client/call.h"
#include "client/handles.h"
#include "proto/base/err.h"
#include "proto/redd.pb-c.h"

/* --- what came ------------------------------------------------------------------------------- */

static const struct redd_range *take_groups(struct block *b, Redd__V1__Range **wire, size_t n)
{
	struct redd_range *list = block_take(b, n, sizeof(*list));

	for (size_t i = 0; list && i < n; i++)
		list[i] = (struct redd_range){
			.is_set = wire[i]->has_offset && wire[i]->has_end,
			.offset = wire[i]->offset,
			.end = wire[i]->end,
		};
	return list;
}

static void matched_fill(struct block *b, const Redd__V1__Matched *w)
{
	struct redd_matched *out = block_take(b, 1, sizeof(*out));
	const struct redd_range *groups = take_groups(b, w->groups, w->n_groups);
	const char *data = block_bytes(b, w->data.data, w->data.len);

	if (!out)
		return;
	*out = (struct redd_matched){
		.port = w->port,
		.stream = w->stream,
		.what = (enum redd_matched_what)w->what,
		.pattern = w->pattern,
		.offset = w->offset,
		.end = w->end,
		.n_groups = w->n_groups,
		.groups = groups,
		.from = w->from,
		.searched = w->searched,
		.next = w->next,
		.has_exit = w->exit != NULL,
		.exit = exit_of(w->exit),
		.has_written = w->written != NULL,
		.data = w->has_data ? data : NULL,
		.size = w->data.len,
	};
	if (w->written)
		out->written = written_of(w->written);
}

/* A match may come before all is in the pipe: then nobody says where that went. */
static void expect_wrote(struct call *c, const Redd__V1__Written *w)
{
	struct ledgers *inputs = &c->port->inputs;

	if (!c->input.writes)
		return;
	if (!w)
		ledger_doubt(inputs, c->input.stream, c->number);
	else if (w->size)
		ledger_written(inputs, c->input.stream, c->number, w->offset, w->size);
}

/* Also one that was given up may have been written. */
static void expect_failed(struct redd *r, struct call *c, int result)
{
	(void)r;
	(void)result;
	expect_wrote(c, NULL);
}

static int expect_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		       struct redd_reply *reply)
{
	const Redd__V1__Matched *w = m->matched;
	struct block b = { 0 };

	if (w->what == REDD__V1__MATCHED__WHAT__MATCH &&
	    (w->end < w->offset || w->data.len > w->end - w->offset))
		return client_fail(r, -EPROTO, "the broker told of a match that makes no sense");
	if (!c->port->id)
		c->port->id = w->port;
	matched_fill(&b, w);
	if (block_make(&b) < 0)
		return client_fail(r, -ENOMEM, "no memory for a match");
	matched_fill(&b, w);
	reply->matched = block_start(&b);
	expect_wrote(c, w->written);
	return 0;
}

void redd_matched_free(struct redd_matched *matched)
{
	free(matched);
}

/* --- what is asked --------------------------------------------------------------------------- */

static const struct call_kind expect_kind = {
	.name = "Expect",
	.answer = REDD__V1__MESSAGE__BODY_MATCHED,
	.repeat = CALL_IN_DOUBT,
	.take = expect_take,
	.failed = expect_failed,
};

/* That writes nothing, and says where it begins: else it would begin behind what came meanwhile. */
static const struct call_kind expect_from_kind = {
	.name = "Expect",
	.answer = REDD__V1__MESSAGE__BODY_MATCHED,
	.repeat = CALL_REPEAT,
	.take = expect_take,
};

struct patterns {
	Redd__V1__Pattern items[EXPECT_PATTERNS_MAX];
	Redd__V1__Pattern *list[EXPECT_PATTERNS_MAX];
};

static int patterns_build(struct redd *r, struct patterns *p, const struct redd_pattern *from,
			  size_t n)
{
	if (n > EXPECT_PATTERNS_MAX)
		return client_fail(r, -EINVAL, "at most %u patterns; several words can be one: a|b",
				   EXPECT_PATTERNS_MAX);
	for (size_t i = 0; i < n; i++) {
		size_t size = from[i].size ? from[i].size : strlen(from[i].text);
		ProtobufCBinaryData text = { size, (uint8_t *)from[i].text };

		redd__v1__pattern__init(&p->items[i]);
		p->items[i].is_case =
			from[i].regex ? REDD__V1__PATTERN__IS_REGEX : REDD__V1__PATTERN__IS_TEXT;
		if (from[i].regex)
			p->items[i].regex = text;
		else
			p->items[i].text = text;
		p->items[i].has_ignore_case = p->items[i].ignore_case = from[i].ignore_case;
		p->list[i] = &p->items[i];
	}
	return 0;
}

static void write_fill(Redd__V1__Write *w, struct call_input *input,
		       const struct redd_expect_options *o)
{
	struct redd_write_options how;

	OPTIONS_COPY(how, o->write);
	*input = input_of_write(&how, o->data_size);
	w->has_stream = how.other_stream;
	w->stream = how.stream;
	w->has_offset = how.at_offset;
	w->offset = how.offset;
	w->has_no_wait = w->no_wait = how.no_wait;
	w->has_force = w->force = how.force;
	w->has_close = w->close = how.close;
	w->has_header = how.header != 0;
	w->header = how.header == REDD_HEADER_NONE ? 0 : how.header;
	w->has_data = true;
	w->data = (ProtobufCBinaryData){ o->data_size, (uint8_t *)o->data };
}

static void conditions_fill(Redd__V1__Expect *m, const struct redd_expect_options *o,
			    int64_t timeout_ms)
{
	m->has_stream = o->other_stream;
	m->stream = o->stream;
	m->has_from = o->has_from;
	m->from = o->from;
	m->has_idle_ms = o->idle_ms != 0;
	m->idle_ms = o->idle_ms;
	m->has_exit = m->exit = o->exit;
	m->has_block = m->block = o->block;
	m->has_timeout_ms = timeout_ms >= 0;
	m->timeout_ms = m->has_timeout_ms ? (uint32_t)timeout_ms : 0;
}

static int expect_begin(struct redd_port *port, const struct redd_expect_options *options,
			int64_t timeout_ms, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Expect m = REDD__V1__EXPECT__INIT;
	Redd__V1__Write write = REDD__V1__WRITE__INIT;
	struct call_target target = { .port = port };
	struct redd_expect_options o;
	struct patterns patterns;
	struct call_input input;
	Redd__V1__PortRef ref;
	int e;

	OPTIONS_COPY(o, options);
	if (timeout_ms > UINT32_MAX)
		return client_fail(port->r, -EINVAL,
				   "a wait is for at most 49 days; leave the limit out");
	e = patterns_build(port->r, &patterns, o.patterns, o.n_patterns);
	if (e < 0)
		return err_pass(e);
	port_name_in(port, &ref);
	m.port = &ref;
	m.n_patterns = o.n_patterns;
	m.patterns = patterns.list;
	conditions_fill(&m, &o, timeout_ms);
	if (o.data || o.write) {
		write_fill(&write, &input, &o);
		target.input = &input;
		m.write = &write;
	}
	request.body_case = REDD__V1__REQUEST__BODY_EXPECT;
	request.expect = &m;
	return call_send(port->r, o.has_from && !m.write ? &expect_from_kind : &expect_kind, how,
			 &target, &request, NULL);
}

int redd_expect(struct redd_port *port, const struct redd_expect_options *options,
		int64_t timeout_ms, struct redd_matched **ret)
{
	struct waiter w = { .is_long = true };
	int e = call_wait(port->r, expect_begin(port, options, timeout_ms, WAITER(&w)), &w);

	if (e == 0)
		*ret = (struct redd_matched *)w.reply.matched;
	return e;
}

int redd_expect_start(struct redd_port *port, const struct redd_expect_options *options,
		      int64_t timeout_ms, struct redd_call *call)
{
	return expect_begin(port, options, timeout_ms, STARTED(call));
}
