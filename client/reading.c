/* Owns a subscription's maps. A subscription is on r->awake while its logs may hold something that
 * was not read; else it sleeps, which its control page says, and the broker's Moved wakes it.
 *
 * Where the broker may overwrite what we are at (DROP, CANCEL, a BLOCK that can stall), bytes are
 * copied first, looked at again, and only then shown. Where it may not (BLOCK) the callback sees
 * the log itself; the position is published when it has returned.
 *
 * Credit does not exist on this way; in MANUAL mode it is counted here, so that a program finds
 * what it is used to.
 */
#include "client/reading.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/subscribe.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/codec.h"
#include "proto/shared.h"
#include "proto/shared_map.h"

#define SHARE KIB(256) /* of one subscription, before another's turn */

struct reading_stream {
	struct shared_view view;
	uint32_t header_size;
	uint32_t stream;
	uint64_t position;
	uint64_t oldest; /* of the log when the subscription was made */
	bool told_stalled;
};

struct reading {
	struct shared_control *control;
	bool copies;
	uint32_t overflow; /* when it began */
	bool is_over;	   /* overtaken, and that ends it (CANCEL) */
	bool is_limited;
	uint64_t credit; /* if is_limited */
	unsigned turn;	 /* the stream that is looked at first */
	size_t n;
	struct reading_stream streams[REDD_STREAMS_MAX];
};

/* --- mapping --------------------------------------------------------------------------------- */

void doors_close(struct redd *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fd_close(r->doors[i]);
	r->n_doors -= n;
	for (size_t i = 0; i < r->n_doors; i++)
		r->doors[i] = r->doors[n + i];
}

/* The file is ours to trust in its size: it cannot shrink under the map. */
static bool size_is_sealed(int fd, uint64_t *ret_size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0)
		return false;
	*ret_size = (uint64_t)st.st_size;
	return true;
}

static bool control_map(struct redd_subscription *s, int fd, size_t n)
{
	struct shared_control *c;
	uint64_t size;

	if (!size_is_sealed(fd, &size) || size != SHARED_CONTROL_SIZE)
		return false;
	c = mmap(NULL, SHARED_CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED)
		return false;
	s->reading->control = c;
	return c->magic == SHARED_CONTROL_MAGIC && c->layout == SHARED_LAYOUT &&
	       c->subscription == s->id && c->n_readers == n;
}

static bool log_map(struct reading_stream *st, int fd)
{
	struct shared_log log;
	uint64_t file_size;
	uint32_t size;
	uint8_t *base;

	if (!size_is_sealed(fd, &file_size) ||
	    pread(fd, &log, sizeof(log), 0) != (ssize_t)sizeof(log) ||
	    !shared_log_is_sound(&log, file_size, &size) ||
	    shared_map(fd, log.header_size, size, false, &base) < 0)
		return false;
	st->header_size = log.header_size;
	st->view = (struct shared_view){ .log = (const struct shared_log *)base,
					 .data = base + log.header_size,
					 .size = size };
	return true;
}

static bool reading_map(struct redd_subscription *s, const Redd__V1__Subscribed *wire)
{
	struct reading *g = s->reading;

	if (wire->shared->layout != SHARED_LAYOUT || wire->n_starts > REDD_STREAMS_MAX ||
	    wire->shared->n_oldest != wire->n_starts || s->r->n_doors < 1 + wire->n_starts ||
	    !control_map(s, s->r->doors[0], wire->n_starts))
		return false;
	for (; g->n < wire->n_starts; g->n++) {
		struct reading_stream *st = &g->streams[g->n];

		st->stream = wire->starts[g->n]->stream;
		st->position = wire->starts[g->n]->offset;
		st->oldest = wire->shared->oldest[g->n];
		if (!log_map(st, s->r->doors[1 + g->n]))
			return false;
	}
	g->overflow = g->control->overflow;
	g->copies = g->overflow != REDD_BLOCK || s->stall_ms;
	if (g->copies && !s->r->copy)
		s->r->copy = aligned_alloc(KIB(4), OUTPUT_MAX);
	return !g->copies || s->r->copy;
}

void reading_begin(struct redd_subscription *s, const Redd__V1__Subscribed *wire)
{
	bool is_mapped = false;

	s->reading = s->state == SUBSCRIPTION_LIVE ? calloc(1, sizeof(*s->reading)) : NULL;
	if (s->reading) {
		s->reading->is_limited = s->credit_mode == REDD_CREDIT_MANUAL;
		s->reading->credit = s->window;
		is_mapped = reading_map(s, wire);
	}
	doors_close(s->r, MIN(s->r->n_doors, 1 + wire->n_starts));
	s->is_shared = is_mapped;
	if (is_mapped) {
		list_append(&s->r->awake, &s->awake);
		return;
	}
	reading_end(s);
	if (s->state != SUBSCRIPTION_LIVE)
		return;
	s->owed = 1; /* a Credit that is not 0: by the socket, please */
	list_append(&s->r->owing, &s->owing);
}

void reading_end(struct redd_subscription *s)
{
	struct reading *g = s->reading;

	list_remove(&s->awake);
	s->reading = NULL;
	if (!g)
		return;
	for (size_t i = 0; i < g->n; i++)
		shared_unmap((void *)g->streams[i].view.log, g->streams[i].header_size,
			     g->streams[i].view.size);
	if (g->control)
		munmap(g->control, SHARED_CONTROL_SIZE);
	free(g);
}

/* --- telling --------------------------------------------------------------------------------- */

/* The broker waits to hear that we have moved: Credit of 0. */
static void reading_tell(struct redd_subscription *s)
{
	if (!list_is_linked(&s->owing))
		list_append(&s->r->owing, &s->owing);
}

static void tell_gap(struct redd_subscription *s, const struct reading_stream *st, uint64_t end,
		     enum redd_gap_cause cause)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Gap gap = REDD__V1__GAP__INIT;

	gap.subscription = s->id;
	gap.stream = st->stream;
	gap.offset = st->position;
	gap.end = end;
	gap.cause = (Redd__V1__Gap__Cause)cause;
	m.body_case = REDD__V1__MESSAGE__BODY_GAP;
	m.gap = &gap;
	subscription_event(s->r, &m);
}

static void tell_output(struct redd_subscription *s, const struct reading_stream *st,
			const struct shared_step *step)
{
	struct codec_output o = { .subscription = s->id,
				  .port = s->port->id,
				  .stream = st->stream,
				  .offset = st->position,
				  .consumed = step->size,
				  .record = CODEC_RECORD_NONE,
				  .size = step->size };

	subscription_output(s->r, &o, step->data);
}

/* What was shown is the broker's again. */
static void reading_move(struct redd_subscription *s, size_t i, uint64_t to)
{
	struct reading_stream *st = &s->reading->streams[i];
	uint64_t before = st->position;

	st->position = to;
	if (shared_move(&st->view, &s->reading->control->readers[i], before, to))
		reading_tell(s);
}

/* --- reading --------------------------------------------------------------------------------- */

static void reading_spend(struct reading *g, size_t size)
{
	if (g->is_limited)
		g->credit -= size + EVENT_CREDIT;
}

/* Most that one event may show; 0: none may be shown. */
static size_t reading_room(const struct reading *g)
{
	if (!g->is_limited)
		return OUTPUT_MAX;
	return g->credit > EVENT_CREDIT ? (size_t)MIN(g->credit - EVENT_CREDIT, OUTPUT_MAX) : 0;
}

static enum redd_gap_cause overtaken_by(struct reading *g, struct reading_stream *st)
{
	bool has_stalled = g->overflow == REDD_BLOCK && !st->told_stalled;

	st->told_stalled |= has_stalled;
	return has_stalled ? REDD_GAP_STALLED : REDD_GAP_SLOW;
}

/* CANCEL: the broker has seen it too, or is told. */
static bool read_overtaken(struct redd_subscription *s)
{
	__atomic_store_n(&s->reading->control->overtaken, 1, __ATOMIC_RELEASE);
	s->reading->is_over = true;
	reading_tell(s);
	return false;
}

/* False: this ends it. */
static bool read_gap(struct redd_subscription *s, size_t i, uint64_t end)
{
	struct reading *g = s->reading;
	struct reading_stream *st = &g->streams[i];
	struct shared_reader *page = &g->control->readers[i];
	enum redd_gap_cause cause = REDD_GAP_BEFORE_LOG;

	if (st->position < st->oldest)
		end = st->oldest;
	else if (g->overflow == REDD_CANCEL)
		return read_overtaken(s);
	else
		cause = overtaken_by(g, st);
	reading_spend(g, 0);
	shared_store(&page->skipped, page->skipped + end - st->position);
	tell_gap(s, st, end, cause);
	if (subscription_is_fed(s))
		reading_move(s, i, end);
	return true;
}

/* One event of a stream. Returns the bytes it took of the turn, 0: there is nothing now. */
static size_t read_stream(struct redd_subscription *s, size_t i)
{
	struct reading *g = s->reading;
	struct reading_stream *st = &g->streams[i];
	struct shared_step step;

	shared_next(&st->view, st->position, reading_room(g), g->copies ? s->r->copy : NULL, &step);
	switch (step.what) {
	case SHARED_DATA:
		reading_spend(g, step.size);
		tell_output(s, st, &step);
		if (subscription_is_fed(s))
			reading_move(s, i, st->position + step.size);
		return step.size + EVENT_CREDIT;
	case SHARED_GAP:
		return read_gap(s, i, step.end) ? EVENT_CREDIT : 0;
	default:
		return 0;
	}
}

/* True when it sleeps, or has to be let on by the program; false: there is more. */
static bool reading_sleeps(struct redd_subscription *s)
{
	struct reading *g = s->reading;

	if (g->is_over || !reading_room(g))
		return true;
	for (size_t i = 0; i < g->n; i++)
		if (!shared_sleep(&g->streams[i].view, &g->control->readers[i],
				  g->streams[i].position))
			return false; /* a wake-up for one that sleeps already does no harm */
	return true;
}

/* Reads up to `share` of all streams in turn. False: there is nothing more just now. */
static bool reading_take(struct redd_subscription *s, size_t share)
{
	struct reading *g = s->reading;
	size_t taken = 0, idle = 0;

	while (taken < share && idle < g->n) {
		size_t n = 0, i = g->turn++ % g->n;

		if (!g->is_over && reading_room(g))
			n = read_stream(s, i);
		if (!subscription_is_fed(s))
			return false; /* a callback freed it */
		idle = n ? 0 : idle + 1;
		taken += n;
	}
	return idle < g->n || !reading_sleeps(s);
}

void reading_turn(struct redd *r)
{
	size_t left = SHARED_TURN_SIZE / SHARE;
	struct redd_subscription *s;
	struct list turn;

	list_init(&turn);
	list_splice(&turn, &r->awake);
	while (left-- && (s = list_first(&turn, struct redd_subscription, awake))) {
		list_remove(&s->awake);
		subscription_ref(s);
		if (reading_take(s, SHARE) && !list_is_linked(&s->awake))
			list_append(&r->awake, &s->awake);
		subscription_unref(s);
	}
	/* Those that had no turn come first in the next. */
	list_splice(&turn, &r->awake);
	list_splice(&r->awake, &turn);
}

void reading_wake(struct redd_subscription *s)
{
	if (s->reading && !s->reading->is_over && !list_is_linked(&s->awake))
		list_append(&s->r->awake, &s->awake);
}

void reading_credit(struct redd_subscription *s, uint64_t bytes)
{
	struct reading *g = s->reading;

	if (!g->is_limited)
		return;
	if (__builtin_add_overflow(g->credit, bytes, &g->credit))
		g->credit = UINT64_MAX;
	reading_wake(s);
}
