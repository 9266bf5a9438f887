#include "broker/walk.h"

#include <uv.h>

#include "broker/broker.h"
#include "broker/port.h"
#include "proto/limits.h"

static void on_work(struct job *job)
{
	struct walk *w = container_of(job, struct walk, job);

	if (walk_step(w))
		turn_work(&w->broker->turn, job);
	else
		w->over(w);
}

void walk_init(struct walk *w, struct broker *b, bool (*visit)(struct walk *w, struct port *p),
	       void (*over)(struct walk *w))
{
	*w = (struct walk){ .broker = b, .end = b->ports.last_id, .visit = visit, .over = over };
	job_init(&w->job, on_work);
}

bool walk_step(struct walk *w)
{
	uint64_t end_ns = uv_hrtime() + WALK_SLICE_NS;
	struct port *p;

	for (unsigned n = 0; (p = port_table_after(&w->broker->ports, w->at)); n++) {
		if (p->id > w->end)
			return false;
		if (n && n % WALK_PORTS == 0 && uv_hrtime() >= end_ns)
			return true;
		w->at = p->id;
		if (!w->visit(w, p))
			return false;
	}
	return false;
}

void walk_go_on(struct walk *w, struct turn_share *share)
{
	job_init(&w->job, on_work);
	job_join(&w->job, share);
	turn_work(&w->broker->turn, &w->job);
}

void walk_deinit(struct walk *w)
{
	if (w->broker)
		job_cancel(&w->job);
}
