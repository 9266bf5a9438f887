/* Wait and Signal for all ports that have labels.
 *
 * Good path: a walk looks for the ports with the eyes of the connection. A Wait is over at the
 * first that is as it is waited for; what comes later is seen by waits.h, on whose list it is from
 * the beginning. A Signal takes its ports down first, so that it is sent to all of them or, when
 * its client goes before that, to none; then a second walk sends it, whether there is still
 * somebody to be told or not.
 *
 * Both are answered within their frame when one slice is enough, as it is at hundreds of ports.
 */
#include <errno.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/req.h"
#include "broker/rights.h"
#include "broker/selection.h"
#include "broker/walk.h"
#include "proto/base/err.h"

#define SIGNALS_AT_ONCE 256u /* sent in the frame that asks for them */

/* A Signal goes from CHOOSING to SENDING; a Wait is never more than CHOOSING. */
struct selection {
	struct walk walk;
	struct conn *conn; /* whose it is; NULL: it has gone, over SENDING */
	uint64_t request;
	struct pending *pending; /* NULL: nobody waits for it yet, or any more */
	struct labels *selector;
	/* Wait */
	enum pending_kind kind;
	bool only_asks, is_any;
	struct port *found;
	/* Signal */
	struct list link;  /* of the broker's: it is SENDING */
	struct list order; /* of the connection's, behind those that come first */
	struct quota_account *account;
	struct quota_charge charge;
	int signal;
	Redd__V1__Target target;
	uint32_t n_chosen, n_signalled;
	uint64_t chosen[PORTS_MAX / 64]; /* places of the port table */
};

static void go_on(struct selection *s)
{
	walk_go_on(&s->walk, quota_turn_share(quota_account_below(s->account)));
}

static void next_begins(struct selection *s)
{
	struct list *order = &s->conn->signals;
	bool was_first = order->next == &s->order;
	struct selection *next;

	list_remove(&s->order);
	next = list_first(order, struct selection, order);
	if (was_first && next)
		go_on(next);
}

static void selection_free(struct selection *s)
{
	if (!s)
		return;
	walk_deinit(&s->walk);
	labels_unref(s->selector);
	list_remove(&s->link);
	if (list_is_linked(&s->order))
		next_begins(s);
	quota_charge_return(&s->charge);
	quota_account_unref(s->account);
	free(s);
}
DEFINE_CLEANUP(struct selection, selection_free)

void selection_leave(struct selection *s)
{
	if (!s || !list_is_linked(&s->link)) {
		selection_free(s);
		return;
	}
	s->pending = NULL;
	next_begins(s);
	s->conn = NULL;
}

bool selection_is_choosing(const struct selection *s)
{
	return s && !list_is_linked(&s->link);
}

void selections_free(struct broker *b)
{
	struct selection *s;

	while ((s = list_first(&b->selections, struct selection, link)))
		selection_free(s);
}

static int selection_new(struct conn *c, uint64_t request, struct labels *take_selector,
			 struct selection **ret)
{
	_cleanup_(labels_unrefp) struct labels *selector = take_selector;
	struct selection *s = calloc(1, sizeof(*s));

	if (!s)
		return err_begin(-ENOMEM);
	list_init(&s->link);
	list_init(&s->order);
	s->conn = c;
	s->request = request;
	s->selector = TAKE(selector);
	s->account = quota_account_ref(c->account);
	*ret = s;
	return 0;
}

static bool sees(const struct selection *s, const struct port *p, enum policy_verb verb)
{
	return labels_match(p->options.labels, s->selector) && rights_may(s->conn, verb, p);
}

/* False: the request is refused. */
static bool may_wait(struct selection *s, enum pending_kind kind)
{
	struct conn *c = s->conn;
	const char *reason;

	s->pending = req_pending(c, NULL, kind, s->request);
	if (!s->pending)
		return false;
	if (!quota_charge_take(&s->pending->select_charge, c->account, QUOTA_SELECTED_WAITS, 1,
			       &reason))
		return true;
	if (kind == PENDING_SIGNAL)
		reason = "as many requests by labels as may are at work; wait for their answers";
	pending_free(TAKE(s->pending));
	reply_error(c, s->request, REPLY_RESOURCE_EXHAUSTED, EAGAIN, "%s", reason);
	return false;
}

/* --- Wait ------------------------------------------------------------------------------------ */

static bool visit_wait(struct walk *w, struct port *p)
{
	struct selection *s = container_of(w, struct selection, walk);

	if (!sees(s, p, POLICY_SEE))
		return true;
	s->is_any = true;
	s->found = req_wait_is_fulfilled(p, s->kind) ? p : NULL;
	return !s->found;
}

/* False: it is waited for. */
static bool wait_is_answered(struct selection *s)
{
	if (s->found)
		req_wait_answer(s->conn, s->request, s->found, s->kind);
	else if (!s->is_any)
		reply_error(s->conn, s->request, REPLY_NOT_FOUND, 0,
			    "there is no port with these labels; List shows those there are");
	else if (s->only_asks)
		reply_error(s->conn, s->request, REPLY_DEADLINE_EXCEEDED, 0,
			    "not yet; none of these ports has got so far");
	else
		return false;
	return true;
}

static void wait_over(struct walk *w)
{
	struct selection *s = container_of(w, struct selection, walk);
	struct pending *pending = s->pending;

	if (wait_is_answered(s))
		pending_free(pending);
	else
		selection_free(TAKE(pending->selection));
}

/* The walk goes on, or has found none that is so far. */
static int wait_on(struct selection *take_s, const Redd__V1__Wait *m, bool goes_on)
{
	_cleanup_(selection_freep) struct selection *s = take_s;
	struct waits *waits = &s->conn->broker->waits;
	struct pending *pending;

	if (!may_wait(s, s->kind))
		return 0;
	pending = s->pending;
	pending->selector = labels_ref(s->selector);
	list_append(&waits->selected, &pending->select_link);
	waits->n_selected++;
	if (goes_on) {
		go_on(s);
		pending->selection = TAKE(s);
		if (pending->selection->only_asks)
			return 0; /* as long as that takes */
	}
	return req_wait_set(pending, m);
}

static int wait_for_labels(struct conn *c, const Redd__V1__Request *request, enum pending_kind kind,
			   struct labels *take_selector)
{
	_cleanup_(selection_freep) struct selection *s = NULL;
	const Redd__V1__Wait *m = request->wait;
	bool goes_on;
	int r = selection_new(c, request->id, take_selector, &s);

	if (r < 0)
		return err_pass(r);
	s->kind = kind;
	s->only_asks = m->has_timeout_ms && m->timeout_ms == 0;
	walk_init(&s->walk, c->broker, visit_wait, wait_over);
	goes_on = walk_step(&s->walk);
	if (!goes_on && wait_is_answered(s))
		return 0;
	return wait_on(TAKE(s), m, goes_on);
}

int req_wait_selected(struct conn *c, const Redd__V1__Request *request, enum pending_kind kind)
{
	const Redd__V1__Wait *m = request->wait;
	const char *wrong = m->port ? "port and labels exclude each other" : NULL;
	struct labels *selector = NULL;
	int r = wrong ? 0 : req_read_labels(m->labels, m->n_labels, true, &selector, &wrong);

	if (r < 0)
		return err_pass(r);
	if (!wrong)
		return wait_for_labels(c, request, kind, selector);
	reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0, "%s", wrong);
	return 0;
}

/* --- Signal ---------------------------------------------------------------------------------- */

static uint64_t *chosen(struct selection *s, const struct port *p, uint64_t *ret_bit)
{
	uint64_t place = p->id % PORTS_MAX;

	*ret_bit = 1ull << place % 64;
	return &s->chosen[place / 64];
}

static bool visit_choose(struct walk *w, struct port *p)
{
	struct selection *s = container_of(w, struct selection, walk);
	uint64_t bit, *word = chosen(s, p, &bit);

	if (sees(s, p, POLICY_SIGNAL)) {
		*word |= bit;
		s->n_chosen++;
	}
	return true;
}

/* None that came since then: the walk ends before those. */
static bool visit_signal(struct walk *w, struct port *p)
{
	struct selection *s = container_of(w, struct selection, walk);
	uint64_t bit, *word = chosen(s, p, &bit);

	if (*word & bit)
		s->n_signalled += req_signal_quietly(p, s->account, s->signal, s->target) == 0;
	return true;
}

static void signal_over(struct walk *w)
{
	struct selection *s = container_of(w, struct selection, walk);
	struct pending *pending = s->pending;

	if (pending) {
		req_signal_answer(pending->conn, pending->request, s->n_signalled, NULL);
		pending->selection = NULL;
		pending_free(pending);
	}
	selection_free(s);
}

static void signal_begin(struct selection *s)
{
	struct broker *b = s->walk.broker;
	uint64_t end = s->walk.end;

	walk_deinit(&s->walk);
	walk_init(&s->walk, b, visit_signal, signal_over);
	s->walk.end = end;
}

/* From here on it goes on by itself. */
static void signal_chosen(struct walk *w)
{
	struct selection *s = container_of(w, struct selection, walk);

	signal_begin(s);
	quota_charge_move(&s->charge, &s->pending->select_charge);
	list_append(&w->broker->selections, &s->link);
	go_on(s);
}

static void signal_at_once(struct selection *s)
{
	signal_begin(s);
	while (walk_step(&s->walk))
		;
	req_signal_answer(s->conn, s->request, s->n_signalled, NULL);
}

static int signal_labels(struct conn *c, const Redd__V1__Request *request,
			 struct labels *take_selector)
{
	_cleanup_(selection_freep) struct selection *s = NULL;
	bool is_first = list_is_empty(&c->signals), goes_on;
	int r = selection_new(c, request->id, take_selector, &s);

	if (r < 0)
		return err_pass(r);
	s->signal = (int)request->signal->signal;
	s->target = request->signal->target;
	walk_init(&s->walk, c->broker, visit_choose, signal_chosen);
	goes_on = is_first && walk_step(&s->walk);
	if (is_first && !goes_on && s->n_chosen <= SIGNALS_AT_ONCE) {
		signal_at_once(s);
		return 0;
	}
	if (!may_wait(s, PENDING_SIGNAL))
		return 0;
	list_append(&c->signals, &s->order);
	s->pending->selection = s;
	if (goes_on)
		go_on(s);
	else if (is_first)
		signal_chosen(&s->walk);
	s = NULL;
	return 0;
}

int req_signal_selected(struct conn *c, const Redd__V1__Request *request)
{
	const Redd__V1__Signal *m = request->signal;
	struct labels *selector = NULL;
	const char *reason;
	int r = req_read_labels(m->labels, m->n_labels, true, &selector, &reason);

	if (r < 0)
		return err_pass(r);
	if (!r)
		return signal_labels(c, request, selector);
	reply_error(c, request->id, REPLY_INVALID_ARGUMENT, 0, "%s", reason);
	return 0;
}
