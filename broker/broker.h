/* The service's broker: owner of the loop and of everything in it; the order in which it starts and
 * stops.
 *
 *	STARTING --keeper is ready--> SERVING --signal, Shutdown--> DRAINING --ports over--> LEFT
 *	                                 `--- last idle second ----------^
 */
#ifndef REDD_BROKER_BROKER_H
#define REDD_BROKER_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/alarm.h"
#include "broker/yield.h"
#include "broker/errand.h"
#include "broker/events.h"
#include "broker/expect.h"
#include "broker/helper_link.h"
#include "broker/policy.h"
#include "broker/port_table.h"
#include "broker/quota.h"
#include "broker/ring_pool.h"
#include "broker/scratch.h"
#include "broker/settings.h"
#include "broker/stop.h"
#include "broker/transit.h"
#include "broker/turn.h"
#include "broker/waits.h"
#include "proto/arena.h"
#include "proto/base/buf.h"
#include "proto/base/list.h"
#include "proto/limits.h"

struct closer;
struct listener;
struct port_events;

enum broker_state { BROKER_STARTING, BROKER_SERVING, BROKER_DRAINING, BROKER_LEFT };

/* What Stats tells besides the numbers that are looked up. */
struct broker_counters {
	uint64_t connections, refused_connections, requests, refused_frames;
	uint64_t spawned, failed, exited;
	uint64_t bytes_in, bytes_out;
	uint64_t held; /* times that an output was held back for a reader */
	uint64_t gaps, gap_bytes;
	uint64_t held_ms; /* of all outputs together, once they went on */
	uint64_t stalled; /* subscriptions moved from block to drop */
	uint64_t expects, expects_matched, expects_lost;
	uint64_t searched, search_turns; /* bytes; turns that left some for the next one */
};

struct broker {
	uv_loop_t loop;
	enum broker_state state;
	struct turn turn;
	struct yield yield;
	struct alarms alarms;
	struct expect_turns expects;
	struct helper_link helper;
	struct settings settings;
	struct policy policy;
	struct quota *quota;
	struct ring_pool *rings;
	struct transit transit;
	struct closer *closer; /* NULL until it has something to do */
	struct events *events;
	struct port_table ports;
	struct records *records;
	struct scratch scratch;
	struct inheritance *inheritance; /* while it is taken up */
	const struct port_events *port_events;
	struct listener *listeners[LISTENERS_MAX];
	unsigned n_listeners;
	struct list conns, sessions, errands, watching, group_signals, ended_ports;
	struct list delegations, selections; /* selections: those on their own */
	struct waits waits;
	struct errand_turns errand_turns;
	unsigned n_errands; /* that wait or are out */
	unsigned n_delegations;
	uint64_t door_places[DELEGATIONS_MAX / 64]; /* bit set: taken */
	uint64_t last_grant; /* and claim, and delegation: with `deaths` never used twice */
	unsigned n_conns;
	unsigned n_grown_pipes;
	unsigned n_shared; /* subscriptions that read the logs' memory */
	uint64_t last_cookie;
	struct broker_counters counters;
	struct alarm beat, idle;
	struct stop stop;
	uv_signal_t signals[3];
	struct arena arena; /* for dispatch.c: the frame in hand */
	struct buf small;   /* for conn_send.c: messages of one batch */
	uint8_t instance[INSTANCE_ID_SIZE];
	pid_t keeper_pid;
	uint32_t incarnation;
	uint64_t deaths;
	char *config; /* strings of the configuration, owned; the next two point into it */
	size_t config_size;
	const char *helper_path;
	const char *environment; /* NUL-terminated strings, environment_count of them */
	uint32_t environment_count;
	int config_fd;
	int lock_fds[LISTENERS_MAX];
	unsigned n_locks;
	int listener_fds[LISTENERS_MAX]; /* until `ready` */
	unsigned n_listener_fds;
	int status; /* what the service exits with */
};

/* The lists and buffers of a broker that is all zeros, with nothing in them yet. */
static inline void broker_empty(struct broker *b)
{
	list_init(&b->conns);
	list_init(&b->sessions);
	list_init(&b->errands);
	list_init(&b->watching);
	list_init(&b->group_signals);
	list_init(&b->ended_ports);
	list_init(&b->delegations);
	list_init(&b->selections);
	waits_init(&b->waits);
	yield_init(&b->yield, &b->loop, &b->alarms, &b->turn);
	errand_turns_init(&b->errand_turns, &b->turn, errand_send_out);
	expect_turns_init(&b->expects);
	arena_init(&b->arena);
	buf_init(&b->small, KIB(16));
}

/* Runs until the service is over. keeper_fd is owned. Returns the exit status. */
int broker_run(int keeper_fd);

/* Something that makes the broker busy has gone. */
void broker_check_idle(struct broker *b);

/* "REDD_PORT=<instance>.<id>": what stands in the environment of a port's processes. */
void broker_mark(const struct broker *b, uint64_t port, char ret[64]);

/* An unexpected failure that leaves nothing to go on with: ends this process at once and gives
 * nothing back, so that the keeper's next broker finds all that there was. */
void broker_fail(struct broker *b, int error);

#endif
