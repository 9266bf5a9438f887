/* Both sides of shared memory. Each function that a side relies on for not missing the other has
 * one full fence between what it publishes and what it looks at then:
 *
 *	broker                              reader
 *	head, ended, waiting = new          position, sleep = new
 *	---- fence                          ---- fence
 *	look at position, sleep             look at head, ended, waiting
 *
 * Of two that do this at once at least one sees the other's.
 */
#include "proto/shared.h"

#include <string.h>

#include "proto/base/cleanup.h"

void shared_announce(uint64_t *word, uint64_t value)
{
	shared_store(word, value);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint64_t shared_position(const struct shared_reader *r, uint64_t from, uint64_t head)
{
	uint64_t position = MIN(shared_load(&r->position), head);

	return MAX(position, from);
}

bool shared_take_sleeper(struct shared_reader *r, uint64_t head, bool has_ended)
{
	uint64_t sleep;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	sleep = shared_load(&r->sleep);
	if (sleep == SHARED_AWAKE || (head <= sleep && !has_ended))
		return false;
	shared_store(&r->sleep, SHARED_AWAKE);
	return true;
}

bool shared_log_is_sound(const struct shared_log *log, uint64_t file_size, uint32_t *ret_size)
{
	uint32_t size = log->size, header_size = log->header_size;

	if (log->magic != SHARED_LOG_MAGIC || log->layout != SHARED_LAYOUT)
		return false;
	if (size < RING_LOWEST || size > RING_HIGHEST || (size & (size - 1)))
		return false;
	if (header_size < sizeof(*log) || header_size % KIB(4) ||
	    file_size != (uint64_t)header_size + size)
		return false;
	*ret_size = size;
	return true;
}

static void step_gap(struct shared_step *step, uint64_t end)
{
	*step = (struct shared_step){ .what = SHARED_GAP, .end = end };
}

/* The copy counts only if its first byte was still kept when the last one had been copied. */
static void step_copy(const struct shared_view *v, uint64_t position, uint8_t *copy,
		      struct shared_step *step)
{
	uint64_t tail;

	memcpy(copy, step->data, step->size);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	tail = shared_load(&v->log->tail);
	if (tail > position)
		step_gap(step, tail);
	else
		step->data = copy;
}

void shared_next(const struct shared_view *v, uint64_t position, size_t most, uint8_t *copy,
		 struct shared_step *ret)
{
	/* The tail after the head: it is then no older than what the head says. */
	uint64_t head = shared_load(&v->log->head), tail = shared_load(&v->log->tail);

	*ret = (struct shared_step){ .what = SHARED_NOTHING };
	if (position < tail) {
		step_gap(ret, tail);
		return;
	}
	if (head <= position)
		return;
	ret->what = SHARED_DATA;
	ret->size = (size_t)MIN(MIN(head - position, (uint64_t)v->size), (uint64_t)most);
	ret->data = v->data + (position & (v->size - 1));
	if (copy)
		step_copy(v, position, copy, ret);
}

bool shared_move(const struct shared_view *v, struct shared_reader *r, uint64_t before,
		 uint64_t after)
{
	uint64_t waiting;

	shared_announce(&r->position, after);
	waiting = shared_load(&v->log->waiting);
	if (waiting && before < waiting && after >= waiting)
		return true;
	return shared_load(&v->log->ended) && after >= shared_load(&v->log->head);
}

bool shared_sleep(const struct shared_view *v, struct shared_reader *r, uint64_t position)
{
	shared_announce(&r->sleep, position);
	if (shared_load(&v->log->head) <= position)
		return true;
	shared_store(&r->sleep, SHARED_AWAKE);
	return false;
}
