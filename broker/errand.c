/* An errand is what an opener is sent out for: one request, and who waits for its reply. While it
 * waits for its turn it is memory and nothing else. An opener costs a process and a reading of
 * /proc, so errands that are alike go together: signals to trees that wait in one line.
 *
 * A tree is stopped before it is killed, so an opener that ends in between (it took too long, or
 * somebody killed it) would leave it standing still for ever: a kill without an answer is an errand
 * again, up to OPENER_TRIES of them, each with twice the time of the one before, and each alone.
 * Whoever waits is told of the first answer, or after OPENER_TRIES_AWAITED that there is none; the
 * port may have gone meanwhile.
 */
#include "broker/errand.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/opener_process.h"
#include "broker/port.h"
#include "proto/base/err.h"
#include "proto/base/log.h"

struct errand {
	struct broker *broker;
	struct list link; /* of the broker's errands */
	struct errand_ticket ticket;
	struct outing *outing;	    /* NULL: it waits */
	struct port *port;	    /* NULL: it has gone */
	struct list port_link;	    /* of the port's */
	struct quota_charge charge; /* of one that was asked for */
	struct opener_request request;
	struct identity identity;
	unsigned n_tries; /* before this one */
	bool is_answered, is_given_up;
	struct alarm alarm;
	errand_done done; /* NULL: nobody waits for it, or any more */
	void *context;
	struct errand **handle; /* of who waits */
};

/* One opener with all that it was sent out for; the first was the one whose turn it was. */
struct outing {
	struct opener *opener;
	size_t n;
	struct errand *errands[OPENER_REQUESTS_MAX];
};

/* --- its beginning ---------------------------------------------------------------------------- */

/* The next try may go to its line. */
static void on_alarm(struct alarm *a)
{
	struct errand *o = container_of(a, struct errand, alarm);

	errand_turns_wait(&o->broker->errand_turns, &o->ticket);
}

static struct errand *errand_new(struct broker *b, struct port *p, struct quota_account *account,
				 enum errand_kind kind, const struct opener_request *request)
{
	struct errand *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->broker = b;
	o->request = *request;
	o->port = p;
	alarm_init(&o->alarm, on_alarm);
	errand_ticket_init(&o->ticket, kind, account);
	list_init(&o->port_link);
	if (p)
		list_append(&p->errands, &o->port_link);
	list_append(&b->errands, &o->link);
	b->n_errands++;
	return o;
}

static bool is_kill(const struct errand *o)
{
	return o->request.verb == OPENER_TREE && o->request.signal == SIGKILL;
}

static void errand_tell(struct errand *o, const struct opener_reply *reply)
{
	errand_done done = TAKE(o->done);

	o->handle = NULL;
	if (done)
		done(o->context, reply);
}

static struct errand *errand_next_try(struct errand *o)
{
	struct errand *next;

	if (o->n_tries + 1 == OPENER_TRIES)
		return NULL;
	next = errand_new(o->broker, o->port, o->ticket.account,
			  o->done ? o->ticket.kind : ERRAND_AGAIN, &o->request);
	if (!next)
		return NULL;
	next->n_tries = o->n_tries + 1;
	next->identity = o->identity;
	next->context = o->context;
	next->handle = TAKE(o->handle);
	next->done = TAKE(o->done);
	if (next->done)
		*next->handle = next;
	quota_charge_move(&next->charge, &o->charge);
	return next;
}

/* It waits first, as what was in the way may be still. */
static void errand_repeat(struct errand *o)
{
	struct errand *next;

	if (o->n_tries + 1 == OPENER_TRIES_AWAITED)
		errand_tell(o, NULL);
	next = errand_next_try(o);
	if (!next)
		log_error("what process %d became cannot be killed as a tree: some of it may be "
			  "left, and stopped",
			  (int)o->request.leader);
	else if (alarm_set(&o->broker->alarms, &next->alarm, OPENER_AGAIN_MS << o->n_tries) < 0)
		errand_turns_wait(&o->broker->errand_turns, &next->ticket);
}

/* --- its end --------------------------------------------------------------------------------- */

static void errand_free(struct errand *o)
{
	list_remove(&o->link);
	list_remove(&o->port_link);
	alarm_stop(&o->broker->alarms, &o->alarm);
	o->broker->n_errands--;
	quota_charge_return(&o->charge);
	errand_ticket_deinit(&o->ticket);
	free(o);
}

static void errand_answer(struct errand *o, const struct opener_reply *reply)
{
	o->is_answered |= reply != NULL;
	if (o->is_answered || !is_kill(o))
		errand_tell(o, reply);
}

/* Nobody comes back from there any more. */
static void errand_conclude(struct errand *o)
{
	if (is_kill(o) && !o->is_given_up && !o->is_answered)
		errand_repeat(o);
	errand_tell(o, NULL); /* who still waits */
	errand_free(o);
}

/* --- going out ------------------------------------------------------------------------------- */

/* There was no room for all that were looked for together: who was left out is killed alone. */
static bool is_left_out(const struct outing *outing, const struct errand *o,
			const struct opener_reply *reply)
{
	return reply->error == E2BIG && outing->n > 1 && is_kill(o);
}

static void on_answered(void *context, const struct opener_reply *replies)
{
	struct outing *outing = context;

	for (size_t i = 0; i < outing->n; i++) {
		struct errand *o = outing->errands[i];

		if (!replies || is_left_out(outing, o, &replies[i]))
			errand_answer(o, NULL);
		else
			errand_answer(o, &replies[i]);
	}
}

static void outing_conclude(struct outing *outing)
{
	for (size_t i = 0; i < outing->n; i++)
		errand_conclude(outing->errands[i]);
	free(outing);
}

static void on_over(void *context, const struct opener_reply *late)
{
	struct outing *outing = context;
	struct errand *first = outing->errands[0];

	errand_turns_count(&first->broker->errand_turns, &first->ticket, -1);
	if (late)
		on_answered(outing, late);
	outing_conclude(outing);
}

static const struct opener_events opener_events = {
	.answered = on_answered,
	.over = on_over,
};

/* Whether one opener will do for both. What has failed before goes alone: it may be because of the
 * others that it did. */
static bool are_alike(const struct errand *a, const struct errand *b)
{
	return a->request.verb == OPENER_TREE && b->request.verb == OPENER_TREE &&
	       a->request.signal == b->request.signal && !a->n_tries && !b->n_tries &&
	       identity_is_same(&a->identity, &b->identity);
}

/* A tree gets each of its signals. */
static bool is_for_one_of(const struct outing *outing, const struct errand *o)
{
	for (size_t i = 0; i < outing->n; i++)
		if (strcmp(outing->errands[i]->request.mark, o->request.mark) == 0)
			return true;
	return false;
}

static void outing_add(struct outing *outing, struct errand *o)
{
	o->outing = outing;
	outing->errands[outing->n++] = o;
}

/* Those next in line behind the first go too, as far as they are like it. */
static void outing_gather(struct outing *outing)
{
	struct errand *first = outing->errands[0];
	struct errand_turns *turns = &first->broker->errand_turns;
	struct errand_ticket *ticket;

	while (outing->n < OPENER_REQUESTS_MAX && (ticket = errand_turns_next(&first->ticket))) {
		struct errand *o = container_of(ticket, struct errand, ticket);

		if (!are_alike(first, o) || is_for_one_of(outing, o))
			return;
		errand_turns_leave(turns, ticket);
		outing_add(outing, o);
	}
}

/* Without the pidfd a leader can still be found by other signs. */
static int errand_pidfd(const struct errand *o)
{
	return o->request.verb == OPENER_TREE && o->port ? o->port->process.pidfd : -1;
}

/* Takes the pidfds of those that have one; returns how many. */
static size_t outing_pidfds(const struct outing *outing, struct opener_request *requests,
			    int *ret_pidfds)
{
	size_t n = 0;

	for (size_t i = 0; i < outing->n; i++) {
		int pidfd = errand_pidfd(outing->errands[i]);

		requests[i].has_pidfd = pidfd >= 0;
		if (pidfd >= 0)
			ret_pidfds[n++] = pidfd;
	}
	return n;
}

/* The kernel bounds the descriptors that are under way (ETOOMANYREFS, unix(7)). */
static int outing_start(struct outing *outing)
{
	static struct opener_request requests[OPENER_REQUESTS_MAX];
	const struct errand *first = outing->errands[0];
	int pidfds[OPENER_REQUESTS_MAX], r;
	struct opener_order order = {
		.identity = &first->identity,
		.requests = requests,
		.n = outing->n,
		.pidfds = pidfds,
		.timeout_ms = (uint64_t)OPENER_TIMEOUT_MS << first->n_tries,
		.may_use_reserve = first->ticket.kind == ERRAND_DUE,
		.events = &opener_events,
		.context = outing,
	};

	for (size_t i = 0; i < outing->n; i++)
		requests[i] = outing->errands[i]->request;
	order.n_pidfds = outing_pidfds(outing, requests, pidfds);
	r = opener_send_out(&outing->opener, first->broker, &order);
	if (r != -ETOOMANYREFS)
		return err_pass(r);
	for (size_t i = 0; i < outing->n; i++)
		requests[i].has_pidfd = false;
	order.n_pidfds = 0;
	return err_pass(opener_send_out(&outing->opener, first->broker, &order));
}

void errand_send_out(struct errand_ticket *ticket)
{
	struct errand *o = container_of(ticket, struct errand, ticket);
	struct outing *outing = calloc(1, sizeof(*outing));

	if (!outing) {
		errand_conclude(o);
		return;
	}
	outing_add(outing, o);
	outing_gather(outing);
	if (outing_start(outing) < 0)
		outing_conclude(outing);
	else
		errand_turns_count(&o->broker->errand_turns, &o->ticket, 1);
}

/* --- asking for one -------------------------------------------------------------------------- */

int errand_start(struct port *p, struct quota_account *asker, const struct opener_request *request,
		 errand_done done, void *context, struct errand **ret)
{
	struct errand *o = errand_new(p->broker, p, asker ? asker : port_account(p),
				      asker ? ERRAND_ASKED : ERRAND_DUE, request);

	if (!o)
		return err_begin(-ENOMEM);
	identity_copy(&o->identity, &p->options);
	o->done = done;
	o->context = context;
	o->handle = ret;
	errand_turns_wait(&o->broker->errand_turns, &o->ticket);
	*ret = o;
	return 0;
}

int errand_ask(struct port *p, struct quota_account *asker, const struct opener_request *request,
	       errand_done done, void *context, struct errand **ret, const char **ret_reason)
{
	struct quota_charge charge = QUOTA_CHARGE_INIT;
	int r;

	if (quota_charge_take(&charge, asker, QUOTA_ERRANDS, 1, ret_reason))
		return ERRAND_E_QUOTA;
	r = errand_start(p, asker, request, done, context, ret);
	if (r < 0)
		quota_charge_return(&charge);
	else
		quota_charge_move(&(*ret)->charge, &charge);
	return err_pass(r);
}

void errand_cancel(struct errand *o)
{
	o->done = NULL;
	o->handle = NULL;
}

void errands_leave_port(struct port *p)
{
	struct errand *o;

	while ((o = list_first(&p->errands, struct errand, port_link))) {
		list_remove(&o->port_link);
		o->port = NULL;
	}
}

bool errands_are_over(const struct broker *b)
{
	struct errand *o;

	list_for_each (o, &b->errands, link)
		if (!o->n_tries)
			return false;
	return true;
}

void errands_free(struct broker *b)
{
	struct errand *o;

	list_for_each (o, &b->errands, link) {
		o->done = NULL;
		o->is_given_up = true;
	}
	while ((o = list_first(&b->errands, struct errand, link))) {
		if (o->outing) {
			opener_give_up(o->outing->opener);
			continue;
		}
		errand_turns_leave(&b->errand_turns, &o->ticket);
		errand_free(o);
	}
	errand_turns_deinit(&b->errand_turns);
}

static void request_blank(const struct broker *b, uint32_t verb, struct opener_request *ret)
{
	*ret = (struct opener_request){ .verb = verb };
	ret->exclude[0] = b->keeper_pid;
	ret->exclude[1] = getpid();
}

void errand_tree_request(const struct port *p, int signal, struct opener_request *ret)
{
	request_blank(p->broker, OPENER_TREE, ret);
	ret->signal = signal;
	ret->leader = p->process.pid;
	broker_mark(p->broker, p->id, ret->mark);
}

void errand_holders_request(const struct port *p, struct opener_request *ret)
{
	request_blank(p->broker, OPENER_HOLDERS, ret);
}
