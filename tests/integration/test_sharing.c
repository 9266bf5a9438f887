/* Subscriptions by shared memory: every promise as by the socket (P1 to P5, P7), what a client can
 * and cannot do with the memory, and when it goes by the socket after all.
 *
 * What a control page may say is in tests/unit/test_shared.c; that lies hurt nobody is here.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/limits.h"
#include "proto/shared.h"
#include "tests/lib/ask.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"
#include "tests/lib/random.h"
#include "tests/lib/scene.h"

#define LOG   65536u
#define MEBI  1048576u
#define WAIT  30000
#define FIRST 1000u

static void begin(void)
{
	scene_begin();
	scene.c.watch.shared = true;
}

TestSuite(sharing, .init = begin, .fini = scene_end, .timeout = 120);

static struct redd_port *spawn_pattern(const char *size, bool checksum)
{
	const char *const argv[] = { place_prog("pattern"), size, NULL };
	const struct redd_spawn_options o = {
		.size = sizeof(o), .argv = argv, .log_size = LOG, .checksum = checksum
	};

	scene.c.patterned = scene.c.drop_data = true;
	return scene_spawn(&o, &scene.c);
}

/* A mebibyte into the smallest log; FIRST bytes of it are read by the subscription, which has no
 * credit for more, before the others are written. */
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
		.log_size = LOG
	};
	struct redd_port *port;

	scene.c.patterned = scene.c.drop_data = true;
	scene.c.watch.overflow = overflow;
	scene.c.watch.stall_ms = stall_ms;
	scene.c.watch.credit_mode = REDD_CREDIT_MANUAL;
	scene.c.watch.window = FIRST + EVENT_CREDIT;
	port = scene_spawn(&o, &scene.c);
	cr_assert(redd_subscription_is_shared(redd_port_subscription(port)));
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, FIRST, WAIT), 0);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	return port;
}

static void finish(struct collect *c)
{
	cr_assert_eq(collect_wait(c, scene.r, WAIT), 0);
	cr_assert_str_eq(c->wrong, "");
}

static void give_all_and_finish(struct redd_port *port)
{
	cr_assert_eq(redd_credit(redd_port_subscription(port), 1ull << 40), 0);
	finish(&scene.c);
	cr_expect_eq(scene.c.closed.result, 0);
}

static void wait_closed(struct redd_port *port)
{
	struct redd_waited waited;

	cr_assert_eq(redd_wait(port, REDD_UNTIL_CLOSED, place_patience_ms(WAIT), &waited), 0, "%s",
		     redd_last_error(scene.r)->message);
	cr_assert_eq(redd_exit_status(&waited.exit), 0);
}

static void expect_gap(const struct redd_gap *gap, uint64_t offset, uint64_t end,
		       enum redd_gap_cause cause)
{
	cr_expect_eq(gap->offset, offset, "gap from %llu", (unsigned long long)gap->offset);
	cr_expect_eq(gap->end, end, "gap to %llu", (unsigned long long)gap->end);
	cr_expect_eq(gap->cause, cause, "gap for %d", (int)gap->cause);
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

/* --- order, ends ----------------------------------------------------------------------------- */

Test(sharing, P1_P2_P3_sizes_around_every_buffer_arrive_exactly)
{
	static const char *const sizes[] = { "0",     "1",     "4097",	 "65535",
					     "65536", "65537", "262145", "5000011" };
	int before = fd_count();

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct redd_port *port;

		collect_deinit(&scene.c);
		collect_init(&scene.c);
		scene.c.watch.shared = scene.c.watch.verify = true;
		port = spawn_pattern(sizes[i], true);
		cr_expect(redd_subscription_is_shared(redd_port_subscription(port)));
		finish(&scene.c);
		cr_expect_eq(scene.c.closed.cause, REDD_PORT_CLOSED);
		cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, strtoull(sizes[i], NULL, 10));
		cr_expect(collect_stream(&scene.c, 1)->end.verified);
		cr_expect_eq(redd_exit_status(&scene.c.exit), 0);
		scene_forget(port);
	}
	cr_expect_eq(fd_count(), before, "descriptors that came are closed");
}

/* Small pieces, each of which finds the reader asleep, of two streams; written for somebody who
 * waits for each, as a prompt does. */
Test(sharing, P1_a_reader_that_sleeps_is_woken_for_every_piece)
{
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = {
		.size = sizeof(o),
		.shell = "while read x; do echo \"$x\"; echo \"$x\" >&2; done",
		.descriptors = &in,
		.n_descriptors = 1
	};
	struct redd_port *port = scene_spawn(&o, &scene.c);
	unsigned rounds = place_rounds(300);

	for (unsigned i = 1; i <= rounds; i++) {
		cr_assert_eq(redd_write(port, "12345\n", 6, NULL, NULL), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6 * i, WAIT), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 2, 6 * i, WAIT), 0);
	}
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	finish(&scene.c);
	cr_expect_eq(collect_stream(&scene.c, 2)->end.total, 6 * rounds);
	scene_forget(port);
}

Test(sharing, P4_P5_the_exit_and_what_is_left_in_the_pipe_are_told_as_ever)
{
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .shell = "sleep 1000 & echo hi; exit 3",
					      .drain_ms = 100,
					      .set = REDD_SET_DRAIN };
	struct redd_port *port = scene_spawn(&o, &scene.c);
	struct redd_signalled signalled;

	finish(&scene.c);
	cr_expect_eq(redd_exit_status(&scene.c.exit), 3);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hi\n");
	cr_expect_eq(collect_stream(&scene.c, 1)->end.cause, REDD_END_IDLE);
	cr_expect_geq(scene.c.closed.n_holders, 1);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_TREE, &signalled), 0);
	scene_forget(port);
}

Test(sharing, P1_late_subscriptions_start_where_they_ask_to)
{
	static const struct {
		enum redd_start from;
		uint64_t count, first, gaps;
	} cases[] = { { REDD_FROM_BEGINNING, 0, 0, MEBI - LOG },
		      { REDD_FROM_NOW, 0, MEBI, 0 },
		      { REDD_FROM_LAST_BYTES, 777, MEBI - 777, 0 },
		      { REDD_FROM_OFFSET, 0, 5, MEBI - LOG - 5 } };
	const struct redd_stream_offset five = { .stream = 1, .offset = 5 };
	struct redd_port *port;

	scene.c.watch.overflow = REDD_DROP;
	port = spawn_pattern("1048576", true);
	wait_closed(port);
	finish(&scene.c);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct redd_subscription *s;
		struct collect c;

		collect_init(&c);
		c.patterned = c.drop_data = c.starts_anywhere = true;
		c.watch.shared = true;
		c.watch.from = cases[i].from;
		c.watch.count = cases[i].count;
		c.watch.offsets = &five;
		c.watch.n_offsets = cases[i].from == REDD_FROM_OFFSET;
		c.watch.streams = (const uint32_t[]){ 1 };
		c.watch.n_streams = 1;
		cr_assert_eq(redd_subscribe(port, &c.watch, &s), 0);
		finish(&c);
		cr_expect(redd_subscription_is_shared(s), "case %zu", i);
		cr_expect_eq(collect_stream(&c, 1)->first, cases[i].first, "case %zu", i);
		cr_expect_eq(collect_stream(&c, 1)->gaps, cases[i].gaps, "case %zu", i);
		if (cases[i].gaps)
			cr_expect_eq(collect_stream(&c, 1)->gap[0].cause, REDD_GAP_BEFORE_LOG);
		cr_expect_eq(collect_stream(&c, 1)->end.total, MEBI);
		redd_subscription_free(s);
		collect_deinit(&c);
	}
	scene_forget(port);
}

/* --- who does not keep up -------------------------------------------------------------------- */

Test(sharing, P1_a_dropping_reader_is_told_exactly_what_it_missed)
{
	struct redd_port *port = spawn_mebibyte(REDD_DROP, 0);
	const struct collect_stream *s;
	struct redd_subscription_info info;

	wait_closed(port);
	cr_assert_eq(scene.c.n_closed, 0);
	info = inspect(port);
	cr_expect(info.shared);
	cr_expect_eq(info.lag, MEBI - FIRST);
	cr_expect_eq(info.skipped, 0);
	cr_assert_eq(redd_credit(redd_port_subscription(port), 10000), 0);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, MEBI - LOG + 1, WAIT), 0);
	info = inspect(port);
	cr_expect_eq(info.skipped, MEBI - LOG - FIRST, "%llu", (unsigned long long)info.skipped);
	give_all_and_finish(port);
	s = collect_stream(&scene.c, 1);
	cr_assert_eq(s->n_gaps, 1);
	expect_gap(&s->gap[0], FIRST, MEBI - LOG, REDD_GAP_SLOW);
	cr_expect_eq(s->end.seen + s->end.gaps, MEBI);
	scene_forget(port);
}

Test(sharing, P1_a_reader_that_asked_for_it_is_cancelled_when_it_is_overtaken)
{
	struct redd_port *port = spawn_mebibyte(REDD_CANCEL, 0);

	finish(&scene.c);
	cr_expect_eq(scene.c.closed.cause, REDD_TOO_SLOW);
	cr_expect_eq(collect_stream(&scene.c, 1)->next, FIRST);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	wait_closed(port);
	scene_forget(port);
}

Test(sharing, P7_a_blocking_reader_holds_the_child_back_and_loses_nothing)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, 0);
	struct redd_subscription_info info;
	struct redd_waited waited;

	scene_wait_held(port, 1);
	cr_assert_eq(redd_wait(port, REDD_UNTIL_EXITED, 0, &waited), -ETIMEDOUT);
	info = inspect(port);
	cr_expect(info.blocking && info.shared && !info.has_credit);
	cr_expect_eq(info.lag, LOG);
	give_all_and_finish(port);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, MEBI);
	scene_forget(port);
}

Test(sharing, P7_a_blocking_reader_without_progress_is_moved_to_drop_and_told_so)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, 200);
	const struct collect_stream *s;

	wait_closed(port);
	give_all_and_finish(port);
	s = collect_stream(&scene.c, 1);
	cr_assert_eq(s->n_gaps, 1);
	expect_gap(&s->gap[0], FIRST, MEBI - LOG, REDD_GAP_STALLED);
	scene_forget(port);
}

/* Less at a time than what the broker waits to hear of: only the positions show it. */
Test(sharing, P7_progress_keeps_a_blocking_reader_from_being_moved)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, (uint32_t)place_patience_ms(2000));
	uint64_t next = 0;

	while (next < MEBI) {
		next = MIN(next + 4096, MEBI);
		cr_assert_eq(redd_credit(redd_port_subscription(port), 4096 + EVENT_CREDIT), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, next - FIRST, WAIT), 0);
	}
	give_all_and_finish(port);
	cr_expect_eq(collect_stream(&scene.c, 1)->n_gaps, 0);
	scene_forget(port);
}

Test(sharing, P7_when_the_blocking_reader_leaves_the_child_goes_on)
{
	struct redd_port *port = spawn_mebibyte(REDD_BLOCK, 0);

	scene_wait_held(port, 1);
	redd_subscription_free(redd_port_subscription(port));
	wait_closed(port);
	scene_forget(port);
}

Test(sharing, an_unsubscribed_one_is_closed_and_a_callback_may_free_its_own)
{
	struct redd_port *port = scene_steered("echo 1; " SCENE_WAIT, &scene.c);

	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 2, WAIT), 0);
	cr_assert_eq(redd_unsubscribe(redd_port_subscription(port)), 0);
	finish(&scene.c);
	cr_expect_eq(scene.c.closed.cause, REDD_UNSUBSCRIBED);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_forget(port);
}

static void free_it(struct redd_subscription *s, const struct redd_output *o, void *user)
{
	unsigned *n = user;

	(void)o;
	++*n;
	redd_subscription_free(s);
}

Test(sharing, a_callback_may_free_its_own_subscription)
{
	unsigned n = 0;
	struct redd_port *port;

	scene.c.watch.handler = (struct redd_handler){ .on_output = free_it, .user = &n };
	port = spawn_pattern("1048576", false);
	wait_closed(port);
	cr_expect_eq(n, 1);
	scene_forget(port);
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

Test(sharing, P7_readers_of_both_kinds_some_stopped_some_killed_hurt_nobody)
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
	wait_closed(port);
	for (unsigned i = 0; i < n; i++) {
		kill(pids[i], SIGCONT);
		cr_assert_eq(waitpid(pids[i], &status, 0), pids[i]);
		if (i % 8 != 2 && i % 8 != 3)
			cr_expect_eq(status, 0, "reader %u: status %x", i, (unsigned)status);
	}
	scene_forget(port);
}

Test(sharing, more_than_may_be_shared_go_by_the_socket)
{
	struct redd_port *port = scene_steered(SCENE_WAIT "; echo on", NULL);
	unsigned n_shared = 0, n_done = 0;
	struct redd_subscription **all;

	all = calloc(SHARED_PER_CONN + 10, sizeof(all[0]));
	for (unsigned i = 0; i < SHARED_PER_CONN + 10; i++) {
		const struct redd_subscribe_options o = { .size = sizeof(o), .shared = true };

		cr_assert_eq(redd_subscribe(port, &o, &all[i]), 0);
		n_shared += redd_subscription_is_shared(all[i]);
	}
	cr_expect_eq(n_shared, SHARED_PER_CONN);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	for (unsigned i = 0; i < SHARED_PER_CONN + 10; i++) {
		n_done += !redd_finish(all[i], NULL) && redd_subscription_offset(all[i], 1) == 3;
		redd_subscription_free(all[i]);
	}
	cr_expect_eq(n_done, SHARED_PER_CONN + 10);
	free(all);
	scene_forget(port);
}

/* --- by the socket after all ----------------------------------------------------------------- */

Test(sharing, a_client_without_free_descriptors_goes_by_the_socket)
{
	struct redd_port *port = scene_steered(SCENE_WAIT "; echo hi", NULL);
	struct rlimit limit, few;
	struct redd_subscription *s;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	few.rlim_cur = 0;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	cr_assert_eq(redd_subscribe(port, &scene.c.watch, &s), 0);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect_not(redd_subscription_is_shared(s));
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	finish(&scene.c);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hi\n");
	redd_subscription_free(s);
	scene_forget(port);
}

static void narrow_begin(void)
{
	static char socket[PATH_MAX + 32];
	static char directory[PATH_MAX];
	const char *const args[] = { "--socket", socket, NULL };
	const struct service_options o = { .args = args };

	cr_assert_eq(place_make_dir(directory), 0);
	snprintf(socket, sizeof(socket), "%s/narrow.sock", directory);
	cr_assert_eq(service_start(&scene.service, &o), 0);
	strcpy(scene.service.socket, socket);
	scene.r = service_connect(&scene.service);
	cr_assert_not_null(scene.r);
	collect_init(&scene.c);
	scene.c.watch.shared = true;
}

static void narrow_end(void)
{
	char *slash = strrchr(scene.service.socket, '/');

	scene_end();
	*slash = '\0';
	place_remove_dir(scene.service.socket);
}

Test(sharing_narrow, P14_a_listener_that_passes_no_descriptors_shares_nothing, .init = narrow_begin,
     .fini = narrow_end, .timeout = 60)
{
	struct redd_port *port;

	cr_assert_not(redd_welcome(scene.r)->descriptors);
	port = spawn_pattern("300000", false);
	cr_expect_not(redd_subscription_is_shared(redd_port_subscription(port)));
	finish(&scene.c);
	cr_expect_eq(collect_stream(&scene.c, 1)->end.seen, 300000);
	scene_forget(port);
}

/* --- a client of its own kind ---------------------------------------------------------------- */

struct liar {
	struct peer p;
	uint64_t port, subscription;
	int fds[2]; /* control page, log */
	struct shared_control *control;
};

/* Subscribes to stream 1 of a port that does not end by itself. */
static void liar_open(struct liar *l, uint64_t port, const char *overflow)
{
	Redd__V1__Message *m;

	cr_assert_eq(peer_open(&l->p, scene.service.socket), 0);
	m = ask(&l->p, "hello { version: 1 features: \"shared\" features: \"other\" }");
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_WELCOME);
	cr_assert_eq(m->welcome->n_features, 1);
	cr_assert_str_eq(m->welcome->features[0], "shared");
	m = ask(&l->p,
		"subscribe { port { id: %llu } streams: 1 shared: true overflow: OVERFLOW_%s }",
		(unsigned long long)port, overflow);
	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_SUBSCRIBED, "%s", ask_text(m));
	cr_assert_not_null(m->subscribed->shared);
	cr_assert_eq(m->subscribed->shared->layout, SHARED_LAYOUT);
	l->subscription = m->subscribed->subscription;
	cr_assert(peer_take_fds(&l->p, l->fds, 2));
	l->control =
		mmap(NULL, SHARED_CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, l->fds[0], 0);
	cr_assert_neq(l->control, MAP_FAILED);
}

static void liar_close(struct liar *l)
{
	munmap(l->control, SHARED_CONTROL_SIZE);
	fd_close_many(l->fds, 2);
	peer_close(&l->p);
}

/* Random words anywhere in the page, the honest broker's too, and now and then a call to look. */
static void liar_lie(struct liar *l, struct random *random)
{
	uint64_t *words = (uint64_t *)l->control;

	for (int i = 0; i < 20; i++)
		words[random_below(random, SHARED_CONTROL_SIZE / 8)] = random_number(random);
	l->control->readers[0].sleep = random_number(random);
	if (random_chance(random, 2)) /* else one that blocks would hold the child for ever */
		l->control->readers[0].position = UINT64_MAX;
	if (random_chance(random, 20))
		ask_send_as(&l->p, 0, "credit { subscription: 1 }");
}

Test(sharing, P14_the_memory_can_be_read_and_neither_written_nor_cut)
{
	struct redd_port *port = scene_steered("echo hi; " SCENE_WAIT, NULL);
	struct liar l;
	const struct shared_log *log;
	char path[64];
	int fd;

	liar_open(&l, redd_port_id(port), "DROP");
	cr_expect_eq(write(l.fds[1], "x", 1), -1);
	cr_expect_eq(pwrite(l.fds[1], "x", 1, 4096), -1);
	cr_expect_eq(ftruncate(l.fds[1], 0), -1);
	cr_expect_eq(ftruncate(l.fds[0], 0), -1);
	cr_expect_eq(ftruncate(l.fds[0], 1 << 20), -1);
	cr_expect_eq(fallocate(l.fds[1], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	cr_expect_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, l.fds[1], 0), MAP_FAILED);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", l.fds[1]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		cr_expect_eq(write(fd, "x", 1), -1);
		cr_expect_eq(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
		close(fd);
	}
	log = mmap(NULL, 4096, PROT_READ, MAP_SHARED, l.fds[1], 0);
	cr_assert_neq(log, MAP_FAILED);
	cr_expect_eq(log->magic, SHARED_LOG_MAGIC);
	while (scene_stream(port, 1).total < 3)
		;
	cr_expect_eq(shared_load(&log->head), 3);
	munmap((void *)log, 4096);
	liar_close(&l);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_forget(port);
}

Test(sharing, a_shared_subscription_is_raw)
{
	struct redd_port *port = scene_steered(SCENE_WAIT, NULL);
	struct peer p;

	cr_assert_eq(peer_open(&p, scene.service.socket), 0);
	cr_assert_eq(peer_hello(&p), 0);
	cr_expect(ask_is_error(ask(&p,
				   "subscribe { port { id: %llu } shared: true "
				   "framing { cut: LINES } }",
				   (unsigned long long)redd_port_id(port)),
			       REDD__V1__CODE__INVALID_ARGUMENT));
	peer_close(&p);
	cr_assert_eq(redd_close(port, 3, NULL), 0);
	scene_forget(port);
}

/* Whatever is written into control pages, and however often the broker is told to look: the honest
 * get every byte, the child is not held back longer than its own readers like, and round trips take
 * as long as ever. */
Test(sharing, P7_lying_control_pages_hurt_nobody_else)
{
	static const char *const overflows[] = { "BLOCK", "DROP", "CANCEL" };
	const uint64_t seed = (uint64_t)getpid();
	struct random random = { seed };
	struct neighbour n;
	struct collect honest[2];
	struct redd_port *port;
	uint64_t id;
	struct liar liars[6];
	struct redd_subscription *s;

	port = spawn_pattern("1000000000000", false); /* for ever, by shared memory */
	for (int i = 0; i < 2; i++) {
		collect_init(&honest[i]);
		honest[i].patterned = honest[i].drop_data = honest[i].starts_anywhere = true;
		honest[i].watch.shared = i;
		honest[i].watch.overflow = REDD_DROP;
		honest[i].watch.from = REDD_FROM_NOW;
		honest[i].watch.streams = (const uint32_t[]){ 1 };
		honest[i].watch.n_streams = 1;
		cr_assert_eq(redd_subscribe(port, &honest[i].watch, &s), 0);
	}
	cr_assert_eq(neighbour_start(&n, &scene.service), 0);
	for (size_t i = 0; i < ARRAY_SIZE(liars); i++)
		liar_open(&liars[i], redd_port_id(port), overflows[i % 3]);
	for (unsigned round = 0; round < place_rounds(100); round++) {
		for (int i = 0; i < 100; i++)
			liar_lie(&liars[random_below(&random, ARRAY_SIZE(liars))], &random);
		cr_assert_eq(redd_run_once(scene.r, 0), 0);
		neighbour_wait(&n, 1); /* the broker has had its turns */
	}
	for (size_t i = 0; i < ARRAY_SIZE(liars); i++)
		liar_close(&liars[i]); /* those that block let the child go now at the latest */
	neighbour_wait(&n, 3);
	cr_assert_eq(neighbour_stop(&n), 0, "%s (seed %lu)", n.wrong, seed);
	for (int i = 0; i < 2; i++) {
		uint64_t more = collect_stream(&honest[i], 1)->next + MEBI;

		cr_assert_eq(collect_wait_bytes(&honest[i], scene.r, 1, more, WAIT), 0);
		cr_expect_str_eq(honest[i].wrong, "", "seed %lu: %s", seed, honest[i].wrong);
		collect_deinit(&honest[i]);
	}
	cr_expect_str_eq(scene.c.wrong, "");
	id = redd_port_id(port);
	redd_free(scene.r); /* with all of it under way; its port is killed */
	scene.r = service_connect(&scene.service);
	cr_assert_eq(redd_port_by_id(scene.r, id, &port), 0);
	scene_forget(port);
}

/* --- the broker dies ------------------------------------------------------------------------- */

/* What was shared goes on by the socket; a new one is shared. */
Test(sharing, P13_when_the_broker_dies_nothing_is_missing_and_a_new_one_is_shared)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const struct redd_spawn_options o = { .size = sizeof(o),
					      .argv = argv,
					      .descriptors = &in,
					      .n_descriptors = 1,
					      .orphan = REDD_ORPHAN_KEEP,
					      .checksum = true };
	struct redd_port *port;
	struct redd_subscription *s;
	struct collect again;
	pid_t broker;

	scene.c.watch.shared = scene.c.watch.verify = true;
	port = scene_spawn(&o, &scene.c);
	for (unsigned round = 1; round <= 3; round++) {
		cr_assert_eq(redd_write(port, "hello ", 6, NULL, NULL), 0);
		cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6 * round, WAIT), 0);
		while (!(broker = census_child(scene.service.pid, "redd-broker")))
			;
		cr_assert_eq(kill(broker, SIGKILL), 0);
		cr_assert_eq(redd_ping(scene.r), 0); /* is there again */
		collect_init(&again);
		again.watch.shared = true;
		cr_assert_eq(redd_subscribe(port, &again.watch, &s), 0);
		cr_expect(redd_subscription_is_shared(s));
		cr_assert_eq(collect_wait_bytes(&again, scene.r, 1, 6 * round, WAIT), 0);
		cr_expect_str_eq(again.wrong, "");
		redd_subscription_free(s);
		collect_deinit(&again);
	}
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	finish(&scene.c);
	cr_expect_str_eq(collect_text(&scene.c, 1), "hello hello hello ");
	cr_expect(collect_stream(&scene.c, 1)->end.verified);
	scene_forget(port);
}
