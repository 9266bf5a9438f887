/* Who may do what: pure, and "no" unless a line here says "yes".
 *
 * On a port: its owner, that is the same uid through the same listener, may do everything. Nobody
 * else, root and the same uid behind another listener included, until grants say so.
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
	return a->listener == b->listener && a->uid == b->uid;
}

static bool is_trusted(const struct policy *p, uid_t uid)
{
	return uid == p->service_uid || uid == 0;
}

static bool may_on_port(const struct principal *who, const struct policy_target *target)
{
	return target && principal_is_same(who, &target->owner);
}

static bool may_on_service(const struct policy *p, const struct principal *who,
			   enum policy_verb verb)
{
	const struct policy_listener *listener = &p->listeners[who->listener];
	bool admitted = is_trusted(p, who->uid) || listener->admits_others;

	switch (verb) {
	case POLICY_CONNECT:
	case POLICY_SPAWN:
		return admitted;
	case POLICY_PASS_DESCRIPTORS:
		return admitted && listener->passes_descriptors;
	case POLICY_CHANGE_IDENTITY:
		return admitted && who->uid == 0;
	case POLICY_SHUTDOWN:
		return is_trusted(p, who->uid) && who->listener == 0;
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
		return may_on_port(who, target);
	default:
		return may_on_service(p, who, verb);
	}
}

const char *policy_reason(enum policy_verb verb)
{
	static const char *const reasons[POLICY_VERBS] = {
		[POLICY_SEE] = "only the port's owner may see it",
		[POLICY_READ] = "only the port's owner may read it",
		[POLICY_WRITE] = "only the port's owner may write to it",
		[POLICY_SIGNAL] = "only the port's owner may signal it",
		[POLICY_RESIZE] = "only the port's owner may resize its terminal",
		[POLICY_MANAGE] = "only the port's owner may manage it",
		[POLICY_CONNECT] = "this socket is only for the user that the service runs as",
		[POLICY_SPAWN] = "this user may not start programs through this socket",
		[POLICY_PASS_DESCRIPTORS] = "this socket does not accept descriptors",
		[POLICY_CHANGE_IDENTITY] = "only root may start programs as another user or group",
		[POLICY_SHUTDOWN] = "only the service's user, through its own socket, may stop it",
	};

	if ((size_t)verb >= ARRAY_SIZE(reasons))
		return "not allowed";
	return reasons[verb];
}
