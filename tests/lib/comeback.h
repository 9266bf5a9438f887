/* A client of tests/lib/fake.h whose broker dies, and who comes back to its successor. What its
 * callbacks are told goes to the line of tests/lib/told.h: for the connection "away ", "back " and
 * "lost ".
 *
 *	comeback_serve(&f, NULL);
 *	comeback_spawn(&f, false);
 *	fake_output(&f, 1, 0, "abc", 3);
 *	fake_settle(&f);
 *	comeback_welcome(&f);
 *	comeback_resume(&f, 3);
 *	fake_output(&f, 1, 3, "def", 3);
 *	told_expect(&f, "o1@0:abc away back o1@3:def ");
 *	fake_close(&f);
 *
 * One test runs in a process of its own, so calls have their results in one place. What goes
 * wrong in here fails the test.
 */
#ifndef TESTS_LIB_COMEBACK_H
#define TESTS_LIB_COMEBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/redd.h"
#include "tests/lib/fake.h"

/* fake_serve(), with callbacks for the connection. options may be NULL. */
void comeback_serve(struct fake *f, struct redd_connect_options *o);

/* The broker dies and its successor has said Welcome. */
void comeback_welcome(struct fake *f);

/* The next request, which must be of that kind; valid until the next one. */
Redd__V1__Request *comeback_next(struct fake *f, Redd__V1__Request__BodyCase kind);

/* A running port with a subscription from its beginning, both number 1. */
struct redd_port *comeback_spawn(struct fake *f, bool verify);

/* The subscription is asked for again from there, and that is granted. */
void comeback_resume(struct fake *f, uint64_t offset);

/* --- what became of started calls ------------------------------------------------------------ */

struct comeback {
	int results[8]; /* 1: nothing yet */
	int n_results;
};

extern struct comeback comeback;

/* For one call, whose result will be comeback.results[i]. */
struct redd_call comeback_call(size_t i);

#endif
