/* A million random charges, changes and returns, held against an accountant that keeps nothing but
 * a list of who has what and adds it all up. */
#include "broker/quota.h"

#include <criterion/criterion.h>

#include "tests/lib/random.h"

TestSuite(quota_model, .timeout = 60);

#define OPERATIONS 1000000
#define UIDS	   3u
#define CONNS	   4u /* of each uid */
#define CHARGES	   60u

struct entry {
	struct quota_charge charge;
	bool is_out, on_conn;
	unsigned int uid, conn;
	enum quota_kind kind;
	uint64_t amount;
};

static struct {
	struct random random;
	struct quota_limits limits[QUOTA_LEVELS];
	struct quota *quota;
	struct quota_account *uids[UIDS], *conns[UIDS][CONNS];
	struct entry entries[CHARGES];
	uint64_t seed;
	int step;
	unsigned int n_taken, n_refused;
} m;

#define check(condition) cr_assert(condition, "seed %lu step %d: %s", m.seed, m.step, #condition)

static bool counts(enum quota_level level, const struct entry *e, const struct entry *like)
{
	return e->is_out && (level < QUOTA_UID || e->uid == like->uid) &&
	       (level < QUOTA_CONNECTION || (e->on_conn && e->conn == like->conn));
}

static uint64_t sum(enum quota_level level, const struct entry *like)
{
	uint64_t sum = 0;

	for (const struct entry *e = m.entries; e < m.entries + CHARGES; e++)
		if (e->kind == like->kind && counts(level, e, like))
			sum += e->amount;
	return sum;
}

/* What all kinds come to. */
static uint64_t memory(enum quota_level level, const struct entry *like)
{
	uint64_t sum = 0;

	for (const struct entry *e = m.entries; e < m.entries + CHARGES; e++)
		if (counts(level, e, like))
			sum += e->amount * (e->kind == QUOTA_MEMORY ? 1 : quota_weight(e->kind));
	return sum;
}

static bool fits(const struct entry *e, uint64_t more)
{
	enum quota_level top = e->on_conn ? QUOTA_CONNECTION : QUOTA_UID;

	for (int level = 0; level <= (int)top; level++)
		if ((e->kind != QUOTA_MEMORY &&
		     sum((enum quota_level)level, e) + more > m.limits[level].most[e->kind]) ||
		    memory((enum quota_level)level, e) +
				    more * (e->kind == QUOTA_MEMORY ? 1 : quota_weight(e->kind)) >
			    m.limits[level].most[QUOTA_MEMORY])
			return false;
	return true;
}

static struct quota_account *account_of(const struct entry *e)
{
	return e->on_conn ? m.conns[e->uid][e->conn] : m.uids[e->uid];
}

static void take(struct entry *e)
{
	bool expected;
	int r;

	e->uid = (unsigned int)random_below(&m.random, UIDS);
	e->conn = (unsigned int)random_below(&m.random, CONNS);
	e->on_conn = random_chance(&m.random, 2);
	e->kind = (enum quota_kind)random_below(&m.random, QUOTA_KINDS);
	e->amount = random_below(&m.random, 12);
	expected = fits(e, e->amount);
	r = quota_charge_take(&e->charge, account_of(e), e->kind, e->amount, NULL);
	check(!r == expected && (!r || r == QUOTA_E_EXCEEDED || r == QUOTA_E_MEMORY));
	e->is_out = expected;
	m.n_taken += expected;
	m.n_refused += !expected;
}

static void resize(struct entry *e)
{
	uint64_t amount = random_below(&m.random, 12);
	bool expected = amount <= e->amount || fits(e, amount - e->amount);
	int r = quota_charge_resize(&e->charge, amount, NULL);

	check(!r == expected);
	if (expected)
		e->amount = amount;
}

/* A connection that goes while charges of its account may be out, and a new one. */
static void reconnect(void)
{
	unsigned int uid = (unsigned int)random_below(&m.random, UIDS);
	unsigned int conn = (unsigned int)random_below(&m.random, CONNS);

	for (size_t i = 0; i < CHARGES; i++) {
		struct entry *e = &m.entries[i];

		if (e->is_out && e->on_conn && e->uid == uid && e->conn == conn) {
			quota_charge_return(&e->charge);
			e->is_out = false;
		}
	}
	check(quota_used(m.conns[uid][conn], QUOTA_PORTS) == 0);
	quota_account_unref(m.conns[uid][conn]);
	check(quota_account_of_connection(m.uids[uid], &m.conns[uid][conn]) == 0);
}

static void one_step(void)
{
	struct entry *e = &m.entries[random_below(&m.random, CHARGES)];

	if (random_chance(&m.random, 1000)) {
		reconnect();
	} else if (!e->is_out) {
		take(e);
	} else if (random_chance(&m.random, 3)) {
		resize(e);
	} else {
		quota_charge_return(&e->charge);
		e->is_out = false;
	}
	if (e->is_out)
		check(quota_used(account_of(e), QUOTA_MEMORY) ==
		      memory(e->on_conn ? QUOTA_CONNECTION : QUOTA_UID, e));
	if (e->is_out && e->kind != QUOTA_MEMORY)
		check(quota_used(account_of(e), e->kind) ==
		      sum(e->on_conn ? QUOTA_CONNECTION : QUOTA_UID, e));
}

static void setup(uint64_t seed)
{
	m.seed = m.random.state = seed;
	for (int level = 0; level < QUOTA_LEVELS; level++)
		for (int kind = 0; kind < QUOTA_KINDS; kind++)
			m.limits[level].most[kind] =
				(uint64_t)(32 >> level) + random_below(&m.random, 10);
	for (int level = 0; level < QUOTA_LEVELS; level++)
		m.limits[level].most[QUOTA_MEMORY] =
			(1000000 >> level) + random_below(&m.random, 1000);
	check(quota_new(m.limits, &m.quota) == 0);
	for (uid_t uid = 0; uid < UIDS; uid++) {
		check(quota_account_of_uid(m.quota, uid, &m.uids[uid]) == 0);
		for (size_t i = 0; i < CONNS; i++)
			check(quota_account_of_connection(m.uids[uid], &m.conns[uid][i]) == 0);
	}
}

Test(quota_model, agrees_with_the_accountant_over_a_million_operations)
{
	setup(2026);
	for (m.step = 0; m.step < OPERATIONS; m.step++)
		one_step();
	check(m.n_taken > OPERATIONS / 10 && m.n_refused > OPERATIONS / 50);
	for (size_t i = 0; i < CHARGES; i++)
		quota_charge_return(&m.entries[i].charge);
	for (size_t uid = 0; uid < UIDS; uid++) {
		for (int kind = 0; kind < QUOTA_KINDS; kind++)
			check(quota_used(m.uids[uid], (enum quota_kind)kind) == 0);
		for (size_t i = 0; i < CONNS; i++)
			quota_account_unref(m.conns[uid][i]);
		quota_account_unref(m.uids[uid]);
	}
	quota_free(m.quota);
}
