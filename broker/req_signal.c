/* Signal: to the leader at once, to its group at once or by the keeper, to its tree by an opener.
 */
#include <errno.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/errand.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "proto/base/err.h"

#define SIGNAL_HIGHEST 64u

void req_signal_answer(struct conn *c, uint64_t request, uint32_t count,
		       const struct opener_reply *reply)
{
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Signalled s = REDD__V1__SIGNALLED__INIT;

	SET(s, count, count);
	if (reply) {
		s.n_survivors = reply->n_pids;
		s.survivors = (int32_t *)reply->pids;
	}
	m.body_case = REDD__V1__MESSAGE__BODY_SIGNALLED;
	m.signalled = &s;
	reply_message(c, request, &m);
}

/* error: 0, or a negative errno. */
static void answer_result(struct conn *c, uint64_t request, int error)
{
	if (error == 0)
		req_signal_answer(c, request, 1, NULL);
	else if (error == -ESRCH)
		reply_error(c, request, REPLY_FAILED_PRECONDITION, ESRCH,
			    "nobody is left to be signalled: it has ended");
	else if (error == -EPERM)
		reply_error(
			c, request, REPLY_PERMISSION_DENIED, EPERM,
			"the system does not let the broker signal it: it changed its identity");
	else
		reply_error(c, request, REPLY_INTERNAL, -error, "signal: %s", err_name(error));
}

/* --- group ----------------------------------------------------------------------------------- */

static int ask_keeper(struct port *p, int signal, uint64_t cookie)
{
	struct link_group_signal m = { .head = { LINK_SIGNAL_GROUP, sizeof(m) },
				       .signal = signal,
				       .cookie = cookie };

	m.id = (struct link_spawn_id){ p->process.id, p->process.slot, p->process.attempt };
	return helper_link_send(&p->broker->helper, &m, sizeof(m), NULL, 0);
}

static void signal_group_by_keeper(struct conn *c, struct port *p, uint64_t request, int signal)
{
	struct pending *pending = req_pending(c, p, PENDING_SIGNAL, request);
	int r;

	if (!pending)
		return;
	pending->cookie = ++c->broker->last_cookie;
	list_append(&c->broker->group_signals, &pending->cookie_link);
	r = ask_keeper(p, signal, pending->cookie);
	if (r < 0) {
		pending_free(pending);
		answer_result(c, request, r);
	}
}

void req_group_signalled(struct broker *b, const struct link_group_signal *m)
{
	struct pending *p, *next;

	list_for_each_safe (p, next, &b->group_signals, cookie_link) {
		if (p->cookie != m->cookie)
			continue;
		answer_result(p->conn, p->request, -m->error);
		pending_free(p);
		return;
	}
}

static void signal_group(struct conn *c, struct port *p, uint64_t request, int signal)
{
	int r = port_signal_group(p, signal);

	if (r == -EINVAL) /* a kernel before 6.9 */
		signal_group_by_keeper(c, p, request, signal);
	else
		answer_result(c, request, r);
}

/* --- tree ------------------------------------------------------------------------------------ */

static void on_tree(void *context, const struct opener_reply *reply)
{
	struct pending *p = context;

	p->errand = NULL;
	if (!reply)
		reply_error(
			p->conn, p->request, REPLY_UNAVAILABLE, 0,
			"the processes could not be looked through in time; signal the group, or "
			"try again (with SIGKILL the service does so for a minute)");
	else if (reply->error || !reply->count)
		answer_result(p->conn, p->request, reply->error ? -reply->error : -ESRCH);
	else
		req_signal_answer(p->conn, p->request, reply->count, reply);
	pending_free(p);
}

static void signal_tree(struct conn *c, struct port *p, uint64_t request, int signal)
{
	struct pending *pending = req_pending(c, p, PENDING_SIGNAL, request);
	struct opener_request o;
	const char *reason;
	int r;

	if (!pending)
		return;
	errand_tree_request(p, signal, &o);
	r = errand_ask(p, c->account, &o, on_tree, pending, &pending->errand, &reason);
	if (r == ERRAND_E_QUOTA) {
		pending_free(pending);
		reply_error(c, request, REPLY_RESOURCE_EXHAUSTED, EAGAIN, "%s", reason);
	} else if (r < 0) {
		pending_free(pending);
		reply_error(c, request, REPLY_UNAVAILABLE, -r,
			    "nobody could be sent to look for the processes (%s); try again",
			    err_name(r));
	}
}

/* Without an answer of its own. */
int req_signal_quietly(struct port *p, struct quota_account *asker, int signal,
		       Redd__V1__Target target)
{
	int r;

	if ((p->state != PORT_RUNNING && p->state != PORT_DRAINING) || port_is_pumped(p))
		return -ESRCH;
	if (target == REDD__V1__TARGET__TARGET_LEADER)
		return port_signal_leader(p, signal);
	if (target == REDD__V1__TARGET__TARGET_TREE)
		return port_signal_tree(p, asker, signal);
	r = port_signal_group(p, signal);
	return r == -EINVAL ? ask_keeper(p, signal, ++p->broker->last_cookie) : r;
}

/* NULL, or what is wrong with it whatever port it is for. */
static const char *check_signal(const Redd__V1__Signal *m)
{
	if (m->signal > SIGNAL_HIGHEST)
		return "there is no such signal; they are 1 to 64";
	if ((unsigned)m->target > REDD__V1__TARGET__TARGET_TREE)
		return "target has a value that this broker does not know";
	if (m->port && m->n_labels)
		return "port and labels exclude each other";
	return NULL;
}

int req_signal(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Signal *m = request->signal;
	const char *wrong = check_signal(m);
	struct port *p;

	if (m->n_labels && wrong)
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL, "%s", wrong);
	if (m->n_labels)
		return wrong ? 0 : req_signal_selected(c, request);
	p = req_port(c, request->id, m->port, POLICY_SIGNAL);
	if (!p)
		return 0;
	if (wrong)
		reply_error(c, request->id, REPLY_INVALID_ARGUMENT, EINVAL, "%s", wrong);
	else if (port_is_pumped(p))
		reply_error(
			c, request->id, REPLY_FAILED_PRECONDITION, ESRCH,
			"the port is a file or descriptors, and no process to be signalled; end "
			"it with Close and `whole`");
	else if (p->state == PORT_STARTING)
		reply_error(c, request->id, REPLY_FAILED_PRECONDITION, EAGAIN,
			    "the program is still being started; wait for Started");
	else if (m->target == REDD__V1__TARGET__TARGET_LEADER)
		answer_result(c, request->id, port_signal_leader(p, (int)m->signal));
	else if (m->target == REDD__V1__TARGET__TARGET_GROUP)
		signal_group(c, p, request->id, (int)m->signal);
	else
		signal_tree(c, p, request->id, (int)m->signal);
	return 0;
}
