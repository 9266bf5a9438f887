/* Credit and windows under random interleavings of a writer, clients that give credit, and sending.
 * A subscription has several cursors (streams) and one credit. Whatever the order, every byte is
 * told once, as data or in a gap, in order; the end comes once; credit is never overdrawn; and when
 * credit keeps coming nothing ever wedges. Windows are tiny: a log of a few bytes, credit that
 * hardly pays for one event. */
#include "broker/cursor.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "tests/lib/random.h"

TestSuite(cursor_model, .timeout = 60);

#define STREAMS	    3u
#define SUBSCRIBERS 4u

struct reader {
	struct cursor cursors[STREAMS];
	uint64_t next[STREAMS]; /* offset that must be told next */
	bool has_end[STREAMS];
	uint64_t data, gaps; /* bytes */
	struct credit credit;
	uint64_t given, spent;
	enum cursor_overflow overflow; /* as it began */
	bool was_stalled, is_cancelled, is_there;
};

static struct {
	struct random random;
	struct cursor_view streams[STREAMS];
	uint32_t size; /* of each log */
	struct reader readers[SUBSCRIBERS];
	uint64_t seed;
	int step;
} m;

#define check(condition) cr_assert(condition, "seed %lu step %d: %s", m.seed, m.step, #condition)

static uint64_t roll(uint64_t n)
{
	return random_below(&m.random, n);
}

static uint64_t room_of(size_t stream)
{
	uint64_t room = UINT64_MAX, most = UINT64_MAX;

	for (size_t i = 0; i < SUBSCRIBERS; i++) {
		const struct reader *r = &m.readers[i];

		if (r->is_there && !r->is_cancelled)
			most = cursor_room(&r->cursors[stream], m.streams[stream].head, m.size);
		room = MIN(room, most);
	}
	return room;
}

static void do_write(size_t stream)
{
	struct cursor_view *v = &m.streams[stream];
	uint64_t size = roll(m.size + 1), room = room_of(stream);

	if (v->is_ended)
		return;
	size = MIN(size, room);
	v->head += size;
	if (v->head - v->tail > m.size)
		v->tail = v->head - m.size;
}

static void do_subscribe(struct reader *r)
{
	if (r->is_there)
		return;
	memset(r, 0, sizeof(*r));
	r->is_there = true;
	r->overflow = (enum cursor_overflow)(CURSOR_MAY_BLOCK + roll(3));
	r->credit.is_limited = roll(4) > 0;
	for (size_t i = 0; i < STREAMS; i++) {
		r->next[i] = roll(2) ? 0 : roll(m.streams[i].head + 1);
		cursor_init(&r->cursors[i], r->next[i], r->overflow, m.streams[i].tail);
	}
}

/* Of the whole stream: with what was left in the pipe. */
static uint64_t total_of(const struct cursor_view *v)
{
	return v->head + (v->is_abandoned ? v->abandoned : 0);
}

static void got_gap(struct reader *r, size_t stream, const struct cursor_step *s)
{
	const struct cursor_view *v = &m.streams[stream];

	r->gaps += s->end - s->offset;
	switch (s->cause) {
	case CURSOR_GAP_BEFORE_LOG:
		check(s->end <= v->tail && s->end > s->offset);
		break;
	case CURSOR_GAP_SLOW:
		check(r->overflow != CURSOR_MAY_CANCEL);
		check(r->overflow != CURSOR_MAY_BLOCK || r->was_stalled);
		check(s->end == v->tail && s->end > s->offset);
		break;
	case CURSOR_GAP_STALLED:
		check(r->was_stalled && s->end == v->tail && s->end > s->offset);
		break;
	case CURSOR_GAP_ABANDONED:
		check(v->is_abandoned && s->offset == v->head);
		check(s->end == v->head + v->abandoned);
		break;
	}
	r->next[stream] = s->end;
}

/* What a client checks of each event. */
static void got(struct reader *r, size_t stream, const struct cursor_step *s)
{
	const struct cursor_view *v = &m.streams[stream];

	check(!r->has_end[stream] && s->offset == r->next[stream]);
	if (s->what == CURSOR_DATA) {
		check(s->size > 0 && s->size <= OUTPUT_MAX);
		check(s->offset >= v->tail && s->offset + s->size <= v->head);
		r->next[stream] += s->size;
		r->data += s->size;
	} else if (s->what == CURSOR_GAP) {
		got_gap(r, stream, s);
	} else {
		check(s->what == CURSOR_END && v->is_ended);
		check(s->offset == total_of(v));
		r->has_end[stream] = true;
	}
	r->spent += s->cost;
	check(!r->credit.is_limited || r->spent <= r->given);
}

/* One event. False: nothing could be sent. */
static bool do_send(struct reader *r, size_t stream)
{
	struct cursor_step s;

	if (!r->is_there || r->is_cancelled)
		return false;
	m.streams[stream].data_max = roll(3) ? (uint32_t)roll(6) : 0;
	cursor_next(&r->cursors[stream], &m.streams[stream], &r->credit, &s);
	switch (s.what) {
	case CURSOR_NOTHING:
		check(r->has_end[stream] || !m.streams[stream].is_ended);
		check(r->has_end[stream] || r->next[stream] == m.streams[stream].head);
		return false;
	case CURSOR_NO_CREDIT:
		check(r->credit.is_limited && r->credit.left <= EVENT_CREDIT);
		return false;
	case CURSOR_CANCEL:
		check(r->overflow == CURSOR_MAY_CANCEL);
		check(r->next[stream] < m.streams[stream].tail);
		r->is_cancelled = true;
		return true;
	default:
		got(r, stream, &s);
		cursor_sent(&r->cursors[stream], &s, &r->credit);
		check(!r->credit.is_limited || r->credit.left == r->given - r->spent);
		return true;
	}
}

static void do_credit(struct reader *r, uint64_t bytes)
{
	credit_add(&r->credit, bytes);
	r->given += bytes;
}

static void do_stall(struct reader *r)
{
	if (r->overflow != CURSOR_MAY_BLOCK || !r->is_there)
		return;
	for (size_t i = 0; i < STREAMS; i++)
		cursor_stall(&r->cursors[i]);
	r->was_stalled = true;
}

static void do_end(size_t stream)
{
	struct cursor_view *v = &m.streams[stream];

	if (v->is_ended)
		return;
	v->is_ended = true;
	v->is_abandoned = roll(3) == 0;
	v->abandoned = roll(5);
}

static void one_step(void)
{
	struct reader *r = &m.readers[roll(SUBSCRIBERS)];
	size_t stream = roll(STREAMS);

	switch (roll(10)) {
	case 0:
	case 1:
	case 2:
		do_write(stream);
		break;
	case 3:
	case 4:
	case 5:
		do_send(r, stream);
		break;
	case 6:
	case 7:
		do_credit(r, roll(EVENT_CREDIT + 20));
		break;
	case 8:
		do_subscribe(r);
		break;
	default:
		if (roll(100) == 0)
			do_stall(r);
		if (roll(300) == 0)
			do_end(stream);
	}
}

static bool is_through(const struct reader *r)
{
	if (!r->is_there || r->is_cancelled)
		return true;
	for (size_t i = 0; i < STREAMS; i++)
		if (!r->has_end[i])
			return false;
	return true;
}

/* With a drip of credit everybody comes to the end, writer included. */
static void finish(void)
{
	uint64_t before[STREAMS];

	for (size_t i = 0; i < STREAMS; i++)
		before[i] = m.streams[i].head;
	for (int turn = 0; turn < 20000; turn++, m.step++) {
		bool all = true;

		for (size_t i = 0; i < STREAMS; i++) {
			if (!m.streams[i].is_ended && m.streams[i].head > before[i] + 3 * m.size)
				do_end(i);
			do_write(i);
		}
		for (size_t i = 0; i < SUBSCRIBERS; i++) {
			do_credit(&m.readers[i], 1 + roll(70));
			do_send(&m.readers[i], roll(STREAMS));
			all = all && is_through(&m.readers[i]);
		}
		for (size_t i = 0; i < STREAMS; i++)
			all = all && m.streams[i].is_ended;
		if (all)
			return;
	}
	check(!"wedged");
}

static void run(uint64_t seed)
{
	memset(&m, 0, sizeof(m));
	m.seed = m.random.state = seed;
	m.size = 1 + (uint32_t)roll(roll(2) ? 8 : 300);
	for (m.step = 0; m.step < 2000; m.step++)
		one_step();
	finish();
	for (size_t i = 0; i < SUBSCRIBERS; i++) {
		const struct reader *r = &m.readers[i];
		uint64_t skipped = 0;

		for (size_t k = 0; k < STREAMS; k++) {
			skipped += r->cursors[k].skipped;
			check(r->is_cancelled || !r->is_there ||
			      r->next[k] == total_of(&m.streams[k]));
		}
		check(skipped == r->gaps);
	}
}

Test(cursor_model, P1_P7_tiny_windows_never_wedge_and_lose_or_double_nothing)
{
	for (uint64_t seed = 1; seed <= 1500; seed++)
		run(seed);
}
