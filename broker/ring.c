/* The log of one output stream.
 *
 * Owns: head and tail, the checksum, the list of pins (the pins are their owners'). The memory
 *comes from ring_memory.c, life and number from ring_pool.c.
 *
 * Writing goes in an order that whoever looks at the memory at any instant, a reader of shared
 * memory or a successor after our death, can rely on:
 *
 *	begin:  pins are rescued -> tail is published -> bytes may be overwritten
 *	expect: what a read will bring is noted -> the read
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

static void publish(uint64_t *place, uint64_t value)
{
	__atomic_store_n(place, value, __ATOMIC_RELEASE);
}

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

void ring_set_shared(struct ring *r)
{
	r->is_shared = true;
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
	publish(&r->memory.header->tail, tail);
}

static uint64_t tail_for_head(const struct ring *r, uint64_t head, uint64_t tail)
{
	uint64_t oldest = head > r->memory.size ? head - r->memory.size : 0;

	return MAX(tail, oldest);
}

uint8_t *ring_write_begin(struct ring *r, size_t size)
{
	uint64_t tail;

	assert(size <= r->memory.size);
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
	publish(&slot->total, UINT64_MAX); /* belongs to no head while it is half written */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy((uint8_t *)slot + sizeof(slot->total), (uint8_t *)&state + sizeof(state.total),
	       sizeof(state) - sizeof(state.total));
	publish(&slot->total, state.total);
}

/* Stands where the last bytes of a read will be: nothing that anybody writes by chance. */
static const uint8_t blank[16] = { 0x9d, 0xe3, 0x06, 0xf1, 0x8a, 0x5c, 0xd7, 0x1e,
				   0xb4, 0x02, 0xec, 0x97, 0x13, 0xfa, 0x88, 0xc5 };

static uint8_t *blank_place(const struct ring *r, size_t size, size_t *ret_size)
{
	*ret_size = MIN(size, sizeof(blank));
	return place_of(r, r->head) + size - *ret_size;
}

void ring_expect(struct ring *r, size_t size)
{
	struct ring_header *h = r->memory.header;
	size_t blank_size;
	uint8_t *place = blank_place(r, size, &blank_size);

	assert(size && size <= r->begun);
	memcpy(place, blank, blank_size);
	publish(&h->expected, size);
	publish(&h->expected_at, r->head);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void ring_write_end(struct ring *r, size_t written)
{
	assert(written <= r->begun);
	if (written) {
		if (r->checksum)
			sum_up(r, written);
		r->head += written;
		publish(&r->memory.header->head, r->head);
	} else {
		publish(&r->memory.header->expected_at, UINT64_MAX);
	}
	set_tail(r, tail_for_head(r, r->head, r->tail_before));
	r->begun = 0;
}

void ring_write(struct ring *r, const void *data, size_t size)
{
	const uint8_t *from = data;

	while (size) {
		size_t piece = MIN(size, (size_t)r->memory.size);

		memcpy(ring_write_begin(r, piece), from, piece);
		ring_write_end(r, piece);
		from += piece;
		size -= piece;
	}
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
	return r->tail + lines_find_last(place_of(r, r->tail), r->head - r->tail, lines);
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
	h->checksum_layout = checksum_layout();
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
	r->memory.header->expected_at = UINT64_MAX;
	if (r->checksum)
		start_checksum(r);
	return 0;
}

/* The slot that belongs to head is loaded. A checksum of another layout cannot be continued. */
static int resume_checksum(struct ring *r)
{
	const struct ring_header *h = r->memory.header;
	int i, e;

	if (h->checksum_layout != checksum_layout())
		return 0;
	e = checksum_new(&r->checksum);
	if (e)
		return e;
	for (i = 0; i < 2; i++)
		if (h->checksum[i].total == r->head)
			return checksum_load(r->checksum, &h->checksum[i]) ? RING_E_BAD : 0;
	return RING_E_BAD;
}

/* A predecessor died over a read: if that had happened its bytes are in place. */
static void resume_expected(struct ring *r)
{
	const struct ring_header *h = r->memory.header;
	uint64_t size = h->expected;
	size_t blank_size;
	const uint8_t *place;

	if (h->expected_at != r->head || !size || size > r->memory.size)
		return;
	r->begun = (size_t)size;
	place = blank_place(r, r->begun, &blank_size);
	ring_write_end(r, memcmp(place, blank, blank_size) ? r->begun : 0);
}

int ring_resume(struct ring *r)
{
	int e;

	r->head = __atomic_load_n(&r->memory.header->head, __ATOMIC_ACQUIRE);
	r->tail = __atomic_load_n(&r->memory.header->tail, __ATOMIC_ACQUIRE);
	r->tail_before = r->tail;
	if (r->tail > r->head || r->head - r->tail > r->memory.size)
		return RING_E_BAD;
	e = resume_checksum(r);
	if (!e)
		resume_expected(r);
	return e;
}
