/* Owns the results of started calls. Connections are the fake's, what was told is in told.c. */
#include "tests/lib/comeback.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "tests/lib/told.h"

static void on_reconnect(struct redd *r, enum redd_reconnect what, void *user)
{
	(void)user;
	cr_assert_eq(redd_fd(r) >= 0, what == REDD_BACK);
	told_note(what == REDD_BACK ? "back " : "away ");
}

static void on_lost(struct redd *r, const struct redd_error *why, void *user)
{
	(void)r;
	(void)user;
	cr_assert_eq(why->result, -ENOTCONN);
	told_note("lost ");
}

void comeback_serve(struct fake *f, struct redd_connect_options *o)
{
	struct redd_connect_options usual = { 0 };

	fake_serve(f, o ? o : &usual);
	redd_on_reconnect(f->r, on_reconnect, NULL);
	redd_on_lost(f->r, on_lost, NULL);
}

void comeback_welcome(struct fake *f)
{
	Redd__V1__Request *hello = fake_back(f);

	cr_assert_eq(hello->hello->session.len, 16);
	cr_assert_str_eq((char *)hello->hello->session.data, "fedcba987654321");
	fake_welcome_to(f, hello->id, 0);
	cr_assert_eq(fake_settle(f), 0);
}

Redd__V1__Request *comeback_next(struct fake *f, Redd__V1__Request__BodyCase kind)
{
	Redd__V1__Request *m = fake_heard(f);

	cr_assert_not_null(m, "nothing was asked");
	cr_assert_eq(m->body_case, kind, "asked for %d, not %d", m->body_case, kind);
	return m;
}

struct redd_port *comeback_spawn(struct fake *f, bool verify)
{
	static const char *const argv[] = { "x", NULL };
	struct redd_subscribe_options watch = { .handler = told_handler, .verify = verify };
	struct redd_spawn_options o = { .argv = argv, .subscribe = &watch };
	struct redd_port *port;

	cr_assert_eq(redd_spawn_start(f->r, &o, &port, NULL), 0);
	cr_assert_eq(fake_settle(f), 0);
	fake_started(f, comeback_next(f, REDD__V1__REQUEST__BODY_SPAWN)->id, 1, 1);
	cr_assert_eq(fake_settle(f), 0);
	return port;
}

void comeback_resume(struct fake *f, uint64_t offset)
{
	Redd__V1__Request *m = comeback_next(f, REDD__V1__REQUEST__BODY_SUBSCRIBE);
	const Redd__V1__Start *start = m->subscribe->start;

	cr_assert_eq(m->subscribe->port->id, 1);
	cr_assert_eq(start->from, REDD__V1__START__FROM__OFFSET);
	cr_assert(start->n_offsets ? start->offsets[0]->offset == offset : offset == 0);
	fake_subscribed(f, m->id, 1, 1, 1, offset);
}

/* --- what became of started calls ------------------------------------------------------------ */

struct comeback comeback;

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	cr_assert_eq(result < 0, reply == NULL);
	comeback.results[(size_t)user] = result;
	comeback.n_results++;
}

struct redd_call comeback_call(size_t i)
{
	comeback.results[i] = 1;
	return (struct redd_call){ .done = on_done, .user = (void *)i };
}
