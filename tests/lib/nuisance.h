/* Neighbours that nobody wants: each is a process of its own that does one nasty thing to a service
 * until it is stopped; and the polite client that suffers from it. BENCH_NICE (0) is its niceness
 * and that of what it spawns.
 *
 *	struct nuisance n;
 *
 *	cr_assert_eq(nuisance_start(&n, NUISANCE_FLOOD, &service), 0);
 *	polite_spawns(r, 100, times_ms);
 *	nuisance_stop(&n);
 */
#ifndef TESTS_LIB_NUISANCE_H
#define TESTS_LIB_NUISANCE_H

#include <stddef.h>
#include <sys/types.h>

#include "tests/lib/service.h"

enum nuisance_kind {
	NUISANCE_NEVER_READERS, /* NUISANCE_READERS clients that follow a flooding port, unread */
	NUISANCE_FLOOD,		/* a flooding child and a client that reads it */
	NUISANCE_WRITER,	/* as much input as the window takes, into a child that reads it */
	NUISANCE_REQUESTS,	/* Pings, Lists, Inspects, large frames, without waiting */
	NUISANCE_SPAWNER,	/* 32 spawns in flight */
	NUISANCE_QUEUE,		/* 1000 spawns in flight */
	NUISANCE_KINDS,
};

#define NUISANCE_READERS 1000u

struct nuisance {
	pid_t pid; /* 0: none */
};

const char *nuisance_name(enum nuisance_kind kind);

/* Returns when it is at it. 0 or -1. What it spawned ends with it. */
int nuisance_start(struct nuisance *n, enum nuisance_kind kind, const struct service *s);

/* Harmless when it was not started. 0; -1: it had ended by itself, so nobody suffered from it. */
int nuisance_stop(struct nuisance *n);

/* Spawns the smallest program n times, one after another, and waits each time until all of it is
 * over. times_ms[i]: from the request until its Closed. 0 or -1. */
int polite_spawns(struct redd *r, unsigned n, double *ret_times_ms);

/* The same without redd: what it costs by itself that the processors are busy. */
int polite_raw_spawns(unsigned n, double *ret_times_ms);

#endif
