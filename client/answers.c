#include "client/answers.h"

#include "proto/base/cleanup.h"
#include "proto/redd.pb-c.h"

struct redd_exit exit_unknown(const char *reason)
{
	return (struct redd_exit){ .state = REDD_EXIT_UNKNOWN, .reason = reason };
}

/* A state and its number must fit each other; what does not is unknown, never a number. */
static void exit_judge(struct redd_exit *e, const Redd__V1__Exit *wire)
{
	if (wire->state == REDD__V1__EXIT__STATE__CODE && wire->has_code && wire->code <= 255) {
		e->state = REDD_EXIT_CODE;
		e->code = (int)wire->code;
	} else if (wire->state == REDD__V1__EXIT__STATE__SIGNAL && wire->has_signal &&
		   wire->signal >= 1 && wire->signal <= 127) {
		e->state = REDD_EXIT_SIGNAL;
		e->signal = (int)wire->signal;
		e->core = wire->core;
	} else {
		e->state = REDD_EXIT_UNKNOWN;
		e->reason = wire->state == REDD__V1__EXIT__STATE__UNKNOWN_STATE
				    ? "the broker could not learn how it ended"
				    : "the broker told an exit that makes no sense";
	}
}

struct redd_exit exit_of(const Redd__V1__Exit *wire)
{
	struct redd_exit e;

	if (!wire)
		return exit_unknown("the broker did not tell how it ended");
	e = (struct redd_exit){
		.timed_out = wire->timed_out,
		.start_ns = wire->start_ns,
		.end_ns = wire->end_ns,
		.user_us = wire->user_us,
		.system_us = wire->system_us,
		.max_rss = wire->max_rss,
		.minor_faults = wire->minor_faults,
		.major_faults = wire->major_faults,
		.voluntary_switches = wire->voluntary_switches,
		.involuntary_switches = wire->involuntary_switches,
		.blocks_in = wire->blocks_in,
		.blocks_out = wire->blocks_out,
	};
	exit_judge(&e, wire);
	return e;
}

int redd_exit_status(const struct redd_exit *e)
{
	switch (e->state) {
	case REDD_EXIT_CODE:
		return e->code;
	case REDD_EXIT_SIGNAL:
		return 128 + e->signal;
	default:
		return -1;
	}
}

struct redd_written written_of(const Redd__V1__Written *wire)
{
	return (struct redd_written){
		.offset = wire->offset,
		.size = wire->size,
		.exact = wire->exact,
	};
}

struct redd_stream_info stream_info_of(const Redd__V1__StreamInfo *wire)
{
	return (struct redd_stream_info){
		.stream = wire->stream,
		.direction = (enum redd_direction)wire->direction,
		.total = wire->total,
		.oldest = wire->oldest,
		.queued = wire->queued,
		.ended = wire->ended,
		.busy = wire->busy,
		.high = wire->high,
		.low = wire->low,
		.bound = wire->bound,
		.waiting = wire->waiting,
		.held = wire->held,
		.has_xxh3 = wire->has_xxh3,
		.xxh3 = wire->xxh3,
		.log_size = wire->log_size,
		.cause = (enum redd_end_cause)wire->cause,
		.held_ms = wire->held_ms,
		.held_total_ms = wire->held_total_ms,
		.expects = wire->expects,
	};
}

int pids_of(pid_t out[REDD_HOLDERS_MAX], const int32_t *wire, size_t n)
{
	n = MIN(n, (size_t)REDD_HOLDERS_MAX);
	for (size_t i = 0; i < n; i++)
		out[i] = wire[i];
	return (int)n;
}
