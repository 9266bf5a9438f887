/* All that a subscription's callbacks were told, in a line that a test can compare:
 *
 *	struct fake f;
 *
 *	told_open(&f);                          // tests/lib/fake.h, and a subscription
 *	fake_output(&f, 1, 0, "abc", 3);
 *	fake_gap(&f, 1, 3, 5);
 *	fake_end(&f, 1, 5);
 *	fake_exited(&f, 7);
 *	fake_closed(&f);
 *	told_expect(&f, "o1@0:abc g1:3-5 e1=5 x7 c0 ");
 *	fake_close(&f);
 *
 * One test runs in a process of its own, so there is one line. What goes wrong in here fails the
 * test.
 */
#ifndef TESTS_LIB_TOLD_H
#define TESTS_LIB_TOLD_H

#include "client/redd.h"
#include "tests/lib/fake.h"

struct told {
	char text[4096];
	int end_result, closed_result;
	struct redd_exit exit;	    /* with Closed */
	struct redd_stream_end end; /* the last one */
};

extern struct told told;

/* Appends to the line, for callbacks of a test's own. */
void told_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* All callbacks but on_marks: oSTREAM@OFFSET:DATA, gSTREAM:OFFSET-END, eSTREAM=TOTAL, xSTATUS,
 * cCAUSE. Where a subscription's options have told_marks as on_marks, marks are asked for, and told
 * as mSTREAM:busy:QUEUED or mSTREAM:free:QUEUED. */
extern const struct redd_handler told_handler;
void told_marks(struct redd_subscription *s, const struct redd_marks *m, void *user);

/* Makes a subscription with id 1 to port 1, from offset 0 of stream 1, as request 2. The handler in
 * the options is set to told_handler, its on_marks stays. */
struct redd_subscription *told_subscribe(struct fake *f, struct redd_subscribe_options *o);

/* fake_open() and a subscription with the options that are usual. */
struct redd_subscription *told_open(struct fake *f);

/* Lets the client take what was said; the whole line must be that then. */
void told_expect(struct fake *f, const char *text);

#endif
