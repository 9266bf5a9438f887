/* All ports that have certain labels, for a Wait or a Signal: found by a walk (walk.h), which may
 * take many turns of the loop.
 */
#ifndef REDD_BROKER_SELECTION_H
#define REDD_BROKER_SELECTION_H

#include <stdbool.h>

struct broker;
struct selection;

/* Its request is answered, or nobody waits for that any more. Ports are not looked for any more,
 * but a Signal that has begun goes on to the last of those that were found. NULL is harmless. */
void selection_leave(struct selection *s);

/* It could still be given up without a trace. NULL: false. */
bool selection_is_choosing(const struct selection *s);

/* Gives up those that go on. */
void selections_free(struct broker *b);

#endif
