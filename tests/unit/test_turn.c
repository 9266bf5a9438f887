#include "broker/turn.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"

static uv_loop_t loop;
static struct turn turn;
static char order[64]; /* one letter for each thing that ran */

static void init(void)
{
	cr_assert_eq(uv_loop_init(&loop), 0);
	cr_assert_eq(turn_init(&turn, &loop), 0);
}

static void fini(void)
{
	turn_close(&turn);
	uv_run(&loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&loop), 0, "a handle is left open");
}

TestSuite(turn, .timeout = 10, .init = init, .fini = fini);

static void note(char letter)
{
	size_t n = strlen(order);

	if (n + 1 < sizeof(order))
		order[n] = letter;
}

/* A job that notes its letter, and adds others. */
struct noter {
	struct job job;
	char letter;
	struct noter *adds_work, *adds_flush, *cancels;
	int again; /* times that it adds itself */
};

static void on_job(struct job *job)
{
	struct noter *n = container_of(job, struct noter, job);

	note(n->letter);
	if (n->adds_work)
		turn_work(&turn, &n->adds_work->job);
	if (n->adds_flush)
		turn_flush(&turn, &n->adds_flush->job);
	if (n->cancels)
		job_cancel(&n->cancels->job);
	if (n->again && n->again--)
		turn_work(&turn, job);
}

static struct noter *noter(struct noter *n, char letter)
{
	*n = (struct noter){ .letter = letter };
	job_init(&n->job, on_job);
	return n;
}

static void run_turn(void)
{
	uv_run(&loop, UV_RUN_NOWAIT);
	note('.');
}

Test(turn, work_comes_before_flush_and_each_in_its_order)
{
	struct noter a, b, c, d;

	turn_flush(&turn, &noter(&a, 'a')->job);
	turn_work(&turn, &noter(&b, 'b')->job);
	turn_flush(&turn, &noter(&c, 'c')->job);
	turn_work(&turn, &noter(&d, 'd')->job);
	run_turn();
	cr_assert_str_eq(order, "bdac.");
}

Test(turn, a_job_waits_once_however_often_it_is_added)
{
	struct noter a, b;

	noter(&a, 'a');
	turn_work(&turn, &a.job);
	turn_work(&turn, &noter(&b, 'b')->job);
	turn_work(&turn, &a.job);
	turn_flush(&turn, &a.job);
	run_turn();
	run_turn();
	cr_assert_str_eq(order, "ab..");
}

Test(turn, what_work_adds_to_flush_leaves_in_the_same_turn)
{
	struct noter a, b;

	noter(&a, 'a')->adds_flush = noter(&b, 'b');
	turn_work(&turn, &a.job);
	run_turn();
	cr_assert_str_eq(order, "ab.");
}

Test(turn, what_is_added_behind_its_place_waits_for_the_next_turn)
{
	struct noter a, b, c;

	noter(&a, 'a')->adds_work = noter(&b, 'b');
	noter(&c, 'c')->again = 2;
	turn_flush(&turn, &a.job);
	turn_work(&turn, &c.job);
	run_turn();
	run_turn();
	run_turn();
	run_turn();
	cr_assert_str_eq(order, "ca.cb.c..");
}

Test(turn, a_cancelled_job_does_not_run_even_in_the_round_that_has_begun)
{
	struct noter a, b, c;

	noter(&a, 'a')->cancels = noter(&b, 'b');
	turn_work(&turn, &a.job);
	turn_work(&turn, &b.job);
	turn_work(&turn, &noter(&c, 'c')->job);
	run_turn();
	job_cancel(&b.job);
	job_cancel(&b.job);
	run_turn();
	cr_assert_str_eq(order, "ac..");
}

static void on_dying(struct job *job)
{
	note('x');
	job_cancel(job);
	memset(job, 0xee, sizeof(*job));
	free(job);
}

Test(turn, a_job_may_free_itself)
{
	struct job *job = malloc(sizeof(*job));
	struct noter a;

	job_init(job, on_dying);
	turn_work(&turn, job);
	turn_work(&turn, &noter(&a, 'a')->job);
	run_turn();
	cr_assert_str_eq(order, "xa.");
}

/* --- shares ---------------------------------------------------------------------------------- */

/* One that takes about a millisecond of processor time, and wants more for ever. */
static void on_burn(struct job *job)
{
	struct noter *n = container_of(job, struct noter, job);
	clock_t begin = clock();

	while (clock() - begin < CLOCKS_PER_SEC / 1000)
		;
	n->again++;
	turn_work(&turn, job);
}

Test(turn, P7_a_turn_ends_though_there_is_work_and_what_asks_for_little_comes_first)
{
	struct noter burners[20], small;
	struct turn_share share;
	int ran = 0;

	turn_share_init(&share);
	for (int i = 0; i < 20; i++) {
		burners[i] = (struct noter){ 0 };
		job_init(&burners[i].job, on_burn);
		job_join(&burners[i].job, &share);
		turn_work(&turn, &burners[i].job);
	}
	noter(&small, 's');
	job_join(&small.job, &share);
	for (int i = 0; i < 30; i++) { /* each is in debt then */
		run_turn();
		if (i > 10)
			turn_work(&turn, &small.job);
	}
	cr_expect_not_null(strstr(order, ".s.s.s.s.s.s.s.s"), "it waited: %s", order);
	for (int i = 0; i < 20; i++) {
		ran += burners[i].again;
		cr_expect_geq(burners[i].again, 1, "%d starves", i);
		job_cancel(&burners[i].job);
	}
	cr_expect_leq(ran, 30 * (int)(TURN_WORK_NS / 1000000 + 1), "%d in 30 turns", ran);
	cr_expect_geq(turn.cost.longest_ns, TURN_WORK_NS / 2);
	turn_share_leave(&share);
}

/* --- beside the rest of the loop ------------------------------------------------------------- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
	char byte;

	cr_assert_eq(status, 0);
	cr_assert(events & UV_READABLE);
	cr_assert_eq(read(*(int *)poll->data, &byte, 1), 1);
	note('p');
}

static void on_timer(uv_timer_t *timer)
{
	note('t');
	turn_work(&turn, timer->data);
}

static void close_both(uv_poll_t *poll, uv_timer_t *timer, int fds[2])
{
	uv_close((uv_handle_t *)poll, NULL);
	uv_close((uv_handle_t *)timer, NULL);
	close(fds[0]);
	close(fds[1]);
	uv_run(&loop, UV_RUN_NOWAIT); /* they are on the test's stack */
}

Test(turn, jobs_come_after_timers_and_events_of_the_same_turn)
{
	int fds[2];
	uv_poll_t poll;
	uv_timer_t timer;
	struct noter a;

	cr_assert_eq(pipe(fds), 0);
	uv_poll_init(&loop, &poll, fds[0]);
	uv_timer_init(&loop, &timer);
	poll.data = &fds[0];
	timer.data = &noter(&a, 'a')->job;
	uv_poll_start(&poll, UV_READABLE, on_poll);
	uv_timer_start(&timer, on_timer, 0, 0);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	run_turn();
	cr_assert_str_eq(order, "tpa.");
	close_both(&poll, &timer, fds);
}

Test(turn, a_job_that_adds_itself_for_ever_starves_nobody)
{
	int fds[2];
	uv_poll_t poll;
	uv_timer_t timer;
	struct noter a, b;

	cr_assert_eq(pipe(fds), 0);
	uv_poll_init(&loop, &poll, fds[0]);
	uv_timer_init(&loop, &timer);
	poll.data = &fds[0];
	timer.data = &noter(&b, 'b')->job;
	noter(&a, 'a')->again = 1 << 30;
	turn_work(&turn, &a.job);
	run_turn();
	uv_poll_start(&poll, UV_READABLE, on_poll);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	run_turn();
	uv_timer_start(&timer, on_timer, 0, 0);
	run_turn();
	cr_assert_str_eq(order, "a.pa.tab.", "one job, one event and one timer a turn");
	a.again = 0;
	close_both(&poll, &timer, fds);
}

Test(turn, the_poll_blocks_only_when_no_job_waits)
{
	struct noter a;

	run_turn(); /* what the loop has for itself */
	cr_assert_eq(uv_backend_timeout(&loop), -1, "nothing waits: sleep");
	turn_work(&turn, &noter(&a, 'a')->job);
	cr_assert_eq(uv_backend_timeout(&loop), 0);
	a.again = 1;
	run_turn();
	cr_assert_eq(uv_backend_timeout(&loop), 0, "it waits again");
	run_turn();
	cr_assert_eq(uv_backend_timeout(&loop), -1);
	turn_flush(&turn, &a.job);
	job_cancel(&a.job);
	run_turn();
	cr_assert_eq(uv_backend_timeout(&loop), -1, "a cancelled job keeps nobody awake");
}
