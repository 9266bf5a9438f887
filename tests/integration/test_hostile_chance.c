/* Requests made at random, right, nearly right and wrong (P7): the broker answers or says Bye, and
 * a neighbour's stream goes on. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/lib/ask.h"
#include "tests/lib/narrow.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"
#include "tests/lib/wire.h"

#define ROOM (4u << 20)
#define SEED 20240607u

static struct service service;
static struct neighbour neighbour;

/* Through a socket of its own, where it is another principal than the neighbour: what it guesses
 * right by chance is not the neighbour's port. */
static struct narrow narrow;

static void set_up_other(void)
{
	narrow_start(&narrow, &service);
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
}

/* What it spawned and keeps is ended with the service. */
static void tear_down_other(void)
{
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
	cr_assert_eq(service_stop(&service), 0);
	narrow_remove(&narrow);
}

TestSuite(hostile_chance, .init = set_up_other, .fini = tear_down_other, .timeout = 60);

static void random_request(struct buf *out, struct random *r)
{
	struct buf body;

	buf_init(&body, ROOM);
	wire_random(&body, &redd__v1__request__descriptor, r);
	if (random_chance(r, 3))
		wire_mutate(&body, r);
	wire_varint(out, buf_size(&body) + (random_chance(r, 20) ? 1 : 0));
	cr_assert_eq(buf_append(out, buf_head(&body), buf_size(&body)), 0);
	buf_deinit(&body);
}

/* Whatever the broker makes of it: it answers, or says Bye, and goes on. */
static void random_session(struct random *r)
{
	struct buf bytes;
	struct peer p;

	cr_assert_eq(peer_open(&p, narrow.socket), 0);
	buf_init(&bytes, ROOM);
	if (!random_chance(r, 4))
		ask_pack(&bytes, 1, "hello { version: 1 }");
	for (int i = 0; i < 8; i++)
		random_request(&bytes, r);
	peer_send(&p, buf_head(&bytes), buf_size(&bytes)); /* or -EPIPE: it has said Bye */
	if (random_chance(r, 2))
		peer_expect_end(&p, 0);
	buf_deinit(&bytes);
	peer_close(&p);
}

Test(hostile_chance, P7_random_requests_and_garbage)
{
	struct random r = { SEED };

	cr_log_info("seed %u", SEED);
	for (unsigned i = place_rounds(1500); i > 0; i--)
		random_session(&r);
	neighbour_wait(&neighbour, 5);
}
