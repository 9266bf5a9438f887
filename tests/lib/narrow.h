/* A service with a second socket. Who comes through it is another principal than who comes through
 * the first, with the same uid too, and no descriptors are passed there.
 *
 *	struct service service;
 *	struct narrow narrow;
 *
 *	narrow_start(&narrow, &service);
 *	ask_greet(&owner, service.socket);
 *	ask_greet(&stranger, narrow.socket);
 *	...
 *	cr_assert_eq(service_finish(&service), 0);
 *	narrow_remove(&narrow);
 *
 * What goes wrong in here fails the test.
 */
#ifndef TESTS_LIB_NARROW_H
#define TESTS_LIB_NARROW_H

#include <limits.h>

#include "tests/lib/service.h"

struct narrow {
	char directory[PATH_MAX]; /* holds the second socket and nothing else */
	char socket[PATH_MAX];
};

/* Makes the directory and starts a service that listens in it too. */
void narrow_start(struct narrow *n, struct service *s);

/* Removes the directory, when the service has ended. */
void narrow_remove(struct narrow *n);

#endif
