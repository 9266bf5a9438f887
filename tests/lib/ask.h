/* Requests as text (tests/lib/text.h) over a peer, and their answers.
 *
 *	struct peer p;
 *	Redd__V1__Message *m;
 *
 *	ask_greet(&p, service.socket);
 *	m = ask(&p, "inspect { port { id: %d } }", 7);
 *	cr_assert(ask_is_error(m, REDD__V1__CODE__NOT_FOUND), "%s", ask_text(m));
 */
#ifndef TESTS_LIB_ASK_H
#define TESTS_LIB_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/peer.h"

/* Connects, says Hello, and has been told Welcome. peer_close() ends it. */
void ask_greet(struct peer *p, const char *socket);

/* Sends one request, numbered by the peer. Returns its id; a socket that takes nothing any more
 * fails the test. */
uint64_t ask_send(struct peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with a number of the caller's choice, 0 too; without printf's %. Returns what
 * peer_send() does. */
int ask_send_as(struct peer *p, uint64_t id, const char *text);

/* Appends the frame, its length in front. */
void ask_pack(struct buf *out, uint64_t id, const char *text);

/* Sends and waits for the answer, which is valid until the next call; never NULL: that none came
 * fails the test. Events in between are dropped. */
Redd__V1__Message *ask(struct peer *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
Redd__V1__Message *ask_answer(struct peer *p, uint64_t id);

/* The next message of that kind, whatever else comes before; NULL when the other side closed or
 * nothing came in time. */
Redd__V1__Message *ask_event(struct peer *p, Redd__V1__Message__BodyCase what);

/* The answer is an Error of that code with a sentence that a person can be shown. */
bool ask_is_error(const Redd__V1__Message *m, Redd__V1__Code code);

/* What a message says, for a failed assertion: "INVALID_ARGUMENT (22): umask is more than 0777". */
const char *ask_text(const Redd__V1__Message *m);

/* NULL, or what is wrong with an Error: no code, no sentence, control characters in it. */
const char *ask_check_error(const Redd__V1__Error *e);

/* Spawns one of tests/progs; fields beside program and args in `more`. The port's id. */
uint64_t ask_spawn(struct peer *p, const char *prog, const char *more);

/* Stops the port's program, and returns when it does stand still: its signal is only sent then. */
void ask_stop(struct peer *p, uint64_t port);

/* Kills the port's tree, waits for its end and forgets it. */
void ask_end(struct peer *p, uint64_t port);

#endif
