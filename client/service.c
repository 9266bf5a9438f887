/* Asking the service itself: ping, cancel, shutdown, stats.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/block.h"
#include "client/call.h"
#include "proto/base/err.h"
#include "proto/redd.pb-c.h"

/* --- ping ------------------------------------------------------------------------------------ */

static const struct call_kind ping_kind = {
	.name = "Ping",
	.answer = REDD__V1__MESSAGE__BODY_PONG,
	.repeat = CALL_REPEAT,
};

static int ping_begin(struct redd *r, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Ping m = REDD__V1__PING__INIT;

	request.body_case = REDD__V1__REQUEST__BODY_PING;
	request.ping = &m;
	return call_send(r, &ping_kind, how, NULL, &request, NULL);
}

int redd_ping(struct redd *r)
{
	struct waiter w = { 0 };

	return call_wait(r, ping_begin(r, WAITER(&w)), &w);
}

int redd_ping_start(struct redd *r, struct redd_call *call)
{
	return ping_begin(r, STARTED(call));
}

/* --- cancel ---------------------------------------------------------------------------------- */

/* What it was to give up has been answered meanwhile. */
static bool cancel_was_done(struct redd *r, const struct call *c, struct redd_reply *reply)
{
	(void)c;
	(void)reply;
	return r->failure.error.code == REDD_NOT_FOUND;
}

static const struct call_kind cancel_kind = {
	.name = "Cancel",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_REPEAT,
	.was_done = cancel_was_done,
};

static int cancel_begin(struct redd *r, uint64_t id, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Cancel m = REDD__V1__CANCEL__INIT;
	int e;

	m.has_request = true;
	m.request = id;
	request.body_case = REDD__V1__REQUEST__BODY_CANCEL;
	request.cancel = &m;
	e = call_send(r, &cancel_kind, how, NULL, &request, NULL);
	if (e == 0)
		call_is_cancelled(r, id);
	return err_pass(e);
}

int redd_cancel(struct redd *r, uint64_t request)
{
	struct waiter w = { 0 };

	return call_wait(r, cancel_begin(r, request, WAITER(&w)), &w);
}

int redd_cancel_start(struct redd *r, uint64_t request, struct redd_call *call)
{
	return cancel_begin(r, request, STARTED(call));
}

/* --- shutdown -------------------------------------------------------------------------------- */

static const struct call_kind shutdown_kind = {
	.name = "Shutdown",
	.answer = REDD__V1__MESSAGE__BODY_DONE,
	.repeat = CALL_REPEAT,
};

static int shutdown_begin(struct redd *r, int64_t drain_ms, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Shutdown m = REDD__V1__SHUTDOWN__INIT;

	if (drain_ms > SHUTDOWN_DRAIN_MAX_MS)
		return client_fail(r, -EINVAL, "a shutdown drains for at most %u ms",
				   SHUTDOWN_DRAIN_MAX_MS);
	m.has_drain_ms = drain_ms >= 0;
	m.drain_ms = m.has_drain_ms ? (uint32_t)drain_ms : 0;
	request.body_case = REDD__V1__REQUEST__BODY_SHUTDOWN;
	request.shutdown = &m;
	return call_send(r, &shutdown_kind, how, NULL, &request, NULL);
}

int redd_shutdown(struct redd *r, int64_t drain_ms)
{
	struct waiter w = { 0 };

	return call_wait(r, shutdown_begin(r, drain_ms, WAITER(&w)), &w);
}

int redd_shutdown_start(struct redd *r, int64_t drain_ms, struct redd_call *call)
{
	return shutdown_begin(r, drain_ms, STARTED(call));
}

/* --- stats ----------------------------------------------------------------------------------- */

/* Runs twice: measures, then fills. */
static void metrics_fill(struct block *b, const Redd__V1__Statistics *w)
{
	struct redd_metrics *out = block_take(b, 1, sizeof(*out));
	struct redd_metric *list = block_take(b, w->n_metrics, sizeof(*list));

	for (size_t i = 0; i < w->n_metrics; i++) {
		struct redd_metric m = {
			.name = block_string(b, w->metrics[i]->name),
			.counter = w->metrics[i]->type == REDD__V1__METRIC__TYPE__COUNTER,
			.value = w->metrics[i]->value,
			.help = block_string(b, w->metrics[i]->help),
		};

		if (list)
			list[i] = m;
	}
	if (out)
		*out = (struct redd_metrics){ .n_metrics = w->n_metrics, .metrics = list };
}

static int stats_take(struct redd *r, struct call *c, const Redd__V1__Message *m,
		      struct redd_reply *reply)
{
	struct block b = { 0 };

	(void)c;
	metrics_fill(&b, m->statistics);
	if (block_make(&b) < 0)
		return client_fail(r, -ENOMEM, "no memory for the statistics");
	metrics_fill(&b, m->statistics);
	reply->metrics = block_start(&b);
	return 0;
}

static const struct call_kind stats_kind = {
	.name = "Stats",
	.answer = REDD__V1__MESSAGE__BODY_STATISTICS,
	.repeat = CALL_REPEAT,
	.take = stats_take,
};

static int stats_begin(struct redd *r, struct how how)
{
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Stats m = REDD__V1__STATS__INIT;

	request.body_case = REDD__V1__REQUEST__BODY_STATS;
	request.stats = &m;
	return call_send(r, &stats_kind, how, NULL, &request, NULL);
}

int redd_stats(struct redd *r, struct redd_metrics **ret)
{
	struct waiter w = { 0 };
	int e = call_wait(r, stats_begin(r, WAITER(&w)), &w);

	if (e == 0)
		*ret = (struct redd_metrics *)w.reply.metrics;
	return e;
}

int redd_stats_start(struct redd *r, struct redd_call *call)
{
	return stats_begin(r, STARTED(call));
}

void redd_metrics_free(struct redd_metrics *metrics)
{
	free(metrics);
}
