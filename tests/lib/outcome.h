/* What became of a call that was started (redd_*_start()).
 *
 *	struct outcome o = { 0 };
 *
 *	redd_write_start(port, data, size, NULL, outcome_call(&o));
 *	cr_assert_eq(outcome_wait(&o, r, 10000), 0);
 *	cr_assert_eq(o.result, 0);
 */
#ifndef TESTS_LIB_OUTCOME_H
#define TESTS_LIB_OUTCOME_H

#include "client/redd.h"

struct outcome {
	int n; /* how often it was called back: 1 when it is over */
	int result;
	enum redd_code code; /* of a failure */
	enum redd_stage stage;
	int sys_errno;
	struct redd_reply reply; /* what it points to is gone */
	struct redd_call call;
};

/* The call to be handed to a _start function; `request` in it is set by that. The struct must stay
 * until it is over. */
struct redd_call *outcome_call(struct outcome *o);

/* Dispatches until it is over or timeout_ms (stretched in slow runs) are. 0, -ETIMEDOUT, -ENOTCONN
 * when the connection went first. */
int outcome_wait(struct outcome *o, struct redd *r, int timeout_ms);

/* All n of them. */
int outcomes_wait(struct outcome *o, size_t n, struct redd *r, int timeout_ms);

#endif
