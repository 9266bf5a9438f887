#include "broker/pending.h"

#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/input.h"
#include "broker/errand.h"
#include "broker/expect.h"
#include "broker/port.h"
#include "broker/reply.h"
#include "broker/selection.h"
#include "proto/base/err.h"

static void on_alarm(struct alarm *a)
{
	struct pending *p = container_of(a, struct pending, alarm);

	reply_error(p->conn, p->request, REPLY_DEADLINE_EXCEEDED, 0,
		    p->port || p->kind == PENDING_EXPECT
			    ? "the time of this Wait is up; the port is still there"
			    : "the time of this Wait is up; none of these ports has got so far");
	pending_free(p);
}

static bool is_wait(enum pending_kind kind)
{
	return kind == PENDING_WAIT_EXITED || kind == PENDING_WAIT_CLOSED;
}

int pending_new(struct pending **ret, struct conn *conn, struct port *port, enum pending_kind kind,
		uint64_t request)
{
	struct pending *p;

	if (conn->n_pendings >= CONN_PENDING_MAX)
		return PENDING_E_TOO_MANY;
	if (pending_find(conn, request))
		return PENDING_E_EXISTS;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_begin(-ENOMEM);
	if (quota_charge_take(&p->charge, conn->account, QUOTA_MEMORY, QUOTA_WEIGHT_PENDING,
			      NULL)) {
		free(p);
		return PENDING_E_TOO_MANY;
	}
	p->kind = kind;
	p->conn = conn;
	p->port = port;
	p->request = request;
	alarm_init(&p->alarm, on_alarm);
	list_init(&p->port_link);
	list_init(&p->cookie_link);
	list_init(&p->select_link);
	lease_claim_init(&p->claim, NULL, 0);
	list_append(&conn->pendings, &p->conn_link);
	conn->n_pendings++;
	if (port)
		list_append(&port->pendings, &p->port_link);
	if (port && is_wait(kind))
		port->n_waits++;
	*ret = p;
	return 0;
}

void pending_free(struct pending *p)
{
	if (p->expect)
		expect_free(TAKE(p->expect));
	if (p->conn) {
		alarm_stop(&p->conn->broker->alarms, &p->alarm);
		p->conn->n_pendings--;
	}
	if (p->port && is_wait(p->kind))
		p->port->n_waits--;
	if (list_is_linked(&p->select_link))
		p->conn->broker->waits.n_selected--;
	if (p->item)
		p->item->cookie = NULL;
	if (p->data)
		p->data->cookie = NULL;
	if (p->errand)
		errand_cancel(p->errand);
	list_remove(&p->conn_link);
	list_remove(&p->port_link);
	list_remove(&p->cookie_link);
	list_remove(&p->select_link);
	lease_unwait(&p->claim);
	labels_unref(p->selector);
	selection_leave(p->selection);
	quota_charge_return(&p->select_charge);
	quota_charge_return(&p->charge);
	free(p);
}

/* False: bytes of the item are in the pipe. */
static bool cancel_item(struct pending *p, struct input_item **item)
{
	if (!*item)
		return true;
	if (input_cancel(&p->stream->in.queue, *item))
		return false;
	input_item_free(TAKE(*item));
	return true;
}

/* A Write with a close goes as a whole or not at all. */
bool pending_cancel_input(struct pending *p)
{
	if (p->item && p->item == p->stream->in.closing)
		return false;
	if (p->tells_written && p->size && !p->data)
		return false;
	return cancel_item(p, &p->data) && cancel_item(p, &p->item);
}

struct pending *pending_find(const struct conn *conn, uint64_t request)
{
	struct pending *p;

	list_for_each (p, &conn->pendings, conn_link)
		if (p->request == request)
			return p;
	return NULL;
}

void pendings_abandon(struct conn *conn)
{
	struct pending *p, *next;

	list_for_each_safe (p, next, &conn->pendings, conn_link)
		pending_free(p);
}
