#include "broker/resume.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/delegation.h"
#include "broker/holding.h"
#include "broker/inherit.h"
#include "broker/port.h"
#include "broker/record.h"
#include "broker/rights.h"
#include "broker/session.h"
#include "proto/base/err.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

struct held {
	struct list link;
	struct link_held message;
	int fds[LINK_HOLDS_MAX];
	size_t n_fds;
};

struct inheritance {
	struct list held;
	int rings[RING_NUMBERS_MAX]; /* memfd + 1; 0: none */
	struct kept_doors doors;
};

/* --- noting ---------------------------------------------------------------------------------- */

static struct inheritance *inheritance_of(struct broker *b)
{
	if (b->inheritance)
		return b->inheritance;
	b->inheritance = calloc(1, sizeof(*b->inheritance));
	if (b->inheritance)
		list_init(&b->inheritance->held);
	return b->inheritance;
}

static void held_free(struct held *h)
{
	list_remove(&h->link);
	fd_close_many(h->fds, h->n_fds);
	free(h);
}

void resume_held(struct broker *b, const struct link_held *m, const int *take_fds, size_t n_fds)
{
	struct inheritance *i = inheritance_of(b);
	struct held *h = i ? calloc(1, sizeof(*h)) : NULL;

	if (!h || n_fds > ARRAY_SIZE(h->fds) || n_fds != m->n_holds) {
		log_error("what is held for process %llu cannot be taken up",
			  (unsigned long long)m->id.port);
		for (size_t k = 0; k < n_fds; k++)
			fd_close(take_fds[k]);
		free(h);
		return;
	}
	h->message = *m;
	h->n_fds = n_fds;
	memcpy(h->fds, take_fds, n_fds * sizeof(take_fds[0]));
	list_append(&i->held, &h->link);
}

void resume_ring(struct broker *b, const struct link_ring *m, int take_fd)
{
	struct inheritance *i = inheritance_of(b);

	if (scratch_take(&b->scratch, m->number, take_fd) ||
	    (i && kept_doors_take(&i->doors, m->number, take_fd)))
		return;
	if (!i || m->number >= RING_NUMBERS_MAX || i->rings[m->number] || take_fd < 0)
		fd_close(take_fd);
	else
		i->rings[m->number] = take_fd + 1;
}

void resume_records(struct broker *b, int *take_fds, size_t n_fds)
{
	int r = RECORD_E_BAD;

	if (n_fds == LINK_RECORDS_FDS && !b->records)
		r = records_adopt(&b->records, TAKE_FD(take_fds[0]));
	if (r) {
		log_error("the records of the broker before cannot be read: its ports are lost");
		fd_close_many(take_fds, n_fds);
		return;
	}
	transit_adopt(&b->transit, take_fds + 1);
	transit_note_at(&b->transit, records_transit(b->records));
}

/* --- one port -------------------------------------------------------------------------------- */

static struct held *held_find(const struct broker *b, uint64_t port)
{
	struct held *h;

	list_for_each (h, &b->inheritance->held, link)
		if (h->message.id.port == port)
			return h;
	return NULL;
}

/* Moves a held descriptor out; -1 when there is none. */
static int held_take(struct held *h, enum link_hold kind, uint32_t number)
{
	for (size_t i = 0; h && i < h->n_fds; i++)
		if (h->message.holds[i] == LINK_HOLD(kind, number))
			return TAKE_FD(h->fds[i]);
	return -1;
}

static int restore_ring(struct broker *b, struct stream *s, const struct record_stream *rs)
{
	int *place = &b->inheritance->rings[rs->ring];
	const char *reason;
	int r;

	if (rs->ring >= RING_NUMBERS_MAX || !*place)
		return err_begin(-ENOENT);
	r = ring_adopt(b->rings, rs->ring, *place - 1, &s->out.ring);
	*place = 0;
	if (r)
		return r < 0 ? err_pass(r) : err_begin(-EBADMSG);
	s->out.log_size = ring_size(s->out.ring);
	if (s->out.is_ended)
		ring_set_ended(s->out.ring);
	return quota_charge_take(&s->out.charge, port_account(s->port), QUOTA_RING_BYTES,
				 s->out.log_size, &reason)
		       ? err_begin(-ENOBUFS)
		       : 0;
}

static void restore_output(struct stream *s, const struct record_stream *rs)
{
	s->out.is_there = true;
	s->out.log_size = rs->log_size;
	s->out.wants_checksum = rs->flags & RECORD_CHECKSUM;
	s->out.hold_unread = rs->flags & RECORD_HOLD_UNREAD;
	s->out.cause = (enum stream_cause)rs->cause;
	s->out.sys_errno = rs->sys_errno;
	s->out.is_abandoned = rs->flags & RECORD_ABANDONED;
	s->out.abandoned = rs->abandoned;
	s->out.framing = port_framing(s->port, s->number);
}

static void restore_input(struct stream *s, const struct record *rec,
			  const struct record_stream *rs, struct record_live *live)
{
	s->in.is_there = true;
	input_init(&s->in.queue, rec->input_high, rec->input_low, rec->input_bound);
	scratch_settle(&s->broker->scratch, live);
	s->in.queue.written = live->written;
	if (live->going_at == live->written)
		s->in.doubt = live->going;
	s->in.is_closed = rs->flags & RECORD_INPUT_OVER;
}

/* An end that was over before was to be let go by the keeper too; whether the order for that ever
 * left the earlier broker is told by its being held still. */
static void release_again(struct stream *s, bool is_read)
{
	enum link_hold kind = is_read ? HOLD_OUTPUT : HOLD_INPUT;

	if (s->fd < 0 && (!is_read || stream_is_let_go(s)))
		process_release(&s->port->process, LINK_HOLD(kind, s->number));
}

static int restore_stream(struct port *p, struct held *h, const struct record *rec,
			  const struct record_stream *rs, uint32_t place)
{
	bool is_output = rs->flags & RECORD_HAS_OUTPUT, is_input = rs->flags & RECORD_HAS_INPUT;
	bool is_read = is_output || rs->kind == STREAM_IS_REPORTS;
	struct record_live *live;
	struct stream *s;
	int fd = held_take(h, is_read ? HOLD_OUTPUT : HOLD_INPUT, rs->number), r;
	bool is_held = fd >= 0;

	r = port_add_stream(p, rs->number, (enum stream_kind)rs->kind, fd, &s);
	if (r)
		return err_begin(-EBADMSG);
	live = records_live(p->broker->records, place, s);
	if (is_output) {
		restore_output(s, rs);
		s->out.awaited = live->blockers;
	}
	if (is_input)
		restore_input(s, rec, rs, live);
	s->out.is_ended = rs->flags & RECORD_OUTPUT_ENDED;
	if (is_output && rs->ring != RECORD_NO_RING) {
		r = restore_ring(p->broker, s, rs);
		if (r < 0)
			return err_pass(r);
	}
	stream_close_unused(s);
	if (is_held)
		release_again(s, is_read);
	return 0;
}

static struct labels *restore_labels(struct broker *b, const struct record *rec, uint32_t place)
{
	struct labels *labels = NULL;
	int r = records_labels(b->records, place, rec->port, &labels);

	if (r)
		log_error("port %llu: its labels cannot be read and are lost",
			  (unsigned long long)rec->port);
	return labels;
}

static void restore_options(struct port_options *o, const struct record *rec)
{
	*o = (struct port_options){ .token_size = rec->token_size,
				    .timeout_ms = rec->timeout_ms,
				    .timeout_signal = (int)rec->timeout_signal,
				    .timeout_grace_ms = rec->timeout_grace_ms,
				    .drain_ms = rec->drain_ms,
				    .drain_limit_ms = rec->drain_limit_ms,
				    .retention_ms = rec->retention_ms,
				    .orphan = (enum port_orphan)rec->orphan,
				    .orphan_ms = rec->orphan_ms,
				    .framing = { .cut = rec->framing & 0xff,
						 .header = rec->framing >> 8,
						 .maximum = rec->framing_maximum },
				    .is_other_identity = rec->has_other_identity,
				    .uid = rec->child_uid,
				    .gid = rec->child_gid };
	memcpy(o->name, rec->name, sizeof(o->name));
	memcpy(o->token, rec->token, sizeof(o->token));
}

/* 0 or -ENOMEM. */
static int restore_shown(const struct broker *b, const struct record *rec, uint32_t place,
			 struct port_options *o)
{
	int r = records_shown(b->records, place, rec->port, o);

	if (r == -ENOMEM)
		return err_pass(r);
	if (r)
		log_error("port %llu: its arguments cannot be read and are lost",
			  (unsigned long long)rec->port);
	return 0;
}

static void restore_process(struct port *p, const struct record *rec, struct held *h)
{
	struct process *process = &p->process;

	process->attempt = h ? h->message.id.attempt : 0;
	process->pid = rec->pid;
	process->start_ns = rec->exit.start_ns;
	if (rec->state == PORT_STARTING) {
		process->state = PROCESS_HANDED; /* the verdict follows, with a pidfd */
		helper_link_adopted(process->helper);
		return;
	}
	process->pidfd = held_take(h, HOLD_PIDFD, 0);
	process->state = rec->has_exited ? PROCESS_EXITED : PROCESS_RUNNING;
}

static void restore_pump(struct port *p, const struct record *rec)
{
	p->kind = (enum port_kind)rec->kind;
	p->pumped = (struct pumped){ .is_open = rec->pump_flags & RECORD_PUMP_OPEN,
				     .was_shut = rec->pump_flags & RECORD_PUMP_SHUT,
				     .has_read = rec->pump_flags & RECORD_PUMP_READ,
				     .has_written = rec->pump_flags & RECORD_PUMP_WRITTEN,
				     .read_error = rec->read_error,
				     .write_error = rec->write_error };
}

static int restore_port(struct broker *b, const struct record *rec, struct held *h, uint32_t place,
			struct port **ret)
{
	struct principal owner = { .listener = rec->listener,
				   .uid = rec->uid,
				   .gid = rec->gid,
				   .delegation = rec->delegation };
	struct port_options options;
	struct quota_account *account;
	struct port *p = NULL;
	int r = quota_account_of_uid(b->quota, rec->uid, &account);

	if (r < 0)
		return err_pass(r);
	restore_options(&options, rec);
	options.labels = restore_labels(b, rec, place);
	b->ports.last_id = rec->port - 1; /* the next id is this one: its place is free */
	r = restore_shown(b, rec, place, &options);
	if (!r)
		r = port_new(&p, b, &owner, account, &options, NULL);
	quota_account_unref(account);
	port_options_deinit(&options);
	if (r)
		return r < 0 ? err_pass(r) : err_begin(-EAGAIN);
	p->digest = rec->digest;
	p->exit = rec->exit;
	p->has_exited = rec->has_exited;
	p->timed_out = rec->timed_out > 0;
	p->is_warned = rec->timed_out > 1;
	p->timeout_until_ms = rec->timeout_until_ms;
	restore_pump(p, rec);
	restore_process(p, rec, h);
	r = rights_restore(p, rec->grants, rec->n_grants);
	for (uint32_t i = 0; i < rec->n_streams && !r; i++)
		r = restore_stream(p, h, rec, &rec->streams[i], place);
	if (r < 0) {
		port_free(p);
		return err_pass(r);
	}
	*ret = p;
	return 0;
}

/* --- all of them ----------------------------------------------------------------------------- */

/* A broker that died while bytes were between a descriptor and a log. */
static void finish_transit(struct broker *b)
{
	struct transit_note note;
	struct port *p;
	struct stream *s;
	int r = 0;

	if (!transit_is_left(&b->transit, &note))
		return;
	p = port_table_by_id(&b->ports, note.port);
	s = p ? port_stream(p, note.stream) : NULL;
	if (s)
		r = stream_finish_transit(s, &note);
	else
		transit_drop(&b->transit);
	if (r < 0)
		log_error("port %llu stream %u: bytes are lost: %s", (unsigned long long)note.port,
			  note.stream, err_string(r));
}

/* An errand's opener ends by itself, and is not disturbed: the tree that it has stopped to kill
 * would stand still for ever. */
static bool is_opener(const struct held *h)
{
	return h->message.id.port >> 63;
}

/* Nobody can reach it any more: it ends, and nothing of it is held. */
static void give_up(struct broker *b, struct held *h)
{
	struct link_forget forget = { .head = { LINK_FORGET, sizeof(forget) },
				      .id = h->message.id };
	int pidfd = held_take(h, HOLD_PIDFD, 0);

	if (pidfd >= 0 && !is_opener(h))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	fd_close(pidfd);
	helper_link_send(&b->helper, &forget, sizeof(forget), NULL, 0);
	if (is_opener(h))
		return;
	log_warning("process %llu was lost with an earlier broker and is ended",
		    (unsigned long long)h->message.id.port);
}

/* Its holder may have had no port of its own. */
static void resume_lease(struct port *p, const struct record *rec)
{
	struct principal who = { .listener = rec->holder_listener,
				 .uid = rec->holder_uid,
				 .gid = rec->holder_gid,
				 .delegation = rec->holder_delegation };
	struct session *holder = rec->lease ? session_restore(p->broker, rec->holder, &who) : NULL;

	if (!holder)
		return;
	holding_resume(p, holder, rec->lease, rec->lease_until_ms);
}

static void resume_one(struct broker *b, const struct record *rec, uint32_t place)
{
	struct held *h = held_find(b, rec->port);
	struct port *p = NULL;
	int r;

	if (rec->state != PORT_ENDED && !h) {
		records_give(b->records, place);
		return;
	}
	r = restore_port(b, rec, h, place, &p);
	if (r < 0) {
		log_error("port %llu cannot be taken up: %s", (unsigned long long)rec->port,
			  err_string(r));
		records_give(b->records, place);
		return;
	}
	p->record = place;
	resume_lease(p, rec);
	port_resume(p, (enum port_state)rec->state, session_restore(b, rec->session, &p->owner));
	if (h)
		held_free(h);
}

/* The first broker's, or those of one that could not read what was there. */
static int begin_records(struct broker *b)
{
	int r = records_new(&b->records);

	if (!r)
		r = transit_open(&b->transit);
	if (r < 0)
		return err_pass(r);
	transit_note_at(&b->transit, records_transit(b->records));
	return inherit_keep_records(b);
}

/* The events themselves are gone; their numbers are not used again. */
static int resume_events(struct broker *b)
{
	uint64_t sequence = records_sequence(b->records);
	struct events *events;
	int r = sequence ? events_new(sequence, &events) : 0;

	if (r < 0 || !sequence)
		return err_pass(r);
	events_free(b->events);
	b->events = events;
	return 0;
}

/* Those that no record names: a broker died before it had noted for what it had made one. */
static void drop_rings(struct broker *b)
{
	int *rings = b->inheritance->rings;

	for (uint32_t n = 0; n < RING_NUMBERS_MAX; n++) {
		if (!rings[n])
			continue;
		fd_close(rings[n] - 1);
		rings[n] = 0;
		inherit_drop(b, n);
	}
}

int resume_ports(struct broker *b)
{
	struct record rec;
	uint64_t last;
	struct held *h;
	int r = inheritance_of(b) ? 0 : err_begin(-ENOMEM);

	if (!r && !b->records)
		r = begin_records(b);
	if (!r)
		r = resume_events(b);
	if (!r)
		scratch_open(b);
	if (r < 0)
		return err_pass(r);
	/* Ids are never used again, not across brokers either, and not those of forgotten ports. */
	last = records_last_port(b->records);
	for (uint32_t place = 0; (r = records_load(b->records, place, &rec)) != RECORD_E_END;
	     place++) {
		if (r == 0)
			resume_one(b, &rec, place);
	}
	delegations_resume(b, &b->inheritance->doors);
	drop_rings(
		b); /* before the first new one is made, which may get the number of one of them */
	finish_transit(b);
	list_for_each (h, &b->inheritance->held, link)
		give_up(b, h);
	b->ports.last_id = MAX(last, b->ports.last_id);
	scratch_drain(&b->scratch);
	resume_free(b);
	return 0;
}

void resume_free(struct broker *b)
{
	struct inheritance *i = TAKE(b->inheritance);
	struct held *h, *next;

	if (!i)
		return;
	list_for_each_safe (h, next, &i->held, link)
		held_free(h);
	for (uint32_t n = 0; n < RING_NUMBERS_MAX; n++)
		fd_close(i->rings[n] - 1);
	kept_doors_close(&i->doors);
	free(i);
}
