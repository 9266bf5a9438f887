#include "broker/record_index.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "tests/lib/random.h"

TestSuite(record_index, .timeout = 20);

#define SIZE	1024u /* of the log: four bytes a segment */
#define SEGMENT (SIZE / RECORD_SEGMENTS)
#define STREAM	6000u

static struct random dice = { 1 };
static uint8_t stream[STREAM];
static bool begins[STREAM + 1]; /* a header that is whole */
static struct record_index ix;

/* Packets of two-byte headers, up to `most` bytes each. */
static void make(uint64_t most)
{
	uint64_t at = 0;

	memset(begins, 0, sizeof(begins));
	while (at + 2 <= STREAM) {
		uint64_t length = random_below(&dice, most + 1);

		begins[at] = true;
		stream[at] = (uint8_t)(length >> 8);
		stream[at + 1] = (uint8_t)length;
		at += 2 + length;
	}
	record_index_init(&ix, SIZE, 2, 2000);
}

static void feed_to(uint64_t head)
{
	record_index_feed(&ix, stream + ix.next, head);
}

/* The first packet of a segment that begins at or behind `from`; `head` itself where none does. */
static uint64_t expected(uint64_t from, uint64_t head)
{
	for (uint64_t at = from / SEGMENT * SEGMENT; at + 2 <= head; at++) {
		uint64_t first = at / SEGMENT * SEGMENT;
		bool is_first = begins[at];

		for (; first < at; first++)
			is_first = is_first && !begins[first];
		if (is_first && at >= from)
			return at;
	}
	return head;
}

static void check_all(uint64_t head)
{
	uint64_t tail = head > SIZE ? head - SIZE : 0, found;

	/* The oldest segment has partly gone, and its entry may be the newest's. */
	for (uint64_t from = tail ? tail + SEGMENT - 1 : 0; from <= head; from++) {
		uint64_t wanted = expected(from, head);
		bool is_known = record_index_find(&ix, from, head, &found);

		if (wanted < head)
			cr_assert(is_known && found == wanted, "from %lu to %lu: %lu, not %lu",
				  from, head, found, wanted);
		else if (is_known)
			cr_assert_eq(found, ix.next);
		else
			cr_assert_lt(ix.next, from);
	}
}

Test(record_index, the_first_packet_of_each_segment_is_found_however_bytes_come)
{
	static const uint64_t sizes[] = { 0, 3, 9, 60, 1500 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		make(sizes[i]);
		for (uint64_t head = 0; head < STREAM;) {
			uint64_t step = 1 + random_below(&dice, SIZE / 2);

			head = MIN(head + step, STREAM);
			feed_to(head);
			check_all(head);
		}
	}
}

Test(record_index, a_packet_ahead_of_the_stream_is_known_before_it_comes)
{
	uint64_t found;

	memcpy(stream, "\7\0", 2);
	record_index_init(&ix, SIZE, 2, 2000);
	feed_to(1);
	cr_assert_eq(ix.next, 0, "half a header says nothing");
	feed_to(2);
	cr_assert(record_index_find(&ix, 1, 2, &found));
	cr_assert_eq(found, 2 + 0x700);
	cr_assert_eq(ix.last, 0);
}

Test(record_index, behind_what_is_no_header_nothing_is_known)
{
	uint64_t found;

	memcpy(stream, "\0\1x\377\377\0\0", 7);
	record_index_init(&ix, SIZE, 2, 2000);
	feed_to(7);
	cr_assert(ix.is_bad);
	cr_assert(record_index_find(&ix, 0, 7, &found));
	cr_assert_not(record_index_find(&ix, 1, 7, &found));
	cr_assert_eq(found, 3, "it tells where that is");
}

Test(record_index, P13_feeding_again_after_a_death_gives_the_same)
{
	struct record_index before;

	make(40);
	feed_to(500);
	before = ix;
	feed_to(900);
	before.last = ix.last; /* died between the last two stores */
	memcpy(before.starts, ix.starts, sizeof(ix.starts));
	record_index_feed(&before, stream + before.next, 900);
	cr_assert_arr_eq(&before, &ix, sizeof(ix));
}

Test(record_index, P13_one_that_contradicts_itself_is_not_gone_on_with)
{
	struct record_index bad;

	make(40);
	feed_to(3000);
	cr_assert(record_index_is_sound(&ix, SIZE, 3000 - SIZE));
	bad = ix;
	bad.header = 3;
	cr_assert_not(record_index_is_sound(&bad, SIZE, 0));
	bad = ix;
	bad.shift = 63;
	cr_assert_not(record_index_is_sound(&bad, SIZE, 0));
	cr_assert_not(record_index_is_sound(&ix, SIZE, ix.next + 1));
	memset(&bad, 0, sizeof(bad));
	cr_assert(record_index_is_sound(&bad, SIZE, 7), "none is kept");
}
