/* Owns the second socket's directory; the service is the test's. */
#include "tests/lib/narrow.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/lib/places.h"

void narrow_start(struct narrow *n, struct service *s)
{
	const char *const args[] = { "--socket", n->socket, NULL };
	const struct service_options o = { .args = args };

	cr_assert_eq(place_make_dir(n->directory), 0);
	snprintf(n->socket, sizeof(n->socket), "%.*s/other.sock", PATH_MAX - 16, n->directory);
	cr_assert_eq(service_start(s, &o), 0);
}

void narrow_remove(struct narrow *n)
{
	cr_assert_eq(place_remove_dir(n->directory), 0);
}
