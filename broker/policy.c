/* Who may do what: pure, and "no" unless a line here says "yes".
 *
 * On a port: its owner, that is the same uid through the same listener, may do everything. Others,
 * root and the same uid behind another listener included, may what grants say, and that it is
 * there.
 *
 * Through a door: what the delegation says, of what the one who made it may himself just now. What
 * was spawned through a door is owned by the delegation, and by who made that.
 *
 * On the service: whoever the listener admits may connect and spawn as itself. Passing descriptors
 * needs a listener that takes them; another identity needs root; shutting down needs the private
 * listener.
 */
#include "broker/policy.h"

#include <errno.h>
#include <stddef.h>

#include "proto/base/cleanup.h"

void policy_init(struct policy *p, uid_t service_uid)
{
	*p = (struct policy){
		.service_uid = service_uid,
		.n_listeners = 1,
		.listeners[0] = { .admits_others = false, .passes_descriptors = true },
	};
}

int policy_add_listener(struct policy *p, const struct policy_listener *listener)
{
	if (p->n_listeners == LISTENERS_MAX)
		return -ENOSPC;
	p->listeners[p->n_listeners] = *listener;
	return (int)p->n_listeners++;
}

bool principal_is_same(const struct principal *a, const struct principal *b)
{
	return a->listener == b->listener && a->uid == b->uid && a->delegation == b->delegation;
}

static bool is_trusted(const struct policy *p, uid_t uid)
{
	return uid == p->service_uid || uid == 0;
}

/* What a verb on a port needs. */
static const unsigned rights_needed[] = {
	[POLICY_SEE] = RIGHTS_ALL, /* any */
	[POLICY_READ] = RIGHT_READ,	[POLICY_WRITE] = RIGHT_WRITE,
	[POLICY_SIGNAL] = RIGHT_SIGNAL, [POLICY_RESIZE] = RIGHT_RESIZE,
	[POLICY_MANAGE] = RIGHT_MANAGE, [POLICY_BLOCK] = RIGHT_BLOCK,
};

/* It, or a delegation that it made, opened the port. */
static bool owns(const struct principal *who, const struct principal *owner)
{
	return who->listener == owner->listener && who->uid == owner->uid &&
	       (!who->delegation || who->delegation == owner->delegation);
}

static struct grantee grantee_of(const struct principal *who, const struct policy_target *t)
{
	return (struct grantee){ who->uid, who->gid, t->groups, t->n_groups };
}

/* Without the door: as who made it. */
static bool is_owner(const struct principal *who, const struct policy_target *t)
{
	struct principal maker = *who;

	maker.delegation = 0;
	return owns(&maker, &t->owner);
}

static unsigned rights_on_port(const struct principal *who, const struct policy_target *t)
{
	struct grantee grantee = grantee_of(who, t);
	unsigned rights =
		is_owner(who, t) ? RIGHTS_ALL : grants_rights(t->grants, &grantee, t->now_ms);

	return who->delegation ? rights & t->delegated : rights;
}

static bool may_on_port(const struct principal *who, enum policy_verb verb,
			const struct policy_target *target)
{
	return target && rights_on_port(who, target) & rights_needed[verb];
}

stream_set policy_streams(const struct policy *p, const struct principal *who,
			  enum policy_verb verb, const struct policy_target *t)
{
	struct grantee grantee = grantee_of(who, t);
	stream_set streams = STREAMS_ALL;

	if (!policy_may(p, who, verb, t))
		return 0;
	if (!is_owner(who, t))
		streams = grants_streams(t->grants, &grantee, (enum right)rights_needed[verb],
					 t->now_ms);
	return who->delegation ? streams & t->delegated_streams : streams;
}

static bool may_on_service(const struct policy *p, const struct principal *who,
			   enum policy_verb verb)
{
	const struct policy_listener *listener = &p->listeners[who->listener];
	bool admitted = is_trusted(p, who->uid) || listener->admits_others;

	switch (verb) {
	case POLICY_CONNECT:
		return admitted;
	case POLICY_SPAWN:
		return admitted && !who->may_not_spawn;
	case POLICY_PASS_DESCRIPTORS:
		return admitted && listener->passes_descriptors && !who->may_not_spawn;
	case POLICY_CHANGE_IDENTITY:
		return admitted && who->uid == 0 && !who->delegation;
	case POLICY_SHUTDOWN:
		return is_trusted(p, who->uid) && who->listener == 0 && !who->delegation;
	case POLICY_DELEGATE:
		return admitted && !who->delegation;
	case POLICY_PARTAKE:
		return is_trusted(p, who->uid);
	default:
		return false;
	}
}

bool policy_may(const struct policy *p, const struct principal *who, enum policy_verb verb,
		const struct policy_target *target)
{
	if (who->listener >= p->n_listeners)
		return false;
	switch (verb) {
	case POLICY_SEE:
	case POLICY_READ:
	case POLICY_WRITE:
	case POLICY_SIGNAL:
	case POLICY_RESIZE:
	case POLICY_MANAGE:
	case POLICY_BLOCK:
		return may_on_port(who, verb, target);
	default:
		return may_on_service(p, who, verb);
	}
}

const char *policy_reason(enum policy_verb verb)
{
	static const char *const reasons[POLICY_VERBS] = {
		[POLICY_SEE] = "the right to see the port was not given",
		[POLICY_READ] = "the right to read this was not given; its owner can grant it",
		[POLICY_WRITE] = "the right to write to this was not given; its owner can grant it",
		[POLICY_SIGNAL] =
			"the right to signal the port was not given; its owner can grant it",
		[POLICY_RESIZE] =
			"the right to resize the terminal was not given; its owner can grant it",
		[POLICY_MANAGE] =
			"the right to manage the port was not given; its owner can grant it",
		[POLICY_BLOCK] = "the right to hold the process back was not given; subscribe with "
				 "OVERFLOW_DROP or OVERFLOW_CANCEL",
		[POLICY_CONNECT] = "this socket is only for the user that the service runs as",
		[POLICY_SPAWN] = "this user may not start programs through this socket",
		[POLICY_PASS_DESCRIPTORS] = "this socket does not accept descriptors",
		[POLICY_CHANGE_IDENTITY] = "only root may start programs as another user or group",
		[POLICY_SHUTDOWN] = "only the service's user, through its own socket, may stop it",
		[POLICY_DELEGATE] =
			"who came through a door can give no rights to others; pass the "
			"door itself on",
		[POLICY_PARTAKE] = "the service's environment and session are for its own user's "
				   "programs; leave `environment.from` BROKER and GROUP_NEW out",
	};

	if ((size_t)verb >= ARRAY_SIZE(reasons))
		return "not allowed";
	return reasons[verb];
}
