/* P13, the structure: the broker may be killed at any moment; the socket stays, connects queue, and
 * the next broker answers them. And whatever crashes, a service that is asked to end does. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/census.h"
#include "tests/lib/death.h"
#include "tests/lib/measure.h"
#include "tests/lib/outcome.h"
#include "tests/lib/packet.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

/* XXH3 of the first bytes of a pattern. */
static uint64_t pattern_sum(uint64_t size)
{
	uint8_t piece[65536];
	XXH3_state_t *state = XXH3_createState();
	uint64_t sum;

	XXH3_64bits_reset(state);
	for (uint64_t at = 0; at < size; at += sizeof(piece)) {
		pattern_fill(piece, sizeof(piece), at);
		XXH3_64bits_update(state, piece, MIN(sizeof(piece), size - at));
	}
	sum = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return sum;
}

TestSuite(restart, .init = death_begin, .fini = scene_end, .timeout = 120);

/* --- tools ----------------------------------------------------------------------------------- */

/* 0: none just now. */
static pid_t broker_pid(void)
{
	return census_child(scene.service.pid, "redd-broker");
}

static void reconnect(void)
{
	redd_free(scene.r);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
}

static void runs(void)
{
	struct collect c;

	collect_init(&c);
	cr_assert_eq(collect_prog(&c, scene.r, "exit", "5", NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_expect_str_eq(c.wrong, "");
	cr_expect_eq(redd_exit_status(&c.exit), 5);
	collect_deinit(&c);
}

static const char *here(const char *name)
{
	return place_in(scene.service.directory, name);
}

/* --- the broker is killed -------------------------------------------------------------------- */

Test(restart, P13_the_service_comes_back_on_the_same_socket_every_time)
{
	enum { MOST = 64 };
	unsigned rounds = place_rounds(60);
	double times[MOST];

	for (unsigned i = 0; i < rounds && i < MOST; i++) {
		double begin_s = measure_now();

		death_now();
		reconnect(); /* no connect is ever refused */
		cr_assert_eq(redd_ping(scene.r), 0);
		times[i] = measure_now() - begin_s;
		runs();
	}
	cr_expect_lt(measure_part(times, rounds, 0.5), place_patience_ms(500) / 1e3, "%.3f s",
		     measure_part(times, rounds, 0.5));
}

Test(restart, P13_the_id_of_a_port_that_is_gone_is_not_used_again)
{
	struct redd_port *port = scene_prog(NULL, "exit", "0", NULL);
	uint64_t gone = redd_port_id(port);

	scene_forget(port);
	death_now();
	reconnect();
	port = scene_prog(NULL, "exit", "0", NULL);
	cr_expect_gt(redd_port_id(port), gone, "%llu behind %llu",
		     (unsigned long long)redd_port_id(port), (unsigned long long)gone);
	scene_forget(port);
}

Test(restart, P13_connects_queue_while_no_broker_is_there)
{
	enum { N = 30 };
	struct redd_connect_options o = { .size = sizeof(o),
					  .socket = scene.service.socket,
					  .no_start = true,
					  .connect_timeout_ms =
						  (uint32_t)place_patience_ms(20000) };
	struct redd *clients[N];
	struct outcome outcomes[N];

	for (unsigned round = 0; round < place_rounds(10); round++) {
		death_now();
		for (int i = 0; i < N; i++) {
			clients[i] = redd_new();
			cr_assert_eq(redd_connect_start(clients[i], &o, outcome_call(&outcomes[i])),
				     0, "%s", redd_last_error(clients[i])->message);
		}
		for (int i = 0; i < N; i++) {
			cr_assert_eq(outcome_wait(&outcomes[i], clients[i], 20000), 0);
			cr_expect_eq(outcomes[i].result, 0, "%s",
				     redd_last_error(clients[i])->message);
			redd_free(clients[i]);
		}
	}
	reconnect();
	runs();
}

/* Whoever had asked for it comes back, and may come when it has ended already. */
Test(restart, P13_how_a_port_ended_is_kept_for_those_who_are_not_back_yet)
{
	const char *fifo = here("fifo");
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = scene_text("read x <%s; exit 5", fifo),
					      .set = REDD_SET_RETENTION };
	struct redd_waited waited;
	struct redd_port *port;
	uint64_t id;
	pid_t pid;

	cr_assert_eq(mkfifo(fifo, 0600), 0);
	port = scene_spawn(&o, NULL);
	id = redd_port_id(port);
	pid = redd_port_pid(port);
	death_now();
	reconnect();
	close(open(fifo, O_WRONLY | O_CLOEXEC));
	scene_wait_dead(pid);
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	for (;;) {
		struct redd_ports *info;
		enum redd_port_state state;

		cr_assert_eq(redd_inspect(port, &info), 0, "it has been forgotten");
		state = info->ports[0].state;
		redd_ports_free(info);
		if (state == REDD_ENDED)
			break;
	}
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, 0, &waited), 0);
	cr_expect_eq(waited.exit.code, 5);
	redd_port_free(port);
	scene_wait_forgotten(id);
}

/* Ports stay, or the instance says that they are gone: never a stranger's under an old id. */
Test(restart, P13_a_client_that_comes_back_finds_its_port)
{
	const struct redd_descriptor in = { .fd = 0 };
	const char *argv[] = { place_prog("cat"), NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .orphan = REDD_ORPHAN_KEEP };
	struct redd_port *port = scene_spawn(&o, NULL);
	uint64_t id = redd_port_id(port);
	uint8_t instance[16];

	memcpy(instance, redd_welcome(scene.r)->instance, sizeof(instance));
	cr_assert_eq(redd_write(port, "before ", 7, NULL, NULL), 0);
	death_now();
	reconnect();
	cr_expect_eq(memcmp(instance, redd_welcome(scene.r)->instance, sizeof(instance)), 0);
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_subscribe(port, &scene.c);
	cr_assert_eq(redd_write(port, "after", 5, NULL, NULL), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_str_eq(collect_text(&scene.c, 1), "before after");
	cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
	scene_forget(port);
}

/* Follows the port from `offset` on until at least `size` bytes came, or its end: the offset behind
 * what came. */
static uint64_t follow(uint64_t id, uint64_t offset, uint64_t size, struct collect *ret)
{
	const struct redd_stream_offset at = { 1, offset };
	struct redd_port *port;
	struct redd_subscription *s;

	collect_init(ret);
	ret->patterned = ret->drop_data = ret->starts_anywhere = true;
	ret->watch.from = REDD_FROM_OFFSET;
	ret->watch.offsets = &at;
	ret->watch.n_offsets = 1;
	ret->watch.overflow = REDD_BLOCK;
	ret->watch.window = 32768; /* less than the socket takes: no frame is cut by the death */
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	cr_assert_eq(redd_subscribe(port, &ret->watch, &s), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_eq(collect_wait_bytes(ret, scene.r, 1, offset + size, 30000), 0);
	if (!ret->n_closed) {
		death_now();
		collect_wait(ret, scene.r, 30000); /* what was on its way, until it is lost */
		cr_assert_eq(ret->n_closed, 1);
		reconnect();
	}
	cr_assert_str_eq(ret->wrong, "");
	cr_assert_eq(collect_stream(ret, 1)->gaps, 0);
	return MAX(offset, collect_stream(ret, 1)->next);
}

/* The log is checked by its checksum as well, which is kept over all deaths. */
/* A connection of its own that blocks from now on, and is sent nothing. Returns from where. */
static uint64_t block(struct peer *p, uint64_t port)
{
	Redd__V1__Message *m;

	ask_greet(p, scene.service.socket);
	m = ask(p,
		"subscribe { port { id: %" PRIu64 " } streams: 1 overflow: OVERFLOW_BLOCK credit: 0"
		" start { from: NOW } }",
		port);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	return m->subscribed->starts[0]->offset;
}

static struct redd_stream_info when_held(struct redd_port *port)
{
	struct redd_stream_info s;

	do
		s = scene_stream(port, 1);
	while (!s.held);
	return s;
}

/* One is back after each death, the other has still to come. */
Test(restart, P13_each_blocking_reader_is_waited_for_through_two_deaths)
{
	const char *argv[] = { place_prog("zeros"), "1000000000000", NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .log_size = KIB(64), .orphan = REDD_ORPHAN_KEEP
	};
	struct redd_port *port = scene_spawn(&o, NULL);
	uint64_t id = redd_port_id(port), start;
	struct redd_waited waited;
	struct peer early, late;

	start = block(&late, id);
	block(&early, id);
	when_held(port);
	for (int i = 0; i < 2; i++) {
		death_await_next(death_now());
		peer_close(&early);
		block(&early, id);
	}
	reconnect();
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	cr_expect_leq(when_held(port).oldest, start, "what it has still to get is gone");
	peer_close(&late);
	block(&late, id);
	peer_close(&late);
	peer_close(&early);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, -1, &waited), 0);
	scene_forget(port);
}

Test(restart, P13_no_byte_is_lost_or_doubled_on_its_way_into_the_log)
{
	const uint64_t size = (uint64_t)place_rounds(100) << 19;
	char text[24];
	const char *argv[] = { place_prog("pattern"), text, "5000", NULL };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .checksum = true,
					      .hold_unread = true,
					      .orphan = REDD_ORPHAN_KEEP };
	struct random random = { 13 };
	struct redd_port *port;
	struct collect c;
	uint64_t id, next = 0;
	bool is_over = false;

	snprintf(text, sizeof(text), "%" PRIu64, size);
	id = redd_port_id(scene_spawn(&o, NULL));
	for (unsigned round = 0; !is_over; round++) {
		bool is_last = round == place_rounds(60);

		next = follow(id, next, is_last ? size : random_below(&random, 300000), &c);
		is_over = c.n_closed && c.closed.cause == REDD_PORT_CLOSED;
		cr_assert(is_over || !is_last || next == size);
		if (is_over) {
			cr_expect_eq(collect_stream(&c, 1)->end.total, size);
			cr_expect_eq(redd_exit_status(&c.exit), 0);
			cr_expect_eq(collect_stream(&c, 1)->end.xxh3, pattern_sum(size));
		}
		collect_deinit(&c);
	}
	cr_expect_eq(next, size);
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_forget(port);
}

Test(restart, P13_S43_the_marks_of_an_input_survive)
{
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = "exec cat >/dev/null",
					      .name = "marked",
					      .orphan = REDD_ORPHAN_KEEP,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .input_high = 300,
					      .input_low = 200,
					      .input_bound = 100000 };
	struct redd_port *port = scene_spawn(&o, NULL);
	struct redd_stream_info s;

	redd_port_free(port);
	death_now();
	reconnect();
	cr_assert_eq(redd_port_by_name(scene.r, "marked", &port), 0);
	s = scene_stream(port, 0);
	cr_expect(s.high == 300 && s.low == 200 && s.bound == 100000, "%u %u %u", s.high, s.low,
		  s.bound);
	scene_kill(port);
}

Test(restart, P13_an_exit_that_nobody_saw_is_told_by_the_next_broker)
{
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = "read line < \"$FIFO\"; exit 9",
					      .orphan = REDD_ORPHAN_KEEP };
	struct redd_port *port;
	uint64_t id;
	int fd;

	cr_assert_eq(mkfifo(here("fifo"), 0600), 0);
	cr_assert_eq(setenv("FIFO", here("fifo"), 1), 0);
	port = scene_spawn(&o, NULL);
	id = redd_port_id(port);
	fd = open(here("fifo"), O_WRONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	death_now();
	cr_assert_eq(write(fd, "go\n", 3), 3);
	close(fd);
	reconnect();
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_subscribe(port, &scene.c);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 9);
	scene_forget(port);
}

static const char *is_whole(struct collect *c, const char *data, size_t size)
{
	(void)c;
	return packet_number(data, size, 1500) < 0 ? "not a whole packet" : NULL;
}

Test(restart, P13_framing_and_the_starts_of_packets_survive)
{
	const struct redd_descriptor three = { .fd = 3, .direction = REDD_INPUT };
	const char *packets = place_prog("packets");
	struct redd_spawn_options o = { .log_size = 65536,
					.descriptors = &three,
					.n_descriptors = 1,
					.orphan = REDD_ORPHAN_KEEP,
					.framing = { REDD_PACKETS, 5000, 4 } };
	uint64_t id, total = 2;
	struct redd_ports *ports;
	struct redd_port *port;

	/* In between half of a header, and the rest of that packet. */
	o.shell = scene_text("%s 4 500 1500; printf '\\0\\0'; " SCENE_WAIT
			     "; printf '\\0\\01000000000'; %s 4 50 1500",
			     packets, packets);
	port = scene_spawn(&o, NULL);
	id = redd_port_id(port);
	for (unsigned n = 0; n < 500; n++)
		total += 4 + packet_size(n, 1500);
	while (scene_stream(port, 1).total < total)
		;
	death_now();
	reconnect();
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	cr_assert_eq(redd_inspect(port, &ports), 0);
	cr_expect_eq(ports->ports[0].framing.cut, REDD_PACKETS);
	cr_expect_eq(ports->ports[0].framing.header, 4);
	cr_expect_eq(ports->ports[0].framing.maximum, 5000);
	redd_ports_free(ports);
	scene.c.on_record = is_whole;
	scene.c.starts_anywhere = true;
	scene_subscribe(port, &scene.c);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	cr_expect_eq(scene.c.closed.cause, REDD_PORT_CLOSED);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 1);
	cr_expect_gt(collect_stream(&scene.c, 1)->n_records, 50);
	scene_forget(port);
}

Test(restart, P13_broker_and_forker_may_be_killed_together)
{
	for (unsigned i = 0; i < place_rounds(20); i++) {
		pid_t forker = census_child(scene.service.pid, "forker");

		death_now();
		if (forker)
			kill(forker, SIGKILL);
		reconnect();
		runs();
	}
}

/* A broker whose loop does not turn is as good as dead. */
Test(restart, P13_a_broker_that_stands_still_is_replaced)
{
	pid_t pid = broker_pid();

	if (place_valgrind())
		cr_skip_test("under valgrind a turn takes as long as a stall elsewhere");
	cr_assert_gt(pid, 0);
	cr_assert_eq(kill(pid, SIGSTOP), 0);
	reconnect();
	cr_expect_neq(broker_pid(), pid);
	runs();
}
