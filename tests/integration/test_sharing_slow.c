/* Readers by shared memory that do not keep up, one or many: what block, drop and cancel do is what
 * they do by the socket (test_slow.c), and it hurts nobody else (P1, P7).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/lib/laggard.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

#define WAIT 30000

TestSuite(sharing_slow, .init = scene_begin_shared, .fini = scene_end, .timeout = 120);

/* A mebibyte into the smallest log; LAGGARD_FIRST bytes of it are read by the subscription, which
 * has no credit for more, before the others are written. */
static struct redd_port *spawn_mebibyte(enum redd_overflow overflow, uint32_t stall_ms)
{
	const struct redd_descriptor steer = { .fd = 3,
					       .kind = REDD_PIPE,
					       .direction = REDD_INPUT };
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = scene_text(
			"%s 1048576 | { dd bs=1000 count=1 iflag=fullblock 2>/dev/null; " SCENE_WAIT
			"; exec cat; }",
			place_prog("pattern")),
		.descriptors = &steer,
		.n_descriptors = 1,
		.log_size = LAGGARD_LOG
	};
	struct redd_port *port;

	scene.c.drop_data = true;
	laggard_watch(overflow, stall_ms);
	port = scene_spawn(&o, &scene.c);
	cr_assert(redd_subscription_is_shared(redd_port_subscription(port)));
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, LAGGARD_FIRST, WAIT), 0);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	return port;
}

/* What Inspect tells of the port's only subscription. */
static struct redd_subscription_info inspect(struct redd_port *port)
{
	struct redd_subscription_info info;
	struct redd_ports *ports;

	cr_assert_eq(redd_inspect(port, &ports), 0);
	cr_assert_eq(ports->ports[0].n_subscriptions, 1);
	info = ports->ports[0].subscriptions[0];
	redd_ports_free(ports);
	return info;
}

Test(sharing_slow, P1_a_dropping_reader_is_told_exactly_what_it_missed)
{
	struct redd_port *port = spawn_mebibyte(REDD_DROP, 0);
	const struct collect_stream *s;
	struct redd_subscription_info info;

	scene_wait_closed(port);
	cr_assert_eq(scene.c.n_closed, 0);
	info = inspect(port);
	cr_expect(info.shared);
	cr_expect_eq(info.lag, LAGGARD_SIZE - LAGGARD_FIRST);
	cr_expect_eq(info.skipped, 0);
	cr_assert_eq(redd_credit(redd_port_subscription(port), 10000), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, LAGGARD_SIZE - LAGGARD_LOG + 1, WAIT),
		     0);
	info = inspect(port);
	cr_expect_eq(info.skipped, LAGGARD_SIZE - LAGGARD_LOG - LAGGARD_FIRST, "%llu",
		     (unsigned long long)info.skipped);
	laggard_catch_up(port);
	s = collect_stream(&scene.c, 1);
	cr_assert_eq(s->n_gaps, 1);
	laggard_expect_gap(&s->gap[0], LAGGARD_FIRST, LAGGARD_SIZE - LAGGARD_LOG, REDD_GAP_SLOW);
	cr_expect_eq(s->end.seen + s->end.gaps, LAGGARD_SIZE);
	scene_forget(port);
}

Test(sharing_slow, P1_a_reader_that_asked_for_it_is_cancelled_when_it_is_overtaken)
{
	laggard_is_cancelled(spawn_mebibyte(REDD_CANCEL, 0));
}

Test(sharing_slow, P7_a_blocking_reader_holds_the_child_back_and_loses_nothing)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, 0);
	struct redd_subscription_info info;
	struct redd_waited waited;

	scene_wait_held(port, 1);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited), -ETIMEDOUT);
	info = inspect(port);
	cr_expect(info.blocking && info.shared && !info.has_credit);
	cr_expect_eq(info.lag, LAGGARD_LOG);
	laggard_catch_up(port);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, LAGGARD_SIZE);
	scene_forget(port);
}

Test(sharing_slow, P7_a_blocking_reader_without_progress_is_moved_to_drop_and_told_so)
{
	laggard_is_moved_to_drop(spawn_mebibyte(REDD_BLOCK, 200));
}

/* Less at a time than what the broker waits to hear of: only the positions show it. */
Test(sharing_slow, P7_progress_keeps_a_blocking_reader_from_being_moved)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, (uint32_t)place_patience_ms(2000));
	uint64_t next = 0;

	while (next < LAGGARD_SIZE) {
		next = MIN(next + 4096, LAGGARD_SIZE);
		cr_assert_eq(redd_credit(redd_port_subscription(port), 4096 + EVENT_CREDIT), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, next - LAGGARD_FIRST, WAIT),
			     0);
	}
	laggard_catch_up(port);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	scene_forget(port);
}

Test(sharing_slow, P7_when_the_blocking_reader_leaves_the_child_goes_on)
{
	laggard_leaves(spawn_mebibyte(REDD_BLOCK, 0));
}

/* --- many ------------------------------------------------------------------------------------ */

/* In a process of its own: reads all of the port, half of them by the socket; some are stopped
 * while they hold nobody back, some are killed. Its status tells. */
static int crowd_member(uint64_t id, unsigned i, int ready)
{
	struct redd *r = service_connect(&scene.service);
	struct redd_subscription *s;
	struct redd_port *port;
	struct collect c;

	collect_init(&c);
	c.patterned = c.drop_data = true;
	c.watch.shared = i % 2;
	c.watch.overflow = i % 8 < 4 ? REDD_BLOCK : REDD_DROP;
	if (!r || redd_port_by_id(r, id, &port) || redd_subscribe(port, &c.watch, &s) ||
	    redd_subscription_is_shared(s) != c.watch.shared || write(ready, "", 1) != 1)
		return 1;
	if (collect_wait(&c, r, WAIT))
		return 2;
	if (c.wrong[0] || c.closed.result ||
	    (c.watch.overflow == REDD_BLOCK && collect_stream(&c, 1)->gaps))
		return 3;
	redd_free(r);
	return 0;
}

Test(sharing_slow, P7_readers_of_both_kinds_some_stopped_some_killed_hurt_nobody)
{
	enum { MOST = 64 };
	const unsigned n = place_valgrind() ? 16 : MOST;
	struct redd_port *port = scene_steered(
		scene_text(SCENE_WAIT "; exec %s 8000000", place_prog("pattern")), NULL);
	pid_t pids[MOST];
	int ready[2], status;
	char byte;

	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	for (unsigned i = 0; i < n; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(crowd_member(redd_port_id(port), i, ready[1]));
	}
	close(ready[1]);
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(read(ready[0], &byte, 1), 1, "a reader could not subscribe");
	close(ready[0]);
	for (unsigned i = 6; i < n; i += 8) { /* of both kinds, dropping */
		kill(pids[i], SIGSTOP);
		kill(pids[i + 1], SIGSTOP);
	}
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	for (unsigned i = 2; i < n; i += 8) { /* of both kinds, blocking */
		kill(pids[i], SIGKILL);
		kill(pids[i + 1], SIGKILL);
	}
	scene_wait_closed(port);
	for (unsigned i = 0; i < n; i++) {
		kill(pids[i], SIGCONT);
		cr_assert_eq(waitpid(pids[i], &status, 0), pids[i]);
		if (i % 8 != 2 && i % 8 != 3)
			cr_expect_eq(status, 0, "reader %u: status %x", i, (unsigned)status);
	}
	scene_forget(port);
}
