/* A nuisance tells that it is at it through a pipe, and ends with SIGKILL: its connections with it,
 * and so, as their owners are gone, all that it spawned. */
#include "tests/lib/nuisance.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/measure.h"
#include "tests/lib/peer.h"
#include "tests/lib/places.h"
#include "tests/lib/rawspawn.h"
#include "tests/lib/text.h"

#define FLOOD	  "1000000000000" /* bytes: for longer than anybody waits */
#define WRITE_MAX 65536u
#define SPAWNERS  1000u

/* "sh -c GIVE_WAY NICE PROGRAM ...": a session is a group to the scheduler where it has autogroups
 * (sched(7)), and nice(2) only counts within. */
#define GIVE_WAY "echo $0 >/proc/self/autogroup; exec nice -n $0 \"$@\""

struct nasty {
	const struct service *service;
	int nice;
	int ready; /* written to once */
	struct redd *r;
};

static void nasty_begin(struct nasty *n)
{
	if (n->ready >= 0 && write(n->ready, "", 1) != 1)
		_exit(1);
	close(n->ready);
	n->ready = -1;
}

static struct redd *nasty_connect(struct nasty *n)
{
	n->r = service_connect(n->service);
	if (!n->r)
		_exit(1);
	return n->r;
}

static void nasty_dispatch(struct nasty *n)
{
	nasty_begin(n);
	while (redd_run_once(n->r, -1) == 0)
		;
	_exit(1);
}

/* A flood that gives way to others when it is asked to. */
static int nasty_spawn(struct nasty *n, const char *prog, const char *argument,
		       const struct redd_spawn_options *how, struct redd_port **ret)
{
	const char *const plain[] = { place_prog(prog), argument, NULL };
	struct redd_spawn_options o = *how;
	char nice[16];
	const char *const nicely[] = { "sh", "-c", GIVE_WAY, nice, plain[0], argument, NULL };

	snprintf(nice, sizeof(nice), "%d", n->nice);
	o.size = sizeof(o);
	o.argv = n->nice ? nicely : plain;
	return redd_spawn(nasty_connect(n), &o, ret);
}

static void give_way(const struct nasty *n)
{
	FILE *group;

	if (!n->nice)
		return;
	setsid();
	setpriority(PRIO_PROCESS, 0, n->nice);
	group = fopen("/proc/self/autogroup", "w");
	if (!group)
		return; /* a kernel without */
	fprintf(group, "%d", n->nice);
	fclose(group);
}

/* One request; what the answer says is not looked at. */
static void say(struct peer *p, const char *text)
{
	struct buf out;

	buf_init(&out, 8u << 20);
	text_pack_request(&out, ++p->last_id, text);
	if (peer_send(p, buf_head(&out), buf_size(&out)))
		_exit(1);
	buf_deinit(&out);
}

/* --- never read ------------------------------------------------------------------------------ */

static struct redd_port *zeros_spawn(struct nasty *n, struct redd_subscribe_options *watch)
{
	const struct redd_spawn_options o = { .subscribe = watch };
	struct redd_port *port;

	if (nasty_spawn(n, "zeros", FLOOD, &o, &port))
		_exit(1);
	return port;
}

static void never_readers(struct nasty *n)
{
	static struct peer peers[NUISANCE_READERS];
	struct redd_port *port = zeros_spawn(n, NULL);
	char text[128];

	snprintf(text, sizeof(text), "subscribe { port { id: %llu } overflow: OVERFLOW_DROP }",
		 (unsigned long long)redd_port_id(port));
	for (unsigned i = 0; i < NUISANCE_READERS; i++) {
		if (peer_open(&peers[i], n->service->socket) || peer_hello(&peers[i]))
			_exit(1);
		say(&peers[i], text);
	}
	nasty_begin(n);
	for (;;)
		pause();
}

/* --- floods ---------------------------------------------------------------------------------- */

static void flood(struct nasty *n)
{
	struct redd_subscribe_options watch = { .size = sizeof(watch), .overflow = REDD_BLOCK };

	zeros_spawn(n, &watch);
	nasty_dispatch(n);
}

struct writer {
	struct redd_port *port;
	size_t waiting;
};

static void on_written(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct writer *w = user;

	(void)r;
	if (result)
		_exit(1);
	w->waiting -= reply->written.size;
}

static void writer(struct nasty *n)
{
	static const char data[WRITE_MAX];
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = { .descriptors = &in, .n_descriptors = 1 };
	struct writer w = { 0 };
	struct redd_call call = { .done = on_written, .user = &w };

	if (nasty_spawn(n, "sink", NULL, &o, &w.port))
		_exit(1);
	nasty_begin(n);
	do {
		while (w.waiting + WRITE_MAX <= redd_port_input_window(w.port)) {
			if (redd_write_start(w.port, data, WRITE_MAX, NULL, &call))
				break;
			w.waiting += WRITE_MAX;
		}
	} while (redd_run_once(n->r, -1) == 0);
	_exit(1);
}

/* --- requests -------------------------------------------------------------------------------- */

/* A mix that costs, again and again, and all answers are read and thrown away. */
static void requests(struct nasty *n)
{
	static char sink[1 << 18];
	struct pollfd fd;
	struct peer p;
	struct buf mix;
	size_t at = 0;
	char text[PATH_MAX + 64];

	if (peer_open(&p, n->service->socket) || peer_hello(&p))
		_exit(1);
	buf_init(&mix, 8u << 20);
	snprintf(text, sizeof(text), "spawn { program: \"%s\" subscribe { } }", place_prog("hang"));
	for (uint64_t i = 0; i < 50; i++)
		say(&p, text);
	for (uint64_t i = 0; i < 1000; i++)
		text_pack_request(&mix, 1000 + i, i % 10 ? "ping { }" : "list { details: true }");
	text_pack_request(&mix, 7, "spawn { program: \"/no/such\" args*100000: \"word\" }");
	text_pack_request(&mix, 8, "spawn { program: \"x\" search_path: \":\"*1000000 }");
	fcntl(p.fd, F_SETFL, O_NONBLOCK);
	nasty_begin(n);
	for (fd = (struct pollfd){ p.fd, POLLIN | POLLOUT, 0 }; poll(&fd, 1, -1) > 0;) {
		ssize_t sent = 0;

		while (read(p.fd, sink, sizeof(sink)) > 0)
			;
		if (fd.revents & POLLOUT)
			sent = write(p.fd, buf_head(&mix) + at, buf_size(&mix) - at);
		at = (at + (sent > 0 ? (size_t)sent : 0)) % buf_size(&mix);
		if (fd.revents & (POLLHUP | POLLERR))
			break;
	}
	_exit(1);
}

/* --- spawns ---------------------------------------------------------------------------------- */

struct spawner {
	struct nasty *nasty;
	struct redd_port *port;
	struct redd_subscribe_options watch;
};

static void spawner_next(struct spawner *s);

static void on_closed(struct redd_subscription *subscription, const struct redd_closed *c,
		      void *user)
{
	struct spawner *s = user;

	(void)subscription, (void)c;
	redd_port_free(s->port);
	spawner_next(s);
}

static void spawner_next(struct spawner *s)
{
	const char *const argv[] = { place_prog("tiny"), NULL };
	struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .subscribe = &s->watch, .set = REDD_SET_RETENTION
	};

	s->watch =
		(struct redd_subscribe_options){ .size = sizeof(s->watch),
						 .handler = { .user = s, .on_closed = on_closed } };
	if (redd_spawn_start(s->nasty->r, &o, &s->port, NULL)) {
		fprintf(stderr, "spawn: %s\n", redd_last_error(s->nasty->r)->message);
		_exit(1);
	}
}

static void spawner(struct nasty *n, unsigned in_flight)
{
	static struct spawner all[SPAWNERS];

	nasty_connect(n);
	for (unsigned i = 0; i < in_flight; i++) {
		all[i].nasty = n;
		spawner_next(&all[i]);
	}
	nasty_dispatch(n);
}

static void few_spawns(struct nasty *n)
{
	spawner(n, 32);
}

static void many_spawns(struct nasty *n)
{
	spawner(n, SPAWNERS);
}

/* --- the table ------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(struct nasty *n);
} nuisances[] = {
	[NUISANCE_NEVER_READERS] = { "never-readers", never_readers },
	[NUISANCE_FLOOD] = { "flood", flood },
	[NUISANCE_WRITER] = { "writer", writer },
	[NUISANCE_REQUESTS] = { "requests", requests },
	[NUISANCE_SPAWNER] = { "spawner-32", few_spawns },
	[NUISANCE_QUEUE] = { "spawner-1000", many_spawns },
};

const char *nuisance_name(enum nuisance_kind kind)
{
	return nuisances[kind].name;
}

int nuisance_start(struct nuisance *n, enum nuisance_kind kind, const struct service *s)
{
	int fds[2];
	char byte;
	bool is_ready;

	if (pipe(fds) < 0)
		return -1;
	fflush(NULL);
	n->pid = fork();
	if (n->pid == 0) {
		struct nasty nasty = { .service = s, .ready = fds[1] };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		nasty.nice = (int)measure_size("BENCH_NICE", 0);
		give_way(&nasty);
		close(fds[0]);
		nuisances[kind].run(&nasty);
		_exit(1);
	}
	close(fds[1]);
	is_ready = n->pid > 0 && read(fds[0], &byte, 1) == 1;
	close(fds[0]);
	if (!is_ready) {
		fprintf(stderr, "nuisance %s: it could not begin\n", nuisances[kind].name);
		nuisance_stop(n);
	}
	return is_ready ? 0 : -1;
}

int nuisance_stop(struct nuisance *n)
{
	pid_t gone;

	if (n->pid <= 0)
		return 0;
	gone = waitpid(n->pid, NULL, WNOHANG);
	if (gone == 0) {
		kill(n->pid, SIGKILL);
		waitpid(n->pid, NULL, 0);
	} else {
		fprintf(stderr, "nuisance: it ended by itself\n");
	}
	n->pid = 0;
	return gone == 0 ? 0 : -1;
}

/* --- the polite one -------------------------------------------------------------------------- */

int polite_spawns(struct redd *r, unsigned n, double *ret_times_ms)
{
	const char *const argv[] = { place_prog("tiny"), NULL };
	struct redd_subscribe_options watch = { .size = sizeof(watch) };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .subscribe = &watch };

	for (unsigned i = 0; i < n; i++) {
		double begin = measure_now();
		struct redd_port *port;

		if (redd_spawn(r, &o, &port))
			return -1;
		if (redd_finish(redd_port_subscription(port), NULL))
			return -1;
		ret_times_ms[i] = (measure_now() - begin) * 1000;
		redd_forget(port);
		redd_port_free(port);
	}
	return 0;
}

int polite_raw_spawns(unsigned n, double *ret_times_ms)
{
	char *argv[] = { (char *)place_prog("tiny"), NULL }, byte;
	struct rawspawn p = RAWSPAWN_INIT;
	unsigned i = 0;

	for (; i < n; i++) {
		double begin = measure_now();

		if (rawspawn(&p, argv, false))
			break;
		if (read(p.out, &byte, 1) != 0 || rawspawn_end(&p))
			break;
		ret_times_ms[i] = (measure_now() - begin) * 1000;
	}
	free(p.stack);
	return i == n ? 0 : -1;
}
