/* The log of one output stream.
 *
 * Owns: head and tail, the checksum, the list of pins (the pins are their owners'). The memory
 * comes from ring_memory.c, life and number from ring_pool.c.
 *
 * Writing goes in an order that whoever looks at the memory at any instant, a reader of shared
 * memory or a successor after our death, can rely on:
 *
 *	begin:  pins are rescued -> tail is published -> bytes may be overwritten
 *	end:    checksum of the new total into the slot that is not in use -> head is published
 *
 * So bytes from tail to head are always whole, and one of the two checksum slots always belongs to
 * head. tail may go back in the end when fewer bytes were written than announced.
 *
 * Nothing here can fail; misuse (a range that is not kept, a size past the ring's) is a defect and
 * stops the program.
 */
#include "broker/ring.h"

#include <assert.h>
#include <string.h>

#include "broker/lines.h"
#include "broker/ring_private.h"
#include "proto/base/err.h"

static uint8_t *place_of(const struct ring *r, uint64_t offset)
{
	return r->memory.data + (offset & (r->memory.size - 1));
}

int ring_fd(const struct ring *r)
{
	return r->memory.fd;
}

uint32_t ring_number(const struct ring *r)
{
	return r->number;
}

uint64_t ring_head(const struct ring *r)
{
	return r->head;
}

uint64_t ring_tail(const struct ring *r)
{
	return r->tail;
}

uint32_t ring_size(const struct ring *r)
{
	return r->memory.size;
}

int ring_share(struct ring *r)
{
	r->is_shared = true;
	return err_pass(ring_memory_seal(&r->memory));
}

void ring_set_ended(struct ring *r)
{
	shared_announce(&r->memory.header->log.ended, 1);
}

void ring_set_waiting(struct ring *r, uint64_t offset)
{
	shared_announce(&r->memory.header->log.waiting, offset);
}

const uint8_t *ring_at(const struct ring *r, uint64_t offset)
{
	assert(offset >= r->tail && offset <= r->head);
	return place_of(r, offset);
}

/* --- writing --------------------------------------------------------------------------------- */

static void set_tail(struct ring *r, uint64_t tail)
{
	if (tail == r->tail)
		return;
	r->tail = tail;
	shared_store(&r->memory.header->log.tail, tail);
}

static uint64_t tail_for_head(const struct ring *r, uint64_t head, uint64_t tail)
{
	uint64_t oldest = head > r->memory.size ? head - r->memory.size : 0;

	return MAX(tail, oldest);
}

/* At once. */
static size_t ring_write_most(const struct ring *r)
{
	return ring_index(r) ? r->memory.size / 2 : r->memory.size;
}

uint8_t *ring_write_begin(struct ring *r, size_t size)
{
	uint64_t tail;

	assert(size <= ring_write_most(r));
	tail = tail_for_head(r, r->head + size, r->tail);
	r->tail_before = r->tail;
	r->begun = size;
	ring_rescue_below(r, tail);
	set_tail(r, tail);
	/* The stores that follow must not come before the tail's: who reads the new bytes where the
	 * old ones were must find the new tail. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return place_of(r, r->head);
}

static void sum_up(struct ring *r, size_t written)
{
	struct checksum_state *slots = r->memory.header->checksum;
	struct checksum_state *slot = slots[0].total == r->head ? &slots[1] : &slots[0];
	struct checksum_state state;

	checksum_add(r->checksum, place_of(r, r->head), written);
	checksum_save(r->checksum, &state);
	shared_store(&slot->total, UINT64_MAX); /* belongs to no head while it is half written */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy((uint8_t *)slot + sizeof(slot->total), (uint8_t *)&state + sizeof(state.total),
	       sizeof(state) - sizeof(state.total));
	shared_store(&slot->total, state.total);
}

static void index_feed(struct ring *r)
{
	struct record_index *ix = &r->memory.header->index;

	if (ix->header)
		record_index_feed(ix, place_of(r, ix->next), r->head);
}

void ring_write_end(struct ring *r, size_t written)
{
	assert(written <= r->begun);
	if (written) {
		if (r->checksum)
			sum_up(r, written);
		r->head += written;
		shared_store(&r->memory.header->log.head, r->head);
		index_feed(r);
	}
	set_tail(r, tail_for_head(r, r->head, r->tail_before));
	r->begun = 0;
}

void ring_write(struct ring *r, const void *data, size_t size)
{
	const uint8_t *from = data;

	while (size) {
		size_t piece = MIN(size, ring_write_most(r));

		memcpy(ring_write_begin(r, piece), from, piece);
		ring_write_end(r, piece);
		from += piece;
		size -= piece;
	}
}

/* --- record starts --------------------------------------------------------------------------- */

void ring_keep_index(struct ring *r, uint32_t header, uint32_t maximum)
{
	assert(r->head == 0);
	record_index_init(&r->memory.header->index, r->memory.size, header, maximum);
}

const struct record_index *ring_index(const struct ring *r)
{
	const struct record_index *ix = &r->memory.header->index;

	return ix->header ? ix : NULL;
}

/* --- reading --------------------------------------------------------------------------------- */

bool ring_has_checksum(const struct ring *r)
{
	return r->checksum != NULL;
}

uint64_t ring_checksum(const struct ring *r)
{
	assert(r->checksum);
	return checksum_value(r->checksum);
}

uint64_t ring_find_last_lines(const struct ring *r, uint64_t lines)
{
	const uint8_t *data = place_of(r, r->tail), *newline = NULL;
	size_t size = r->head - r->tail, at = lines_find_last(data, size, lines);

	/* There are fewer, and what stands at the tail is the rest of one. */
	if (at == 0 && r->tail > 0 && size > 0)
		newline = memchr(data, '\n', size - 1);
	return r->tail + (newline ? (size_t)(newline + 1 - data) : at);
}

/* --- pins ------------------------------------------------------------------------------------ */

void ring_pin(struct ring *r, struct ring_pin *pin)
{
	struct list *before = r->pins.prev;

	assert(pin->offset >= r->tail && pin->offset <= r->head);
	/* Most pins are near the head: look from the end. */
	while (before != &r->pins &&
	       list_entry(before, struct ring_pin, link)->offset > pin->offset)
		before = before->prev;
	list_prepend(before, &pin->link);
}

void ring_unpin(struct ring_pin *pin)
{
	list_remove(&pin->link);
}

void ring_rescue_below(struct ring *r, uint64_t offset)
{
	struct ring_pin *pin;

	while ((pin = list_first(&r->pins, struct ring_pin, link)) && pin->offset < offset) {
		list_remove(&pin->link);
		pin->rescue(pin);
	}
}

/* --- life ------------------------------------------------------------------------------------ */

static void start_checksum(struct ring *r)
{
	struct ring_header *h = r->memory.header;

	checksum_save(r->checksum, &h->checksum[0]);
	h->checksum[1].total = UINT64_MAX;
	h->log.checksum_layout = checksum_layout();
}

int ring_reset(struct ring *r, bool checksum)
{
	_cleanup_(checksum_freep) struct checksum *fresh = NULL;
	int e = checksum ? checksum_new(&fresh) : 0;

	if (e)
		return e;
	checksum_free(r->checksum);
	r->checksum = TAKE(fresh);
	r->head = r->tail = r->tail_before = 0;
	r->begun = 0;
	ring_memory_reset(&r->memory);
	if (r->checksum)
		start_checksum(r);
	return 0;
}

/* The slot that belongs to head is loaded. A checksum of another layout cannot be continued. */
static int resume_checksum(struct ring *r)
{
	const struct ring_header *h = r->memory.header;
	int i, e;

	if (h->log.checksum_layout != checksum_layout())
		return 0;
	e = checksum_new(&r->checksum);
	if (e)
		return e;
	for (i = 0; i < 2; i++)
		if (h->checksum[i].total == r->head)
			return checksum_load(r->checksum, &h->checksum[i]) ? RING_E_BAD : 0;
	return RING_E_BAD;
}

int ring_resume(struct ring *r)
{
	r->head = shared_load(&r->memory.header->log.head);
	r->tail = shared_load(&r->memory.header->log.tail);
	ring_set_waiting(r, 0);
	r->tail_before = r->tail;
	if (r->tail > r->head || r->head - r->tail > r->memory.size)
		return RING_E_BAD;
	if (!record_index_is_sound(&r->memory.header->index, r->memory.size, r->tail))
		return RING_E_BAD;
	index_feed(r);
	return resume_checksum(r);
}
