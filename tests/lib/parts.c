/* Owns nothing: makes what the broker owns, and closes what nobody claims. */
#include "tests/lib/parts.h"

#include <errno.h>
#include <unistd.h>

#include "broker/req.h"
#include "proto/base/fd.h"

int parts_init(struct broker *b, const struct quota_limits *limits)
{
	static const struct policy_listener narrow = { 0 };
	int r;

	broker_empty(b);
	b->config_fd = -1;
	b->port_events = &req_port_events;
	b->helper_path = "/nonexistent/redd-helper";
	settings_default(&b->settings);
	policy_init(&b->policy, geteuid());
	if (policy_add_listener(&b->policy, &narrow) != 1)
		return -EINVAL;
	if ((r = quota_new(limits, &b->quota)) || (r = turn_init(&b->turn, &b->loop)) ||
	    (r = alarms_init(&b->alarms, &b->loop)) || (r = port_table_init(&b->ports)) ||
	    (r = ring_pool_new(&b->rings)) || (r = transit_open(&b->transit)) ||
	    (r = events_new(0, &b->events)))
		return r;
	return 0;
}

/* --- what belongs to no process -------------------------------------------------------------- */

static void take(struct unclaimed *u, const int *take_fds, size_t n)
{
	u->n_fds += n;
	for (size_t i = 0; i < n; i++)
		fd_close(take_fds[i]);
}

static void on_setup(void *context, const struct link_setup *m, const int *take_fds, size_t n)
{
	struct unclaimed *u = context;

	(void)m;
	u->n_setup++;
	take(u, take_fds, n);
}

static void on_held(void *context, const struct link_held *m, const int *take_fds, size_t n)
{
	struct unclaimed *u = context;

	(void)m;
	u->n_held++;
	take(u, take_fds, n);
}

static void on_ring(void *context, const struct link_ring *m, int take_fd)
{
	struct unclaimed *u = context;

	(void)m;
	u->n_rings++;
	take(u, &take_fd, take_fd >= 0);
}

static void on_records(void *context, int *take_fds, size_t n)
{
	struct unclaimed *u = context;

	u->n_records++;
	take(u, take_fds, n);
}

static void on_ready(void *context)
{
	struct unclaimed *u = context;

	u->n_ready++;
}

static void on_lost(void *context, int error)
{
	struct unclaimed *u = context;

	if (!u->lost) /* it would be told again every turn */
		uv_poll_stop(&u->b->helper.keeper_poll);
	u->lost = error;
}

static void on_signalled(void *context, const struct link_group_signal *m)
{
	struct unclaimed *u = context;

	u->n_signalled++;
	req_group_signalled(u->b, m);
}

const struct helper_events unclaimed_events = { .setup = on_setup,
						.held = on_held,
						.ring = on_ring,
						.records = on_records,
						.ready = on_ready,
						.lost = on_lost,
						.group_signalled = on_signalled };
