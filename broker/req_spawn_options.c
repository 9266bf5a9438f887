#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/names.h"
#include "broker/req_spawn.h"
#include "proto/base/err.h"

/* --- options --------------------------------------------------------------------------------- */

static int read_name_and_token(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	struct port_options *o = &plan->options;
	const char *wrong = NULL;

	if (m->has_name)
		wrong = names_check_port(m->name.data, m->name.len);
	if (!wrong && m->has_token)
		wrong = names_check_token(m->token.data, m->token.len);
	if (wrong)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "%s", wrong);
	if (m->has_name)
		memcpy(o->name, m->name.data, m->name.len);
	if (m->has_token)
		memcpy(o->token, m->token.data, o->token_size = m->token.len);
	return 0;
}

static int read_labels(struct spawn_plan *plan)
{
	const char *reason;
	int r = req_read_labels(plan->m->labels, plan->m->n_labels, false, &plan->options.labels,
				&reason);

	if (r > 0)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "%s", reason);
	return err_pass(r);
}

static int read_times(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	struct port_options *o = &plan->options;

	o->timeout_ms = m->timeout_ms;
	o->timeout_signal = m->has_timeout_signal ? (int)m->timeout_signal : 15;
	o->timeout_grace_ms =
		m->has_timeout_grace_ms ? m->timeout_grace_ms : TIMEOUT_GRACE_DEFAULT_MS;
	o->drain_ms = m->has_drain_ms ? m->drain_ms : DRAIN_DEFAULT_MS;
	o->drain_limit_ms = m->has_drain_limit_ms ? m->drain_limit_ms : DRAIN_NEVER_MS;
	o->retention_ms = m->has_retention_ms ? m->retention_ms : RETENTION_DEFAULT_MS;
	o->orphan_ms = m->orphan_ms;
	if (o->timeout_signal < 1 || o->timeout_signal > 64)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "timeout_signal is not from 1 to 64");
	if (o->retention_ms > RETENTION_MAX_MS)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "retention_ms is more than a day (86400000)");
	if ((unsigned)m->orphan > PORT_ORPHAN_KEEP_FOR)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "orphan has a value that this broker does not know");
	o->orphan = (enum port_orphan)m->orphan;
	return 0;
}

/* From 1 to the bound. Defaults stay below a bound that is lower than they are. */
static bool mark_is_legal(const struct spawn_plan *plan, uint32_t mark)
{
	return mark >= 1 && mark <= plan->input_bound;
}

static int read_marks(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	uint32_t bound = m->has_input_bound ? m->input_bound : INPUT_BOUND_DEFAULT;

	plan->input_bound = bound;
	plan->input_high = m->has_input_high ? m->input_high : MIN(INPUT_HIGH_DEFAULT, bound);
	plan->input_low = m->has_input_low ? m->input_low : MIN(INPUT_LOW_DEFAULT, bound);
	if (bound < 1 || bound > INPUT_BOUND_HIGHEST)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "input_bound is not from 1 to 67108864");
	if (!mark_is_legal(plan, plan->input_low) ||
	    (plan->input_high != INPUT_MARKS_OFF && !mark_is_legal(plan, plan->input_high)))
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "input_high and input_low are not from 1 to input_bound; to "
				   "have no marks set input_high to 4294967295");
	return 0;
}

static int read_log_size(struct spawn_plan *plan)
{
	uint32_t size = plan->m->has_log_size ? plan->m->log_size : RING_DEFAULT;

	if (size < RING_LOWEST || size > RING_HIGHEST)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "log_size is not from 65536 to 67108864");
	plan->log_size = ring_round_size(size);
	return 0;
}

static int read_attributes(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	struct link_spawn *head = &plan->record.head;

	if (m->has_umask && m->umask > 0777)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "umask is more than 0777");
	if (m->has_nice && (m->nice < -20 || m->nice > 19))
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "nice is not from -20 to 19");
	if (m->group != REDD__V1__GROUP__GROUP_SESSION && m->group != REDD__V1__GROUP__GROUP_NEW)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "group has a value that this broker does not know");
	plan->options.has_session = m->group == REDD__V1__GROUP__GROUP_SESSION;
	head->flags |= plan->options.has_session ? LINK_SPAWN_SETSID : LINK_SPAWN_SETPGID;
	head->flags |= LINK_SPAWN_UMASK;
	head->umask = m->has_umask ? m->umask : 022;
	if (m->has_nice)
		head->flags |= LINK_SPAWN_NICE;
	head->nice = m->nice;
	if (m->no_new_privileges)
		head->flags |= LINK_SPAWN_NO_NEW_PRIVS;
	return 0;
}

static int read_framing(struct spawn_plan *plan)
{
	const char *wrong = req_read_framing(plan->m->framing, &plan->options.framing);

	return wrong ? plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "%s", wrong) : 0;
}

static int read_subscription(struct spawn_plan *plan)
{
	enum reply_code code;
	const char *wrong;

	if (!plan->m->subscribe)
		return 0;
	wrong = req_read_subscribe(plan->m->subscribe, NULL, plan->conn, &plan->subscription,
				   &code);
	return wrong ? plan_refuse(plan, code, EINVAL, "%s", wrong) : 0;
}

int plan_read_options(struct spawn_plan *plan)
{
	int r = read_name_and_token(plan);

	if (!r)
		r = read_labels(plan);
	if (!r)
		r = read_times(plan);
	if (!r)
		r = read_log_size(plan);
	if (!r)
		r = read_marks(plan);
	if (!r)
		r = read_attributes(plan);
	if (!r)
		r = read_framing(plan);
	if (!r)
		r = read_subscription(plan);
	return err_pass(r);
}

/* --- identity -------------------------------------------------------------------------------- */

static int groups_of_caller(struct spawn_plan *plan)
{
	struct port_options *o = &plan->options;
	const struct conn *c = plan->conn;

	_Static_assert(CONN_GROUPS == ARRAY_SIZE(o->groups), "all of a client's groups");
	if (c->has_more_groups)
		return plan_refuse(plan, REPLY_FAILED_PRECONDITION, ERANGE,
				   "the client's groups cannot be taken over: more than %u",
				   CONN_GROUPS);
	for (o->n_groups = 0; o->n_groups < c->n_groups; o->n_groups++)
		o->groups[o->n_groups] = c->groups[o->n_groups];
	return 0;
}

static int plan_refuse_nobody(struct spawn_plan *plan)
{
	return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
			   "uid, gid and groups: 4294967295 means nobody at all");
}

static int groups_of_request(struct spawn_plan *plan)
{
	struct port_options *o = &plan->options;

	if (plan->m->n_groups > ARRAY_SIZE(o->groups))
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "more than 64 groups");
	for (o->n_groups = 0; o->n_groups < plan->m->n_groups; o->n_groups++) {
		if (plan->m->groups[o->n_groups] == UINT32_MAX)
			return plan_refuse_nobody(plan);
		o->groups[o->n_groups] = plan->m->groups[o->n_groups];
	}
	return 0;
}

/* The client's groups are those of the service. The kernel keeps both in one order. */
static bool has_service_groups(const struct conn *c)
{
	gid_t ours[CONN_GROUPS];
	int n = getgroups((int)CONN_GROUPS, ours); /* fails when there are more */

	return n >= 0 && !c->has_more_groups && c->n_groups == (unsigned)n &&
	       !memcmp(ours, c->groups, (size_t)n * sizeof(ours[0]));
}

/* Children of such a client need nothing but what the service has itself. */
static bool is_like_service(const struct spawn_plan *plan)
{
	const struct principal *who = &plan->conn->who;

	return who->uid == plan->broker->policy.service_uid && who->gid == getegid() &&
	       has_service_groups(plan->conn);
}

/* What is the service's own and would go to the program. */
static bool partakes(const Redd__V1__Spawn *m)
{
	return m->group == REDD__V1__GROUP__GROUP_NEW ||
	       (m->environment && m->environment->from == REDD__V1__ENVIRONMENT__BASE__BROKER);
}

int plan_read_identity(struct spawn_plan *plan)
{
	const Redd__V1__Spawn *m = plan->m;
	const struct principal *who = &plan->conn->who;
	struct port_options *o = &plan->options;
	struct link_spawn *head = &plan->record.head;
	bool asks = m->has_uid || m->has_gid || m->n_groups;
	int r;

	if (partakes(m) && !policy_may(&plan->broker->policy, who, POLICY_PARTAKE, NULL))
		return plan_refuse(plan, REPLY_PERMISSION_DENIED, EPERM, "%s",
				   policy_reason(POLICY_PARTAKE));
	o->uid = m->has_uid ? m->uid : who->uid;
	o->gid = m->has_gid ? m->gid : who->gid;
	o->is_other_identity = asks || !is_like_service(plan);
	if (!o->is_other_identity)
		return 0;
	if (asks && !policy_may(&plan->broker->policy, who, POLICY_CHANGE_IDENTITY, NULL))
		return plan_refuse(plan, REPLY_PERMISSION_DENIED, EPERM, "%s",
				   policy_reason(POLICY_CHANGE_IDENTITY));
	if (o->uid == UINT32_MAX || o->gid == UINT32_MAX)
		return plan_refuse_nobody(plan);
	r = asks ? groups_of_request(plan) : groups_of_caller(plan);
	if (r)
		return err_pass(r);
	head->flags |= LINK_SPAWN_IDS;
	if (!asks && who->uid)
		head->flags |= LINK_SPAWN_OWN_LIMITS;
	head->uid = o->uid;
	head->gid = o->gid;
	for (unsigned i = 0; i < o->n_groups; i++)
		spawn_record_group(&plan->record, o->groups[i]);
	return 0;
}

/* --- limits ---------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	uint32_t resource;
} resources[] = {
	{ "as", RLIMIT_AS },
	{ "core", RLIMIT_CORE },
	{ "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },
	{ "fsize", RLIMIT_FSIZE },
	{ "locks", RLIMIT_LOCKS },
	{ "memlock", RLIMIT_MEMLOCK },
	{ "msgqueue", RLIMIT_MSGQUEUE },
	{ "nice", RLIMIT_NICE },
	{ "nofile", RLIMIT_NOFILE },
	{ "nproc", RLIMIT_NPROC },
	{ "rss", RLIMIT_RSS },
	{ "rtprio", RLIMIT_RTPRIO },
	{ "rttime", RLIMIT_RTTIME },
	{ "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

static int read_limit(struct spawn_plan *plan, const Redd__V1__Limit *m, unsigned *seen)
{
	struct link_limit limit = { .soft = m->soft, .hard = m->hard };

	limit.set = (m->has_soft ? 1u : 0u) | (m->has_hard ? 2u : 0u);
	if (!limit.set)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "limit '%.32s' sets neither soft nor hard",
				   m->name ? m->name : "");
	if (m->has_soft && m->has_hard && m->soft > m->hard)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "limit %.32s: soft is more than hard", m->name ? m->name : "");
	for (size_t i = 0; m->name && i < ARRAY_SIZE(resources); i++) {
		if (strcmp(resources[i].name, m->name))
			continue;
		if (*seen & 1u << i)
			return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
					   "limit %s is given twice", m->name);
		*seen |= 1u << i;
		limit.resource = resources[i].resource;
		spawn_record_limit(&plan->record, &limit);
		return 0;
	}
	return plan_refuse(
		plan, REPLY_INVALID_ARGUMENT, EINVAL,
		"limit '%.32s' is unknown; names are those of getrlimit(2) without RLIMIT_, "
		"in small letters",
		m->name ? m->name : "");
}

int plan_read_limits(struct spawn_plan *plan)
{
	unsigned seen = 0;
	int r = 0;

	for (size_t i = 0; !r && i < plan->m->n_limits; i++)
		r = read_limit(plan, plan->m->limits[i], &seen);
	return err_pass(r);
}
