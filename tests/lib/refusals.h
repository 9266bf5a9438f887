/* Tables of requests that must be refused: each row is answered at once, with the right code, errno
 * and a sentence with a certain word in it, and changes nothing.
 *
 *	TestSuite(thing, .init = refusals_begin, .fini = refusals_end, .timeout = 60);
 *
 *	static const struct refusal rows[] = {
 *		{ "ping { data: \"x\"*65 }", REDD__V1__CODE__INVALID_ARGUMENT, 0, "64" },
 *	};
 *
 *	Test(thing, a_sentence)
 *	{
 *		refusals_check(&refusals.peer, REFUSALS(rows));
 *	}
 */
#ifndef TESTS_LIB_REFUSALS_H
#define TESTS_LIB_REFUSALS_H

#include <stddef.h>

#include "tests/lib/neighbour.h"
#include "tests/lib/peer.h"
#include "tests/lib/service.h"

struct refusal {
	const char *request; /* tests/lib/text.h */
	Redd__V1__Code code;
	int sys_errno;	  /* 0: whatever it is */
	const char *word; /* of the sentence */
};

/* What such a suite begins and ends with. The peer has ports for the requests to be wrong about, by
 * name: "runs" (stdin and stdout are pipes; it never reads), "shut" (stdin is closed), "ended",
 * "tty". One test runs in a process of its own, so there is one of each. */
struct refusals {
	struct service service;
	struct peer peer;
	struct neighbour neighbour; /* that must not notice anything */
};

extern struct refusals refusals;

void refusals_begin(void);
void refusals_end(void);

/* Sends every row from refusals.peer, or from another peer, and holds its answer against it; each
 * failure is an assertion that names the row. What the ports and counters are afterwards is what
 * they were before. */
void refusals_check(struct peer *p, const struct refusal *rows, size_t n);

/* A table as the last two arguments of that. */
#define REFUSALS(table) (table), sizeof(table) / sizeof((table)[0])

#endif
