/* What principals may take of the service: counters for each uid, each connection and the whole
 * service, and charges, which know how to give themselves back exactly once.
 *
 * Accounts form a chain: a connection's account stands on its uid's, which stands on the service's.
 * A charge on one account is a charge on all below it: all or none. A port that outlives its
 * connection is charged to the uid's account. An account lives as long as somebody refers to it or
 * a charge is out.
 */
#ifndef REDD_QUOTA_H
#define REDD_QUOTA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/token_bucket.h"
#include "proto/base/cleanup.h"

enum quota_kind {
	QUOTA_PORTS,
	QUOTA_RING_BYTES,  /* logs of output streams */
	QUOTA_INPUT_BYTES, /* queued for inputs */
	QUOTA_SUBSCRIPTIONS,
	QUOTA_DESCRIPTORS, /* passed by clients, until a child has them */
	QUOTA_CONNECTIONS,
	QUOTA_BUFFER_BYTES,   /* frames not whole, answers not read, searches, spawns that wait */
	QUOTA_ERRANDS,	      /* asked for by clients, waiting or out */
	QUOTA_SELECTED_WAITS, /* each is looked at whenever a port exits, and ends */
	QUOTA_MEMORY, /* all of these in bytes, as far as they are the broker's; and what else
			 there is */
	QUOTA_KINDS,
};

struct quota_limits {
	uint64_t most[QUOTA_KINDS];
	struct token_bucket_rate spawns;
};

enum quota_level { QUOTA_SERVICE, QUOTA_UID, QUOTA_CONNECTION, QUOTA_LEVELS };

struct quota;
struct quota_account;

#define QUOTA_E_EXCEEDED 1 /* nothing was charged; *ret_reason names the quota */
#define QUOTA_E_MEMORY	 2 /* the same, and it is the service's memory that all share */

/* The limits of limits.h for a level. */
struct quota_limits quota_limits_default(enum quota_level level);

/* limits[QUOTA_LEVELS] are copied. 0 or -ENOMEM. All accounts must be gone before quota_free(). */
int quota_new(const struct quota_limits *limits, struct quota **ret);
void quota_free(struct quota *q);
DEFINE_CLEANUP(struct quota, quota_free)

/* The uid's account, made when there is none; with a reference for the caller. 0 or -ENOMEM. */
int quota_account_of_uid(struct quota *q, uid_t uid, struct quota_account **ret);

/* A new account on top of a uid's; with a reference for the caller. 0 or -ENOMEM. */
int quota_account_of_connection(struct quota_account *uid_account, struct quota_account **ret);

/* The uid's part of the loop's turns, of any account of that uid; it lives as long as that. */
struct turn_share;
struct turn_share *quota_turn_share(struct quota_account *a);

/* Its own errands, and, of a uid's account, those of its user. */
struct errand_share;
struct errand_share *quota_errand_share(struct quota_account *a);

/* The uid's account that it stands on, or is. */
struct quota_account *quota_account_below(struct quota_account *a);

struct quota_account *quota_account_ref(struct quota_account *a);
struct quota_account *quota_account_unref(struct quota_account *a); /* always NULL */

/* Bytes of memory that one of a kind stands for: it is charged as QUOTA_MEMORY as well. */
uint64_t quota_weight(enum quota_kind kind);

/* Charged on this account just now. */
uint64_t quota_used(const struct quota_account *a, enum quota_kind kind);

/* Zeroed (QUOTA_CHARGE_INIT) it is empty. It must not be copied while it is charged. */
struct quota_charge {
	struct quota_account *account; /* a reference; NULL: empty */
	enum quota_kind kind;
	uint64_t amount;
};
#define QUOTA_CHARGE_INIT \
	{                 \
		0         \
	}

/* Charges the account and all below it. The charge must be empty. 0 or QUOTA_E_* with
 * *ret_reason (which may be NULL) a static sentence that names the quota and what to do. */
int quota_charge_take(struct quota_charge *c, struct quota_account *a, enum quota_kind kind,
		      uint64_t amount, const char **ret_reason);

/* Changes the amount of a charge that is out; getting smaller never fails. As quota_charge_take(),
 * on QUOTA_E_* the amount stays as it was. */
int quota_charge_resize(struct quota_charge *c, uint64_t amount, const char **ret_reason);

/* Gives all back and empties the charge; an empty one is left alone. */
void quota_charge_return(struct quota_charge *c);

/* Moves a charge: `to` must be empty, `from` is empty then. */
void quota_charge_move(struct quota_charge *to, struct quota_charge *from);

/* One spawn at now_ms (any clock that never goes back): takes a token on every level or none. 0, or
 * QUOTA_E_EXCEEDED with *ret_retry_after_ms when it is worth trying again. */
int quota_spawn(struct quota_account *a, uint64_t now_ms, uint32_t *ret_retry_after_ms,
		const char **ret_reason);

#endif
