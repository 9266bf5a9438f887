/* Makes system calls of a running process fail, by strace(1): the broker's, the keeper's, the
 * forker's.
 *
 *	struct inject i;
 *
 *	cr_assert_eq(inject_start(&i, census.broker, "memfd_create:error=ENOMEM:when=1"), 0);
 *	... the request that must be refused ...
 *	cr_assert_eq(inject_stop(&i), 0);
 *
 * Not for programs under valgrind. strace is one of the packages that `make deps` installs. */
#ifndef TESTS_LIB_INJECT_H
#define TESTS_LIB_INJECT_H

#include <sys/types.h>

struct inject {
	pid_t strace;
	int report; /* its stderr */
};

/* `what` as for strace's -e inject=. Returns when it is in force. 0 or -1 with a line on stderr. */
int inject_start(struct inject *i, pid_t pid, const char *what);

/* Takes it away; the process goes on. 0 or -1. */
int inject_stop(struct inject *i);

#endif
