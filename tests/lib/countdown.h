/* Makes the Nth call of some function fail once, so that every error branch can be walked:
 *
 *	for (unsigned n = 1; ; n++) {
 *		countdown_arm(COUNTDOWN_MALLOC, n, ENOMEM);
 *		r = thing_new(&t);
 *		if (!countdown_off())
 *			break;                  // fewer than n calls: all have failed once
 *		cr_assert_eq(r, -ENOMEM);
 *	}
 *
 * A suite that includes this header is linked with the wrappers (ld --wrap); they see the calls of
 * our own objects, not those inside of shared libraries. One thread. */
#ifndef TESTS_LIB_COUNTDOWN_H
#define TESTS_LIB_COUNTDOWN_H

#include <stdbool.h>

enum countdown {
	COUNTDOWN_MALLOC, /* malloc, calloc, realloc, strdup, strndup */
	COUNTDOWN_MMAP,
	COUNTDOWN_FTRUNCATE,
	COUNTDOWN_MEMFD,  /* memfd_create */
	COUNTDOWN_SOCKET, /* socket, socketpair, accept4 */
	COUNTDOWN_PIPE,	  /* pipe2 */
	COUNTDOWN_EVENTFD,
	COUNTDOWN_READ,	 /* read, recvmsg */
	COUNTDOWN_WRITE, /* write, sendmsg */
	COUNTDOWN_SPLICE,
	COUNTDOWN_CALLS
};

/* The nth call from now (from 1) fails with this errno; an earlier order is dropped. */
void countdown_arm(enum countdown call, unsigned nth, int error);

/* Ends it. True when the call was reached and has failed. */
bool countdown_off(void);

#endif
