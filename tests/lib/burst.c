/* Each item goes: spawn, wait for CLOSED, forget. A connection that is lost ends every item on it
 * as lost, and the burst. */
#include "tests/lib/burst.h"

#include <errno.h>
#include <poll.h>

#include "tests/lib/places.h"

#define BURSTS_MAX 64

static void item_over(struct burst_item *i, unsigned *counter)
{
	(*counter)++;
	i->burst->n_over++;
	i->is_busy = false;
	redd_port_free(i->port);
	i->port = NULL;
}

/* Sorts a failure; true when it was none. */
static bool is_good(struct burst_item *i, int result)
{
	struct burst *b = i->burst;

	if (!result)
		return true;
	if (result == -ENOTCONN) {
		item_over(i, &b->n_lost);
		return false;
	}
	if (b->ended)
		b->ended(b, i->number, result, NULL);
	item_over(i, &b->n_failed);
	return false;
}

static void on_waited(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct burst_item *i = user;
	struct burst *b = i->burst;

	(void)r;
	if (!is_good(i, result))
		return;
	if (b->ended)
		b->ended(b, i->number, 0, &reply->waited);
	redd_forget_start(i->port, NULL);
	item_over(i, redd_exit_status(&reply->waited.exit) == 0 ? &b->n_good : &b->n_bad);
}

static void on_spawned(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct burst_item *i = user;
	struct redd_call call = { .done = on_waited, .user = i };

	(void)r;
	(void)reply;
	if (!is_good(i, result))
		return;
	result = redd_wait_start(i->port, REDD_UNTIL_CLOSED, -1, &call);
	is_good(i, result);
}

static void item_begin(struct burst *b, struct burst_item *i)
{
	struct redd_spawn_options o = b->options;
	struct redd_call call = { .done = on_spawned, .user = i };
	int result;

	i->burst = b;
	i->number = b->n_begun++;
	i->is_busy = true;
	o.size = sizeof(o);
	o.argv = b->argv;
	if (b->prepare)
		b->prepare(b, i->number, &o);
	result = redd_spawn_start(b->r, &o, &i->port, &call);
	if (result)
		is_good(i, result);
}

bool burst_turn(struct burst *b)
{
	for (unsigned i = 0; i < b->in_flight && i < BURST_IN_FLIGHT_MAX; i++)
		if (!b->items[i].is_busy && b->n_begun < b->total && !b->n_lost)
			item_begin(b, &b->items[i]);
	return b->n_over < b->n_begun || (b->n_begun < b->total && !b->n_lost);
}

/* Waits for any of them and dispatches all. */
static int bursts_wait(struct burst *b, unsigned n, int timeout_ms)
{
	struct pollfd fds[BURSTS_MAX];
	int ready;

	for (unsigned i = 0; i < n; i++)
		fds[i] = (struct pollfd){ redd_fd(b[i].r), redd_events(b[i].r), 0 };
	ready = poll(fds, n, place_patience_ms(timeout_ms));
	if (ready == 0)
		return -ETIMEDOUT;
	for (unsigned i = 0; i < n; i++)
		redd_dispatch(b[i].r);
	return 0;
}

int burst_run_with(struct burst *b, unsigned n, int timeout_ms, void (*on_turn)(void *user),
		   void *user)
{
	for (;;) {
		bool is_left = false;
		int result;

		for (unsigned i = 0; i < n; i++)
			is_left |= burst_turn(&b[i]);
		if (!is_left)
			return 0;
		if (on_turn)
			on_turn(user);
		result = bursts_wait(b, n, timeout_ms);
		if (result)
			return result;
	}
}

int burst_run(struct burst *b, unsigned n, int timeout_ms)
{
	return burst_run_with(b, n, timeout_ms, NULL, NULL);
}
