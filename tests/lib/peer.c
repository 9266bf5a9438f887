/* Owns the socket, the bytes that came and the arena of the newest message. Frames are cut and
 * unpacked by the same code that the client library uses; what is sent is up to the test. */
#include "tests/lib/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/codec.h"
#include "proto/fdpass.h"
#include "proto/frame.h"
#include "tests/lib/places.h"

#define PEER_IN_MAX (FRAME_MAX_HIGHEST + 4096u)

static void peer_blank(struct peer *p)
{
	*p = (struct peer){ .fd = -1 };
	buf_init(&p->in, PEER_IN_MAX);
	arena_init(&p->arena);
}

int peer_knock(struct peer *p, int door)
{
	struct iovec iov = { "c", 1 };
	int ends[2];
	ssize_t n;

	peer_blank(p);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	p->fd = ends[0];
	n = fdpass_send(door, &iov, 1, &ends[1], 1, 0);
	close(ends[1]);
	return n < 0 ? (int)n : 0;
}

int peer_take_fd(struct peer *p)
{
	int fd = p->n_fds ? p->fds[0] : -1;

	if (p->n_fds)
		memmove(&p->fds[0], &p->fds[1], --p->n_fds * sizeof(p->fds[0]));
	return fd;
}

int peer_open(struct peer *p, const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	peer_blank(p);
	if (strlen(socket_path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, socket_path);
	p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return 0;
}

void peer_close(struct peer *p)
{
	p->fd = fd_close(p->fd);
	fd_close_many(p->fds, p->n_fds);
	p->n_fds = 0;
	buf_deinit(&p->in);
	arena_deinit(&p->arena);
}

int peer_send_fds(struct peer *p, const void *data, size_t size, const int *fds, size_t n_fds)
{
	const uint8_t *at = data;

	while (size) {
		struct iovec iov = { (void *)at, size };
		ssize_t n = fdpass_send(p->fd, &iov, 1, fds, n_fds, 0);

		if (n < 0)
			return (int)n;
		at += n;
		size -= (size_t)n;
		n_fds = 0;
	}
	return 0;
}

int peer_send(struct peer *p, const void *data, size_t size)
{
	return peer_send_fds(p, data, size, NULL, 0);
}

int peer_send_prefix(struct peer *p, uint32_t length)
{
	uint8_t prefix[FRAME_PREFIX_MAX];

	return peer_send(p, prefix, frame_prefix(prefix, length));
}

int peer_request(struct peer *p, const Redd__V1__Request *request)
{
	_cleanup_(buf_deinit) struct buf out;
	int r;

	buf_init(&out, PEER_IN_MAX);
	r = codec_pack(&out, &request->base, FRAME_MAX_HIGHEST);
	if (r)
		return r < 0 ? r : -EMSGSIZE;
	return peer_send(p, buf_head(&out), buf_size(&out));
}

/* 0: a whole frame lies at the front. PEER_E_TIMEOUT stands for "not yet". */
static int frame_look(const struct peer *p, size_t *ret_prefix, size_t *ret_length)
{
	int r = frame_parse(buf_head(&p->in), buf_size(&p->in), FRAME_MAX_HIGHEST, ret_prefix,
			    ret_length);

	if (r == FRAME_E_MORE)
		return PEER_E_TIMEOUT;
	if (r)
		return PEER_E_BAD;
	return buf_size(&p->in) < *ret_prefix + *ret_length ? PEER_E_TIMEOUT : 0;
}

static int more_read(struct peer *p, int timeout_ms)
{
	struct pollfd fd = { p->fd, POLLIN, 0 };
	struct fdpass_info info;
	uint8_t *space;
	ssize_t n;
	int r = poll(&fd, 1, place_patience_ms(timeout_ms));

	if (r <= 0)
		return r < 0 ? -errno : PEER_E_TIMEOUT;
	if (buf_reserve(&p->in, KIB(64), &space))
		return -ENOMEM;
	n = fdpass_recv(p->fd, space, KIB(64), 0, p->fds + p->n_fds, PEER_FDS - p->n_fds, &info);
	if (n < 0)
		return n == -ECONNRESET ? PEER_E_END : (int)n;
	p->n_fds += info.n_fds;
	buf_commit(&p->in, (size_t)n);
	return n ? 0 : PEER_E_END;
}

int peer_recv(struct peer *p, int timeout_ms, Redd__V1__Message **ret)
{
	size_t prefix, length;
	const char *reason;
	int r;

	buf_consume(&p->in, p->consumed);
	p->consumed = 0;
	while ((r = frame_look(p, &prefix, &length)) == PEER_E_TIMEOUT) {
		r = more_read(p, timeout_ms);
		if (r)
			return r;
	}
	if (r)
		return r;
	p->consumed = prefix + length;
	r = codec_unpack_message(&p->arena, buf_head(&p->in) + prefix, length, ret, &reason);
	if (r == CODEC_E_REFUSED)
		fprintf(stderr, "peer: the broker's frame was refused: %s\n", reason);
	return r > 0 ? PEER_E_BAD : r;
}

int peer_answer(struct peer *p, uint64_t id, int timeout_ms, Redd__V1__Message **ret)
{
	int r;

	do {
		r = peer_recv(p, timeout_ms, ret);
	} while (!r && (!(*ret)->has_reply_to || (*ret)->reply_to != id));
	return r;
}

int peer_hello(struct peer *p)
{
	Redd__V1__Hello hello = REDD__V1__HELLO__INIT;
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;
	Redd__V1__Message *answer;
	int r;

	hello.has_version = 1;
	hello.version = PROTOCOL_VERSION;
	hello.client = (char *)"peer";
	request.has_id = 1;
	request.id = p->last_id = 1;
	request.body_case = REDD__V1__REQUEST__BODY_HELLO;
	request.hello = &hello;
	r = peer_request(p, &request);
	if (!r)
		r = peer_answer(p, 1, 10000, &answer);
	if (!r && answer->body_case != REDD__V1__MESSAGE__BODY_WELCOME)
		r = PEER_E_BAD;
	return r;
}

bool peer_take_fds(struct peer *p, int *ret_fds, size_t n)
{
	if (n > p->n_fds)
		return false;
	memcpy(ret_fds, p->fds, n * sizeof(ret_fds[0]));
	p->n_fds -= n;
	memmove(p->fds, p->fds + n, p->n_fds * sizeof(p->fds[0]));
	return true;
}

int peer_expect_end(struct peer *p, int timeout_ms)
{
	int r;

	do {
		buf_consume(&p->in, buf_size(&p->in));
		p->consumed = 0;
		r = more_read(p, timeout_ms);
	} while (!r);
	return r == PEER_E_END ? 0 : r;
}
