/* What is written of a door comes back as it was, or not at all. */
#include "broker/door_record.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/delegation.h"
#include "broker/inherit.h"
#include "broker/labels.h"
#include "proto/base/fd.h"
#include "tests/lib/core.h"
#include "tests/lib/countdown.h"

TestSuite(door_record, .timeout = 20);

static struct door_record wrote(void)
{
	return (struct door_record){ .delegation = 77,
				     .listener = 1,
				     .uid = 1000,
				     .gid = 1001,
				     .rights = 5,
				     .n_groups = 1,
				     .groups = { 7 },
				     .n_ports = 2,
				     .ports = { 3, 4 },
				     .n_streams = 1,
				     .streams = { 2 },
				     .until_ms = 9,
				     .session = "0123456789abcde" };
}

static struct labels *selector_of(void)
{
	const struct label pairs[] = { { "any", 3, NULL, 0 }, { "job", 3, "17", 2 } };
	struct labels *l;
	const char *reason;

	cr_assert_eq(labels_new_selector(pairs, 2, &l, &reason), 0);
	return l;
}

/* The memfd of one. */
static int write_one(struct labels *take_selector)
{
	struct door_record r = wrote();
	int fd;

	cr_assert_eq(door_record_write(&r, take_selector, &fd), 0);
	labels_unref(take_selector);
	return fd;
}

Test(door_record, P13_comes_back_as_it_was)
{
	struct door_record before = wrote(), after;
	struct labels *selector;
	const char *key, *value;
	int fd = write_one(selector_of());

	cr_assert_eq(door_record_read(fd, &after, &selector), 0);
	before.sum = after.sum;
	before.layout = after.layout;
	before.has_selector = 1;
	cr_expect_eq(memcmp(&before, &after, sizeof(before)), 0);
	cr_assert_eq(labels_count(selector), 2);
	labels_at(selector, 0, &key, &value);
	cr_expect(!strcmp(key, "any") && !value, "any value");
	labels_at(selector, 1, &key, &value);
	cr_expect(!strcmp(key, "job") && !strcmp(value, "17"));
	cr_expect_lt(pwrite(fd, "x", 1, 0), 0, "it can be changed");
	labels_unref(selector);
	close(fd);
	fd = write_one(NULL);
	cr_assert_eq(door_record_read(fd, &after, &selector), 0);
	cr_expect_null(selector);
	close(fd);
}

/* A copy with one byte changed; `size` bytes of it. */
static int copy_with(int from, size_t at, uint8_t change, size_t size)
{
	static uint8_t bytes[KIB(64)];
	int fd = memfd_create("copy", MFD_CLOEXEC);

	cr_assert_geq(pread(from, bytes, size, 0), (ssize_t)size);
	bytes[at] ^= change;
	cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
	return fd;
}

Test(door_record, P15_one_that_is_broken_is_none)
{
	size_t size = KIB(4) + KIB(12);
	struct door_record after;
	struct labels *selector;
	int fd = write_one(selector_of()), broken;

	for (size_t at = 0; at < sizeof(struct door_record); at++) {
		broken = copy_with(fd, at, 0x10, size);
		cr_expect_eq(door_record_read(broken, &after, &selector), DOOR_RECORD_E_BAD, "%zu",
			     at);
		close(broken);
	}
	broken = copy_with(fd, KIB(4), 1, size); /* the labels are another's */
	cr_expect_eq(door_record_read(broken, &after, &selector), DOOR_RECORD_E_BAD);
	close(broken);
	broken = copy_with(fd, 0, 0, sizeof(struct door_record)); /* and here there are none */
	cr_expect_eq(door_record_read(broken, &after, &selector), DOOR_RECORD_E_BAD);
	close(broken);
	broken = copy_with(fd, 0, 0, 100);
	cr_expect_eq(door_record_read(broken, &after, &selector), DOOR_RECORD_E_BAD);
	close(broken);
	close(fd);
}

/* --- taking up ------------------------------------------------------------------------------- */

/* How many numbers the keeper is asked to drop. */
static unsigned hear_drops(struct core *core)
{
	struct core_message *m = calloc(1, sizeof(*m));
	unsigned n = 0;

	while (core_hear(core->keeper, m))
		n += m->head.type == LINK_RING && !m->n_fds && m->ring.number >= KEPT_DOOR(0) &&
		     m->ring.number < KEPT_DOOR(DELEGATIONS_MAX);
	core_message_close(m);
	free(m);
	return n;
}

static void take_pair(struct kept_doors *k, uint32_t place, int door, int record)
{
	if (door >= 0)
		cr_assert(kept_doors_take(k, KEPT_DOOR(place), door));
	if (record >= 0)
		cr_assert(kept_doors_take(k, KEPT_DOOR_RECORD(place), record));
}

Test(door_record, P13_half_of_one_and_a_broken_one_are_given_up)
{
	struct core *core = core_open();
	struct kept_doors k = { 0 };
	int pair[2], good = write_one(NULL);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_expect_not(kept_doors_take(&k, KEPT_SCRATCH(1), good));
	cr_expect_not(kept_doors_take(&k, KEPT_DOOR(DELEGATIONS_MAX), good));
	take_pair(&k, 0, -1, copy_with(good, 0, 0, sizeof(struct door_record)));
	take_pair(&k, 1, dup(pair[0]), -1);
	take_pair(&k, 2, dup(pair[0]), copy_with(good, 9, 1, sizeof(struct door_record)));
	take_pair(&k, DELEGATIONS_MAX - 1, pair[0], good);
	delegations_resume(&core->b, &k);
	kept_doors_close(&k);
	cr_expect_eq(core->b.n_delegations, 1);
	cr_expect_not_null(delegation_find(&core->b, 77));
	cr_expect_eq(hear_drops(core), 6);
	close(pair[1]); /* the last copy of the door */
	core_until(core, !core->b.n_delegations);
	cr_expect_eq(hear_drops(core), 2);
	core_close(core);
}

/* The keeper learns of its end later, or never: then a successor sees it. */
Test(door_record, P14_one_that_has_ended_is_shut_whoever_has_copies)
{
	struct core *core = core_open();
	struct kept_doors k = { 0 }, later = { 0 };
	int pair[2], kept, record = write_one(NULL), kept_record = dup(record);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	kept = dup(pair[0]);
	take_pair(&k, 0, pair[0], record);
	delegations_resume(&core->b, &k);
	cr_assert_eq(send(pair[1], "k", 1, MSG_NOSIGNAL), 1);
	delegation_end(delegation_find(&core->b, 77), "revoked");
	cr_expect_lt(send(pair[1], "k", 1, MSG_NOSIGNAL), 0, "somebody may hear that");
	cr_expect_eq(errno, EPIPE);
	core_turns(core, 3);
	take_pair(&later, 0, kept, kept_record);
	delegations_resume(&core->b, &later);
	core_until(core, !core->b.n_delegations);
	close(pair[1]);
	core_close(core);
}

Test(door_record, without_memory_it_is_given_up_whole)
{
	struct core *core = core_open();

	for (unsigned nth = 1; nth < 8; nth++) {
		struct kept_doors k = { 0 };
		int pair[2];

		cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		take_pair(&k, 5, pair[0], write_one(selector_of()));
		countdown_arm(COUNTDOWN_MALLOC, nth, ENOMEM);
		delegations_resume(&core->b, &k);
		if (!countdown_off()) /* there are no more */
			nth = 8;
		kept_doors_close(&k);
		close(pair[1]);
		core_until(core, !core->b.n_delegations);
	}
	core_close(core);
}

/* It is one for as long as this broker lives, and its place is another's. */
Test(door_record, one_that_cannot_be_kept_is_a_door_all_the_same)
{
	struct core *core = core_open();
	int client, door;
	struct conn *conn = core_connect(core, &client);
	const char *reason;

	for (int i = 0; i < 2; i++) {
		struct delegation_options o = { .ports = { 1 }, .n_ports = 1, .rights = 1 };
		struct delegation *d;

		if (i == 0)
			countdown_arm(COUNTDOWN_MEMFD, 1, EMFILE);
		cr_assert_eq(delegation_new(&d, conn, &o, &door, &reason), 0);
		if (i == 0)
			cr_expect(countdown_off());
		cr_expect_eq(d->place, i == 0 ? DELEGATIONS_MAX : 0);
		core_turns(core, 2);
		cr_expect_eq(core->b.n_delegations, 1, "it is no door");
		close(door);
		core_until(core, !core->b.n_delegations);
		cr_expect_eq(hear_drops(core), i == 0 ? 0 : 2);
	}
	close(client);
	core_close(core);
}
