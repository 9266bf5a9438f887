/* Descriptors whose closing takes as long as who sent them likes, by the thousand (P7, P15):
 * through a door, which strangers hold, and by clients that come again and again. What the broker
 * holds of them is bounded, and nobody else notices. Counted in descriptors, while every close that
 * was begun waits. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/fdpass.h"
#include "proto/limits.h"
#include "tests/lib/ask.h"
#include "tests/lib/linger.h"
#include "tests/lib/neighbour.h"
#include "tests/lib/places.h"
#include "tests/lib/service.h"

#define SECONDS 100 /* longer than a test may take */
#define LINGERS 6   /* more than threads are spent on one of them */
#define KNOCKS	60
#define CLIENTS 30
#define SLACK	40 /* what neighbours and clients have of their own */
#define BYE	REDD__V1__MESSAGE__BODY_BYE
#define STARTED REDD__V1__MESSAGE__BODY_STARTED

static struct service service;
static struct neighbour neighbour;
static struct peer maker;
static int lingers[LINGERS], peers[LINGERS];
static int many[FDPASS_MAX]; /* the null device again and again */

static void set_up(void)
{
	int null;

	cr_assert_eq(service_start(&service, NULL), 0);
	cr_assert_eq(neighbour_start(&neighbour, &service), 0);
	cr_assert_eq(peer_open(&maker, service.socket), 0);
	cr_assert_eq(peer_hello(&maker), 0);
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < FDPASS_MAX; i++)
		many[i] = null;
}

static void tear_down(void)
{
	close(many[0]);
	peer_close(&maker);
	cr_assert_eq(neighbour_stop(&neighbour), 0, "%s", neighbour.wrong);
	cr_assert_eq(service_finish(&service), 0);
}

TestSuite(hostile_doors, .init = set_up, .fini = tear_down, .timeout = 120);

/* While it stands still it closes nothing, so that its close of what we send is the last one, not
 * ours. */
static void broker_stops(bool stops)
{
	struct census census;

	cr_assert_eq(census_take(service.pid, &census), 0);
	cr_assert_eq(kill(census.broker, stops ? SIGSTOP : SIGCONT), 0);
}

static void make_lingers(void)
{
	for (int i = 0; i < LINGERS; i++)
		cr_assert_eq(linger_make(SECONDS, &lingers[i], &peers[i]), 0);
}

static void end_lingers(void)
{
	for (int i = 0; i < LINGERS; i++)
		close(peers[i]);
}

static uint64_t metric(const char *name)
{
	Redd__V1__Message *m = ask(&maker, "stats { }");

	for (size_t i = 0; i < m->statistics->n_metrics; i++)
		if (!strcmp(m->statistics->metrics[i]->name, name))
			return m->statistics->metrics[i]->value;
	cr_assert_fail("no metric %s", name);
	return 0;
}

/* Whoever else it is gets on: echoes, spawns, and descriptors that are passed by those who may. */
static void expect_others_get_on(void)
{
	struct peer p;
	uint64_t port;

	neighbour_wait(&neighbour, 5);
	cr_assert_eq(peer_open(&p, service.socket), 0);
	cr_assert_eq(peer_hello(&p), 0);
	port = ask_spawn(&p, "hang", "");
	ask_end(&p, port);
	peer_close(&p);
}

static int mint(void)
{
	Redd__V1__Message *m = ask(&maker, "delegate { spawn: true rights { see: true } }");

	cr_assert_eq(m->body_case, REDD__V1__MESSAGE__BODY_DELEGATED, "%s", ask_text(m));
	return peer_take_fd(&maker);
}

/* --- through a door -------------------------------------------------------------------------- */

static ssize_t knock(int door, const int *fds, size_t n)
{
	struct iovec iov = { (char *)"x", 1 };

	return fdpass_send(door, &iov, 1, fds, n, MSG_DONTWAIT);
}

static void hang_through(int door)
{
	make_lingers();
	broker_stops(true);
	for (int i = 0; i < LINGERS; i++) {
		int two[2] = { lingers[i], lingers[i] };

		cr_assert_eq(knock(door, two, 2), 1);
		close(lingers[i]);
	}
	broker_stops(false);
}

/* What a door's own socket does not take any more the broker has stopped to receive. */
static void flood(int door)
{
	for (int i = 0; i < KNOCKS; i++)
		if (knock(door, many, FDPASS_MAX) < 0)
			neighbour_wait(&neighbour, 1);
}

static void expect_door_opens(int door)
{
	struct peer p;

	cr_assert_eq(peer_knock(&p, door), 0);
	cr_assert_eq(peer_hello(&p), 0);
	peer_close(&p);
}

Test(hostile_doors, P15_bad_knocks_without_end_are_closed_and_the_door_goes_on)
{
	int door = mint();

	flood(door);
	expect_others_get_on();
	expect_door_opens(door);
	while (metric("redd_descriptors_closing"))
		;
	close(door);
}

/* Under valgrind a close(2) that waits stops every thread: for these there is no test then. */
static bool can_hang(void)
{
	return !place_valgrind();
}

Test(hostile_doors, P7_P15_the_holder_of_a_door_cannot_take_the_brokers_descriptors)
{
	uint64_t before = metric("redd_descriptors");
	int door, other;

	if (!can_hang())
		return;
	door = mint();
	other = mint();
	hang_through(door);
	flood(door);
	expect_others_get_on();
	cr_expect_leq(metric("redd_descriptors"),
		      before + CLOSING_PER_DOOR + FDPASS_MAX + 2 + SLACK);
	cr_expect_geq(metric("redd_descriptors_closing"), CLOSING_PER_DOOR, "nothing hung");
	expect_door_opens(other);
	end_lingers();
	expect_door_opens(door); /* behind all that was sent before */
	while (metric("redd_descriptors_closing"))
		;
	close(door);
	close(other);
}

Test(hostile_doors, P7_P15_nor_the_holders_of_many)
{
	enum { DOORS = 20 };
	uint64_t before = metric("redd_descriptors");
	int doors[DOORS];

	if (!can_hang())
		return;
	for (int i = 0; i < DOORS; i++)
		doors[i] = mint();
	hang_through(doors[0]);
	for (int i = 0; i < DOORS; i++)
		flood(doors[i]);
	expect_others_get_on();
	cr_expect_leq(metric("redd_descriptors"),
		      before + CLOSING_PER_UID + FDPASS_MAX + DOORS + SLACK);
	end_lingers();
	for (int i = 0; i < DOORS; i++)
		close(doors[i]);
	while (metric("redd_descriptors_closing"))
		;
}

/* --- by clients ------------------------------------------------------------------------------ */

static void send_unused(struct peer *p, const int *fds, size_t n)
{
	struct buf frame;

	buf_init(&frame, 1024);
	ask_pack(&frame, 7, "ping { }");
	cr_assert_eq(peer_send_fds(p, buf_head(&frame), buf_size(&frame), fds, n), 0);
	buf_deinit(&frame);
}

Test(hostile_doors, P7_P15_nor_clients_that_come_again_and_again)
{
	uint64_t before = metric("redd_descriptors");
	struct peer p[CLIENTS];
	Redd__V1__Message *m;

	if (!can_hang())
		return;
	make_lingers();
	for (int i = 0; i < CLIENTS; i++)
		ask_greet(&p[i], service.socket);
	broker_stops(true);
	for (int i = 0; i < LINGERS; i++) {
		send_unused(&p[i], &lingers[i], 1);
		close(lingers[i]);
	}
	broker_stops(false);
	for (int i = LINGERS; i < CLIENTS; i++)
		send_unused(&p[i], many, FDPASS_MAX);
	expect_others_get_on();
	cr_expect_leq(metric("redd_descriptors"),
		      before + CLOSING_PER_UID + FDPASS_MAX + CLIENTS + SLACK);
	end_lingers();
	for (int i = 0; i < CLIENTS; i++) {
		m = ask_event(&p[i], BYE);
		cr_expect(m && strstr(m->bye->error->message, "descriptors"), "%s", ask_text(m));
		peer_close(&p[i]);
	}
	while (metric("redd_descriptors_closing"))
		;
}
