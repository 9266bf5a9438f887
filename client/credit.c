/* Credit: what a subscription lets the broker send. In automatic mode it is given back in halves of
 * the window as callbacks return; what does not fit into the queue is owed and paid with a later
 * turn. A shared subscription owes 0, which tells that it has moved, or 1, when it cannot be
 * shared.
 */
#include <errno.h>

#include "client/handles.h"
#include "client/reading.h"
#include "client/subscribe.h"
#include "proto/redd.pb-c.h"

/* Notes what an event cost; it is given back in halves of the window. */
void subscription_spend(struct redd_subscription *s, uint64_t cost)
{
	s->left -= MIN(cost, s->left);
	if (s->credit_mode != REDD_CREDIT_AUTO || s->state != SUBSCRIPTION_LIVE || s->reading)
		return;
	s->owed += cost;
	if (s->owed >= s->window / 2 && !list_is_linked(&s->owing))
		list_append(&s->r->owing, &s->owing);
}

int credit_send(struct redd_subscription *s, uint64_t bytes)
{
	Redd__V1__Credit credit = REDD__V1__CREDIT__INIT;
	Redd__V1__Request request = REDD__V1__REQUEST__INIT;

	credit.has_subscription = true;
	credit.subscription = s->id;
	credit.has_bytes = true;
	credit.bytes = bytes;
	request.body_case = REDD__V1__REQUEST__BODY_CREDIT;
	request.credit = &credit;
	return outgoing_own(&s->r->out, &request.base);
}

void subscriptions_pay(struct redd *r)
{
	struct redd_subscription *s;

	while ((s = list_first(&r->owing, struct redd_subscription, owing))) {
		if (credit_send(s, s->owed))
			return; /* the next turn */
		s->owed = 0;
		list_remove(&s->owing);
	}
}

static uint64_t credit_sum(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

uint64_t credit_again(const struct redd_subscription *s)
{
	uint64_t bytes = s->left;

	/* For ends that are told once more, of which the program does not hear. */
	for (size_t i = 0; i < s->n_tracks; i++)
		if (s->tracks[i].state == TRACK_ENDED)
			bytes = credit_sum(bytes, EVENT_CREDIT);
	return bytes;
}

int redd_credit(struct redd_subscription *s, uint64_t bytes)
{
	int e;

	if (s->r->state == CLIENT_DOWN)
		return client_fail_down(s->r);
	if (!bytes || s->state == SUBSCRIPTION_OVER)
		return 0;
	if (s->state == SUBSCRIPTION_ASKED)
		return client_fail(s->r, -EAGAIN,
				   "the subscription was not answered yet; give credit after");
	if (s->reading) {
		reading_credit(s, bytes);
		s->left = credit_sum(s->left, bytes); /* for when it is not shared any more */
		return 0;
	}
	if (s->state != SUBSCRIPTION_LIVE) {
		/* Away: it is counted when the subscription is asked for again, or owed then. */
		if (s->state == SUBSCRIPTION_AGAIN)
			s->owed = credit_sum(s->owed, bytes);
		s->left = credit_sum(s->left, bytes);
		return 0;
	}
	e = credit_send(s, bytes);
	if (e > 0)
		return client_fail(s->r, -EAGAIN, "the outgoing queue is full; dispatch first");
	if (e == 0)
		s->left = credit_sum(s->left, bytes);
	return e < 0 ? client_fail(s->r, e, "no memory for credit") : 0;
}
