/* What most integration tests begin and end with: a service, a client, a collector for its output,
 * and a few requests that are made again and again. One test runs in a process of its own, so there
 * is one scene.
 *
 *	TestSuite(thing, .init = scene_begin, .fini = scene_end, .timeout = 60);
 *
 *	Test(thing, a_sentence)
 *	{
 *		struct redd_port *port = scene_shell("echo hello", &scene.c);
 *		...
 *	}
 *
 * What fails here fails the test.
 */
#ifndef TESTS_LIB_SCENE_H
#define TESTS_LIB_SCENE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/redd.h"
#include "tests/lib/collect.h"
#include "tests/lib/service.h"

struct scene {
	struct service service;
	struct redd *r;
	struct collect c;
};

extern struct scene scene;

void scene_begin(void);

/* The same, and the collector's subscription is to be by shared memory. */
void scene_begin_shared(void);

/* Frees the client, and expects that the service is as at its start and ends well. */
void scene_end(void);

/* Milliseconds of the monotonic clock. */
int64_t scene_now_ms(void);

/* A formatted text: one of 8 buffers that are used in turn. */
const char *scene_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Spawns, with the collector's subscription if one is given. The port is the caller's. */
struct redd_port *scene_spawn(const struct redd_spawn_options *options, struct collect *c);

/* The same for a command of the shell, and for one of tests/progs with its arguments. */
struct redd_port *scene_shell(const char *command, struct collect *c);
struct redd_port *scene_prog(struct collect *c, const char *prog, ...) __attribute__((sentinel));

/* A command of the shell whose descriptor 3 is an input of the port: behind SCENE_WAIT in it the
 * command goes on when that is closed (redd_close(port, 3, NULL)). */
#define SCENE_WAIT "read x <&3 || :"
struct redd_port *scene_steered(const char *command, struct collect *c);

/* Subscribes with the collector's options; the handle goes with its connection at the latest. */
struct redd_subscription *scene_subscribe(struct redd_port *port, struct collect *c);

/* Waits for the end of a collector's subscription, of which nothing may have been wrong. */
void scene_finish(struct collect *c);

/* Waits until the port has ended; its program must have exited with 0. */
void scene_wait_closed(struct redd_port *port);

/* Waits until the port has ended, drops it with its log, and frees the handle. */
void scene_forget(struct redd_port *port);

/* The same for one that does not end by itself: kills its program first. */
void scene_kill(struct redd_port *port);

/* Process ids that the collector's program prints on stdout, one a line: n of them, or 0 when it
 * took too long. */
size_t scene_wait_pids(pid_t *pids, size_t n);

/* Waits until the process has ended, whosever child it is. */
void scene_wait_dead(pid_t pid);

/* What the broker says about one stream of a port now. */
struct redd_stream_info scene_stream(struct redd_port *port, uint32_t stream);

/* Asks until `stream` of the port is held back by a blocking reader (or by hold_unread). */
void scene_wait_held(struct redd_port *port, uint32_t stream);

/* Asks until the port is forgotten (its retention is over). */
void scene_wait_forgotten(uint64_t id);

/* Lets `ms` go by as the broker counts it, while callbacks run: waits for the timeout of a Wait for
 * the end of that port, which must not come earlier. */
void scene_stays_open(struct redd_port *port, int ms);

#endif
