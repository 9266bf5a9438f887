/* All ports of the service: by id, by name, by token; in the order of their ids. Ids rise and are
 * never used again. Names and tokens belong to one principal each: nobody can find out what others
 * chose.
 */
#ifndef REDD_BROKER_PORT_TABLE_H
#define REDD_BROKER_PORT_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "broker/policy.h"
#include "proto/base/list.h"
#include "proto/limits.h"

struct port;

#define PORT_TABLE_BUCKETS 4096u

struct port_table {
	struct port **slots; /* PORTS_MAX; a port's place is its id modulo that */
	uint64_t last_id;
	unsigned n;
	struct list names[PORT_TABLE_BUCKETS], tokens[PORT_TABLE_BUCKETS];
};

/* 0 or -ENOMEM. */
int port_table_init(struct port_table *t);
void port_table_deinit(struct port_table *t);

/* The next id whose place is free, or 0 when there is none. */
uint64_t port_table_next_id(struct port_table *t);

/* The port's id, name and token must be set. */
void port_table_add(struct port_table *t, struct port *p);
void port_table_remove(struct port_table *t, struct port *p);

struct port *port_table_by_id(const struct port_table *t, uint64_t id);
struct port *port_table_by_name(const struct port_table *t, const struct principal *owner,
				const void *name, size_t size);
struct port *port_table_by_token(const struct port_table *t, const struct principal *owner,
				 const void *token, size_t size);

/* The port with the lowest id above `id`, or NULL. */
struct port *port_table_after(const struct port_table *t, uint64_t id);

/* In the order of ids. Ports may go meanwhile, p too. */
#define port_table_for_each(p, t) \
	for (uint64_t after_ = 0; (p = port_table_after((t), after_)) && (after_ = p->id, 1);)

#endif
