/* The input queue against a model that does everything the slow and plain way: an array of writes
 * and one flat pipe. */
#include "broker/input.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/random.h"

TestSuite(input_model, .timeout = 60);

#define STEPS	  20000
#define PIPE_SIZE (STEPS * 64u)
#define BOUND	  400u
#define HIGH	  120u
#define LOW	  60u

struct write {
	struct input_item *item;
	uint64_t promised; /* pinned: the offset */
	size_t size;
	uint8_t fill;
	bool is_pinned;
};

static struct {
	struct input in;
	struct random random;
	struct write writes[5000]; /* in order; the first one is the oldest not done */
	size_t n;
	uint8_t *pipe;
	uint64_t written;
	bool is_busy;
	uint64_t seed;
	int step;
	unsigned int n_done, n_displaced, n_cancelled;
} m;

#define check(condition) cr_assert(condition, "seed %lu step %d: %s", m.seed, m.step, #condition)

static uint64_t queued(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m.n; i++)
		sum += m.writes[i].size - m.writes[i].item->done;
	return sum;
}

static uint64_t offset_of(size_t index)
{
	uint64_t offset = m.written;

	for (size_t i = 0; i <= index; i++)
		offset -= m.writes[i].item->done;
	for (size_t i = 0; i < index; i++)
		offset += m.writes[i].size;
	for (size_t i = index + 1; i < m.n; i++)
		check(m.writes[i].item->done == 0 ||
		      m.writes[i - 1].item->done == m.writes[i - 1].size);
	return offset;
}

static void forget(size_t index)
{
	memmove(&m.writes[index], &m.writes[index + 1], (m.n - index - 1) * sizeof(m.writes[0]));
	m.n--;
}

static void mark(void)
{
	if (queued() >= HIGH)
		m.is_busy = true;
	else if (queued() < LOW)
		m.is_busy = false;
}

static void do_push(void)
{
	uint8_t data[600];
	size_t size = random_below(&m.random, random_chance(&m.random, 20) ? 600 : 40);
	uint64_t accepted = m.written + queued();
	bool pinned = random_chance(&m.random, 3);
	unsigned int flags = pinned ? INPUT_PINNED : 0;
	struct write w = { .size = size, .is_pinned = pinned, .promised = accepted };
	bool fits = queued() == 0 || queued() + size <= BOUND || size == 0;
	int r;

	if (random_chance(&m.random, 4))
		flags |= INPUT_NO_WAIT | (random_chance(&m.random, 3) ? INPUT_FORCE : 0);
	w.fill = (uint8_t)random_next(&m.random);
	memset(data, w.fill, size);
	r = input_push(&m.in, data, size, flags, NULL, &w.item);
	if ((flags & INPUT_NO_WAIT) && !(flags & INPUT_FORCE) && m.is_busy) {
		check(r == INPUT_E_BUSY);
		return;
	}
	check(r == (fits ? 0 : INPUT_E_FULL));
	if (r == 0)
		m.writes[m.n++] = w;
	mark();
}

static void do_write(void)
{
	struct iovec iov[5];
	int n = input_iov(&m.in, iov, 5);
	size_t all = 0, some, left;

	for (int i = 0; i < n; i++) {
		check(iov[i].iov_len > 0);
		all += iov[i].iov_len;
	}
	check(all > 0 || queued() == 0);
	some = left = random_below(&m.random, all + 1);
	for (int i = 0; i < n && left; i++) {
		size_t piece = MIN(left, iov[i].iov_len);

		memcpy(m.pipe + m.written + some - left, iov[i].iov_base, piece);
		left -= piece;
	}
	input_wrote(&m.in, some);
	m.written += some;
	mark();
}

static void do_drain(void)
{
	struct input_item *item;

	while ((item = input_next_done(&m.in))) {
		const struct write *w = &m.writes[0];

		check(m.n > 0 && w->item == item && item->done == item->size);
		check(item->size == w->size && (!w->is_pinned || item->offset == w->promised));
		check(item->offset + item->size <= m.written);
		for (size_t i = 0; i < w->size; i++)
			check(m.pipe[item->offset + i] == w->fill);
		forget(0);
		input_item_free(item);
		m.n_done++;
	}
	check(m.n == 0 || m.writes[0].item->done < m.writes[0].size);
}

static void expect_displaced(size_t from)
{
	for (size_t i = from; i < m.n;) {
		struct input_item *item;

		if (!m.writes[i].is_pinned) {
			i++;
			continue;
		}
		item = input_next_displaced(&m.in);
		check(item && item == m.writes[i].item && item->done == 0);
		forget(i);
		input_item_free(item);
		m.n_displaced++;
	}
	check(input_next_displaced(&m.in) == NULL);
}

static void do_cancel(void)
{
	size_t i, size;
	bool started;
	int r;

	if (m.n == 0)
		return;
	i = random_below(&m.random, m.n);
	started = m.writes[i].item->done > 0;
	size = m.writes[i].size;
	r = input_cancel(&m.in, m.writes[i].item);
	check(r == (started ? INPUT_E_STARTED : 0));
	if (r)
		return;
	input_item_free(m.writes[i].item);
	forget(i);
	if (size)
		expect_displaced(i);
	m.n_cancelled++;
	mark();
}

static void do_echo(void)
{
	uint64_t offset = random_below(&m.random, m.written + queued() + 3);
	size_t i, size = 1 + random_below(&m.random, 30);
	enum input_offset what = input_check_offset(&m.in, offset, size);
	uint64_t end = offset + size, accepted = m.written + queued();
	struct write w = { .is_pinned = true };

	if (end > accepted)
		check(what == (offset <= accepted ? INPUT_OFFSET_NEXT : INPUT_OFFSET_WRONG));
	else
		check(what == (end <= m.written ? INPUT_OFFSET_WRITTEN : INPUT_OFFSET_PENDING));
	if (what != INPUT_OFFSET_PENDING)
		return;
	check(input_push_echo(&m.in, offset, size, NULL, &w.item) == 0);
	for (i = 0; offset_of(i) + m.writes[i].size < end; i++)
		;
	w.promised = offset_of(i) + m.writes[i].size;
	memmove(&m.writes[i + 2], &m.writes[i + 1], (m.n - i - 1) * sizeof(m.writes[0]));
	m.writes[i + 1] = w;
	m.n++;
}

static void do_look(void)
{
	check(input_queued(&m.in) == queued());
	check(input_offset(&m.in) == m.written);
	check(input_is_busy(&m.in) == m.is_busy);
	check(input_waiting(&m.in) == m.n);
	for (size_t i = 0; i < m.n; i++)
		check(m.writes[i].item->offset == offset_of(i));
}

static void run(uint64_t seed)
{
	memset(&m, 0, sizeof(m));
	m.seed = m.random.state = seed;
	m.pipe = malloc(PIPE_SIZE);
	input_init(&m.in, HIGH, LOW, BOUND);
	for (m.step = 0; m.step < STEPS; m.step++) {
		switch (random_below(&m.random, 8)) {
		case 0:
		case 1:
		case 2:
			do_push();
			break;
		case 3:
		case 4:
			do_write();
			break;
		case 5:
			do_cancel();
			break;
		case 6:
			do_echo();
			break;
		default:
			do_look();
		}
		do_drain();
	}
	input_deinit(&m.in, NULL, NULL);
	free(m.pipe);
	check(m.n_done > STEPS / 20 && m.n_displaced > STEPS / 200);
	check(m.n_cancelled > STEPS / 200);
}

Test(input_model, P9_every_write_is_whole_in_order_and_where_it_was_said_to_be)
{
	for (uint64_t seed = 1; seed <= 10; seed++)
		run(seed);
}
