/* Stats: numbers of the service, named as OpenMetrics wants them. */
#include <sys/resource.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/req.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#define GAUGE	REDD__V1__METRIC__TYPE__GAUGE
#define COUNTER REDD__V1__METRIC__TYPE__COUNTER

struct metric {
	const char *name;
	Redd__V1__Metric__Type type;
	const char *help;
	uint64_t (*value)(struct broker *b);
};

#define COUNT(field)                                    \
	static uint64_t value_##field(struct broker *b) \
	{                                               \
		return b->counters.field;               \
	}
COUNT(connections)
COUNT(refused_connections)
COUNT(requests)
COUNT(refused_frames)
COUNT(spawned)
COUNT(failed)
COUNT(exited)
COUNT(bytes_in)
COUNT(bytes_out)
COUNT(held)
COUNT(gaps)
COUNT(gap_bytes)
COUNT(held_ms)
COUNT(stalled)
COUNT(expects)
COUNT(expects_matched)
COUNT(expects_lost)
COUNT(searched)
COUNT(search_turns)

static uint64_t value_ports(struct broker *b)
{
	return b->ports.n;
}

static uint64_t value_clients(struct broker *b)
{
	return b->n_conns;
}

static uint64_t value_doors(struct broker *b)
{
	return b->n_delegations;
}

static uint64_t value_expects_waiting(struct broker *b)
{
	return b->expects.n;
}

static uint64_t value_waiting(struct broker *b)
{
	return b->helper.lines.n_waiting;
}

static uint64_t value_in_flight(struct broker *b)
{
	return b->helper.in_flight;
}

static uint64_t value_errands(struct broker *b)
{
	return b->n_errands;
}

static uint64_t value_errands_out(struct broker *b)
{
	uint64_t n = 0;

	for (int i = 0; i < ERRAND_KINDS; i++)
		n += b->errand_turns.n_out[i];
	return n;
}

static uint64_t value_unborn(struct broker *b)
{
	return b->helper.n_unborn;
}

static uint64_t value_forkers(struct broker *b)
{
	return b->helper.n_forkers;
}

static uint64_t value_brokers(struct broker *b)
{
	return b->incarnation;
}

static uint64_t value_log_bytes(struct broker *b)
{
	return ring_pool_bytes(b->rings);
}

static uint64_t value_log_bytes_free(struct broker *b)
{
	return ring_pool_bytes_free(b->rings);
}

static uint64_t value_logs(struct broker *b)
{
	return ring_pool_count(b->rings);
}

static uint64_t value_events(struct broker *b)
{
	return events_newest(b->events);
}

static uint64_t value_descriptors(struct broker *b)
{
	int n = fd_count();

	(void)b;
	return n < 0 ? 0 : (uint64_t)n;
}

static uint64_t value_closing(struct broker *b)
{
	return closer_count(b);
}

static uint64_t value_memory(struct broker *b)
{
	struct rusage usage;

	(void)b;
	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_maxrss * 1024;
}

static uint64_t value_turns(struct broker *b)
{
	return b->turn.cost.n;
}

static uint64_t value_long_turns(struct broker *b)
{
	return b->turn.cost.n_long;
}

static uint64_t value_longest_turn(struct broker *b)
{
	return b->turn.cost.longest_ns / 1000;
}

static uint64_t value_yielded(struct broker *b)
{
	return yield_held_ms(&b->yield);
}

static uint64_t value_lost_lines(struct broker *b)
{
	(void)b;
	return log_lost();
}

static const struct metric metrics[] = {
	{ "redd_doors", GAUGE, "Doors that were made by Delegate and are open.", value_doors },
	{ "redd_ports", GAUGE, "Ports, ended ones that are kept included.", value_ports },
	{ "redd_clients", GAUGE, "Connections.", value_clients },
	{ "redd_spawns_waiting", GAUGE, "Spawns that wait for their turn.", value_waiting },
	{ "redd_errands", GAUGE, "Openers that are out, and errands that wait for one.",
	  value_errands },
	{ "redd_errands_out", GAUGE, "Openers that are out.", value_errands_out },
	{ "redd_spawns_in_flight", GAUGE, "Spawns handed over and not answered.", value_in_flight },
	{ "redd_expects_waiting", GAUGE, "Expects that wait.", value_expects_waiting },
	{ "redd_logs", GAUGE, "Logs of output streams in memory.", value_logs },
	{ "redd_log_bytes", GAUGE, "Memory of all logs.", value_log_bytes },
	{ "redd_log_free_bytes", GAUGE, "Of these, kept for reuse.", value_log_bytes_free },
	{ "redd_descriptors", GAUGE, "Open descriptors of the broker.", value_descriptors },
	{ "redd_descriptors_closing", GAUGE, "Descriptors of clients that are not closed yet.",
	  value_closing },
	{ "redd_memory_max_bytes", GAUGE, "Largest resident size of the broker.", value_memory },
	{ "redd_loop_turn_max_us", GAUGE, "Longest turn of the loop, in processor time.",
	  value_longest_turn },
	{ "redd_loop_turns_total", COUNTER, "Turns of the loop.", value_turns },
	{ "redd_loop_turns_long_total", COUNTER, "Of these, longer than 10 ms.", value_long_turns },
	{ "redd_bulk_held_milliseconds_total", COUNTER,
	  "Time that bulk was held back for spawns, with no processor to spare.", value_yielded },
	{ "redd_connections_total", COUNTER, "Connections accepted.", value_connections },
	{ "redd_connections_refused_total", COUNTER, "Connections refused.",
	  value_refused_connections },
	{ "redd_requests_total", COUNTER, "Frames handled.", value_requests },
	{ "redd_frames_refused_total", COUNTER, "Connections ended for what they sent.",
	  value_refused_frames },
	{ "redd_spawned_total", COUNTER, "Programs started.", value_spawned },
	{ "redd_spawns_failed_total", COUNTER, "Spawns that failed.", value_failed },
	{ "redd_spawns_repeated_total", COUNTER, "Spawns handed over again after a forker's death.",
	  value_unborn },
	{ "redd_exited_total", COUNTER, "Programs ended.", value_exited },
	{ "redd_input_bytes_total", COUNTER, "Written to inputs.", value_bytes_in },
	{ "redd_output_bytes_total", COUNTER, "Read from outputs.", value_bytes_out },
	{ "redd_outputs_held_total", COUNTER, "Times an output was held back for a reader.",
	  value_held },
	{ "redd_outputs_held_milliseconds_total", COUNTER,
	  "Time that outputs were held back, of those that went on.", value_held_ms },
	{ "redd_subscriptions_stalled_total", COUNTER,
	  "Subscriptions moved from block to drop for making no progress.", value_stalled },
	{ "redd_gaps_total", COUNTER, "Gaps told to subscriptions.", value_gaps },
	{ "redd_gap_bytes_total", COUNTER, "Bytes in those.", value_gap_bytes },
	{ "redd_expects_total", COUNTER, "Expects that waited.", value_expects },
	{ "redd_expects_matched_total", COUNTER, "Of these, found a match.",
	  value_expects_matched },
	{ "redd_expects_lost_total", COUNTER, "Of these, were overtaken by the output.",
	  value_expects_lost },
	{ "redd_searched_bytes_total", COUNTER, "Bytes that Expects looked at.", value_searched },
	{ "redd_search_turns_total", COUNTER, "Turns of the loop that left some for the next.",
	  value_search_turns },
	{ "redd_events_total", COUNTER, "Life events.", value_events },
	{ "redd_forkers_total", COUNTER, "Forkers started.", value_forkers },
	{ "redd_brokers_total", COUNTER, "Brokers started.", value_brokers },
	{ "redd_log_lines_lost_total", COUNTER, "Lines that stderr did not take.",
	  value_lost_lines },
};

int req_stats(struct conn *c, const Redd__V1__Request *request)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Statistics statistics = REDD__V1__STATISTICS__INIT;
	Redd__V1__Metric messages[ARRAY_SIZE(metrics)], *pointers[ARRAY_SIZE(metrics)];

	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
		redd__v1__metric__init(&messages[i]);
		messages[i].name = (char *)metrics[i].name;
		messages[i].help = (char *)metrics[i].help;
		SET(messages[i], type, metrics[i].type);
		SET(messages[i], value, metrics[i].value(c->broker));
		pointers[i] = &messages[i];
	}
	statistics.n_metrics = ARRAY_SIZE(metrics);
	statistics.metrics = pointers;
	m.body_case = REDD__V1__MESSAGE__BODY_STATISTICS;
	m.statistics = &statistics;
	reply_message(c, request->id, &m);
	return 0;
}
