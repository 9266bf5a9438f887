/* Counts what principals take and refuses what is past their limits.
 *
 * Owns: the service's account, the uids' accounts (in use, and idle ones whose spawn rate is still
 * remembered, so that a new connection is no new burst) and the limits. Connections' accounts
 * belong to who refers to them; a charge refers to its account.
 *
 * Invariants: on every level used <= most, and used is the sum of all charges that are out on the
 * account or above it. A charge is made on a whole chain or not at all, so nothing has to be
 * undone.
 *
 * A refusal is an expected outcome: QUOTA_E_EXCEEDED and a sentence that names who has too much of
 * what. Nothing else fails but memory for a new account.
 */
#include "broker/quota.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "broker/errand.h"
#include "broker/turn.h"
#include "proto/base/err.h"
#include "proto/base/list.h"
#include "proto/limits.h"

struct quota_account {
	struct quota *quota;
	struct quota_account *below; /* a reference; NULL: the service's own */
	enum quota_level level;
	uid_t uid;
	unsigned int n_refs;
	struct list link; /* a uid's: in use or idle */
	uint64_t used[QUOTA_KINDS];
	struct token_bucket spawns;
	struct turn_share share; /* a uid's */
	struct errand_share errands;
};

struct quota {
	struct quota_limits limits[QUOTA_LEVELS];
	struct quota_account service;
	struct list uids;
	struct list idle_uids; /* the one idle longest is first */
	uint32_t n_idle_uids;
	uint32_t n_connections; /* accounts */
};

/* clang-format off */
#define REASONS(who)                                                                               \
	{                                                                                          \
		[QUOTA_PORTS] = who " has as many ports as it may: forget ended ones or wait",     \
		[QUOTA_RING_BYTES] = who " has as many bytes of logs as it may: forget ended "     \
				     "ports or ask for smaller logs",                              \
		[QUOTA_INPUT_BYTES] = who " has as many bytes of input waiting as it may: "        \
				      "try again when some are written",                           \
		[QUOTA_SUBSCRIPTIONS] = who " has as many subscriptions as it may: end some",      \
		[QUOTA_DESCRIPTORS] = who " has as many descriptors in hand as it may: "           \
				      "try again when ports have ended",                           \
		[QUOTA_CONNECTIONS] = who " has as many connections as it may: close some",        \
		[QUOTA_BUFFER_BYTES] = who " has as many bytes of unfinished frames, unread "      \
				       "answers, searches and waiting spawns as it may: finish and "  \
				       "read some, or try again later",                                 \
		[QUOTA_SELECTED_WAITS] = who " waits for as many sets of labels as it may: wait "  \
					 "for ports by their ids, or follow them with Watch",      \
		[QUOTA_ERRANDS] = who " has as many signals to whole trees on their way as it "     \
				  "may: wait for some, or signal groups",                          \
		[QUOTA_MEMORY] = who " uses as much memory as it may: forget ended ports, end "    \
				 "subscriptions, or try again later",                              \
	}
/* clang-format on */

static const char *const reasons[QUOTA_LEVELS][QUOTA_KINDS] = {
	[QUOTA_SERVICE] = REASONS("the service"),
	[QUOTA_UID] = REASONS("this user"),
	[QUOTA_CONNECTION] = REASONS("this connection"),
};

static const char *const spawn_reasons[QUOTA_LEVELS] = {
	[QUOTA_SERVICE] = "the service starts as many programs a second as it may: try again later",
	[QUOTA_UID] = "this user starts as many programs a second as it may: try again later",
	[QUOTA_CONNECTION] =
		"this connection starts as many programs a second as it may: try again later",
};

/* --- limits ---------------------------------------------------------------------------------- */

static const struct quota_limits defaults[QUOTA_LEVELS] = {
	[QUOTA_SERVICE] = {
		.most = {
			[QUOTA_PORTS] = PORTS_MAX,
			[QUOTA_RING_BYTES] = RINGS_BYTES_MAX,
			[QUOTA_INPUT_BYTES] = QUOTA_INPUT_BYTES_SERVICE,
			[QUOTA_SUBSCRIPTIONS] = QUOTA_SUBSCRIPTIONS_MAX,
			[QUOTA_DESCRIPTORS] = QUOTA_DESCRIPTORS_SERVICE,
			[QUOTA_CONNECTIONS] = CONNS_MAX,
			[QUOTA_BUFFER_BYTES] = QUOTA_BUFFER_BYTES_SERVICE,
			[QUOTA_ERRANDS] = QUOTA_ERRANDS_SERVICE,
			[QUOTA_SELECTED_WAITS] = SELECTED_WAITS_MAX,
			[QUOTA_MEMORY] = QUOTA_MEMORY_MAX,
		},
		.spawns = { .per_second = 0, .burst = 0 },
	},
	[QUOTA_UID] = {
		.most = {
			[QUOTA_PORTS] = PORTS_PER_UID,
			[QUOTA_RING_BYTES] = RINGS_BYTES_MAX,
			[QUOTA_INPUT_BYTES] = QUOTA_INPUT_BYTES_UID,
			[QUOTA_SUBSCRIPTIONS] = QUOTA_SUBSCRIPTIONS_MAX,
			[QUOTA_DESCRIPTORS] = QUOTA_DESCRIPTORS_UID,
			[QUOTA_CONNECTIONS] = CONNS_PER_UID,
			[QUOTA_BUFFER_BYTES] = QUOTA_BUFFER_BYTES_UID,
			[QUOTA_ERRANDS] = QUOTA_ERRANDS_UID,
			[QUOTA_SELECTED_WAITS] = SELECTED_WAITS_PER_UID,
			[QUOTA_MEMORY] = QUOTA_MEMORY_MAX,
		},
		.spawns = { QUOTA_SPAWNS_PER_SECOND, QUOTA_SPAWNS_BURST },
	},
	[QUOTA_CONNECTION] = {
		.most = {
			[QUOTA_PORTS] = PORTS_PER_UID,
			[QUOTA_RING_BYTES] = RINGS_BYTES_MAX,
			[QUOTA_INPUT_BYTES] = QUOTA_INPUT_BYTES_CONN,
			[QUOTA_SUBSCRIPTIONS] = CONN_SUBSCRIPTIONS,
			[QUOTA_DESCRIPTORS] = QUOTA_DESCRIPTORS_CONN,
			[QUOTA_CONNECTIONS] = 1,
			[QUOTA_BUFFER_BYTES] = QUOTA_BUFFER_BYTES_CONN,
			[QUOTA_ERRANDS] = QUOTA_ERRANDS_CONN,
			[QUOTA_SELECTED_WAITS] = CONN_SELECTED_WAITS,
			[QUOTA_MEMORY] = QUOTA_MEMORY_MAX,
		},
		.spawns = { QUOTA_SPAWNS_PER_SECOND, QUOTA_SPAWNS_BURST },
	},
};

struct quota_limits quota_limits_default(enum quota_level level)
{
	return defaults[level];
}

static const struct quota_limits *limits_of(const struct quota_account *a)
{
	return &a->quota->limits[a->level];
}

/* --- accounts -------------------------------------------------------------------------------- */

static void account_init(struct quota_account *a, struct quota *q, enum quota_level level)
{
	*a = (struct quota_account){ .quota = q, .level = level, .n_refs = 1 };
	list_init(&a->link);
	turn_share_init(&a->share);
	errand_share_init(&a->errands);
}

int quota_new(const struct quota_limits *limits, struct quota **ret)
{
	struct quota *q = calloc(1, sizeof(*q));
	int level;

	if (!q)
		return err_begin(-ENOMEM);
	for (level = 0; level < QUOTA_LEVELS; level++)
		q->limits[level] = limits[level];
	account_init(&q->service, q, QUOTA_SERVICE);
	list_init(&q->uids);
	list_init(&q->idle_uids);
	*ret = q;
	return 0;
}

static struct quota_account *find_uid(struct list *accounts, uid_t uid)
{
	struct quota_account *a;

	list_for_each (a, accounts, link) {
		if (a->uid == uid)
			return a;
	}
	return NULL;
}

/* Back in use from the idle ones, or NULL. */
static struct quota_account *wake_uid(struct quota *q, uid_t uid)
{
	struct quota_account *a = find_uid(&q->idle_uids, uid);

	if (!a)
		return NULL;
	list_remove(&a->link);
	q->n_idle_uids--;
	list_append(&q->uids, &a->link);
	a->n_refs = 1;
	return a;
}

int quota_account_of_uid(struct quota *q, uid_t uid, struct quota_account **ret)
{
	struct quota_account *a = find_uid(&q->uids, uid);

	if (a) {
		*ret = quota_account_ref(a);
		return 0;
	}
	a = wake_uid(q, uid);
	if (!a) {
		a = malloc(sizeof(*a));
		if (!a)
			return err_begin(-ENOMEM);
		account_init(a, q, QUOTA_UID);
		a->uid = uid;
		a->below = &q->service;
		list_append(&q->uids, &a->link);
	}
	*ret = a;
	return 0;
}

int quota_account_of_connection(struct quota_account *uid_account, struct quota_account **ret)
{
	struct quota_account *a = malloc(sizeof(*a));

	if (!a)
		return err_begin(-ENOMEM);
	account_init(a, uid_account->quota, QUOTA_CONNECTION);
	a->uid = uid_account->uid;
	a->below = quota_account_ref(uid_account);
	a->quota->n_connections++;
	*ret = a;
	return 0;
}

struct turn_share *quota_turn_share(struct quota_account *a)
{
	return a->level == QUOTA_CONNECTION ? &a->below->share : &a->share;
}

struct errand_share *quota_errand_share(struct quota_account *a)
{
	return &a->errands;
}

struct quota_account *quota_account_below(struct quota_account *a)
{
	return a->level == QUOTA_CONNECTION ? a->below : a;
}

struct quota_account *quota_account_ref(struct quota_account *a)
{
	a->n_refs++;
	return a;
}

static void forget_idle_uid(struct quota *q)
{
	struct quota_account *a = list_first(&q->idle_uids, struct quota_account, link);

	list_remove(&a->link);
	q->n_idle_uids--;
	turn_share_leave(&a->share);
	free(a);
}

static void uid_is_idle(struct quota *q, struct quota_account *a)
{
	list_remove(&a->link);
	list_append(&q->idle_uids, &a->link);
	if (++q->n_idle_uids > QUOTA_IDLE_UIDS_MAX)
		forget_idle_uid(q);
}

static void account_end(struct quota_account *a)
{
	int kind;

	for (kind = 0; kind < QUOTA_KINDS; kind++)
		assert(a->used[kind] == 0);
	if (a->level == QUOTA_UID) {
		uid_is_idle(a->quota, a);
		return;
	}
	a->quota->n_connections--;
	quota_account_unref(a->below);
	free(a);
}

struct quota_account *quota_account_unref(struct quota_account *a)
{
	if (a && --a->n_refs == 0)
		account_end(a);
	return NULL;
}

void quota_free(struct quota *q)
{
	if (!q)
		return;
	assert(list_is_empty(&q->uids) && q->n_connections == 0);
	while (!list_is_empty(&q->idle_uids))
		forget_idle_uid(q);
	free(q);
}

uint64_t quota_used(const struct quota_account *a, enum quota_kind kind)
{
	return a->used[kind];
}

/* --- charges --------------------------------------------------------------------------------- */

/* Logs, input and buffers are bytes themselves. The others are estimates from above of what one of
 * them makes the broker allocate, options and answers that it still has to get included. */
static const uint64_t weights[QUOTA_KINDS] = {
	[QUOTA_PORTS] = QUOTA_WEIGHT_PORT,
	[QUOTA_RING_BYTES] = 1,
	[QUOTA_INPUT_BYTES] = 1,
	[QUOTA_SUBSCRIPTIONS] = QUOTA_WEIGHT_SUBSCRIPTION,
	[QUOTA_DESCRIPTORS] = 0,
	[QUOTA_CONNECTIONS] = QUOTA_WEIGHT_CONNECTION,
	[QUOTA_BUFFER_BYTES] = 1,
	[QUOTA_MEMORY] = 0, /* not a second time */
	[QUOTA_SELECTED_WAITS] = QUOTA_WEIGHT_WATCH,
	[QUOTA_ERRANDS] = QUOTA_WEIGHT_ERRAND,
};

uint64_t quota_weight(enum quota_kind kind)
{
	return weights[kind];
}

static uint64_t memory_of(enum quota_kind kind, uint64_t amount)
{
	uint64_t memory;

	return __builtin_mul_overflow(weights[kind], amount, &memory) ? UINT64_MAX : memory;
}

static bool account_takes(const struct quota_account *a, enum quota_kind kind, uint64_t amount)
{
	uint64_t most = limits_of(a)->most[kind];

	return a->used[kind] <= most && amount <= most - a->used[kind];
}

static int chain_add(struct quota_account *top, enum quota_kind kind, uint64_t amount,
		     const char **ret_reason)
{
	uint64_t memory = memory_of(kind, amount);
	enum quota_kind full;
	struct quota_account *a;

	for (a = top; a; a = a->below) {
		if (account_takes(a, kind, amount) && account_takes(a, QUOTA_MEMORY, memory))
			continue;
		full = account_takes(a, kind, amount) ? QUOTA_MEMORY : kind;
		if (ret_reason)
			*ret_reason = reasons[a->level][full];
		return full == QUOTA_MEMORY && a->level == QUOTA_SERVICE ? QUOTA_E_MEMORY
									 : QUOTA_E_EXCEEDED;
	}
	for (a = top; a; a = a->below) {
		a->used[kind] += amount;
		a->used[QUOTA_MEMORY] += memory;
	}
	return 0;
}

static void chain_subtract(struct quota_account *top, enum quota_kind kind, uint64_t amount)
{
	uint64_t memory = memory_of(kind, amount);
	struct quota_account *a;

	for (a = top; a; a = a->below) {
		assert(a->used[kind] >= amount && a->used[QUOTA_MEMORY] >= memory);
		a->used[kind] -= amount;
		a->used[QUOTA_MEMORY] -= memory;
	}
}

int quota_charge_take(struct quota_charge *c, struct quota_account *a, enum quota_kind kind,
		      uint64_t amount, const char **ret_reason)
{
	int r;

	assert(!c->account);
	r = chain_add(a, kind, amount, ret_reason);
	if (r)
		return r;
	*c = (struct quota_charge){ quota_account_ref(a), kind, amount };
	return 0;
}

int quota_charge_resize(struct quota_charge *c, uint64_t amount, const char **ret_reason)
{
	int r = 0;

	assert(c->account);
	if (amount > c->amount)
		r = chain_add(c->account, c->kind, amount - c->amount, ret_reason);
	else
		chain_subtract(c->account, c->kind, c->amount - amount);
	if (r)
		return r;
	c->amount = amount;
	return 0;
}

void quota_charge_return(struct quota_charge *c)
{
	struct quota_account *a = TAKE(c->account);

	if (!a)
		return;
	chain_subtract(a, c->kind, c->amount);
	c->amount = 0;
	quota_account_unref(a);
}

void quota_charge_move(struct quota_charge *to, struct quota_charge *from)
{
	assert(!to->account);
	*to = *from;
	*from = (struct quota_charge)QUOTA_CHARGE_INIT;
}

/* --- spawn rate ------------------------------------------------------------------------------ */

int quota_spawn(struct quota_account *top, uint64_t now_ms, uint32_t *ret_retry_after_ms,
		const char **ret_reason)
{
	struct quota_account *a, *longest = NULL;
	uint32_t wait_ms = 0;

	for (a = top; a; a = a->below) {
		uint32_t ms = token_bucket_wait_ms(&a->spawns, limits_of(a)->spawns, now_ms);

		if (ms > wait_ms) {
			wait_ms = ms;
			longest = a;
		}
	}
	if (longest) {
		*ret_retry_after_ms = wait_ms;
		if (ret_reason)
			*ret_reason = spawn_reasons[longest->level];
		return QUOTA_E_EXCEEDED;
	}
	for (a = top; a; a = a->below)
		token_bucket_take(&a->spawns, limits_of(a)->spawns, now_ms);
	return 0;
}
