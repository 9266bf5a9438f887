/* How long 64 bytes take to a cat and back (S80): p50 and p99 in microseconds. Raw: the same cat on
 * two pipes. Once as the scheduler likes, once with everything on one CPU, which is stable and
 * shows what the way itself costs. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/measure.h"
#include "tests/lib/places.h"
#include "tests/lib/rawspawn.h"
#include "tests/lib/service.h"

#define SIZE	   64
#define TRIPS_MAX  100000
#define TRIPS_WARM 200

struct bench {
	struct redd *redd;
	struct redd_port *port;
	struct rawspawn raw;
	uint64_t came;
	unsigned trips;
	double times[TRIPS_MAX];
};

static const char message[SIZE] = "sixty-four bytes that go to a cat and come back as they were\n";

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	struct bench *b = user;

	(void)s;
	b->came += o->size;
}

static int redd_trip(struct bench *b)
{
	uint64_t until = b->came + SIZE;

	if (redd_write_start(b->port, message, SIZE, NULL, NULL))
		return -1;
	while (b->came < until)
		if (redd_run_once(b->redd, 10000))
			return -1;
	return 0;
}

static int raw_trip(struct bench *b)
{
	char data[SIZE];
	size_t got = 0;

	if (write(b->raw.in, message, SIZE) != SIZE)
		return -1;
	while (got < SIZE) {
		ssize_t n = read(b->raw.out, data, SIZE - got);

		if (n <= 0)
			return -1;
		got += (size_t)n;
	}
	return 0;
}

/* Fills times[] in microseconds. */
static int trips(struct bench *b, int (*trip)(struct bench *))
{
	for (unsigned i = 0; i < TRIPS_WARM; i++)
		if (trip(b))
			return -1;
	for (unsigned i = 0; i < b->trips; i++) {
		double start = measure_now();

		if (trip(b))
			return -1;
		b->times[i] = (measure_now() - start) * 1e6;
	}
	return 0;
}

static int measure_echo(struct bench *b, const char *where)
{
	double redd[2][MEASURE_REPEATS], raw[2][MEASURE_REPEATS];
	static const double parts[2] = { 0.5, 0.99 };
	char name[64];

	for (unsigned i = 0; i < MEASURE_REPEATS; i++) {
		if (trips(b, redd_trip))
			return -1;
		for (unsigned p = 0; p < 2; p++)
			redd[p][i] = measure_part(b->times, b->trips, parts[p]);
		if (trips(b, raw_trip))
			return -1;
		for (unsigned p = 0; p < 2; p++)
			raw[p][i] = measure_part(b->times, b->trips, parts[p]);
	}
	for (unsigned p = 0; p < 2; p++) {
		snprintf(name, sizeof(name), "echo-%s-p%.0f", where, parts[p] * 100);
		measure_print(name, "us", MEASURE_REPEATS, redd[p], raw[p]);
	}
	return 0;
}

static int processes_start(struct bench *b)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_subscribe_options watch = { .size = sizeof(watch),
						.handler = { .user = b, .on_output = on_output } };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.descriptors = &in,
					.n_descriptors = 1,
					.subscribe = &watch };

	if (redd_spawn(b->redd, &o, &b->port)) {
		fprintf(stderr, "echo: %s\n", redd_last_error(b->redd)->message);
		return -1;
	}
	return rawspawn(&b->raw, (char *const *)(const void *)argv, false);
}

/* A service with one cat of its own, one without it, on the CPUs that we may use. */
static int run(struct bench *b, const char *where)
{
	struct service service;
	int r;

	if (service_start(&service, NULL))
		return 1;
	b->redd = service_connect(&service);
	b->raw = (struct rawspawn)RAWSPAWN_INIT;
	b->came = 0;
	r = !b->redd || processes_start(b) || measure_echo(b, where);
	if (b->port)
		redd_close(b->port, 0, NULL);
	rawspawn_end(&b->raw);
	free(b->raw.stack);
	redd_free(b->redd);
	return service_stop(&service) || r;
}

int main(void)
{
	static struct bench b;
	cpu_set_t one;

	b.trips = (unsigned)measure_size("BENCH_TRIPS", 5000);
	if (b.trips > TRIPS_MAX)
		b.trips = TRIPS_MAX;
	if (run(&b, "free"))
		return 1;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return 1;
	return run(&b, "one-cpu");
}
