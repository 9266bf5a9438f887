/* May this principal do that? A pure function of who asks, what, and on whose port. What is not
 * allowed here is denied.
 */
#ifndef REDD_POLICY_H
#define REDD_POLICY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/grants.h"
#include "proto/limits.h"

/* Who asks: through which listener it came, and who the kernel says it is. Through a door it is the
 * delegation instead: the other three are those of who made it, for whom it acts. */
struct principal {
	uint32_t listener; /* index; 0 is the service's own private one */
	uid_t uid;
	gid_t gid;
	uint64_t delegation; /* 0: none */
	bool may_not_spawn;  /* through this door */
};

enum policy_verb {
	/* on a port */
	POLICY_SEE,    /* list, inspect, watch, wait */
	POLICY_READ,   /* subscribe to outputs */
	POLICY_WRITE,  /* write and close inputs */
	POLICY_SIGNAL, /* signal, kill */
	POLICY_RESIZE,
	POLICY_MANAGE, /* forget, rename, grant */
	POLICY_BLOCK,  /* hold the process back for a subscription */
	/* on the service */
	POLICY_CONNECT,
	POLICY_SPAWN,
	POLICY_PASS_DESCRIPTORS,
	POLICY_CHANGE_IDENTITY, /* spawn as another uid, gid or groups than the caller's own */
	POLICY_SHUTDOWN,
	POLICY_DELEGATE, /* make doors; grant rights */
	POLICY_PARTAKE,	 /* spawn with the service's environment, or in its session */
	POLICY_VERBS,
};

/* What a listener was made for. */
struct policy_listener {
	bool admits_others;	 /* uids other than the service's own and root */
	bool passes_descriptors; /* SCM_RIGHTS from clients is accepted */
};

struct policy {
	uid_t service_uid;
	uint32_t n_listeners;
	struct policy_listener listeners[LISTENERS_MAX];
};

/* The port that a verb is for, and what has to be known of who asks besides. */
struct policy_target {
	struct principal owner;
	const struct grants *grants; /* NULL: none */
	uint64_t now_ms;	     /* of the grants' clock */
	const gid_t *groups;	     /* of who asks, besides its gid */
	unsigned n_groups;
	/* Through a door: what the delegation says about this port. */
	unsigned delegated;	      /* of enum right */
	stream_set delegated_streams; /* that READ and WRITE are for */
};

/* One listener: the private one, which admits the service's uid (and root) and takes descriptors.
 */
void policy_init(struct policy *p, uid_t service_uid);

/* The index of the new listener, or -ENOSPC when there are LISTENERS_MAX. */
int policy_add_listener(struct policy *p, const struct policy_listener *listener);

/* `target` is NULL for verbs on the service; without it every verb on a port is denied. READ and
 * WRITE are allowed when they are for any stream: policy_streams() tells which. */
bool policy_may(const struct policy *p, const struct principal *who, enum policy_verb verb,
		const struct policy_target *target);

/* For which streams it may READ or WRITE: those where it may, by their places in the port. */
stream_set policy_streams(const struct policy *p, const struct principal *who,
			  enum policy_verb verb, const struct policy_target *target);

/* The same listener and uid, through the same door or none. */
bool principal_is_same(const struct principal *a, const struct principal *b);

/* A static sentence for the client that was denied. */
const char *policy_reason(enum policy_verb verb);

#endif
