/* A line has its place among its user's, and the user on the queue of the kind, while they have one
 * that waits and not as many out as may be. A job of the loop's turns takes from the queues.
 */
#include "broker/errand_turns.h"

#include "broker/quota.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"

static const struct {
	unsigned all, user, line;
} most_out[] = {
	[ERRAND_ASKED] = { ERRANDS_ASKED_OUT, ERRANDS_ASKED_OUT_PER_UID,
			   ERRANDS_ASKED_OUT_PER_CONN },
	[ERRAND_DUE] = { ERRANDS_DUE_OUT, ERRANDS_DUE_OUT_PER_UID, ERRANDS_DUE_OUT_PER_UID },
	[ERRAND_AGAIN] = { ERRANDS_AGAIN_OUT, ERRANDS_AGAIN_OUT_PER_UID,
			   ERRANDS_AGAIN_OUT_PER_UID },
};

void errand_share_init(struct errand_share *s)
{
	for (int i = 0; i < ERRAND_KINDS; i++) {
		s->lines[i] = (struct errand_line){ 0 };
		list_init(&s->lines[i].link);
		list_init(&s->lines[i].waiting);
		s->users[i] = (struct errand_user){ 0 };
		fair_item_init(&s->users[i].item);
		list_init(&s->users[i].lines);
	}
}

void errand_ticket_init(struct errand_ticket *e, enum errand_kind kind,
			struct quota_account *account)
{
	list_init(&e->link);
	e->kind = kind;
	e->account = quota_account_ref(account);
}

void errand_ticket_deinit(struct errand_ticket *e)
{
	e->account = quota_account_unref(e->account);
}

static struct errand_line *line_of(const struct errand_ticket *e)
{
	return &quota_errand_share(e->account)->lines[e->kind];
}

static struct errand_user *user_of(const struct errand_ticket *e)
{
	return &quota_errand_share(quota_account_below(e->account))->users[e->kind];
}

/* Its line on its user's list, and that on the queue, or not, as it is. */
static void look(struct errand_turns *t, struct errand_ticket *e)
{
	struct errand_user *u = user_of(e);
	struct errand_line *line = line_of(e);

	if (list_is_empty(&line->waiting) || line->n_out >= most_out[e->kind].line)
		list_remove(&line->link);
	else if (!list_is_linked(&line->link))
		list_append(&u->lines, &line->link);
	if (list_is_empty(&u->lines) || u->n_out >= most_out[e->kind].user)
		fair_remove(&u->item);
	else
		fair_add(&t->queues[e->kind], &t->groups[e->kind], &u->item);
	turn_work(t->turn, &t->job);
}

void errand_turns_count(struct errand_turns *t, struct errand_ticket *e, int change)
{
	t->n_out[e->kind] += (unsigned)change;
	user_of(e)->n_out += (unsigned)change;
	line_of(e)->n_out += (unsigned)change;
	look(t, e);
}

void errand_turns_wait(struct errand_turns *t, struct errand_ticket *e)
{
	list_append(&line_of(e)->waiting, &e->link);
	look(t, e);
}

void errand_turns_leave(struct errand_turns *t, struct errand_ticket *e)
{
	list_remove(&e->link);
	look(t, e);
}

struct errand_ticket *errand_turns_next(const struct errand_ticket *e)
{
	return list_first(&line_of(e)->waiting, struct errand_ticket, link);
}

/* The first of the user's lines, which is the last then. */
static struct errand_ticket *user_next(struct errand_user *u)
{
	struct errand_line *line = list_first(&u->lines, struct errand_line, link);

	list_remove(&line->link);
	list_append(&u->lines, &line->link);
	return list_first(&line->waiting, struct errand_ticket, link);
}

static bool run_one(struct errand_turns *t, enum errand_kind kind)
{
	struct errand_ticket *e;
	struct fair_item *i;

	if (t->n_out[kind] >= most_out[kind].all)
		return false;
	i = fair_first(&t->queues[kind]);
	if (!i)
		return false;
	fair_spend(i, 1);
	e = user_next(container_of(i, struct errand_user, item));
	errand_turns_leave(t, e);
	t->send_out(e);
	return true;
}

static void on_run(struct job *job)
{
	struct errand_turns *t = container_of(job, struct errand_turns, job);

	for (unsigned i = 0; i < ERRANDS_A_TURN; i++) {
		bool any = run_one(t, ERRAND_DUE);

		any |= run_one(t, ERRAND_ASKED);
		any |= run_one(t, ERRAND_AGAIN);
		if (!any)
			return;
	}
	turn_work(t->turn, job);
}

void errand_turns_init(struct errand_turns *t, struct turn *turn,
		       void (*send_out)(struct errand_ticket *e))
{
	*t = (struct errand_turns){ .turn = turn, .send_out = send_out };
	for (int i = 0; i < ERRAND_KINDS; i++) {
		fair_queue_init(&t->queues[i], 1);
		fair_group_init(&t->groups[i]);
	}
	job_init(&t->job, on_run);
}

void errand_turns_deinit(struct errand_turns *t)
{
	job_cancel(&t->job);
}
