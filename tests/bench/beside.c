/* What bad neighbours cost a polite client: its time from spawn to exit, alone and beside each of
 * them, in turns in one run. "raw" is the same process without redd beside the same neighbour: what
 * the machine being busy costs by itself. Then what they cost the broker: its longest turn, and its
 * memory. Last come three of them at once ("all-three"). BENCH_POLITE (200) spawns a round,
 * BENCH_ROUNDS (3) rounds; BENCH_ONLY names one.
 *
 * BENCH_NICE (0) is the niceness of the neighbours and their children, not of the broker. At 19
 * they leave the processors to others.
 *
 * Bulk gives way to the polite client's spawns for YIELD_MOST_MS at a time (broker/yield.h): with
 * more than about 1500 of them in a row the rest is seen without it.
 *
 * The line: p99 beside (redd=), p99 alone (raw=), and their ratio, which is to be 2 at most; the
 * same once more for the process without redd. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/census.h"
#include "tests/lib/measure.h"
#include "tests/lib/nuisance.h"

#define ROUNDS_MAX 16u
#define SPAWNS_MAX 5000u

struct bench {
	struct redd *r;
	unsigned n, rounds;
	double times[SPAWNS_MAX];
};

struct figures {
	double half[ROUNDS_MAX], most[ROUNDS_MAX];
};

static void note(struct bench *b, struct figures *f, unsigned round)
{
	f->half[round] = measure_part(b->times, b->n, 0.5);
	f->most[round] = measure_part(b->times, b->n, 0.99);
}

static int round_of(struct bench *b, struct figures *redd, struct figures *raw, unsigned round)
{
	if (polite_spawns(b->r, b->n, b->times))
		return -1;
	note(b, redd, round);
	if (polite_raw_spawns(b->n, b->times))
		return -1;
	note(b, raw, round);
	return 0;
}

static unsigned long long stat_of(struct redd *r, const char *name)
{
	unsigned long long value = 0;
	struct redd_metrics *m;

	if (redd_stats(r, &m))
		return 0;
	for (size_t i = 0; i < m->n_metrics; i++)
		if (!strcmp(m->metrics[i].name, name))
			value = m->metrics[i].value;
	redd_metrics_free(m);
	return value;
}

static void print(const char *what, const char *name, unsigned rounds, const double *beside,
		  const double *alone)
{
	char text[96];

	snprintf(text, sizeof(text), "beside-%s-%s", name, what);
	measure_print(text, "ms (raw: alone)", rounds, beside, alone);
}

struct neighbours {
	const char *name;
	unsigned n;
	enum nuisance_kind kinds[3];
	struct nuisance all[3];
};

static int neighbours_start(struct neighbours *n, const struct service *s)
{
	int r = 0;

	for (unsigned i = 0; i < n->n && !r; i++)
		r = nuisance_start(&n->all[i], n->kinds[i], s);
	return r;
}

static int neighbours_stop(struct neighbours *n)
{
	int r = 0;

	for (unsigned i = 0; i < n->n; i++)
		r |= nuisance_stop(&n->all[i]);
	return r;
}

/* Against a service of its own. */
static int measure_beside(struct bench *b, struct neighbours *n)
{
	struct figures alone, beside, raw_alone, raw_beside;
	struct service service;
	struct census census;
	int r = service_start(&service, NULL);

	if (r)
		return r;
	b->r = service_connect(&service);
	for (unsigned i = 0; b->r && !r && i < b->rounds; i++) {
		r = round_of(b, &alone, &raw_alone, i);
		if (!r)
			r = neighbours_start(n, &service);
		if (!r)
			r = round_of(b, &beside, &raw_beside, i);
		r |= neighbours_stop(n);
		redd_ping(b->r);
	}
	if (!b->r || r || census_take(service.pid, &census)) {
		fprintf(stderr, "%s failed\n", n->name);
		service_kill(&service);
		return -1;
	}
	print("p50", n->name, b->rounds, beside.half, alone.half);
	print("p99", n->name, b->rounds, beside.most, alone.most);
	print("raw-p50", n->name, b->rounds, raw_beside.half, raw_alone.half);
	print("raw-p99", n->name, b->rounds, raw_beside.most, raw_alone.most);
	printf("beside-%s: longest turn %.2f ms, %llu of %llu above 10 ms, broker memory %.1f "
	       "MiB\n",
	       n->name, (double)stat_of(b->r, "redd_loop_turn_max_us") / 1000,
	       stat_of(b->r, "redd_loop_turns_long_total"), stat_of(b->r, "redd_loop_turns_total"),
	       (double)stat_of(b->r, "redd_memory_max_bytes") / 1048576);
	redd_free(b->r);
	return service_stop(&service);
}

int main(void)
{
	static struct bench b;
	struct neighbours three = { "all-three",
				    3,
				    { NUISANCE_NEVER_READERS, NUISANCE_FLOOD, NUISANCE_WRITER },
				    { { 0 } } };
	const char *only = getenv("BENCH_ONLY");
	int r = 0;

	b.n = (unsigned)measure_size("BENCH_POLITE", 200);
	b.rounds = (unsigned)measure_size("BENCH_ROUNDS", 3);
	if (b.n > SPAWNS_MAX || b.rounds > ROUNDS_MAX)
		return 1;
	for (int kind = 0; kind < NUISANCE_KINDS; kind++) {
		struct neighbours one = { nuisance_name((enum nuisance_kind)kind),
					  1,
					  { (enum nuisance_kind)kind },
					  { { 0 } } };

		if (!only || !strcmp(only, one.name))
			r |= measure_beside(&b, &one);
	}
	if (!only || !strcmp(only, three.name))
		r |= measure_beside(&b, &three);
	return r;
}
