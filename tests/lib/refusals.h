/* Tables of requests that must be refused: each row is answered at once, with the right code, errno
 * and a sentence with a certain word in it, and changes nothing.
 */
#ifndef TESTS_LIB_REFUSALS_H
#define TESTS_LIB_REFUSALS_H

#include <stddef.h>

#include "tests/lib/peer.h"

struct refusal {
	const char *request; /* tests/lib/text.h */
	Redd__V1__Code code;
	int sys_errno;	  /* 0: whatever it is */
	const char *word; /* of the sentence */
};

/* Ports for the requests to be wrong about, by name: "runs" (stdin and stdout are pipes; it never
 * reads), "shut" (stdin is closed), "ended", "tty". */
void refusals_ports(struct peer *p);
void refusals_ports_end(struct peer *p);

/* Sends every row and holds its answer against it; each failure is an assertion that names the
 * row. What the ports and counters are afterwards is what they were before. */
void refusals_check(struct peer *p, const struct refusal *rows, size_t n);

#endif
