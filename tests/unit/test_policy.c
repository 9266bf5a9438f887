#include "broker/policy.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "proto/base/cleanup.h"

#define SERVICE 1000
#define OTHER	1001

enum { PRIVATE, OPEN, NARROW, NOT_THERE };

static struct policy policy;

static void init(void)
{
	const struct policy_listener open = { .admits_others = true, .passes_descriptors = true };
	const struct policy_listener narrow = { .admits_others = false };

	policy_init(&policy, SERVICE);
	cr_assert_eq(policy_add_listener(&policy, &open), OPEN);
	cr_assert_eq(policy_add_listener(&policy, &narrow), NARROW);
}

TestSuite(policy, .timeout = 10, .init = init);

static bool may(uint32_t listener, uid_t uid, enum policy_verb verb)
{
	const struct principal who = { .listener = listener, .uid = uid, .gid = uid };

	return policy_may(&policy, &who, verb, NULL);
}

/* Every verb on a port, for every pair of who asks and who owns. */
Test(policy, P14_on_a_port_its_owner_may_all_and_nobody_else_anything)
{
	static const uid_t uids[] = { 0, SERVICE, OTHER, 65534 };
	unsigned int yes = 0, no = 0;

	for (uint32_t l = PRIVATE; l <= NOT_THERE; l++)
		for (size_t u = 0; u < ARRAY_SIZE(uids); u++)
			for (uint32_t ol = PRIVATE; ol <= NOT_THERE; ol++)
				for (size_t ou = 0; ou < ARRAY_SIZE(uids); ou++)
					for (int v = POLICY_SEE; v <= POLICY_BLOCK; v++) {
						const struct principal who = { .listener = l,
									       .uid = uids[u],
									       .gid = 5 };
						const struct policy_target target = {
							.owner = { .listener = ol,
								   .uid = uids[ou],
								   .gid = 6 }
						};
						bool owner = l == ol && u == ou && l != NOT_THERE;

						cr_assert_eq(policy_may(&policy, &who,
									(enum policy_verb)v,
									&target),
							     owner);
						yes += owner;
						no += !owner;
					}
	cr_assert_eq(yes, 3 * 4 * 7);
	cr_assert_eq(no, 16 * 16 * 7 - yes);
}

Test(policy, P14_without_a_target_no_verb_on_a_port_is_allowed)
{
	for (int v = POLICY_SEE; v <= POLICY_BLOCK; v++)
		cr_assert_not(may(PRIVATE, SERVICE, (enum policy_verb)v));
}

/* Columns: connect, spawn, pass descriptors, change identity, shut down. */
Test(policy, P14_on_the_service_only_what_is_written_here)
{
	static const struct {
		uint32_t listener;
		uid_t uid;
		const char *may;
	} matrix[] = {
		{ PRIVATE, SERVICE, "yyy-y" }, { PRIVATE, 0, "yyyyy" },
		{ PRIVATE, OTHER, "-----" },   { OPEN, SERVICE, "yyy--" },
		{ OPEN, 0, "yyyy-" },	       { OPEN, OTHER, "yyy--" },
		{ NARROW, SERVICE, "yy---" },  { NARROW, 0, "yy-y-" },
		{ NARROW, OTHER, "-----" },    { NOT_THERE, SERVICE, "-----" },
		{ NOT_THERE, 0, "-----" },     { UINT32_MAX, 0, "-----" },
	};
	static const enum policy_verb verbs[] = { POLICY_CONNECT, POLICY_SPAWN,
						  POLICY_PASS_DESCRIPTORS, POLICY_CHANGE_IDENTITY,
						  POLICY_SHUTDOWN };

	for (size_t i = 0; i < ARRAY_SIZE(matrix); i++)
		for (size_t v = 0; v < ARRAY_SIZE(verbs); v++)
			cr_assert_eq(may(matrix[i].listener, matrix[i].uid, verbs[v]),
				     matrix[i].may[v] == 'y', "row %zu column %zu", i, v);
}

/* --- grants and doors ------------------------------------------------------------------------ */

static const struct {
	enum policy_verb verb;
	unsigned right;
} needs[] = {
	{ POLICY_SEE, RIGHTS_ALL },	 { POLICY_READ, RIGHT_READ },
	{ POLICY_WRITE, RIGHT_WRITE },	 { POLICY_SIGNAL, RIGHT_SIGNAL },
	{ POLICY_RESIZE, RIGHT_RESIZE }, { POLICY_MANAGE, RIGHT_MANAGE },
	{ POLICY_BLOCK, RIGHT_BLOCK },
};

enum asker { OWNER, SAME_UID, STRANGER, ROOT, IN_GROUP, THROUGH_DOOR, DOOR_OF_STRANGER, ASKERS };

static const struct principal askers[ASKERS] = {
	[OWNER] = { .listener = PRIVATE, .uid = SERVICE, .gid = 5 },
	[SAME_UID] = { .listener = OPEN, .uid = SERVICE, .gid = 5 },
	[STRANGER] = { .listener = OPEN, .uid = OTHER, .gid = 6 },
	[ROOT] = { .listener = OPEN, .uid = 0, .gid = 0 },
	[IN_GROUP] = { .listener = OPEN, .uid = OTHER + 1, .gid = 8 },
	[THROUGH_DOOR] = { .listener = PRIVATE, .uid = SERVICE, .gid = 5, .delegation = 9 },
	[DOOR_OF_STRANGER] = { .listener = OPEN, .uid = OTHER, .gid = 6, .delegation = 10 },
};

/* What the grant gives that one, by the rules as README and PROTOCOL.md tell them. */
static unsigned expected(enum asker who, const struct grant *g, unsigned delegated)
{
	unsigned granted = 0;

	if (g->to == GRANT_TO_EVERYONE || (g->to == GRANT_TO_UID && g->number == askers[who].uid) ||
	    (g->to == GRANT_TO_GID && (g->number == askers[who].gid ||
				       (who == IN_GROUP && (g->number == 77 || g->number == 78)))))
		granted = g->rights;
	if (who == OWNER)
		return RIGHTS_ALL;
	if (who == THROUGH_DOOR)
		return delegated;
	return who == DOOR_OF_STRANGER ? granted & delegated : granted;
}

/* Every verb, for every kind of principal, under every set of rights, granted to each kind of
 * grantee, and narrowed by each set that a door may have. */
Test(policy, P14_who_may_what_under_every_grant_and_door)
{
	static const uint32_t numbers[] = { SERVICE, OTHER, 0, 6, 77, 4711 };
	const gid_t groups[] = { 77, 78 };
	unsigned yes = 0;

	for (unsigned rights = 0; rights <= RIGHTS_ALL; rights++)
		for (unsigned to = 0; to <= GRANT_TO_EVERYONE; to++)
			for (size_t n = 0; n < ARRAY_SIZE(numbers); n++)
				for (int who = 0; who < ASKERS; who++)
					for (size_t v = 0; v < ARRAY_SIZE(needs); v++) {
						unsigned door = rights * 37 & RIGHTS_ALL;
						struct grants set = {
							.n = 1,
							.list[0] = { .id = 1,
								     .to = (uint16_t)to,
								     .number = numbers[n],
								     .streams = STREAMS_ALL,
								     .rights = (uint8_t)rights }
						};
						struct policy_target target = {
							.owner = askers[OWNER],
							.grants = &set,
							.groups = groups,
							.n_groups = who == IN_GROUP ? 2 : 0,
							.delegated = door,
							.delegated_streams = STREAMS_ALL,
						};
						bool wanted = expected((enum asker)who,
								       &set.list[0], door) &
							      needs[v].right;

						cr_assert_eq(policy_may(&policy, &askers[who],
									needs[v].verb, &target),
							     wanted, "asker %d verb %zu to %u", who,
							     v, to);
						yes += wanted;
					}
	cr_assert_gt(yes, 1000);
}

Test(policy, P14_reading_and_writing_are_narrowed_to_streams)
{
	struct grants set = {
		.n = 2,
		.list = { { .id = 1,
			    .to = GRANT_TO_UID,
			    .number = OTHER,
			    .rights = RIGHT_READ,
			    .streams = 1 << 1 },
			  { .id = 2,
			    .to = GRANT_TO_EVERYONE,
			    .rights = RIGHT_READ | RIGHT_WRITE,
			    .streams = 1 << 0 | 1 << 3 } },
	};
	struct policy_target target = { .owner = askers[OWNER],
					.grants = &set,
					.delegated = RIGHT_READ,
					.delegated_streams = 1 << 3 | 1 << 4 };

	cr_assert_eq(policy_streams(&policy, &askers[STRANGER], POLICY_READ, &target), 0x0b);
	cr_assert_eq(policy_streams(&policy, &askers[STRANGER], POLICY_WRITE, &target), 0x09);
	cr_assert_eq(policy_streams(&policy, &askers[ROOT], POLICY_READ, &target), 0x09);
	cr_assert_eq(policy_streams(&policy, &askers[OWNER], POLICY_WRITE, &target), STREAMS_ALL);
	cr_assert_eq(policy_streams(&policy, &askers[THROUGH_DOOR], POLICY_READ, &target), 0x18);
	cr_assert_eq(policy_streams(&policy, &askers[THROUGH_DOOR], POLICY_WRITE, &target), 0);
	cr_assert_eq(policy_streams(&policy, &askers[DOOR_OF_STRANGER], POLICY_READ, &target),
		     0x08);
}

Test(policy, P14_a_grant_ends_when_its_time_is_up)
{
	struct grants set = {
		.n = 1,
		.list[0] = { .to = GRANT_TO_EVERYONE, .rights = RIGHT_SIGNAL, .until_ms = 1000 }
	};
	struct policy_target target = { .owner = askers[OWNER], .grants = &set, .now_ms = 999 };

	cr_assert(policy_may(&policy, &askers[STRANGER], POLICY_SIGNAL, &target));
	target.now_ms = 1000;
	cr_assert_not(policy_may(&policy, &askers[STRANGER], POLICY_SIGNAL, &target));
	cr_assert_not(policy_may(&policy, &askers[STRANGER], POLICY_SEE, &target));
	cr_assert(policy_may(&policy, &askers[OWNER], POLICY_SIGNAL, &target));
}

Test(policy, P14_who_came_through_a_door_is_nobody_else)
{
	const struct principal *door = &askers[THROUGH_DOOR];
	struct principal other = *door, no_spawn = *door;
	struct policy_target target = { .owner = *door, .delegated = RIGHT_READ };

	other.delegation = 11;
	no_spawn.may_not_spawn = true;
	cr_assert_not(principal_is_same(door, &askers[OWNER]));
	cr_assert_not(principal_is_same(door, &other));
	/* What it opened is its own, within its rights, and its maker's; of no other door. */
	cr_assert(policy_may(&policy, door, POLICY_READ, &target));
	cr_assert_not(policy_may(&policy, door, POLICY_WRITE, &target));
	cr_assert(policy_may(&policy, &askers[OWNER], POLICY_WRITE, &target));
	cr_assert_not(policy_may(&policy, &askers[STRANGER], POLICY_SEE, &target));
	target.delegated = 0;
	cr_assert_not(policy_may(&policy, &other, POLICY_SEE, &target));
	cr_assert(policy_may(&policy, door, POLICY_SPAWN, NULL));
	cr_assert_not(policy_may(&policy, &no_spawn, POLICY_SPAWN, NULL));
	cr_assert_not(policy_may(&policy, &no_spawn, POLICY_PASS_DESCRIPTORS, NULL));
	cr_assert_not(policy_may(&policy, door, POLICY_SHUTDOWN, NULL));
	cr_assert_not(policy_may(&policy, door, POLICY_DELEGATE, NULL));
	cr_assert(policy_may(&policy, &askers[OWNER], POLICY_DELEGATE, NULL));
}

Test(policy, P14_what_is_no_verb_is_denied)
{
	const struct principal who = { .listener = PRIVATE };
	const struct policy_target target = { .owner = who };

	for (int v = POLICY_VERBS; v < POLICY_VERBS + 100; v++)
		cr_assert_not(policy_may(&policy, &who, (enum policy_verb)v, &target));
}

Test(policy, listeners_are_bounded)
{
	const struct policy_listener any = { 0 };

	while (policy.n_listeners < LISTENERS_MAX)
		cr_assert_gt(policy_add_listener(&policy, &any), 0);
	cr_assert_eq(policy_add_listener(&policy, &any), -ENOSPC);
}

Test(policy, every_denial_has_a_sentence)
{
	for (int v = 0; v < POLICY_VERBS; v++)
		cr_assert_not_null(policy_reason((enum policy_verb)v));
	cr_assert_not_null(policy_reason(POLICY_VERBS));
}
