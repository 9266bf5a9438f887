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
	const struct principal who = { listener, uid, uid };

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
					for (int v = POLICY_SEE; v <= POLICY_MANAGE; v++) {
						const struct principal who = { l, uids[u], 5 };
						const struct policy_target target = {
							.owner = { ol, uids[ou], 6 }
						};
						bool owner = l == ol && u == ou && l != NOT_THERE;

						cr_assert_eq(policy_may(&policy, &who,
									(enum policy_verb)v,
									&target),
							     owner);
						yes += owner;
						no += !owner;
					}
	cr_assert_eq(yes, 3 * 4 * 6);
	cr_assert_eq(no, 16 * 16 * 6 - yes);
}

Test(policy, P14_without_a_target_no_verb_on_a_port_is_allowed)
{
	for (int v = POLICY_SEE; v <= POLICY_MANAGE; v++)
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

Test(policy, P14_what_is_no_verb_is_denied)
{
	const struct principal who = { PRIVATE, 0, 0 };
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
