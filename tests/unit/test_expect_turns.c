/* Waits in the loop: who has its turn, for how long, and that nothing is left of one that fails. */
#include "broker/expect.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/conn.h"
#include "broker/pending.h"
#include "broker/port.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"
#include "tests/lib/places.h"

static struct core *core;
static struct conn *busy, *polite;
static struct port *port;
static int clients[2], child;
static unsigned n_over;
static enum expect_end last_end;
static const char *reason;

static void init(void)
{
	core = core_open();
	busy = core_connect(core, &clients[0]);
	polite = core_connect(core, &clients[1]);
	port = core_port(core, busy, &(struct core_port){ .n_outputs = 1 }, &child);
}

static void fini(void)
{
	close(clients[0]);
	close(clients[1]);
	close(child);
	core_close(core);
}

TestSuite(expect_turns, .timeout = 60, .init = init, .fini = fini);

static void on_over(struct expect *e, enum expect_end end)
{
	n_over++;
	last_end = end;
	pending_free(e->pending);
}

/* As expect_new(); the pending is freed when that failed, as the request handler does it. */
static int wait_for(struct conn *c, uint64_t request, const char *regex,
		    const struct expect_options *o)
{
	struct pattern p = { (const uint8_t *)regex, strlen(regex), true, false };
	struct pattern_error error;
	struct program program;
	struct pending *pending = NULL;
	int r = program_compile(&program, &p, 1, &error);

	if (r)
		return r;
	r = pending_new(&pending, c, port, PENDING_EXPECT, request);
	if (r) {
		program_deinit(&program);
		return r;
	}
	r = expect_new(pending, port_stream(port, 1), &program, o, on_over, &reason);
	if (r)
		pending_free(pending);
	return r;
}

static const struct expect_options now;

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void write_as(void)
{
	char text[4096];

	memset(text, 'a', sizeof(text));
	cr_assert_eq(write(child, text, sizeof(text)), sizeof(text));
}

Test(expect_turns, a_busy_connection_delays_nobody_elses_wait_and_no_turn_is_long)
{
	double worst = 0;

	for (uint64_t i = 1; i <= CONN_EXPECTS; i++)
		cr_assert_eq(wait_for(busy, i, "(?:a?){400}b", &now), 0);
	write_as();
	core_until(core, stream_total(port_stream(port, 1)) == 4096);
	cr_assert_eq(wait_for(polite, 1, "a{5}", &now), 0);
	for (int i = 0; i < 20 && !n_over; i++) {
		double begin = cpu_ms();

		core_turn(core);
		worst = MAX(worst, cpu_ms() - begin);
	}
	cr_expect_eq(n_over, 1, "the polite one had to wait for the others");
	cr_expect_eq(last_end, EXPECT_MATCH);
	cr_expect_lt(worst, place_patience_ms(10), "a turn of %.1f ms", worst);
	cr_expect_gt(core->b.counters.search_turns, 0);
}

Test(expect_turns, every_failure_leaves_nothing)
{
	const struct expect_options o = { .idle_ms = 1000,
					  .has_timeout = true,
					  .timeout_ms = 1000 };
	unsigned n;

	for (n = 1;; n++) {
		countdown_arm(COUNTDOWN_MALLOC, n, ENOMEM);
		int r = wait_for(busy, n, "(a|b)[cd]+", &o);

		if (!countdown_off()) {
			cr_assert_eq(r, 0);
			break;
		}
		cr_assert_eq(r, -ENOMEM, "%u", n);
		cr_assert_eq(busy->n_pendings + busy->expects.n + core->b.expects.n, 0);
		cr_assert_eq(port_stream(port, 1)->out.n_expects, 0);
		cr_assert_eq(quota_used(busy->account, QUOTA_BUFFER_BYTES), 0);
	}
	cr_expect_gt(n, 4);
	cr_expect_gt(quota_used(busy->account, QUOTA_BUFFER_BYTES), 0, "memory is charged");
}

Test(expect_turns, memory_beyond_the_quota_is_refused_with_the_reason)
{
	uint64_t i = 1;
	int r = 0;

	for (; !r && i <= CONN_EXPECTS; i++)
		r = wait_for(busy, i, "((((((((((((((((a{900}){2})))))))))))))))", &now);
	cr_assert_eq(r, EXPECT_E_QUOTA);
	cr_expect_not_null(strstr(reason, "this connection"));
	cr_expect_leq(quota_used(busy->account, QUOTA_BUFFER_BYTES), QUOTA_BUFFER_BYTES_CONN);
	cr_assert_eq(wait_for(polite, 1, "a", &now), 0, "others are not meant");
}

Test(expect_turns, a_connection_that_goes_takes_its_waits_along)
{
	cr_assert_eq(wait_for(polite, 1, "never", &now), 0);
	cr_assert_eq(wait_for(busy, 1, "a{3}", &now), 0);
	write_as();
	close(clients[1]);
	clients[1] = -1;
	core_until(core, core->b.expects.n == 0);
	cr_expect_eq(n_over, 1);
}
