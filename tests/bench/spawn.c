/* How many processes a second, and how long one takes from the request until its end is known:
 * sequentially and with 32 in flight, for a program that costs nothing (tiny) and for /bin/true.
 * Raw: clone with shared memory and exec in a loop, three pipes drained to their end, exit reaped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/lib/measure.h"
#include "tests/lib/places.h"
#include "tests/lib/rawspawn.h"
#include "tests/lib/service.h"

#define IN_FLIGHT_MAX 64
#define LATENCIES_MAX 65536

struct bench;

struct slot {
	struct bench *bench;
	double start;
	/* redd */
	struct redd_subscribe_options watch;
	struct redd_port *port;
	/* raw */
	struct rawspawn raw;
	int open; /* of out, err and pidfd */
	struct source {
		struct slot *slot;
		int fd;
	} sources[3];
};

struct bench {
	struct service service;
	struct redd *redd;
	const char *program;
	unsigned in_flight, total;
	bool async;
	unsigned started, ended, failed;
	int epoll;
	struct slot slots[IN_FLIGHT_MAX];
	double latencies[LATENCIES_MAX];
	double *part; /* what is asked for: NULL the rate, else that part of the latencies, in us */
};

static void ended(struct slot *s)
{
	struct bench *b = s->bench;

	b->latencies[b->ended++ % LATENCIES_MAX] = (measure_now() - s->start) * 1e6;
}

static double figure(struct bench *b, double seconds)
{
	size_t n = b->ended < LATENCIES_MAX ? b->ended : LATENCIES_MAX;

	if (b->failed || b->ended != b->total)
		return -1;
	return b->part ? measure_part(b->latencies, n, *b->part) : b->total / seconds;
}

static void begin(struct bench *b)
{
	b->started = b->ended = b->failed = 0;
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++)
		b->slots[i].bench = b;
}

/* --- redd ------------------------------------------------------------------------------------ */

static void redd_next(struct slot *s);

static void on_started(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct slot *s = user;

	(void)reply;
	if (!result)
		return;
	fprintf(stderr, "spawn: %s\n", redd_last_error(r)->message);
	s->bench->failed++;
}

static void on_closed(struct redd_subscription *subscription, const struct redd_closed *c,
		      void *user)
{
	struct slot *s = user;

	(void)subscription;
	if (redd_exit_status(&c->exit) != 0 || c->result)
		s->bench->failed++;
	ended(s);
	redd_forget_start(s->port, NULL);
	redd_port_free(s->port);
	redd_next(s);
}

static void redd_next(struct slot *s)
{
	struct bench *b = s->bench;
	const char *const argv[] = { b->program, NULL };
	struct redd_spawn_options o = { .size = sizeof(o), .argv = argv, .subscribe = &s->watch };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_call call = { .done = on_started, .user = s };

	if (b->started == b->total || b->failed)
		return;
	b->started++;
	o.descriptors = &in;
	o.n_descriptors = 1;
	o.environment_base = REDD_ENV_EMPTY;
	s->watch =
		(struct redd_subscribe_options){ .size = sizeof(s->watch),
						 .handler = { .user = s, .on_closed = on_closed } };
	s->start = measure_now();
	if (redd_spawn_start(b->redd, &o, &s->port, &call))
		b->failed++;
}

static double run_redd(void *user)
{
	struct bench *b = user;
	double start;

	begin(b);
	start = measure_now();
	for (unsigned i = 0; i < b->in_flight; i++)
		redd_next(&b->slots[i]);
	while (b->ended < b->total && !b->failed)
		if (redd_run_once(b->redd, 10000))
			return -1;
	return figure(b, measure_now() - start);
}

/* --- raw ------------------------------------------------------------------------------------- */

static int source_add(struct slot *s, unsigned i, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &s->sources[i] };

	s->sources[i] = (struct source){ s, fd };
	return epoll_ctl(s->bench->epoll, EPOLL_CTL_ADD, fd, &event);
}

static void raw_next(struct slot *s)
{
	struct bench *b = s->bench;
	char *argv[] = { (char *)b->program, NULL };

	if (b->started == b->total || b->failed)
		return;
	b->started++;
	s->start = measure_now();
	s->open = 3;
	if (rawspawn(&s->raw, argv, b->async) || source_add(s, 0, s->raw.out) ||
	    source_add(s, 1, s->raw.err) || source_add(s, 2, s->raw.pidfd))
		b->failed++;
}

static void source_ready(struct source *source)
{
	struct slot *s = source->slot;
	char data[4096];

	if (source->fd != s->raw.pidfd && read(source->fd, data, sizeof(data)) > 0)
		return;
	epoll_ctl(s->bench->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	if (--s->open)
		return;
	if (rawspawn_end(&s->raw) != 0)
		s->bench->failed++;
	ended(s);
	raw_next(s);
}

static double run_raw(void *user)
{
	struct bench *b = user;
	struct epoll_event events[64];
	double start;

	begin(b);
	start = measure_now();
	for (unsigned i = 0; i < b->in_flight; i++)
		raw_next(&b->slots[i]);
	while (b->ended < b->total && !b->failed) {
		int n = epoll_wait(b->epoll, events, 64, 10000);

		if (n <= 0 && errno != EINTR)
			return -1;
		for (int i = 0; i < n; i++)
			source_ready(events[i].data.ptr);
	}
	return figure(b, measure_now() - start);
}

/* --- what is measured ------------------------------------------------------------------------ */

static int measure_program(struct bench *b, const char *name, const char *program, unsigned total)
{
	double half = 0.5, most = 0.99;
	char text[64];
	int r = 0;

	b->program = program;
	b->total = total;
	b->in_flight = 1;
	b->async = false;
	snprintf(text, sizeof(text), "spawn-%s-sequential", name);
	r |= measure(text, "spawns/s (raw: vfork)", MEASURE_REPEATS, run_redd, run_raw, b);
	b->part = &half;
	snprintf(text, sizeof(text), "spawn-%s-p50", name);
	r |= measure(text, "us", MEASURE_REPEATS, run_redd, run_raw, b);
	b->part = &most;
	snprintf(text, sizeof(text), "spawn-%s-p99", name);
	r |= measure(text, "us", MEASURE_REPEATS, run_redd, run_raw, b);
	b->part = NULL;
	b->in_flight = 32;
	b->total = total * 4;
	snprintf(text, sizeof(text), "spawn-%s-32", name);
	r |= measure(text, "spawns/s (raw: vfork)", MEASURE_REPEATS, run_redd, run_raw, b);
	b->async = true;
	snprintf(text, sizeof(text), "spawn-%s-32-async", name);
	r |= measure(text, "spawns/s (raw: async)", MEASURE_REPEATS, run_redd, run_raw, b);
	return r;
}

int main(void)
{
	static struct bench b;
	unsigned total = (unsigned)measure_size("BENCH_SPAWNS", 1000);
	int r;

	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++)
		b.slots[i].raw = (struct rawspawn)RAWSPAWN_INIT;
	b.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (b.epoll < 0 || service_start(&b.service, NULL))
		return 1;
	b.redd = service_connect(&b.service);
	r = !b.redd || measure_program(&b, "tiny", place_prog("tiny"), total) ||
	    measure_program(&b, "true", "/bin/true", total / 2);
	redd_free(b.redd);
	return service_stop(&b.service) || r;
}
