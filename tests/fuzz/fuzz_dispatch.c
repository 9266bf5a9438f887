/* A whole broker in this process, fed with frames: from the bytes of a connection through dispatch,
 * handlers, ports and streams to the bytes of the answers. Keeper and forker are played by a stub,
 * which starts nothing: what it was told to spawn it says has started, failed, was not born or has
 * ended, as the input has it, and it writes a little on the outputs.
 *
 * The input: one byte of choices for the stub, then records of a head and a body. The head is two
 * bytes: a bit for the connection (there are two, of different principals), a bit for bytes as they
 * are, without a length in front, and the body's size.
 *
 * Held: every message of the broker can be read, every Error has a code and a sentence, and when
 * the connections have gone and the ports are forgotten nothing is left: no session, no charge, no
 * descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/errand.h"
#include "broker/port.h"
#include "broker/req.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"
#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/parts.h"

#define CLIENTS	   2
#define KEPT_MAX   256
#define RECORD_RAW 0x4000u
#define RECORD_TO  0x8000u
#define RECORD_MAX 0x3fffu
#define UNBORN_MAX 4 /* of one input: a spawn that is never born is handed over for ever */

struct client {
	int fd; /* -1: not connected */
	struct buf in;
};

struct stub {
	int keeper_fd, forker_fd;
	uint8_t choices;
	unsigned n_spawns, n_unborn;
	int kept[KEPT_MAX]; /* the children's ends */
	size_t n_kept;
	struct link_spawn_id running[KEPT_MAX];
	size_t n_running;
};

static struct broker broker;
static struct unclaimed unclaimed = { .b = &broker };
static struct stub stub;
static struct client clients[CLIENTS];
static struct arena arena;
static int fds_at_start;

/* --- keeper and forker ----------------------------------------------------------------------- */

static void stub_send(const void *message, size_t size, const int *fds, size_t n_fds)
{
	struct iovec iov = { (void *)message, size };

	/* What does not fit is lost: the broker has to live with that too. */
	(void)fdpass_send(stub.keeper_fd, &iov, 1, fds, n_fds, MSG_DONTWAIT);
}

static void stub_started(const struct link_spawn_id *id)
{
	struct link_started m = { .head = { LINK_STARTED, sizeof(m) }, .id = *id, .pid = 1 << 22 };
	int no_pidfd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	stub_send(&m, sizeof(m), &no_pidfd, 1);
	fd_close(no_pidfd);
	if (stub.n_running < KEPT_MAX)
		stub.running[stub.n_running++] = *id;
}

static void stub_exited(const struct link_spawn_id *id, int status)
{
	struct link_exited m = {
		.head = { LINK_EXITED, sizeof(m) }, .id = *id, .pid = 1 << 22, .status = status
	};

	stub_send(&m, sizeof(m), NULL, 0);
}

static void stub_refuse(const struct link_spawn_id *id)
{
	struct link_failed failed = { .head = { LINK_FAILED, sizeof(failed) },
				      .id = *id,
				      .stage = LINK_STAGE_EXEC,
				      .error = ENOENT };
	struct link_unborn unborn = { .head = { LINK_UNBORN, sizeof(unborn) }, .id = *id };

	if (stub.choices & 2 && stub.n_unborn++ < UNBORN_MAX)
		stub_send(&unborn, sizeof(unborn), NULL, 0);
	else
		stub_send(&failed, sizeof(failed), NULL, 0);
}

/* The child's ends: some output comes, then they are held or let go. */
static void stub_use(int *fds, size_t n, bool keeps)
{
	for (size_t i = 1; i < n; i++) {
		if (fd_set_nonblocking(fds[i]) == 0)
			(void)!write(fds[i], "some output\n", 12);
		if (keeps && stub.n_kept < KEPT_MAX)
			stub.kept[stub.n_kept++] = TAKE_FD(fds[i]);
	}
}

static void stub_spawn(const struct link_spawn *m, int *fds, size_t n)
{
	unsigned choice = stub.choices >> (stub.n_spawns++ % 3);

	if (choice & 1 && stub.n_spawns > 1) {
		stub_refuse(&m->id);
		return;
	}
	stub_started(&m->id);
	stub_use(fds, n, choice & 4);
	if (choice & 8)
		stub_exited(&m->id, 3 << 8);
}

static void stub_heed(const void *data)
{
	struct link_group_signal signalled;
	struct link_release released;

	switch (((const struct link_head *)data)->type) {
	case LINK_RELEASE:
		memcpy(&released, data, sizeof(released));
		released.head.type = LINK_RELEASED;
		stub_send(&released, sizeof(released), NULL, 0);
		break;
	case LINK_SIGNAL_GROUP:
	case LINK_SIGNAL:
		memcpy(&signalled, data, sizeof(signalled));
		signalled.head.type = LINK_GROUP_SIGNALLED;
		signalled.error = stub.choices & 16 ? ESRCH : 0;
		stub_send(&signalled, sizeof(signalled), NULL, 0);
		break;
	default:
		break;
	}
}

/* True when there was a message. */
static bool stub_receive(int link)
{
	static union {
		struct link_spawn spawn;
		uint8_t room[LINK_DATAGRAM_MAX];
	} m;
	struct fdpass_info info;
	int fds[FDPASS_MAX];
	ssize_t n = fdpass_recv(link, &m, sizeof(m), MSG_DONTWAIT, fds, FDPASS_MAX, &info);

	if (n <= 0)
		return false;
	if (link == stub.forker_fd)
		stub_spawn(&m.spawn, fds, info.n_fds);
	else
		stub_heed(&m);
	fd_close_many(fds, info.n_fds);
	return true;
}

static bool stub_turn(void)
{
	bool any = false;

	while (stub_receive(stub.keeper_fd) || stub_receive(stub.forker_fd))
		any = true;
	return any;
}

static void stub_clear(void)
{
	fd_close_many(stub.kept, stub.n_kept);
	stub.n_kept = stub.n_running = 0;
	stub.n_spawns = stub.n_unborn = 0;
}

/* --- clients --------------------------------------------------------------------------------- */

static void error_check(const Redd__V1__Error *e)
{
	FUZZ_CHECK(e->has_code && e->code != REDD__V1__CODE__OK);
	FUZZ_CHECK(e->message && strlen(e->message) > 10);
	for (const char *c = e->message; *c; c++)
		FUZZ_CHECK((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void message_check(const uint8_t *frame, size_t size)
{
	Redd__V1__Message *m;
	const char *reason;

	FUZZ_CHECK(codec_unpack_message(&arena, frame, size, &m, &reason) == 0);
	FUZZ_CHECK(m->body_case != REDD__V1__MESSAGE__BODY__NOT_SET);
	if (m->body_case == REDD__V1__MESSAGE__BODY_ERROR)
		error_check(m->error);
	if (m->body_case == REDD__V1__MESSAGE__BODY_BYE)
		error_check(m->bye->error);
}

static void client_hang_up(struct client *c)
{
	c->fd = fd_close(c->fd);
	buf_consume(&c->in, buf_size(&c->in));
}

static void client_take_frames(struct client *c)
{
	size_t prefix, length;

	while (frame_parse(buf_head(&c->in), buf_size(&c->in), FRAME_MAX_HIGHEST, &prefix,
			   &length) == 0 &&
	       buf_size(&c->in) - prefix >= length) {
		message_check(buf_head(&c->in) + prefix, length);
		buf_consume(&c->in, prefix + length);
	}
}

static void client_read(struct client *c)
{
	uint8_t *space;
	ssize_t n = 1;

	while (c->fd >= 0 && n > 0) {
		FUZZ_CHECK(buf_reserve(&c->in, KIB(64), &space) == 0);
		n = recv(c->fd, space, KIB(64), MSG_DONTWAIT);
		if (n > 0)
			buf_commit(&c->in, (size_t)n);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			client_hang_up(c);
		client_take_frames(c);
	}
}

static void pump(void)
{
	for (int quiet = 0; quiet < 2; quiet++) {
		uv_run(&broker.loop, UV_RUN_NOWAIT);
		FUZZ_CHECK(!unclaimed.lost); /* the stub's link */
		if (stub_turn())
			quiet = 0;
		if (!(stub.choices & 32)) /* else nobody reads before the end */
			for (int i = 0; i < CLIENTS; i++)
				client_read(&clients[i]);
	}
}

static void client_send(struct client *c, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (c->fd >= 0 && size) {
		ssize_t n = send(c->fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);

		pump();
		if (n < 0)
			return; /* it is not read any more, or has been told Bye */
		at += n;
		size -= (size_t)n;
	}
}

static void client_connect(struct client *c, uint32_t listener)
{
	static const uint8_t hello[] = { 6, 0x08, 0x01, 0x12, 0x02, 0x08, 0x01 };
	int pair[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	FUZZ_CHECK(conn_new(&broker, listener, pair[0]) == 0);
	c->fd = pair[1];
	client_send(c, hello, sizeof(hello));
}

/* --- the broker ------------------------------------------------------------------------------ */

static void on_alarm(struct alarm *a)
{
	(void)a;
}

static void forker_give(void)
{
	struct link_forker m = { .head = { LINK_FORKER, sizeof(m) }, .pid = 1 << 22 };
	int pair[2];

	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) ==
		   0);
	stub_send(&m, sizeof(m), &pair[0], 1);
	fd_close(pair[0]);
	stub.forker_fd = pair[1];
}

static void broker_make(struct broker *b)
{
	struct quota_limits limits[QUOTA_LEVELS];
	int pair[2];

	for (int i = 0; i < QUOTA_LEVELS; i++) {
		limits[i] = quota_limits_default((enum quota_level)i);
		limits[i].spawns = (struct token_bucket_rate){ 0, 0 };
	}
	FUZZ_CHECK(uv_loop_init(&b->loop) == 0 && parts_init(b, limits) == 0);
	alarm_init(&b->beat, on_alarm);
	alarm_init(&b->idle, on_alarm);
	stop_init(&b->stop);
	b->keeper_pid = 1 << 22;
	b->environment = "PATH=/bin";
	b->environment_count = 1;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) ==
		   0);
	stub.keeper_fd = pair[1];
	FUZZ_CHECK(helper_link_init(&b->helper, &b->loop, &b->turn, pair[0], &unclaimed_events,
				    &unclaimed) == 0);
	b->state = BROKER_SERVING;
	forker_give();
	pump();
}

static void make_once(void)
{
	if (stub.keeper_fd)
		return;
	signal(SIGPIPE, SIG_IGN); /* as redd-broker does */
	log_init("fuzz", LOG_LEVEL_ERROR);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i].fd = -1;
		buf_init(&clients[i].in, FRAME_MAX_HIGHEST + KIB(128));
	}
	arena_init(&arena);
	broker_make(&broker);
}

/* --- what must hold at the end --------------------------------------------------------------- */

static void ports_forget(void)
{
	struct port *p;

	while ((p = port_table_after(&broker.ports, 0)))
		port_forget(p);
}

static void broker_rest(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		client_read(&clients[i]);
		client_hang_up(&clients[i]);
	}
	stub.choices = 0;
	stub_clear();
	do
		pump();
	while (broker.n_conns || closer_count(&broker));
	ports_forget();
	errands_free(&broker);
	if (broker.state != BROKER_SERVING) { /* it was shut down: there is a next input */
		alarm_stop(&broker.alarms, &broker.stop.alarm);
		stop_init(&broker.stop);
		broker.state = BROKER_SERVING;
	}
	do
		pump();
	while (closer_count(&broker) || !list_is_empty(&broker.delegations));
}

static void charges_check(void)
{
	struct quota_account *a;

	FUZZ_CHECK(quota_account_of_uid(broker.quota, geteuid(), &a) == 0);
	for (int kind = 0; kind < QUOTA_KINDS; kind++)
		FUZZ_CHECK(quota_used(a, (enum quota_kind)kind) == 0);
	quota_account_unref(a);
}

static void rest_check(void)
{
	static unsigned n;

	FUZZ_CHECK(broker.n_conns == 0 && list_is_empty(&broker.conns));
	FUZZ_CHECK(broker.ports.n == 0 && list_is_empty(&broker.sessions));
	FUZZ_CHECK(list_is_empty(&broker.watching) && list_is_empty(&broker.errands));
	FUZZ_CHECK(list_is_empty(&broker.group_signals) && list_is_empty(&broker.ended_ports));
	FUZZ_CHECK(broker.helper.in_flight == 0 && !broker.helper.lines.n_waiting);
	charges_check();
	/* Free logs stay with their descriptors, at most RINGS_POOLED. */
	if (n++ == 0)
		fds_at_start = fd_count();
	if (n % 256 == 0)
		FUZZ_CHECK(fd_count() <= fds_at_start + (int)RINGS_POOLED + 8);
}

static void record_feed(const uint8_t *body, size_t size, unsigned head)
{
	unsigned which = head & RECORD_TO ? 1 : 0;
	uint8_t prefix[FRAME_PREFIX_MAX];

	if (clients[which].fd < 0)
		client_connect(&clients[which], which);
	if (!(head & RECORD_RAW))
		client_send(&clients[which], prefix, frame_prefix(prefix, size));
	client_send(&clients[which], body, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *at = data + 1, *end = data + size;

	make_once();
	if (!size)
		return 0;
	stub.choices = data[0];
	while (end - at >= 2) {
		unsigned head = (unsigned)at[0] << 8 | at[1];
		size_t n = head & RECORD_MAX, left = (size_t)(end - at) - 2;

		n = n < left ? n : left;
		record_feed(at + 2, n, head);
		at += 2 + n;
	}
	pump();
	for (size_t i = 0; i < stub.n_running; i++)
		stub_exited(&stub.running[i], 9);
	pump();
	broker_rest();
	rest_check();
	return 0;
}
