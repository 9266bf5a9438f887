/* Many ports, and what is told of them, as users of Erlang's ports know it: info, lists while ports
 * come and go, as many as there may be, and unlike ones side by side (S55 to S57, S68 to S70, S79).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/ask.h"
#include "tests/lib/burst.h"
#include "tests/lib/census.h"
#include "tests/lib/measure.h"
#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(ports, .init = scene_begin, .fini = scene_end, .timeout = 120);

/* --- info ------------------------------------------------------------------------------------ */

#define READERS 8

/* What a reader is told, as bytes. */
static size_t info_of(struct peer *p, uint64_t port, uint8_t *out, size_t size)
{
	Redd__V1__Message *m = ask(p, "inspect { port { id: %llu } }", (unsigned long long)port);
	size_t n;

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_PORT_INFO, "%s", ask_text(m));
	n = redd__v1__port_info__get_packed_size(m->port_info);
	cr_assert_leq(n, size);
	return redd__v1__port_info__pack(m->port_info, out);
}

Test(ports, S68_S83_every_reader_is_told_the_same_and_after_the_end_nothing)
{
	struct peer peers[READERS];
	uint8_t first[4096], again[4096];
	Redd__V1__Message *m;
	uint64_t port;
	size_t n;

	for (int i = 0; i < READERS; i++) {
		ask_greet(&peers[i], scene.service.socket);
	}
	port = ask_spawn(&peers[0], "hang",
			 "name: \"known\" descriptors { fd: 0 kind: KIND_PIPE } nice: 3 "
			 "labels { key: \"a\" value: \"b\" } hold_unread: true subscribe { }");
	cr_assert_not_null(ask_event(&peers[0], REDD__V1__MESSAGE__BODY_OUTPUT));
	n = info_of(&peers[0], port, first, sizeof(first));
	for (unsigned round = 0; round < place_rounds(50); round++)
		for (int i = 0; i < READERS; i++) {
			cr_assert_eq(info_of(&peers[i], port, again, sizeof(again)), n);
			cr_assert_arr_eq(first, again, n);
		}
	ask_end(&peers[0], port);
	for (int i = 0; i < READERS; i++) {
		m = ask(&peers[i], "inspect { port { %s } }",
			i % 2 ? "name: \"known\""
			      : scene_text("id: %llu", (unsigned long long)port));
		cr_expect(ask_is_error(m, REDD__V1__CODE__NOT_FOUND), "%s", ask_text(m));
		peer_close(&peers[i]);
	}
}

Test(ports, S68_the_size_of_a_terminal_is_told_as_it_is_now)
{
	const struct redd_terminal asked = { 30, 100, 7, 8 }, larger = { 50, 200, 0, 0 };
	const struct redd_descriptor in = { .fd = 3, .kind = REDD_PIPE, .direction = REDD_INPUT };
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = "echo ready; read x <&3; stty rows 11 cols 22; echo set; read x <&3",
		.terminal = &asked,
		.descriptors = &in,
		.n_descriptors = 1,
	};
	const struct redd_write_options to_3 = { .size = sizeof(to_3),
						 .other_stream = true,
						 .stream = 3 };
	struct redd_port *port = scene_spawn(&o, &scene.c);
	struct redd_ports *info;

#define EXPECT_SIZE(r, c, x, y)                                                                  \
	do {                                                                                     \
		const struct redd_terminal *_t_;                                                 \
		cr_assert_eq(redd_inspect(port, &info), 0);                                      \
		_t_ = &info->ports[0].terminal_size;                                             \
		cr_expect(info->ports[0].has_terminal_size);                                     \
		cr_expect(_t_->rows == (r) && _t_->columns == (c) && _t_->x_pixels == (x) &&     \
				  _t_->y_pixels == (y),                                          \
			  "%u %u %u %u", _t_->rows, _t_->columns, _t_->x_pixels, _t_->y_pixels); \
		redd_ports_free(info);                                                           \
	} while (0)

	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, REDD_TERMINAL, 7, 20000), 0);
	EXPECT_SIZE(30, 100, 7, 8);
	cr_assert_eq(redd_resize(port, &larger), 0);
	EXPECT_SIZE(50, 200, 0, 0);
	cr_assert_eq(redd_write(port, "\n", 1, &to_3, NULL), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, REDD_TERMINAL, 12, 20000), 0);
	EXPECT_SIZE(11, 22, 0, 0); /* whoever set it */
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_assert_eq(redd_inspect(port, &info), 0);
	cr_expect(info->ports[0].terminal && !info->ports[0].has_terminal_size);
	redd_ports_free(info);
	scene_forget(port);
}

/* Beyond what 32 bits count. */
Test(ports, S68_bytes_out_are_exact_beyond_4_gib)
{
	const uint64_t size = ((uint64_t)place_rounds(4100) << 20) + 3;
	struct redd_port *port = scene_prog(
		NULL, "zeros", scene_text("%llu", (unsigned long long)size), "1048576", NULL);
	struct redd_waited end;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(60000), &end), 0);
	cr_expect_eq(scene_stream(port, 1).total, size);
	scene_forget(port);
}

/* --- lists ----------------------------------------------------------------------------------- */

#define STAYING 30

/* Goes through all pages, of a size that changes. Each port that stays is there, none twice. */
static void list_check(const uint64_t *staying, unsigned round)
{
	struct redd_list_options o = { .size = sizeof(o), .limit = 1 + round % 17 };
	struct redd_ports *page;
	unsigned found = 0;
	bool more = true;

	while (more) {
		cr_assert_eq(redd_list(scene.r, &o, &page), 0);
		for (size_t i = 0; i < page->n_ports; i++) {
			cr_assert_gt(page->ports[i].port, o.after, "not by rising ids");
			o.after = page->ports[i].port;
			for (int j = 0; j < STAYING; j++)
				found += staying[j] == o.after;
		}
		more = page->more;
		redd_ports_free(page);
	}
	cr_assert_eq(found, STAYING, "round %u", round);
}

struct churn {
	unsigned rounds, lists;
	uint64_t staying[STAYING];
};

static void on_churn(void *user)
{
	struct churn *c = user;

	if (c->lists < c->rounds)
		list_check(c->staying, c->lists++);
}

Test(ports, S69_lists_are_whole_while_ports_come_and_go)
{
	struct churn churn = { .rounds = place_rounds(100) };
	struct burst b = { .r = service_connect(&scene.service), .in_flight = 16 };
	struct redd_port *ports[STAYING];
	const char *argv[2] = { NULL };

	for (int i = 0; i < STAYING; i++) {
		ports[i] = scene_prog(NULL, "hang", NULL);
		churn.staying[i] = redd_port_id(ports[i]);
	}
	argv[0] = place_prog("exit");
	b.argv = argv;
	b.total = 5 * churn.rounds;
	cr_assert_eq(burst_run_with(&b, 1, 20000, on_churn, &churn), 0);
	cr_expect_eq(b.n_good, b.total);
	cr_expect_gt(churn.lists, churn.rounds / 4, "they did not run side by side");
	while (churn.lists < churn.rounds)
		on_churn(&churn);
	for (int i = 0; i < STAYING; i++) {
		scene_kill(ports[i]);
	}
	redd_free(b.r);
}

/* --- many ------------------------------------------------------------------------------------ */

static void is_17(struct burst *b, unsigned number, int result, const struct redd_waited *end)
{
	(void)b;
	cr_expect_eq(result, 0, "%u", number);
	cr_expect(end && end->exit.state == REDD_EXIT_CODE && end->exit.code == 17, "%u", number);
}

Test(ports, S55_of_a_thousand_children_every_exit_is_told_and_no_zombie_left)
{
	const char *const argv[] = { place_prog("exit"), "17", NULL };
	struct burst b = { .r = scene.r, .argv = argv, .in_flight = 50, .ended = is_17 };
	struct census before;

	b.total = place_rounds(1000);
	cr_assert_eq(census_take(scene.service.pid, &before), 0);
	cr_expect_eq(before.zombies, 0);
	cr_assert_eq(burst_run(&b, 1, 20000), 0);
	cr_expect_eq(b.n_bad, b.total);
	cr_assert_eq(service_settle_as(&scene.service, &before), 0);
}

/* All in one go: more than are handed over at once. */
Test(ports, S56_a_thousand_spawns_at_once_are_each_done_or_told_what_is_short)
{
	enum { MOST = 1000 };
	static struct outcome spawned[MOST], ended[MOST];
	static struct redd_port *ports[MOST];
	const unsigned n = place_rounds(MOST);
	const char *const argv[] = { place_prog("exit"), "5", NULL };
	const struct redd_spawn_options o = { .size = sizeof(o), .argv = argv };
	unsigned good = 0;

	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(redd_spawn_start(scene.r, &o, &ports[i], outcome_call(&spawned[i])),
			     0);
	cr_assert_eq(outcomes_wait(spawned, n, scene.r, 60000), 0);
	for (unsigned i = 0; i < n; i++) {
		int e = spawned[i].result;

		cr_expect(e == 0 || e == -EMFILE || e == -EAGAIN || e == -ENOMEM || e == -EDQUOT,
			  "%u: %d", i, e);
		good += e == 0;
		if (e == 0)
			cr_assert_eq(redd_wait_start(ports[i], REDD_UNTIL_CLOSED, -1,
						     outcome_call(&ended[i])),
				     0);
	}
	cr_expect_gt(good, n / 4, "hardly any was started");
	for (unsigned i = 0; i < n; i++) {
		if (spawned[i].result == 0) {
			cr_assert_eq(outcome_wait(&ended[i], scene.r, 60000), 0);
			cr_expect_eq(ended[i].reply.waited.exit.code, 5);
			cr_assert_eq(redd_forget(ports[i]), 0);
		}
		redd_port_free(ports[i]);
	}
}

#define STALLED 20

/* The broker stands still (shorter than the watchdog takes it for dead) while they end. */
Test(ports, S57_who_ends_while_the_broker_stands_still_is_told_once_it_goes_on)
{
	struct collect c[STALLED];
	struct redd_port *ports[STALLED];

	for (unsigned round = 0; round < 3; round++) {
		pid_t broker = census_child(scene.service.pid, "redd-broker");

		for (int i = 0; i < STALLED; i++) {
			collect_init(&c[i]);
			ports[i] = scene_prog(&c[i], "hang", NULL);
		}
		cr_assert_eq(kill(broker, SIGSTOP), 0);
		for (int i = 0; i < STALLED; i++)
			cr_assert_eq(kill(redd_port_pid(ports[i]), SIGKILL), 0);
		cr_assert_eq(kill(broker, SIGCONT), 0);
		for (int i = 0; i < STALLED; i++) {
			cr_assert_eq(collect_wait(&c[i], scene.r, 20000), 0);
			cr_expect_str_eq(c[i].wrong, "");
			cr_expect_eq(c[i].n_exited, 1);
			cr_expect_eq(c[i].exit.signal, SIGKILL);
			scene_forget(ports[i]);
			collect_deinit(&c[i]);
		}
	}
}

/* --- side by side ---------------------------------------------------------------------------- */

static const char *const workloads[] = {
	"i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i + 1)); done",
	"head -c 3000000 /dev/zero",
	"head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2",
	"sleep 0.3",
	"i=0; while [ $i -lt 10 ]; do sleep 0.03; echo $i; i=$((i + 1)); done",
	"cat /proc/self/environ; sleep 0.2",
	"exec sh -c 'exec sh -c \"sleep 0.3; exit 0\"'",
	"(sleep 0.3; echo grandchild) & wait",
	"trap : TERM; sleep 0.3",
	"true",
	"seq 1 50000 | sort -n | tail -n 1; sleep 0.3",
};
#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

/* Begins with 0 and ends when all of them have: how long that took. */
static double run_together(size_t from, size_t n)
{
	struct collect c[WORKLOADS];
	struct redd_port *ports[WORKLOADS];
	double begin = measure_now(), took;

	for (size_t i = 0; i < n; i++) {
		collect_init(&c[i]);
		c[i].drop_data = true;
		ports[i] = scene_shell(workloads[from + i], &c[i]);
	}
	for (size_t i = 0; i < n; i++) {
		cr_assert_eq(collect_wait(&c[i], scene.r, 30000), 0);
		cr_expect_str_eq(c[i].wrong, "");
		cr_expect_eq(redd_exit_status(&c[i].exit), 0, "%s", workloads[from + i]);
	}
	took = measure_now() - begin;
	for (size_t i = 0; i < n; i++) {
		scene_forget(ports[i]);
		collect_deinit(&c[i]);
	}
	return took;
}

/* One behind the other they take the sum; together they must not take nearly as much. Another
 * load on the machine may hit either, so one good time of three will do. */
Test(ports, S79_unlike_ports_side_by_side_do_not_wait_for_each_other)
{
	double together = 0, sum = 0;

	for (int times = 0; times < 3 && together >= 0.75 * sum; times++) {
		together = run_together(0, WORKLOADS);
		sum = 0;
		for (size_t i = 0; i < WORKLOADS; i++)
			sum += run_together(i, 1);
	}
	cr_expect_lt(together, 0.75 * sum, "%.3f s together, %.3f s one by one", together, sum);
}

/* --- as many as there may be ----------------------------------------------------------------- */

#define OPEN_FILES 700u

static void begin_narrow(void)
{
	const struct service_options o = { .nofile = OPEN_FILES, .quiet = true };

	cr_assert_eq(service_start(&scene.service, &o), 0);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
	collect_init(&scene.c);
}

TestSuite(ports_narrow, .init = begin_narrow, .fini = scene_end, .timeout = 120);

/* Until one is refused; then a ping says that nothing else was hurt. */
static unsigned fill(struct redd_port **ports, unsigned most)
{
	const char *const argv[] = { place_prog("sink"), NULL }; /* silent: no logs */
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .descriptors = &in, .n_descriptors = 1
	};
	unsigned n = 0;

	while (n < most && redd_spawn(scene.r, &o, &ports[n]) == 0)
		n++;
	cr_assert_lt(n, most, "there is no limit");
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_RESOURCE_EXHAUSTED, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_eq(redd_ping(scene.r), 0);
	return n;
}

static void empty(struct redd_port **ports, unsigned n)
{
	static struct outcome ended[OPEN_FILES];

	for (unsigned i = 0; i < n; i++) {
		cr_assert_eq(redd_signal_start(ports[i], SIGKILL, REDD_LEADER, NULL), 0);
		cr_assert_eq(
			redd_wait_start(ports[i], REDD_UNTIL_CLOSED, -1, outcome_call(&ended[i])),
			0);
	}
	cr_assert_eq(outcomes_wait(ended, n, scene.r, 30000), 0);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_eq(redd_forget(ports[i]), 0);
		redd_port_free(ports[i]);
	}
}

/* The leak test: as many every time. */
Test(ports_narrow, S10_S30_S70_filled_to_the_limit_ten_times_it_is_always_as_many)
{
	static struct redd_port *ports[OPEN_FILES];
	unsigned first = 0, n;
	struct census before;

	cr_assert_eq(census_take(scene.service.pid, &before), 0);
	for (unsigned round = 0; round < place_rounds(10); round++) {
		n = fill(ports, OPEN_FILES);
		if (!round)
			first = n;
		cr_expect_geq(n, 20);
		cr_expect_eq(n, first, "round %u: %u instead of %u", round, n, first);
		empty(ports, n);
		cr_assert_eq(service_settle_as(&scene.service, &before), 0);
	}
}
