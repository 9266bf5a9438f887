/* A client whose broker dies over what it has asked for, and the next one, to which it comes back.
 * One test runs in a process of its own, so there is one of each; what goes wrong fails the test.
 *
 *	struct redd_port *port;
 *
 *	revive_serve();
 *	port = revive_spawn();
 *	revive_write(port, "abc", NULL, 0);     // call number 0
 *	revive();                               // the write has left and was not answered
 *	revive_heard_write(0);                  // it is repeated, at offset 0
 *	cr_assert_eq(revive_results[0], 1);     // and nothing was told yet
 *	fake_close(&revived);
 */
#ifndef TESTS_LIB_REVIVE_H
#define TESTS_LIB_REVIVE_H

#include "client/redd.h"
#include "tests/lib/fake.h"

extern struct fake revived;

/* Connected to a broker that can be come back to. */
void revive_serve(void);

/* What was asked leaves, the broker dies of it, and its successor has said Welcome. */
void revive(void);

/* The next request that was made, which must be of that kind; a Write at that offset; none. */
Redd__V1__Request *revive_heard(Redd__V1__Request__BodyCase kind);
#define HEARD(kind) revive_heard(REDD__V1__REQUEST__BODY_##kind)
void revive_heard_write(uint64_t offset);
void revive_heard_nothing(void);

/* A running port, number 1, of which the client knows no more than its options say; one that
 * somebody else has spawned. */
struct redd_port *revive_spawn(void);
struct redd_port *revive_spawn_with(struct redd_spawn_options o);
struct redd_port *revive_port(uint64_t id);

/* Started calls by number: what became of them; 1: nothing yet. */
#define REVIVE_CALLS 16
extern int revive_results[REVIVE_CALLS];
struct redd_call *revive_call(size_t i);

void revive_write(struct redd_port *port, const char *text,
		  const struct redd_write_options *options, size_t i);

/* Asks what port 1 is, and answers. */
struct revive_seen {
	bool terminal;
	uint32_t header;       /* of its packets; 0: its framing is not PACKETS */
	uint64_t first, typed; /* accepted by input 0, by the terminal */
};
void revive_inspect(struct redd_port *port, const struct revive_seen *seen);

#endif
