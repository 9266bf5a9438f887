/* What ports tell the requests' side, by the family that has it to answer (see req_events.c). */
#ifndef REDD_BROKER_REQ_EVENTS_H
#define REDD_BROKER_REQ_EVENTS_H

#include <stdint.h>

struct input_item;
struct pending;
struct port;
struct stream;

void req_input_changed(struct stream *s);
void req_input_closed(struct stream *s, struct input_item *take_item, int error);
void req_input_failed(struct stream *s, int error);

/* Answers every Spawn that waits for the port. */
void req_spawn_started(struct port *p);
void req_spawn_failed(struct port *p, uint32_t stage, int error);

#endif
