/* What a connection makes the broker keep: bytes of a frame that is not whole yet, and answers that
 * its client does not read; and descriptors whose frame is still coming. Some of each comes with
 * the connection; more is charged, so that all connections of a user together stay within what it
 * may take. It is charged once all whole frames are done with: who sends none in halves has nothing
 * to do with it.
 *
 * Without quota for bytes that come, the connection ends with the reason. Without quota for answers
 * it is only not read on until some have gone, as at CONN_CONTROL_BOUND; but where the answer is to
 * a request that waited that would not help, as more may wait, and the connection ends as well.
 */
#include "broker/conn.h"

#include "broker/reply.h"

/* The charges follow what is held; getting smaller never fails. */
static int charge_set(struct conn *c, struct quota_charge *charge, enum quota_kind kind,
		      size_t held, const char **ret_reason)
{
	if (!held) {
		quota_charge_return(charge);
		return 0;
	}
	if (!charge->account)
		return quota_charge_take(charge, c->account, kind, held, ret_reason);
	return quota_charge_resize(charge, held, ret_reason);
}

static int charge_follow(struct conn *c, struct quota_charge *charge, size_t held, size_t is_free,
			 const char **ret_reason)
{
	return charge_set(c, charge, QUOTA_BUFFER_BYTES, held <= is_free ? 0 : held, ret_reason);
}

int conn_charge_fds(struct conn *c, size_t n, const char **ret_reason)
{
	return charge_set(c, &c->fds_charge, QUOTA_DESCRIPTORS, n, ret_reason);
}

bool conn_charge_in(struct conn *c)
{
	const char *reason;

	if (!charge_follow(c, &c->in_charge, buf_size(&c->in), CONN_READ_FREE, &reason))
		return true;
	conn_leave(c, REPLY_RESOURCE_EXHAUSTED, reason);
	return false;
}

void conn_weigh_answers(struct conn *c)
{
	size_t held = buf_size(&c->control);
	const char *reason;

	c->is_full = held >= CONN_CONTROL_BOUND ||
		     charge_follow(c, &c->control_charge, held, CONN_ANSWERS_FREE, &reason);
}

void conn_charge_answer(struct conn *c)
{
	const char *reason;

	if (!c->is_asking &&
	    charge_follow(c, &c->control_charge, buf_size(&c->control), CONN_ANSWERS_FREE, &reason))
		conn_leave(c, REPLY_RESOURCE_EXHAUSTED, reason);
}
