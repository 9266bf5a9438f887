/* Makes the same things as broker.c does at its start, in the same order (tests/lib/parts.h), but
 * for signals, listeners and records; and answers as a keeper would. */
#include "tests/lib/core.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "broker/errand.h"
#include "broker/inherit.h"
#include "broker/req.h"
#include "broker/selection.h"
#include "broker/session.h"
#include "proto/base/fd.h"
#include "proto/fdpass.h"
#include "tests/lib/places.h"

#define WAIT_ROUNDS 2000 /* of 10 ms at most */

/* --- life ------------------------------------------------------------------------------------ */

static void links_open(struct core *core)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	core->keeper = pair[0];
	core->forker = -1;
	cr_assert_eq(helper_link_init(&core->b.helper, &core->b.loop, &core->b.turn, pair[1],
				      &unclaimed_events, &core->unclaimed),
		     0);
	core_new_forker(core);
}

struct core *core_open(void)
{
	struct quota_limits limits[QUOTA_LEVELS];
	struct core *core = calloc(1, sizeof(*core));
	struct broker *b = &core->b;

	for (int i = 0; i < QUOTA_LEVELS; i++)
		limits[i] = quota_limits_default((enum quota_level)i);
	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(uv_loop_init(&b->loop), 0);
	uv_run(&b->loop, UV_RUN_NOWAIT);
	core->fds_before = fd_count();
	cr_assert_eq(parts_init(b, limits), 0);
	b->keeper_pid = getppid();
	core->unclaimed.b = b;
	inherit_observe_rings(b);
	links_open(core);
	b->state = BROKER_SERVING;
	return core;
}

void core_close(struct core *core)
{
	struct broker *b = &core->b;
	struct conn *c, *next;
	struct port *p;

	b->state = BROKER_LEFT;
	list_for_each_safe (c, next, &b->conns, link)
		conn_close(c);
	selections_free(b);
	while ((p = port_table_after(&b->ports, 0)))
		port_free(p);
	errands_free(b);
	closer_end(b);
	yield_end(&b->yield);
	helper_link_close(&b->helper);
	turn_close(&b->turn);
	alarms_close(&b->alarms);
	uv_run(&b->loop, UV_RUN_DEFAULT);
	transit_close(&b->transit);
	ring_pool_free(b->rings);
	events_free(b->events);
	quota_free(b->quota);
	port_table_deinit(&b->ports);
	buf_deinit(&b->small);
	arena_deinit(&b->arena);
	fd_close(core->keeper);
	fd_close(core->forker);
	cr_assert_eq(fd_count(), core->fds_before, "descriptors are left");
	cr_assert_eq(uv_loop_close(&b->loop), 0, "a handle is left open");
	free(core);
}

void core_turn(struct core *core)
{
	uv_run(&core->b.loop, UV_RUN_NOWAIT);
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void core_cost_begin(struct core_cost *c)
{
	c->began = cpu_ms();
}

void core_cost_end(struct core_cost *c)
{
	double cost = cpu_ms() - c->began;

	c->worst = MAX(c->worst, cost);
	c->all += cost;
}

void core_cost_turn(struct core_cost *c, struct core *core)
{
	core_cost_begin(c);
	core_turn(core);
	core_cost_end(c);
}

void core_turns(struct core *core, int n)
{
	while (n--)
		core_turn(core);
}

void core_wait(struct core *core, int round, const char *condition, int line)
{
	struct pollfd loop = { .fd = uv_backend_fd(&core->b.loop), .events = POLLIN };
	int timeout = uv_backend_timeout(&core->b.loop);

	cr_assert_lt(round, place_patience_ms(WAIT_ROUNDS), "line %d: never: %s", line, condition);
	/* What the condition looks at may lie outside of the loop. */
	poll(&loop, 1, timeout < 0 || timeout > 10 ? 10 : timeout);
	core_turn(core);
}

/* --- keeper and forker ----------------------------------------------------------------------- */

void core_message_close(struct core_message *m)
{
	fd_close_many(m->fds, m->n_fds);
	m->n_fds = 0;
}

bool core_hear(int link, struct core_message *m)
{
	struct fdpass_info info;
	ssize_t n;

	core_message_close(m);
	n = fdpass_recv(link, m->room, sizeof(m->room), MSG_DONTWAIT, m->fds, LINK_FDS_MAX, &info);
	if (n <= 0)
		return false;
	cr_assert(!info.truncated && !info.message_truncated && !info.surplus);
	m->size = (size_t)n;
	m->n_fds = info.n_fds;
	cr_assert_eq(m->head.size, m->size);
	return true;
}

void core_say(struct core *core, const void *message, size_t size, const int *fds, size_t n_fds)
{
	struct iovec iov = { (void *)message, size };

	cr_assert_eq(fdpass_send(core->keeper, &iov, 1, fds, n_fds, MSG_DONTWAIT), (ssize_t)size);
	core_turn(core);
}

void core_say_id(struct core *core, enum link_type type, struct link_spawn_id id)
{
	struct link_unborn m = { { type, sizeof(m) }, id };

	core_say(core, &m, sizeof(m), NULL, 0);
}

void core_say_started(struct core *core, struct link_spawn_id id, int pid)
{
	struct link_started m = {
		.head = { LINK_STARTED, sizeof(m) }, .id = id, .pid = pid, .start_ns = 1000000000
	};

	core_say(core, &m, sizeof(m), NULL, 0);
}

void core_say_failed(struct core *core, struct link_spawn_id id, uint32_t stage, int error)
{
	struct link_failed m = { { LINK_FAILED, sizeof(m) }, id, stage, error };

	core_say(core, &m, sizeof(m), NULL, 0);
}

void core_say_exited(struct core *core, struct link_spawn_id id, int status)
{
	struct link_exited m = { .head = { LINK_EXITED, sizeof(m) },
				 .id = id,
				 .status = status,
				 .start_ns = 1000000000,
				 .end_ns = 2000000000 };

	core_say(core, &m, sizeof(m), NULL, 0);
}

void core_new_forker(struct core *core)
{
	struct link_forker m = { .head = { LINK_FORKER, sizeof(m) }, .pid = 1 };
	uint64_t before = core->b.helper.n_forkers;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	fd_close(core->forker);
	core->forker = pair[0];
	core_say(core, &m, sizeof(m), &pair[1], 1);
	fd_close(pair[1]);
	core_until(core, core->b.helper.n_forkers > before);
}

void core_start(struct core *core, struct process *p)
{
	struct core_message *m = calloc(1, sizeof(*m));
	struct link_spawn_id id;

	core_until(core, p->state == PROCESS_HANDED);
	while (core_hear(core->forker, m))
		id = m->spawn.id;
	core_message_close(m);
	free(m);
	core_ignore_keeper(core);
	cr_assert_eq(id.port, p->id);
	core_say_started(core, id, 4711);
	core_until(core, p->state == PROCESS_RUNNING);
}

void core_ignore_keeper(struct core *core)
{
	struct core_message *m = calloc(1, sizeof(*m));

	while (core_hear(core->keeper, m))
		;
	core_message_close(m);
	free(m);
}

/* --- clients and ports ----------------------------------------------------------------------- */

struct conn *core_connect(struct core *core, int *ret_fd)
{
	struct conn *c;
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	cr_assert_eq(conn_new(&core->b, 0, pair[1]), 0);
	c = list_entry(core->b.conns.prev, struct conn, link);
	c->state = CONN_OPEN;
	alarm_stop(&core->b.alarms, &c->deadline);
	*ret_fd = pair[0];
	return c;
}

static void add_pipe(struct port *p, uint32_t number, const struct core_port *o, int *ret_child)
{
	int fds[2], ours = number ? 0 : 1;
	struct stream *s;

	cr_assert_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	cr_assert_eq(port_add_stream(p, number, STREAM_IS_PIPE, fds[ours], &s), 0);
	*ret_child = fds[!ours];
	if (number == 0) {
		s->in.is_there = true;
		input_init(&s->in.queue, INPUT_HIGH_DEFAULT, INPUT_LOW_DEFAULT,
			   INPUT_BOUND_DEFAULT);
		return;
	}
	s->out.is_there = true;
	s->out.log_size = o->log_size ? o->log_size : RING_LOWEST;
	s->out.wants_checksum = o->checksum;
	s->out.hold_unread = o->hold_unread;
}

static void fill_options(const struct core_port *o, struct port_options *ret)
{
	*ret = (struct port_options){ .program = strdup("test"),
				      .drain_ms = DRAIN_DEFAULT_MS,
				      .drain_limit_ms = DRAIN_NEVER_MS,
				      .retention_ms = RETENTION_DEFAULT_MS,
				      .orphan = o->orphan,
				      .orphan_ms = o->orphan_ms };
	if (o->name)
		snprintf(ret->name, sizeof(ret->name), "%s", o->name);
}

static void start(struct core *core, struct port *p)
{
	struct link_spawn *record = calloc(1, sizeof(*record));

	record->head = (struct link_head){ LINK_SPAWN, sizeof(*record) };
	process_start(&p->process, (uint8_t *)record, sizeof(*record), -1);
	core_start(core, &p->process);
	cr_assert_eq(p->state, PORT_RUNNING);
}

struct port *core_port(struct core *core, struct conn *c, const struct core_port *o, int *ret_fds)
{
	struct port_options options;
	struct port *p = NULL;
	const char *reason;

	fill_options(o, &options);
	cr_assert_eq(port_new(&p, &core->b, &c->who, c->uid_account, &options, &reason), 0);
	if (o->session) {
		p->session = o->session;
		list_append(&o->session->ports, &p->session_link);
	}
	if (o->has_input)
		add_pipe(p, 0, o, ret_fds++);
	for (uint32_t i = 1; i <= o->n_outputs; i++)
		add_pipe(p, i, o, ret_fds++);
	start(core, p);
	return p;
}

void core_port_exit(struct core *core, struct port *p, int status)
{
	struct process *process = &p->process;

	core_say_exited(core,
			(struct link_spawn_id){ process->id, process->slot, process->attempt },
			status);
	core_until(core, p->has_exited);
}
