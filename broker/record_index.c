#include "broker/record_index.h"

#include <string.h>

uint32_t record_length(const uint8_t *data, uint32_t header)
{
	uint32_t length = 0;

	for (uint32_t i = 0; i < header; i++)
		length = length << 8 | data[i];
	return length;
}

void record_index_init(struct record_index *ix, uint32_t size, uint32_t header, uint32_t maximum)
{
	memset(ix, 0, sizeof(*ix));
	ix->header = header;
	ix->maximum = maximum;
	ix->shift = (uint32_t)__builtin_ctz(size / RECORD_SEGMENTS);
}

bool record_index_is_sound(const struct record_index *ix, uint32_t size, uint64_t tail)
{
	struct record_index fresh;

	if (!ix->header)
		return true;
	record_index_init(&fresh, size, ix->header, ix->maximum);
	return (ix->header == 1 || ix->header == 2 || ix->header == 4) &&
	       ix->shift == fresh.shift && (ix->is_bad || ix->next >= tail);
}

static void publish(uint64_t *place, uint64_t value)
{
	__atomic_store_n(place, value, __ATOMIC_RELEASE);
}

static uint64_t *entry_of(const struct record_index *ix, uint64_t segment)
{
	return (uint64_t *)&ix->starts[segment & (RECORD_SEGMENTS - 1)];
}

/* A zeroed entry is that of segment 0, in which a record does begin at 0. */
static void note(struct record_index *ix, uint64_t start)
{
	uint64_t segment = start >> ix->shift, *entry = entry_of(ix, segment);

	if (*entry >> ix->shift != segment)
		publish(entry, start);
}

void record_index_feed(struct record_index *ix, const uint8_t *data, uint64_t head)
{
	uint64_t first = ix->next, next = first, last = ix->last;

	while (!ix->is_bad && next < head && head - next >= ix->header) {
		uint32_t length = record_length(data + (next - first), ix->header);

		if (length > ix->maximum) {
			ix->is_bad = true;
			break;
		}
		note(ix, next);
		last = next;
		next += ix->header + (uint64_t)length;
	}
	publish(&ix->last, last);
	publish(&ix->next, next);
}

bool record_index_find(const struct record_index *ix, uint64_t from, uint64_t head, uint64_t *ret)
{
	for (uint64_t segment = from >> ix->shift; segment <= head >> ix->shift; segment++) {
		uint64_t start = *entry_of(ix, segment);

		if (start >> ix->shift == segment && start >= from) {
			*ret = start;
			return true;
		}
	}
	*ret = ix->next;
	return ix->next >= from && !ix->is_bad;
}
