/* From the leader's exit to the port's end: each output goes on until end of file, or until it was
 * idle for the drain time, or the hard bound is reached. When all are over, and some were given up,
 * an opener looks who still holds those; then the port is closed.
 */
#include "broker/port.h"

#include <string.h>
#include <sys/stat.h>

#include "broker/broker.h"
#include "broker/errand.h"

static bool output_is_open(const struct stream *s)
{
	return s->out.is_there && !s->out.is_ended;
}

bool port_outputs_are_over(const struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		if (output_is_open(p->streams[i]))
			return false;
	return true;
}

/* --- idle ------------------------------------------------------------------------------------ */

/* Milliseconds until the drain has to look again; 0: the stream is over now, for *ret_cause. */
static uint64_t drain_wait(struct port *p, struct stream *s, uint64_t now,
			   enum stream_cause *ret_cause)
{
	const struct port_options *o = &p->options;
	uint64_t wait = UINT64_MAX, since = now - p->exited_ms, idle;

	if (o->drain_limit_ms != DRAIN_NEVER_MS) {
		*ret_cause = STREAM_LIMIT;
		if (since >= o->drain_limit_ms)
			return 0;
		wait = o->drain_limit_ms - since;
	}
	if (o->drain_ms != DRAIN_NEVER_MS) {
		idle = stream_idle_ms(s, now);
		if (idle >= o->drain_ms) {
			*ret_cause = STREAM_IDLE;
			return 0;
		}
		wait = MIN(wait, o->drain_ms - idle);
	}
	return wait;
}

/* The other end of a socket pair is not known by ours, and a terminal is nobody's. */
static void stream_give_up(struct stream *s, enum stream_cause cause)
{
	struct stat st;

	if (s->kind == STREAM_IS_PIPE && s->fd >= 0 && fstat(s->fd, &st) == 0) {
		s->out.given_up_device = st.st_dev;
		s->out.given_up_inode = st.st_ino;
	}
	stream_end_output(s, cause, 0);
}

void port_drain(struct port *p)
{
	uint64_t now = uv_now(&p->broker->loop), wait = UINT64_MAX, one;
	enum stream_cause cause = STREAM_IDLE;

	for (unsigned i = 0; i < p->n_streams; i++) {
		if (!output_is_open(p->streams[i]))
			continue;
		one = drain_wait(p, p->streams[i], now, &cause);
		if (one)
			wait = MIN(wait, one);
		else
			stream_give_up(p->streams[i], cause);
	}
	if (wait != UINT64_MAX)
		alarm_set(&p->broker->alarms, &p->phase, wait);
}

void port_set_drain(struct port *p)
{
	uint64_t wait = MIN(p->options.drain_ms, p->options.drain_limit_ms);

	if (wait != DRAIN_NEVER_MS && !port_outputs_are_over(p))
		alarm_set(&p->broker->alarms, &p->phase, wait);
}

/* --- holders --------------------------------------------------------------------------------- */

static void on_holders(void *context, const struct opener_reply *reply)
{
	struct port *p = context;

	p->errand = NULL;
	if (reply) {
		p->n_holders = MIN(reply->n_pids, HOLDERS_MAX);
		memcpy(p->holders, reply->pids, p->n_holders * sizeof(p->holders[0]));
	}
	port_check(p);
}

bool port_asks_holders(struct port *p)
{
	struct opener_request request;

	if (p->errand || p->has_asked_holders)
		return p->errand != NULL;
	p->has_asked_holders = true;
	errand_holders_request(p, &request);
	for (unsigned i = 0; i < p->n_streams; i++) {
		const struct stream_output *o = &p->streams[i]->out;

		if (!o->given_up_inode)
			continue;
		request.inodes[request.n_inodes].device = o->given_up_device;
		request.inodes[request.n_inodes++].inode = o->given_up_inode;
	}
	return request.n_inodes && errand_start(p, NULL, &request, on_holders, p, &p->errand) == 0;
}
