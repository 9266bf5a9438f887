/* Port handles: how a program names a port. A handle holds an id, a name, or the request that
 * spawns the port, and nothing of the port's state; freeing it does nothing to the port.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/handles.h"
#include "proto/base/err.h"
#include "proto/redd.pb-c.h"

struct redd_port *port_ref(struct redd_port *p)
{
	if (p)
		p->refs++;
	return p;
}

static bool is_same(const struct redd_port *a, const struct redd_port *b)
{
	if (a->id)
		return a->id == b->id;
	return a->name && b->name && strcmp(a->name, b->name) == 0;
}

void port_is_shared(const struct redd_port *p)
{
	struct redd_port *other;

	if (!p->inputs.is_used || p->r->state == CLIENT_DOWN)
		return;
	list_for_each (other, &p->r->ports, link)
		if (other != p && is_same(other, p))
			ledgers_doubt(&other->inputs, p->r->calls.last_number);
}

void port_unref(struct redd_port *p)
{
	if (!p || --p->refs)
		return;
	port_is_shared(p);
	list_remove(&p->link);
	free(p->name);
	free(p);
}

struct redd_port *port_new(struct redd *r)
{
	struct redd_port *p = calloc(1, sizeof(*p));

	if (!p) {
		client_fail(r, err_begin(-ENOMEM), "no memory for a port");
		return NULL;
	}
	p->refs = 1;
	p->r = r;
	p->held = true;
	list_init(&p->subscriptions);
	list_append(&r->ports, &p->link);
	return p;
}

void redd_port_free(struct redd_port *p)
{
	struct redd_subscription *s;

	if (!p || !p->held)
		return;
	p->held = false;
	p->with_spawn = NULL;
	while ((s = list_first(&p->subscriptions, struct redd_subscription, of_port)))
		redd_subscription_free(s);
	port_unref(p);
}

void port_name_in(const struct redd_port *p, Redd__V1__PortRef *ref)
{
	*ref = (Redd__V1__PortRef)REDD__V1__PORT_REF__INIT;
	if (p->id) {
		ref->by_case = REDD__V1__PORT_REF__BY_ID;
		ref->id = p->id;
	} else if (p->spawn) {
		ref->by_case = REDD__V1__PORT_REF__BY_SPAWN;
		ref->spawn = p->spawn;
	} else {
		ref->by_case = REDD__V1__PORT_REF__BY_NAME;
		ref->name.data = (uint8_t *)p->name;
		ref->name.len = p->name ? strlen(p->name) : 0;
	}
}

int redd_port_by_id(struct redd *r, uint64_t id, struct redd_port **ret_port)
{
	struct redd_port *p;

	if (id == 0)
		return client_fail(r, -EINVAL, "0 is no port; ids start at 1");
	p = port_new(r);
	if (!p)
		return -ENOMEM;
	p->id = id;
	*ret_port = p;
	return 0;
}

int redd_port_by_name(struct redd *r, const char *name, struct redd_port **ret_port)
{
	struct redd_port *p;
	size_t size = name ? strlen(name) : 0;

	if (size == 0 || size > NAME_MAX_SIZE)
		return client_fail(r, -EINVAL, "a port's name has 1 to %u bytes, not %zu",
				   NAME_MAX_SIZE, size);
	p = port_new(r);
	if (!p)
		return -ENOMEM;
	p->name = strdup(name);
	if (!p->name) {
		redd_port_free(p);
		return client_fail(r, err_begin(-ENOMEM), "no memory for a port");
	}
	*ret_port = p;
	return 0;
}

int redd_port_find(struct redd *r, const char *id_or_name, struct redd_port **ret_port)
{
	unsigned long long id;
	char *end;

	if (!id_or_name || id_or_name[0] < '0' || id_or_name[0] > '9')
		return redd_port_by_name(r, id_or_name, ret_port);
	errno = 0;
	id = strtoull(id_or_name, &end, 10);
	if (errno || *end)
		return client_fail(r, -EINVAL,
				   "'%s' is neither an id nor a name; names do not start with a "
				   "digit",
				   id_or_name);
	return redd_port_by_id(r, id, ret_port);
}

struct redd *redd_port_connection(const struct redd_port *p)
{
	return p->r;
}

uint64_t redd_port_id(const struct redd_port *p)
{
	return p->id;
}

pid_t redd_port_pid(const struct redd_port *p)
{
	return p->pid;
}

uint32_t redd_port_input_window(const struct redd_port *p)
{
	return p->window;
}

struct redd_subscription *redd_port_subscription(const struct redd_port *p)
{
	return p->with_spawn;
}
