/* Good path: minted, knocked at, connections come and go, all copies of the door are closed, gone.
 *
 * What comes through a door is looked at before it becomes a connection: one byte, one descriptor,
 * a connected Unix stream socket. Everything else is closed, off the loop, and the knock is
 * forgotten; the door goes on. Knocks are taken a few a turn, and one door has DELEGATION_CONNS
 * connections at the most, all of them its maker's by quota. A blocking socket does no harm: all
 * reading and writing here says MSG_DONTWAIT.
 *
 * The memory goes when libuv is done with the handle; nobody can find it by then.
 */
#include "broker/delegation.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/holding.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/session.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/fdpass.h"

#define PAUSE_MS 1

/* --- what it covers -------------------------------------------------------------------------- */

static bool covers(const struct delegation *d, uint64_t port, const struct labels *labels,
		   const struct principal *owner)
{
	if (owner->delegation == d->who.delegation)
		return true;
	if (d->options.selector)
		return labels_match(labels, d->options.selector);
	for (unsigned i = 0; i < d->options.n_ports; i++)
		if (d->options.ports[i] == port)
			return true;
	return false;
}

unsigned delegation_rights(const struct delegation *d, uint64_t port, const struct labels *labels,
			   const struct principal *owner)
{
	return covers(d, port, labels, owner) ? d->options.rights : 0;
}

stream_set delegation_streams(const struct delegation *d, const struct port *p)
{
	stream_set set = d->options.n_streams ? 0 : STREAMS_ALL;

	for (unsigned i = 0; i < d->options.n_streams; i++)
		for (unsigned j = 0; j < p->n_streams; j++)
			if (p->streams[j]->number == d->options.streams[i])
				set |= (stream_set)(1u << j);
	return set;
}

struct delegation *delegation_find(const struct broker *b, uint64_t id)
{
	struct delegation *d;

	list_for_each (d, &b->delegations, link)
		if (d->who.delegation == id)
			return d;
	return NULL;
}

/* --- the end --------------------------------------------------------------------------------- */

static struct closer_whose delegation_whose(const struct delegation *d)
{
	return (struct closer_whose){ d->account, d->who.delegation };
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void delegation_free(struct delegation *d)
{
	const struct closer_whose whose = delegation_whose(d);
	struct broker *b = d->broker;

	list_remove(&d->link);
	b->n_delegations--;
	delegation_unkeep(d);
	holding_door_over(b, d->who.delegation);
	alarm_stop(&b->alarms, &d->end);
	alarm_stop(&b->alarms, &d->pause);
	d->options.selector = labels_unref(d->options.selector);
	closer_wait_end(&d->closer_wait);
	uv_close((uv_handle_t *)&d->poll, on_closed);
	shutdown(d->fd, SHUT_RDWR); /* the keeper has it for a while still, or a successor */
	closer_close(b, &whose, &d->fd, 1); /* knocks wait in it, with what they carry */
	quota_charge_return(&d->charge);
	d->account = quota_account_unref(d->account);
	session_check_awaited(TAKE(d->session));
}

void delegation_end(struct delegation *d, const char *reason)
{
	struct broker *b = d->broker;
	struct conn *c, *next;

	d->is_over = true;
	list_for_each_safe (c, next, &b->conns, link) {
		if (!d->n_conns)
			break;
		if (c->delegation == d) {
			conn_lose_rights(c);
			conn_leave(c, REPLY_PERMISSION_DENIED, reason);
		}
	}
	delegation_free(d);
	broker_check_idle(b);
}

bool delegations_hang_on(const struct broker *b, const struct session *s)
{
	const struct delegation *d;

	list_for_each (d, &b->delegations, link)
		if (d->session == s)
			return true;
	return false;
}

void delegations_end_with(struct broker *b, const struct session *s)
{
	struct delegation *d, *next;

	list_for_each_safe (d, next, &b->delegations, link) {
		if (d->session != s)
			continue;
		d->session = NULL;
		delegation_end(d, "the session that made this door has ended");
	}
}

void delegations_end_all(struct broker *b)
{
	struct delegation *d, *next;

	list_for_each_safe (d, next, &b->delegations, link)
		delegation_end(d, "the service is shut down");
}

/* Nobody has the door any more, nor came through it. */
static void delegation_check(struct delegation *d)
{
	struct broker *b = d->broker;

	if (d->is_over || !d->is_shut || d->n_conns)
		return;
	d->is_over = true;
	delegation_free(d);
	broker_check_idle(b);
}

void delegation_enter(struct delegation *d)
{
	d->n_conns++;
}

void delegation_leave(struct delegation *d)
{
	d->n_conns--;
	delegation_check(d);
}

static void on_end(struct alarm *a)
{
	delegation_end(container_of(a, struct delegation, end), "the time of this door is up");
}

/* --- the door -------------------------------------------------------------------------------- */

static void on_door(uv_poll_t *poll, int status, int events);

static void on_pause(struct alarm *a)
{
	struct delegation *d = container_of(a, struct delegation, pause);

	uv_poll_start(&d->poll, UV_READABLE, on_door);
}

static void on_closer(struct closer_wait *w)
{
	on_pause(&container_of(w, struct delegation, closer_wait)->pause);
}

static void shut(struct delegation *d)
{
	d->is_shut = true;
	uv_poll_stop(&d->poll);
	closer_wait_end(&d->closer_wait);
	alarm_stop(&d->broker->alarms, &d->pause);
	delegation_check(d);
}

static bool has_option(int fd, int option, int wanted)
{
	socklen_t size = sizeof(int);
	int value = -1;

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

/* A connected Unix stream socket. */
static bool is_fit(int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);

	return has_option(fd, SO_DOMAIN, AF_UNIX) && has_option(fd, SO_TYPE, SOCK_STREAM) &&
	       has_option(fd, SO_ACCEPTCONN, 0) &&
	       getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
}

static void refuse(struct delegation *d, int *take_fd, enum reply_code code, const char *sentence)
{
	const struct closer_whose whose = delegation_whose(d);

	reply_refuse_connection(*take_fd, code, sentence);
	closer_close_socket(d->broker, &whose, take_fd);
	d->broker->counters.refused_connections++;
}

static void let_in(struct delegation *d, int *take_fd)
{
	struct broker *b = d->broker;

	b->counters.connections++;
	if (d->n_conns >= DELEGATION_CONNS) {
		refuse(d, take_fd, REPLY_RESOURCE_EXHAUSTED,
		       "as many connections came through this door as may at once; close some");
		return;
	}
	if (b->state != BROKER_SERVING || fd_is_high(*take_fd, DESCRIPTOR_RESERVE)) {
		refuse(d, take_fd, REPLY_UNAVAILABLE,
		       "the broker takes no connections now; try again later");
		return;
	}
	if (conn_new_through(d, TAKE_FD(*take_fd)) > 0)
		b->counters.refused_connections++;
}

/* 1: one was dealt with; 0: nobody knocks, or none may now, and the door may have been shut. */
static int take_knock(struct delegation *d)
{
	const struct closer_whose whose = delegation_whose(d);
	struct pollfd p = { .fd = d->fd };
	struct fdpass_info info;
	int fds[FDPASS_MAX];
	uint8_t byte[2];
	ssize_t n;

	if (closer_waits(d->broker, &d->closer_wait, &whose)) {
		uv_poll_stop(&d->poll);
		return 0;
	}
	n = fdpass_recv(d->fd, byte, sizeof(byte), MSG_DONTWAIT, fds, ARRAY_SIZE(fds), &info);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	/* An empty message reads like the end. */
	if (n < 0 || (n == 0 && (poll(&p, 1, 0) < 0 || (p.revents & POLLHUP)))) {
		shut(d);
		return 0;
	}
	if (n == 1 && info.n_fds == 1 && !info.truncated && !info.surplus &&
	    !info.message_truncated && is_fit(fds[0])) {
		let_in(d, &fds[0]);
		return 1;
	}
	d->broker->counters.refused_connections++;
	closer_close(d->broker, &whose, fds, info.n_fds);
	return 1;
}

static void on_door(uv_poll_t *poll, int status, int events)
{
	struct delegation *d = poll->data;
	unsigned i = 0;

	(void)events;
	if (status < 0) {
		shut(d);
		return;
	}
	while (i < DOOR_KNOCKS_A_TURN && take_knock(d))
		i++;
	/* One that floods has its pauses; what it sends meanwhile fills its own socket. */
	if (i == DOOR_KNOCKS_A_TURN && !d->is_shut) {
		uv_poll_stop(&d->poll);
		alarm_set(&d->broker->alarms, &d->pause, PAUSE_MS);
	}
}

/* --- beginning ------------------------------------------------------------------------------- */

struct delegation *delegation_blank(struct broker *b, int take_fd)
{
	struct delegation *d = calloc(1, sizeof(*d));

	if (!d) {
		fd_close(take_fd);
		return NULL;
	}
	d->broker = b;
	d->fd = take_fd;
	d->place = DELEGATIONS_MAX;
	alarm_init(&d->end, on_end);
	alarm_init(&d->pause, on_pause);
	closer_wait_init(&d->closer_wait, on_closer);
	return d;
}

void delegation_drop(struct delegation *d)
{
	alarm_stop(&d->broker->alarms, &d->end);
	quota_charge_return(&d->charge);
	d->account = quota_account_unref(d->account);
	fd_close(d->fd);
	free(d);
}

static int set_end(struct delegation *d)
{
	uint64_t now = uv_now(&d->broker->loop), until = d->options.until_ms;

	if (!until)
		return 0;
	return err_pass(alarm_set(&d->broker->alarms, &d->end, until > now ? until - now : 0));
}

int delegation_open(struct delegation *d, const char **ret_reason)
{
	struct broker *b = d->broker;
	int r;

	if (quota_charge_take(&d->charge, d->account, QUOTA_DESCRIPTORS, 1, ret_reason))
		return DELEGATION_E_QUOTA;
	r = set_end(d);
	if (r < 0)
		return err_pass(r);
	r = uv_poll_init(&b->loop, &d->poll, d->fd);
	if (r < 0)
		return err_begin(r);
	d->poll.data = d;
	d->who.may_not_spawn = !d->options.may_spawn;
	list_append(&b->delegations, &d->link);
	b->n_delegations++;
	uv_poll_start(&d->poll, UV_READABLE, on_door);
	return 0;
}

int delegation_new(struct delegation **ret, struct conn *maker, struct delegation_options *options,
		   int *ret_door, const char **ret_reason)
{
	struct broker *b = maker->broker;
	struct delegation *d;
	int ends[2], r;

	if (b->n_delegations >= DELEGATIONS_MAX)
		return DELEGATION_E_TOO_MANY;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno();
	d = delegation_blank(b, ends[0]);
	if (!d || fd_is_high(ends[1], DESCRIPTOR_RESERVE)) {
		fd_close(ends[1]);
		if (d)
			delegation_drop(d);
		return err_begin(-ENOMEM);
	}
	d->who = maker->who;
	d->who.delegation = b->deaths << 32 | ++b->last_grant;
	memcpy(d->groups, maker->groups, sizeof(d->groups));
	d->n_groups = maker->n_groups;
	d->account = quota_account_ref(maker->uid_account);
	d->options = *options;
	r = delegation_open(d, ret_reason);
	if (r) {
		fd_close(ends[1]);
		delegation_drop(d);
		return r;
	}
	options->selector = NULL;
	d->session = d->options.with_session ? maker->session : NULL;
	delegation_keep(d);
	*ret = d;
	*ret_door = ends[1];
	return 0;
}
