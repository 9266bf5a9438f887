/* Owns the gathered bytes. Invariant: `next` of a stream is the only offset at which output or a
 * gap may come; whatever else comes is noted in `wrong` (the first time) and the rest is still
 * gathered, so that the test can show it. */
#include "tests/lib/collect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/pattern.h"
#include "tests/lib/places.h"

#define ARGS_MAX 64

static void __attribute__((format(printf, 2, 3))) blame(struct collect *c, const char *format, ...)
{
	va_list args;

	if (c->wrong[0])
		return;
	va_start(args, format);
	vsnprintf(c->wrong, sizeof(c->wrong), format, args);
	va_end(args);
}

/* The stream; one that is new begins at 0, or at `offset` where it may begin anywhere. */
static struct collect_stream *stream_get(struct collect *c, uint32_t stream, uint64_t offset)
{
	for (size_t i = 0; i < c->n_streams; i++)
		if (c->streams[i].stream == stream)
			return &c->streams[i];
	if (c->n_streams == REDD_STREAMS_MAX)
		abort();
	if (!c->starts_anywhere)
		offset = 0;
	c->streams[c->n_streams].stream = stream;
	c->streams[c->n_streams].first = c->streams[c->n_streams].next = offset;
	return &c->streams[c->n_streams++];
}

static void keep(struct collect_stream *s, const void *data, size_t size)
{
	char *grown = realloc(s->data, s->size + size + 1);

	if (!grown)
		abort();
	s->data = grown;
	memcpy(grown + s->size, data, size);
	s->size += size;
	grown[s->size] = '\0';
}

static void record_ends(struct collect *c, struct collect_stream *s, enum redd_record how)
{
	static const char marks[] = {
		[REDD_RECORD_END] = '|', [REDD_RECORD_CUT] = '/', [REDD_RECORD_UNTERMINATED] = '$'
	};
	const char *wrong = c->on_record ? c->on_record(c, s->data, s->size) : NULL;

	s->n_records++;
	if (wrong)
		blame(c, "stream %u, record before %" PRIu64 ": %s", s->stream, s->next, wrong);
	if (c->on_record)
		s->size = 0;
	else if (c->marks)
		keep(s, &marks[how], 1);
}

/* The record's part in one output. */
static void take_record(struct collect *c, struct collect_stream *s, const struct redd_output *o)
{
	s->in_record = o->record == REDD_RECORD_PART;
	s->n_parts += s->in_record;
	if (s->in_record && !o->consumed)
		blame(c, "stream %u: a part of nothing", o->stream);
	if (!s->in_record)
		record_ends(c, s, o->record);
}

static void on_output(struct redd_subscription *subscription, const struct redd_output *o,
		      void *user)
{
	struct collect *c = user;
	struct collect_stream *s = stream_get(c, o->stream, o->offset);

	(void)subscription;
	if (s->ended || c->n_closed)
		blame(c, "stream %u: output behind its end", o->stream);
	if (o->offset != s->next)
		blame(c, "stream %u: offset %" PRIu64 " instead of %" PRIu64, o->stream, o->offset,
		      s->next);
	if (c->patterned && pattern_match(o->data, o->size, o->offset) != o->size)
		blame(c, "stream %u: wrong bytes at %" PRIu64, o->stream,
		      o->offset + pattern_match(o->data, o->size, o->offset));
	if (o->consumed < o->size || (!o->record && o->consumed != o->size))
		blame(c, "stream %u: %zu bytes took %" PRIu64, o->stream, o->size, o->consumed);
	if (!c->drop_data)
		keep(s, o->data, o->size);
	s->n_outputs++;
	s->next = o->offset + o->consumed;
	if (o->record)
		take_record(c, s, o);
}

static void on_gap(struct redd_subscription *subscription, const struct redd_gap *g, void *user)
{
	struct collect *c = user;
	struct collect_stream *s = stream_get(c, g->stream, g->offset);

	(void)subscription;
	if (s->ended || c->n_closed)
		blame(c, "stream %u: gap behind its end", g->stream);
	if (g->offset != s->next || g->end < g->offset)
		blame(c, "stream %u: gap %" PRIu64 "-%" PRIu64 " at %" PRIu64, g->stream, g->offset,
		      g->end, s->next);
	s->gaps += g->end - g->offset;
	if (s->n_gaps < COLLECT_GAPS)
		s->gap[s->n_gaps] = *g;
	s->n_gaps++;
	s->next = g->end;
	if (g->aborts_record != s->in_record)
		blame(c, "stream %u: gap at %" PRIu64 " %s a record", g->stream, g->offset,
		      s->in_record ? "does not abort" : "aborts");
	s->n_aborted += g->aborts_record;
	if (g->aborts_record && c->marks)
		keep(s, "!", 1);
	if (c->on_record)
		s->size = 0;
	s->in_record = false;
}

static void on_end(struct redd_subscription *subscription, const struct redd_stream_end *e,
		   void *user)
{
	struct collect *c = user;
	struct collect_stream *s = stream_get(c, e->stream, e->total);

	(void)subscription;
	if (s->ended || c->n_closed)
		blame(c, "stream %u: a second end", e->stream);
	if (e->total != s->next)
		blame(c, "stream %u: total %" PRIu64 " but %" PRIu64 " came", e->stream, e->total,
		      s->next);
	if (e->result)
		blame(c, "stream %u: the library says that it does not add up", e->stream);
	s->ended = true;
	s->end = *e;
}

static void on_exited(struct redd_subscription *subscription, const struct redd_exit *e, void *user)
{
	struct collect *c = user;

	(void)subscription;
	if (c->n_exited++ || c->n_closed)
		blame(c, "exited twice, or behind closed");
	c->exit = *e;
}

static void on_closed(struct redd_subscription *subscription, const struct redd_closed *closed,
		      void *user)
{
	struct collect *c = user;

	(void)subscription;
	if (c->n_closed++)
		blame(c, "closed twice");
	if (closed->cause == REDD_PORT_CLOSED && !c->n_exited)
		blame(c, "closed without exited");
	for (size_t i = 0; closed->cause == REDD_PORT_CLOSED && i < c->n_streams; i++)
		if (!c->streams[i].ended)
			blame(c, "stream %u: closed without its end", c->streams[i].stream);
	c->closed = *closed;
}

void collect_init(struct collect *c)
{
	*c = (struct collect){ 0 };
	c->watch.size = sizeof(c->watch);
	c->watch.handler = (struct redd_handler){
		.user = c,
		.on_output = on_output,
		.on_gap = on_gap,
		.on_end = on_end,
		.on_exited = on_exited,
		.on_closed = on_closed,
	};
}

void collect_deinit(struct collect *c)
{
	for (size_t i = 0; i < c->n_streams; i++)
		free(c->streams[i].data);
	c->n_streams = 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Dispatches once more; 0, -ETIMEDOUT, -ENOTCONN. */
static int dispatch_until(struct redd *r, int64_t deadline)
{
	int64_t left = deadline - now_ms();

	return left <= 0 ? -ETIMEDOUT : redd_run_once(r, (int)left);
}

int collect_wait(struct collect *c, struct redd *r, int timeout_ms)
{
	int64_t deadline = now_ms() + place_patience_ms(timeout_ms);
	int result = 0;

	while (!c->n_closed && !result)
		result = dispatch_until(r, deadline);
	return c->n_closed ? 0 : result;
}

int collect_wait_bytes(struct collect *c, struct redd *r, uint32_t stream, uint64_t size,
		       int timeout_ms)
{
	int64_t deadline = now_ms() + place_patience_ms(timeout_ms);
	int result = 0;

	while (!result && !collect_stream(c, stream)->ended &&
	       collect_stream(c, stream)->next < size && !c->n_closed)
		result = dispatch_until(r, deadline);
	return result;
}

const struct collect_stream *collect_stream(const struct collect *c, uint32_t stream)
{
	static const struct collect_stream none;

	for (size_t i = 0; i < c->n_streams; i++)
		if (c->streams[i].stream == stream)
			return &c->streams[i];
	return &none;
}

const char *collect_text(const struct collect *c, uint32_t stream)
{
	const char *text = collect_stream(c, stream)->data;

	return text ? text : "";
}

int collect_run(struct collect *c, struct redd *r, const struct redd_spawn_options *options,
		int timeout_ms)
{
	struct redd_spawn_options o = *options;
	struct redd_port *port = NULL;
	int result;

	o.subscribe = &c->watch;
	result = redd_spawn(r, &o, &port);
	if (result)
		return result;
	result = collect_wait(c, r, timeout_ms);
	if (!result)
		result = redd_forget(port);
	redd_port_free(port);
	return result;
}

int collect_prog(struct collect *c, struct redd *r, const char *prog, ...)
{
	const char *argv[ARGS_MAX] = { place_prog(prog) };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	va_list args;
	int n = 1;

	va_start(args, prog);
	while (n < ARGS_MAX - 1 && (argv[n] = va_arg(args, const char *)))
		n++;
	va_end(args);
	argv[n] = NULL;
	return collect_run(c, r, &o, 30000);
}
