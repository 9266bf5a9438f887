/* Records under random interleavings of a writer, credit and sending, against a plain cutter that
 * has the whole stream before it. Whatever the sizes: every byte is accounted for in order; what
 * comes is, record for record, what the plain cutter makes; a record that a gap cuts off is said to
 * be aborted; behind a gap a record begins; a reader that waits for the rest of a record is never
 * what keeps it from coming. */
#include "broker/cursor.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "tests/lib/random.h"

TestSuite(framing_model, .timeout = 120);

#define STREAM_MAX 6000u
#define READERS	   3u

/* What the plain cutter makes of the stream. */
struct record {
	uint64_t start, body, size, end;
	enum framing_record how;
};

struct reader {
	struct cursor cursor;
	struct credit credit;
	enum cursor_overflow overflow;
	bool is_there, is_over, has_end, was_stalled;
	uint64_t first; /* offset that came first */
	uint64_t next;	/* offset that must come next */
	uint64_t start; /* of the record at hand */
	uint64_t body;	/* bytes of it that came */
	bool is_open;
	unsigned n_records;
};

static struct {
	struct random random;
	struct framing framing;
	uint8_t stream[STREAM_MAX];
	uint64_t total;
	struct record records[STREAM_MAX + 1];
	size_t n_records;
	uint64_t bad; /* offset of a header that is none; UINT64_MAX: there is none */
	struct cursor_view view;
	struct record_index index;
	struct reader readers[READERS];
	uint64_t seed;
	int step;
} m;

#define check(condition) cr_assert(condition, "seed %lu step %d: %s", m.seed, m.step, #condition)

static uint64_t roll(uint64_t n)
{
	return random_below(&m.random, n);
}

/* --- the stream, and the plain cutter -------------------------------------------------------- */

static void make_lines(void)
{
	uint64_t mean = 1 + roll(roll(2) ? 10 : 400);

	for (m.total = 0; m.total < STREAM_MAX - roll(STREAM_MAX); m.total++)
		m.stream[m.total] = roll(mean) ? (uint8_t)roll(3) + '\r' : '\n';
}

static void put_length(uint64_t length)
{
	for (uint32_t i = m.framing.header; i-- > 0;)
		m.stream[m.total++] = (uint8_t)(length >> 8 * i);
}

static void make_packets(void)
{
	uint64_t mean = 1 + roll(roll(2) ? 10 : 700), cut_off = roll(3) ? 0 : roll(12);

	m.total = 0;
	while (roll(300) && m.total < STREAM_MAX - 1000) {
		uint64_t length = roll(mean);

		length = MIN(length, m.framing.maximum);
		put_length(length);
		for (; length; length--)
			m.stream[m.total++] = (uint8_t)roll(256);
	}
	if (m.framing.header > 1 && roll(4) == 0)
		put_length(m.framing.maximum + 1);
	m.total -= MIN(cut_off, m.total);
}

static void add(uint64_t start, uint64_t body, uint64_t size, uint64_t end, enum framing_record how)
{
	m.records[m.n_records++] = (struct record){ start, body, size, end, how };
}

static uint64_t cut_line(uint64_t at)
{
	uint64_t n = 0;

	while (at + n < m.total && m.stream[at + n] != '\n' && n <= m.framing.maximum)
		n++;
	if (n > m.framing.maximum)
		add(at, at, n - 1, at + n - 1, FRAMING_CUT);
	else if (at + n == m.total)
		add(at, at, n, at + n, FRAMING_UNTERMINATED);
	else
		add(at, at, n, at + n + 1, FRAMING_END);
	return m.records[m.n_records - 1].end;
}

static uint64_t cut_packet(uint64_t at)
{
	uint64_t body = at + m.framing.header, length;

	if (body > m.total) {
		add(at, m.total, 0, m.total, FRAMING_UNTERMINATED);
		return m.total;
	}
	length = record_length(m.stream + at, m.framing.header);
	if (length > m.framing.maximum) {
		m.bad = at;
		return m.total;
	}
	if (body + length > m.total)
		add(at, body, m.total - body, m.total, FRAMING_UNTERMINATED);
	else
		add(at, body, length, body + length, FRAMING_END);
	return m.records[m.n_records - 1].end;
}

static void cut_all(void)
{
	uint64_t at = 0;

	m.bad = UINT64_MAX;
	while (at < m.total)
		at = m.framing.cut == FRAMING_LINES ? cut_line(at) : cut_packet(at);
}

static const struct record *record_at(uint64_t start)
{
	for (size_t i = 0; i < m.n_records; i++)
		if (m.records[i].start == start)
			return &m.records[i];
	return NULL;
}

/* --- what a client checks -------------------------------------------------------------------- */

static void record_begins(struct reader *r, uint64_t offset)
{
	check(record_at(offset) || offset == m.bad);
	r->is_open = true;
	r->start = offset;
	r->body = 0;
}

static void record_ends(struct reader *r, enum framing_record how)
{
	const struct record *record = record_at(r->start);

	check(record != NULL);
	check(record->how == how);
	check(record->size == r->body);
	check(record->end == r->next);
	r->is_open = false;
	r->n_records++;
}

static void got_data(struct reader *r, const struct cursor_step *s)
{
	bool begins = !r->is_open;

	if (begins)
		record_begins(r, s->offset);
	check(s->size <= OUTPUT_MAX && s->before <= 4 && s->after <= 1);
	check(s->before == 0 || begins);
	check(s->record != FRAMING_PART || s->before + s->size > 0);
	check(s->after == 0 || (s->record == FRAMING_END && m.framing.cut == FRAMING_LINES));
	check(s->offset >= m.view.tail);
	r->next += (uint64_t)s->before + s->size + s->after;
	check(r->next <= m.view.head);
	check(!s->size || record_at(r->start)->body + r->body == s->offset + s->before);
	r->body += s->size;
	if (s->record != FRAMING_PART)
		record_ends(r, s->record);
}

static void got_gap(struct reader *r, const struct cursor_step *s)
{
	check(s->end > s->offset || s->cause == CURSOR_GAP_ABANDONED);
	check(s->aborts == r->is_open);
	check(s->cause == CURSOR_GAP_BEFORE_LOG || s->cause == CURSOR_GAP_ABANDONED ||
	      r->overflow == CURSOR_MAY_DROP || r->was_stalled);
	r->is_open = false;
	r->next = s->end;
	check(s->is_lost || s->cause == CURSOR_GAP_ABANDONED || record_at(s->end) ||
	      s->end == m.bad || s->end == m.total);
}

static bool do_send(struct reader *r)
{
	struct cursor_step s;
	bool waits = r->cursor.offset < m.view.head;

	if (!r->is_there || r->is_over)
		return false;
	m.view.data_max = roll(3) ? 1 + (uint32_t)roll(roll(2) ? 9 : 300) : 0;
	cursor_next(&r->cursor, &m.view, &r->credit, &s);
	switch (s.what) {
	case CURSOR_NOTHING:
		check(r->has_end || !m.view.is_ended);
		check(!waits || cursor_room(&r->cursor, m.view.head, m.view.size) > 0);
		return false;
	case CURSOR_NO_CREDIT:
		check(r->credit.is_limited && r->credit.left <= EVENT_CREDIT);
		return false;
	case CURSOR_CANCEL:
		check(r->overflow == CURSOR_MAY_CANCEL || !m.view.index);
		r->is_over = true;
		return true;
	case CURSOR_BAD:
		check(s.end == m.bad);
		r->is_over = true;
		return true;
	default:
		break;
	}
	check(s.offset == r->next && !r->has_end);
	if (s.what == CURSOR_DATA)
		got_data(r, &s);
	else if (s.what == CURSOR_GAP)
		got_gap(r, &s);
	else
		check(!r->is_open);
	r->has_end = s.what == CURSOR_END;
	cursor_sent(&r->cursor, &s, &r->credit);
	return true;
}

/* --- what happens ---------------------------------------------------------------------------- */

static void do_write(void)
{
	uint64_t size = 1 + roll(roll(2) ? m.view.size / 2 : 5), room = UINT64_MAX;

	for (size_t i = 0; i < READERS; i++)
		if (m.readers[i].is_there && !m.readers[i].is_over)
			room = MIN(room,
				   cursor_room(&m.readers[i].cursor, m.view.head, m.view.size));
	size = MIN(MIN(size, room), MIN(m.total - m.view.head, m.view.size / 2));
	m.view.head += size;
	if (m.view.head - m.view.tail > m.view.size)
		m.view.tail = m.view.head - m.view.size;
	m.view.data = m.stream + m.view.tail;
	if (m.view.index)
		record_index_feed(&m.index, m.stream + m.index.next, m.view.head);
}

static bool all_is_written(void)
{
	return m.view.head == m.total;
}

static uint64_t offset_for(enum cursor_from from)
{
	size_t i = roll(m.n_records + 1);
	uint64_t back = roll(200);

	if (from == CURSOR_FROM_NOW)
		return m.view.head;
	if (from == CURSOR_FROM_LAST_BYTES)
		return m.view.head - MIN(back, m.view.head);
	if (from == CURSOR_FROM_OFFSET && i < m.n_records && m.records[i].start <= m.view.head)
		return m.records[i].start;
	return 0;
}

static void do_subscribe(struct reader *r)
{
	enum cursor_from from = (enum cursor_from)roll(CURSOR_FROM_LAST_LINES);
	uint64_t wanted = offset_for(from);

	if (r->is_there)
		return;
	memset(r, 0, sizeof(*r));
	r->overflow = (enum cursor_overflow)(CURSOR_MAY_BLOCK + roll(3));
	r->credit.is_limited = roll(4) > 0;
	cursor_init(&r->cursor, wanted, r->overflow, m.view.tail);
	if (cursor_frame(&r->cursor, &m.framing, &m.view, from)) {
		check(m.framing.cut == FRAMING_PACKETS && !m.view.index && m.view.tail + wanted);
		return;
	}
	r->is_there = true;
	r->first = r->next = r->cursor.offset;
	check(r->next <= m.view.head);
	check(from != CURSOR_FROM_BEGINNING && from != CURSOR_FROM_OFFSET ? true
									  : r->next == wanted);
	check(from != CURSOR_FROM_LAST_BYTES || r->next >= wanted);
}

static void do_end(void)
{
	m.view.is_ended = true;
	m.view.is_abandoned = roll(3) == 0;
	m.view.abandoned = roll(5);
	if (m.view.is_abandoned) /* then the last record may well not be what the cutter made */
		m.view.head = m.total;
}

static void one_step(void)
{
	struct reader *r = &m.readers[roll(READERS)];

	switch (roll(8)) {
	case 0:
	case 1:
		do_write();
		break;
	case 2:
	case 3:
	case 4:
		do_send(r);
		break;
	case 5:
	case 6:
		credit_add(&r->credit, roll(EVENT_CREDIT + 60));
		break;
	default:
		if (roll(10) == 0)
			do_subscribe(r);
		if (roll(400) == 0 && r->is_there && r->overflow == CURSOR_MAY_BLOCK) {
			cursor_stall(&r->cursor);
			r->was_stalled = true;
		}
	}
}

static bool is_through(const struct reader *r)
{
	return !r->is_there || r->is_over || r->has_end;
}

/* With a drip of credit everybody comes to the end, writer included. */
static void finish(void)
{
	for (int turn = 0; turn < 200000; turn++, m.step++) {
		bool all = true;

		do_write();
		if (all_is_written() && !m.view.is_ended)
			do_end();
		for (size_t i = 0; i < READERS; i++) {
			credit_add(&m.readers[i].credit, 1 + roll(90));
			do_send(&m.readers[i]);
			all = all && is_through(&m.readers[i]);
		}
		if (all && m.view.is_ended)
			return;
	}
	check(!"wedged");
}

static void make(uint64_t seed)
{
	memset(&m, 0, sizeof(m));
	m.seed = m.random.state = seed;
	m.framing.cut = roll(2) ? FRAMING_LINES : FRAMING_PACKETS;
	m.framing.header = m.framing.cut == FRAMING_PACKETS ? 1u << roll(3) : 0;
	m.framing.maximum = 1 + (uint32_t)roll(roll(2) ? 12 : 600);
	if (m.framing.header == 1)
		m.framing.maximum = MIN(m.framing.maximum, 255u);
	m.view.size = (roll(2) ? 256u : 16u) << roll(3);
	if (m.framing.cut == FRAMING_LINES)
		make_lines();
	else
		make_packets();
	cut_all();
	if (m.framing.cut == FRAMING_PACKETS && m.view.size >= RECORD_SEGMENTS && roll(4)) {
		record_index_init(&m.index, m.view.size, m.framing.header, m.framing.maximum);
		m.view.index = &m.index;
	}
	m.view.data = m.stream;
}

static void run(uint64_t seed)
{
	make(seed);
	for (m.step = 0; m.step < 3000; m.step++)
		one_step();
	finish();
	for (size_t i = 0; i < READERS; i++) {
		const struct reader *r = &m.readers[i];

		check(!r->has_end ||
		      r->next == m.total + (m.view.is_abandoned ? m.view.abandoned : 0));
		check(!r->has_end || m.bad == UINT64_MAX || r->first > m.bad || r->cursor.skipped);
	}
}

Test(framing_model, P1_S35_any_sizes_give_the_same_records_and_nothing_wedges)
{
	for (uint64_t seed = 1; seed <= 1500; seed++)
		run(seed);
}

/* A reader that is served after every read is never overtaken for waiting. */
Test(framing_model, P7_waiting_for_the_rest_of_a_record_costs_no_byte)
{
	for (uint64_t seed = 1; seed <= 400; seed++) {
		struct reader *r = &m.readers[0];

		make(seed);
		r->is_there = true;
		r->overflow = CURSOR_MAY_DROP;
		cursor_init(&r->cursor, 0, r->overflow, 0);
		cr_assert_eq(cursor_frame(&r->cursor, &m.framing, &m.view, CURSOR_FROM_BEGINNING),
			     0);
		while (!is_through(r)) {
			do_write();
			m.view.is_ended = all_is_written();
			while (do_send(r))
				;
		}
		check(r->cursor.skipped == 0);
		check(r->n_records == m.n_records);
	}
}
