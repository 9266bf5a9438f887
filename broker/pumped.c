/* Owns nothing: the port has the process, the streams and the alarm. Every report is kept in the
 * port's record for a successor before it leaves the socket, so that one of the two has it at any
 * instant; what it means for others is done last, and harmless when it is done again.
 */
#include "broker/pumped.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>

#include "broker/broker.h"
#include "broker/port.h"
#include "proto/base/err.h"
#include "proto/base/log.h"

bool port_is_pumped(const struct port *p)
{
	return p->kind != PORT_IS_PROCESS;
}

/* --- how it ended ---------------------------------------------------------------------------- */

static enum stream_cause cause_of(int error)
{
	if (error == ECANCELED)
		return STREAM_CLOSED;
	return error ? STREAM_READ_ERROR : STREAM_END_OF_FILE;
}

static void output_settle(struct stream *s)
{
	int error = s->port->pumped.read_error;

	s->out.awaits_cause = false;
	stream_end_output(s, cause_of(error), error == ECANCELED ? 0 : error);
}

void pumped_output_ended(struct stream *s)
{
	struct port *p = s->port;

	pumped_look(p);
	if (p->pumped.has_read) {
		output_settle(s);
		return;
	}
	s->out.awaits_cause = true;
	stream_watch(s);
}

static void note_read(struct port *p, int error)
{
	if (p->pumped.has_read)
		return;
	p->pumped.has_read = true;
	p->pumped.read_error = error;
	port_save(p);
}

static void reading_is_over(struct port *p)
{
	for (unsigned i = 0; i < p->n_streams; i++)
		if (p->streams[i]->out.awaits_cause)
			output_settle(p->streams[i]);
}

/* Bytes that were accepted, and will not be written any more. */
static bool has_rest(const struct stream *s, uint64_t bytes)
{
	return bytes < input_accepted(&s->in.queue);
}

static void note_written(struct port *p, int error, uint64_t bytes)
{
	struct stream *s = port_stream(p, 0);

	if (p->pumped.has_written)
		return;
	if (s && s->in.is_there && !error && has_rest(s, bytes))
		error = EPIPE;
	p->pumped.has_written = true;
	p->pumped.write_error = error;
	port_save(p);
}

static void writing_is_over(struct port *p)
{
	struct stream *s = port_stream(p, 0);
	int error = p->pumped.write_error;

	if (!s || !s->in.is_there)
		return;
	stream_fail_input(s, error ? -error : -EPIPE); /* unless it was closed */
	stream_input_released(s);
}

bool pumped_input_is_over(const struct stream *s, int *ret_error)
{
	const struct pumped *q = &s->port->pumped;

	*ret_error = -q->write_error;
	return q->has_written;
}

/* --- reports --------------------------------------------------------------------------------- */

static struct stream *reports_of(const struct port *p)
{
	return port_stream(p, STREAM_REPORTS);
}

static ssize_t reports_recv(const struct stream *s, struct pump_report *ret, int flags)
{
	return s && s->fd >= 0 ? recv(s->fd, ret, sizeof(*ret), MSG_DONTWAIT | flags) : -1;
}

static void note_report(struct port *p, const struct pump_report *r)
{
	if (r->what == PUMP_OPENED) {
		p->pumped.is_open = true;
		port_save(p);
	} else if (r->what == PUMP_READ) {
		note_read(p, r->error);
	} else if (r->what == PUMP_WRITTEN) {
		note_written(p, r->error, r->bytes);
	}
}

/* 0: there was none; 1: it was taken; -1: nothing comes any more. */
static int take_report(struct port *p, struct stream *s, int *ret_open_error)
{
	struct pump_report r;
	ssize_t n = reports_recv(s, &r, MSG_PEEK);

	if (n < 0)
		return 0;
	if (n != (ssize_t)sizeof(r))
		return -1;
	if (r.what == PUMP_OPENED && r.error) {
		*ret_open_error = r.error; /* the last one: it goes with the port */
		return 0;
	}
	note_report(p, &r);
	reports_recv(s, &r, 0);
	if (r.what == PUMP_READ)
		reading_is_over(p);
	else if (r.what == PUMP_WRITTEN)
		writing_is_over(p);
	return 1;
}

/* The errno with which opening failed, or 0. */
static int look(struct port *p)
{
	struct stream *s = reports_of(p);
	int r, open_error = 0;

	while ((r = take_report(p, s, &open_error)) > 0)
		;
	if (r < 0) {
		s->out.is_ended = true;
		stream_close_unused(s);
	}
	return open_error;
}

void pumped_look(struct port *p)
{
	look(p);
}

/* --- the start ------------------------------------------------------------------------------- */

/* False: the port is gone. */
static bool look_whether_open(struct port *p)
{
	int error = look(p);

	if (p->state != PORT_STARTING)
		return true;
	if (error) {
		port_fail(p, LINK_STAGE_FILES, error);
		return false;
	}
	if (p->pumped.is_open)
		port_run(p);
	return true;
}

void pumped_started(struct port *p)
{
	if (p->pumped.is_unwanted) {
		pumped_give_up(p, ECANCELED);
		return;
	}
	stream_start(reports_of(p));
	look_whether_open(p); /* an earlier broker may have been told */
}

void pumped_ready(struct stream *reports)
{
	look_whether_open(reports->port);
}

bool pumped_was_open(struct port *p)
{
	if (!look_whether_open(p))
		return false;
	if (p->state != PORT_STARTING)
		return true;
	port_fail(p, LINK_STAGE_SETUP, EINTR);
	return false;
}

void pumped_give_up(struct port *p, int error)
{
	enum process_state state = p->process.state;

	if (state == PROCESS_WAITING) {
		process_on_failed(&p->process, LINK_STAGE_REQUEST, error);
	} else if (state == PROCESS_RUNNING) {
		process_signal(&p->process, SIGKILL);
		port_fail(p, LINK_STAGE_REQUEST, error);
	} else {
		p->pumped.is_unwanted = true;
	}
}

/* --- the end --------------------------------------------------------------------------------- */

/* What the exit says of a direction whose report is missing. A pump that was killed did not say
 * what came of its bytes. */
static int error_by_exit(const struct port *p, bool of_reading)
{
	const struct exit_record *e = &p->exit;
	bool read_failed = e->code & PUMP_READ_FAILED;

	if (e->state != EXIT_STATE_CODE)
		return p->pumped.is_shut || p->pumped.was_shut ? ECANCELED : EINTR;
	return read_failed == of_reading ? (int)(e->code & PUMP_ERROR_MAX) : 0;
}

void pumped_exited(struct port *p)
{
	pumped_look(p);
	note_read(p, error_by_exit(p, true));
	note_written(p, error_by_exit(p, false), UINT64_MAX);
	reading_is_over(p);
	writing_is_over(p);
	p->exit.code &= PUMP_ERROR_MAX;
	if (p->exit.state == EXIT_STATE_CODE && p->pumped.write_error)
		p->exit.code = (uint32_t)p->pumped.write_error;
}

static void stop_reading(struct port *p)
{
	struct stream *s = reports_of(p);

	if (s && s->fd >= 0 && shutdown(s->fd, SHUT_WR) < 0)
		log_warning("port %llu: its pump cannot be told to stop: %s",
			    (unsigned long long)p->id, err_name(errno));
}

void pumped_shut(struct port *p)
{
	if (p->pumped.is_shut)
		return;
	p->pumped.is_shut = true;
	port_save(p);
	stop_reading(p);
	port_close_inputs(p);
}

void pumped_resume(struct port *p)
{
	if (p->pumped.was_shut)
		stop_reading(p);
	if (p->pumped.has_written)
		writing_is_over(p);
}

void pumped_shut_again(struct port *p)
{
	if (p->pumped.was_shut)
		pumped_shut(p);
}

void pumped_discard(struct port *p)
{
	p->pumped.is_shut = true;
	port_hold_no_more(p);
	port_signal_leader(p, SIGKILL);
}

void pumped_expire(struct port *p)
{
	if (p->state == PORT_STARTING) {
		pumped_give_up(p, ECANCELED);
	} else if (p->pumped.is_shut) {
		pumped_discard(p);
	} else {
		alarm_set(&p->broker->alarms, &p->orphan, TIMEOUT_GRACE_DEFAULT_MS);
		port_hold_no_more(p);
		pumped_shut(p);
	}
}
