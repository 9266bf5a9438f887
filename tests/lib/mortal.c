/* Owns the connection and what is true. Requests are taken one at a time, so that each may be the
 * last. */
#include "tests/lib/mortal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/codec.h"
#include "proto/fdpass.h"
#include "proto/limits.h"

struct mortal mortal;

size_t mortal_inode(int fd)
{
	struct stat st;

	mortal_check(fstat(fd, &st) == 0);
	return st.st_ino;
}

/* --- life and death -------------------------------------------------------------------------- */

static void die(void)
{
	fake_die(&mortal.f);
	while (mortal.f.n_fds)
		close(mortal.f.fds[--mortal.f.n_fds]);
	mortal.n_deaths++;
	mortal.n_waiting = 0;
	mortal.last_id = 0;
	mortal.forgotten = mortal.sequence;
	memset(mortal.watches, 0, sizeof(mortal.watches));
	for (struct mortal_port *p = mortal.ports; p < ARRAY_SIZE(mortal.ports) + mortal.ports; p++)
		*p = (struct mortal_port){ .head = p->head,
					   .has_ended = p->has_ended,
					   .spawned = p->spawned };
}

static bool is_time(void)
{
	return mortal.is_mortal && mortal.f.fd >= 0 && mortal_roll(24) == 0;
}

/* True when it was just now. */
static bool dies(void)
{
	if (!is_time())
		return false;
	die();
	return true;
}

/* All of a frame, or what there was time for. */
static void say_bytes(const uint8_t *frame, size_t size, const int *fds, size_t n_fds)
{
	struct iovec iov = { (void *)frame, size };
	bool is_last = is_time();

	if (is_last)
		iov.iov_len = 1 + mortal_roll(size);
	mortal_check(fdpass_send(mortal.f.fd, &iov, 1, fds, n_fds, MSG_DONTWAIT) ==
		     (ssize_t)iov.iov_len);
	if (is_last)
		die();
}

/* Says Bye, and when to come back. */
static void leave(void)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_BYE);
	Redd__V1__Bye bye = REDD__V1__BYE__INIT;
	Redd__V1__Error e = REDD__V1__ERROR__INIT;

	e.has_code = e.has_retry_after_ms = true;
	e.code = REDD__V1__CODE__UNAVAILABLE;
	e.retry_after_ms = 1;
	bye.error = &e;
	m.bye = &bye;
	fake_say(&mortal.f, &m);
	die();
}

/* --- requests -------------------------------------------------------------------------------- */

static struct mortal_effect *effect_of(const Redd__V1__Request *m)
{
	mortal_check(m->id > 0 && m->id < MORTAL_REQUESTS);
	return &mortal.effects[m->id];
}

/* One for each port, once a connection. */
static void subscription_begin(struct mortal_port *p, const Redd__V1__Subscribe *s)
{
	mortal_check(!p->n_asked);
	p->n_asked++;
	p->id = ++mortal.last_id;
	p->is_limited = s->has_credit;
	p->credit = s->credit;
	p->next = s->start->n_offsets ? s->start->offsets[0]->offset : 0;
	mortal_check(p->next <= p->head);
}

static void on_subscribe(const Redd__V1__Request *m)
{
	const Redd__V1__Subscribe *s = m->subscribe;
	struct mortal_port *p = &mortal.ports[s->port->id];

	mortal_check(s->port->id > 0 && s->port->id <= MORTAL_PORTS);
	subscription_begin(p, s);
	fake_subscribed(&mortal.f, m->id, s->port->id, p->id, 1, p->next);
}

static struct mortal_port *subscribed(uint64_t id)
{
	for (size_t i = 1; i <= MORTAL_PORTS; i++)
		if (mortal.ports[i].id == id && id)
			return &mortal.ports[i];
	return NULL;
}

static void on_unsubscribe(const Redd__V1__Request *m)
{
	struct mortal_port *p = subscribed(m->unsubscribe->subscription);

	if (p)
		p->is_leaving = true;
	if (p)
		fake_done(&mortal.f, m->id);
	else
		fake_error(&mortal.f, m->id, REDD__V1__CODE__NOT_FOUND, 0, "no subscription");
}

static void on_credit(const Redd__V1__Request *m)
{
	struct mortal_port *p = subscribed(m->credit->subscription);

	if (p && __builtin_add_overflow(p->credit, m->credit->bytes, &p->credit))
		p->credit = UINT64_MAX;
}

static void on_watch(const Redd__V1__Request *m)
{
	unsigned long i = strtoul(m->watch->labels[0]->value, NULL, 10);
	struct mortal_watch *w = &mortal.watches[i];

	mortal_check(i < MORTAL_WATCHES && !w->id);
	if (m->watch->has_after && m->watch->after < mortal.forgotten) {
		fake_error(&mortal.f, m->id, REDD__V1__CODE__OUT_OF_RANGE, 0, "too old");
		return;
	}
	w->id = ++mortal.last_id;
	w->next = (m->watch->has_after ? m->watch->after : mortal.sequence) + 1;
	fake_watching(&mortal.f, m->id, w->id, mortal.sequence);
}

static void on_unwatch(const Redd__V1__Request *m)
{
	for (size_t i = 0; i < MORTAL_WATCHES; i++)
		if (mortal.watches[i].id == m->unwatch->watch)
			mortal.watches[i].id = 0;
	fake_done(&mortal.f, m->id);
}

/* Its bytes, from its offset on; those that are there are the same. It may die over them. */
static void on_write(const Redd__V1__Request *m)
{
	const Redd__V1__Write *w = m->write;
	uint64_t at = w->has_offset ? w->offset : mortal.input_size;
	size_t there = mortal.input_size - at, rest;

	mortal_check(at <= mortal.input_size && there <= w->data.len);
	mortal_check(memcmp(mortal.input + at, w->data.data, there) == 0);
	rest = w->data.len - there;
	if (rest && is_time())
		rest = mortal_roll(rest);
	memcpy(mortal.input + mortal.input_size, w->data.data + there, rest);
	mortal.input_size += rest;
	effect_of(m)->size += rest;
	if (there + rest < w->data.len)
		die();
	else
		fake_written(&mortal.f, m->id, at, w->data.len);
}

/* Two that cannot be done once more. */
static void on_close(const Redd__V1__Request *m)
{
	Redd__V1__Message answer = fake_reply(m->id, REDD__V1__MESSAGE__BODY_CLOSE_DONE);
	Redd__V1__CloseDone done = REDD__V1__CLOSE_DONE__INIT;

	answer.close_done = &done;
	if (effect_of(m)->times == 1)
		fake_say(&mortal.f, &answer);
	else
		fake_error(&mortal.f, m->id, REDD__V1__CODE__FAILED_PRECONDITION, EPIPE, "closed");
}

static void on_forget(const Redd__V1__Request *m)
{
	if (effect_of(m)->times == 1)
		fake_done(&mortal.f, m->id);
	else
		fake_error(&mortal.f, m->id, REDD__V1__CODE__NOT_FOUND, 0, "no such port");
}

/* Those whose answer says nothing. */
#define ON_ANY(verb, field, BODY, INIT)                                                       \
	static void on_##verb(const Redd__V1__Request *m)                                     \
	{                                                                                     \
		Redd__V1__Message answer = fake_reply(m->id, REDD__V1__MESSAGE__BODY_##BODY); \
		typeof(*answer.field) body = INIT;                                            \
                                                                                              \
		answer.field = &body;                                                         \
		fake_say(&mortal.f, &answer);                                                 \
	}

ON_ANY(signal, signalled, SIGNALLED, REDD__V1__SIGNALLED__INIT)
ON_ANY(grant, granted, GRANTED, REDD__V1__GRANTED__INIT)
ON_ANY(expect, matched, MATCHED, REDD__V1__MATCHED__INIT)
ON_ANY(lease, leased, LEASED, REDD__V1__LEASED__INIT)

/* The number of the port is the name of its program; the token is not looked at, since a repeat has
 * the id of the first one. */
static void on_spawn(const Redd__V1__Request *m)
{
	unsigned long i = strtoul((char *)m->spawn->program.data, NULL, 10);
	struct mortal_port *p = &mortal.ports[i];

	mortal_check(i > 0 && i <= MORTAL_PORTS + 1);
	mortal_check(!p->spawned || p->spawned == m->id);
	p->spawned = m->id;
	if (m->spawn->subscribe)
		subscription_begin(p, m->spawn->subscribe);
	fake_started(&mortal.f, m->id, i, p->id);
}

/* Its descriptor has come with it. */
static void on_open(const Redd__V1__Request *m)
{
	mortal_check(mortal.f.n_fds > 0);
	close(mortal.f.fds[--mortal.f.n_fds]);
	fake_started(&mortal.f, m->id, MORTAL_PORTS + 1 + m->id, 0);
}

/* A door comes with the answer. */
static void on_delegate(const Redd__V1__Request *m)
{
	Redd__V1__Message answer = fake_reply(m->id, REDD__V1__MESSAGE__BODY_DELEGATED);
	Redd__V1__Delegated delegated = REDD__V1__DELEGATED__INIT;
	uint8_t frame[64];
	int ends[2];

	mortal_check(pipe(ends) == 0);
	effect_of(m)->size = mortal_inode(ends[0]);
	answer.delegated = &delegated;
	frame[0] = (uint8_t)redd__v1__message__pack(&answer, frame + 1);
	say_bytes(frame, 1 + frame[0], ends, 1);
	close(ends[0]);
	close(ends[1]);
}

static void on_wait(const Redd__V1__Request *m)
{
	if (mortal.n_waiting < ARRAY_SIZE(mortal.waiting))
		mortal.waiting[mortal.n_waiting++] = m->id;
	else
		fake_error(&mortal.f, m->id, REDD__V1__CODE__RESOURCE_EXHAUSTED, 0, "too many");
}

static void on_cancel(const Redd__V1__Request *m)
{
	for (size_t i = 0; i < mortal.n_waiting; i++) {
		if (mortal.waiting[i] != m->cancel->request)
			continue;
		mortal.waiting[i] = mortal.waiting[--mortal.n_waiting];
		fake_error(&mortal.f, m->cancel->request, REDD__V1__CODE__CANCELLED, 0,
			   "cancelled");
		fake_done(&mortal.f, m->id);
		return;
	}
	fake_error(&mortal.f, m->id, REDD__V1__CODE__NOT_FOUND, 0, "no such request");
}

static void on_hello(const Redd__V1__Request *m)
{
	if (m->hello->has_session && !mortal.has_sessions)
		fake_error(&mortal.f, m->id, REDD__V1__CODE__NOT_FOUND, 0, "no such session");
	else
		fake_welcome_to(&mortal.f, m->id, 0);
}

static void on_ping(const Redd__V1__Request *m)
{
	fake_pong(&mortal.f, m->id);
}

static void (*const takers[])(const Redd__V1__Request *) = {
	[REDD__V1__REQUEST__BODY_HELLO] = on_hello,
	[REDD__V1__REQUEST__BODY_SPAWN] = on_spawn,
	[REDD__V1__REQUEST__BODY_OPEN] = on_open,
	[REDD__V1__REQUEST__BODY_PING] = on_ping,
	[REDD__V1__REQUEST__BODY_SUBSCRIBE] = on_subscribe,
	[REDD__V1__REQUEST__BODY_UNSUBSCRIBE] = on_unsubscribe,
	[REDD__V1__REQUEST__BODY_CREDIT] = on_credit,
	[REDD__V1__REQUEST__BODY_WATCH] = on_watch,
	[REDD__V1__REQUEST__BODY_UNWATCH] = on_unwatch,
	[REDD__V1__REQUEST__BODY_WRITE] = on_write,
	[REDD__V1__REQUEST__BODY_CLOSE] = on_close,
	[REDD__V1__REQUEST__BODY_FORGET] = on_forget,
	[REDD__V1__REQUEST__BODY_SIGNAL] = on_signal,
	[REDD__V1__REQUEST__BODY_GRANT] = on_grant,
	[REDD__V1__REQUEST__BODY_DELEGATE] = on_delegate,
	[REDD__V1__REQUEST__BODY_EXPECT] = on_expect,
	[REDD__V1__REQUEST__BODY_LEASE] = on_lease,
	[REDD__V1__REQUEST__BODY_WAIT] = on_wait,
	[REDD__V1__REQUEST__BODY_CANCEL] = on_cancel,
};

/* Does it and answers, or dies before, after, or in between: what writes has its own way. */
static void take(const Redd__V1__Request *m)
{
	size_t kind = (size_t)m->body_case;

	mortal_check(kind < ARRAY_SIZE(takers) && takers[kind]);
	if (m->id)
		effect_of(m)->times++;
	if (kind == REDD__V1__REQUEST__BODY_WRITE || !dies())
		takers[kind](m);
	dies();
}

/* --- events ---------------------------------------------------------------------------------- */

static void pay(struct mortal_port *p, uint64_t cost)
{
	mortal_check(!p->is_limited || p->credit >= cost);
	p->credit -= p->is_limited ? cost : 0;
}

/* True when credit allows an event with so much data. */
static bool may(const struct mortal_port *p, uint64_t size)
{
	return !p->is_limited || p->credit >= size + EVENT_CREDIT;
}

static void say_output(struct mortal_port *p, size_t size)
{
	const struct codec_output o = { .subscription = p->id,
					.port = (uint64_t)(p - mortal.ports),
					.stream = 1,
					.offset = p->next,
					.consumed = size,
					.record = CODEC_RECORD_NONE,
					.size = size };
	uint8_t frame[CODEC_OUTPUT_PREFIX_MAX + 64];
	size_t prefix = codec_output_prefix(frame, &o);

	for (size_t i = 0; i < size; i++)
		frame[prefix + i] = mortal_byte(p->next + i);
	pay(p, size + EVENT_CREDIT);
	p->next += size;
	say_bytes(frame, prefix + size, NULL, 0);
}

static void say_end(struct mortal_port *p)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_STREAM_END);
	Redd__V1__StreamEnd e = REDD__V1__STREAM_END__INIT;

	pay(p, EVENT_CREDIT);
	p->is_end_sent = true;
	e.has_subscription = e.has_stream = e.has_total = true;
	e.subscription = p->id;
	e.stream = 1;
	e.total = p->head;
	m.stream_end = &e;
	fake_say(&mortal.f, &m);
}

static void say_closed(struct mortal_port *p)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_CLOSED);
	Redd__V1__Closed c = REDD__V1__CLOSED__INIT;

	c.has_subscription = c.has_cause = true;
	c.subscription = p->id;
	c.cause = p->is_leaving ? REDD__V1__CLOSED__CAUSE__UNSUBSCRIBED
				: REDD__V1__CLOSED__CAUSE__PORT_CLOSED;
	m.closed = &c;
	p->id = 0;
	fake_say(&mortal.f, &m);
}

static void say_marks(struct mortal_port *p)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_MARKS);
	Redd__V1__Marks marks = REDD__V1__MARKS__INIT;

	p->is_busy_told = p->is_busy;
	marks.has_subscription = marks.has_busy = true;
	marks.subscription = p->id;
	marks.busy = p->is_busy;
	m.marks = &marks;
	fake_say(&mortal.f, &m);
}

/* The next thing that a subscription is told. False: there is none. */
static bool feed(struct mortal_port *p)
{
	uint64_t size = 1 + mortal_roll(60);

	if (!p->id)
		return false;
	size = MIN(size, p->head - p->next);
	if (p->is_limited && p->credit > EVENT_CREDIT)
		size = MIN(size, p->credit - EVENT_CREDIT);
	if (p->is_busy != p->is_busy_told)
		say_marks(p);
	else if (p->is_leaving || p->is_end_sent)
		say_closed(p);
	else if (size && may(p, size))
		say_output(p, size);
	else if (!size && p->has_ended && may(p, 0))
		say_end(p);
	else
		return false;
	return true;
}

static bool tell_life(struct mortal_watch *w)
{
	if (!w->id || w->next > mortal.sequence)
		return false;
	fake_life(&mortal.f, w->id, REDD__V1__LIFE__WHAT__STARTED, w->next++);
	return true;
}

static bool answer_waiting(void)
{
	size_t i = mortal.n_waiting ? mortal_roll(mortal.n_waiting) : 0;
	Redd__V1__Message m;
	Redd__V1__Waited waited = REDD__V1__WAITED__INIT;

	if (!mortal.n_waiting)
		return false;
	m = fake_reply(mortal.waiting[i], REDD__V1__MESSAGE__BODY_WAITED);
	mortal.waiting[i] = mortal.waiting[--mortal.n_waiting];
	m.waited = &waited;
	fake_say(&mortal.f, &m);
	return true;
}

/* --- a step ---------------------------------------------------------------------------------- */

static void grow(void)
{
	struct mortal_port *p = &mortal.ports[1 + mortal_roll(MORTAL_PORTS)];

	if (!p->has_ended)
		p->head += mortal_roll(200);
	p->has_ended |= mortal_roll(40) == 0;
	p->is_busy = mortal_roll(2);
	mortal.sequence += mortal_roll(2);
}

/* False: nothing was asked. */
static bool hear(void)
{
	Redd__V1__Request *m = mortal.f.fd >= 0 ? fake_heard(&mortal.f) : NULL;

	if (m)
		take(m);
	return m != NULL;
}

static void dispatch(void)
{
	int due = redd_timeout(mortal.f.r);

	if (mortal.f.fd < 0 && due > 0 && due < 10)
		poll(NULL, 0, due);
	mortal_check(redd_dispatch(mortal.f.r) == 0);
	if (mortal.f.fd < 0)
		fake_accept(&mortal.f);
}

void mortal_step(void)
{
	mortal.step++;
	switch (mortal.f.fd < 0 ? 0 : mortal_roll(12)) {
	case 0:
	case 1:
	case 2:
		dispatch();
		break;
	case 3:
	case 4:
	case 5:
		hear();
		break;
	case 6:
	case 7:
		feed(&mortal.ports[1 + mortal_roll(MORTAL_PORTS)]);
		break;
	case 8:
		tell_life(&mortal.watches[mortal_roll(MORTAL_WATCHES)]);
		break;
	case 9:
		answer_waiting();
		break;
	case 10:
		grow();
		break;
	default:
		if (mortal.is_mortal && mortal_roll(40) == 0)
			leave();
	}
}

/* False: nobody had anything to say. */
static bool turn(void)
{
	bool busy = mortal.f.fd < 0;

	dispatch();
	/* No more than the socket takes. */
	for (int i = 0; i < 64 && hear(); i++)
		busy = true;
	busy |= answer_waiting();
	for (size_t i = 1; i <= MORTAL_PORTS; i++)
		busy |= feed(&mortal.ports[i]);
	for (size_t i = 0; i < MORTAL_WATCHES; i++)
		busy |= tell_life(&mortal.watches[i]);
	return busy;
}

void mortal_rest(void)
{
	mortal.is_mortal = false;
	for (int quiet = 0; quiet < 4; mortal.step++) {
		quiet = turn() ? 0 : quiet + 1;
		mortal_check(mortal.step < 100000);
	}
}

void mortal_begin(uint64_t seed)
{
	struct redd_connect_options o = { .frame_max = FRAME_MAX_LOWEST };

	memset(&mortal, 0, sizeof(mortal));
	mortal.seed = mortal.random.state = seed;
	if (mortal_roll(2))
		o.queue_max = 1 + mortal_roll(100000);
	fake_serve(&mortal.f, &o);
	mortal.is_mortal = mortal.has_sessions = true;
}

void mortal_end(void)
{
	fake_close(&mortal.f);
}
