/* A program that does all it can, at random, and brokers that die at random (tests/lib/mortal.h),
 * on the way back too. Whatever the order, each call ends once, and is done once if it says so;
 * what is subscribed or watched goes on with nothing lost or doubled, as often as it is asked for,
 * once a connection; what was freed or ended is not heard of again; credit is what was given.
 * Callbacks do as the program does. */
#include "client/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/lib/mortal.h"

TestSuite(client_deaths, .timeout = 300);

#define SUBSCRIPTIONS MORTAL_PORTS /* number i is of port i + 1 */
#define CALLS	      1000

enum what {
	PING,
	CANCEL,
	ADOPT,
	DELEGATE,
	WAIT,
	SIGNAL,
	GRANT,
	LEASE,
	EXPECT,
	CLOSE,
	FORGET,
	WRITE,
	SPAWN,
	SUBSCRIBE,
	UNSUBSCRIBE,
	WATCH,
};

struct call_model {
	struct redd_call call;
	enum what what;
	size_t about; /* a subscription or watch; bytes of a write */
	unsigned n_done;
	int result;
};

struct subscription_model {
	struct redd_subscription *handle; /* NULL: none, or freed */
	struct redd_port *port;
	uint64_t next;
	uint64_t given, cost; /* of what was told */
	bool is_manual, is_unsubscribed, is_busy;
	unsigned n_unsubscribes, n_ends, n_closed;
};

struct watch_model {
	struct redd_watch *handle;
	bool is_answered;
	uint64_t next; /* 0: not known */
};

static struct {
	struct redd *r;
	int n_fds;
	bool only_looks;	/* opens nothing, so that its session ends with its connection */
	struct redd_port *port; /* that was spawned */
	struct call_model calls[CALLS];
	size_t n_calls;
	struct subscription_model subscriptions[SUBSCRIPTIONS];
	size_t n_subscriptions;
	struct watch_model watches[MORTAL_WATCHES];
	size_t n_watches;
	uint8_t data[20000];
} m;

#define check mortal_check
#define roll  mortal_roll

static void do_something(void);

/* What the program does inside of a callback. */
static void meddle(void)
{
	if (mortal.is_mortal && roll(6) == 0)
		do_something();
}

/* --- calls ----------------------------------------------------------------------------------- */

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct call_model *c = user;

	check(r == m.r && !c->n_done && (result < 0) == !reply);
	c->n_done++;
	c->result = result;
	if (c->what == DELEGATE && !result) {
		check(mortal_inode(reply->delegated.door) == mortal.effects[c->call.request].size);
		close(reply->delegated.door);
	}
	if (c->what == UNSUBSCRIBE && !result)
		m.subscriptions[c->about].is_unsubscribed = true;
	if (c->what == WATCH)
		m.watches[c->about].is_answered = result == 0;
	meddle();
}

/* The next one, which is counted when it was begun(). */
static struct call_model *call_new(enum what what, size_t about)
{
	struct call_model *c = &m.calls[m.n_calls];

	*c = (struct call_model){ .call = { .done = on_done, .user = c },
				  .what = what,
				  .about = about };
	return c;
}

static bool begun(int e)
{
	check(e == 0 || e == -EAGAIN);
	m.n_calls += e == 0;
	return e == 0;
}

/* --- subscriptions --------------------------------------------------------------------------- */

static void on_output(struct redd_subscription *handle, const struct redd_output *o, void *user)
{
	struct subscription_model *s = user;

	check(s->handle == handle && !s->n_ends && !s->n_closed);
	check(o->stream == 1 && o->offset == s->next && o->consumed == o->size);
	for (size_t i = 0; i < o->size; i++)
		check(((const uint8_t *)o->data)[i] == mortal_byte(o->offset + i));
	s->next += o->size;
	s->cost += o->size + EVENT_CREDIT;
	meddle();
}

static void on_end(struct redd_subscription *handle, const struct redd_stream_end *e, void *user)
{
	struct subscription_model *s = user;

	check(s->handle == handle && !s->n_ends && !s->n_closed);
	check(e->total == s->next && e->result == 0);
	s->n_ends++;
	s->cost += EVENT_CREDIT;
	meddle();
}

static void on_closed(struct redd_subscription *handle, const struct redd_closed *c, void *user)
{
	struct subscription_model *s = user;

	check(s->handle == handle && !s->n_closed);
	check(c->cause == REDD_UNSUBSCRIBED ? s->n_unsubscribes
					    : c->cause == REDD_PORT_CLOSED && s->n_ends);
	check(c->result == 0);
	s->n_closed++;
	meddle();
}

static void on_marks(struct redd_subscription *handle, const struct redd_marks *marks, void *user)
{
	struct subscription_model *s = user;

	check(s->handle == handle && !s->n_closed && s->is_busy != marks->busy);
	s->is_busy = marks->busy;
	meddle();
}

static bool subscribe(size_t i, const struct redd_subscribe_options *o)
{
	struct subscription_model *s = &m.subscriptions[i];
	struct redd_call *call = &call_new(SUBSCRIBE, i)->call;

	if (!s->port)
		check(redd_port_by_id(m.r, i + 1, &s->port) == 0);
	return begun(redd_subscribe_start(s->port, o, &s->handle, call));
}

static bool spawn(size_t i, const struct redd_subscribe_options *watch)
{
	struct subscription_model *s = &m.subscriptions[i];
	struct redd_call *call = &call_new(SPAWN, i)->call;
	char number[8];
	const char *const argv[] = { number, NULL };
	const struct redd_spawn_options o = { .argv = argv, .subscribe = watch };
	struct redd_port *port;

	snprintf(number, sizeof(number), "%zu", i + 1);
	if (!begun(redd_spawn_start(m.r, &o, &port, call)))
		return false;
	redd_port_free(s->port);
	s->port = port;
	s->handle = redd_port_subscription(port);
	return true;
}

static void do_subscribe(void)
{
	size_t i = m.n_subscriptions;
	struct subscription_model *s = &m.subscriptions[i];
	struct redd_subscribe_options o = { .handler = { s, on_output, NULL, on_end, NULL,
							 on_closed, on_marks },
					    .credit_mode = (enum redd_credit_mode)roll(3),
					    .window = 100 + roll(1000) };

	if (i == SUBSCRIPTIONS)
		return;
	s->is_manual = o.credit_mode == REDD_CREDIT_MANUAL;
	s->given = o.window;
	m.n_subscriptions += m.only_looks || roll(2) ? subscribe(i, &o) : spawn(i, &o);
}

static struct subscription_model *some_subscription(void)
{
	return &m.subscriptions[m.n_subscriptions ? roll(m.n_subscriptions) : 0];
}

static void do_unsubscribe(struct subscription_model *s)
{
	struct redd_call *call = &call_new(UNSUBSCRIBE, (size_t)(s - m.subscriptions))->call;

	if (s->handle)
		s->n_unsubscribes += begun(redd_unsubscribe_start(s->handle, call));
}

static void do_credit(struct subscription_model *s, uint64_t bytes)
{
	int e;

	if (!s->handle || !s->is_manual || s->n_closed)
		return;
	e = redd_credit(s->handle, bytes);
	check(e == 0 || e == -EAGAIN);
	s->given += e ? 0 : bytes;
}

static void do_free(struct subscription_model *s)
{
	struct redd_subscription *handle = s->handle;

	s->handle = NULL;
	if (roll(2)) {
		redd_port_free(s->port);
		s->port = NULL;
	} else {
		redd_subscription_free(handle);
	}
}

/* --- watches --------------------------------------------------------------------------------- */

static void on_life(struct redd_watch *handle, const struct redd_life *life, void *user)
{
	struct watch_model *w = user;

	check(w->handle == handle);
	if (!w->next)
		w->next = redd_watch_sequence(handle) + 1;
	if (life->what == REDD_LIFE_MISSED)
		check(life->sequence >= w->next);
	else
		check(life->what == REDD_LIFE_STARTED && life->sequence == w->next);
	w->next = life->sequence + 1;
	meddle();
}

static void do_watch(void)
{
	size_t i = m.n_watches;
	struct watch_model *w = &m.watches[i];
	char number[8];
	const struct redd_label label = { .key = "n", .value = number };
	struct redd_watch_options o = {
		.on_life = on_life,
		.user = w,
		.labels = &label,
		.n_labels = 1,
		.has_after = roll(2),
	};

	if (i == MORTAL_WATCHES)
		return;
	snprintf(number, sizeof(number), "%zu", i);
	o.after = o.has_after && roll(2) ? roll(mortal.sequence + 1) : 0;
	w->next = o.has_after ? o.after + 1 : 0;
	if (begun(redd_watch_start(m.r, &o, &w->handle, &call_new(WATCH, i)->call)))
		m.n_watches++;
}

static void do_unwatch(void)
{
	struct watch_model *w = &m.watches[m.n_watches ? roll(m.n_watches) : 0];
	struct redd_watch *handle = w->handle;

	w->handle = NULL;
	redd_watch_free(handle);
}

/* --- the rest -------------------------------------------------------------------------------- */

static void do_write(void)
{
	size_t size = 1 + roll(roll(8) ? 100 : sizeof(m.data));
	struct call_model *c = call_new(WRITE, size);

	if (m.only_looks)
		return;
	for (size_t i = 0; i < size; i++)
		m.data[i] = (uint8_t)roll(256);
	begun(redd_write_start(m.port, m.data, size, NULL, &c->call));
}

static void do_adopt(void)
{
	const struct redd_adopt_options o = { .reads = true, .read_fd = STDIN_FILENO };
	struct redd_port *port;

	if (m.only_looks)
		return;
	if (begun(redd_adopt_start(m.r, &o, &port, &call_new(ADOPT, 0)->call)) && roll(2))
		redd_port_free(port);
}

static void do_delegate(void)
{
	const struct redd_delegate_options o = { .ports = &m.port, .n_ports = 1 };

	begun(redd_delegate_start(m.r, &o, &call_new(DELEGATE, 0)->call));
}

/* With a port of its own, of which nobody knows anything. */
static void do_to_port(enum what what)
{
	const struct redd_expect_options from_start = { .has_from = true, .exit = true };
	struct redd_call *call = &call_new(what, 0)->call;
	struct redd_port *port;

	check(redd_port_by_id(m.r, 1000 + m.n_calls, &port) == 0);
	if (what == WAIT)
		begun(redd_wait_start(port, REDD_UNTIL_EXITED, -1, call));
	else if (what == SIGNAL)
		begun(redd_signal_start(port, 1, REDD_LEADER, call));
	else if (what == GRANT)
		begun(redd_grant_start(port, &(struct redd_grant_options){ 0 }, call));
	else if (what == LEASE)
		begun(redd_lease_start(port, NULL, call));
	else if (what == EXPECT)
		begun(redd_expect_start(port, &from_start, -1, call));
	else if (what == CLOSE)
		begun(redd_close_start(port, 0, call));
	else
		begun(redd_forget_start(port, call));
	redd_port_free(port);
}

static void do_cancel(void)
{
	const struct call_model *c = &m.calls[m.n_calls ? roll(m.n_calls) : 0];

	if (c->what == WAIT && !c->n_done && m.n_calls)
		begun(redd_cancel_start(m.r, c->call.request, &call_new(CANCEL, 0)->call));
}

static void do_something(void)
{
	if (m.n_calls == CALLS)
		return;
	switch (roll(18)) {
	case 0:
	case 1:
		do_subscribe();
		break;
	case 2:
		do_unsubscribe(some_subscription());
		break;
	case 3:
		do_free(some_subscription());
		break;
	case 4:
	case 5:
		do_credit(some_subscription(), 1 + roll(300));
		break;
	case 6:
		do_watch();
		break;
	case 7:
		do_unwatch();
		break;
	case 8:
		begun(redd_ping_start(m.r, &call_new(PING, 0)->call));
		break;
	case 9:
		do_cancel();
		break;
	case 10:
		do_adopt();
		break;
	case 11:
		do_delegate();
		break;
	case 12:
	case 13:
		do_to_port((enum what)(WAIT + roll(FORGET + 1 - WAIT)));
		break;
	default:
		do_write();
	}
}

static void on_reconnect(struct redd *r, enum redd_reconnect what, void *user)
{
	(void)user;
	check((redd_fd(r) >= 0) == (what == REDD_BACK));
	meddle();
}

/* --- at the end ------------------------------------------------------------------------------ */

static void judge_call(const struct call_model *c)
{
	const struct mortal_effect *e = &mortal.effects[c->call.request];

	check(c->n_done == 1);
	switch (c->what) {
	case WAIT:
		check(c->result == 0 || c->result == -ECANCELED || c->result == -EDQUOT);
		break;
	case CANCEL:
		check(c->result == 0 || c->result == -ENOENT);
		break;
	case SIGNAL:
	case GRANT:
	case DELEGATE:
		check(c->result == 0 ? e->times == 1 : c->result == -ENOTCONN && e->times <= 1);
		break;
	case WRITE:
		check(c->result == 0 && e->size == c->about);
		break;
	case UNSUBSCRIBE:
		check(c->result == 0 || c->result == -ENOENT);
		break;
	case WATCH:
		check(c->result == 0 || c->result == -ERANGE);
		break;
	default:
		check(c->result == 0 && e->times >= 1);
	}
}

/* Before more credit is given: what the broker has is what it was given. */
static void judge_credit(const struct subscription_model *s, const struct mortal_port *p)
{
	if (s->handle && s->is_manual && p->id)
		check(p->credit == s->given - s->cost);
}

static void judge_subscription(const struct subscription_model *s, const struct mortal_port *p)
{
	bool is_live = s->handle && !s->n_closed;

	check(is_live == (p->id != 0));
	check(!s->is_unsubscribed || s->n_closed || !s->handle);
	check(!is_live || (s->next == p->head && s->is_busy == p->is_busy));
	check(!s->n_ends || p->has_ended);
}

static void judge_watch(const struct watch_model *w, const struct mortal_watch *broker)
{
	bool is_live = w->handle && w->is_answered;

	check(is_live == (broker->id != 0));
	check(!is_live || !w->next || w->next == mortal.sequence + 1);
}

static void judge(void)
{
	for (size_t i = 0; i < m.n_subscriptions; i++)
		judge_credit(&m.subscriptions[i], &mortal.ports[i + 1]);
	for (size_t i = 0; i < m.n_subscriptions; i++)
		do_credit(&m.subscriptions[i], 1 << 20);
	mortal_rest();
	for (size_t i = 0; i < m.n_subscriptions; i++)
		judge_subscription(&m.subscriptions[i], &mortal.ports[i + 1]);
	for (size_t i = 0; i < m.n_watches; i++)
		judge_watch(&m.watches[i], &mortal.watches[i]);
	for (size_t i = 0; i < m.n_calls; i++)
		judge_call(&m.calls[i]);
}

static void begin(void)
{
	char number[8];
	const char *const argv[] = { number, NULL };
	const struct redd_spawn_options o = { .argv = argv };

	m.r = mortal.f.r;
	m.only_looks = roll(4) == 0;
	mortal.has_sessions = !m.only_looks;
	redd_on_reconnect(m.r, on_reconnect, NULL);
	snprintf(number, sizeof(number), "%d", MORTAL_PORTS + 1);
	if (m.only_looks)
		check(redd_port_by_id(m.r, MORTAL_PORTS + 1, &m.port) == 0);
	else
		check(redd_spawn_start(m.r, &o, &m.port, NULL) == 0);
}

static void run(uint64_t seed)
{
	memset(&m, 0, sizeof(m));
	m.n_fds = fd_count();
	mortal_begin(seed);
	begin();
	for (int i = 0; i < 1500; i++) {
		if (roll(3) == 0)
			do_something();
		mortal_step();
	}
	mortal_rest();
	judge();
	mortal_end();
	check(fd_count() == m.n_fds);
}

Test(client_deaths, P13_brokers_that_die_at_any_moment_lose_and_double_nothing)
{
	for (uint64_t seed = 1; seed <= 60; seed++)
		run(seed);
}
