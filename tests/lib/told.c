/* Owns the line of the test that runs. */
#include "tests/lib/told.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct told told;

void told_note(const char *format, ...)
{
	size_t used = strlen(told.text);
	va_list args;

	va_start(args, format);
	vsnprintf(told.text + used, sizeof(told.text) - used, format, args);
	va_end(args);
}

/* --- callbacks ------------------------------------------------------------------------------- */

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	cr_assert(user == &told && o->consumed == o->size);
	cr_assert_not_null(redd_subscription_port(s));
	told_note("o%u@%llu:%.*s ", o->stream, (unsigned long long)o->offset, (int)o->size,
		  (const char *)o->data);
}

static void on_gap(struct redd_subscription *s, const struct redd_gap *g, void *user)
{
	(void)s;
	(void)user;
	told_note("g%u:%llu-%llu ", g->stream, (unsigned long long)g->offset,
		  (unsigned long long)g->end);
}

static void on_end(struct redd_subscription *s, const struct redd_stream_end *e, void *user)
{
	(void)s;
	(void)user;
	told_note("e%u=%llu ", e->stream, (unsigned long long)e->total);
	told.end_result = e->result;
	told.end = *e;
}

static void on_exited(struct redd_subscription *s, const struct redd_exit *e, void *user)
{
	(void)s;
	(void)user;
	told_note("x%d ", redd_exit_status(e));
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	(void)s;
	(void)user;
	told_note("c%d ", c->cause);
	told.closed_result = c->result;
	told.exit = c->exit;
}

void told_marks(struct redd_subscription *s, const struct redd_marks *m, void *user)
{
	(void)s;
	(void)user;
	told_note("m%u:%s:%llu ", m->stream, m->busy ? "busy" : "free",
		  (unsigned long long)m->queued);
}

const struct redd_handler told_handler = {
	.user = &told,
	.on_output = on_output,
	.on_gap = on_gap,
	.on_end = on_end,
	.on_exited = on_exited,
	.on_closed = on_closed,
};

/* --- a subscription -------------------------------------------------------------------------- */

struct redd_subscription *told_subscribe(struct fake *f, struct redd_subscribe_options *o)
{
	const bool wants_marks = o->handler.on_marks != NULL;
	struct redd_subscription *s;
	const Redd__V1__Request *request;
	struct redd_port *port;

	told = (struct told){ 0 };
	o->handler = told_handler;
	o->handler.on_marks = wants_marks ? told_marks : NULL;
	cr_assert_eq(redd_port_by_id(f->r, 1, &port), 0);
	fake_subscribed(f, 2, 1, 1, 1, 0);
	cr_assert_eq(redd_subscribe(port, o, &s), 0, "%s", redd_last_error(f->r)->message);
	request = fake_heard(f);
	cr_assert_eq(request->body_case, REDD__V1__REQUEST__BODY_SUBSCRIBE);
	cr_assert_eq(request->subscribe->marks, wants_marks);
	cr_assert_eq(redd_subscription_id(s), 1);
	return s;
}

struct redd_subscription *told_open(struct fake *f)
{
	struct redd_subscribe_options o = { 0 };

	fake_open(f);
	return told_subscribe(f, &o);
}

void told_expect(struct fake *f, const char *text)
{
	cr_assert_eq(fake_settle(f), 0, "%s", redd_last_error(f->r)->message);
	cr_assert_str_eq(told.text, text);
}
