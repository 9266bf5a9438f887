/* A broker that says what a test tells it to, true or not, to one libredd handle in the same
 * thread: what it will say is put into the socket beforehand, and what the client said is read
 * afterwards. Requests get the ids 1 (Hello), 2, 3 ... in the order in which they are made.
 *
 *	struct fake f;
 *
 *	fake_open(&f);                          // connected, Hello answered
 *	fake_error(&f, 2, REDD__V1__CODE__NOT_FOUND, ENOENT, "no");
 *	cr_assert_eq(redd_ping(f.r), -ENOENT);
 *	fake_close(&f);
 */
#ifndef TESTS_LIB_FAKE_H
#define TESTS_LIB_FAKE_H

#include <stddef.h>
#include <stdint.h>

#include "client/redd.h"
#include "proto/arena.h"
#include "proto/base/buf.h"
#include "proto/redd.pb-c.h"

struct fake {
	struct redd *r;
	int fd; /* the broker's end; -1 when it has gone */
	struct buf in;
	size_t consumed;
	struct arena arena;
	int fds[64]; /* descriptors that came, owned */
	size_t n_fds;
	int listener;	      /* of fake_serve(); else -1 */
	char directory[4096]; /* likewise; "": none */
};

/* With a handle that has not said Hello; its socket is *ret_client ("fd:N"). */
void fake_pair(struct fake *f, char ret_socket[32]);

/* Connected and greeted; frames up to frame_max (0: the default). */
void fake_open(struct fake *f);
void fake_open_with(struct fake *f, struct redd_connect_options *o);
void fake_close(struct fake *f);

/* The broker is gone. */
void fake_die(struct fake *f);

/* The same as fake_open_with() on a socket of its own, where a client can come back to:
 *
 *	fake_serve(&f, &o);
 *	fake_die(&f);
 *	hello = fake_back(&f);                  // the client has connected again: its Hello
 *	fake_welcome_to(&f, hello->id, 0);
 *	fake_settle(&f);
 */
void fake_serve(struct fake *f, struct redd_connect_options *o);

/* Takes the client's next connection, if there is one. */
bool fake_accept(struct fake *f);

/* Waits for it: of which nothing has been answered. */
Redd__V1__Request *fake_back(struct fake *f);

/* Nobody is there to come back to. */
void fake_vanish(struct fake *f);

/* Puts a message into the socket. */
void fake_say(struct fake *f, Redd__V1__Message *m);
void fake_bytes(struct fake *f, const void *data, size_t size);

/* The beginnings of an answer that has no function below; id 0: of an event. */
Redd__V1__Message fake_reply(uint64_t id, Redd__V1__Message__BodyCase body);

/* Answers. */
void fake_welcome(struct fake *f, uint32_t frame_max);

/* To any Hello, of the service that has been started so many times. */
void fake_welcome_to(struct fake *f, uint64_t id, unsigned instance);
void fake_done(struct fake *f, uint64_t id);
void fake_error(struct fake *f, uint64_t id, Redd__V1__Code code, int sys_errno, const char *text);
void fake_started(struct fake *f, uint64_t id, uint64_t port, uint64_t subscription);
void fake_subscribed(struct fake *f, uint64_t id, uint64_t port, uint64_t subscription,
		     uint32_t stream, uint64_t start);
void fake_written(struct fake *f, uint64_t id, uint64_t offset, uint64_t size);
void fake_pong(struct fake *f, uint64_t id);
void fake_watching(struct fake *f, uint64_t id, uint64_t watch, uint64_t sequence);

/* Events of subscription 1 of port 1. */
void fake_output(struct fake *f, uint32_t stream, uint64_t offset, const void *data, size_t size);
void fake_gap(struct fake *f, uint32_t stream, uint64_t offset, uint64_t end);
void fake_end(struct fake *f, uint32_t stream, uint64_t total);
void fake_end_with(struct fake *f, uint32_t stream, uint64_t total, uint64_t xxh3);
void fake_exited(struct fake *f, uint32_t code);
void fake_closed(struct fake *f);
void fake_marks(struct fake *f, uint32_t stream, bool busy, uint64_t queued);

/* An event of a port that is named "p". */
void fake_life(struct fake *f, uint64_t watch, Redd__V1__Life__What what, uint64_t sequence);

/* Lets the client take what was said, and send what it has queued. The last result. */
int fake_settle(struct fake *f);

/* The next request that the client has sent; NULL when there is none. Valid until the next call. */
Redd__V1__Request *fake_heard(struct fake *f);

#endif
