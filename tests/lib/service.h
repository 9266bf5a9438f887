/* A real broker in a directory of its own, for tests and measurements.
 *
 *	struct service s;
 *
 *	cr_assert_eq(service_start(&s, NULL), 0);
 *	struct redd *r = service_connect(&s);
 *	...
 *	redd_free(r);
 *	cr_assert_eq(service_finish(&s), 0); // no more descriptors and processes than at first;
 *					     // then it exits with 0 and leaves nothing
 *
 * Any number can run side by side. What goes wrong is told in a line on stderr.
 */
#ifndef TESTS_LIB_SERVICE_H
#define TESTS_LIB_SERVICE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "client/redd.h"
#include "tests/lib/census.h"

struct service {
	pid_t pid; /* the keeper's, which is the service's */
	int pidfd;
	char directory[PATH_MAX]; /* holds the socket, and whatever else the test puts there */
	char socket[PATH_MAX];
	struct census start; /* after the first client was served and had gone */
};

struct service_options {
	const char *const *args;	/* more arguments for redd-broker, NULL-terminated */
	const char *const *environment; /* NULL: ours */
	bool shared_clone;		/* clone with shared memory even where it is not usual */
	bool quiet;			/* its log goes to DIRECTORY/log, not to our stderr */
	unsigned nofile;		/* its limit of open files, soft and hard; 0: ours */
};

/* Starts redd-broker, waits until it answers, and takes the first census. options may be NULL. 0 or
 * -1, and then nothing is left. The calling process becomes a subreaper (prctl(2)), so that what a
 * service leaves behind comes to it and is found. */
int service_start(struct service *s, const struct service_options *options);

/* A connected client, to be freed by the caller; NULL on failure. */
struct redd *service_connect(const struct service *s);

/* Waits until every port has closed, and drops it with its log. 0 or -1 with what went wrong. */
int service_forget_all(const struct service *s);

/* Waits until processes, zombies, descriptors, ports, clients and logs are again what they were at
 * the start, at most a few seconds; ports that have ended must have been forgotten. 0 or -1 with
 * what differs. */
int service_settle(const struct service *s);

/* The same against another census than the start's. */
int service_settle_as(const struct service *s, const struct census *before);

/* SIGTERM; expects status 0, no process, no socket or lock file and no message of valgrind left.
 * The directory is removed. 0, or how many things were wrong. */
int service_stop(struct service *s);

/* service_settle() and, whatever it said, service_stop(). 0, or how many things were wrong. */
int service_finish(struct service *s);

/* Waits until the service has ended by itself, then as service_stop(). */
int service_ended(struct service *s);

/* The same for a service that had to give up: its status is 1. */
int service_failed(struct service *s);

/* SIGKILL to all of it, and cleans up. For a test that has failed already, or wants just that. */
void service_kill(struct service *s);

#endif
