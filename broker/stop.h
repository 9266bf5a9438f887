/* How the service ends, for a signal, a Shutdown or for want of work.
 *
 *	TERMINATE --time is up--> KILL --all have ended, or that time is up too--> TELL --> BYE
 *	        `---all have ended----------------------------------------^
 */
#ifndef REDD_BROKER_STOP_H
#define REDD_BROKER_STOP_H

#include <stdint.h>

#include "broker/alarm.h"
#include "broker/walk.h"

struct broker;
struct port;

enum stop_phase {
	STOP_TERMINATE, /* ports have got SIGTERM */
	STOP_KILL,	/* ports have got SIGKILL */
	STOP_TELL,	/* clients get what there still is for them */
	STOP_BYE,	/* and a last word */
};

struct stop {
	struct walk walk; /* tells all ports */
	enum stop_phase phase;
	uint64_t end_ms; /* of the phase, loop time */
	struct alarm alarm;
};

void stop_init(struct stop *s);

/* Begins: no new connections and spawns from now on. Harmless when it has begun. drain_ms 0: ports
 * are killed at once. */
void stop_begin(struct broker *b, uint32_t drain_ms);

/* Nothing of it goes on: the broker is about to go. */
void stop_end(struct stop *s);

/* A port that has come to run only now gets what the others got. */
void stop_port(struct broker *b, struct port *p);

#endif
