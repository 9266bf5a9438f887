/* The thread owns the connection from neighbour_start() to the join in neighbour_stop(); the test
 * looks only at what the lock guards. Between rounds it waits a moment for events, so that it
 * measures the broker and not its own load. */
#include "tests/lib/neighbour.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/measure.h"
#include "tests/lib/pattern.h"
#include "tests/lib/places.h"

#define PIECE	   3000u
#define PAUSE_MS   1
#define PATIENCE   20000
#define ROUNDS_MAX 65536u

static int blame(struct neighbour *n, const char *what, const char *detail)
{
	if (!n->wrong[0])
		snprintf(n->wrong, sizeof(n->wrong), "%s: %s", what, detail);
	return -1;
}

/* One piece through the cat and back, and one Ping. */
static int neighbour_round(struct neighbour *n, uint64_t offset)
{
	uint8_t piece[PIECE];

	pattern_fill(piece, sizeof(piece), offset);
	if (redd_write(n->cat, piece, sizeof(piece), NULL, NULL) < 0)
		return blame(n, "write", redd_last_error(n->r)->message);
	if (collect_wait_bytes(&n->c, n->r, 1, offset + sizeof(piece), PATIENCE) < 0)
		return blame(n, "echo", "did not come back in time");
	if (redd_ping(n->r) < 0)
		return blame(n, "ping", redd_last_error(n->r)->message);
	return n->c.wrong[0] ? blame(n, "echo", n->c.wrong) : 0;
}

/* Notes a round trip, or the end. False when the test wants it to stop. */
static bool neighbour_note(struct neighbour *n, double ms, bool is_over)
{
	bool stop;

	pthread_mutex_lock(&n->lock);
	n->is_over = is_over;
	if (!is_over)
		n->times_ms[n->n_rounds++ % ROUNDS_MAX] = ms;
	stop = n->stop;
	pthread_cond_broadcast(&n->moved);
	pthread_mutex_unlock(&n->lock);
	return !stop;
}

static void *neighbour_run(void *context)
{
	struct neighbour *n = context;
	double begin = measure_now();

	for (uint64_t offset = 0; neighbour_round(n, offset) == 0; offset += PIECE) {
		if (!neighbour_note(n, (measure_now() - begin) * 1000, false))
			break;
		redd_run_once(n->r, PAUSE_MS);
		begin = measure_now();
	}
	neighbour_note(n, 0, true);
	return NULL;
}

static int cat_spawn(struct neighbour *n)
{
	const char *const argv[] = { place_prog("cat"), NULL };
	const struct redd_descriptor in = { .fd = 0, .kind = REDD_PIPE };
	struct redd_spawn_options o = { .size = sizeof(o),
					.argv = argv,
					.descriptors = &in,
					.n_descriptors = 1,
					.subscribe = &n->c.watch };

	return redd_spawn(n->r, &o, &n->cat);
}

int neighbour_start(struct neighbour *n, const struct service *s)
{
	memset(n, 0, sizeof(*n));
	collect_init(&n->c);
	n->c.patterned = true;
	n->c.drop_data = true;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->moved, NULL);
	n->times_ms = calloc(ROUNDS_MAX, sizeof(*n->times_ms));
	n->r = service_connect(s);
	if (n->times_ms && n->r && cat_spawn(n) == 0 &&
	    pthread_create(&n->thread, NULL, neighbour_run, n) == 0) {
		neighbour_wait(n, 1);
		return 0;
	}
	redd_port_free(n->cat);
	redd_free(n->r);
	collect_deinit(&n->c);
	free(n->times_ms);
	return blame(n, "start", "it could not");
}

void neighbour_wait(struct neighbour *n, unsigned long rounds)
{
	unsigned long end;
	struct timespec deadline;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += place_patience_ms(PATIENCE) / 1000;
	pthread_mutex_lock(&n->lock);
	end = n->n_rounds + rounds;
	while (!r && !n->is_over && n->n_rounds < end)
		r = pthread_cond_timedwait(&n->moved, &n->lock, &deadline);
	pthread_mutex_unlock(&n->lock);
}

static void neighbour_finish(struct neighbour *n)
{
	const struct collect_stream *out;

	if (redd_close(n->cat, 0, NULL) < 0 || collect_wait(&n->c, n->r, PATIENCE) < 0)
		blame(n, "end", "no Closed came");
	out = collect_stream(&n->c, 1);
	if (n->c.wrong[0])
		blame(n, "stream", n->c.wrong);
	else if (out->n_gaps || out->end.total != n->n_rounds * PIECE)
		blame(n, "stream", "bytes are missing");
	else if (redd_exit_status(&n->c.exit) != 0)
		blame(n, "cat", "did not leave with 0");
	if (redd_forget(n->cat) < 0)
		blame(n, "forget", redd_last_error(n->r)->message);
}

int neighbour_stop(struct neighbour *n)
{
	size_t rounds;

	if (!n->r)
		return 0;
	pthread_mutex_lock(&n->lock);
	n->stop = true;
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	if (!n->wrong[0])
		neighbour_finish(n);
	redd_port_free(n->cat);
	redd_free(n->r);
	n->r = NULL;
	collect_deinit(&n->c);
	rounds = n->n_rounds < ROUNDS_MAX ? n->n_rounds : ROUNDS_MAX;
	n->worst_ms = measure_part(n->times_ms, rounds, 1);
	n->middle_ms = measure_part(n->times_ms, rounds, 0.5);
	free(n->times_ms);
	return n->wrong[0] ? -1 : 0;
}
