/* A client that speaks the wire itself, so that it can say what libredd never would: forged
 * lengths, half frames, surplus descriptors. Blocking, with a limit on every wait. */
#ifndef TESTS_LIB_PEER_H
#define TESTS_LIB_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/base/buf.h"
#include "proto/redd.pb-c.h"

#define PEER_E_END     1 /* the other side closed the connection */
#define PEER_E_TIMEOUT 2
#define PEER_E_BAD     3 /* what came is not a frame, or its scan refused it */

#define PEER_FDS 64u

struct peer {
	int fd;
	struct buf in;
	struct arena arena;
	size_t consumed;   /* of `in`: the frame that was returned last */
	uint64_t last_id;  /* of the requests that were sent */
	int fds[PEER_FDS]; /* that came, in order; owned. More are closed unseen */
	size_t n_fds;
};

/* Connects; nothing is said. 0 or a negative errno. Free with peer_close() in any case. */
int peer_open(struct peer *p, const char *socket);
void peer_close(struct peer *p);

/* Asks for a connection at a door (PROTOCOL.md, section 20). Nothing is said. As peer_open(). */
int peer_knock(struct peer *p, int door);

/* The descriptor that came first, now the caller's; -1: none did. */
int peer_take_fd(struct peer *p);

/* Sends raw bytes, all of them; with descriptors on the first byte. 0 or a negative errno (-EPIPE
 * when the other side has closed). */
int peer_send(struct peer *p, const void *data, size_t size);
int peer_send_fds(struct peer *p, const void *data, size_t size, const int *fds, size_t n_fds);

/* A prefix that announces `length` bytes, true or not. */
int peer_send_prefix(struct peer *p, uint32_t length);

/* Packs and sends one request. 0 or a negative errno. */
int peer_request(struct peer *p, const Redd__V1__Request *request);

/* The next message; it is valid until the next call. timeout_ms is stretched in slow runs. 0,
 * PEER_E_*, or a negative errno. */
int peer_recv(struct peer *p, int timeout_ms, Redd__V1__Message **ret);

/* Messages until the answer to `id` comes; events in between are dropped. */
int peer_answer(struct peer *p, uint64_t id, int timeout_ms, Redd__V1__Message **ret);

/* Moves the n oldest descriptors that came out. False: there are fewer. */
bool peer_take_fds(struct peer *p, int *ret_fds, size_t n);

/* Hello with id 1 and its Welcome. 0, or what peer_answer() said, or PEER_E_BAD. */
int peer_hello(struct peer *p);

/* Waits for the other side's close; what comes before is dropped. 0, PEER_E_TIMEOUT, ... */
int peer_expect_end(struct peer *p, int timeout_ms);

#endif
