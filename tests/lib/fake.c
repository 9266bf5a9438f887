#include "tests/lib/fake.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/codec.h"
#include "proto/fdpass.h"
#include "proto/frame.h"
#include "tests/lib/places.h"

#define IN_CAP (64u << 20)

void fake_pair(struct fake *f, char ret_socket[32])
{
	int pair[2], size = 4 << 20;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	*f = (struct fake){ .r = redd_new(), .fd = pair[1], .listener = -1 };
	cr_assert_not_null(f->r);
	buf_init(&f->in, IN_CAP);
	arena_init(&f->arena);
	snprintf(ret_socket, 32, "fd:%d", pair[0]);
}

void fake_open_with(struct fake *f, struct redd_connect_options *o)
{
	char socket[32];
	Redd__V1__Request *hello;

	fake_pair(f, socket);
	o->socket = socket;
	fake_welcome(f, o->frame_max);
	cr_assert_eq(redd_connect(f->r, o), 0, "%s", redd_last_error(f->r)->message);
	hello = fake_heard(f);
	cr_assert(hello && hello->body_case == REDD__V1__REQUEST__BODY_HELLO);
}

void fake_open(struct fake *f)
{
	struct redd_connect_options o = { 0 };

	fake_open_with(f, &o);
}

void fake_die(struct fake *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* --- a service ------------------------------------------------------------------------------- */

static void fake_listen(struct fake *f)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	cr_assert_eq(place_make_dir(f->directory), 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%.90s/s", f->directory);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(f->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(f->listener, 8), 0);
}

bool fake_accept(struct fake *f)
{
	f->fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	buf_consume(&f->in, buf_size(&f->in));
	f->consumed = 0;
	return f->fd >= 0;
}

void fake_serve(struct fake *f, struct redd_connect_options *o)
{
	char path[4100];

	*f = (struct fake){ .r = redd_new(), .fd = -1, .listener = -1 };
	cr_assert_not_null(f->r);
	buf_init(&f->in, IN_CAP);
	arena_init(&f->arena);
	fake_listen(f);
	snprintf(path, sizeof(path), "%s/s", f->directory);
	o->socket = path;
	cr_assert_eq(redd_connect_start(f->r, o, NULL), 0, "%s", redd_last_error(f->r)->message);
	o->socket = NULL;
	cr_assert(fake_accept(f));
	fake_settle(f);
	cr_assert_eq(fake_heard(f)->body_case, REDD__V1__REQUEST__BODY_HELLO);
	fake_welcome_to(f, 1, 0);
	cr_assert_eq(fake_settle(f), 0);
}

Redd__V1__Request *fake_back(struct fake *f)
{
	Redd__V1__Request *hello = NULL;

	fake_die(f);
	for (int i = 0; i < 2000 && !hello; i++) {
		cr_assert_eq(redd_dispatch(f->r), 0, "%s", redd_last_error(f->r)->message);
		if (f->fd < 0 && !fake_accept(f))
			poll(NULL, 0, redd_timeout(f->r) > 5 ? 5 : redd_timeout(f->r));
		else
			hello = fake_heard(f);
	}
	cr_assert(hello && hello->body_case == REDD__V1__REQUEST__BODY_HELLO);
	return hello;
}

void fake_vanish(struct fake *f)
{
	fake_die(f);
	close(f->listener);
	f->listener = -1;
}

void fake_close(struct fake *f)
{
	redd_free(f->r);
	fake_die(f);
	if (f->listener >= 0)
		close(f->listener);
	if (f->directory[0])
		place_remove_dir(f->directory);
	buf_deinit(&f->in);
	arena_deinit(&f->arena);
	while (f->n_fds)
		close(f->fds[--f->n_fds]);
}

/* --- saying ---------------------------------------------------------------------------------- */

void fake_bytes(struct fake *f, const void *data, size_t size)
{
	cr_assert_eq(send(f->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT), (ssize_t)size);
}

void fake_say(struct fake *f, Redd__V1__Message *m)
{
	struct buf out;

	buf_init(&out, IN_CAP);
	cr_assert_eq(codec_pack(&out, &m->base, FRAME_MAX_HIGHEST), 0);
	fake_bytes(f, buf_head(&out), buf_size(&out));
	buf_deinit(&out);
}

Redd__V1__Message fake_reply(uint64_t id, Redd__V1__Message__BodyCase body)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;

	m.has_reply_to = id != 0;
	m.reply_to = id;
	m.body_case = body;
	return m;
}

static void welcome(struct fake *f, uint64_t to, uint32_t frame_max, unsigned instance)
{
	Redd__V1__Message m = fake_reply(to, REDD__V1__MESSAGE__BODY_WELCOME);
	Redd__V1__Welcome w = REDD__V1__WELCOME__INIT;
	uint8_t id[16] = "fedcba987654321", of[16] = "fedcba987654321";

	w.has_version = true;
	w.version = 1;
	w.broker = (char *)"fake 1";
	w.has_frame_max = frame_max != 0;
	w.frame_max = frame_max;
	w.has_session = w.has_instance = true;
	of[15] = (uint8_t)instance;
	w.session = (ProtobufCBinaryData){ sizeof(id), id };
	w.instance = (ProtobufCBinaryData){ sizeof(of), of };
	w.has_uid = true;
	w.uid = 4711;
	w.has_descriptors = w.descriptors = true;
	m.welcome = &w;
	fake_say(f, &m);
}

void fake_welcome(struct fake *f, uint32_t frame_max)
{
	welcome(f, 1, frame_max, 0);
}

void fake_welcome_to(struct fake *f, uint64_t id, unsigned instance)
{
	welcome(f, id, 0, instance);
}

void fake_done(struct fake *f, uint64_t id)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_DONE);
	Redd__V1__Done d = REDD__V1__DONE__INIT;

	m.done = &d;
	fake_say(f, &m);
}

void fake_error(struct fake *f, uint64_t id, Redd__V1__Code code, int sys_errno, const char *text)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_ERROR);
	Redd__V1__Error e = REDD__V1__ERROR__INIT;

	e.has_code = true;
	e.code = code;
	e.has_sys_errno = sys_errno != 0;
	e.sys_errno = sys_errno;
	e.message = (char *)text;
	m.error = &e;
	fake_say(f, &m);
}

void fake_started(struct fake *f, uint64_t id, uint64_t port, uint64_t subscription)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_STARTED);
	Redd__V1__Started s = REDD__V1__STARTED__INIT;
	Redd__V1__Subscribed sub = REDD__V1__SUBSCRIBED__INIT;

	s.has_port = s.has_pid = s.has_input_window = true;
	s.port = port;
	s.pid = 1234;
	s.input_window = 1 << 20;
	sub.has_subscription = sub.has_port = true;
	sub.subscription = subscription;
	sub.port = port;
	s.subscribed = subscription ? &sub : NULL;
	m.started = &s;
	fake_say(f, &m);
}

void fake_subscribed(struct fake *f, uint64_t id, uint64_t port, uint64_t subscription,
		     uint32_t stream, uint64_t start)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_SUBSCRIBED);
	Redd__V1__Subscribed s = REDD__V1__SUBSCRIBED__INIT;
	Redd__V1__StreamOffset o = REDD__V1__STREAM_OFFSET__INIT, *list = &o;

	s.has_subscription = s.has_port = true;
	s.subscription = subscription;
	s.port = port;
	o.has_stream = o.has_offset = true;
	o.stream = stream;
	o.offset = start;
	s.n_starts = 1;
	s.starts = &list;
	m.subscribed = &s;
	fake_say(f, &m);
}

void fake_written(struct fake *f, uint64_t id, uint64_t offset, uint64_t size)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_WRITTEN);
	Redd__V1__Written w = REDD__V1__WRITTEN__INIT;

	w.has_offset = w.has_size = true;
	w.offset = offset;
	w.size = size;
	m.written = &w;
	fake_say(f, &m);
}

void fake_pong(struct fake *f, uint64_t id)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_PONG);
	Redd__V1__Pong pong = REDD__V1__PONG__INIT;

	m.pong = &pong;
	fake_say(f, &m);
}

void fake_watching(struct fake *f, uint64_t id, uint64_t watch, uint64_t sequence)
{
	Redd__V1__Message m = fake_reply(id, REDD__V1__MESSAGE__BODY_WATCHING);
	Redd__V1__Watching w = REDD__V1__WATCHING__INIT;

	w.has_watch = w.has_sequence = true;
	w.watch = watch;
	w.sequence = sequence;
	m.watching = &w;
	fake_say(f, &m);
}

void fake_output(struct fake *f, uint32_t stream, uint64_t offset, const void *data, size_t size)
{
	struct codec_output o = {
		.subscription = 1,
		.port = 1,
		.stream = stream,
		.offset = offset,
		.consumed = size,
		.record = CODEC_RECORD_NONE,
		.size = size,
	};
	uint8_t prefix[CODEC_OUTPUT_PREFIX_MAX];

	fake_bytes(f, prefix, codec_output_prefix(prefix, &o));
	if (size)
		fake_bytes(f, data, size);
}

void fake_gap(struct fake *f, uint32_t stream, uint64_t offset, uint64_t end)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_GAP);
	Redd__V1__Gap g = REDD__V1__GAP__INIT;

	g.has_subscription = g.has_stream = g.has_offset = g.has_end = true;
	g.subscription = 1;
	g.stream = stream;
	g.offset = offset;
	g.end = end;
	m.gap = &g;
	fake_say(f, &m);
}

static void end(struct fake *f, uint32_t stream, uint64_t total, const uint64_t *xxh3)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_STREAM_END);
	Redd__V1__StreamEnd e = REDD__V1__STREAM_END__INIT;

	e.has_subscription = e.has_stream = e.has_total = true;
	e.subscription = 1;
	e.stream = stream;
	e.total = total;
	e.has_xxh3 = xxh3 != NULL;
	e.xxh3 = xxh3 ? *xxh3 : 0;
	m.stream_end = &e;
	fake_say(f, &m);
}

void fake_end(struct fake *f, uint32_t stream, uint64_t total)
{
	end(f, stream, total, NULL);
}

void fake_end_with(struct fake *f, uint32_t stream, uint64_t total, uint64_t xxh3)
{
	end(f, stream, total, &xxh3);
}

void fake_exited(struct fake *f, uint32_t code)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_EXITED);
	Redd__V1__Exited e = REDD__V1__EXITED__INIT;
	Redd__V1__Exit x = REDD__V1__EXIT__INIT;

	x.has_state = x.has_code = true;
	x.state = REDD__V1__EXIT__STATE__CODE;
	x.code = code;
	e.has_subscription = true;
	e.subscription = 1;
	e.exit = &x;
	m.exited = &e;
	fake_say(f, &m);
}

void fake_closed(struct fake *f)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_CLOSED);
	Redd__V1__Closed c = REDD__V1__CLOSED__INIT;

	c.has_subscription = c.has_cause = true;
	c.subscription = 1;
	m.closed = &c;
	fake_say(f, &m);
}

void fake_marks(struct fake *f, uint32_t stream, bool busy, uint64_t queued)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_MARKS);
	Redd__V1__Marks marks = REDD__V1__MARKS__INIT;

	marks.has_subscription = marks.has_stream = marks.has_busy = marks.has_queued = true;
	marks.subscription = 1;
	marks.stream = stream;
	marks.busy = busy;
	marks.queued = queued;
	m.marks = &marks;
	fake_say(f, &m);
}

void fake_life(struct fake *f, uint64_t watch, Redd__V1__Life__What what, uint64_t sequence)
{
	Redd__V1__Message m = fake_reply(0, REDD__V1__MESSAGE__BODY_LIFE);
	Redd__V1__Life l = REDD__V1__LIFE__INIT;

	l.has_watch = l.has_what = l.has_sequence = l.has_name = true;
	l.watch = watch;
	l.what = what;
	l.sequence = sequence;
	l.name = (ProtobufCBinaryData){ 1, (uint8_t *)"p" };
	m.life = &l;
	fake_say(f, &m);
}

/* --- hearing --------------------------------------------------------------------------------- */

int fake_settle(struct fake *f)
{
	int r = redd_dispatch(f->r);
	struct pollfd p = { .events = POLLIN };

	while (r == 0) {
		p.fd = redd_fd(f->r);
		if (poll(&p, 1, 0) <= 0 || !p.revents)
			break;
		r = redd_dispatch(f->r);
	}
	return r;
}

/* Takes what the client has sent. */
static void hear(struct fake *f)
{
	struct fdpass_info info;
	uint8_t *space;
	ssize_t n;

	do {
		cr_assert_eq(buf_reserve(&f->in, 1 << 18, &space), 0);
		n = fdpass_recv(f->fd, space, 1 << 18, MSG_DONTWAIT, f->fds + f->n_fds,
				sizeof(f->fds) / sizeof(f->fds[0]) - f->n_fds, &info);
		if (n > 0) {
			buf_commit(&f->in, (size_t)n);
			f->n_fds += info.n_fds;
		}
	} while (n > 0);
}

Redd__V1__Request *fake_heard(struct fake *f)
{
	size_t prefix, length;
	Redd__V1__Request *request;
	const char *reason;

	if (f->fd >= 0)
		hear(f);
	buf_consume(&f->in, f->consumed);
	f->consumed = 0;
	if (!buf_size(&f->in) ||
	    frame_parse(buf_head(&f->in), buf_size(&f->in), IN_CAP, &prefix, &length))
		return NULL;
	if (buf_size(&f->in) < prefix + length)
		return NULL;
	cr_assert_eq(codec_unpack_request(&f->arena, buf_head(&f->in) + prefix, length, &request,
					  &reason),
		     0, "%s", reason);
	f->consumed = prefix + length;
	return request;
}
