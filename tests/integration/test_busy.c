/* Busy and free, as clients and observers see it: who waits and goes on in its turn, what no_wait
 * and force do, and that nobody is left waiting whoever dies (S42 to S48, S84). */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/lib/outcome.h"
#include "tests/lib/places.h"
#include "tests/lib/scene.h"

TestSuite(busy, .init = scene_begin, .fini = scene_end, .timeout = 60);

static const struct redd_write_options no_wait = { .size = sizeof(no_wait), .no_wait = true };
static const struct redd_write_options forced = { .size = sizeof(forced),
						  .no_wait = true,
						  .force = true };

/* More than any pipe takes, so that it stays queued before a child that does not read. */
static char block[256 * 1024];

/* --- an observer ----------------------------------------------------------------------------- */

struct observer {
	struct redd *r;
	struct redd_port *port;
	struct redd_subscription *subscription;
	bool is_busy, is_closed;
	unsigned n;
	uint64_t queued;
};

static void on_marks(struct redd_subscription *s, const struct redd_marks *m, void *user)
{
	struct observer *o = user;

	(void)s;
	cr_expect_eq(m->stream, 0);
	cr_expect_neq(m->busy, o->is_busy, "told twice");
	o->is_busy = m->busy;
	o->queued = m->queued;
	o->n++;
}

static void on_closed(struct redd_subscription *s, const struct redd_closed *c, void *user)
{
	struct observer *o = user;

	(void)s;
	(void)c;
	cr_expect_not(o->is_busy, "its last word was that the input is busy");
	o->is_closed = true;
}

/* Another client, which looks at the marks alone: without credit no output is sent to it. */
static void observer_open(struct observer *o, struct redd_port *port)
{
	const struct redd_subscribe_options options = {
		.size = sizeof(options),
		.handler = { .user = o, .on_marks = on_marks, .on_closed = on_closed },
		.overflow = REDD_DROP,
		.credit_mode = REDD_CREDIT_MANUAL,
		.window = 1,
	};

	*o = (struct observer){ .r = service_connect(&scene.service) };
	cr_assert_not_null(o->r);
	cr_assert_eq(redd_port_by_id(o->r, redd_port_id(port), &o->port), 0);
	cr_assert_eq(redd_subscribe(o->port, &options, &o->subscription), 0);
}

static void observer_wait(struct observer *o, bool is_busy)
{
	int64_t deadline = scene_now_ms() + place_patience_ms(20000);

	while (o->is_busy != is_busy) {
		cr_assert_lt(scene_now_ms(), deadline, "not told that it is %s",
			     is_busy ? "busy" : "free");
		cr_assert_eq(redd_run_once(o->r, 1000), 0);
	}
}

/* --- ports ----------------------------------------------------------------------------------- */

static struct redd_port *feed(const char *prog, const char *arg, struct redd_spawn_options o)
{
	static const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	const char *argv[] = { place_prog(prog), arg, NULL };

	o.argv = argv;
	o.descriptors = &in;
	o.n_descriptors = 1;
	return scene_spawn(&o, &scene.c);
}

/* --- writers that wait ----------------------------------------------------------------------- */

#define WRITERS 6
#define EACH	3
#define PIECE	40000

struct writer {
	struct redd *r;
	struct redd_port *port;
	struct outcome outcomes[EACH];
};

/* Each of its pieces is of one letter. When this returns the broker has taken them. */
static void writer_begin(struct writer *w, const struct redd_port *port, int number)
{
	char piece[PIECE];

	w->r = service_connect(&scene.service);
	cr_assert_not_null(w->r);
	cr_assert_eq(redd_port_by_id(w->r, redd_port_id(port), &w->port), 0);
	for (int i = 0; i < EACH; i++) {
		memset(piece, 'A' + number * EACH + i, sizeof(piece));
		cr_assert_eq(redd_write_start(w->port, piece, sizeof(piece), NULL,
					      outcome_call(&w->outcomes[i])),
			     0);
	}
	cr_assert_eq(redd_ping(w->r), 0);
}

static void writer_end(struct writer *w, uint64_t *offset)
{
	cr_assert_eq(outcomes_wait(w->outcomes, EACH, w->r, 20000), 0);
	for (int i = 0; i < EACH; i++, *offset += PIECE) {
		cr_expect_eq(w->outcomes[i].result, 0, "%d", w->outcomes[i].result);
		cr_expect_eq(w->outcomes[i].reply.written.offset, *offset);
	}
	redd_free(w->r);
}

static void letters_check(void)
{
	const struct collect_stream *out = collect_stream(&scene.c, 1);

	cr_assert_eq(out->size, WRITERS * EACH * PIECE);
	for (size_t i = 0; i < out->size; i++)
		cr_assert_eq(out->data[i], 'A' + (int)(i / PIECE), "byte %zu", i);
}

/* What was accepted of the dead is written too: who waits behind them keeps its place. */
Test(busy, S44_S46_S84_who_waits_goes_on_in_its_turn_though_others_have_died)
{
	/* A log for all of it: who reads the output is not dispatched while writers are waited for.
	 */
	const struct redd_spawn_options roomy = { .log_size = 1 << 20 };
	struct redd_port *port = feed("cat", NULL, roomy);
	struct observer observer;
	struct writer w[WRITERS];
	struct redd_stream_info in;
	uint64_t offset = 0;

	observer_open(&observer, port);
	cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
	for (int i = 0; i < WRITERS; i++)
		writer_begin(&w[i], port, i);
	observer_wait(&observer, true);
	in = scene_stream(port, 0);
	cr_expect(in.busy);
	cr_expect(in.high == 8192 && in.low == 4096 && in.bound == 1 << 20);
	/* But what the pipe holds, and what cat took before it was stopped. */
	cr_expect_geq(in.waiting, WRITERS * EACH / 2, "%u wait", in.waiting);
	cr_expect_eq(in.queued + in.total, WRITERS * EACH * PIECE);
	cr_expect_geq(observer.queued, 8192);
	redd_free(w[1].r);
	redd_free(w[4].r);
	cr_assert_eq(redd_signal(port, SIGCONT, REDD_LEADER, NULL), 0);
	for (int i = 0; i < WRITERS; i++)
		if (i == 1 || i == 4)
			offset += EACH * PIECE;
		else
			writer_end(&w[i], &offset);
	observer_wait(&observer, false);
	in = scene_stream(port, 0);
	cr_expect(!in.busy && in.waiting == 0 && in.queued == 0);
	cr_assert_eq(redd_close(port, 0, NULL), 0);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_str_eq(scene.c.wrong, "");
	letters_check();
	redd_free(observer.r);
	scene_forget(port);
}

/* --- no_wait and force ----------------------------------------------------------------------- */

static void refused(struct redd_port *port, const struct redd_write_options *o, size_t size)
{
	uint64_t before = scene_stream(port, 0).queued;

	cr_expect_eq(redd_write(port, block, size, o, NULL), -EAGAIN);
	cr_expect_eq(redd_last_error(scene.r)->code, REDD_RESOURCE_EXHAUSTED);
	cr_expect_eq(scene_stream(port, 0).queued, before, "something of it was taken");
}

Test(busy, S43_S45_no_wait_stops_at_busy_and_force_at_the_bound)
{
	const struct redd_spawn_options marks = { .input_high = 100,
						  .input_low = 200, /* lowered to 100 */
						  .input_bound = sizeof(block) };
	struct redd_port *port = feed("hang", NULL, marks);
	struct outcome fill, more, waits;
	struct redd_stream_info in;

	cr_assert_eq(redd_write(port, "x", 1, &no_wait, NULL), 0, "the pipe takes it");
	cr_assert_eq(redd_write_start(port, block, sizeof(block), &no_wait, outcome_call(&fill)),
		     0);
	cr_assert_eq(redd_ping(scene.r), 0);
	in = scene_stream(port, 0);
	cr_expect(in.busy && in.high == 100 && in.low == 100 && in.bound == sizeof(block));
	refused(port, &no_wait, 1);
	cr_assert_eq(redd_write_start(port, "x", 1, &forced, outcome_call(&more)), 0);
	cr_assert_eq(redd_write_start(port, "x", 1, NULL, outcome_call(&waits)), 0);
	cr_assert_eq(redd_ping(scene.r), 0);
	cr_expect_eq(fill.n + more.n + waits.n, 0, "they wait");
	cr_expect_eq(scene_stream(port, 0).waiting, 3);
	refused(port, &forced, sizeof(block) - in.queued);
	refused(port, NULL, sizeof(block) - in.queued);
	scene_kill(port);
}

Test(busy, S43_without_marks_only_the_bound_refuses)
{
	const struct redd_spawn_options off = { .input_high = REDD_MARKS_OFF,
						.input_bound = 2 * sizeof(block) };
	struct redd_port *port = feed("hang", NULL, off);
	struct observer observer;
	struct outcome first, second;
	struct redd_stream_info in;

	observer_open(&observer, port);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), &no_wait, outcome_call(&first)),
		     0);
	cr_assert_eq(redd_write_start(port, block, sizeof(block), &no_wait, outcome_call(&second)),
		     0);
	cr_assert_eq(redd_ping(scene.r), 0);
	in = scene_stream(port, 0);
	cr_expect(!in.busy && in.high == REDD_MARKS_OFF && in.waiting == 2);
	refused(port, &no_wait, sizeof(block));
	cr_assert_eq(redd_ping(observer.r), 0);
	cr_expect_eq(observer.n, 0);
	redd_free(observer.r);
	scene_kill(port);
}

/* --- trouble --------------------------------------------------------------------------------- */

/* What it waited for has gone with the broker, and the next one does not speak of what is free. */
Test(busy, P13_S46_an_input_is_free_when_its_broker_died_with_all_that_waited)
{
	struct redd_port *port = feed("hang", NULL, (struct redd_spawn_options){ 0 });
	struct observer observer;
	struct writer w;

	observer_open(&observer, port);
	w.r = service_connect(&scene.service);
	cr_assert_eq(redd_port_by_id(w.r, redd_port_id(port), &w.port), 0);
	cr_assert_eq(redd_write_start(w.port, block, sizeof(block), NULL, NULL), 0);
	cr_assert_eq(redd_ping(w.r), 0);
	observer_wait(&observer, true);
	redd_free(w.r);
	kill(census_child(scene.service.pid, "redd-broker"), SIGKILL);
	cr_assert_eq(redd_ping(scene.r), 0);
	observer_wait(&observer, false);
	redd_free(observer.r);
	scene_kill(port);
}

/* Signals by the hundred, and then its death: whoever waits is told once. */
Test(busy, S47_S48_S50_signals_to_a_busy_port_and_its_death_hold_nobody_up)
{
	const unsigned rounds = place_rounds(300);
	struct redd_port *port = feed("hang", "10", (struct redd_spawn_options){ 0 });
	struct observer observer;
	struct writer w[3];

	observer_open(&observer, port);
	for (int i = 0; i < 3; i++)
		writer_begin(&w[i], port, i);
	cr_assert_eq(collect_wait_bytes(&scene.c, scene.r, 1, 6, 20000), 0, "it says ready");
	observer_wait(&observer, true);
	for (unsigned i = 0; i < rounds; i++) {
		cr_assert_eq(redd_signal(port, SIGUSR1, REDD_LEADER, NULL), 0);
		cr_assert_eq(redd_ping(w[i % 3].r), 0);
	}
	for (int i = 0; i < 3; i++)
		for (int j = 0; j < EACH; j++)
			cr_expect_leq(w[i].outcomes[j].n, i == 0 && j == 0);
	cr_assert_eq(redd_signal(port, SIGKILL, REDD_LEADER, NULL), 0);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(outcomes_wait(w[i].outcomes, EACH, w[i].r, 20000), 0);
		for (int j = 0; j < EACH; j++)
			cr_expect(w[i].outcomes[j].n == 1 &&
				  (w[i].outcomes[j].result == -EPIPE || (i == 0 && j == 0)));
		cr_assert_eq(redd_ping(w[i].r), 0, "the writer itself goes on");
		redd_free(w[i].r);
	}
	observer_wait(&observer, false);
	cr_assert_eq(collect_wait(&scene.c, scene.r, 20000), 0);
	cr_expect_eq(scene.c.n_exited, 1);
	cr_expect_eq(scene.c.n_closed, 1);
	redd_free(observer.r);
	scene_forget(port);
}

/* An observer that does not read what it is told is told how it is when it does. */
Test(busy, S46_P7_an_observer_that_comes_back_late_is_told_the_state_and_no_history)
{
	struct redd_port *port = feed("cat", NULL, (struct redd_spawn_options){ 0 });
	const unsigned rounds = place_rounds(20);
	struct observer observer;

	observer_open(&observer, port);
	scene.c.drop_data = true;
	for (unsigned i = 0; i < rounds; i++) {
		struct outcome fill;

		cr_assert_eq(redd_signal(port, SIGSTOP, REDD_LEADER, NULL), 0);
		cr_assert_eq(
			redd_write_start(port, block, sizeof(block), NULL, outcome_call(&fill)), 0);
		while (!scene_stream(port, 0).busy)
			;
		cr_assert_eq(redd_signal(port, SIGCONT, REDD_LEADER, NULL), 0);
		cr_assert_eq(outcome_wait(&fill, scene.r, 20000), 0);
	}
	cr_assert_eq(redd_ping(observer.r), 0);
	cr_expect_leq(observer.n, 2 * rounds);
	cr_expect_not(observer.is_busy);
	scene_kill(port);
	observer_wait(&observer, false);
	redd_free(observer.r);
}
