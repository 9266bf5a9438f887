/* Spawn. Everything that can be known before is checked before; then the port, its descriptors and
 * its subscription are made, and the record goes to the helper. The answer comes when the keeper
 * says that the program runs, or why it does not.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "broker/broker.h"
#include "broker/closer.h"
#include "broker/conn.h"
#include "broker/req_events.h"
#include "broker/session.h"
#include "broker/req_spawn.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

int plan_refuse(struct spawn_plan *plan, enum reply_code code, int sys_errno, const char *format,
		...)
{
	char sentence[sizeof(plan->sentence)];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	log_escape(plan->sentence, sizeof(plan->sentence), sentence, strlen(sentence));
	plan->code = code;
	plan->sys_errno = sys_errno;
	return PLAN_E_REFUSED;
}

int plan_refuse_errno(struct spawn_plan *plan, int error, const char *what)
{
	enum reply_code code = error == -EMFILE || error == -ENFILE || error == -ENOMEM ||
					       error == -ENOSPC || error == -EAGAIN
				       ? REPLY_RESOURCE_EXHAUSTED
				       : REPLY_INTERNAL;

	return plan_refuse(plan, code, -error,
			   "%s: %s; end some ports, or raise the service's limits", what,
			   err_name(error));
}

/* --- answers --------------------------------------------------------------------------------- */

static void answer_started(struct pending *pending, bool repeated)
{
	struct conn *c = pending->conn;
	struct port *p = pending->port;
	struct subscription *s = conn_subscription(c, pending->subscription);
	Redd__V1__Message m = REDD__V1__MESSAGE__INIT;
	Redd__V1__Started started = REDD__V1__STARTED__INIT;
	struct subscribed_message subscribed;

	SET(started, port, p->id);
	if (!port_is_pumped(p))
		SET(started, pid, p->process.pid);
	SET(started, start_ns, p->exit.start_ns);
	SET(started, input_window, req_input_window(p));
	if (repeated)
		SET(started, repeated, true);
	if (s) {
		req_fill_subscribed(&subscribed, s);
		started.subscribed = &subscribed.message;
	}
	m.body_case = REDD__V1__MESSAGE__BODY_STARTED;
	m.started = &started;
	reply_message(c, pending->request, &m);
}

void req_spawn_started(struct port *p)
{
	struct pending *pending, *next;
	bool repeated = false;

	list_for_each_safe (pending, next, &p->pendings, port_link) {
		if (pending->kind != PENDING_SPAWN)
			continue;
		answer_started(pending, repeated);
		pending_free(pending);
		repeated = true;
	}
}

static enum reply_code code_of_errno(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return REPLY_NOT_FOUND;
	case EACCES:
	case EPERM:
		return REPLY_PERMISSION_DENIED;
	case EAGAIN:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENOSPC:
	case ETOOMANYREFS:
		return REPLY_RESOURCE_EXHAUSTED;
	case ESHUTDOWN:
		return REPLY_UNAVAILABLE;
	case ECANCELED:
		return REPLY_CANCELLED;
	case EINVAL:
	case E2BIG:
	case ENAMETOOLONG:
	case ELOOP:
		return REPLY_INVALID_ARGUMENT;
	default:
		return REPLY_FAILED_PRECONDITION;
	}
}

/* What failed, and what to do. */
static const char *stage_sentence(uint32_t stage)
{
	static const char *const sentences[] = {
		[LINK_STAGE_REQUEST] = "the spawn could not be handed over; try again",
		[LINK_STAGE_CLONE] = "no process could be made; end some, or raise nproc",
		[LINK_STAGE_SETUP] = "the process was killed before it could execute the program",
		[LINK_STAGE_SESSION] = "no session or group of its own could be made",
		[LINK_STAGE_CGROUP] = "the process could not enter its cgroup",
		[LINK_STAGE_TERMINAL] = "the terminal could not become the controlling one",
		[LINK_STAGE_DESCRIPTORS] = "a descriptor could not be put in its place",
		[LINK_STAGE_LIMITS] = "a limit or the nice value could not be set; ask for no more "
				      "than the service has, "
				      "nor for a soft limit above the hard one",
		[LINK_STAGE_GROUPS] = "the groups could not be taken on",
		[LINK_STAGE_USER] = "the user could not be taken on",
		[LINK_STAGE_DIRECTORY] =
			"the directory could not be entered; check that it exists and "
			"that the user may enter it",
		[LINK_STAGE_FILES] =
			"a file for a descriptor could not be opened; check its path and "
			"rights",
		[LINK_STAGE_SANDBOX] = "no_new_privileges could not be set",
		[LINK_STAGE_EXEC] =
			"the program could not be executed; check its name, search_path and "
			"rights",
	};

	return stage < ARRAY_SIZE(sentences) && sentences[stage] ? sentences[stage]
								 : "the spawn failed";
}

void req_spawn_failed(struct port *p, uint32_t stage, int error)
{
	struct pending *pending, *next;
	char sentence[256], program[101]; /* any bytes, and cut to what a person reads */

	log_escape(program, sizeof(program), p->options.program, strlen(p->options.program));
	if (error == ECANCELED)
		snprintf(sentence, sizeof(sentence), "it was given up before it was open");
	else
		snprintf(sentence, sizeof(sentence), "%s: %s (%s)", program, stage_sentence(stage),
			 err_name(error));
	list_for_each_safe (pending, next, &p->pendings, port_link) {
		struct subscription *s;

		if (pending->kind != PENDING_SPAWN)
			continue;
		s = conn_subscription(pending->conn, pending->subscription);
		if (s)
			subscription_free(s); /* never told of: there is no port */
		reply_spawn_failed(pending->conn, pending->request, code_of_errno(error), stage,
				   error, 0, sentence);
		pending_free(pending);
	}
}

/* --- repeats --------------------------------------------------------------------------------- */

/* Two requests with one token must be the same but for what belongs to the connection. */
static int digest_of(const Redd__V1__Spawn *m, enum port_kind kind, uint64_t *ret)
{
	Redd__V1__Spawn copy = *m;
	_cleanup_(freep) uint8_t *packed = NULL;
	size_t size;

	copy.subscribe = NULL;
	packed = malloc(redd__v1__spawn__get_packed_size(&copy) + 1);
	if (!packed)
		return err_begin(-ENOMEM);
	size = redd__v1__spawn__pack(&copy, packed);
	*ret = XXH3_64bits_withSeed(packed, size, kind);
	return 0;
}

static int plan_subscribe(struct spawn_plan *plan, struct pending *pending)
{
	const char *reason;
	struct subscription *s;
	int r;

	if (!plan->m->subscribe)
		return 0;
	reason = req_check_subscribe(plan->port, plan->conn, &plan->subscription);
	if (reason)
		return plan_refuse(plan, REPLY_PERMISSION_DENIED, EPERM, "subscribe: %s", reason);
	r = subscription_new(&s, plan->conn, plan->port, &plan->subscription, &reason);
	if (r < 0)
		return err_pass(r);
	if (r)
		return plan_refuse(plan, req_subscription_code(r), 0, "subscribe: %s", reason);
	pending->subscription = s->id;
	return 0;
}

/* The answer of the first request, now or when it comes. */
static int plan_repeat(struct spawn_plan *plan, struct port *p)
{
	struct pending *pending = req_pending(plan->conn, p, PENDING_SPAWN, plan->request);
	int r;

	if (!pending)
		return 0;
	plan->port = p;
	r = conn_note_spawn(plan->conn, plan->request, p->id);
	if (!r)
		r = plan_subscribe(plan, pending);
	plan->port = NULL; /* not ours to free */
	if (r) {
		pending_free(pending);
		return err_pass(r);
	}
	if (p->state != PORT_STARTING) {
		answer_started(pending, true);
		pending_free(pending);
	}
	return 0;
}

/* Finds out whether the request was made before; if so it is dealt with here. */
static int plan_look_up(struct spawn_plan *plan, bool *ret_is_new)
{
	const struct port_options *o = &plan->options;
	struct port_table *ports = &plan->broker->ports;
	const struct principal *who = &plan->conn->who;
	struct port *p = NULL;
	int r;

	if (o->token_size) {
		r = digest_of(plan->m, plan->kind, &plan->digest);
		if (r < 0)
			return err_pass(r);
		p = port_table_by_token(ports, who, o->token, o->token_size);
	}
	if (p && p->digest != plan->digest)
		return plan_refuse(
			plan, REPLY_ALREADY_EXISTS, EEXIST,
			"the token was used for another request; a new spawn needs a new token");
	if (p)
		return plan_repeat(plan, p);
	p = *o->name ? port_table_by_name(ports, who, o->name, strlen(o->name)) : NULL;
	if (p)
		return plan_refuse(
			plan, REPLY_ALREADY_EXISTS, EEXIST,
			"port %llu has the name '%s' already; choose another one, or forget "
			"that port",
			(unsigned long long)p->id, o->name);
	*ret_is_new = true;
	return 0;
}

/* --- the way --------------------------------------------------------------------------------- */

static int plan_admit(struct spawn_plan *plan)
{
	struct broker *b = plan->broker;
	const char *reason;

	if (b->state != BROKER_SERVING)
		return plan_refuse(plan, REPLY_UNAVAILABLE, ESHUTDOWN,
				   "the service is being shut down and starts nothing any more");
	if (!policy_may(&b->policy, &plan->conn->who, POLICY_SPAWN, NULL))
		return plan_refuse(plan, REPLY_PERMISSION_DENIED, EPERM, "%s",
				   policy_reason(POLICY_SPAWN));
	if (quota_spawn(plan->conn->account, uv_now(&b->loop), &plan->retry_after_ms, &reason))
		return plan_refuse(plan, REPLY_RESOURCE_EXHAUSTED, EAGAIN, "%s", reason);
	return 0;
}

static int plan_read(struct spawn_plan *plan)
{
	int r = plan_read_identity(plan);

	if (!r)
		r = plan_read_limits(plan);
	if (!r)
		r = plan_check_descriptors(plan);
	if (!r && plan->kind == PORT_IS_DESCRIPTORS)
		r = plan_check_adopted(plan);
	return err_pass(r);
}

static int plan_make_port(struct spawn_plan *plan)
{
	struct conn *c = plan->conn;
	const char *reason = "the service has as many ports as it can; forget some that have ended";
	/* A port outlives its connection, so it is charged to the uid. */
	int r = port_new(&plan->port, plan->broker, &c->who, c->uid_account, &plan->options,
			 &reason);

	if (r > 0)
		return plan_refuse(plan, REPLY_RESOURCE_EXHAUSTED, EAGAIN, "%s", reason);
	if (r < 0)
		return err_pass(r);
	plan->port->kind = plan->kind;
	plan->port->digest = plan->digest;
	plan->port->session = c->session;
	list_append(&c->session->ports, &plan->port->session_link);
	return 0;
}

/* What waits to be handed over is kept for its client, and counts. */
static int plan_hand_in(struct spawn_plan *plan, uint8_t *take_record, size_t size, int take_memfd)
{
	struct process *process = &plan->port->process;
	const char *reason;

	if (quota_charge_take(&process->charge, plan->conn->account, QUOTA_BUFFER_BYTES,
			      process_record_size(size, take_memfd), &reason)) {
		free(take_record);
		fd_close(take_memfd);
		return plan_refuse(plan, REPLY_RESOURCE_EXHAUSTED, EAGAIN, "%s", reason);
	}
	port_hurry(plan->port);
	process_start(process, take_record, size, take_memfd);
	port_save(plan->port);
	return 0;
}

static int plan_start(struct spawn_plan *plan, struct pending *pending)
{
	struct process *process = &plan->port->process;
	uint8_t *record;
	size_t size;
	int memfd, r = plan_read_command(plan);

	if (!r)
		r = plan_make_descriptors(plan);
	if (!r)
		r = plan_subscribe(plan, pending);
	if (!r)
		r = conn_note_spawn(plan->conn, plan->request, plan->port->id);
	if (r)
		return err_pass(r);
	r = spawn_record_seal(&plan->record, (uint32_t)process->n_child_fds, &record, &size,
			      &memfd);
	if (r == -E2BIG)
		return plan_refuse(
			plan, REPLY_INVALID_ARGUMENT, E2BIG,
			"arguments and environment are larger than any program can be given");
	if (r < 0)
		return err_pass(r);
	process_join_line(process, plan->conn->line);
	return plan_hand_in(plan, record, size, memfd);
}

static int plan_make(struct spawn_plan *plan)
{
	struct pending *pending;
	int r = plan_make_port(plan);

	if (r)
		return err_pass(r);
	pending = req_pending(plan->conn, plan->port, PENDING_SPAWN, plan->request);
	if (!pending) {
		port_free(TAKE(plan->port));
		return 0;
	}
	r = plan_start(plan, pending);
	if (r) {
		struct subscription *s = conn_subscription(plan->conn, pending->subscription);

		if (s)
			subscription_free(s);
		pending_free(pending);
		port_free(TAKE(plan->port));
	}
	return err_pass(r);
}

static int plan_run(struct spawn_plan *plan)
{
	bool is_new = false;
	int r = plan_read_options(plan);

	if (!r)
		r = plan_look_up(plan, &is_new);
	if (r || !is_new)
		return err_pass(r);
	r = plan_admit(plan);
	if (!r)
		r = plan_read(plan);
	return r ? err_pass(r) : plan_make(plan);
}

/* Descriptors that came with the request, as many as it names. */
static bool take_passed(struct spawn_plan *plan)
{
	for (size_t i = 0; i < plan->m->n_descriptors; i++)
		plan->n_fds += plan->m->descriptors[i]->kind == REDD__V1__KIND__KIND_PASSED;
	if (plan->n_fds <= DESCRIPTORS_MAX && conn_take_fds(plan->conn, plan->fds, plan->n_fds))
		return true;
	plan->n_fds = 0;
	return false;
}

int plan_serve(struct spawn_plan *plan)
{
	const struct closer_whose whose = conn_whose(plan->conn);
	int r;

	spawn_record_init(&plan->record);
	if (take_passed(plan))
		r = plan_run(plan);
	else
		r = plan_refuse(plan, REPLY_INVALID_ARGUMENT, EBADF,
				"fewer descriptors came with the request than it names");
	if (r < 0)
		r = plan_refuse_errno(plan, r, "spawn");
	if (r)
		reply_spawn_failed(plan->conn, plan->request, plan->code, LINK_STAGE_REQUEST,
				   plan->sys_errno, plan->retry_after_ms, plan->sentence);
	spawn_record_deinit(&plan->record);
	port_options_deinit(&plan->options);
	closer_close(plan->broker, &whose, plan->fds, plan->n_fds);
	return 0;
}

int req_spawn(struct conn *c, const Redd__V1__Request *request)
{
	struct spawn_plan plan = {
		.conn = c, .broker = c->broker, .m = request->spawn, .request = request->id
	};

	return plan_serve(&plan);
}
