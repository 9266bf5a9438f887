/* The queues are lists through the jobs, so nothing is allocated and a job is on one queue at most.
 * A round takes the whole queue out first: what is added while it runs belongs to the next turn.
 */
#include "broker/turn.h"

#include <time.h>

#include "proto/base/cleanup.h"
#include "proto/limits.h"

/* Processor time of the loop's thread. */
static uint64_t turn_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* being active is all it is for */
}

static void turn_run(struct list *queue)
{
	struct list round = LIST_INIT(round);

	list_splice(&round, queue);
	while (!list_is_empty(&round)) {
		struct job *j = list_first(&round, struct job, link);

		list_remove(&j->link);
		j->run(j);
	}
}

static void on_check(uv_check_t *check)
{
	struct turn *t = check->data;

	turn_run(&t->work);
	turn_run(&t->flush);
	if (list_is_empty(&t->work) && list_is_empty(&t->flush))
		uv_idle_stop(&t->idle);
}

/* The end of a turn, right before the next wait. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct turn *t = prepare->data;
	uint64_t now = turn_clock_ns(), spent = now - t->began_ns;

	t->began_ns = now;
	t->cost.n++;
	t->cost.n_long += spent > TURN_LONG_NS;
	t->cost.longest_ns = MAX(t->cost.longest_ns, spent);
}

int turn_init(struct turn *t, uv_loop_t *loop)
{
	list_init(&t->work);
	list_init(&t->flush);
	t->cost = (struct turn_cost){ 0 };
	t->began_ns = turn_clock_ns();
	uv_prepare_init(loop, &t->prepare);
	uv_check_init(loop, &t->check);
	uv_idle_init(loop, &t->idle);
	t->prepare.data = t;
	t->check.data = t;
	t->idle.data = t;
	uv_prepare_start(&t->prepare, on_prepare);
	return uv_check_start(&t->check, on_check);
}

void turn_close(struct turn *t)
{
	uv_close((uv_handle_t *)&t->prepare, NULL);
	uv_close((uv_handle_t *)&t->check, NULL);
	uv_close((uv_handle_t *)&t->idle, NULL);
}

void job_init(struct job *j, void (*run)(struct job *))
{
	list_init(&j->link);
	j->run = run;
}

static void turn_add(struct turn *t, struct list *queue, struct job *j)
{
	if (list_is_linked(&j->link))
		return;
	list_append(queue, &j->link);
	uv_idle_start(&t->idle, on_idle);
}

void turn_work(struct turn *t, struct job *j)
{
	turn_add(t, &t->work, j);
}

void turn_flush(struct turn *t, struct job *j)
{
	turn_add(t, &t->flush, j);
}

void job_cancel(struct job *j)
{
	list_remove(&j->link);
}
