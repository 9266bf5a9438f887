/* One child, 1 to 16 readers in processes of their own, each of which gets every byte, by the
 * socket and by shared memory: gigabytes a second delivered in all. Raw: the same child on one pipe
 * that one process reads. BENCH_FANOUT bytes (256 MiB) to each reader. Every reader looks at every
 * byte.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/measure.h"
#include "tests/lib/places.h"
#include "tests/lib/rawspawn.h"
#include "tests/lib/service.h"

#define READERS_MAX 16 /* 1, 4, 16 */

struct bench {
	struct service service;
	unsigned readers;
	bool shared;
	unsigned long long total;
	char argument[32];
	pid_t pids[READERS_MAX];
};

struct reader {
	unsigned long long came;
	bool is_wrong; /* not all zeros */
	bool closed;
	int result;
};

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	struct reader *reader = user;

	const char *data = o->data;

	(void)s;
	reader->came += o->size;
	/* All are zero if the first is and each is as the one before it. */
	reader->is_wrong |= o->size && (data[0] || memcmp(data, data + 1, o->size - 1));
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct reader *reader = user;

	(void)s;
	reader->closed = true;
	reader->result = c->result;
}

/* A reader's whole life: subscribe, say so, read to the end. Returns its exit status. */
static int reader_main(const struct bench *b, uint64_t id, int ready)
{
	struct reader reader = { 0 };
	struct redd_subscribe_options watch = {
		.size = sizeof(watch),
		.overflow = REDD_BLOCK,
		.shared = b->shared,
		.handler = { .user = &reader, .on_output = on_output, .on_closed = on_closed }
	};
	struct redd *r = service_connect(&b->service);
	struct redd_subscription *subscription;
	struct redd_port *port;

	if (!r || redd_port_by_id(r, id, &port) || redd_subscribe(port, &watch, &subscription))
		return 1;
	if (redd_subscription_is_shared(subscription) != b->shared)
		return 1;
	if (write(ready, "", 1) != 1)
		return 1;
	while (!reader.closed)
		if (redd_run_once(r, 10000))
			return 1;
	redd_free(r);
	return reader.result || reader.is_wrong || reader.came != b->total;
}

/* Starts the readers and waits until each has subscribed. 0 or -1. */
static int readers_start(struct bench *b, uint64_t id)
{
	int ready[2];
	char byte;

	if (pipe(ready) < 0)
		return -1;
	for (unsigned i = 0; i < b->readers; i++) {
		b->pids[i] = fork();
		if (b->pids[i] == 0)
			_exit(reader_main(b, id, ready[1]));
	}
	close(ready[1]);
	for (unsigned i = 0; i < b->readers; i++)
		if (read(ready[0], &byte, 1) != 1)
			return -1;
	close(ready[0]);
	return 0;
}

static int readers_wait(const struct bench *b)
{
	int status, bad = 0;

	for (unsigned i = 0; i < b->readers; i++)
		if (waitpid(b->pids[i], &status, 0) < 0 || status)
			bad = -1;
	return bad;
}

static struct redd_port *source_spawn(struct bench *b, struct redd *r)
{
	const char *const argv[] = { place_prog("zeros"), b->argument, "65536", "wait", NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	struct redd_port *port;

	return redd_spawn(r, &o, &port) ? NULL : port;
}

static double run_redd(void *user)
{
	struct bench *b = user;
	struct redd *r = service_connect(&b->service);
	struct redd_port *port = r ? source_spawn(b, r) : NULL;
	double start, result = -1;

	if (port && !readers_start(b, redd_port_id(port))) {
		start = measure_now();
		if (!redd_close(port, 0, NULL) && !readers_wait(b))
			result = (double)b->total * b->readers / 1e9 / (measure_now() - start);
		redd_forget(port);
	}
	redd_free(r);
	return result;
}

static double run_raw(void *user)
{
	struct bench *b = user;
	char *argv[] = { (char *)place_prog("zeros"), b->argument, NULL };
	static char data[65536] __attribute__((aligned(4096)));
	struct rawspawn p = RAWSPAWN_INIT;
	double start = measure_now();
	unsigned long long came = 0;
	ssize_t n;

	if (rawspawn(&p, argv, false))
		return -1;
	while ((n = read(p.out, data, sizeof(data))) > 0)
		came += (unsigned long long)n;
	start = measure_now() - start;
	if (rawspawn_end(&p) || came != b->total)
		return -1;
	free(p.stack);
	return (double)came / 1e9 / start;
}

int main(void)
{
	static struct bench b;
	char name[32];
	int r = 0;

	b.total = measure_size("BENCH_FANOUT", 256ull << 20);
	snprintf(b.argument, sizeof(b.argument), "%llu", b.total);
	if (service_start(&b.service, NULL))
		return 1;
	for (int i = 0; i < 6 && !r; i++) {
		b.readers = 1u << 2 * (i / 2);
		b.shared = i % 2;
		snprintf(name, sizeof(name), "fanout-%s-%u", b.shared ? "shared" : "socket",
			 b.readers);
		r = measure(name, "GB/s delivered", 3, run_redd, run_raw, &b);
	}
	return service_stop(&b.service) || r;
}
