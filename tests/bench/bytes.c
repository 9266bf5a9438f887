/* Gigabytes a second from a child to a client, and through a child's stdin and stdout at once. Raw:
 * the same child on pipes that we hold ourselves, read and written 64 KiB at a time. BENCH_BYTES
 * (4 GiB) one way, a quarter of it both ways. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/measure.h"
#include "tests/lib/places.h"
#include "tests/lib/rawspawn.h"
#include "tests/lib/service.h"

#define CHUNK 65536

struct bench {
	struct service service;
	struct redd *redd;
	struct redd_port *port;
	unsigned long long total; /* bytes to move */
	unsigned long long sent, taken, came;
	bool closing, closed, failed;
	char argument[32];
};

static char data[CHUNK] __attribute__((aligned(4096)));

static double rate(const struct bench *b, double start)
{
	if (b->failed || b->came != b->total) {
		fprintf(stderr, "bytes: %llu of %llu came\n", b->came, b->total);
		return -1;
	}
	return (double)b->total / 1e9 / (measure_now() - start);
}

/* --- redd ------------------------------------------------------------------------------------ */

static void on_output(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	struct bench *b = user;

	(void)s;
	if (o->offset != b->came)
		b->failed = true;
	b->came += o->size;
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct bench *b = user;

	(void)s;
	b->closed = true;
	if (c->result || redd_exit_status(&c->exit))
		b->failed = true;
}

static void on_written(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct bench *b = user;

	if (result) {
		fprintf(stderr, "bytes: %s\n", redd_last_error(r)->message);
		b->failed = true;
	} else {
		b->taken += reply->written.size;
	}
}

/* As many writes as the window takes, then the end. */
static void feed(struct bench *b)
{
	struct redd_call call = { .done = on_written, .user = b };
	uint32_t window = redd_port_input_window(b->port);

	while (b->sent < b->total && b->sent - b->taken + CHUNK <= window) {
		if (redd_write_start(b->port, data, CHUNK, NULL, &call))
			return;
		b->sent += CHUNK;
	}
	if (b->sent == b->total && !b->closing) {
		b->closing = true;
		if (redd_close_start(b->port, 0, NULL))
			b->failed = true;
	}
}

static double run_redd(struct bench *b, const char *const *argv, bool both)
{
	struct redd_subscribe_options watch = {
		.size = sizeof(watch),
		.handler = { .user = b, .on_output = on_output, .on_closed = on_closed }
	};
	const struct redd_descriptor in = { .fd = 0, .kind = both ? REDD_PIPE : REDD_NULL };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.descriptors = &in,
					.n_descriptors = 1,
					.subscribe = &watch };
	double start = measure_now(), result;

	b->sent = b->taken = b->came = 0;
	b->closing = b->closed = b->failed = false;
	if (redd_spawn(b->redd, &o, &b->port))
		return -1;
	while (!b->closed && !b->failed) {
		if (both)
			feed(b);
		if (redd_run_once(b->redd, 10000))
			return -1;
	}
	result = rate(b, start);
	redd_forget(b->port);
	redd_port_free(b->port);
	return result;
}

/* --- raw ------------------------------------------------------------------------------------- */

static bool raw_read(struct bench *b, int fd)
{
	ssize_t n = read(fd, data, sizeof(data));

	if (n > 0)
		b->came += (unsigned long long)n;
	return n > 0;
}

static void raw_feed(struct bench *b, struct rawspawn *p)
{
	ssize_t n = write(p->in, data, CHUNK);

	if (n > 0)
		b->sent += (unsigned long long)n;
	else if (errno != EAGAIN)
		b->failed = true;
	if (b->sent < b->total)
		return;
	close(p->in);
	p->in = -1;
}

static double run_raw(struct bench *b, const char *const *argv, bool both)
{
	struct rawspawn p = RAWSPAWN_INIT;
	struct pollfd fds[2];
	double start = measure_now(), result;

	b->sent = b->came = 0;
	b->failed = false;
	if (rawspawn(&p, (char *const *)(const void *)argv, false))
		return -1;
	fcntl(p.in, F_SETFL, O_NONBLOCK);
	for (bool open = true; open && !b->failed;) {
		fds[0] = (struct pollfd){ p.out, POLLIN, 0 };
		fds[1] = (struct pollfd){ both ? p.in : -1, POLLOUT, 0 };
		if (both && poll(fds, 2, 10000) <= 0)
			break;
		if (both && fds[1].revents)
			raw_feed(b, &p);
		if (!both || fds[0].revents)
			open = raw_read(b, p.out);
	}
	result = rate(b, start);
	if (rawspawn_end(&p))
		result = -1;
	free(p.stack);
	return result;
}

/* --- what is measured ------------------------------------------------------------------------ */

static const char *const *source_argv(struct bench *b)
{
	static const char *argv[3];

	snprintf(b->argument, sizeof(b->argument), "%llu", b->total);
	argv[0] = place_prog("zeros");
	argv[1] = b->argument;
	return argv;
}

static const char *const *cat_argv(void)
{
	static const char *argv[2];

	argv[0] = place_prog("cat");
	return argv;
}

static double redd_out(void *user)
{
	return run_redd(user, source_argv(user), false);
}

static double raw_out(void *user)
{
	return run_raw(user, source_argv(user), false);
}

static double redd_both(void *user)
{
	return run_redd(user, cat_argv(), true);
}

static double raw_both(void *user)
{
	return run_raw(user, cat_argv(), true);
}

int main(void)
{
	static struct bench b;
	unsigned long long total = measure_size("BENCH_BYTES", 4ull << 30) & ~(CHUNK * 4ull - 1);
	int r;

	if (service_start(&b.service, NULL))
		return 1;
	b.redd = service_connect(&b.service);
	b.total = total;
	r = !b.redd || measure("bytes-out", "GB/s", 3, redd_out, raw_out, &b);
	b.total = total / 4;
	r = r || measure("bytes-through", "GB/s", 3, redd_both, raw_both, &b);
	redd_free(b.redd);
	return service_stop(&b.service) || r;
}
