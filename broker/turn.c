/* The queues are lists through the jobs, so nothing is allocated and a job is on one queue at most.
 * What is added to a lane while it runs is held back until it is done: that belongs to the next
 * turn.
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

static void lane_run_own(struct turn_lane_queue *l)
{
	struct list round = LIST_INIT(round);

	list_splice(&round, &l->own);
	while (!list_is_empty(&round)) {
		struct job *j = list_first(&round, struct job, item.node.link);

		list_remove(&j->item.node.link);
		j->run(j);
	}
}

static void lane_run_shared(struct turn_lane_queue *l, uint64_t budget_ns)
{
	uint64_t begin = turn_clock_ns(), now = begin, then;
	struct fair_item *i;

	while (now - begin < budget_ns && (i = fair_next(&l->jobs))) {
		struct job *j = container_of(i, struct job, item);

		j->queue = &l->jobs;
		j->run(j);
		then = now;
		now = turn_clock_ns();
		fair_charge(&l->jobs, (int64_t)(now - then));
	}
}

static void lane_add(struct turn *t, enum turn_lane lane, struct job *j)
{
	struct turn_lane_queue *l = &t->lanes[lane];

	if (l->runs)
		list_append(&l->held, &j->item.node.link);
	else if (j->share)
		fair_add(&l->jobs, &j->share->lanes[lane], &j->item);
	else
		list_append(&l->own, &j->item.node.link);
}

static void lane_run(struct turn *t, enum turn_lane lane, uint64_t budget_ns)
{
	struct turn_lane_queue *l = &t->lanes[lane];
	struct job *j;

	l->runs = true;
	lane_run_own(l);
	if (!fair_is_empty(&l->jobs))
		lane_run_shared(l, budget_ns);
	l->runs = false;
	while ((j = list_first(&l->held, struct job, item.node.link))) {
		list_remove(&j->item.node.link);
		lane_add(t, lane, j);
	}
}

static bool lane_waits(const struct turn_lane_queue *l)
{
	return !list_is_empty(&l->own) || !fair_is_empty(&l->jobs);
}

static void on_check(uv_check_t *check)
{
	struct turn *t = check->data;

	lane_run(t, TURN_WORK, TURN_WORK_NS);
	lane_run(t, TURN_FLUSH, TURN_FLUSH_NS);
	if (!lane_waits(&t->lanes[TURN_WORK]) && !lane_waits(&t->lanes[TURN_FLUSH]))
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
	for (int i = 0; i < TURN_LANES; i++) {
		t->lanes[i] = (struct turn_lane_queue){ 0 };
		fair_queue_init(&t->lanes[i].jobs, TURN_QUANTUM_NS);
		list_init(&t->lanes[i].own);
		list_init(&t->lanes[i].held);
	}
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

void turn_share_init(struct turn_share *s)
{
	for (int i = 0; i < TURN_LANES; i++)
		fair_group_init(&s->lanes[i]);
}

void turn_share_leave(struct turn_share *s)
{
	for (int i = 0; i < TURN_LANES; i++)
		fair_group_leave(&s->lanes[i]);
}

void job_init(struct job *j, void (*run)(struct job *))
{
	fair_item_init(&j->item);
	j->run = run;
	j->share = NULL;
	j->queue = NULL;
}

void job_join(struct job *j, struct turn_share *share)
{
	j->share = share;
}

static void turn_add(struct turn *t, enum turn_lane lane, struct job *j)
{
	if (job_waits(j))
		return;
	lane_add(t, lane, j);
	uv_idle_start(&t->idle, on_idle);
}

void turn_work(struct turn *t, struct job *j)
{
	turn_add(t, TURN_WORK, j);
}

void turn_flush(struct turn *t, struct job *j)
{
	turn_add(t, TURN_FLUSH, j);
}

void turn_set_aside(struct list *aside, struct job *j)
{
	list_append(aside, &j->item.node.link);
}

void turn_resume(struct turn *t, struct list *aside)
{
	struct job *j;

	while ((j = list_first(aside, struct job, item.node.link))) {
		list_remove(&j->item.node.link);
		turn_work(t, j);
	}
}

void job_cancel(struct job *j)
{
	fair_remove(&j->item);
	if (j->queue)
		fair_queue_forget(j->queue, &j->item);
	j->queue = NULL;
}
