/* Expect: what is asked for, and how it ended. The wait itself is in expect.c. */
#include <errno.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/expect.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "proto/base/err.h"

/* --- the answer ------------------------------------------------------------------------------ */

struct matched_message {
	Redd__V1__Matched message;
	Redd__V1__Exit exit;
	Redd__V1__Written written;
	Redd__V1__Range ranges[EXPECT_GROUPS_MAX];
	Redd__V1__Range *pointers[EXPECT_GROUPS_MAX];
};

static void fill_groups(struct matched_message *ret, const struct search_match *match)
{
	for (unsigned i = 1; i < match->n_ranges; i++) {
		Redd__V1__Range *range = &ret->ranges[i - 1];

		redd__v1__range__init(range);
		if (match->begins[i] != SEARCH_UNSET) {
			SET(*range, offset, match->begins[i]);
			SET(*range, end, match->ends[i]);
		}
		ret->pointers[i - 1] = range;
	}
	ret->message.n_groups = match->n_ranges - 1;
	ret->message.groups = ret->pointers;
}

static void fill_match(struct matched_message *ret, const struct expect *e)
{
	Redd__V1__Matched *m = &ret->message;
	const struct stream *s = e->stream;
	struct search_match match;
	uint64_t begin, end;

	if (!search_best(e->search, &match))
		return;
	begin = match.begins[0];
	end = match.ends[0];
	SET(*m, pattern, match.pattern);
	SET(*m, offset, begin);
	SET(*m, end, end);
	SET(*m, next, end);
	fill_groups(ret, &match);
	if (begin == end)
		SET(*m, data, ((ProtobufCBinaryData){ 0, NULL }));
	else if (begin >= stream_oldest(s))
		SET(*m, data,
		    ((ProtobufCBinaryData){ (size_t)MIN(end - begin, EXPECT_DATA_MAX),
					    (uint8_t *)ring_at(s->out.ring, begin) }));
}

static void fill_matched(struct matched_message *ret, const struct expect *e, enum expect_end end)
{
	const struct pending *pending = e->pending;
	const struct port *p = e->stream->port;
	Redd__V1__Matched *m = &ret->message;

	redd__v1__matched__init(m);
	SET(*m, port, p->id);
	SET(*m, stream, e->stream->number);
	SET(*m, what, (Redd__V1__Matched__What)end);
	SET(*m, from, e->options.from);
	SET(*m, searched, expect_searched(e));
	SET(*m, next, e->search ? search_earliest(e->search) : m->searched);
	if (end == EXPECT_MATCH)
		fill_match(ret, e);
	else if (end == EXPECT_LOST)
		SET(*m, next, stream_oldest(e->stream));
	if (p->has_exited) {
		redd__v1__exit__init(&ret->exit);
		reply_fill_exit(&ret->exit, &p->exit);
		m->exit = &ret->exit;
	}
	if (pending->stream && !e->options.writes) {
		redd__v1__written__init(&ret->written);
		req_fill_written(&ret->written, pending);
		m->written = &ret->written;
	}
}

static void on_over(struct expect *e, enum expect_end end)
{
	struct pending *pending = e->pending;
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	struct matched_message matched;

	pending->conn->broker->counters.expects_matched += end == EXPECT_MATCH;
	pending->conn->broker->counters.expects_lost += end == EXPECT_LOST;
	fill_matched(&matched, e, end);
	m.body_case = REDD__V1__MESSAGE__BODY_MATCHED;
	m.matched = &matched.message;
	reply_message(pending->conn, pending->request, &m);
	pending_free(pending);
}

/* --- the request ----------------------------------------------------------------------------- */

/* The output; NULL, and the request has been answered. */
static struct stream *output_of(struct conn *c, uint64_t request, const struct port *p,
				const Redd__V1__Expect *m)
{
	uint32_t number = port_has_terminal(p) ? STREAM_TERMINAL : 1;
	struct stream *s = port_stream(p, m->has_stream ? m->stream : number);

	if (s && s->out.is_there && !rights_may_stream(c, POLICY_READ, s)) {
		reply_error(c, request, REPLY_PERMISSION_DENIED, EPERM, "%s",
			    policy_reason(POLICY_READ));
		return NULL;
	}
	if (s && s->out.is_there)
		return s;
	reply_error(c, request, REPLY_INVALID_ARGUMENT, 0,
		    "the port has no output with that stream number; Inspect lists its streams");
	return NULL;
}

static bool read_from(struct conn *c, uint64_t request, const Redd__V1__Expect *m,
		      const struct stream *s, uint64_t *ret)
{
	uint64_t oldest = stream_oldest(s), total = stream_total(s);

	*ret = m->has_from ? m->from : total;
	if (*ret >= oldest && *ret <= total)
		return true;
	reply_error(c, request, REPLY_OUT_OF_RANGE, 0,
		    "the stream can be searched from offset %llu to %llu, not from %llu; leave "
		    "from out to search what comes from now on",
		    (unsigned long long)oldest, (unsigned long long)total,
		    (unsigned long long)*ret);
	return false;
}

/* NULL, or what is wrong. */
static const char *read_patterns(const Redd__V1__Expect *m, struct pattern *ret)
{
	if (m->n_patterns > EXPECT_PATTERNS_MAX)
		return "more than 32 patterns; several words can be one: a|b|c";
	for (size_t i = 0; i < m->n_patterns; i++) {
		const Redd__V1__Pattern *p = m->patterns[i];
		bool is_regex = p->is_case == REDD__V1__PATTERN__IS_REGEX;
		const ProtobufCBinaryData *text = is_regex ? &p->regex : &p->text;

		if (p->is_case == REDD__V1__PATTERN__IS__NOT_SET)
			return "one of the patterns has neither text nor regex";
		ret[i] = (struct pattern){ text->data, text->len, is_regex, p->ignore_case };
	}
	return NULL;
}

/* Compiles them. False: the request has been answered. No patterns give no instructions. */
static bool read_program(struct conn *c, uint64_t request, const Redd__V1__Expect *m,
			 struct program *ret)
{
	struct pattern patterns[EXPECT_PATTERNS_MAX];
	const char *wrong = read_patterns(m, patterns);
	struct pattern_error error;
	int r = 0;

	*ret = (struct program){ 0 };
	if (!wrong && m->n_patterns)
		r = program_compile(ret, patterns, m->n_patterns, &error);
	if (wrong)
		reply_error(c, request, REPLY_INVALID_ARGUMENT, 0, "%s", wrong);
	else if (r == PROGRAM_E_BAD)
		reply_error(c, request, REPLY_INVALID_ARGUMENT, 0,
			    "patterns[%u], at byte %zu: it %s", error.pattern, error.at,
			    error.what);
	else if (r)
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, ENOMEM,
			    "no memory for the patterns; try again");
	return !wrong && !r;
}

static bool has_room(struct conn *c, uint64_t request, const struct stream *s)
{
	if (c->expects.n < CONN_EXPECTS && s->out.n_expects < STREAM_EXPECTS)
		return true;
	reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, 0,
		    "as many Expects of this connection, or on this stream, wait as may (%u, %u); "
		    "wait for some of them",
		    CONN_EXPECTS, STREAM_EXPECTS);
	return false;
}

/* Waits, and then writes: what the write brings cannot be missed. */
static int begin(struct conn *c, const Redd__V1__Request *request, struct stream *s,
		 const struct expect_options *o, struct program *take_program)
{
	const Redd__V1__Expect *m = request->expect;
	struct pending *pending = req_pending(c, s->port, PENDING_EXPECT, request->id);
	const char *reason = "no memory for the search; try again";
	int r;

	if (!pending) {
		program_deinit(take_program);
		return 0;
	}
	r = expect_new(pending, s, take_program, o, on_over, &reason);
	if (r)
		reply_error(c, request->id, REPLY_RESOURCE_EXHAUSTED, r < 0 ? -r : 0, "%s", reason);
	if (r || (m->write && !req_write_first(c, m->write, pending)))
		pending_free(pending);
	else
		c->broker->counters.expects++;
	return 0;
}

int req_expect(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Expect *m = request->expect;
	struct port *p = req_port(c, request->id, m->port, POLICY_READ);
	struct stream *s = p ? output_of(c, request->id, p, m) : NULL;
	struct expect_options o = { .idle_ms = m->idle_ms,
				    .exit = m->exit,
				    .block = m->block,
				    .has_timeout = m->has_timeout_ms,
				    .timeout_ms = m->timeout_ms,
				    .writes = m->write != NULL };
	struct program program;

	if (!s || !read_from(c, request->id, m, s, &o.from) || !has_room(c, request->id, s))
		return 0;
	if (m->write && !req_port(c, request->id, m->port, POLICY_WRITE))
		return 0;
	if (m->block && !req_port(c, request->id, m->port, POLICY_BLOCK))
		return 0;
	if (!read_program(c, request->id, m, &program))
		return 0;
	return begin(c, request, s, &o, &program);
}
