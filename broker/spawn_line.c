/* Lines are items of one fair queue; a line is on it while it has a process that waits and room for
 * it in flight. A process refers to its line until it is answered, so a line outlives its
 * connection.
 */
#include "broker/spawn_line.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/process.h"
#include "proto/base/err.h"
#include "proto/limits.h"

struct spawn_line {
	struct fair_item item;
	struct list waiting; /* processes, in order */
	uint32_t in_flight;  /* weights */
	uint32_t most;
	uint32_t n_refs;
};

int spawn_lines_init(struct spawn_lines *lines)
{
	int r;

	*lines = (struct spawn_lines){ 0 };
	fair_queue_init(&lines->queue, LINE_QUANTUM);
	fair_group_init(&lines->group);
	r = spawn_line_new(&lines->own);
	if (r < 0)
		return err_pass(r);
	lines->own->most = UINT32_MAX; /* SPAWNS_IN_FLIGHT bounds them */
	return 0;
}

void spawn_lines_deinit(struct spawn_lines *lines)
{
	lines->own = spawn_line_unref(lines->own);
}

int spawn_line_new(struct spawn_line **ret)
{
	struct spawn_line *line = calloc(1, sizeof(*line));

	if (!line)
		return err_begin(-ENOMEM);
	fair_item_init(&line->item);
	list_init(&line->waiting);
	line->most = LINE_IN_FLIGHT;
	line->n_refs = 1;
	*ret = line;
	return 0;
}

struct spawn_line *spawn_line_ref(struct spawn_line *line)
{
	line->n_refs++;
	return line;
}

struct spawn_line *spawn_line_unref(struct spawn_line *line)
{
	if (!line || --line->n_refs)
		return NULL;
	assert(list_is_empty(&line->waiting));
	free(line);
	return NULL;
}

bool spawn_line_is_long(const struct spawn_line *line)
{
	return !list_is_empty(&line->waiting) || line->in_flight > LINE_SHORT;
}

uint32_t spawn_line_weight(size_t record_size)
{
	return 1 + (uint32_t)MIN(record_size / LINE_RECORD_SIZE, LINE_QUANTUM - 1);
}

/* On the queue, or not, as it is. */
static void line_look(struct spawn_lines *lines, struct spawn_line *line)
{
	if (list_is_empty(&line->waiting) || line->in_flight >= line->most)
		fair_remove(&line->item);
	else
		fair_add(&lines->queue, &lines->group, &line->item);
}

void spawn_lines_enqueue(struct spawn_lines *lines, struct process *p)
{
	if (!p->line)
		p->line = spawn_line_ref(lines->own);
	list_append(&p->line->waiting, &p->link);
	lines->n_waiting++;
	line_look(lines, p->line);
}

struct process *spawn_lines_first(struct spawn_lines *lines)
{
	struct fair_item *i = fair_first(&lines->queue);

	if (!i)
		return NULL;
	return list_first(&container_of(i, struct spawn_line, item)->waiting, struct process, link);
}

void spawn_lines_dequeue(struct spawn_lines *lines, struct process *p, bool is_handed)
{
	struct spawn_line *line = p->line;

	list_remove(&p->link);
	lines->n_waiting--;
	if (is_handed) {
		line->in_flight += p->weight;
		fair_spend(&line->item, p->weight);
	}
	line_look(lines, line);
}

void spawn_lines_answered(struct spawn_lines *lines, struct process *p)
{
	if (!p->line)
		return; /* an earlier broker handed it over */
	p->line->in_flight -= p->weight;
	line_look(lines, p->line);
}
