/* Owns the scene of the test that runs. Requests are blocking; their callbacks go to the collectors
 * whose subscriptions they belong to. */
#include "tests/lib/scene.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/census.h"
#include "tests/lib/places.h"

#define ARGS_MAX  64
#define WAIT_MS	  20000
#define FINISH_MS 30000
#define TEXTS	  8
#define TEXT_SIZE 16384

struct scene scene;

void scene_begin(void)
{
	cr_assert_eq(service_start(&scene.service, NULL), 0);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
	collect_init(&scene.c);
}

void scene_begin_shared(void)
{
	scene_begin();
	scene.c.watch.shared = true;
}

void scene_end(void)
{
	collect_deinit(&scene.c);
	redd_free(scene.r);
	cr_assert_eq(service_finish(&scene.service), 0);
}

int64_t scene_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *scene_text(const char *format, ...)
{
	static char texts[TEXTS][TEXT_SIZE];
	static unsigned next;
	char *text = texts[next++ % TEXTS];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, TEXT_SIZE, format, args);
	va_end(args);
	cr_assert_lt(n, TEXT_SIZE);
	return text;
}

/* --- ports ----------------------------------------------------------------------------------- */

struct redd_port *scene_spawn(const struct redd_spawn_options *options, struct collect *c)
{
	struct redd_spawn_options o = *options;
	struct redd_port *port = NULL;

	if (c)
		o.subscribe = &c->watch;
	cr_assert_eq(redd_spawn(scene.r, &o, &port), 0, "spawn: %s",
		     redd_last_error(scene.r)->message);
	return port;
}

struct redd_port *scene_shell(const char *command, struct collect *c)
{
	return scene_spawn(&(struct redd_spawn_options){ .shell = command }, c);
}

struct redd_port *scene_prog(struct collect *c, const char *prog, ...)
{
	const char *argv[ARGS_MAX] = { place_prog(prog) };
	va_list args;
	int n = 1;

	va_start(args, prog);
	while (n < ARGS_MAX - 1 && (argv[n] = va_arg(args, const char *)))
		n++;
	va_end(args);
	argv[n] = NULL;
	return scene_spawn(&(struct redd_spawn_options){ .argv = argv }, c);
}

struct redd_port *scene_steered(const char *command, struct collect *c)
{
	const struct redd_descriptor in = { .fd = 3, .kind = REDD_PIPE, .direction = REDD_INPUT };

	return scene_spawn(&(struct redd_spawn_options){ .shell = command,
							 .descriptors = &in,
							 .n_descriptors = 1 },
			   c);
}

struct redd_subscription *scene_subscribe(struct redd_port *port, struct collect *c)
{
	struct redd_subscription *s = NULL;

	cr_assert_eq(redd_subscribe(port, &c->watch, &s), 0, "subscribe: %s",
		     redd_last_error(redd_port_connection(port))->message);
	return s;
}

void scene_finish(struct collect *c)
{
	cr_assert_eq(collect_wait(c, scene.r, FINISH_MS), 0);
	cr_assert_str_eq(c->wrong, "");
}

void scene_wait_closed(struct redd_port *port)
{
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(FINISH_MS), &waited), 0,
		     "%s", redd_last_error(scene.r)->message);
	cr_assert_eq(redd_exit_status(&waited.exit), 0);
}

void scene_forget(struct redd_port *port)
{
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT_MS), &waited), 0,
		     "wait: %s", redd_last_error(scene.r)->message);
	cr_assert_eq(redd_forget(port), 0, "forget: %s", redd_last_error(scene.r)->message);
	redd_port_free(port);
}

void scene_kill(struct redd_port *port)
{
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0, "kill: %s",
		     redd_last_error(scene.r)->message);
	scene_forget(port);
}

/* --- looking --------------------------------------------------------------------------------- */

size_t scene_wait_pids(pid_t *pids, size_t n)
{
	const char *at;
	size_t found = 0;

	for (uint64_t size = 1; found < n; size = collect_stream(&scene.c, 1)->next + 1) {
		if (collect_wait_bytes(&scene.c, scene.r, 1, size, 20000) < 0)
			return 0;
		at = collect_text(&scene.c, 1);
		for (found = 0; found < n && strchr(at, '\n'); at = strchr(at, '\n') + 1)
			pids[found++] = (pid_t)atoi(at);
	}
	return found;
}

/* Its end is an event too: a pidfd tells. */
void scene_wait_dead(pid_t pid)
{
	struct pollfd fd = { (int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0 };

	if (fd.fd < 0)
		return; /* gone */
	cr_expect_eq(poll(&fd, 1, place_patience_ms(20000)), 1, "%d lives on (%c)", (int)pid,
		     census_state(pid));
	close(fd.fd);
}

struct redd_stream_info scene_stream(struct redd_port *port, uint32_t stream)
{
	struct redd_stream_info ret = { 0 };
	struct redd_ports *ports;

	cr_assert_eq(redd_inspect(port, &ports), 0, "inspect: %s",
		     redd_last_error(redd_port_connection(port))->message);
	for (size_t i = 0; i < ports->ports[0].n_streams; i++)
		if (ports->ports[0].streams[i].stream == stream)
			ret = ports->ports[0].streams[i];
	redd_ports_free(ports);
	return ret;
}

void scene_wait_held(struct redd_port *port, uint32_t stream)
{
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT_MS);

	while (!scene_stream(port, stream).held)
		cr_assert_lt(scene_now_ms(), deadline, "stream %u is not held back", stream);
}

void scene_wait_forgotten(uint64_t id)
{
	int64_t deadline = scene_now_ms() + place_patience_ms(WAIT_MS);
	struct redd_port *port;
	struct redd_ports *ports;

	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	while (redd_inspect(port, &ports) == 0) {
		redd_ports_free(ports);
		cr_assert_lt(scene_now_ms(), deadline, "the port is not forgotten");
	}
	cr_assert_eq(redd_last_error(scene.r)->code, REDD_NOT_FOUND);
	redd_port_free(port);
}

void scene_stays_open(struct redd_port *port, int ms)
{
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, ms, &waited), -ETIMEDOUT,
		     "the port has ended: nothing was to end it");
}
