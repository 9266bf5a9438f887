#include "tests/lib/outcome.h"

#include <errno.h>

#include "tests/lib/measure.h"
#include "tests/lib/places.h"

static void on_done(struct redd *r, int result, const struct redd_reply *reply, void *user)
{
	struct outcome *o = user;

	o->n++;
	o->result = result;
	if (reply)
		o->reply = *reply;
	if (!result)
		return;
	o->code = redd_last_error(r)->code;
	o->stage = redd_last_error(r)->stage;
	o->sys_errno = redd_last_error(r)->sys_errno;
}

struct redd_call *outcome_call(struct outcome *o)
{
	*o = (struct outcome){ .call = { .done = on_done, .user = o } };
	return &o->call;
}

int outcome_wait(struct outcome *o, struct redd *r, int timeout_ms)
{
	double deadline = measure_now() + place_patience_ms(timeout_ms) / 1e3;

	while (!o->n) {
		double left = deadline - measure_now();
		int result = left <= 0 ? -ETIMEDOUT : redd_run_once(r, (int)(left * 1e3) + 1);

		if (result && !o->n)
			return result;
	}
	return 0;
}

int outcomes_wait(struct outcome *o, size_t n, struct redd *r, int timeout_ms)
{
	for (size_t i = 0; i < n; i++) {
		int result = outcome_wait(&o[i], r, timeout_ms);

		if (result)
			return result;
	}
	return 0;
}
