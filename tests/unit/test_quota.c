#include "broker/quota.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/lib/countdown.h"

static struct quota *quota;
static struct quota_account *user, *conn;
static const char *reason;

static void init(void)
{
	struct quota_limits limits[QUOTA_LEVELS] = {
		[QUOTA_SERVICE] = { .most = { [QUOTA_PORTS] = 10,
					      [QUOTA_INPUT_BYTES] = UINT64_MAX,
					      [QUOTA_MEMORY] = UINT64_MAX } },
		[QUOTA_UID] = { .most = { [QUOTA_PORTS] = 8,
					  [QUOTA_INPUT_BYTES] = UINT64_MAX,
					  [QUOTA_MEMORY] = UINT64_MAX },
				.spawns = { .per_second = 10, .burst = 2 } },
		[QUOTA_CONNECTION] = { .most = { [QUOTA_PORTS] = 5,
						 [QUOTA_INPUT_BYTES] = UINT64_MAX,
						 [QUOTA_MEMORY] = UINT64_MAX } },
	};

	cr_assert_eq(quota_new(limits, &quota), 0);
	cr_assert_eq(quota_account_of_uid(quota, 1000, &user), 0);
	cr_assert_eq(quota_account_of_connection(user, &conn), 0);
}

static void fini(void)
{
	conn = quota_account_unref(conn);
	user = quota_account_unref(user);
	quota_free(quota);
}

TestSuite(quota, .timeout = 20, .init = init, .fini = fini);

Test(quota, a_charge_counts_on_every_level_and_is_given_back_once)
{
	struct quota_charge c = QUOTA_CHARGE_INIT;

	cr_assert_eq(quota_charge_take(&c, conn, QUOTA_PORTS, 3, NULL), 0);
	cr_assert_eq(quota_used(conn, QUOTA_PORTS), 3);
	cr_assert_eq(quota_used(user, QUOTA_PORTS), 3);
	quota_charge_return(&c);
	quota_charge_return(&c);
	cr_assert_eq(quota_used(conn, QUOTA_PORTS), 0);
	cr_assert_eq(quota_used(user, QUOTA_PORTS), 0);
}

Test(quota, a_refusal_names_who_has_too_much_and_charges_nothing)
{
	struct quota_charge c = QUOTA_CHARGE_INIT, d = QUOTA_CHARGE_INIT, e = QUOTA_CHARGE_INIT;
	struct quota_account *other;

	cr_assert_eq(quota_charge_take(&c, conn, QUOTA_PORTS, 6, &reason), QUOTA_E_EXCEEDED);
	cr_assert(strstr(reason, "connection") && strstr(reason, "ports"));
	cr_assert_eq(quota_used(user, QUOTA_PORTS), 0);
	cr_assert_eq(quota_charge_take(&c, conn, QUOTA_PORTS, 5, &reason), 0);
	cr_assert_eq(quota_charge_take(&d, user, QUOTA_PORTS, 4, &reason), QUOTA_E_EXCEEDED);
	cr_assert(strstr(reason, "user"));
	cr_assert_eq(quota_account_of_uid(quota, 1001, &other), 0);
	cr_assert_eq(quota_charge_take(&e, other, QUOTA_PORTS, 6, &reason), QUOTA_E_EXCEEDED);
	cr_assert(strstr(reason, "service"));
	cr_assert_eq(quota_used(other, QUOTA_PORTS), 0);
	quota_charge_return(&c);
	quota_account_unref(other);
}

Test(quota, sums_past_64_bits_are_refused)
{
	struct quota_charge c = QUOTA_CHARGE_INIT, d = QUOTA_CHARGE_INIT;

	cr_assert_eq(quota_charge_take(&c, conn, QUOTA_INPUT_BYTES, UINT64_MAX - 1, NULL), 0);
	cr_assert_eq(quota_charge_take(&d, conn, QUOTA_INPUT_BYTES, 2, NULL), QUOTA_E_EXCEEDED);
	cr_assert_eq(quota_charge_resize(&c, UINT64_MAX, NULL), 0);
	cr_assert_eq(quota_charge_take(&d, conn, QUOTA_INPUT_BYTES, 1, NULL), QUOTA_E_EXCEEDED);
	quota_charge_return(&c);
}

Test(quota, a_charge_can_grow_shrink_and_move)
{
	struct quota_charge c = QUOTA_CHARGE_INIT, d = QUOTA_CHARGE_INIT;

	cr_assert_eq(quota_charge_take(&c, conn, QUOTA_PORTS, 1, NULL), 0);
	cr_assert_eq(quota_charge_resize(&c, 5, NULL), 0);
	cr_assert_eq(quota_charge_resize(&c, 6, &reason), QUOTA_E_EXCEEDED);
	cr_assert_eq(c.amount, 5);
	cr_assert_eq(quota_charge_resize(&c, 2, NULL), 0);
	quota_charge_move(&d, &c);
	quota_charge_return(&c);
	cr_assert_eq(quota_used(user, QUOTA_PORTS), 2);
	quota_charge_return(&d);
	cr_assert_eq(quota_used(user, QUOTA_PORTS), 0);
}

Test(quota, an_account_lives_as_long_as_a_charge_is_out)
{
	struct quota_charge c = QUOTA_CHARGE_INIT;

	cr_assert_eq(quota_charge_take(&c, conn, QUOTA_PORTS, 5, NULL), 0);
	conn = quota_account_unref(conn);
	user = quota_account_unref(user);
	cr_assert_eq(quota_account_of_uid(quota, 1000, &user), 0);
	cr_assert_eq(quota_used(user, QUOTA_PORTS), 5);
	quota_charge_return(&c);
	cr_assert_eq(quota_used(user, QUOTA_PORTS), 0);
}

/* --- spawn rate ------------------------------------------------------------------------------ */

Test(quota, spawns_past_the_rate_are_told_when_to_try_again)
{
	uint32_t ms = 0;

	cr_assert_eq(quota_spawn(conn, 0, &ms, &reason), 0);
	cr_assert_eq(quota_spawn(conn, 0, &ms, &reason), 0);
	cr_assert_eq(quota_spawn(conn, 0, &ms, &reason), QUOTA_E_EXCEEDED);
	cr_assert_eq(ms, 100);
	cr_assert(strstr(reason, "user"));
	cr_assert_eq(quota_spawn(conn, 99, &ms, &reason), QUOTA_E_EXCEEDED);
	cr_assert_eq(quota_spawn(conn, 100, &ms, &reason), 0);
}

Test(quota, a_new_connection_is_no_new_burst)
{
	uint32_t ms = 0;

	cr_assert_eq(quota_spawn(conn, 0, &ms, &reason), 0);
	cr_assert_eq(quota_spawn(conn, 0, &ms, &reason), 0);
	conn = quota_account_unref(conn);
	user = quota_account_unref(user);
	cr_assert_eq(quota_account_of_uid(quota, 1000, &user), 0);
	cr_assert_eq(quota_account_of_connection(user, &conn), 0);
	cr_assert_eq(quota_spawn(conn, 0, &ms, &reason), QUOTA_E_EXCEEDED);
}

Test(quota, uids_that_went_are_remembered_up_to_a_bound)
{
	for (uid_t uid = 1; uid < 3 * QUOTA_IDLE_UIDS_MAX; uid++) {
		struct quota_account *a;

		cr_assert_eq(quota_account_of_uid(quota, uid, &a), 0);
		quota_account_unref(a);
	}
}

/* --- the rest -------------------------------------------------------------------------------- */

Test(quota, defaults_never_allow_a_lower_level_more_than_a_higher_one_has)
{
	struct quota_limits service = quota_limits_default(QUOTA_SERVICE);
	struct quota_limits uid = quota_limits_default(QUOTA_UID);
	struct quota_limits connection = quota_limits_default(QUOTA_CONNECTION);

	for (int kind = 0; kind < QUOTA_KINDS; kind++) {
		cr_assert_gt(connection.most[kind], 0);
		cr_assert_leq(connection.most[kind], uid.most[kind]);
		cr_assert_leq(uid.most[kind], service.most[kind]);
	}
}

Test(quota, every_refusal_has_a_sentence)
{
	struct quota_limits none[QUOTA_LEVELS] = { 0 };

	for (int level = 0; level < QUOTA_LEVELS; level++) {
		struct quota_limits limits[QUOTA_LEVELS];
		struct quota_account *u, *c;
		struct quota *q;

		for (int i = 0; i < QUOTA_LEVELS; i++)
			limits[i] =
				i == level ? none[i] : quota_limits_default((enum quota_level)i);
		cr_assert_eq(quota_new(limits, &q), 0);
		cr_assert_eq(quota_account_of_uid(q, 1, &u), 0);
		cr_assert_eq(quota_account_of_connection(u, &c), 0);
		for (int kind = 0; kind < QUOTA_KINDS; kind++) {
			struct quota_charge charge = QUOTA_CHARGE_INIT;

			reason = NULL;
			cr_assert_neq(
				quota_charge_take(&charge, c, (enum quota_kind)kind, 1, &reason),
				0);
			cr_assert_not_null(reason);
		}
		quota_account_unref(c);
		quota_account_unref(u);
		quota_free(q);
	}
}

Test(quota, want_of_memory_is_told)
{
	const struct quota_limits limits[QUOTA_LEVELS] = { 0 };
	struct quota_account *a;
	struct quota *q;

	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(quota_new(limits, &q), -ENOMEM);
	cr_assert(countdown_off());
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(quota_account_of_uid(quota, 5, &a), -ENOMEM);
	cr_assert(countdown_off());
	countdown_arm(COUNTDOWN_MALLOC, 1, ENOMEM);
	cr_assert_eq(quota_account_of_connection(user, &a), -ENOMEM);
	cr_assert(countdown_off());
}

Test(quota, P15_what_is_charged_is_charged_as_memory_too)
{
	struct quota_limits limits[QUOTA_LEVELS];
	struct quota_charge c = QUOTA_CHARGE_INIT, d = QUOTA_CHARGE_INIT;
	struct quota_account *u, *k;
	struct quota *q;

	for (int i = 0; i < QUOTA_LEVELS; i++)
		limits[i] = quota_limits_default((enum quota_level)i);
	limits[QUOTA_SERVICE].most[QUOTA_MEMORY] = QUOTA_WEIGHT_PORT + 100;
	cr_assert_eq(quota_new(limits, &q), 0);
	cr_assert_eq(quota_account_of_uid(q, 1, &u), 0);
	cr_assert_eq(quota_account_of_connection(u, &k), 0);
	cr_expect_eq(quota_charge_take(&c, k, QUOTA_RING_BYTES, QUOTA_WEIGHT_PORT, NULL), 0);
	cr_expect_eq(quota_charge_take(&d, k, QUOTA_PORTS, 1, &reason), QUOTA_E_MEMORY);
	cr_expect(strstr(reason, "service") && strstr(reason, "memory"), "%s", reason);
	cr_expect_eq(quota_charge_resize(&c, 100, NULL), 0);
	cr_expect_eq(quota_charge_take(&d, k, QUOTA_PORTS, 1, &reason), 0);
	cr_expect_eq(quota_used(u, QUOTA_MEMORY), QUOTA_WEIGHT_PORT + 100);
	quota_charge_return(&c);
	quota_charge_return(&d);
	cr_expect_eq(quota_used(u, QUOTA_MEMORY), 0);
	quota_account_unref(k);
	quota_account_unref(u);
	quota_free(q);
}
