#include "broker/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/delegation.h"
#include "broker/pending.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/rights.h"
#include "broker/session.h"
#include "broker/spawn_line.h"
#include "broker/subscription.h"
#include "broker/life.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

#define BYE_TIMEOUT_MS 2000

struct closer_whose conn_whose(const struct conn *c)
{
	return (struct closer_whose){ c->uid_account, c->who.delegation };
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct conn *c = poll->data;

	if (status < 0) {
		conn_close(c); /* reset by the peer */
		return;
	}
	if (events & UV_PRIORITIZED) {
		conn_close(c); /* all that a SILENT one is watched for: it hung up */
		return;
	}
	if (events & UV_WRITABLE)
		conn_writable(c);
	if (events & UV_READABLE)
		conn_readable(c);
}

static bool conn_reads(const struct conn *c)
{
	return (c->state == CONN_GREETING || c->state == CONN_OPEN) && !c->is_full &&
	       !job_waits(&c->work) && !list_is_linked(&c->closer_wait.link);
}

void conn_watch(struct conn *c)
{
	int mask = 0;

	if (c->state == CONN_CLOSED)
		return;
	if (conn_reads(c))
		mask |= UV_READABLE;
	if (c->is_choked)
		mask |= UV_WRITABLE;
	if (c->state == CONN_SILENT)
		mask |= UV_PRIORITIZED; /* never comes; its hanging up comes with it */
	if (mask == c->mask)
		return;
	c->mask = mask;
	if (mask)
		uv_poll_start(&c->poll, mask, on_poll);
	else
		uv_poll_stop(&c->poll);
}

/* --- beginning ------------------------------------------------------------------------------- */

static void on_deadline(struct alarm *a)
{
	struct conn *c = container_of(a, struct conn, deadline);

	if (c->state == CONN_GREETING)
		conn_leave(c, REPLY_DEADLINE_EXCEEDED,
			   "no Hello came within two seconds; say Hello first, then ask");
	else
		conn_close(c);
}

static void on_closer(struct closer_wait *w)
{
	conn_watch(container_of(w, struct conn, closer_wait));
}

static void conn_blank(struct conn *c, struct broker *b, int fd)
{
	c->broker = b;
	c->fd = fd;
	c->frame_max = FRAME_MAX_DEFAULT;
	buf_init(&c->in, FRAME_PREFIX_MAX + FRAME_MAX_DEFAULT + CONN_READ_SIZE);
	buf_init(&c->control, CONN_CONTROL_BOUND + 4 * FRAME_MAX_DEFAULT);
	leftover_init(&c->leftover);
	list_init(&c->link);
	list_init(&c->subscriptions);
	list_init(&c->ready);
	list_init(&c->exits);
	list_init(&c->marks);
	list_init(&c->wakes);
	list_init(&c->watches);
	list_init(&c->watching_link);
	list_init(&c->pendings);
	list_init(&c->signals);
	expect_queue_init(&c->expects);
	job_init(&c->work, conn_work);
	job_init(&c->flush, conn_flush);
	alarm_init(&c->deadline, on_deadline);
	closer_wait_init(&c->closer_wait, on_closer);
}

/* Those besides its gid. Somebody with more than there is room for counts as in none of the rest.
 */
static int conn_read_groups(struct conn *c)
{
	socklen_t size = sizeof(c->groups);

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERGROUPS, c->groups, &size) < 0) {
		c->has_more_groups = errno == ERANGE;
		return c->has_more_groups ? 0 : err_errno();
	}
	c->n_groups = (unsigned)(size / sizeof(c->groups[0]));
	return 0;
}

/* Through a door it is whoever made that; only its pid is its own. */
static void conn_act_for(struct conn *c, struct delegation *d)
{
	c->delegation = d;
	c->who = d->who;
	c->n_groups = d->n_groups;
	memcpy(c->groups, d->groups, sizeof(c->groups));
	delegation_enter(d);
}

/* Who the kernel says it is, at the time of its connect(2). */
static int conn_identify(struct conn *c, uint32_t listener)
{
	struct ucred who;
	socklen_t size = sizeof(who);

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
		return err_errno();
	c->who = (struct principal){ .listener = listener, .uid = who.uid, .gid = who.gid };
	c->pid = who.pid;
	return err_pass(conn_read_groups(c));
}

static int conn_admit(struct conn *c, const char **ret_reason)
{
	struct broker *b = c->broker;
	int r = quota_account_of_uid(b->quota, c->who.uid, &c->uid_account);

	if (r < 0)
		return err_pass(r);
	if (!policy_may(&b->policy, &c->who, POLICY_CONNECT, NULL)) {
		*ret_reason = policy_reason(POLICY_CONNECT);
		return CONN_E_DENIED;
	}
	r = quota_account_of_connection(c->uid_account, &c->account);
	if (!r)
		r = spawn_line_new(&c->line);
	if (r < 0)
		return err_pass(r);
	do
		r = quota_charge_take(&c->charge, c->account, QUOTA_CONNECTIONS, 1, ret_reason);
	while (r == QUOTA_E_MEMORY && port_evict(b, NULL));
	if (r)
		return CONN_E_QUOTA;
	job_join(&c->work, quota_turn_share(c->uid_account));
	job_join(&c->flush, quota_turn_share(c->uid_account));
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static int conn_open(struct conn *c)
{
	int size = (int)CONN_SNDBUF, r = uv_poll_init(&c->broker->loop, &c->poll, c->fd);

	if (r < 0)
		return err_begin(r);
	c->poll.data = c;
	setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	list_append(&c->broker->conns, &c->link);
	c->broker->n_conns++;
	r = alarm_set(&c->broker->alarms, &c->deadline, HELLO_TIMEOUT_MS);
	conn_watch(c);
	return err_pass(r);
}

/* Descriptors on their way to us are closed with the socket, and that may take as long as who sent
 * them likes (SO_LINGER, socket(7)). */
static void conn_close_socket(struct conn *c)
{
	const struct closer_whose whose = conn_whose(c);

	closer_close_socket(c->broker, &whose, &c->fd);
}

static int conn_make(struct broker *b, uint32_t listener, struct delegation *d, int take_fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	const char *reason = NULL;
	int r;

	if (!c) {
		fd_close(take_fd);
		return err_begin(-ENOMEM);
	}
	conn_blank(c, b, take_fd);
	r = conn_identify(c, listener);
	if (!r && d)
		conn_act_for(c, d);
	if (!r)
		r = conn_admit(c, &reason);
	if (r > 0)
		reply_refuse_connection(c->fd,
					r == CONN_E_DENIED ? REPLY_PERMISSION_DENIED
							   : REPLY_RESOURCE_EXHAUSTED,
					reason);
	if (!r)
		r = conn_open(c);
	if (!r)
		return 0;
	if (r < 0 && list_is_linked(&c->link)) {
		conn_close(c);
		return err_pass(r);
	}
	conn_close_socket(c);
	quota_charge_return(&c->charge);
	c->account = quota_account_unref(c->account);
	c->uid_account = quota_account_unref(c->uid_account);
	c->line = spawn_line_unref(c->line);
	if (c->delegation)
		delegation_leave(c->delegation);
	free(c);
	return r;
}

int conn_new(struct broker *b, uint32_t listener, int take_fd)
{
	return conn_make(b, listener, NULL, take_fd);
}

int conn_new_through(struct delegation *d, int take_fd)
{
	return conn_make(d->broker, d->who.listener, d, take_fd);
}

/* --- end ------------------------------------------------------------------------------------- */

static void conn_release(struct conn *c)
{
	const struct closer_whose whose = conn_whose(c);
	struct subscription *s, *next;

	list_for_each_safe (s, next, &c->subscriptions, conn_link)
		subscription_free(s);
	id_table_deinit(&c->subscription_ids);
	watches_free(c);
	pendings_abandon(c);
	leftover_deinit(&c->leftover);
	conn_close_doors(c);
	buf_deinit(&c->in);
	buf_deinit(&c->control);
	free(TAKE(c->aliases));
	closer_wait_end(&c->closer_wait);
	closer_close(c->broker, &whose, c->fds, c->n_fds);
	c->n_fds = 0;
	quota_charge_return(&c->fds_charge);
	while (c->n_doors)
		fd_close(c->doors[--c->n_doors].fd);
	quota_charge_return(&c->in_charge);
	quota_charge_return(&c->control_charge);
	quota_charge_return(&c->charge);
}

static void conn_leave_accounts(struct conn *c)
{
	c->account = quota_account_unref(c->account);
	c->uid_account = quota_account_unref(c->uid_account);
	c->line = spawn_line_unref(c->line);
}

void conn_close(struct conn *c)
{
	struct session *session = TAKE(c->session);

	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	job_cancel(&c->work);
	job_cancel(&c->flush);
	alarm_stop(&c->broker->alarms, &c->deadline);
	list_remove(&c->link);
	c->broker->n_conns--;
	conn_release(c);
	uv_close((uv_handle_t *)&c->poll, on_closed);
	conn_close_socket(c);
	conn_leave_accounts(c);
	if (session)
		session_detach(session);
	if (c->delegation)
		delegation_leave(TAKE(c->delegation));
	broker_check_idle(c->broker);
}

void conn_lose_rights(struct conn *c)
{
	c->delegation->n_conns--;
	c->delegation = NULL;
	rights_look_at(c);
}

void conn_hear_end(struct conn *c)
{
	struct pollfd p = { .fd = c->fd };

	if (c->state != CONN_OPEN || poll(&p, 1, 0) < 0 || (p.revents & (POLLHUP | POLLERR))) {
		conn_close(c);
		return;
	}
	c->state = CONN_SILENT;
	conn_watch(c);
	conn_wake(c);
}

void conn_leave(struct conn *c, int code, const char *sentence)
{
	if (c->state == CONN_LEAVING || c->state == CONN_CLOSED)
		return;
	if (sentence)
		reply_bye(c, code, sentence);
	c->state = CONN_LEAVING;
	alarm_set(&c->broker->alarms, &c->deadline, BYE_TIMEOUT_MS);
	conn_watch(c);
	conn_wake(c);
}

void conn_fail(struct conn *c, int error)
{
	log_warning("client pid %d: %s", (int)c->pid, err_string(error));
	conn_close(c);
}

/* --- what it knows --------------------------------------------------------------------------- */

struct subscription *conn_subscription(const struct conn *c, uint64_t id)
{
	struct id_node *n = id_table_find(&c->subscription_ids, id);

	return n ? container_of(n, struct subscription, by_id) : NULL;
}

int conn_note_spawn(struct conn *c, uint64_t request, uint64_t port)
{
	if (!c->aliases)
		c->aliases = calloc(CONN_SPAWN_ALIASES, sizeof(*c->aliases));
	if (!c->aliases)
		return err_begin(-ENOMEM);
	c->aliases[c->n_aliases++ % CONN_SPAWN_ALIASES] = (struct conn_alias){ request, port };
	return 0;
}

uint64_t conn_spawned(const struct conn *c, uint64_t request)
{
	unsigned n = MIN(c->n_aliases, CONN_SPAWN_ALIASES);

	for (unsigned i = 1; i <= n; i++) {
		const struct conn_alias *a = &c->aliases[(c->n_aliases - i) % CONN_SPAWN_ALIASES];

		if (a->request == request)
			return a->port;
	}
	return 0;
}
