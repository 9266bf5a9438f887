/* Start: the keeper's messages bring the configuration, the sockets and what an earlier broker
 * left; at `ready` the listeners begin to accept. How it stops is in stop.c.
 */
#include "broker/broker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/closer.h"
#include "broker/conn.h"
#include "broker/delegation.h"
#include "broker/inherit.h"
#include "broker/listener.h"
#include "broker/errand.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/record.h"
#include "broker/req.h"
#include "broker/resume.h"
#include "broker/selection.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

static const int signal_numbers[] = { SIGTERM, SIGINT, SIGHUP };

void broker_mark(const struct broker *b, uint64_t port, char ret[64])
{
	char *at = ret + sprintf(ret, OPENER_MARK);

	for (size_t i = 0; i < sizeof(b->instance); i++)
		at += sprintf(at, "%02x", b->instance[i]);
	/* 10 + 32 + 1 + 20 + NUL */
	snprintf(at, 64 - (size_t)(at - ret), ".%llu", (unsigned long long)port);
}

void broker_fail(struct broker *b, int error)
{
	(void)b;
	log_error("%s; the broker cannot go on", err_string(error));
	_exit(1);
}

/* --- the keeper's word ----------------------------------------------------------------------- */

static int broker_listen(struct broker *b, const int *take_fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int r = listener_new(&b->listeners[i], b, i, take_fds[i]);

		if (r < 0)
			return err_pass(r);
		b->n_listeners++;
	}
	return 0;
}

static void on_setup(void *context, const struct link_setup *m, const int *take_fds, size_t n_fds)
{
	struct broker *b = context;
	int r = inherit_setup(b, m, take_fds, n_fds);

	if (r < 0)
		broker_fail(b, r);
}

static void on_held(void *context, const struct link_held *m, const int *take_fds, size_t n_fds)
{
	resume_held(context, m, take_fds, n_fds);
}

static void on_ring(void *context, const struct link_ring *m, int take_fd)
{
	resume_ring(context, m, take_fd);
}

static void on_records(void *context, int *take_fds, size_t n_fds)
{
	resume_records(context, take_fds, n_fds);
}

static void on_beat(struct alarm *a)
{
	struct broker *b = container_of(a, struct broker, beat);
	struct link_beat m = { .head = { LINK_BEAT, sizeof(m) } };
	int r = helper_link_send(&b->helper, &m, sizeof(m), NULL, 0);

	if (!r)
		r = alarm_set(&b->alarms, a, HEARTBEAT_MS);
	if (r < 0)
		broker_fail(b, r);
}

static void on_ready(void *context)
{
	struct broker *b = context;
	int r = resume_ports(b);

	if (!r)
		r = broker_listen(b, b->listener_fds, b->n_listener_fds);
	if (r < 0) {
		broker_fail(b, r);
		return;
	}
	b->state = BROKER_SERVING;
	on_beat(&b->beat);
	broker_check_idle(b);
}

static void on_lost(void *context, int error)
{
	struct broker *b = context;

	if (b->state != BROKER_LEFT)
		broker_fail(b, error);
}

static void on_group_signalled(void *context, const struct link_group_signal *m)
{
	req_group_signalled(context, m);
}

static const struct helper_events helper_events = {
	.setup = on_setup,
	.held = on_held,
	.ring = on_ring,
	.records = on_records,
	.ready = on_ready,
	.lost = on_lost,
	.group_signalled = on_group_signalled,
};

/* --- idle ------------------------------------------------------------------------------------ */

static bool broker_is_idle(const struct broker *b)
{
	return b->state == BROKER_SERVING && b->settings.idle_exit_ms && !b->n_conns &&
	       !b->ports.n && list_is_empty(&b->delegations);
}

static void on_idle(struct alarm *a)
{
	struct broker *b = container_of(a, struct broker, idle);

	if (broker_is_idle(b))
		stop_begin(b, 0);
}

void broker_check_idle(struct broker *b)
{
	if (broker_is_idle(b))
		alarm_set(&b->alarms, &b->idle, b->settings.idle_exit_ms);
}

static void on_signal(uv_signal_t *handle, int number)
{
	(void)number;
	stop_begin(handle->data, SHUTDOWN_DRAIN_MS);
}

/* --- life ------------------------------------------------------------------------------------ */

static void broker_blank(struct broker *b)
{
	broker_empty(b);
	alarm_init(&b->beat, on_beat);
	alarm_init(&b->idle, on_idle);
	stop_init(&b->stop);
	b->scratch = (struct scratch){ { -1, -1 } };
	b->config_fd = -1;
	b->keeper_pid = getppid();
	b->port_events = &req_port_events;
	settings_default(&b->settings);
}

static int broker_open_loop(struct broker *b)
{
	int r = uv_loop_init(&b->loop);

	if (!r)
		r = turn_init(&b->turn, &b->loop);
	if (!r)
		r = alarms_init(&b->alarms, &b->loop);
	if (!r)
		yield_start(&b->yield, yield_open_load(), uv_available_parallelism());
	for (size_t i = 0; !r && i < ARRAY_SIZE(b->signals); i++) {
		r = uv_signal_init(&b->loop, &b->signals[i]);
		b->signals[i].data = b;
		if (!r)
			r = uv_signal_start(&b->signals[i], on_signal, signal_numbers[i]);
	}
	return r < 0 ? err_begin(r) : 0;
}

/* What a stranger of the same uid could do to us (ptrace(2), /proc) and what our children must not
 * find: nothing of both. SIGPIPE is no way to learn that a peer has gone. */
static void broker_harden(void)
{
	sigset_t none;

	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int broker_init(struct broker *b, int take_keeper_fd)
{
	_cleanup_(fd_closep) int fd = take_keeper_fd;
	int r;

	broker_harden();
	broker_blank(b);
	r = broker_open_loop(b);
	if (!r)
		r = port_table_init(&b->ports);
	if (!r)
		r = ring_pool_new(&b->rings);
	if (!r)
		r = events_new(0, &b->events);
	if (r < 0)
		return err_pass(r);
	inherit_observe_rings(b);
	fd_set_cloexec(fd);
	return helper_link_init(&b->helper, &b->loop, &b->turn, TAKE_FD(fd), &helper_events, b);
}

/* Everything that has a handle is closed and run out, so that nothing is left that a checker could
 * find; only after LINK_BYE, or when all is lost anyway. */
static void broker_deinit(struct broker *b)
{
	struct conn *c, *next;
	struct port *p;

	b->state = BROKER_LEFT;
	while (b->n_listeners)
		listener_free(TAKE(b->listeners[--b->n_listeners]));
	list_for_each_safe (c, next, &b->conns, link)
		conn_close(c);
	delegations_end_all(b);
	selections_free(b);
	while ((p = port_table_after(&b->ports, 0)))
		port_free(p);
	resume_free(b);
	transit_close(&b->transit);
	records_free(TAKE(b->records));
	scratch_close(&b->scratch);
	inherit_free(b);
	errands_free(b);
	closer_end(b);
	yield_end(&b->yield);
	alarm_stop(&b->alarms, &b->beat);
	alarm_stop(&b->alarms, &b->stop.alarm);
	stop_end(&b->stop);
	for (size_t i = 0; i < ARRAY_SIZE(b->signals); i++)
		uv_close((uv_handle_t *)&b->signals[i], NULL);
	helper_link_close(&b->helper);
	turn_close(&b->turn);
	alarms_close(&b->alarms);
	uv_run(&b->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&b->loop))
		log_error("handles are left open");
	ring_pool_free(b->rings);
	events_free(b->events);
	quota_free(b->quota);
	port_table_deinit(&b->ports);
	buf_deinit(&b->small);
	arena_deinit(&b->arena);
}

int broker_run(int keeper_fd)
{
	struct broker *b = calloc(1, sizeof(*b));
	int r, status;

	if (!b)
		return 1;
	r = broker_init(b, keeper_fd);
	if (r < 0) {
		log_error("cannot start: %s", err_string(r));
		return 1;
	}
	uv_run(&b->loop, UV_RUN_DEFAULT);
	status = b->status;
	broker_deinit(b);
	free(b);
	return status;
}
