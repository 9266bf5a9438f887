#include "tests/lib/revive.h"

#include <criterion/criterion.h>
#include <string.h>

struct fake revived;

void revive_serve(void)
{
	struct redd_connect_options o = { 0 };

	fake_serve(&revived, &o);
}

void revive(void)
{
	fake_settle(&revived);
	while (fake_heard(&revived))
		;
	fake_welcome_to(&revived, fake_back(&revived)->id, 0);
	cr_assert_eq(fake_settle(&revived), 0, "%s", redd_last_error(revived.r)->message);
}

Redd__V1__Request *revive_heard(Redd__V1__Request__BodyCase kind)
{
	Redd__V1__Request *m = fake_heard(&revived);

	cr_assert_not_null(m, "nothing was asked");
	cr_assert_eq(m->body_case, kind, "asked for %d, not %d", m->body_case, kind);
	return m;
}

void revive_heard_nothing(void)
{
	Redd__V1__Request *m = fake_heard(&revived);

	cr_assert_null(m, "%d was asked for", m ? (int)m->body_case : 0);
}

struct redd_port *revive_spawn_with(struct redd_spawn_options o)
{
	static const char *const argv[] = { "x", NULL };
	struct redd_port *port;

	o.argv = argv;
	cr_assert_eq(redd_spawn_start(revived.r, &o, &port, NULL), 0, "%s",
		     redd_last_error(revived.r)->message);
	cr_assert_eq(fake_settle(&revived), 0);
	fake_started(&revived, HEARD(SPAWN)->id, 1, 0);
	cr_assert_eq(fake_settle(&revived), 0);
	return port;
}

struct redd_port *revive_spawn(void)
{
	return revive_spawn_with((struct redd_spawn_options){ 0 });
}

struct redd_port *revive_port(uint64_t id)
{
	struct redd_port *port;

	cr_assert_eq(redd_port_by_id(revived.r, id, &port), 0);
	return port;
}

int revive_results[REVIVE_CALLS];

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	(void)r;
	cr_assert_eq(result < 0, reply == NULL);
	cr_assert_eq(revive_results[(size_t)user], 1, "told twice");
	revive_results[(size_t)user] = result;
}

struct redd_call *revive_call(size_t i)
{
	static struct redd_call calls[REVIVE_CALLS];

	revive_results[i] = 1;
	calls[i] = (struct redd_call){ .done = on_done, .user = (void *)i };
	return &calls[i];
}

void revive_write(struct redd_port *port, const char *text,
		  const struct redd_write_options *options, size_t i)
{
	cr_assert_eq(redd_write_start(port, text, strlen(text), options, revive_call(i)), 0, "%s",
		     redd_last_error(revived.r)->message);
}

void revive_heard_write(uint64_t offset)
{
	const Redd__V1__Write *w = HEARD(WRITE)->write;

	cr_assert(w->has_offset, "'%.*s' has no offset", (int)w->data.len, (char *)w->data.data);
	cr_assert_eq(w->offset, offset, "'%.*s' goes to %llu", (int)w->data.len,
		     (char *)w->data.data, (unsigned long long)w->offset);
}

static void say_inspected(uint64_t id, const struct revive_seen *seen)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__PortInfo p = REDD__V1__PORT_INFO__INIT;
	Redd__V1__Framing framing = REDD__V1__FRAMING__INIT;
	Redd__V1__StreamInfo streams[2] = { REDD__V1__STREAM_INFO__INIT,
					    REDD__V1__STREAM_INFO__INIT };
	Redd__V1__StreamInfo *list[2] = { &streams[0], &streams[1] };

	for (int i = 0; i < 2; i++) {
		streams[i].has_stream = streams[i].has_direction = true;
		streams[i].direction = REDD__V1__DIRECTION__DIRECTION_INPUT;
		streams[i].has_total = streams[i].has_queued = true;
	}
	streams[0].total = seen->first;
	streams[1].stream = REDD_TERMINAL;
	streams[1].total = seen->typed;
	framing.has_cut = framing.has_header = true;
	framing.cut = REDD__V1__FRAMING__CUT__PACKETS;
	framing.header = seen->header;
	p.has_port = p.has_terminal = true;
	p.port = 1;
	p.terminal = seen->terminal;
	p.framing = seen->header ? &framing : NULL;
	p.n_streams = seen->terminal ? 2 : 1;
	p.streams = list;
	m.has_reply_to = true;
	m.reply_to = id;
	m.body_case = REDD__V1__MESSAGE__BODY_PORT_INFO;
	m.port_info = &p;
	fake_say(&revived, &m);
}

void revive_inspect(struct redd_port *port, const struct revive_seen *seen)
{
	cr_assert_eq(redd_inspect_start(port, NULL), 0);
	fake_settle(&revived);
	say_inspected(HEARD(INSPECT)->id, seen);
	cr_assert_eq(fake_settle(&revived), 0);
}
