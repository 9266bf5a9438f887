/* The child's descriptors: what is given, and for 0, 1 and 2 what is not. First the list is checked
 * as a whole; then pipes, terminals and sockets are made in its order, our ends become streams, the
 * child's ends go with the record. KIND_SAME comes last, when all others have their source.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/names.h"
#include "broker/pty.h"
#include "broker/req_spawn.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"

#define NO_SOURCE (UINT32_MAX - 1) /* a file: the child opens it */

struct wish {
	uint32_t fd;
	Redd__V1__Kind kind;
	bool is_input;		       /* PIPE */
	const Redd__V1__Descriptor *m; /* NULL: a default */
	uint32_t source;
};

struct wishes {
	struct wish all[PORT_FDS_MAX + 3];
	unsigned n;
	uint32_t terminal_source;
	bool has_terminal;
};

static struct wish *wish_find(struct wishes *w, uint32_t fd)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->all[i].fd == fd)
			return &w->all[i];
	return NULL;
}

/* --- checking -------------------------------------------------------------------------------- */

static bool direction_is_input(const Redd__V1__Descriptor *d)
{
	if (d->direction == REDD__V1__DIRECTION__DIRECTION_DEFAULT)
		return d->fd == 0;
	return d->direction == REDD__V1__DIRECTION__DIRECTION_INPUT;
}

static const char *check_file(const Redd__V1__Descriptor *d)
{
	if (!d->has_path)
		return "a file needs a path";
	if (!d->read && !d->write && !d->append)
		return "a file is opened to read, write or append: set one of them";
	if (d->truncate && !d->write && !d->append)
		return "truncate goes with write or append";
	if (d->exclusive && !d->create)
		return "exclusive goes with create";
	if (d->has_mode && (!d->create || d->mode > 07777))
		return "mode goes with create, and is at most 07777";
	return names_check_path(d->path.data, d->path.len);
}

static const char *check_passed(const struct spawn_plan *plan, const Redd__V1__Descriptor *d)
{
	if (d->passed >= plan->n_fds)
		return "fewer descriptors came with the request than it names";
	return NULL;
}

static const char *check_one(const struct spawn_plan *plan, const Redd__V1__Descriptor *d)
{
	if (!d->has_fd || d->fd > CHILD_FD_MAX)
		return "fd is not from 0 to 1023";
	if ((unsigned)d->kind > REDD__V1__KIND__KIND_CLOSED)
		return "kind has a value that this broker does not know";
	if ((unsigned)d->direction > REDD__V1__DIRECTION__DIRECTION_OUTPUT)
		return "direction has a value that this broker does not know";
	if (d->kind == REDD__V1__KIND__KIND_FILE)
		return check_file(d);
	if (d->kind == REDD__V1__KIND__KIND_PASSED)
		return check_passed(plan, d);
	if (d->kind == REDD__V1__KIND__KIND_SAME && !d->has_same_as)
		return "same_as is missing";
	return NULL;
}

static int wishes_add(struct spawn_plan *plan, struct wishes *w, const Redd__V1__Descriptor *d)
{
	const char *wrong = check_one(plan, d);

	if (!wrong && wish_find(w, d->fd))
		wrong = "it is given twice";
	if (!wrong && w->n == PORT_FDS_MAX)
		wrong = "there are more than 64, with 0, 1 and 2 where they are not given";
	if (wrong)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "descriptor %u: %s", d->fd,
				   wrong);
	w->all[w->n++] = (struct wish){ .fd = d->fd,
					.kind = d->kind,
					.is_input = direction_is_input(d),
					.m = d,
					.source = NO_SOURCE };
	return 0;
}

static void wishes_complete(struct spawn_plan *plan, struct wishes *w)
{
	for (uint32_t fd = 0; fd < 3; fd++) {
		Redd__V1__Kind kind = fd ? REDD__V1__KIND__KIND_PIPE : REDD__V1__KIND__KIND_NULL;

		if (plan->m->terminal)
			kind = REDD__V1__KIND__KIND_TERMINAL;
		if (!wish_find(w, fd))
			w->all[w->n++] =
				(struct wish){ .fd = fd, .kind = kind, .source = NO_SOURCE };
	}
}

static int check_same(struct spawn_plan *plan, struct wishes *w, const struct wish *wish)
{
	const struct wish *other = wish_find(w, wish->m->same_as);

	if (!other || other->kind == REDD__V1__KIND__KIND_SAME ||
	    other->kind == REDD__V1__KIND__KIND_CLOSED)
		return plan_refuse(
			plan, REPLY_INVALID_ARGUMENT, EINVAL,
			"descriptor %u: same_as names %u, which is not given, closed, or itself "
			"KIND_SAME",
			wish->fd, wish->m->same_as);
	return 0;
}

static int check_passed_once(struct spawn_plan *plan, const struct wishes *w)
{
	bool used[DESCRIPTORS_MAX] = { false };
	size_t n = 0;

	for (unsigned i = 0; i < w->n; i++) {
		if (w->all[i].kind != REDD__V1__KIND__KIND_PASSED)
			continue;
		n += !used[w->all[i].m->passed];
		if (used[w->all[i].m->passed])
			return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
					   "passed descriptor %u is named twice; use KIND_SAME",
					   w->all[i].m->passed);
		used[w->all[i].m->passed] = true;
	}
	if (n < plan->n_fds)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "%zu descriptors came, and the request names %zu", plan->n_fds,
				   n);
	return 0;
}

static int check_streams(struct spawn_plan *plan, const struct wishes *w)
{
	unsigned n = 0;
	bool terminal = false;

	for (unsigned i = 0; i < w->n; i++) {
		n += w->all[i].kind == REDD__V1__KIND__KIND_PIPE ||
		     w->all[i].kind == REDD__V1__KIND__KIND_SOCKET;
		terminal |= w->all[i].kind == REDD__V1__KIND__KIND_TERMINAL;
	}
	if (n + terminal > PORT_STREAMS_MAX)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "more than 16 streams (pipes, sockets, a terminal)");
	if (terminal && plan->m->group == REDD__V1__GROUP__GROUP_NEW)
		return plan_refuse(
			plan, REPLY_INVALID_ARGUMENT, EINVAL,
			"a terminal needs a session of its own: group must be GROUP_SESSION");
	return 0;
}

static int wishes_read(struct spawn_plan *plan, struct wishes *w)
{
	struct pty_size size;
	const char *wrong = req_read_terminal(plan->m->terminal, &size);
	int r = 0;

	*w = (struct wishes){ 0 };
	if (wrong)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL, "%s", wrong);
	for (size_t i = 0; i < plan->m->n_descriptors && !r; i++)
		r = wishes_add(plan, w, plan->m->descriptors[i]);
	if (!r)
		wishes_complete(plan, w);
	if (w->n > PORT_FDS_MAX)
		return plan_refuse(plan, REPLY_INVALID_ARGUMENT, EINVAL,
				   "more than 64 descriptors, with 0, 1 and 2 which are not given");
	for (unsigned i = 0; i < w->n && !r; i++)
		if (w->all[i].kind == REDD__V1__KIND__KIND_SAME)
			r = check_same(plan, w, &w->all[i]);
	if (!r)
		r = check_passed_once(plan, w);
	return r ? err_pass(r) : check_streams(plan, w);
}

int plan_check_descriptors(struct spawn_plan *plan)
{
	struct wishes w;

	return wishes_read(plan, &w);
}

/* --- making ---------------------------------------------------------------------------------- */

static void input_make(struct spawn_plan *plan, struct stream *s)
{
	s->in.is_there = true;
	input_init(&s->in.queue, plan->input_high, plan->input_low, plan->input_bound);
}

static void output_make(struct spawn_plan *plan, struct stream *s)
{
	s->out.is_there = true;
	s->out.log_size = plan->log_size;
	s->out.wants_checksum = plan->m->checksum;
	s->out.hold_unread = plan->m->hold_unread;
	s->out.framing = port_framing(plan->port, s->number);
}

/* Gives the child's end to the process, and our end to a stream. Both are consumed. */
static int stream_make(struct spawn_plan *plan, struct wish *w, uint32_t number,
		       enum stream_kind kind, int take_ours, int take_theirs, struct stream **ret)
{
	struct process *process = &plan->port->process;
	bool are_low = fd_is_high(MAX(take_ours, take_theirs), SPAWN_DESCRIPTOR_RESERVE);
	int r = process_add_child_fd(process, take_theirs, &w->source);

	if (r || are_low) {
		fd_close(take_ours);
		return plan_refuse_errno(plan, -EMFILE, "descriptors");
	}
	r = port_add_stream(plan->port, number, kind, take_ours, ret);
	if (r)
		return plan_refuse_errno(plan, r < 0 ? r : -EMFILE, "stream");
	return 0;
}

static int stream_hold(struct spawn_plan *plan, const struct stream *s, enum link_hold hold)
{
	if (process_add_hold(&plan->port->process, LINK_HOLD(hold, s->number), s->fd))
		return plan_refuse_errno(plan, -EMFILE, "streams");
	return 0;
}

static int make_pipe(struct spawn_plan *plan, struct wish *w)
{
	int fds[2], ours = w->is_input ? 1 : 0, r;
	struct stream *s;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return plan_refuse_errno(plan, -errno, "pipe");
	r = stream_make(plan, w, w->fd, STREAM_IS_PIPE, fds[ours], fds[!ours], &s);
	if (r)
		return r;
	if (w->is_input)
		input_make(plan, s);
	else
		output_make(plan, s);
	return stream_hold(plan, s, w->is_input ? HOLD_INPUT : HOLD_OUTPUT);
}

static int make_socket(struct spawn_plan *plan, struct wish *w)
{
	int fds[2], r;
	struct stream *s;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return plan_refuse_errno(plan, -errno, "socketpair");
	r = stream_make(plan, w, w->fd, STREAM_IS_SOCKET, fds[0], fds[1], &s);
	if (r)
		return r;
	input_make(plan, s);
	output_make(plan, s);
	return stream_hold(plan, s, HOLD_OUTPUT);
}

static int make_terminal(struct spawn_plan *plan, struct wishes *all, struct wish *w)
{
	const struct port_options *o = &plan->port->options;
	struct pty_size size;
	struct stream *s;
	int fds[2], r;

	if (all->has_terminal) {
		w->source = all->terminal_source;
		return 0;
	}
	req_read_terminal(plan->m->terminal, &size);
	r = pty_open(&size, fds);
	if (r < 0)
		return plan_refuse_errno(plan, r, "terminal");
	if (o->is_other_identity && fchown(fds[1], o->uid, (gid_t)-1) < 0) {
		r = -errno;
		fd_close_many(fds, 2);
		return plan_refuse_errno(plan, r, "terminal");
	}
	r = stream_make(plan, w, STREAM_TERMINAL, STREAM_IS_TERMINAL, fds[0], fds[1], &s);
	if (r)
		return r;
	input_make(plan, s);
	output_make(plan, s);
	all->has_terminal = true;
	all->terminal_source = w->source;
	plan->record.head.flags |= LINK_SPAWN_TERMINAL;
	plan->record.head.terminal_source = w->source;
	return stream_hold(plan, s, HOLD_OUTPUT);
}

static int make_passed(struct spawn_plan *plan, struct wish *w)
{
	int r = process_add_child_fd(&plan->port->process, TAKE_FD(plan->fds[w->m->passed]),
				     &w->source);

	/* The port's account stays as long as its process. */
	plan->port->process.foreign =
		(struct closer_whose){ port_account(plan->port), plan->port->owner.delegation };
	return r ? plan_refuse_errno(plan, -EMFILE, "descriptors") : 0;
}

static void make_file(struct spawn_plan *plan, const struct wish *w)
{
	const Redd__V1__Descriptor *d = w->m;
	bool writes = d->write || d->append;
	uint32_t flags = d->read && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;

	flags |= d->append ? O_APPEND : 0;
	flags |= d->create ? O_CREAT : 0;
	flags |= d->exclusive ? O_EXCL : 0;
	flags |= d->truncate ? O_TRUNC : 0;
	spawn_record_file(&plan->record, w->fd, flags | O_NOCTTY, d->has_mode ? d->mode : 0666,
			  d->path.data, d->path.len);
}

static int make_one(struct spawn_plan *plan, struct wishes *all, struct wish *w)
{
	switch (w->kind) {
	case REDD__V1__KIND__KIND_PIPE:
		return make_pipe(plan, w);
	case REDD__V1__KIND__KIND_SOCKET:
		return make_socket(plan, w);
	case REDD__V1__KIND__KIND_TERMINAL:
		return make_terminal(plan, all, w);
	case REDD__V1__KIND__KIND_PASSED:
		return make_passed(plan, w);
	case REDD__V1__KIND__KIND_NULL:
		w->source = LINK_SOURCE_NULL;
		return 0;
	case REDD__V1__KIND__KIND_FILE:
		make_file(plan, w);
		return 0;
	default:
		return 0; /* SAME comes later, CLOSED is nothing */
	}
}

static void record_one(struct spawn_plan *plan, struct wishes *all, const struct wish *w)
{
	const struct wish *other;

	if (w->kind == REDD__V1__KIND__KIND_SAME) {
		other = wish_find(all, w->m->same_as);
		if (other->source == NO_SOURCE)
			spawn_record_same(&plan->record, w->fd, other->fd);
		else
			spawn_record_descriptor(&plan->record, w->fd, other->source);
	} else if (w->source != NO_SOURCE) {
		spawn_record_descriptor(&plan->record, w->fd, w->source);
	}
}

/* Where a pump reports: its descriptor 2, and a stream that is no client's. */
static int make_reports(struct spawn_plan *plan)
{
	struct wish w = { .fd = 2 };
	struct stream *s;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return plan_refuse_errno(plan, -errno, "socketpair");
	r = stream_make(plan, &w, STREAM_REPORTS, STREAM_IS_REPORTS, fds[0], fds[1], &s);
	if (r)
		return r;
	spawn_record_descriptor(&plan->record, w.fd, w.source);
	return stream_hold(plan, s, HOLD_OUTPUT);
}

/* They left the connection with their frame, and stay until the child has them: a port may outlive
 * the connection, so they are its uid's. */
static int charge_passed(struct spawn_plan *plan)
{
	struct port *p = plan->port;
	const char *reason;

	if (plan->n_fds && quota_charge_take(&p->passed_charge, port_account(p), QUOTA_DESCRIPTORS,
					     plan->n_fds, &reason))
		return plan_refuse(plan, REPLY_RESOURCE_EXHAUSTED, EAGAIN, "%s", reason);
	return 0;
}

int plan_make_descriptors(struct spawn_plan *plan)
{
	struct wishes w;
	int r = wishes_read(plan, &w);

	if (!r)
		r = charge_passed(plan);
	for (unsigned i = 0; i < w.n && !r; i++)
		r = make_one(plan, &w, &w.all[i]);
	for (unsigned i = 0; i < w.n && !r; i++)
		record_one(plan, &w, &w.all[i]);
	if (!r && plan->kind != PORT_IS_PROCESS)
		r = make_reports(plan);
	return err_pass(r);
}
