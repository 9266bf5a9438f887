#include "broker/port_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "broker/port.h"
#include "proto/base/err.h"

int port_table_init(struct port_table *t)
{
	t->slots = calloc(PORTS_MAX, sizeof(*t->slots));
	if (!t->slots)
		return err_begin(-ENOMEM);
	t->last_id = 0;
	t->n = 0;
	for (unsigned i = 0; i < PORT_TABLE_BUCKETS; i++) {
		list_init(&t->names[i]);
		list_init(&t->tokens[i]);
	}
	return 0;
}

void port_table_deinit(struct port_table *t)
{
	free(TAKE(t->slots));
}

uint64_t port_table_next_id(struct port_table *t)
{
	for (unsigned i = 0; i < PORTS_MAX; i++)
		if (!t->slots[++t->last_id % PORTS_MAX])
			return t->last_id;
	return 0;
}

static struct list *bucket(struct list *buckets, const void *key, size_t size)
{
	return &buckets[XXH3_64bits(key, size) % PORT_TABLE_BUCKETS];
}

void port_table_add(struct port_table *t, struct port *p)
{
	const struct port_options *o = &p->options;

	t->slots[p->id % PORTS_MAX] = p;
	t->n++;
	if (*o->name)
		list_append(bucket(t->names, o->name, strlen(o->name)), &p->name_link);
	if (o->token_size)
		list_append(bucket(t->tokens, o->token, o->token_size), &p->token_link);
}

void port_table_remove(struct port_table *t, struct port *p)
{
	if (t->slots[p->id % PORTS_MAX] != p)
		return;
	t->slots[p->id % PORTS_MAX] = NULL;
	t->n--;
	list_remove(&p->name_link);
	list_remove(&p->token_link);
}

struct port *port_table_by_id(const struct port_table *t, uint64_t id)
{
	struct port *p = t->slots[id % PORTS_MAX];

	return p && p->id == id ? p : NULL;
}

struct port *port_table_by_name(const struct port_table *t, const struct principal *owner,
				const void *name, size_t size)
{
	struct list *names = bucket((struct list *)t->names, name, size);
	struct port *p;

	list_for_each (p, names, name_link)
		if (principal_is_same(&p->owner, owner) && strlen(p->options.name) == size &&
		    !memcmp(p->options.name, name, size))
			return p;
	return NULL;
}

struct port *port_table_by_token(const struct port_table *t, const struct principal *owner,
				 const void *token, size_t size)
{
	struct list *tokens = bucket((struct list *)t->tokens, token, size);
	struct port *p;

	list_for_each (p, tokens, token_link)
		if (principal_is_same(&p->owner, owner) && p->options.token_size == size &&
		    !memcmp(p->options.token, token, size))
			return p;
	return NULL;
}

/* Ids lie anywhere at or below last_id, so this looks for the lowest above `id` by walking the
 * slots from there: ports that live long leave holes of any size, PORTS_MAX places bound the walk.
 * When ids have run far ahead of old ports, a second look finds the lowest of all. */
struct port *port_table_after(const struct port_table *t, uint64_t id)
{
	uint64_t end = MIN(t->last_id, id + PORTS_MAX);
	struct port *best = NULL;

	if (!t->n || id >= t->last_id)
		return NULL;
	for (uint64_t i = id + 1; i <= end; i++) {
		struct port *p = t->slots[i % PORTS_MAX];

		if (p && p->id == i)
			return p;
		if (p && p->id > id && (!best || p->id < best->id))
			best = p;
	}
	return best;
}
