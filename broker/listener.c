/* Accepts a few a turn. At the end of the descriptors the loop of libuv would accept and close
 * clients without a word; here the backlog keeps them, and a pause lets others finish first.
 */
#include "broker/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "broker/broker.h"
#include "broker/closer.h"
#include "broker/conn.h"
#include "broker/reply.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#define ACCEPTS_A_TURN 16
#define PAUSE_MS       100

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

struct listener {
	struct broker *broker;
	uint32_t index;
	int fd;
	uv_poll_t poll;
	struct alarm pause;
};

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_pause(struct alarm *a)
{
	struct listener *l = container_of(a, struct listener, pause);

	uv_poll_start(&l->poll, UV_READABLE, on_connection);
}

static void listener_pause(struct listener *l)
{
	uv_poll_stop(&l->poll);
	alarm_set(&l->broker->alarms, &l->pause, PAUSE_MS);
}

/* 0: one was accepted; 1: nobody waits, or not now; negative errno. */
static int listener_accept(struct listener *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), r;

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return 1;
	if (fd < 0)
		return err_errno();
	l->broker->counters.connections++;
	if (fd_is_high(fd, DESCRIPTOR_RESERVE)) {
		reply_refuse_connection(
			fd, REPLY_UNAVAILABLE,
			"the broker has hardly any descriptors left; try again later, "
			"or raise its limit of open files");
		closer_close_socket(l->broker, &(struct closer_whose){ 0 }, &fd);
		l->broker->counters.refused_connections++;
		return err_begin(-EMFILE);
	}
	r = conn_new(l->broker, l->index, fd);
	if (r > 0)
		l->broker->counters.refused_connections++;
	return r < 0 ? err_pass(r) : 0;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct listener *l = poll->data;
	int r = status < 0 ? status : 0;

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN && r == 0; i++)
		r = listener_accept(l);
	if (r < 0) {
		log_warning("accept: %s", err_string(r));
		listener_pause(l);
	}
}

int listener_new(struct listener **ret, struct broker *b, uint32_t index, int take_fd)
{
	_cleanup_(fd_closep) int fd = take_fd;
	_cleanup_(freep) struct listener *l = calloc(1, sizeof(*l));
	int passes = b->policy.listeners[index].passes_descriptors, r;

	if (!l)
		return err_begin(-ENOMEM);
	/* Accepted sockets inherit it; kernels before 6.16 do not know it, there conn_read.c
	 * refuses. */
	setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &passes, sizeof(passes));
	l->broker = b;
	l->index = index;
	alarm_init(&l->pause, on_pause);
	r = uv_poll_init(&b->loop, &l->poll, fd);
	if (r < 0)
		return err_begin(r);
	l->poll.data = l;
	l->fd = TAKE_FD(fd);
	uv_poll_start(&l->poll, UV_READABLE, on_connection);
	*ret = TAKE(l);
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	alarm_stop(&l->broker->alarms, &l->pause);
	uv_close((uv_handle_t *)&l->poll, on_closed);
	l->fd = fd_close(l->fd);
}
